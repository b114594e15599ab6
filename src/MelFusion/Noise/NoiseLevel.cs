using static TorchSharp.torch;

namespace MelFusion.Noise;

// Everything that is known about one noise level stands here, training and sampling side by side:
//     z_t = alpha z + sigma eps           (Eq. 4; alpha = sqrt(abar), sigma = sqrt(1 - abar), alpha^2 + sigma^2 = 1)
//     v   = alpha eps - sigma z
// so that either of eps and v, with z_t, gives z and eps back.

/// <summary>How much signal and how much noise a latent holds.</summary>
/// <param name="Alpha">sqrt(abar): one number, or (B, 1, 1, 1) with one per sample.</param>
/// <param name="Sigma">sqrt(1 - abar), of the same shape.</param>
public readonly record struct NoiseLevel(Tensor Alpha, Tensor Sigma)
{
    /// <summary>The level of an abar.</summary>
    public static NoiseLevel Of(double abar) => new(tensor(Math.Sqrt(abar)), tensor(Math.Sqrt(1 - abar)));

    /// <summary>The level of a ratio sigma / alpha, as DPM-Solver counts it.</summary>
    public static NoiseLevel OfRatio(double ratio)
    {
        double alpha = 1 / Math.Sqrt((ratio * ratio) + 1);
        return new(tensor(alpha), tensor(ratio * alpha));
    }

    /// <summary>Eq. 4: the clean latent under noise.</summary>
    public Tensor Diffuse(Tensor clean, Tensor noise) => (Alpha * clean) + (Sigma * noise);

    /// <summary>What the network should predict (training).</summary>
    public Tensor Target(PredictionType type, Tensor clean, Tensor noise) =>
        type == PredictionType.Epsilon ? noise : (Alpha * noise) - (Sigma * clean);

    /// <summary>The clean latent that a prediction implies (sampling).</summary>
    public Tensor Clean(PredictionType type, Tensor prediction, Tensor noisy) =>
        type == PredictionType.Epsilon ? (noisy - (Sigma * prediction)) / Alpha : (Alpha * noisy) - (Sigma * prediction);

    /// <summary>The noise that a prediction implies (sampling).</summary>
    public Tensor Noise(PredictionType type, Tensor prediction, Tensor noisy) =>
        type == PredictionType.Epsilon ? prediction : (Alpha * prediction) + (Sigma * noisy);
}
