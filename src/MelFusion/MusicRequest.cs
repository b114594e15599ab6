namespace MelFusion;

/// <summary>Which branch of the guidance sees the picture.</summary>
public enum ImageGuidance
{
    /// <summary>Both branches: guidance amplifies the text alone.</summary>
    Both,

    /// <summary>The conditional branch only: guidance amplifies text and picture.</summary>
    Cond,
}

/// <summary>How the reverse process steps from noise to music.</summary>
public enum SamplerKind
{
    /// <summary>DDIM, eta 0.</summary>
    Ddim,

    /// <summary>DDPM, ancestral.</summary>
    Ddpm,

    /// <summary>DPM-Solver++ 2M.</summary>
    DpmSolver,
}

/// <summary>Where the picture's keys and values at a noise level come from.</summary>
public enum KeyValueSource
{
    /// <summary>The picture is denoised alongside (Algorithm 2 as printed).</summary>
    Replay,

    /// <summary>They are kept from the inversion's own calls: no further call of the image network.</summary>
    Recorded,

    /// <summary>The image network is called on the inversion's latent at that noise level.</summary>
    Trajectory,
}

/// <summary>How a mel becomes a waveform.</summary>
public enum VocoderKind
{
    /// <summary>The model's neural vocoder.</summary>
    HifiGan,

    /// <summary>Griffin-Lim, no network.</summary>
    GriffinLim,
}

/// <summary>What to make. Everything left null is taken from the model folder, which states what it was trained and measured with.</summary>
public sealed record MusicRequest
{
    /// <summary>The longest text accepted, in characters.</summary>
    public const int LongestText = 2000;

    /// <summary>The picture's file as bytes: PNG, JPEG, WebP, BMP or GIF. Null: text-to-music.</summary>
    public ReadOnlyMemory<byte>? Image { get; init; }

    /// <summary>What the music should be like. Null: the null text.</summary>
    public string? Prompt { get; init; }

    /// <summary>What to steer away from; takes the null text's place in the unconditional branch.</summary>
    public string? NegativePrompt { get; init; }

    /// <summary>Length in seconds; null: what the model was trained for.</summary>
    public double? Duration { get; init; }

    /// <summary>Denoising steps.</summary>
    public int? Steps { get; init; }

    /// <summary>Classifier-free guidance scale; 1 is none.</summary>
    public double? Guidance { get; init; }

    /// <summary>The sampler.</summary>
    public SamplerKind? Sampler { get; init; }

    /// <summary>Steps of the picture's inversion; null: as many as <see cref="Steps"/>.</summary>
    public int? InversionSteps { get; init; }

    /// <summary>How much picture there is in the music: every alpha is multiplied by it. 0 is text-to-music, 1 as trained.</summary>
    public double ImageInfluence { get; init; } = 1;

    /// <summary>Which branch of the guidance sees the picture.</summary>
    public ImageGuidance? ImageGuidance { get; init; }

    /// <summary>Where the picture's keys and values come from.</summary>
    public KeyValueSource? KeyValueSource { get; init; }

    /// <summary>The seed of the first candidate; candidate i has Seed + i.</summary>
    public required long Seed { get; init; }

    /// <summary>How many clips, made in one batch.</summary>
    public int Candidates { get; init; } = 1;

    /// <summary>How the mel becomes a waveform.</summary>
    public VocoderKind Vocoder { get; init; }

    /// <summary>Rounds of spectral refinement of the waveform towards its mel; 0 is the paper's way.</summary>
    public int? Refine { get; init; }
}
