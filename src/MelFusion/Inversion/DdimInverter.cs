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
    /// <summary>Inverts a latent and keeps every latent on the way.</summary>
    /// <param name="latent">The clean latent (B, C, H, W), scaled as the network expects it, fp32.</param>
    /// <param name="steps">Steps, as in sampling.</param>
    /// <param name="stepDone">Told the number of steps done, after each.</param>
    /// <param name="cancellation">Looked at before every step.</param>
    /// <exception cref="MelFusionException">The schedule has no room for so many steps.</exception>
    public InversionTrajectory Invert(Tensor latent, int steps, Action<int>? stepDone = null, CancellationToken cancellation = default)
    {
        var ddim = new DdimStep(schedule, steps);
        long[] upwards = [.. ddim.Timesteps.Reverse()];
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
