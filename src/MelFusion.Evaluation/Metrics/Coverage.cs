using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Evaluation.Metrics;

/// <summary>How two sets of vectors lie in each other's neighbourhoods (balls to the k-th neighbour).</summary>
/// <param name="Precision">Part of the generated vectors inside some real ball.</param>
/// <param name="Recall">Part of the real vectors inside some generated ball.</param>
/// <param name="Density">Real balls around a generated vector, over k: about 1 for equal distributions, unbounded.</param>
/// <param name="CoverageOfReal">Part of the real balls that hold a generated vector.</param>
public sealed record Coverage(double Precision, double Recall, double Density, double CoverageOfReal)
{
    /// <summary>Of real (N, D) and generated (M, D) vectors; a ball is open and its k-th neighbour is counted without the vector itself.</summary>
    /// <returns>Null where either set has no more than k vectors.</returns>
    public static Coverage? Of(Tensor real, Tensor generated, int k = 5)
    {
        if (real.shape[0] <= k || generated.shape[0] <= k)
        {
            return null;
        }

        using var scope = NewDisposeScope();
        var (x, y) = (real.to(ScalarType.Float64), generated.to(ScalarType.Float64));
        var between = Distances(x, y); // (N, M)
        var (radiusX, radiusY) = (Radius(x, k), Radius(y, k)); // (N), (M)
        var inReal = (between < radiusX.unsqueeze(1)).to(ScalarType.Float64); // (N, M)
        var inGenerated = (between < radiusY.unsqueeze(0)).to(ScalarType.Float64);
        return new Coverage(
            inReal.amax([0]).mean().item<double>(),
            inGenerated.amax([1]).mean().item<double>(),
            inReal.sum([0]).mean().item<double>() / k,
            inReal.amax([1]).mean().item<double>());
    }

    private static Tensor Radius(Tensor x, int k)
    {
        var (values, _) = Distances(x, x).topk(k + 1, 1, largest: false, sorted: true); // the vector itself comes first
        return values.select(1, k);
    }

    private static Tensor Distances(Tensor a, Tensor b)
    {
        var squares = a.square().sum([1]).unsqueeze(1) + b.square().sum([1]).unsqueeze(0) - (2 * a.matmul(b.T));
        return squares.clamp_min(0).sqrt();
    }
}

/// <summary>The Vendi score: how many different vectors there effectively are.</summary>
public static class VendiScore
{
    /// <summary>exp of the entropy of the eigenvalues of the cosine matrix over N; 1 for copies, N for orthogonal vectors.</summary>
    public static double Of(Tensor x)
    {
        using var scope = NewDisposeScope();
        var unit = CosineScore.Unit(x.to(ScalarType.Float64));
        var values = linalg.eigvalsh(unit.matmul(unit.T) / x.shape[0]).data<double>().ToArray();
        return Math.Exp(-values.Where(value => value > 1e-12).Sum(value => value * Math.Log(value)));
    }
}
