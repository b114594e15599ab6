using System.Buffers.Binary;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace MelFusion.Wave;

/// <summary>What the header of a wav file says.</summary>
/// <param name="Channels">Channels, 1 to 64.</param>
/// <param name="SampleRate">Samples a second, in Hz.</param>
/// <param name="BitsPerSample">Bits of a sample's container.</param>
/// <param name="IsFloat">Whether samples are floating point.</param>
/// <param name="Frames">Whole frames that are there, whatever the header claims.</param>
/// <param name="Comment">The text of LIST/INFO ICMT, where there is one.</param>
public sealed record WavInfo(int Channels, int SampleRate, int BitsPerSample, bool IsFloat, long Frames, string? Comment)
{
    /// <summary>Where the samples begin, in bytes from the start of the file.</summary>
    internal long DataOffset { get; init; }

    /// <summary>Bytes of one frame; the header's own figure is not trusted.</summary>
    internal int FrameBytes => Channels * BitsPerSample / 8;
}

/// <summary>
/// WAV files: PCM of 8, 16, 24 and 32 bits and floats of 32 and 64, plain, extensible or RF64, are read; 16-bit mono PCM is written.
/// </summary>
public static class WavFile
{
    /// <summary>Floats beyond this (120 dB over full scale) are no sound: their squares would overflow later.</summary>
    internal const float LoudestSample = 1e6f;

    private const int FramesAtOnce = 1 << 14;

    /// <summary>Reads the header alone.</summary>
    /// <exception cref="MelFusionException">The file is missing, unreadable or no wav file that can be read here.</exception>
    public static WavInfo ReadInfo(string path)
    {
        using var file = Open(path);
        return WavHeader.Parse(file, path);
    }

    /// <summary>Reads samples: b-bit PCM as value / 2^(b-1), 8-bit as (value - 128) / 128, floats as they are (no number as 0, infinity as full scale).</summary>
    /// <param name="path">The file.</param>
    /// <param name="firstFrame">Where to begin; beyond the end gives no frames.</param>
    /// <param name="frameCount">How many frames at most; null: to the end.</param>
    /// <exception cref="MelFusionException">The file is missing, unreadable or no wav file that can be read here.</exception>
    public static Waveform Read(string path, long firstFrame = 0, long? frameCount = null)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(firstFrame);
        using var file = Open(path);
        var info = WavHeader.Parse(file, path);
        long count = Math.Clamp(info.Frames - firstFrame, 0, frameCount ?? long.MaxValue);
        if (count > Array.MaxLength)
        {
            throw new MelFusionException($"{path}: {count} frames are too many to read at once; cut the file into parts.");
        }

        var channels = new float[info.Channels][];
        for (int c = 0; c < channels.Length; c++)
        {
            channels[c] = GC.AllocateUninitializedArray<float>((int)count);
        }

        var buffer = new byte[(int)Math.Min(FramesAtOnce, count) * info.FrameBytes];
        for (int done = 0; done < count;)
        {
            int frames = (int)Math.Min(FramesAtOnce, count - done);
            var bytes = buffer.AsSpan(0, frames * info.FrameBytes);
            ReadExactly(file, bytes, info.DataOffset + ((firstFrame + done) * info.FrameBytes), path);
            Decode(bytes, info, channels, done, path);
            done += frames;
        }

        return new Waveform(channels, info.SampleRate);
    }

    /// <summary>
    /// Writes 16-bit mono PCM, clamped (<see cref="Pcm16"/>). The file is written beside its target and renamed at the end, so that a fault or a
    /// cancellation leaves nothing behind and what was there before stays whole.
    /// </summary>
    /// <param name="path">The target, replaced where it exists.</param>
    /// <param name="samples">Samples, full scale at 1.</param>
    /// <param name="sampleRate">In Hz.</param>
    /// <param name="comment">Text for LIST/INFO ICMT, UTF-8; null: none.</param>
    /// <param name="cancellation">Honoured between blocks.</param>
    /// <exception cref="MelFusionException">The target cannot be written.</exception>
    public static void Write(string path, ReadOnlySpan<float> samples, int sampleRate, string? comment = null, CancellationToken cancellation = default)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(sampleRate);
        byte[] header = WavHeader.Compose(samples.Length, sampleRate, comment);
        string beside = path + ".part";
        try
        {
            using (var file = new FileStream(beside, FileMode.Create, FileAccess.Write))
            {
                file.Write(header);
                WriteSamples(file, samples, cancellation);
            }

            cancellation.ThrowIfCancellationRequested();
            File.Move(beside, path, true);
        }
        catch (Exception e)
        {
            Remove(beside);
            if (e is IOException or UnauthorizedAccessException or NotSupportedException)
            {
                throw new MelFusionException($"{path}: the file cannot be written: {OneLine(e)}", e);
            }

            throw;
        }
    }

    private static void WriteSamples(FileStream file, ReadOnlySpan<float> samples, CancellationToken cancellation)
    {
        var buffer = new byte[2 * FramesAtOnce];
        while (!samples.IsEmpty)
        {
            cancellation.ThrowIfCancellationRequested();
            int count = Math.Min(FramesAtOnce, samples.Length);
            for (int i = 0; i < count; i++)
            {
                BinaryPrimitives.WriteInt16LittleEndian(buffer.AsSpan(2 * i), Pcm16.FromSample(samples[i]));
            }

            file.Write(buffer, 0, 2 * count);
            samples = samples[count..];
        }
    }

    private static void Remove(string path)
    {
        try
        {
            File.Delete(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or NotSupportedException)
        {
            // The first fault is the one to tell; this one changes nothing about it.
        }
    }

    internal static SafeFileHandle Open(string path)
    {
        try
        {
            return File.OpenHandle(path);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new MelFusionException($"{path}: there is no such file.", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or NotSupportedException or ArgumentException)
        {
            throw new MelFusionException($"{path}: the file cannot be opened: {OneLine(e)}", e);
        }
    }

    internal static int ReadAvailable(SafeFileHandle file, Span<byte> bytes, long offset, string path)
    {
        try
        {
            int done = 0;
            for (int got; done < bytes.Length && (got = RandomAccess.Read(file, bytes[done..], offset + done)) > 0; done += got)
            {
            }

            return done;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or NotSupportedException)
        {
            throw new MelFusionException($"{path}: the file cannot be read: {OneLine(e)}", e);
        }
    }

    private static void ReadExactly(SafeFileHandle file, Span<byte> bytes, long offset, string path)
    {
        if (ReadAvailable(file, bytes, offset, path) < bytes.Length)
        {
            throw new MelFusionException($"{path}: the file became shorter while it was read; read it again once it is complete.");
        }
    }

    private static void Decode(ReadOnlySpan<byte> bytes, WavInfo info, float[][] channels, int at, string path)
    {
        int width = info.BitsPerSample / 8;
        for (int i = 0, frame = at; i < bytes.Length; frame++)
        {
            foreach (var channel in channels)
            {
                channel[frame] = Sample(bytes.Slice(i, width), info.IsFloat, path);
                i += width;
            }
        }
    }

    private static float Sample(ReadOnlySpan<byte> bytes, bool isFloat, string path) => (bytes.Length, isFloat) switch
    {
        (1, _) => (bytes[0] - 128) / 128f,
        (2, _) => BinaryPrimitives.ReadInt16LittleEndian(bytes) / 32768f,
        (3, _) => (bytes[0] | (bytes[1] << 8) | ((sbyte)bytes[2] << 16)) / 8388608f,
        (4, false) => BinaryPrimitives.ReadInt32LittleEndian(bytes) / 2147483648f,
        (4, true) => Finite(BinaryPrimitives.ReadSingleLittleEndian(bytes), path),
        _ => Finite(BinaryPrimitives.ReadDoubleLittleEndian(bytes), path),
    };

    private static float Finite(double value, string path) => value switch
    {
        double.NaN => 0,
        double.PositiveInfinity => 1,
        double.NegativeInfinity => -1,
        > LoudestSample or < -LoudestSample => throw new MelFusionException(
            $"{path}: a sample of {value:g3} is no sound, where full scale is 1; the file is damaged or holds other data."),
        _ => (float)value,
    };

    private static string OneLine(Exception e) => e.Message.ReplaceLineEndings(" ");
}

/// <summary>The chunks of a wav file.</summary>
internal static class WavHeader
{
    private const int MostChannels = 64;
    private const int HighestRate = 1_000_000;
    private const int LongestComment = 1 << 20;
    private const ushort Pcm = 1, Float = 3, Extensible = 0xFFFE;
    private const uint Unknown = uint.MaxValue;

    /// <summary>The last 14 bytes of every sub-format that stands for a plain format code.</summary>
    private static ReadOnlySpan<byte> SubFormatTail => [0x00, 0x00, 0x00, 0x00, 0x10, 0x00, 0x80, 0x00, 0x00, 0xAA, 0x00, 0x38, 0x9B, 0x71];

    public static WavInfo Parse(SafeFileHandle file, string path)
    {
        long length = Length(file, path);
        Span<byte> head = stackalloc byte[12];
        int got = WavFile.ReadAvailable(file, head, 0, path);
        string id = Ascii(head[..Math.Min(4, got)]);
        Check(path, got > 0, "the file is empty");
        Check(path, id != "RIFX", "RIFX announces big-endian numbers, which are not read here; convert it to WAV");
        Check(path, id is "RIFF" or "RF64" && got == 12 && Ascii(head[8..]) == "WAVE", "this is no WAV file, or it ends inside its header");
        return ReadChunks(file, path, length, riffSize: BinaryPrimitives.ReadUInt32LittleEndian(head[4..]));
    }

    private static WavInfo ReadChunks(SafeFileHandle file, string path, long length, uint riffSize)
    {
        (WavInfo? info, string? comment, long? longSize) = (null, null, null);
        Span<byte> head = stackalloc byte[8];
        for (long at = 12; WavFile.ReadAvailable(file, head, at, path) == 8;)
        {
            (string id, long size) = (Ascii(head[..4]), BinaryPrimitives.ReadUInt32LittleEndian(head[4..]));
            (long body, long left) = (at + 8, length - at - 8);
            if (id == "data")
            {
                Check(path, info is not null, "the samples come before their format (no fmt chunk in front of data)");
                size = size == Unknown && longSize is { } stated ? stated : size;
                size = size == 0 && riffSize == 0 ? left : Math.Min(size, left); // sizes never filled in: the writer was killed
                info = info! with { DataOffset = body, Frames = size / info.FrameBytes };
            }
            else if (size > left)
            {
                Check(path, info is { DataOffset: > 0 }, $"its chunk '{Printable(id)}' claims {size} bytes where {left} are left");
                break;
            }
            else if (id == "fmt ")
            {
                info ??= ReadFormat(file, path, body, size);
            }
            else if (id == "ds64" && size >= 16)
            {
                longSize = ReadLongSize(file, path, body);
            }
            else if (id == "LIST" && size <= LongestComment)
            {
                comment ??= ReadComment(file, path, body, (int)size);
            }

            at = Next(file, path, body + size, size);
        }

        Check(path, info is not null, "it has no format (fmt chunk)");
        Check(path, info!.DataOffset > 0, "it has no samples (data chunk)");
        return info with { Comment = comment };
    }

    /// <summary>A chunk of odd size has a pad byte behind it, which some writers forget.</summary>
    private static long Next(SafeFileHandle file, string path, long end, long size)
    {
        Span<byte> pad = [0];
        WavFile.ReadAvailable(file, pad, end, path);
        return end + (size % 2 == 1 && pad[0] == 0 ? 1 : 0);
    }

    private static WavInfo ReadFormat(SafeFileHandle file, string path, long at, long size)
    {
        Check(path, size >= 16, $"its format (fmt chunk) has {size} bytes and needs 16");
        Span<byte> format = stackalloc byte[(int)Math.Min(size, 40)];
        WavFile.ReadAvailable(file, format, at, path);
        (ushort code, ushort channels) = (Word(format), Word(format[2..]));
        (uint rate, ushort bits) = (BinaryPrimitives.ReadUInt32LittleEndian(format[4..]), Word(format[14..]));
        if (code == Extensible)
        {
            Check(path, format.Length == 40, "its extensible format lacks its extension");
            Check(path, format[26..].SequenceEqual(SubFormatTail), "its extensible format has an unknown sub-format");
            code = Word(format[24..]);
        }

        Check(path, code is Pcm or Float, $"its samples are compressed or unknown (format code {code}); convert it to PCM");
        Check(path, channels is > 0 and <= MostChannels, $"it claims {channels} channels, and 1 to {MostChannels} are read here");
        Check(path, rate is > 0 and <= HighestRate, $"it claims a rate of {rate} Hz, and 1 to {HighestRate} are read here");
        Check(path, (code, bits) is (Pcm, 8 or 16 or 24 or 32) or (Float, 32 or 64), $"{bits}-bit {(code == Pcm ? "PCM" : "float")} samples are not read here");
        return new WavInfo(channels, (int)rate, bits, code == Float, 0, null);
    }

    private static long? ReadLongSize(SafeFileHandle file, string path, long at)
    {
        Span<byte> sizes = stackalloc byte[16];
        WavFile.ReadAvailable(file, sizes, at, path);
        return (long)Math.Min(BinaryPrimitives.ReadUInt64LittleEndian(sizes[8..]), long.MaxValue);
    }

    private static string? ReadComment(SafeFileHandle file, string path, long at, int size)
    {
        var list = new byte[size];
        list = list[..WavFile.ReadAvailable(file, list, at, path)];
        if (list.Length < 4 || Ascii(list.AsSpan(0, 4)) != "INFO")
        {
            return null;
        }

        for (int i = 4; i + 8 <= list.Length;)
        {
            long bytes = Math.Min(BinaryPrimitives.ReadUInt32LittleEndian(list.AsSpan(i + 4)), list.Length - i - 8);
            if (Ascii(list.AsSpan(i, 4)) == "ICMT")
            {
                return Encoding.UTF8.GetString(list, i + 8, (int)bytes).TrimEnd('\0');
            }

            i += 8 + (int)(bytes + (bytes % 2));
        }

        return null;
    }

    public static byte[] Compose(long frames, int sampleRate, string? comment)
    {
        byte[] list = comment is null ? [] : ComposeList(comment);
        long riffSize = 4 + 24 + list.Length + 8 + (2 * frames);
        if (riffSize > uint.MaxValue)
        {
            throw new MelFusionException($"{frames} samples are too many for a WAV file, which ends at 4 GB.");
        }

        using var header = new MemoryStream();
        using var writer = new BinaryWriter(header);
        writer.Write("RIFF"u8);
        writer.Write((uint)riffSize);
        writer.Write("WAVEfmt "u8);
        writer.Write(16u);
        writer.Write(Pcm);
        writer.Write((ushort)1);
        writer.Write(sampleRate);
        writer.Write(2 * sampleRate);
        writer.Write((ushort)2);
        writer.Write((ushort)16);
        writer.Write(list);
        writer.Write("data"u8);
        writer.Write((uint)(2 * frames));
        return header.ToArray();
    }

    private static byte[] ComposeList(string comment)
    {
        byte[] text = Encoding.UTF8.GetBytes(comment + "\0");
        if (text.Length > LongestComment - 64)
        {
            throw new MelFusionException($"A comment of {text.Length} bytes is too long for a WAV file's comment here; {LongestComment - 64} are the most.");
        }

        int padded = text.Length + (text.Length % 2);
        using var list = new MemoryStream();
        using var writer = new BinaryWriter(list);
        writer.Write("LIST"u8);
        writer.Write((uint)(4 + 8 + padded));
        writer.Write("INFOICMT"u8);
        writer.Write((uint)text.Length);
        writer.Write(text);
        writer.Write(new byte[padded - text.Length]);
        return list.ToArray();
    }

    private static long Length(SafeFileHandle file, string path)
    {
        try
        {
            return RandomAccess.GetLength(file);
        }
        catch (Exception e) when (e is IOException or NotSupportedException)
        {
            throw new MelFusionException($"{path}: this is no file on a disk, so its size is unknown; copy it there first.", e);
        }
    }

    private static void Check(string path, bool holds, string otherwise)
    {
        if (!holds)
        {
            throw new MelFusionException($"{path}: {otherwise}.");
        }
    }

    private static ushort Word(ReadOnlySpan<byte> bytes) => BinaryPrimitives.ReadUInt16LittleEndian(bytes);

    private static string Ascii(ReadOnlySpan<byte> bytes) => Encoding.Latin1.GetString(bytes);

    private static string Printable(string id) => string.Concat(id.Select(c => c is > ' ' and < '\x7f' ? c : '?'));
}
