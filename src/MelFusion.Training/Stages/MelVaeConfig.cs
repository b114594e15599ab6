namespace MelFusion.Training.Stages;

/// <summary>Settings of the mel autoencoder's stage.</summary>
public sealed record MelVaeConfig
{
    /// <summary>Frames of a training crop, a multiple of the autoencoder's factor: 256 frames are 3 s.</summary>
    public int CropFrames { get; init; } = 256;
}
