namespace MelFusion.Weights;

/// <summary>
/// melfusion.json: what a model was trained and measured with. Where a request says nothing, this holds.
/// </summary>
public sealed record ModelDefaults
{
    /// <summary>The least depth of an inversion: the first of 1000 timesteps.</summary>
    public const double LeastInversionDepth = 0.001;

    /// <summary>The model's name.</summary>
    public string Name { get; init; } = "unnamed";

    /// <summary>The licence of the weights, for display.</summary>
    public string? Licence { get; init; }

    /// <summary>The sampler.</summary>
    public SamplerKind Sampler { get; init; } = SamplerKind.Ddim;

    /// <summary>Denoising steps.</summary>
    public int Steps { get; init; } = 25;

    /// <summary>Steps of the picture's inversion; null: as many as denoising steps.</summary>
    public int? InversionSteps { get; init; }

    /// <summary>How far a picture is inverted, as a share of its schedule, 0.001 to 1: 1 is to the noise, as in the paper. Noisier steps of the music read the picture at the deepest level reached.</summary>
    public double InversionDepth { get; init; } = 1;

    /// <summary>Classifier-free guidance scale; 1 or less is none.</summary>
    public double Guidance { get; init; } = 3;

    /// <summary>Share of guidance rescaling, 0 to 1.</summary>
    public double GuidanceRescale { get; init; }

    /// <summary>Which branch of the guidance sees the picture.</summary>
    public ImageGuidance ImageGuidance { get; init; } = ImageGuidance.Both;

    /// <summary>Where the picture's keys and values come from.</summary>
    public KeyValueSource KeyValueSource { get; init; } = KeyValueSource.Recorded;

    /// <summary>Rounds of spectral refinement after the vocoder; 0 is the paper's way.</summary>
    public int Refine { get; init; }

    /// <summary>Mel frames of a whole clip; with the mel's hop and rate they give its duration.</summary>
    public int MelFrames { get; init; } = 1024;

    /// <summary>Width in pixels at which pictures are read.</summary>
    public int PictureWidth { get; init; } = 512;

    /// <summary>Height in pixels at which pictures are read.</summary>
    public int PictureHeight { get; init; } = 512;

    /// <summary>Refuses what cannot be.</summary>
    /// <param name="path">The file, for the sentence.</param>
    /// <exception cref="MelFusionException">With the reason.</exception>
    public void Validate(string path)
    {
        string? wrong =
            Steps is < 1 or > 1000 ? "steps must be 1 to 1000"
            : InversionSteps is < 1 or > 1000 ? "inversion_steps must be 1 to 1000"
            : !(InversionDepth is >= LeastInversionDepth and <= 1) ? FormattableString.Invariant($"inversion_depth must be {LeastInversionDepth} to 1")
            : !(Guidance is >= 0 and <= 100) ? "guidance must be 0 to 100"
            : !(GuidanceRescale is >= 0 and <= 1) ? "guidance_rescale must be 0 to 1"
            : Refine is < 0 or > 100 ? "refine must be 0 to 100"
            : MelFrames is < 1 or > 65_536 ? "mel_frames must be 1 to 65536"
            : PictureWidth is < 8 or > 4096 || PictureHeight is < 8 or > 4096 ? "picture_width and picture_height must be 8 to 4096"
            : null;
        if (wrong is not null)
        {
            throw new MelFusionException($"{path}: {wrong}.");
        }
    }
}
