using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Evaluation.Metrics;

/// <summary>KID: the squared maximum mean discrepancy under the kernel (a.b / D + 1)^3, unbiased, over subsets.</summary>
/// <param name="Mean">The mean over subsets; 0 for equal distributions, and then negative half the time.</param>
/// <param name="StandardDeviation">Over subsets, of the population.</param>
/// <param name="PerSubset">Each subset's figure.</param>
public sealed record KernelDistance(double Mean, double StandardDeviation, IReadOnlyList<double> PerSubset)
{
    /// <summary>Of the sets x (N, D) and y (M, D), over pairs of row lists.</summary>
    public static KernelDistance Of(Tensor x, Tensor y, IEnumerable<(long[] X, long[] Y)> subsets)
    {
        using var scope = NewDisposeScope();
        var (a, b) = (x.to(ScalarType.Float64), y.to(ScalarType.Float64));
        double[] values = [.. subsets.Select(rows => Subset(FrechetDistance.Rows(a, rows.X), FrechetDistance.Rows(b, rows.Y)))];
        double mean = values.Average();
        return new KernelDistance(mean, Math.Sqrt(values.Average(value => Math.Pow(value - mean, 2))), values);
    }

    /// <summary>The published subsets: 100 of min(1000, N, M) rows without replacement, seed 2020.</summary>
    public static IEnumerable<(long[] X, long[] Y)> DrawSubsets(long n, long m, int subsets = 100, int largest = 1000)
    {
        var random = new NumpyRandom(2020);
        int size = (int)Math.Min(largest, Math.Min(n, m));
        for (int i = 0; i < subsets; i++)
        {
            yield return (random.Permutation((int)n)[..size], random.Permutation((int)m)[..size]);
        }
    }

    private static double Subset(Tensor x, Tensor y)
    {
        using var scope = NewDisposeScope();
        return Within(Kernel(x, x)) + Within(Kernel(y, y)) - (2 * Kernel(x, y).mean().item<double>());
    }

    /// <summary>The mean off the diagonal.</summary>
    private static double Within(Tensor kernel)
    {
        long n = kernel.shape[0];
        return (kernel.sum() - kernel.diagonal().sum()).item<double>() / (n * (n - 1));
    }

    private static Tensor Kernel(Tensor a, Tensor b) => ((a.matmul(b.T) / a.shape[1]) + 1).pow(3);
}
