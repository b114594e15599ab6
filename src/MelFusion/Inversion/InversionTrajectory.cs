using static TorchSharp.torch;

namespace MelFusion.Inversion;

/// <summary>The way of a latent from the data to the noise, or a part of it: one latent per noise level, from the least noisy to the last.</summary>
public sealed class InversionTrajectory : IDisposable
{
    /// <summary>Takes over the latents: they live until this is disposed.</summary>
    /// <param name="timesteps">Noise levels, rising.</param>
    /// <param name="latents">The latent at each of them, (B, C, H, W).</param>
    public InversionTrajectory(IReadOnlyList<long> timesteps, IReadOnlyList<Tensor> latents)
    {
        (Timesteps, Latents) = (timesteps, latents);
        foreach (var latent in latents)
        {
            latent.DetachFromDisposeScope();
        }
    }

    /// <summary>The timesteps at whose noise level there is a latent, rising.</summary>
    public IReadOnlyList<long> Timesteps { get; }

    /// <summary>The latents there.</summary>
    public IReadOnlyList<Tensor> Latents { get; }

    /// <summary>The latent at the last and highest noise level: z_T, where the inversion went all the way.</summary>
    public Tensor Deepest => Latents[^1];

    /// <summary>The timestep nearest to <paramref name="t"/> and its latent; of two equally near ones the lower.</summary>
    public (long Timestep, Tensor Latent) Nearest(long t)
    {
        int index = NearestTimestep.IndexIn(Timesteps, t);
        return (Timesteps[index], Latents[index]);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var latent in Latents)
        {
            latent.Dispose();
        }
    }
}

/// <summary>The one rule for a sampler and an inversion whose timesteps differ.</summary>
public static class NearestTimestep
{
    /// <summary>The index of the timestep nearest to <paramref name="t"/>; of two equally near ones that of the lower.</summary>
    public static int IndexIn(IReadOnlyList<long> timesteps, long t)
    {
        int best = 0;
        for (int i = 1; i < timesteps.Count; i++)
        {
            long nearer = Math.Abs(timesteps[i] - t) - Math.Abs(timesteps[best] - t);
            if (nearer < 0 || (nearer == 0 && timesteps[i] < timesteps[best]))
            {
                best = i;
            }
        }

        return best;
    }
}
