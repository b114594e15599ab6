using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Weights;

/// <summary>One tensor as a file lists it.</summary>
/// <param name="Key">Its name in the file.</param>
/// <param name="Dtype">The type of its elements.</param>
/// <param name="Shape">Its axes; empty for a scalar.</param>
public sealed record TensorEntry(string Key, ScalarType Dtype, IReadOnlyList<long> Shape)
{
    /// <summary>The most axes a tensor may have (libtorch's own limit).</summary>
    internal const int MostAxes = 64;

    /// <summary>The number of elements.</summary>
    public long Count => Shape.Aggregate(1L, (product, axis) => checked(product * axis));
}

/// <summary>
/// A file of named tensors. Opening reads the index alone and needs no libtorch; values are read straight into the tensor that asks.
/// </summary>
public abstract class WeightsFile : IDisposable
{
    /// <summary>
    /// Opens a file of weights by what is in it, whatever its name: safetensors, PyTorch (zip or legacy), or the index of a sharded
    /// checkpoint.
    /// </summary>
    /// <param name="path">The file.</param>
    /// <param name="at">
    /// In a PyTorch file, the name of the nested dict that holds the tensors; empty: the root; null: the root where it holds tensors,
    /// else the one dict that does ("state_dict" before others).
    /// </param>
    /// <exception cref="WeightsException">The file is missing, malformed, or something else; the sentence says what.</exception>
    public static WeightsFile Open(string path, string? at = null) => Open(path, at, false);

    /// <summary>The same for a shard, which may not be an index itself.</summary>
    internal static WeightsFile OpenShard(string path, string? at) => Open(path, at, true);

    private static WeightsFile Open(string path, string? at, bool isShard)
    {
        Span<byte> start = stackalloc byte[9];
        int count;
        using (var stream = OpenStream(path))
        {
            count = stream.ReadAtLeast(start, start.Length, false);
        }

        return start[..count] switch
        {
            _ when TorchFile.Looks(start[..count]) => TorchFile.Open(path, at),
            // A header's length is a small number, whose upper bytes no text has; its lowest may be a brace or a blank all the same.
            [_, _, _, _, 0, 0, 0, 0, ..] => Safetensors.Open(path),
            [(byte)'{', .., not (byte)'{'] or [(byte)' ' or (byte)'\n' or (byte)'\r' or (byte)'\t', ..] => isShard
                ? throw new WeightsException($"{path}: a shard of weights may not be an index itself; such an index is refused.")
                : ShardedWeights.Open(path, at),
            _ => Safetensors.Open(path),
        };
    }

    /// <summary>The path as it was given, for messages.</summary>
    public required string Path { get; init; }

    /// <summary>Every tensor, in the order of the file.</summary>
    public abstract IReadOnlyList<TensorEntry> Tensors { get; }

    /// <summary>Text beside the tensors.</summary>
    public virtual IReadOnlyDictionary<string, string> Metadata => new Dictionary<string, string>();

    /// <summary>The size on disk, of every shard where there are several.</summary>
    public virtual long Bytes => new FileInfo(Path).Length;

    /// <summary>Reads the values of <paramref name="key"/> into <paramref name="target"/>, converting where the types differ.</summary>
    /// <exception cref="WeightsException">No such key, another shape, or a file that ends early.</exception>
    public abstract void ReadInto(string key, Tensor target);

    /// <summary>Whether there is a tensor of that name.</summary>
    public bool Contains(string key) => Find(key) is not null;

    /// <summary>The entry of a name, or null.</summary>
    public TensorEntry? Find(string key) => (_byKey ??= Tensors.ToDictionary(entry => entry.Key)).GetValueOrDefault(key);

    private Dictionary<string, TensorEntry>? _byKey;

    /// <summary>A new tensor in processor memory with the values of <paramref name="key"/>, in the file's own type or another.</summary>
    public Tensor Read(string key, ScalarType? dtype = null)
    {
        var entry = Find(key) ?? throw new WeightsException($"{Path}: there is no tensor '{key}'.");
        var tensor = torch.empty([.. entry.Shape], dtype ?? entry.Dtype);
        ReadInto(key, tensor);
        return tensor;
    }

    /// <summary>The name safetensors gives to a type: F32, BF16, I64, BOOL and so on.</summary>
    public static string DtypeName(ScalarType type) => type switch
    {
        ScalarType.Bool => "BOOL",
        ScalarType.Byte => "U8",
        ScalarType.Int8 => "I8",
        ScalarType.Int16 => "I16",
        ScalarType.Int32 => "I32",
        ScalarType.Int64 => "I64",
        ScalarType.Float16 => "F16",
        ScalarType.BFloat16 => "BF16",
        ScalarType.Float32 => "F32",
        ScalarType.Float64 => "F64",
        _ => throw new MelFusionException($"Tensors of the type {type} are not kept in files of weights; convert them first."),
    };

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Closes the file.</summary>
    protected abstract void Dispose(bool disposing);

    /// <summary>Opens the bytes of a file of weights.</summary>
    /// <exception cref="WeightsException">It is missing or may not be read.</exception>
    internal static FileStream OpenStream(string path)
    {
        try
        {
            return new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, 1, FileOptions.RandomAccess);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw new WeightsException($"{path}: the weights cannot be opened ({e.Message.TrimEnd('.')}).", e);
        }
    }

    /// <summary>The entry of a name, which the target's shape must equal.</summary>
    private protected TensorEntry FindFor(string key, Tensor target)
    {
        var entry = Find(key) ?? throw new WeightsException($"{Path}: there is no tensor '{key}'.");
        return entry.Shape.SequenceEqual(target.shape)
            ? entry
            : throw new WeightsException($"{Path}: '{key}' has the shape ({string.Join(", ", entry.Shape)}), not ({string.Join(", ", target.shape)}).");
    }

    /// <summary>Fills <paramref name="bytes"/> from the file at <paramref name="offset"/>.</summary>
    private protected void ReadExactly(FileStream stream, Span<byte> bytes, long offset, string key)
    {
        while (bytes.Length > 0)
        {
            int read = RandomAccess.Read(stream.SafeFileHandle, bytes, offset);
            if (read == 0)
            {
                throw new WeightsException($"{Path}: the file ended inside '{key}' while it was being read.");
            }

            bytes = bytes[read..];
            offset += read;
        }
    }
}

/// <summary>Tells by its first bytes what a file is that was taken for weights.</summary>
internal static class ForeignFile
{
    /// <summary>What it is and what to do, or null where nothing is recognised.</summary>
    public static string? Describe(ReadOnlySpan<byte> start)
    {
        if (start.StartsWith("PK"u8))
        {
            return "it is a zip archive under another name; PyTorch's own files are opened as such";
        }

        if (start.StartsWith("version "u8))
        {
            return "it is a Git LFS pointer, not the weights themselves; fetch the file again with Git LFS";
        }

        return start.TrimStart(" \r\n\t"u8).StartsWith("<"u8) ? "it is a web page, not weights: the download failed; fetch the file again" : null;
    }
}

/// <summary>A weights file that cannot be used, in one sentence that names the file.</summary>
public sealed class WeightsException : MelFusionException
{
    /// <summary>With the sentence.</summary>
    public WeightsException(string message) : base(message)
    {
    }

    /// <summary>With the sentence and the cause.</summary>
    public WeightsException(string message, Exception cause) : base(message, cause)
    {
    }
}
