namespace MelFusion.Evaluation.Metrics;

/// <summary>What redrawing the clips says about a figure.</summary>
/// <param name="Low">The 2.5th percentile.</param>
/// <param name="High">The 97.5th percentile.</param>
/// <param name="Mean">The mean over rounds.</param>
/// <param name="StandardDeviation">Over rounds, with n - 1.</param>
/// <param name="Bias">The mean minus the estimate from all clips: distances between sets rise when clips repeat.</param>
public sealed record Interval(double Low, double High, double Mean, double StandardDeviation, double Bias);

/// <summary>Confidence by redrawing whole clips with replacement, all patches of a clip together.</summary>
public static class Bootstrap
{
    /// <summary>The 95 % interval of a figure from its values over rounds.</summary>
    public static Interval Of(double estimate, IReadOnlyList<double> values)
    {
        double[] sorted = [.. values.Order()];
        double mean = sorted.Average();
        double deviation = Math.Sqrt(sorted.Sum(value => Math.Pow(value - mean, 2)) / Math.Max(1, sorted.Length - 1));
        return new Interval(Percentile(sorted, 0.025), Percentile(sorted, 0.975), mean, deviation, mean - estimate);
    }

    /// <summary>Which clips a round holds: <paramref name="clips"/> numbers drawn with replacement.</summary>
    public static int[] Draw(int clips, Random random) => [.. Enumerable.Range(0, clips).Select(_ => random.Next(clips))];

    /// <summary>The interval of a mean of per-clip values.</summary>
    public static Interval OfMean(IReadOnlyList<double> perClip, int rounds, Random random) =>
        Of(perClip.Average(), [.. Enumerable.Range(0, rounds).Select(_ => Draw(perClip.Count, random).Average(i => perClip[i]))]);

    /// <summary>Linear between order statistics, at position q (n - 1).</summary>
    private static double Percentile(double[] sorted, double q)
    {
        double position = q * (sorted.Length - 1);
        int below = (int)position;
        int above = Math.Min(below + 1, sorted.Length - 1);
        return sorted[below] + ((position - below) * (sorted[above] - sorted[below]));
    }
}
