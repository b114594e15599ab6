using static TorchSharp.torch;

namespace MelFusion.KeyValue;

/// <summary>What an attention reads: after to_k and to_v, heads not yet split.</summary>
/// <param name="Keys">K, (B, n, d).</param>
/// <param name="Values">V, (B, n, d).</param>
public readonly record struct KeysAndValues(Tensor Keys, Tensor Values)
{
    /// <summary>The same change to both.</summary>
    public KeysAndValues Select(Func<Tensor, Tensor> change) => new(change(Keys), change(Values));
}
