using MelFusion.KeyValue;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Synapse;

/// <summary>
/// Averages a picture's n tokens to as many as a text has, sample by sample: valid token i of s is the mean of the picture's tokens
/// floor(i n / s) .. ceil((i + 1) n / s) - 1, row by row (neighbours may share one). Padding gets zeros, so that no strip of the picture is
/// lost to it.
/// </summary>
/// <remarks>
/// Made once for a batch of texts and used for every step's K^I and V^I; <see cref="VisualSynapse.Tap(CapturedKeyValues?, double, Tensor?)"/>
/// does it by itself where it is given what is not pooled. A trainer may keep on disk what <see cref="Pool(CapturedKeyValues)"/> gives: s
/// instead of n tokens.
/// </remarks>
public sealed class TokenPooling : IDisposable
{
    private readonly Tensor _valid; // (B, s)
    private readonly Dictionary<long, Tensor> _windows = [];

    /// <summary>For texts with these valid tokens, (B, s) of bool.</summary>
    public TokenPooling(Tensor textMask) => _valid = textMask.to(ScalarType.Bool).alias().DetachFromDisposeScope();

    /// <summary>(B, n, d), or (1, n, d) for the same picture with every text, to (B, s, d), in the precision of x.</summary>
    public Tensor Pool(Tensor x)
    {
        using var scope = NewDisposeScope();
        return matmul(Windows(x.shape[1]).to(x.dtype), x).MoveToOuterDisposeScope();
    }

    /// <summary>Both of every layer; outputs of cross-attention are left out.</summary>
    public CapturedKeyValues Pool(CapturedKeyValues picture)
    {
        using var scope = NewDisposeScope();
        return new(picture.KeyValues.ToDictionary(layer => layer.Key, layer => layer.Value.Select(Pool)), pooled: true, timestep: picture.Timestep?.alias());
    }

    /// <summary>The averages of adaptive pooling as a matrix, (to, from).</summary>
    internal static Tensor Averages(long from, long to, Device device)
    {
        using var scope = NewDisposeScope();
        return Windows(from, torch.ones([1, to], ScalarType.Bool, device)).squeeze(0).MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _valid.Dispose();
        foreach (var windows in _windows.Values)
        {
            windows.Dispose();
        }
    }

    private Tensor Windows(long n)
    {
        if (!_windows.TryGetValue(n, out var windows))
        {
            _windows[n] = windows = Windows(n, _valid).DetachFromDisposeScope();
        }

        return windows;
    }

    // (B, s, n): row i of a sample holds 1 / (its window's length) where its window is.
    private static Tensor Windows(long n, Tensor valid)
    {
        using var scope = NewDisposeScope();
        var count = valid.sum(1, keepdim: true, ScalarType.Int64).clamp_min(1); // (B, 1): s of each sample
        var i = valid.to(ScalarType.Int64).cumsum(1) - 1; // (B, s)
        var start = (i * n).div(count, RoundingMode.floor).unsqueeze(2);
        var end = ((i + 1) * n + count - 1).div(count, RoundingMode.floor).unsqueeze(2); // the ceiling
        var position = arange(n, ScalarType.Int64, valid.device); // (n)
        var inside = position.ge(start) & position.lt(end) & valid.unsqueeze(2);
        return (inside.to(ScalarType.Float32) / (end - start)).MoveToOuterDisposeScope();
    }
}
