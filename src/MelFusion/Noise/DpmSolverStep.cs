using static TorchSharp.torch;

namespace MelFusion.Noise;

/// <summary>
/// DPM-Solver++ of second order, multistep, midpoint: it carries the clean latent of the step before. The first step and the last,
/// which arrives at no noise at all, are of first order. It works with noise levels; its timesteps only say what to ask the network.
/// </summary>
public sealed class DpmSolverStep : ISampler
{
    private readonly NoiseSchedule _schedule;

    /// <summary>N steps.</summary>
    /// <exception cref="MelFusionException">The schedule has no room for so many steps.</exception>
    public DpmSolverStep(NoiseSchedule schedule, int steps)
    {
        _schedule = schedule;
        Timesteps = schedule.SolverTimesteps(steps);
        Ratios = schedule.SolverRatios(steps);
    }

    /// <inheritdoc/>
    public IReadOnlyList<long> Timesteps { get; }

    /// <summary>sigma / alpha before each step and, as the last entry, 0.</summary>
    public IReadOnlyList<double> Ratios { get; }

    /// <inheritdoc/>
    public bool TakesNoise(int index) => false;

    /// <summary>
    /// With lambda = log(alpha / sigma), h the step in lambda and h' the one before:
    /// z' = sigma' / sigma z + alpha' (1 - exp(-h)) (x0 + h / (2 h') (x0 - x0 of the step before)).
    /// </summary>
    public Denoised Denoise(Tensor prediction, Tensor latent, int index, Tensor? lastClean = null, Tensor? noise = null)
    {
        using var scope = NewDisposeScope();
        var (_, sigma) = Split(Ratios[index]);
        var (alphaTo, sigmaTo) = Split(Ratios[index + 1]);
        var clean = NoiseLevel.OfRatio(Ratios[index]).Clean(_schedule.Config.PredictionType, prediction, latent);
        double h = Lambda(index + 1) - Lambda(index);
        var direction = lastClean is null || sigmaTo == 0
            ? clean
            : clean + (0.5 * h / (Lambda(index) - Lambda(index - 1)) * (clean - lastClean));
        var next = (sigmaTo / sigma * latent) + (alphaTo * (1 - Math.Exp(-h)) * direction);
        return new(next.MoveToOuterDisposeScope(), clean.MoveToOuterDisposeScope());
    }

    private double Lambda(int index) => -Math.Log(Ratios[index]);

    private static (double Alpha, double Sigma) Split(double ratio)
    {
        double alpha = 1 / Math.Sqrt((ratio * ratio) + 1);
        return (alpha, ratio * alpha);
    }
}
