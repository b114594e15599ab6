using static TorchSharp.torch;

namespace MelFusion.Noise;

/// <summary>
/// Ancestral sampling (DDPM) with the smaller of the two variances. A step goes to the next entry of the list, the last one to abar 1.
/// </summary>
public sealed class DdpmStep : ISampler
{
    private readonly NoiseSchedule _schedule;

    /// <summary>N steps.</summary>
    /// <exception cref="MelFusionException">The schedule has no room for so many steps.</exception>
    public DdpmStep(NoiseSchedule schedule, int steps)
    {
        _schedule = schedule;
        Timesteps = schedule.Timesteps(steps);
    }

    /// <inheritdoc/>
    public IReadOnlyList<long> Timesteps { get; }

    /// <inheritdoc/>
    public bool TakesNoise(int index) => Timesteps[index] > 0;

    /// <summary>
    /// With a = abar_t, a' = abar of the next entry and b = 1 - a / a': the mean sqrt(a') b / (1 - a) x0 + sqrt(a / a') (1 - a') / (1 - a) z
    /// and the variance (1 - a') / (1 - a) b, at least 1e-20.
    /// </summary>
    public Denoised Denoise(Tensor prediction, Tensor latent, int index, Tensor? lastClean = null, Tensor? noise = null)
    {
        using var scope = NewDisposeScope();
        double from = _schedule.AlphaBar[(int)Timesteps[index]];
        double to = index + 1 < Timesteps.Count ? _schedule.AlphaBar[(int)Timesteps[index + 1]] : 1;
        double beta = 1 - (from / to);
        var clean = NoiseLevel.Of(from).Clean(_schedule.Config.PredictionType, prediction, latent);
        var next = (Math.Sqrt(to) * beta / (1 - from) * clean) + (Math.Sqrt(from / to) * (1 - to) / (1 - from) * latent);
        if (TakesNoise(index))
        {
            double variance = Math.Max((1 - to) / (1 - from) * beta, 1e-20);
            next += Math.Sqrt(variance) * (noise ?? throw new ArgumentNullException(nameof(noise), "DDPM takes noise at every timestep above 0."));
        }

        return new(next.MoveToOuterDisposeScope(), clean.MoveToOuterDisposeScope());
    }
}
