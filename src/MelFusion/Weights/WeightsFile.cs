using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Weights;

/// <summary>One tensor as a file lists it.</summary>
/// <param name="Key">Its name in the file.</param>
/// <param name="Dtype">The type of its elements.</param>
/// <param name="Shape">Its axes; empty for a scalar.</param>
public sealed record TensorEntry(string Key, ScalarType Dtype, IReadOnlyList<long> Shape)
{
    /// <summary>The number of elements.</summary>
    public long Count => Shape.Aggregate(1L, (product, axis) => checked(product * axis));
}

/// <summary>
/// A file of named tensors. Opening reads the index alone and needs no libtorch; values are read straight into the tensor that asks.
/// </summary>
public abstract class WeightsFile : IDisposable
{
    /// <summary>The path as it was given, for messages.</summary>
    public required string Path { get; init; }

    /// <summary>Every tensor, in the order of the file.</summary>
    public abstract IReadOnlyList<TensorEntry> Tensors { get; }

    /// <summary>Text beside the tensors.</summary>
    public virtual IReadOnlyDictionary<string, string> Metadata => new Dictionary<string, string>();

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

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Closes the file.</summary>
    protected abstract void Dispose(bool disposing);
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
