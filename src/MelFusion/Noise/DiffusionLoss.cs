using static TorchSharp.torch;

namespace MelFusion.Noise;

/// <summary>How much each noise level counts in the loss.</summary>
public enum LossWeighting
{
    /// <summary>All alike (Eq. 7).</summary>
    None,

    /// <summary>min(snr, gamma) over snr for a noise target and over snr + 1 for a velocity target.</summary>
    MinSnr,

    /// <summary>min(snr, gamma) / snr for either target, as TANGO trains.</summary>
    MinSnrTango,
}

/// <summary>The training objective: Eq. 4 makes the noisy latent, Eq. 7 compares the prediction with its target.</summary>
/// <param name="schedule">The noise schedule, which also says what is predicted.</param>
/// <param name="weighting">How noise levels are weighted.</param>
/// <param name="gamma">Where min-SNR weighting cuts.</param>
public sealed class DiffusionLoss(NoiseSchedule schedule, LossWeighting weighting = LossWeighting.None, double gamma = 5)
{
    /// <summary>Eq. 4: z_t = sqrt(abar_t) z + sqrt(1 - abar_t) eps.</summary>
    /// <param name="clean">z (B, C, H, W).</param>
    /// <param name="noise">eps, standard normal, of the same shape.</param>
    /// <param name="timestep">t (B) of int64.</param>
    public Tensor Diffuse(Tensor clean, Tensor noise, Tensor timestep) => Compute(() => schedule.At(timestep, (int)clean.dim()).Diffuse(clean, noise));

    /// <summary>What the network is to predict: eps, or v = sqrt(abar_t) eps - sqrt(1 - abar_t) z.</summary>
    public Tensor Target(Tensor clean, Tensor noise, Tensor timestep) =>
        Compute(() => schedule.At(timestep, (int)clean.dim()).Target(schedule.Config.PredictionType, clean, noise).alias());

    /// <summary>Eq. 7 sample by sample, weighted: (B), in fp32.</summary>
    /// <param name="prediction">The network's output for <see cref="Diffuse"/>, of any precision.</param>
    /// <param name="clean">z.</param>
    /// <param name="noise">eps.</param>
    /// <param name="timestep">t (B).</param>
    public Tensor PerSample(Tensor prediction, Tensor clean, Tensor noise, Tensor timestep) => Compute(() =>
    {
        var error = (prediction.to(ScalarType.Float32) - Target(clean, noise, timestep)).square().flatten(1).mean([1]);
        return weighting == LossWeighting.None ? error : error * Weight(timestep);
    });

    /// <summary>The mean of <see cref="PerSample"/>: a scalar to differentiate.</summary>
    public Tensor Mean(Tensor prediction, Tensor clean, Tensor noise, Tensor timestep) =>
        Compute(() => PerSample(prediction, clean, noise, timestep).mean());

    /// <summary>The weight of each sample's noise level: (B).</summary>
    public Tensor Weight(Tensor timestep) => Compute(() =>
    {
        var snr = schedule.SignalToNoise(timestep);
        bool velocity = weighting == LossWeighting.MinSnr && schedule.Config.PredictionType == PredictionType.VPrediction;
        return weighting == LossWeighting.None ? ones_like(snr) : snr.clamp_max(gamma) / (velocity ? snr + 1 : snr);
    });

    private static Tensor Compute(Func<Tensor> formula)
    {
        using var scope = NewDisposeScope();
        return formula().MoveToOuterDisposeScope();
    }
}
