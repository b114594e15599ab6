namespace MelFusion;

/// <summary>What a generation is doing.</summary>
public enum GenerationStage
{
    /// <summary>Decoding the picture and encoding it into the image model's latent.</summary>
    ReadingPicture,

    /// <summary>DDIM inversion of the picture's latent.</summary>
    InvertingPicture,

    /// <summary>Denoising the music's latent.</summary>
    Denoising,

    /// <summary>From latent to mel to waveform.</summary>
    Decoding,
}

/// <summary>Plain data about a running generation.</summary>
/// <param name="Stage">What is being done.</param>
/// <param name="Step">Steps of this stage that are done, 0 to <paramref name="StepCount"/>.</param>
/// <param name="StepCount">Steps of this stage.</param>
/// <param name="Remaining">An estimate of the time left for the whole generation; null until there is one.</param>
public sealed record GenerationProgress(GenerationStage Stage, int Step, int StepCount, TimeSpan? Remaining);
