using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Evaluation.Metrics;

/// <summary>The CLAP score: how near a clip lies to its text in a shared space.</summary>
public static class CosineScore
{
    /// <summary>The cosine of each pair of rows of (N, D) and (N, D), -1 to 1; the metric is the mean.</summary>
    public static double[] Rows(Tensor audio, Tensor text)
    {
        using var scope = NewDisposeScope();
        return (Unit(audio.to(ScalarType.Float64)) * Unit(text.to(ScalarType.Float64))).sum([1]).data<double>().ToArray();
    }

    /// <summary>All cosines between the rows of (N, D) and (M, D): (N, M), float64.</summary>
    public static Tensor Matrix(Tensor a, Tensor b)
    {
        using var scope = NewDisposeScope();
        return Unit(a.to(ScalarType.Float64)).matmul(Unit(b.to(ScalarType.Float64)).T).MoveToOuterDisposeScope();
    }

    internal static Tensor Unit(Tensor x) => x / x.square().sum([1], keepdim: true).sqrt().clamp_min(1e-12);
}
