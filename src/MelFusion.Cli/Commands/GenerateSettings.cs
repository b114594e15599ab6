using MelFusion.Image;
using MelFusion.Weights;

namespace MelFusion.Cli.Commands;

/// <summary>What <c>melfusion generate</c> was asked for. What is null, the model folder decides.</summary>
internal sealed record GenerateSettings
{
    /// <summary>The picture: a PNG, JPEG, WebP, BMP or GIF file; without one it is text-to-music.</summary>
    public string? Image { get; init; }

    /// <summary>What the music should be like, in 2,000 characters at most; without it the picture speaks alone.</summary>
    public string? Text { get; init; }

    /// <summary>What to steer away from.</summary>
    public string? Negative { get; init; }

    /// <summary>How much picture there is in the music, 0 to 1: 0 is text-to-music, 1 (the default) as trained.</summary>
    public double ImageInfluence { get; init; } = 1;

    /// <summary>The size at which the picture is read, as WIDTHxHEIGHT (default: the model's).</summary>
    public PictureSize? ImageSize { get; init; }

    /// <summary>Which branch of the guidance sees the picture (default: as the model was measured).</summary>
    public ImageGuidance? ImageGuidance { get; init; }

    /// <summary>The seed; the same seed gives the same music. Drawn and printed if left out.</summary>
    public long Seed { get; init; }

    /// <summary>Whether the seed was drawn.</summary>
    public bool SeedIsDrawn { get; init; }

    /// <summary>Denoising steps, 1 to 1000 (default: the model's, 25).</summary>
    public int? Steps { get; init; }

    /// <summary>Classifier-free guidance, 0 to 100; 1 or less is none (default: the model's).</summary>
    public double? Guidance { get; init; }

    /// <summary>How the reverse process steps from noise to music (default: the model's).</summary>
    public SamplerKind? Sampler { get; init; }

    /// <summary>Steps of the picture's inversion, 1 to 1000 (default: the model's).</summary>
    public int? InversionSteps { get; init; }

    /// <summary>How many clips, 1 to 64, made in one batch of consecutive seeds; the files are numbered.</summary>
    public int Candidates { get; init; } = 1;

    /// <summary>Seconds of music, up to what the model was trained for (the default).</summary>
    public double? Duration { get; init; }

    /// <summary>How the mel becomes a waveform (default: hifigan, the model's neural vocoder).</summary>
    public VocoderKind Vocoder { get; init; }

    /// <summary>Rounds of spectral refinement of the waveform towards its mel, 0 to 100; 0 is the paper's way (default: the model's).</summary>
    public int? Refine { get; init; }

    /// <summary>Precision of the large networks; auto (the default) is bf16 only where the processor has instructions for it.</summary>
    public Precision Precision { get; init; }

    /// <summary>Where the networks compute (default: cpu).</summary>
    public ComputeDevice Device { get; init; }

    /// <summary>Threads of libtorch, 1 to 256 (default: one per physical core).</summary>
    public int? Threads { get; init; }

    /// <summary>The model folder (default: models/melfusion-mini, from the program upward, then from here).</summary>
    public string? Model { get; init; }

    /// <summary>The WAV file to write: 16-bit mono at the model's rate, with its recipe inside.</summary>
    public required string Output { get; init; }

    /// <summary>Print one line of JSON for scripts on standard output; everything else goes to standard error.</summary>
    public bool Json { get; init; }

    /// <summary>Replace the output where it exists.</summary>
    public bool Overwrite { get; init; }

    /// <summary>The library's request.</summary>
    /// <param name="image">The picture's bytes, where there is one.</param>
    public MusicRequest ToRequest(byte[]? image) => new()
    {
        // Spelled out, as an array that is null would become an empty picture.
        Image = image is null ? default(ReadOnlyMemory<byte>?) : image,
        ImageName = Image is null ? null : Path.GetFileName(Image),
        PictureSize = ImageSize,
        Prompt = Text,
        NegativePrompt = Negative,
        Duration = Duration,
        Steps = Steps,
        Guidance = Guidance,
        Sampler = Sampler,
        InversionSteps = InversionSteps,
        ImageInfluence = ImageInfluence,
        ImageGuidance = ImageGuidance,
        Seed = Seed,
        Candidates = Candidates,
        Vocoder = Vocoder,
        Refine = Refine,
    };
}
