using MelFusion.Noise;
using static TorchSharp.torch;

namespace MelFusion.Inversion;

/// <summary>
/// Algorithm 2, line 2: DDIM inversion, from a picture's latent to the noise that the model would have made it from. At each timestep
/// the network is asked there for the latent that is one step less noisy; no guidance.
/// </summary>
/// <param name="schedule">The picture model's noise schedule.</param>
/// <param name="predict">The network under the null text: (latent, timestep) to its prediction in fp32.</param>
public sealed class DdimInverter(NoiseSchedule schedule, Func<Tensor, long, Tensor> predict)
{
    /// <summary>The timesteps that an inversion passes, rising.</summary>
    /// <param name="schedule">The picture model's noise schedule.</param>
    /// <param name="steps">Steps of a whole inversion, as in sampling.</param>
    /// <param name="depth">The share of the schedule that is passed, above 0 to 1: timesteps below depth * T, and always the first.</param>
    /// <exception cref="MelFusionException">The schedule has no room for so many steps.</exception>
    public static IReadOnlyList<long> Timesteps(NoiseSchedule schedule, int steps, double depth = 1)
    {
        var upwards = schedule.Timesteps(steps).Reverse().ToList();
        return [upwards[0], .. upwards.Skip(1).TakeWhile(t => t < depth * schedule.Length)];
    }

    /// <summary>Inverts a latent and keeps every latent on the way.</summary>
    /// <param name="latent">The clean latent (B, C, H, W), scaled as the network expects it, fp32.</param>
    /// <param name="steps">Steps of a whole inversion, as in sampling.</param>
    /// <param name="depth">How far it goes, as a share of the schedule, above 0 to 1: 1 is to the noise.</param>
    /// <param name="stepDone">Told the number of steps done, after each.</param>
    /// <param name="cancellation">Looked at before every step.</param>
    /// <exception cref="MelFusionException">The schedule has no room for so many steps.</exception>
    public InversionTrajectory Invert(Tensor latent, int steps, double depth = 1, Action<int>? stepDone = null, CancellationToken cancellation = default)
    {
        var ddim = new DdimStep(schedule, steps);
        var upwards = Timesteps(schedule, steps, depth);
        using var scope = NewDisposeScope();
        var latents = new List<Tensor>();
        foreach (long t in upwards)
        {
            cancellation.ThrowIfCancellationRequested();
            latents.Add(OneUp(ddim, latents.Count == 0 ? latent : latents[^1], t));
            stepDone?.Invoke(latents.Count);
        }

        return new InversionTrajectory(upwards, latents);
    }

    private Tensor OneUp(DdimStep ddim, Tensor latent, long t)
    {
        using var scope = NewDisposeScope();
        return ddim.Up(predict(latent, t), latent, t).Latent.MoveToOuterDisposeScope();
    }
}
