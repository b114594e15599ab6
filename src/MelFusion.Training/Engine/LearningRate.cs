namespace MelFusion.Training.Engine;

/// <summary>How the learning rate falls after the warm-up.</summary>
public enum LearningRateDecay
{
    /// <summary>It does not.</summary>
    None,

    /// <summary>In a straight line to the final fraction.</summary>
    Linear,

    /// <summary>Along half a cosine to the final fraction.</summary>
    Cosine,
}

/// <summary>The learning rate as a function of the step number alone, so that a resumed run has the same one.</summary>
internal static class LearningRate
{
    /// <summary>The factor on every group's rate, in (0, 1].</summary>
    /// <param name="step">The step, from 0.</param>
    /// <param name="steps">Steps of the whole run.</param>
    /// <param name="warmup">Steps of linear rise.</param>
    /// <param name="decay">How it falls afterwards.</param>
    /// <param name="finalFraction">What is left of it at the end.</param>
    public static double Factor(long step, long steps, long warmup, LearningRateDecay decay, double finalFraction)
    {
        if (step < warmup)
        {
            return (step + 1.0) / warmup;
        }

        double x = Math.Min(1, (step - warmup) / (double)Math.Max(1, steps - warmup));
        double fall = decay switch
        {
            LearningRateDecay.Linear => 1 - x,
            LearningRateDecay.Cosine => 0.5 * (1 + Math.Cos(Math.PI * x)),
            _ => 1,
        };
        return finalFraction + (1 - finalFraction) * fall;
    }
}
