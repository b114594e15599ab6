using static TorchSharp.torch;

namespace MelFusion.Noise;

/// <summary>
/// DDIM in both directions: towards the data (sampling) and towards the noise (inversion) are one formula with the two noise levels
/// exchanged. Steps are T / N timesteps long, rounded down, whatever the next entry of the list is.
/// </summary>
public sealed class DdimStep : ISampler
{
    private readonly NoiseSchedule _schedule;
    private readonly int _stride;
    private readonly double _eta;

    /// <summary>N steps; eta 0 is deterministic, 1 adds as much noise as DDPM.</summary>
    /// <exception cref="MelFusionException">The schedule has no room for so many steps.</exception>
    public DdimStep(NoiseSchedule schedule, int steps, double eta = 0)
    {
        (_schedule, _eta) = (schedule, eta);
        Timesteps = schedule.Timesteps(steps);
        _stride = schedule.Length / steps;
    }

    /// <inheritdoc/>
    public IReadOnlyList<long> Timesteps { get; }

    /// <inheritdoc/>
    public bool TakesNoise(int index) => _eta > 0;

    /// <inheritdoc/>
    public Denoised Denoise(Tensor prediction, Tensor latent, int index, Tensor? lastClean = null, Tensor? noise = null) =>
        Down(prediction, latent, Timesteps[index], noise);

    /// <summary>From timestep <paramref name="t"/> to the one before, towards the data.</summary>
    /// <param name="prediction">The network's output at t.</param>
    /// <param name="latent">The latent at t.</param>
    /// <param name="t">The timestep.</param>
    /// <param name="noise">Standard normal; needed where eta is above 0.</param>
    public Denoised Down(Tensor prediction, Tensor latent, long t, Tensor? noise = null)
    {
        double from = _schedule.AlphaBarOrBefore(t), to = _schedule.AlphaBarOrBefore(t - _stride);
        double deviation = _eta * Math.Sqrt((1 - to) / (1 - from) * (1 - (from / to)));
        return Move(prediction, latent, from, to, deviation, noise);
    }

    /// <summary>From the timestep before <paramref name="t"/> to t, towards the noise (the picture's inversion; eta is 0 here).</summary>
    /// <param name="prediction">The network's output, asked at t for the latent that is one step less noisy.</param>
    /// <param name="latent">That latent.</param>
    /// <param name="t">The timestep arrived at.</param>
    public Denoised Up(Tensor prediction, Tensor latent, long t) =>
        Move(prediction, latent, _schedule.AlphaBarOrBefore(t - _stride), _schedule.AlphaBarOrBefore(t), 0, null);

    /// <summary>z' = sqrt(abar') x0 + sqrt(1 - abar' - deviation^2) eps + deviation noise.</summary>
    private Denoised Move(Tensor prediction, Tensor latent, double from, double to, double deviation, Tensor? noise)
    {
        using var scope = NewDisposeScope();
        var (type, level) = (_schedule.Config.PredictionType, NoiseLevel.Of(from));
        var clean = level.Clean(type, prediction, latent);
        var eps = level.Noise(type, prediction, latent);
        var moved = (Math.Sqrt(to) * clean) + (Math.Sqrt(Math.Max(0, 1 - to - (deviation * deviation))) * eps);
        if (deviation > 0)
        {
            moved += deviation * (noise ?? throw new ArgumentNullException(nameof(noise), "DDIM with eta above 0 takes noise."));
        }

        return new(moved.MoveToOuterDisposeScope(), clean.MoveToOuterDisposeScope());
    }
}
