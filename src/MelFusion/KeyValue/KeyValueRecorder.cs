using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.KeyValue;

/// <summary>
/// Keeps K^I and V^I of the self-attention layers it is told to while the picture's UNet runs, and changes nothing. What is kept carries no
/// gradient (the picture's model is frozen).
/// </summary>
/// <param name="layers">Which layers: those of the music's UNet that a picture meets, by name.</param>
/// <param name="needsOutputs">Whether the cross-attention's outputs are wanted instead, as the published code has it.</param>
public sealed class KeyValueRecorder(IEnumerable<AttentionLayer> layers, bool needsOutputs = false) : IKeyValueTap
{
    private readonly HashSet<string> _names = [.. layers.Select(layer => layer.Name)];
    private Dictionary<string, KeysAndValues> _keyValues = [];
    private Dictionary<string, Tensor> _outputs = [];
    private Tensor? _timestep;

    /// <summary>Whether the outputs of cross-attention are kept instead of K and V of self-attention.</summary>
    public bool NeedsOutputs => needsOutputs;

    /// <summary>Whether a layer is recorded.</summary>
    public bool Wants(AttentionLayer layer) => _names.Contains(layer.Name);

    /// <inheritdoc/>
    public void Begin(Tensor timestep)
    {
        _timestep?.Dispose();
        _timestep = timestep.clone().DetachFromDisposeScope();
    }

    /// <inheritdoc/>
    public KeysAndValues SelfAttention(AttentionLayer layer, KeysAndValues own)
    {
        if (!needsOutputs && Wants(layer))
        {
            _keyValues[layer.Name] = own.Select(Kept);
        }

        return own;
    }

    /// <inheritdoc/>
    public void CrossAttentionOutput(AttentionLayer layer, Tensor output)
    {
        if (needsOutputs && Wants(layer))
        {
            _outputs[layer.Name] = Kept(output);
        }
    }

    /// <summary>Hands over what the last call of the UNet left here; the recorder is empty again.</summary>
    public CapturedKeyValues Take()
    {
        var captured = new CapturedKeyValues(_keyValues, _outputs, timestep: _timestep);
        (_keyValues, _outputs, _timestep) = ([], [], null);
        return captured;
    }

    // The same memory under a handle that the scope of the call does not free.
    private static Tensor Kept(Tensor x) => x.detach().DetachFromDisposeScope();
}
