using System.Buffers.Binary;
using System.IO.Compression;
using System.IO.Hashing;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Weights;

/// <summary>
/// A file of torch.save: the zip format (since PyTorch 1.6) or the one before it, with a state dict at its root or in a dict of it
/// (Lightning's "state_dict"). Its pickle is read by <see cref="TorchPickle"/> and never run. Views are checked to lie inside their
/// storages, and storages to have exactly their size in the file, before anything is allocated.
/// </summary>
public sealed class TorchFile : WeightsFile
{
    private static readonly byte[] LegacyMagic = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19]; // little-endian
    private const long LegacyProtocol = 1001;
    private const long LongestPickle = 32 << 20;
    private const long CheckedOnOpening = 16 << 20; // a file up to this size costs milliseconds to check whole

    private readonly FileStream _stream;
    private readonly Dictionary<string, PickleTensor> _tensors;
    private readonly Dictionary<string, TorchStorage> _storages;

    private TorchFile(FileStream stream, List<KeyValuePair<string, PickleTensor>> tensors, Dictionary<string, TorchStorage> storages)
    {
        (_stream, _storages) = (stream, storages);
        Tensors = [.. tensors.Select(pair => new TensorEntry(pair.Key, pair.Value.Storage.Dtype, pair.Value.Shape))];
        _tensors = new(tensors, StringComparer.Ordinal);
    }

    /// <inheritdoc/>
    public override IReadOnlyList<TensorEntry> Tensors { get; }

    /// <summary>Opens a file and checks its index.</summary>
    /// <param name="path">The file.</param>
    /// <param name="at">The name of the dict that holds the tensors; empty: the root; null: found by itself.</param>
    /// <exception cref="WeightsException">The file is missing, malformed or holds something other than tensors; the sentence says what.</exception>
    public static new TorchFile Open(string path, string? at = null)
    {
        var stream = OpenStream(path);
        try
        {
            var (root, storages) = IsZip(stream) ? OpenZip(stream) : OpenLegacy(stream);
            var file = new TorchFile(stream, Select(root, at), storages) { Path = path };
            file.CheckSmall();
            return file;
        }
        catch (Exception e)
        {
            stream.Dispose();
            throw e is InvalidDataException or OverflowException or EndOfStreamException
                ? new WeightsException($"{path}: not a readable PyTorch file: {e.Message.TrimEnd('.')}.", e)
                : e;
        }
    }

    /// <summary>Whether a file that begins so is one of PyTorch's.</summary>
    internal static bool Looks(ReadOnlySpan<byte> start) => start is [0x80, <= 5, ..] || start.StartsWith("PK\x3\x4"u8);

    /// <inheritdoc/>
    public override void ReadInto(string key, Tensor target)
    {
        FindFor(key, target);
        var view = _tensors[key];
        var storage = _storages[view.Storage.Key];
        long width = TensorBytes.Width(storage.Dtype);
        try
        {
            if (!view.IsContiguous)
            {
                ReadStrided(view, storage, target);
                return;
            }

            if (view.Count != storage.Count)
            {
                storage.Check();
            }

            TensorBytes.Read(storage.Dtype, target, (bytes, offset) => storage.Read(bytes, (view.Offset * width) + offset));
        }
        catch (InvalidDataException e)
        {
            throw new WeightsException($"{Path}: '{key}' cannot be read: {e.Message.TrimEnd('.')}.", e);
        }
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            foreach (var storage in _storages.Values)
            {
                storage.Dispose();
            }

            _stream.Dispose();
        }
    }

    /// <summary>Reads the stretch of the storage that the view spans, and copies from it by the view's strides.</summary>
    private static void ReadStrided(PickleTensor view, TorchStorage storage, Tensor target)
    {
        if (view.Count == 0 || target.device_type == DeviceType.META)
        {
            return;
        }

        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        storage.Check();
        long span = 1 + view.Shape.Zip(view.Strides).Sum(axis => (axis.First - 1) * axis.Second);
        long width = TensorBytes.Width(storage.Dtype);
        var plain = torch.empty([span], storage.Dtype);
        TensorBytes.Read(storage.Dtype, plain, (bytes, offset) => storage.Read(bytes, (view.Offset * width) + offset));
        target.detach().copy_(plain.as_strided(view.Shape, view.Strides));
    }

    private static bool IsZip(FileStream stream)
    {
        byte[] start = new byte[256];
        int count = RandomAccess.Read(stream.SafeFileHandle, start, 0);
        bool isZip = start.AsSpan().StartsWith("PK\x3\x4"u8);
        return isZip || (count > 1 && start[0] == 0x80)
            ? isZip
            : throw new InvalidDataException(
                count == 0 ? "it is empty" : ForeignFile.Describe(start.AsSpan(0, count)) ?? "it begins neither as the zip format nor as the older one");
    }

    private static (object? Root, Dictionary<string, TorchStorage> Storages) OpenZip(FileStream stream)
    {
        var entries = ZipIndex.Read(stream);
        var pickles = entries.Where(entry => entry.Name.EndsWith("/data.pkl", StringComparison.Ordinal)).ToList();
        if (pickles is not [var pickle])
        {
            throw new InvalidDataException($"its zip archive holds {pickles.Count} entries named data.pkl where PyTorch writes one; it is some other archive");
        }

        string folder = pickle.Name[..^"data.pkl".Length];
        if (entries.Any(entry => entry.Name == folder + "constants.pkl"))
        {
            throw new InvalidDataException("it is a TorchScript program, not weights; save the module's state_dict() instead");
        }

        var byName = entries.ToLookup(entry => entry.Name, StringComparer.Ordinal);
        bool isBigEndian = IsBigEndian(stream, byName, folder + "byteorder");
        var named = new Dictionary<string, PickleStorage>(StringComparer.Ordinal);
        byte[] bytes = Whole(stream, byName, pickle.Name, LongestPickle);
        object? root = TorchPickle.Read(new PickleBytes(new MemoryStream(bytes), bytes.Length), named);
        return (root, named.Values.ToDictionary(
            storage => storage.Key,
            storage => TorchStorage.InZip(stream, One(byName, $"{folder}data/{storage.Key}"), storage, isBigEndian),
            StringComparer.Ordinal));
    }

    private static bool IsBigEndian(FileStream stream, ILookup<string, ZipEntry> byName, string name) =>
        byName.Contains(name) && System.Text.Encoding.ASCII.GetString(Whole(stream, byName, name, 64)) is var order
        && order switch
        {
            "little" => false,
            "big" => true,
            _ => throw new InvalidDataException($"its byte order is '{TorchPickle.Shown(order)}', neither little nor big"),
        };

    private static ZipEntry One(ILookup<string, ZipEntry> byName, string name)
    {
        if (byName[name].ToList() is not [var entry])
        {
            throw new InvalidDataException($"its zip archive holds {byName[name].Count()} entries named '{TorchPickle.Shown(name)}' where one must be");
        }

        return entry switch
        {
            { IsEncrypted: true } => throw new InvalidDataException("its zip archive is encrypted"),
            { Method: not (ZipEntry.Stored or ZipEntry.Deflated) } => throw new InvalidDataException(
                $"its zip archive is packed by method {entry.Method}; only stored and deflated entries are read"),
            { IsPlausible: false } => throw new InvalidDataException(
                $"'{TorchPickle.Shown(name)}' promises {entry.Size} bytes out of {entry.Packed}, which cannot be"),
            _ => entry,
        };
    }

    private static byte[] Whole(FileStream stream, ILookup<string, ZipEntry> byName, string name, long most)
    {
        var entry = One(byName, name);
        if (entry.Size > most)
        {
            throw new InvalidDataException($"'{TorchPickle.Shown(name)}' has {entry.Size} bytes, more than the {most} that are read");
        }

        byte[] bytes = new byte[entry.Size];
        using var storage = TorchStorage.InZip(stream, entry, new PickleStorage(name, ScalarType.Byte, entry.Size), false);
        storage.Read(bytes, 0);
        storage.Check();
        return bytes;
    }

    private static (object? Root, Dictionary<string, TorchStorage> Storages) OpenLegacy(FileStream stream)
    {
        var bytes = new PickleBytes(stream, stream.Length);
        var named = new Dictionary<string, PickleStorage>(StringComparer.Ordinal);
        if (Next() is not System.Numerics.BigInteger magic || !magic.ToByteArray().AsSpan().SequenceEqual(LegacyMagic))
        {
            throw new InvalidDataException("it is a pickle, but none that PyTorch wrote");
        }

        if (Next() is var protocol && protocol is not LegacyProtocol)
        {
            throw new InvalidDataException($"it has the format version {protocol}; {LegacyProtocol} is known");
        }

        if (Next() is PickleDict information && information["little_endian"] is false)
        {
            throw new InvalidDataException("it was written on a big-endian machine by an old PyTorch; save it again with a newer one");
        }

        object? root = Next();
        if (Next() is not List<object?> keys || !keys.All(key => key is string))
        {
            throw new InvalidDataException("its list of storages is missing");
        }

        return (root, PlaceLegacy(stream, bytes.Position, [.. keys.Cast<string>()], named));

        object? Next() => TorchPickle.Read(bytes, named);
    }

    /// <summary>After the pickles each storage follows: a 64-bit count, then its elements.</summary>
    private static Dictionary<string, TorchStorage> PlaceLegacy(FileStream stream, long at, List<string> keys, Dictionary<string, PickleStorage> named)
    {
        var placed = new Dictionary<string, TorchStorage>(StringComparer.Ordinal);
        Span<byte> length = stackalloc byte[8];
        foreach (string key in keys)
        {
            if (!named.TryGetValue(key, out var storage) || placed.ContainsKey(key))
            {
                throw new InvalidDataException($"its list of storages names '{TorchPickle.Shown(key)}', which no tensor uses or which was there before");
            }

            long bytes = checked(storage.Count * TensorBytes.Width(storage.Dtype));
            if (at > stream.Length - 8 || RandomAccess.Read(stream.SafeFileHandle, length, at) < 8 || bytes > stream.Length - at - 8)
            {
                throw new InvalidDataException("it was cut off inside its tensors; fetch the file again");
            }

            if (BinaryPrimitives.ReadInt64LittleEndian(length) is var count && count != storage.Count)
            {
                throw new InvalidDataException($"the storage '{TorchPickle.Shown(key)}' has {count} elements where {storage.Count} were announced");
            }

            placed.Add(key, TorchStorage.Plain(stream, at + 8, storage));
            at += 8 + bytes;
        }

        return placed.Count == named.Count ? placed : throw new InvalidDataException("a storage that its tensors need is not in it");
    }

    private static List<KeyValuePair<string, PickleTensor>> Select(object? root, string? at)
    {
        if (root is not PickleDict dict)
        {
            throw new InvalidDataException("its root is no dict of tensors; save a state_dict() instead of what it holds");
        }

        if (at is { Length: > 0 })
        {
            return dict[at] is PickleDict named && TensorsOf(named) is { Count: > 0 } found
                ? found
                : throw new InvalidDataException($"there is no dict of tensors named '{at}' in it{Offer(dict)}");
        }

        if (at is null && dict["state_dict"] is PickleDict state && TensorsOf(state) is { Count: > 0 } inState)
        {
            return inState;
        }

        var atRoot = TensorsOf(dict);
        var nested = DictsOf(dict);
        return (atRoot.Count == 0, at, nested.Count) switch
        {
            (false, _, _) => atRoot,
            (_, null, 1) => TensorsOf((PickleDict)nested[0].Value!),
            _ => throw new InvalidDataException($"there are no tensors at its root{Offer(dict)}"),
        };
    }

    private static List<KeyValuePair<string, PickleTensor>> TensorsOf(PickleDict dict) =>
        [.. dict.Entries.Where(pair => pair.Value is PickleTensor).Select(pair => KeyValuePair.Create(pair.Key, (PickleTensor)pair.Value!))];

    private static List<KeyValuePair<string, object?>> DictsOf(PickleDict dict) =>
        [.. dict.Entries.Where(pair => pair.Value is PickleDict inner && inner.Entries.Any(entry => entry.Value is PickleTensor))];

    private static string Offer(PickleDict dict) => DictsOf(dict) is { Count: > 0 } dicts
        ? $"; say which of its dicts is meant: {string.Join(", ", dicts.Take(8).Select(pair => $"'{TorchPickle.Shown(pair.Key)}'"))}"
        : string.Empty;

    private void CheckSmall()
    {
        if (_stream.Length <= CheckedOnOpening)
        {
            foreach (var storage in _storages.Values)
            {
                storage.Check();
            }
        }
    }
}

/// <summary>The bytes of one storage in its file. Where the file has a checksum of them it is compared once all have been read.</summary>
internal sealed class TorchStorage : IDisposable
{
    private readonly FileStream _file;
    private readonly PickleStorage _storage;
    private readonly long _offset, _size;
    private readonly ZipEntry? _entry;
    private readonly bool _isBigEndian;
    private readonly Crc32 _crc = new();
    private DeflateStream? _inflater;
    private long _inflated; // position in what is inflated
    private long _hashed;
    private bool _isChecked;

    private TorchStorage(FileStream file, long offset, PickleStorage storage, ZipEntry? entry, bool isBigEndian)
    {
        (_file, _offset, _storage, _entry, _isBigEndian) = (file, offset, storage, entry, isBigEndian);
        _size = checked(storage.Count * TensorBytes.Width(storage.Dtype));
        _isChecked = entry is null;
    }

    public ScalarType Dtype => _storage.Dtype;

    public long Count => _storage.Count;

    public static TorchStorage Plain(FileStream file, long offset, PickleStorage storage) => new(file, offset, storage, null, false);

    public static TorchStorage InZip(FileStream file, ZipEntry entry, PickleStorage storage, bool isBigEndian)
    {
        long size = checked(storage.Count * TensorBytes.Width(storage.Dtype));
        return entry.Size == size
            ? new(file, ZipIndex.DataOffset(file, entry), storage, entry, isBigEndian)
            : throw new InvalidDataException($"'{TorchPickle.Shown(entry.Name)}' has {entry.Size} bytes where {size} are needed");
    }

    /// <summary>Reads bytes from a position of the storage; front to back, a file packed by deflate is unpacked once.</summary>
    public void Read(Span<byte> bytes, long at)
    {
        if (_entry is { Method: ZipEntry.Deflated })
        {
            Inflate(bytes, at);
        }
        else
        {
            ReadPlain(bytes, _offset + at);
        }

        Hash(bytes, at);
        if (_isBigEndian)
        {
            SwapBytes(bytes, TensorBytes.Width(Dtype));
        }
    }

    /// <summary>Reads what was not read yet, and compares the checksum.</summary>
    public void Check()
    {
        byte[] buffer = _isChecked ? [] : new byte[Math.Min(1 << 20, Math.Max(_size, 1))];
        while (!_isChecked)
        {
            int part = (int)Math.Min(buffer.Length, _size - _hashed);
            Read(buffer.AsSpan(0, part), _hashed);
        }
    }

    public void Dispose() => _inflater?.Dispose();

    private void Hash(ReadOnlySpan<byte> bytes, long at)
    {
        if (_isChecked || at != _hashed)
        {
            return;
        }

        _crc.Append(bytes);
        _hashed += bytes.Length;
        if (_hashed == _size)
        {
            _isChecked = _crc.GetCurrentHashAsUInt32() == _entry!.Crc && IsWholeInflated()
                ? true
                : throw new InvalidDataException($"the checksum of '{TorchPickle.Shown(_entry.Name)}' does not match its bytes; fetch the file again");
        }
    }

    private bool IsWholeInflated() => _inflater is null || _inflater.ReadByte() < 0;

    private void Inflate(Span<byte> bytes, long at)
    {
        if (_inflater is null || at < _inflated)
        {
            _inflater?.Dispose();
            _inflater = new DeflateStream(new FilePart(_file, _offset, _entry!.Packed), CompressionMode.Decompress);
            _inflated = 0;
        }

        byte[] skipped = at > _inflated ? new byte[1 << 16] : [];
        while (_inflated < at)
        {
            int part = (int)Math.Min(skipped.Length, at - _inflated);
            _inflater.ReadExactly(skipped, 0, part);
            _inflated += part;
        }

        try
        {
            _inflater.ReadExactly(bytes);
        }
        catch (EndOfStreamException e)
        {
            throw new InvalidDataException($"'{TorchPickle.Shown(_entry!.Name)}' ends before its promised size", e);
        }

        _inflated += bytes.Length;
    }

    private void ReadPlain(Span<byte> bytes, long at)
    {
        while (bytes.Length > 0)
        {
            int read = RandomAccess.Read(_file.SafeFileHandle, bytes, at);
            bytes = read > 0 ? bytes[read..] : throw new InvalidDataException("the file ended while it was being read");
            at += read;
        }
    }

    private static void SwapBytes(Span<byte> bytes, int width)
    {
        switch (width)
        {
            case 2:
                var shorts = System.Runtime.InteropServices.MemoryMarshal.Cast<byte, short>(bytes);
                BinaryPrimitives.ReverseEndianness(shorts, shorts);
                break;
            case 4:
                var words = System.Runtime.InteropServices.MemoryMarshal.Cast<byte, int>(bytes);
                BinaryPrimitives.ReverseEndianness(words, words);
                break;
            case 8:
                var longs = System.Runtime.InteropServices.MemoryMarshal.Cast<byte, long>(bytes);
                BinaryPrimitives.ReverseEndianness(longs, longs);
                break;
        }
    }

    /// <summary>A stretch of a file as a stream, with a position of its own.</summary>
    private sealed class FilePart(FileStream file, long offset, long length) : Stream
    {
        private long _at;

        public override bool CanRead => true;

        public override bool CanSeek => false;

        public override bool CanWrite => false;

        public override long Length => length;

        public override long Position
        {
            get => _at;
            set => throw new NotSupportedException();
        }

        public override int Read(Span<byte> buffer)
        {
            int read = RandomAccess.Read(file.SafeFileHandle, buffer[..(int)Math.Min(buffer.Length, length - _at)], offset + _at);
            _at += read;
            return read;
        }

        public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

        public override void Flush()
        {
        }

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
    }
}
