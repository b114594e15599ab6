using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Evaluation.Metrics;

/// <summary>
/// How far the classes that a network hears in a generated clip are from those in its reference, KL(reference || generated), a figure per pair; the
/// metric is the mean. Inputs are (N, classes), paired by row; computed in float64.
/// </summary>
public static class KlDivergence
{
    private const double Epsilon = 1e-6;

    /// <summary>Of softmax probabilities of logits: sum over classes of p_ref (ln p_ref - ln(p_gen + 1e-6)), the customary figure.</summary>
    public static double[] Softmax(Tensor referenceLogits, Tensor generatedLogits)
    {
        using var scope = NewDisposeScope();
        return Rows(referenceLogits.to(ScalarType.Float64).softmax(1), generatedLogits.to(ScalarType.Float64).softmax(1));
    }

    /// <summary>The same sum on sigmoids; it has no (1 - p) half and may be negative.</summary>
    public static double[] Sigmoid(Tensor referenceLogits, Tensor generatedLogits)
    {
        using var scope = NewDisposeScope();
        return Rows(referenceLogits.to(ScalarType.Float64).sigmoid(), generatedLogits.to(ScalarType.Float64).sigmoid());
    }

    /// <summary>Of independent tags: sum over tags of the Bernoulli divergence, both halves; probabilities kept 1e-6 away from 0 and 1.</summary>
    public static double[] Bernoulli(Tensor reference, Tensor generated)
    {
        using var scope = NewDisposeScope();
        var p = reference.to(ScalarType.Float64).clamp(Epsilon, 1 - Epsilon);
        var q = generated.to(ScalarType.Float64).clamp(Epsilon, 1 - Epsilon);
        return ((p * (p.log() - q.log())) + ((1 - p) * ((1 - p).log() - (1 - q).log()))).sum([1]).data<double>().ToArray();
    }

    private static double[] Rows(Tensor reference, Tensor generated) =>
        (reference * (reference.log() - (generated + Epsilon).log())).nan_to_num(0).sum([1]).data<double>().ToArray();
}
