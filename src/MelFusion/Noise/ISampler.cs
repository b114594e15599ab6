using static TorchSharp.torch;

namespace MelFusion.Noise;

/// <summary>What a reverse step gives.</summary>
/// <param name="Latent">The latent one step less noisy.</param>
/// <param name="Clean">The clean latent which the prediction implied; DPM-Solver's next step wants it back.</param>
public readonly record struct Denoised(Tensor Latent, Tensor Clean);

/// <summary>
/// The reverse process in a fixed number of steps. A step is a pure function of the prediction, the latent and the place in the list
/// of timesteps; what a method remembers or draws is handed in. Latents are (B, C, H, W) in fp32, and so are predictions.
/// </summary>
public interface ISampler
{
    /// <summary>The timesteps visited, from noise to data.</summary>
    public IReadOnlyList<long> Timesteps { get; }

    /// <summary>Whether step <paramref name="index"/> takes fresh noise.</summary>
    public bool TakesNoise(int index);

    /// <summary>One step.</summary>
    /// <param name="prediction">The network's (guided) output at <see cref="Timesteps"/>[<paramref name="index"/>].</param>
    /// <param name="latent">The latent it was given.</param>
    /// <param name="index">The step, from 0.</param>
    /// <param name="lastClean"><see cref="Denoised.Clean"/> of the step before; null at the first.</param>
    /// <param name="noise">Standard normal, where <see cref="TakesNoise"/> says so.</param>
    public Denoised Denoise(Tensor prediction, Tensor latent, int index, Tensor? lastClean = null, Tensor? noise = null);
}

/// <summary>Makes the sampler of a request.</summary>
public static class Samplers
{
    /// <summary>A sampler of a kind over a schedule.</summary>
    /// <exception cref="MelFusionException">The schedule has no room for so many steps.</exception>
    public static ISampler Create(SamplerKind kind, NoiseSchedule schedule, int steps) => kind switch
    {
        SamplerKind.Ddim => new DdimStep(schedule, steps),
        SamplerKind.Ddpm => new DdpmStep(schedule, steps),
        _ => new DpmSolverStep(schedule, steps),
    };
}
