using static TorchSharp.torch;

namespace MelFusion.KeyValue;

/// <summary>
/// What one call of the picture's UNet left for the music: per layer K^I and V^I of self-attention, (B, n, d), heads not split. Frees its
/// tensors when disposed; no dispose scope does.
/// </summary>
public sealed class CapturedKeyValues : IDisposable
{
    private readonly IReadOnlyDictionary<string, KeysAndValues> _keyValues;
    private readonly IReadOnlyDictionary<string, Tensor> _outputs;

    /// <summary>Takes over tensors by the name of their layer.</summary>
    /// <param name="keyValues">K^I and V^I, (B, n, d).</param>
    /// <param name="outputs">For the way of the published code: outputs of cross-attention, (B, n, d); null: none.</param>
    public CapturedKeyValues(IReadOnlyDictionary<string, KeysAndValues> keyValues, IReadOnlyDictionary<string, Tensor>? outputs = null) =>
        (_keyValues, _outputs) = (keyValues, outputs ?? new Dictionary<string, Tensor>());

    /// <summary>K^I and V^I by the name of their layer ("up_blocks.1.attentions.0").</summary>
    public IReadOnlyDictionary<string, KeysAndValues> KeyValues => _keyValues;

    /// <summary>Outputs of cross-attention by the name of their layer; empty unless they were asked for.</summary>
    public IReadOnlyDictionary<string, Tensor> Outputs => _outputs;

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var (keys, values) in _keyValues.Values)
        {
            keys.Dispose();
            values.Dispose();
        }

        foreach (var output in _outputs.Values)
        {
            output.Dispose();
        }
    }
}
