using static TorchSharp.torch;

namespace MelFusion.Noise;

/// <summary>Classifier-free guidance.</summary>
public static class Guidance
{
    /// <summary>
    /// u + scale (c - u), and where <paramref name="rescale"/> is above 0 that share of it brought back to the spread (standard
    /// deviation per sample) which the conditional prediction has.
    /// </summary>
    /// <param name="unconditional">u: the prediction under the null (or negative) text.</param>
    /// <param name="conditional">c: the prediction under the text, of the same shape.</param>
    /// <param name="scale">1 is no guidance.</param>
    /// <param name="rescale">0 to 1; 0 is the usual.</param>
    public static Tensor Combine(Tensor unconditional, Tensor conditional, double scale, double rescale = 0)
    {
        using var scope = NewDisposeScope();
        var guided = unconditional + (scale * (conditional - unconditional));
        if (rescale > 0)
        {
            guided = guided * ((rescale * (Spread(conditional) / Spread(guided))) + (1 - rescale));
        }

        return guided.MoveToOuterDisposeScope();
    }

    private static Tensor Spread(Tensor x) => // (B, 1, 1, 1)
        x.std([.. Enumerable.Range(1, (int)x.dim() - 1).Select(axis => (long)axis)], unbiased: true, keepdim: true);
}
