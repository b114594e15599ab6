using MelFusion.Image;
using MelFusion.Weights;

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
/// <remarks>The sentences about the properties are those that <c>melfusion generate --help</c> shows.</remarks>
public sealed record MusicRequest
{
    /// <summary>The longest text accepted, in characters.</summary>
    public const int LongestText = 2000;

    /// <summary>The most clips in one batch.</summary>
    public const int MostCandidates = 64;

    /// <summary>The largest seed: what every JSON reader keeps exactly.</summary>
    public const long LargestSeed = (1L << 53) - 1;

    /// <summary>The picture's file as bytes: PNG, JPEG, WebP, BMP or GIF. Null: text-to-music.</summary>
    public ReadOnlyMemory<byte>? Image { get; init; }

    /// <summary>Bare name of the picture's file, to be kept in the recipe; it decides nothing.</summary>
    public string? ImageName { get; init; }

    /// <summary>The size at which the picture is read, as WIDTHxHEIGHT (default: the model's).</summary>
    public PictureSize? PictureSize { get; init; }

    /// <summary>What the music should be like, in 2,000 characters at most; without it the picture speaks alone.</summary>
    public string? Prompt { get; init; }

    /// <summary>What to steer away from; takes the null text's place in the unconditional branch.</summary>
    public string? NegativePrompt { get; init; }

    /// <summary>Seconds of music, up to what the model was trained for (the default).</summary>
    public double? Duration { get; init; }

    /// <summary>Denoising steps, 1 to 1000 (default: the model's, 25).</summary>
    public int? Steps { get; init; }

    /// <summary>Classifier-free guidance, 0 to 100; 1 or less is none (default: the model's).</summary>
    public double? Guidance { get; init; }

    /// <summary>How the reverse process steps from noise to music (default: the model's).</summary>
    public SamplerKind? Sampler { get; init; }

    /// <summary>Steps of the picture's inversion, 1 to 1000 (default: as many as --steps, or the model's).</summary>
    public int? InversionSteps { get; init; }

    /// <summary>How far the picture is inverted, 0.001 to 1: 1 is to the noise, as in the paper; below, noisier steps of the music read the picture at the deepest level reached (default: the model's).</summary>
    public double? InversionDepth { get; init; }

    /// <summary>How much picture there is in the music, 0 to 1: 0 is text-to-music exactly, 1 (the default) as trained.</summary>
    public double ImageInfluence { get; init; } = 1;

    /// <summary>Which branch of the guidance sees the picture (default: as the model was measured).</summary>
    public ImageGuidance? ImageGuidance { get; init; }

    /// <summary>Where the picture's keys and values at a noise level come from: its denoising, the inversion's own calls, or further calls on the inversion's latents (default: the model's).</summary>
    public KeyValueSource? KeyValueSource { get; init; }

    /// <summary>The seed; the same seed gives the same music, and further candidates have those that follow. Drawn and printed if left out; 0 with --data.</summary>
    public required long Seed { get; init; }

    /// <summary>A seed for each candidate, where they do not follow one another from the first.</summary>
    public IReadOnlyList<long>? Seeds { get; init; }

    /// <summary>How many clips, 1 to 64, made in one batch of consecutive seeds; the files are numbered.</summary>
    public int Candidates { get; init; } = 1;

    /// <summary>How the mel becomes a waveform (default: hifigan, the model's neural vocoder).</summary>
    public VocoderKind Vocoder { get; init; }

    /// <summary>Rounds of spectral refinement of the waveform towards its mel, 0 to 100; 0 is the paper's way (default: the model's).</summary>
    public int? Refine { get; init; }

    /// <summary>Refuses what no model can do.</summary>
    /// <exception cref="MelFusionException">With the option and its range.</exception>
    public void Validate()
    {
        string? wrong =
            Image is null && Prompt is null ? "A picture or a text is needed."
            : Prompt is not null && string.IsNullOrWhiteSpace(Prompt) ? "The text is empty; leave it out to let the picture speak alone."
            : Prompt?.Length > LongestText || NegativePrompt?.Length > LongestText ? $"A text has more than {LongestText} characters; shorten it."
            : Image is { IsEmpty: true } ? "The picture's file is empty."
            : PictureSize is { IsUsable: false } size ? $"The picture's size is {size} and each side must be {MelFusion.Image.PictureSize.Least} to {MelFusion.Image.PictureSize.Most} pixels."
            : Duration is { } seconds && !(seconds > 0 && double.IsFinite(seconds)) ? "The duration must be above 0 seconds."
            : Steps is < 1 or > 1000 ? $"The number of steps is {Steps} and must be 1 to 1000."
            : InversionSteps is < 1 or > 1000 ? $"The number of inversion steps is {InversionSteps} and must be 1 to 1000."
            : InversionDepth is { } depth && !(depth is >= ModelDefaults.LeastInversionDepth and <= 1)
                ? FormattableString.Invariant($"The depth of the inversion must be {ModelDefaults.LeastInversionDepth} to 1.")
            : Guidance is { } scale && !(scale is >= 0 and <= 100) ? "The guidance must be 0 to 100."
            : !(ImageInfluence is >= 0 and <= 1) ? "The picture's influence must be 0 to 1."
            : Seed is < 0 or > LargestSeed ? $"The seed is {Seed} and must be 0 to {LargestSeed}."
            : Candidates is < 1 or > MostCandidates ? $"The number of candidates is {Candidates} and must be 1 to {MostCandidates}."
            : Seeds is { } seeds && (seeds.Count != Candidates || seeds.Where((seed, place) => seed < place || seed > LargestSeed).Any())
                ? $"There must be a seed for each of the {Candidates} candidates, no lower than its place and at most {LargestSeed}."
            : Refine is < 0 or > 100 ? $"The rounds of refinement are {Refine} and must be 0 to 100."
            : null;
        if (wrong is not null)
        {
            throw new MelFusionException(wrong);
        }
    }
}
