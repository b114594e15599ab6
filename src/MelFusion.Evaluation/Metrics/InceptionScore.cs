using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Evaluation.Metrics;

/// <summary>How sure a network is about each clip and how varied the clips are together.</summary>
/// <param name="Mean">The mean over splits; 1 at worst, the number of classes at best.</param>
/// <param name="StandardDeviation">Over splits, of the population.</param>
/// <param name="PerSplit">Each split's score.</param>
public sealed record InceptionScore(double Mean, double StandardDeviation, IReadOnlyList<double> PerSplit)
{
    /// <summary>exp(mean KL(p || mean p)) on softmax probabilities, split i being rows i N / splits to (i + 1) N / splits of the order.</summary>
    /// <param name="logits">(N, classes).</param>
    /// <param name="order">The rows in the order in which they are split.</param>
    /// <param name="splits">Parts of equal size.</param>
    /// <returns>Null where there are fewer rows than splits: a split would be empty.</returns>
    public static InceptionScore? Of(Tensor logits, long[] order, int splits = 10)
    {
        if (order.Length < splits)
        {
            return null;
        }

        using var scope = NewDisposeScope();
        var p = FrechetDistance.Rows(logits.to(ScalarType.Float64), order).softmax(1); // (N, classes)
        double[] scores = [.. Enumerable.Range(0, splits).Select(i => Score(p[(i * order.Length / splits)..((i + 1) * order.Length / splits)]))];
        double mean = scores.Average();
        return new InceptionScore(mean, Math.Sqrt(scores.Average(score => Math.Pow(score - mean, 2))), scores);
    }

    private static double Score(Tensor p) =>
        Math.Exp((p * (p.log() - p.mean([0], keepdim: true).log())).nan_to_num(0).sum([1]).mean().item<double>());
}
