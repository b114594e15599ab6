using MelFusion.KeyValue;
using TorchSharp;

namespace MelFusion.UNet;

/// <summary>
/// K^M and V^M of every cross-attention for one batch of texts. The text does not change while a clip is denoised, so they are computed
/// once (<see cref="ConditionalUNet.ProjectText"/>) and given to each step. For inference: no gradient reaches the text's projections.
/// </summary>
public sealed class TextKeyValues : IDisposable
{
    internal TextKeyValues(IReadOnlyDictionary<string, KeysAndValues> byLayer)
    {
        foreach (var (keys, values) in byLayer.Values)
        {
            keys.DetachFromDisposeScope();
            values.DetachFromDisposeScope();
        }

        KeyValues = byLayer;
    }

    /// <summary>K^M and V^M, (B, s, d), by the name of their layer ("up_blocks.1.attentions.0").</summary>
    public IReadOnlyDictionary<string, KeysAndValues> KeyValues { get; }

    /// <summary>Frees the tensors.</summary>
    public void Dispose()
    {
        foreach (var (keys, values) in KeyValues.Values)
        {
            keys.Dispose();
            values.Dispose();
        }
    }
}
