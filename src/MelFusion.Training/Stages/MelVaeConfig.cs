using MelFusion.Vae;
using MelFusion.Wave;

namespace MelFusion.Training.Stages;

/// <summary>What an autoencoder's loss is made of.</summary>
public record AutoencoderLossConfig
{
    /// <summary>Weight of the Kullback-Leibler divergence from the standard normal, averaged over the latent's elements.</summary>
    public double KlWeight { get; init; } = 1e-3;

    /// <summary>Weight of the L1 between neighbours' differences along both axes: edges stay sharp.</summary>
    public double DifferenceWeight { get; init; } = 0.2;

    /// <summary>The log variance that latents begin with; 0 drowns an untrained latent in noise.</summary>
    public double InitialLogVariance { get; init; } = -4;
}

/// <summary>Settings of the mel autoencoder's stage.</summary>
public sealed record MelVaeConfig : AutoencoderLossConfig
{
    /// <summary>The network.</summary>
    public AutoencoderKlConfig Network { get; init; } = new AutoencoderKlConfig
    {
        InChannels = 1,
        OutChannels = 1,
        BlockOutChannels = [32, 64, 128],
        LayersPerBlock = 1,
        LatentChannels = 8,
        NormNumGroups = 8,
    };

    /// <summary>The front end, with the mean and deviation that mels are normalised by before the network.</summary>
    public MelConfig Mel { get; init; } = MelConfig.HifiGanUniversal with { Mean = -5, Deviation = 2.5 };

    /// <summary>Frames of a whole clip.</summary>
    public int MelFrames { get; init; } = 896;

    /// <summary>Frames of a training crop, a multiple of the autoencoder's factor: 256 frames are 3 s.</summary>
    public int CropFrames { get; init; } = 256;

    /// <summary>Clips of the validation split that are measured.</summary>
    public int ValidationClips { get; init; } = 50;
}
