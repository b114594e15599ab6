using System.Buffers.Binary;
using System.Text;

namespace MelFusion.Weights;

/// <summary>One entry of a zip archive: where its bytes lie and how they are kept.</summary>
internal sealed record ZipEntry(string Name, int Method, int Flags, uint Crc, long Packed, long Size, long HeaderOffset)
{
    public const int Stored = 0, Deflated = 8;

    /// <summary>The most that deflate makes of one byte.</summary>
    private const long LargestRatio = 1032;

    public bool IsEncrypted => (Flags & 1) != 0;

    /// <summary>Whether the sizes can be true at all.</summary>
    public bool IsPlausible => Method == Stored ? Size == Packed : Size <= (Packed + 16) * LargestRatio;
}

/// <summary>
/// The directory of a zip archive (APPNOTE 6.3.10, sections 4.3.12 to 4.5.3), read without unpacking anything: weights are read in place,
/// so the position of each entry's bytes is needed, which the class library does not give.
/// </summary>
internal static class ZipIndex
{
    private const uint EntryMark = 0x02014b50, EndMark = 0x06054b50, End64Mark = 0x06064b50, Locator64Mark = 0x07064b50, LocalMark = 0x04034b50;
    private const int EndLength = 22, Locator64Length = 20, End64Length = 56, EntryLength = 46, LocalLength = 30;
    private const long LongestDirectory = 64 << 20;

    /// <summary>Every entry, in the directory's order.</summary>
    /// <exception cref="InvalidDataException">The archive is cut off or malformed.</exception>
    public static List<ZipEntry> Read(FileStream stream)
    {
        var (offset, length, count) = FindDirectory(stream);
        if (offset < 0 || length < 0 || length > LongestDirectory || offset > stream.Length - length || count > length / EntryLength)
        {
            throw new InvalidDataException("the directory of its zip archive lies outside the file");
        }

        byte[] directory = At(stream, offset, (int)length);
        var entries = new List<ZipEntry>();
        for (int at = 0; entries.Count < count;)
        {
            entries.Add(ReadEntry(directory, ref at, stream.Length));
        }

        return entries;
    }

    /// <summary>Where the bytes of an entry begin.</summary>
    public static long DataOffset(FileStream stream, ZipEntry entry)
    {
        byte[] local = At(stream, entry.HeaderOffset, LocalLength);
        if (U32(local, 0) != LocalMark)
        {
            throw new InvalidDataException($"'{TorchPickle.Shown(entry.Name)}' has no header in the zip archive");
        }

        long data = entry.HeaderOffset + LocalLength + U16(local, 26) + U16(local, 28);
        return data <= stream.Length - entry.Packed
            ? data
            : throw new InvalidDataException($"'{TorchPickle.Shown(entry.Name)}' reaches past the end of the file");
    }

    private static (long Offset, long Length, long Count) FindDirectory(FileStream stream)
    {
        long tailStart = Math.Max(0, stream.Length - EndLength - ushort.MaxValue);
        byte[] tail = At(stream, tailStart, (int)(stream.Length - tailStart));
        for (int at = tail.Length - EndLength; at >= 0; at--)
        {
            if (U32(tail, at) == EndMark && at + EndLength + U16(tail, at + 20) == tail.Length)
            {
                return FindDirectory64(stream, tailStart + at) ?? (U32(tail, at + 16), U32(tail, at + 12), U16(tail, at + 10));
            }
        }

        throw new InvalidDataException("it is a zip archive that was cut off: its directory at the end is missing; fetch the file again");
    }

    private static (long Offset, long Length, long Count)? FindDirectory64(FileStream stream, long end)
    {
        if (end < Locator64Length || At(stream, end - Locator64Length, Locator64Length) is var locator && U32(locator, 0) != Locator64Mark)
        {
            return null;
        }

        byte[] record = At(stream, I64(locator, 8), End64Length);
        return U32(record, 0) == End64Mark
            ? (I64(record, 48), I64(record, 40), I64(record, 32))
            : throw new InvalidDataException("the directory of its zip archive is malformed");
    }

    private static ZipEntry ReadEntry(byte[] directory, ref int at, long fileLength)
    {
        if (at + EntryLength > directory.Length || U32(directory, at) != EntryMark)
        {
            throw new InvalidDataException("the directory of its zip archive is malformed");
        }

        int nameLength = U16(directory, at + 28), extraLength = U16(directory, at + 30), commentLength = U16(directory, at + 32);
        int end = at + EntryLength + nameLength + extraLength + commentLength;
        if (end > directory.Length)
        {
            throw new InvalidDataException("the directory of its zip archive is cut off");
        }

        long size = U32(directory, at + 24), packed = U32(directory, at + 20), offset = U32(directory, at + 42);
        ReadExtra(directory.AsSpan(at + EntryLength + nameLength, extraLength), ref size, ref packed, ref offset);
        var entry = new ZipEntry(
            Encoding.UTF8.GetString(directory, at + EntryLength, nameLength), U16(directory, at + 10), U16(directory, at + 8),
            U32(directory, at + 16), packed, size, offset);
        at = end;
        return size >= 0 && packed >= 0 && offset >= 0 && packed <= fileLength && offset <= fileLength - LocalLength
            ? entry
            : throw new InvalidDataException($"'{TorchPickle.Shown(entry.Name)}' lies outside the file");
    }

    /// <summary>Sizes beyond 32 bits stand in an extra field, those that are needed in this order.</summary>
    private static void ReadExtra(ReadOnlySpan<byte> extra, ref long size, ref long packed, ref long offset)
    {
        while (extra.Length >= 4)
        {
            int id = BinaryPrimitives.ReadUInt16LittleEndian(extra), length = BinaryPrimitives.ReadUInt16LittleEndian(extra[2..]);
            if (length > extra.Length - 4)
            {
                return;
            }

            if (id == 1)
            {
                var field = extra.Slice(4, length);
                Widen(ref size, ref field);
                Widen(ref packed, ref field);
                Widen(ref offset, ref field);
            }

            extra = extra[(4 + length)..];
        }

        static void Widen(ref long value, ref ReadOnlySpan<byte> field)
        {
            if (value == uint.MaxValue && field.Length >= 8)
            {
                value = BinaryPrimitives.ReadInt64LittleEndian(field);
                field = field[8..];
            }
        }
    }

    private static byte[] At(FileStream stream, long offset, int length)
    {
        byte[] bytes = new byte[length];
        if (offset < 0 || offset > stream.Length - length)
        {
            throw new InvalidDataException("its zip archive refers to bytes outside the file");
        }

        for (int read = 0; read < length;)
        {
            int part = RandomAccess.Read(stream.SafeFileHandle, bytes.AsSpan(read), offset + read);
            read += part > 0 ? part : throw new InvalidDataException("the file ended while it was being read");
        }

        return bytes;
    }

    private static ushort U16(byte[] bytes, int at) => BinaryPrimitives.ReadUInt16LittleEndian(bytes.AsSpan(at));

    private static uint U32(byte[] bytes, int at) => BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(at));

    private static long I64(byte[] bytes, int at) => BinaryPrimitives.ReadInt64LittleEndian(bytes.AsSpan(at));
}
