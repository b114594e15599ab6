namespace MelFusion.Noise;

/// <summary>What a denoising network's output means.</summary>
public enum PredictionType
{
    /// <summary>The noise eps.</summary>
    Epsilon,

    /// <summary>The velocity v = sqrt(abar) eps - sqrt(1 - abar) z.</summary>
    VPrediction,
}

/// <summary>How the noise variances beta grow from the first to the last.</summary>
public enum BetaSchedule
{
    /// <summary>Their square roots grow evenly.</summary>
    ScaledLinear,

    /// <summary>They grow evenly themselves.</summary>
    Linear,
}

/// <summary>How N sampling timesteps are laid over the training ones.</summary>
public enum TimestepSpacing
{
    /// <summary>Multiples of the whole step, from <see cref="NoiseScheduleConfig.StepsOffset"/> upwards; the noisiest timesteps may be left out.</summary>
    Leading,

    /// <summary>From the last timestep downwards in even steps.</summary>
    Trailing,

    /// <summary>Evenly from the first to the last, both included.</summary>
    Linspace,
}

/// <summary>The noise schedule of a model, as diffusers writes it to scheduler_config.json; defaults are Stable Diffusion's.</summary>
public sealed record NoiseScheduleConfig
{
    /// <summary>Timesteps T of the diffusion.</summary>
    public int NumTrainTimesteps { get; init; } = 1000;

    /// <summary>The first beta.</summary>
    public double BetaStart { get; init; } = 0.00085;

    /// <summary>The last beta.</summary>
    public double BetaEnd { get; init; } = 0.012;

    /// <summary>How beta grows between them.</summary>
    public BetaSchedule BetaSchedule { get; init; } = BetaSchedule.ScaledLinear;

    /// <summary>What the network predicts.</summary>
    public PredictionType PredictionType { get; init; } = PredictionType.Epsilon;

    /// <summary>How sampling timesteps are laid.</summary>
    public TimestepSpacing TimestepSpacing { get; init; } = TimestepSpacing.Leading;

    /// <summary>Added to every timestep under <see cref="TimestepSpacing.Leading"/>: 1 for Stable Diffusion, 0 for TANGO.</summary>
    public int StepsOffset { get; init; } = 1;

    /// <summary>Whether DDIM's last step ends at abar = 1 (true) or at the first timestep's abar (false).</summary>
    public bool SetAlphaToOne { get; init; }

    /// <summary>Whether DPM-Solver spaces its noise levels after Karras et al. (rho 7) and not by <see cref="TimestepSpacing"/>.</summary>
    public bool UseKarrasSigmas { get; init; }

    /// <summary>Whether predicted clean samples are clipped; only false is supported, as a latent has no fixed range.</summary>
    public bool ClipSample { get; init; }

    /// <summary>Whether betas are rescaled to end in pure noise; only false is supported.</summary>
    public bool RescaleBetasZeroSnr { get; init; }

    /// <summary>Refuses what cannot be computed.</summary>
    /// <exception cref="MelFusionException">With the reason.</exception>
    public void Validate()
    {
        string? wrong =
            NumTrainTimesteps is < 1 or > 100_000 ? $"num_train_timesteps is {NumTrainTimesteps} and must be 1 to 100000"
            : !(BetaStart > 0 && BetaEnd >= BetaStart && BetaEnd < 1) ? $"beta_start {BetaStart} and beta_end {BetaEnd} must rise and lie between 0 and 1"
            : StepsOffset is < 0 or > 1 ? $"steps_offset is {StepsOffset} and must be 0 or 1"
            : ClipSample ? "clip_sample is true, which belongs to diffusion over pixels and is not supported over latents"
            : RescaleBetasZeroSnr ? "rescale_betas_zero_snr is true, which is not supported"
            : null;
        if (wrong is not null)
        {
            throw new MelFusionException($"The noise schedule cannot be used: {wrong}.");
        }
    }
}
