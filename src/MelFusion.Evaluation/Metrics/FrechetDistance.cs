using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Evaluation.Metrics;

/// <summary>
/// The Fréchet distance between two sets of vectors taken as Gaussians: FAD on audio embeddings of patches, FD on those of clips. Sets are (N, D) and
/// (M, D); everything is computed in float64.
/// </summary>
public static class FrechetDistance
{
    /// <summary>
    /// |mx - my|^2 + Tr Sx + Tr Sy - 2 Tr (Sx Sy)^(1/2), covariances with N - 1. The last trace is the nuclear norm of Xc Yc^T / sqrt((N-1)(M-1)), which
    /// is exact for singular covariances too, where a matrix square root collects rounding errors.
    /// </summary>
    /// <exception cref="MelFusionException">A set has fewer than two vectors.</exception>
    public static double Between(Tensor x, Tensor y)
    {
        Check(x, y);
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        return Between(Moments.Of(x), Moments.Of(y));
    }

    /// <summary>Tr Sx: the scale against which a distance is large or small.</summary>
    public static double Trace(Tensor x)
    {
        using var scope = NewDisposeScope();
        return Centred(x).Scaled.square().sum().item<double>();
    }

    /// <summary>
    /// FAD-infinity: distances of <paramref name="x"/> to samples of <paramref name="y"/> of several sizes lie near a line over 1 / size, and its
    /// value at 0 is what an endless set would have.
    /// </summary>
    /// <param name="x">The reference, (N, D).</param>
    /// <param name="y">The set whose size is extrapolated, (M, D).</param>
    /// <param name="samples">Row indices into y, one list per size, drawn with replacement.</param>
    public static FadInfinity Infinity(Tensor x, Tensor y, IReadOnlyList<long[]> samples)
    {
        double[] inverse = [.. samples.Select(rows => 1.0 / rows.Length)];
        double[] distances = Distances(x, y, samples);
        (double meanInverse, double meanDistance) = (inverse.Average(), distances.Average());
        double spread = inverse.Sum(value => Math.Pow(value - meanInverse, 2));
        double slope = inverse.Zip(distances, (a, d) => (a - meanInverse) * (d - meanDistance)).Sum() / spread;
        double intercept = meanDistance - (slope * meanInverse);
        double rest = inverse.Zip(distances, (a, d) => Math.Pow(d - intercept - (slope * a), 2)).Sum();
        double total = distances.Sum(d => Math.Pow(d - meanDistance, 2));
        return new FadInfinity(intercept, slope, total == 0 ? 1 : 1 - (rest / total), distances);
    }

    /// <summary>Sizes evenly spread from a third of the rows (2 at least) to all, with their rows drawn from the generator.</summary>
    public static IReadOnlyList<long[]> DrawSamples(int rows, int sizes, Random random)
    {
        int smallest = Math.Max(2, rows / 3);
        return [.. Enumerable.Range(0, sizes).Select(i => smallest + (int)Math.Round((double)(rows - smallest) * i / Math.Max(1, sizes - 1)))
            .Select(size => Enumerable.Range(0, size).Select(_ => (long)random.Next(rows)).ToArray())];
    }

    private static double[] Distances(Tensor x, Tensor y, IReadOnlyList<long[]> samples)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var reference = Moments.Of(x);
        return [.. samples.Select(rows =>
        {
            using var sample = NewDisposeScope();
            var drawn = Rows(y, rows);
            Check(x, drawn);
            return Between(reference, Moments.Of(drawn));
        })];
    }

    private static double Between(Moments x, Moments y) =>
        (x.Mean - y.Mean).square().sum().item<double>() + x.Trace + y.Trace - (2 * linalg.svdvals(x.Root.matmul(y.Root.T)).sum().item<double>());

    internal static Tensor Rows(Tensor set, long[] rows)
    {
        using var index = torch.tensor(rows);
        return set.index_select(0, index);
    }

    private static void Check(Tensor x, Tensor y)
    {
        if (x.shape[0] < 2 || y.shape[0] < 2)
        {
            throw new MelFusionException($"A Fréchet distance needs two vectors on either side, and there are {x.shape[0]} and {y.shape[0]}; add clips or longer ones.");
        }
    }

    /// <summary>The mean (D) and (X - mean) / sqrt(N - 1), (N, D).</summary>
    private static (Tensor Mean, Tensor Scaled) Centred(Tensor x)
    {
        var values = x.to(ScalarType.Float64);
        var mean = values.mean([0]);
        return (mean, (values - mean) / Math.Sqrt(x.shape[0] - 1));
    }

    /// <summary>What a distance needs of a set.</summary>
    /// <param name="Mean">(D).</param>
    /// <param name="Trace">Tr S.</param>
    /// <param name="Root">R with R^T R = S, (min(N, D), D): where there are more vectors than dimensions, the triangle of X = Q R has the same products up to rotation.</param>
    private sealed record Moments(Tensor Mean, double Trace, Tensor Root)
    {
        public static Moments Of(Tensor x)
        {
            var (mean, scaled) = Centred(x);
            return new(mean, scaled.square().sum().item<double>(), scaled.shape[0] > scaled.shape[1] ? linalg.qr(scaled).R : scaled);
        }
    }
}

/// <summary>The line through distances over one divided by the set's size.</summary>
/// <param name="Value">Its value at 0: an endless set.</param>
/// <param name="Slope">Its slope.</param>
/// <param name="RSquared">How much of the distances' variance it explains, at most 1.</param>
/// <param name="Distances">The distance at each size.</param>
public sealed record FadInfinity(double Value, double Slope, double RSquared, IReadOnlyList<double> Distances);
