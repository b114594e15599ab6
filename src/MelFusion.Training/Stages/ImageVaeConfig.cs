using MelFusion.Vae;

namespace MelFusion.Training.Stages;

/// <summary>Settings of the picture autoencoder's stage.</summary>
public sealed record ImageVaeConfig : AutoencoderLossConfig
{
    /// <summary>A small autoencoder's defaults: latents nearly free and certain from the start, edges as for mels.</summary>
    public ImageVaeConfig() => (KlWeight, InitialLogVariance) = (1e-6, -6);

    /// <summary>The network.</summary>
    public AutoencoderKlConfig Network { get; init; } = new AutoencoderKlConfig
    {
        BlockOutChannels = [32, 64, 96, 128],
        LayersPerBlock = 1,
        NormNumGroups = 8,
        MidBlockAddAttention = false,
    };

    /// <summary>Side of the pictures in pixels.</summary>
    public int Side { get; init; } = 256;

    /// <summary>Side of a training crop, a multiple of the autoencoder's factor.</summary>
    public int CropSide { get; init; } = 128;

    /// <summary>
    /// Weight of the L1 between the opponent colours, red - green and blue - yellow, of pictures made four times smaller: without it small
    /// networks stay at grey.
    /// </summary>
    public double ColourWeight { get; init; } = 2;

    /// <summary>Weight of the L1 between pictures made eight times smaller.</summary>
    public double CoarseWeight { get; init; } = 1;

    /// <summary>Pictures of the validation split that are measured.</summary>
    public int ValidationPictures { get; init; } = 32;
}
