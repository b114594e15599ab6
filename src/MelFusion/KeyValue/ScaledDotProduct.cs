using MelFusion.Weights;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.KeyValue;

/// <summary>Attention(Q, K, V) = softmax(Q K^T / sqrt(D) + bias) V (Eq. 1), over all heads of a layer.</summary>
public static class ScaledDotProduct
{
    // From so many queries and keys on, libtorch's kernel for 16 bits, as slow as that for 32, is beaten in pieces of so many queries.
    private const long ManyTokens = 2048, PieceOfQueries = 128;

    // B samples, H heads, N queries, S keys, D = d / H.

    /// <summary>The attention's output before to_out, (B, N, d).</summary>
    /// <param name="queries">Q, (B, N, d).</param>
    /// <param name="memory">K and V, (B, S, d), or (1, S, d) for the same in every sample.</param>
    /// <param name="heads">H.</param>
    /// <param name="bias">Added to the scores, (B, 1, 1, S) or (1, 1, 1, S), in the precision of Q; null: none.</param>
    public static Tensor Attend(Tensor queries, KeysAndValues memory, int heads, Tensor? bias = null)
    {
        using var scope = NewDisposeScope();
        var (b, n, d) = (queries.shape[0], queries.shape[1], queries.shape[2]);
        var q = Split(queries, b, heads);
        var k = Split(memory.Keys, b, heads);
        var v = Split(memory.Values, b, heads);
        return OfHeads(q, k, v, bias).transpose(1, 2).reshape(b, n, d).MoveToOuterDisposeScope();
    }

    /// <summary>The same where heads are split already: q (B, H, N, D), k and v (B, H, S, D) to (B, H, N, D).</summary>
    internal static Tensor OfHeads(Tensor q, Tensor k, Tensor v, Tensor? bias) =>
        q.device_type == DeviceType.META
            ? torch.empty_like(q) // libtorch has no attention on the meta device
            : bias is null && WantsPieces(q, k) ? InPieces(q, k, v)
            : nn.functional.scaled_dot_product_attention(q, k, v, bias);

    // (B or 1, N, d) to (B, H, N, D). Four axes: libtorch's fast kernel takes no others.
    private static Tensor Split(Tensor x, long batch, int heads)
    {
        var split = x.view(x.shape[0], x.shape[1], heads, x.shape[2] / heads).transpose(1, 2);
        return x.shape[0] == batch ? split : split.expand(batch, -1, -1, -1);
    }

    private static bool WantsPieces(Tensor q, Tensor k) =>
        q.dtype == ScalarType.BFloat16 && q.device_type == DeviceType.CPU && Math.Min(q.shape[2], k.shape[2]) >= ManyTokens
        && !is_grad_enabled() && LibTorchC.HasPackedWeights;

    private static Tensor InPieces(Tensor q, Tensor k, Tensor v)
    {
        using var scope = NewDisposeScope();
        Tensor[] Heads(Tensor x) => [.. x.unbind(0).SelectMany(sample => sample.unbind(0))];
        var heads = Heads(q).Zip(Heads(k), Heads(v)).Select(head => OfOneHead(head.First, head.Second, head.Third));
        return stack([.. heads]).view(q.shape).MoveToOuterDisposeScope();
    }

    // q (N, D), k and v (S, D) to (N, D). Scores are fp32, as in libtorch's kernel: rounded ones would blur large differences.
    private static Tensor OfOneHead(Tensor q, Tensor k, Tensor v)
    {
        using var scope = NewDisposeScope();
        using var scale = (1 / Math.Sqrt(q.shape[1])).ToScalar();
        var scaled = q.to(ScalarType.Float32).mul(scale);
        var plainKeys = k.to(ScalarType.Float32).contiguous();
        var keys = PackedWeights.TryLinear(plainKeys);
        var values = v.contiguous();
        var pieces = new List<Tensor>();
        for (long first = 0; first < q.shape[0]; first += PieceOfQueries)
        {
            using var piece = NewDisposeScope();
            var part = scaled.narrow(0, first, Math.Min(PieceOfQueries, q.shape[0] - first));
            var scores = keys is null ? nn.functional.linear(part, plainKeys) : LibTorchC.Linear(part, keys, null); // (piece, S)
            pieces.Add(scores.softmax(-1).to(q.dtype).matmul(values).MoveToOuterDisposeScope());
        }

        return cat(pieces).MoveToOuterDisposeScope();
    }
}
