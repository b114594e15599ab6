using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.KeyValue;

/// <summary>
/// What one call of the picture's UNet left for the music: per layer K^I and V^I of self-attention, (B, n, d), heads not split. Frees its
/// tensors when disposed; no dispose scope does.
/// </summary>
public sealed class CapturedKeyValues : IDisposable
{
    private const string KeySuffix = ".key", ValueSuffix = ".value", OutputSuffix = ".output", TimestepName = "timestep";

    /// <summary>Takes over tensors by the name of their layer, out of whatever dispose scope they are in.</summary>
    /// <param name="keyValues">K^I and V^I, (B, n, d).</param>
    /// <param name="outputs">For the way of the published code: outputs of cross-attention, (B, n, d); null: none.</param>
    /// <param name="pooled">Whether n is already the number of text tokens (see <see cref="Synapse.TokenPooling"/>).</param>
    /// <param name="timestep">The noise level of each sample, (B), or of all, (1); null: not known.</param>
    public CapturedKeyValues(
        IReadOnlyDictionary<string, KeysAndValues> keyValues, IReadOnlyDictionary<string, Tensor>? outputs = null, bool pooled = false, Tensor? timestep = null)
    {
        (KeyValues, Outputs, IsPooled, Timestep) = (keyValues, outputs ?? new Dictionary<string, Tensor>(), pooled, timestep);
        foreach (var tensor in Tensors.Values)
        {
            tensor.DetachFromDisposeScope();
        }
    }

    /// <summary>K^I and V^I by the name of their layer ("up_blocks.1.attentions.0").</summary>
    public IReadOnlyDictionary<string, KeysAndValues> KeyValues { get; }

    /// <summary>Outputs of cross-attention by the name of their layer; empty unless they were asked for.</summary>
    public IReadOnlyDictionary<string, Tensor> Outputs { get; }

    /// <summary>Whether the picture's tokens were already averaged to the tokens of a text.</summary>
    public bool IsPooled { get; }

    /// <summary>The timestep that the picture's UNet was given for each sample, (B), or for all, (1); null: not known.</summary>
    public Tensor? Timestep { get; }

    /// <summary>Everything by one name each ("up_blocks.1.attentions.0.key", ".value", ".output", and "timestep"), as a file keeps it.</summary>
    public IReadOnlyDictionary<string, Tensor> Tensors => KeyValues
        .SelectMany(layer => new[] { (layer.Key + KeySuffix, layer.Value.Keys), (layer.Key + ValueSuffix, layer.Value.Values) })
        .Concat(Outputs.Select(layer => (layer.Key + OutputSuffix, layer.Value)))
        .Concat(Timestep is null ? [] : [(TimestepName, Timestep)])
        .ToDictionary(pair => pair.Item1, pair => pair.Item2);

    /// <summary>The inverse of <see cref="Tensors"/>; takes the tensors over.</summary>
    public static CapturedKeyValues FromTensors(IReadOnlyDictionary<string, Tensor> tensors, bool pooled = false) => new(
        tensors.Keys.Where(name => name.EndsWith(KeySuffix, StringComparison.Ordinal)).Select(name => name[..^KeySuffix.Length])
            .ToDictionary(layer => layer, layer => new KeysAndValues(tensors[layer + KeySuffix], tensors[layer + ValueSuffix])),
        tensors.Keys.Where(name => name.EndsWith(OutputSuffix, StringComparison.Ordinal)).Select(name => name[..^OutputSuffix.Length])
            .ToDictionary(layer => layer, layer => tensors[layer + OutputSuffix]),
        pooled, tensors.GetValueOrDefault(TimestepName));

    /// <summary>A batch from several pictures (or from one, several times): each of the same layers and token counts.</summary>
    public static CapturedKeyValues Concatenate(IReadOnlyList<CapturedKeyValues> pictures)
    {
        using var scope = NewDisposeScope();
        return FromTensors(
            pictures[0].Tensors.Keys.ToDictionary(name => name, name => cat([.. pictures.Select(picture => picture.Tensors[name])], 0)),
            pictures[0].IsPooled);
    }

    /// <summary>The same change to every tensor: another precision, another device, some of the samples.</summary>
    public CapturedKeyValues Select(Func<Tensor, Tensor> change)
    {
        using var scope = NewDisposeScope();
        return FromTensors(
            Tensors.ToDictionary(pair => pair.Key, pair => change(pair.Value) is var y && ReferenceEquals(y, pair.Value) ? y.alias() : y), IsPooled);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var tensor in Tensors.Values)
        {
            tensor.Dispose();
        }
    }
}
