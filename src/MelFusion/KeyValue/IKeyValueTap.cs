using static TorchSharp.torch;

namespace MelFusion.KeyValue;

/// <summary>
/// Passes through every transformer layer of a UNet. One hook, two uses: <see cref="KeyValueRecorder"/> keeps the self-attention's K and V of
/// the picture's UNet and returns them untouched; the visual synapse puts them into the cross-attention of the music's UNet. What a tap
/// does not override stays as it is without one.
/// </summary>
public interface IKeyValueTap
{
    /// <summary>Told the timesteps of a call, (B) or (1) of int64, before its first layer.</summary>
    public void Begin(Tensor timestep)
    {
    }

    /// <summary>Sees K and V of a layer's self-attention, (B, n, d), and returns those to use.</summary>
    public KeysAndValues SelfAttention(AttentionLayer layer, KeysAndValues own) => own;

    /// <summary>Sees the text states (B, s, c) that a layer's cross-attention is about to project, and returns those to project.</summary>
    public Tensor Context(AttentionLayer layer, Tensor text) => text;

    /// <summary>Attends to the text, K^M and V^M; the result (B, n, d) goes to to_out.</summary>
    /// <param name="layer">Where.</param>
    /// <param name="queries">Q, (B, n, d).</param>
    /// <param name="text">K^M and V^M, (B, s, d), or (1, s, d) for the same text in every sample.</param>
    /// <param name="bias">0 where a token is valid and -10000 where it is padding, (B, 1, 1, s); null: all are valid.</param>
    public Tensor CrossAttention(AttentionLayer layer, Tensor queries, KeysAndValues text, Tensor? bias) =>
        ScaledDotProduct.Attend(queries, text, layer.Heads, bias);

    /// <summary>Sees what the cross-attention gives, (B, n, d), after to_out and before the residual.</summary>
    public void CrossAttentionOutput(AttentionLayer layer, Tensor output)
    {
    }
}
