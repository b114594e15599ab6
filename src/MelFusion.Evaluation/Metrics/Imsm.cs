using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Evaluation.Metrics;

/// <summary>
/// IMSM: how well music and picture agree, seen through captions, in its three forms. Picture x caption and music x caption scores are (N, N), row i and
/// column i of one triplet; all results are float64.
/// </summary>
public static class Imsm
{
    /// <summary>Eq. 8 of the paper: A_image A_music^T, (N, N); on cosines, or on cosines times their scale.</summary>
    public static Tensor Equation8(Tensor imageScores, Tensor musicScores)
    {
        using var scope = NewDisposeScope();
        return imageScores.matmul(musicScores.T).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// The chance that picture i and music j choose the same caption: softmax over captions of the scaled cosines, then P R^T, (N, N).
    /// </summary>
    public static Tensor Agreement(Tensor imageCosines, Tensor musicCosines, double imageScale, double musicScale)
    {
        using var scope = NewDisposeScope();
        var p = (imageCosines * imageScale).softmax(1);
        var r = (musicCosines * musicScale).softmax(1);
        return p.matmul(r.T).MoveToOuterDisposeScope();
    }

    /// <summary>What the published script prints: one more softmax over each row of the agreement, (N, N). No entry exceeds e / (e + N - 1).</summary>
    public static Tensor PublishedScript(Tensor agreement) => agreement.softmax(1);

    /// <summary>The scalar: the mean chance that picture i and its own music choose the same caption; 1 / N where nothing is known.</summary>
    public static double Score(Tensor agreement)
    {
        using var scope = NewDisposeScope();
        return agreement.diagonal().mean().item<double>();
    }

    /// <summary>The agreement of each picture with its own music, (N).</summary>
    public static double[] Diagonal(Tensor agreement)
    {
        using var scope = NewDisposeScope();
        return agreement.diagonal().contiguous().data<double>().ToArray();
    }

    /// <summary>The mean on the diagonal minus the mean off it: 0 where right triplets agree no better than wrong ones.</summary>
    public static double DiagonalMinusOffDiagonal(Tensor agreement)
    {
        using var scope = NewDisposeScope();
        long n = agreement.shape[0];
        double diagonal = agreement.diagonal().sum().item<double>();
        return (diagonal / n) - ((agreement.sum().item<double>() - diagonal) / (n * (n - 1)));
    }

    /// <summary>
    /// The mean score of blocks of triplets, each compared within itself: the figure depends on how many captions there are to choose from, so blocks of a
    /// fixed size make sets of different sizes comparable. Weighted by block size where the last is smaller.
    /// </summary>
    public static double PartitionMean(
        Tensor imageCosines, Tensor musicCosines, double imageScale, double musicScale, IReadOnlyList<long[]> blocks)
    {
        using var scope = NewDisposeScope();
        double sum = blocks.Sum(block => block.Length
            * Score(Agreement(Block(imageCosines, block), Block(musicCosines, block), imageScale, musicScale)));
        return sum / blocks.Sum(block => block.Length);
    }

    /// <summary>The scores of some triplets with one another's captions.</summary>
    internal static Tensor Block(Tensor scores, long[] rows)
    {
        var index = torch.tensor(rows);
        return scores.index_select(0, index).index_select(1, index);
    }
}
