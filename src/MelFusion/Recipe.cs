using System.Text.Json;
using System.Text.Json.Serialization;

namespace MelFusion;

/// <summary>
/// Everything that decides a clip's samples, every default spelled out. The same recipe gives the same samples, bit for bit, on the same
/// machine. A picture is known by its hash; a name is only where a person may look for it, and never a path.
/// </summary>
public sealed record Recipe
{
    private static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.SnakeCaseLower, allowIntegerValues: false) },
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
        RespectNullableAnnotations = true,
        Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        MaxDepth = 8,
    };

    /// <summary>The text; null: the null text.</summary>
    public string? Prompt { get; init; }

    /// <summary>The text steered away from; null: the null text.</summary>
    public string? NegativePrompt { get; init; }

    /// <summary>Bare name of the picture's file, where it is known.</summary>
    public string? ImageName { get; init; }

    /// <summary>SHA-256 of the picture's file in lower-case hex; null: no picture.</summary>
    public string? ImageSha256 { get; init; }

    /// <summary>The model's name.</summary>
    public string Model { get; init; } = string.Empty;

    /// <summary>SHA-256 over the model folder's parts, in lower-case hex.</summary>
    public string WeightsSha256 { get; init; } = string.Empty;

    /// <summary>Seed of the first clip of the batch; this clip's own is <see cref="Seed"/> + <see cref="Candidate"/>.</summary>
    public long Seed { get; init; }

    /// <summary>Place of this clip in its batch, from 0.</summary>
    public int Candidate { get; init; }

    /// <summary>Clips in the batch, which decides the last bits.</summary>
    public int Candidates { get; init; } = 1;

    /// <summary>The duration asked for in seconds; null: the model's own.</summary>
    public double? Duration { get; init; }

    /// <summary>The sampler.</summary>
    public SamplerKind Sampler { get; init; }

    /// <summary>Denoising steps.</summary>
    public int Steps { get; init; }

    /// <summary>Guidance scale.</summary>
    public double Guidance { get; init; }

    /// <summary>Share of guidance rescaling.</summary>
    public double GuidanceRescale { get; init; }

    /// <summary>Steps of the picture's inversion.</summary>
    public int InversionSteps { get; init; }

    /// <summary>How much picture; 0 also where there is none.</summary>
    public double ImageInfluence { get; init; }

    /// <summary>Which branch of the guidance sees the picture.</summary>
    public ImageGuidance ImageGuidance { get; init; }

    /// <summary>Where the picture's keys and values come from.</summary>
    public KeyValueSource KeyValueSource { get; init; }

    /// <summary>How the mel becomes a waveform.</summary>
    public VocoderKind Vocoder { get; init; }

    /// <summary>Rounds of spectral refinement.</summary>
    public int Refine { get; init; }

    /// <summary>Precision of both UNets: "fp32" or "bf16".</summary>
    public string Precision { get; init; } = string.Empty;

    /// <summary>"cpu" or "cuda".</summary>
    public string Device { get; init; } = string.Empty;

    /// <summary>Threads of libtorch.</summary>
    public int Threads { get; init; }

    /// <summary>The rule by which kernels are chosen.</summary>
    public string Kernels { get; init; } = string.Empty;

    /// <summary>Processor features that arithmetic depends on.</summary>
    public string Processor { get; init; } = string.Empty;

    /// <summary>Version of this library.</summary>
    public string Version { get; init; } = string.Empty;

    /// <summary>Version of TorchSharp, which fixes that of libtorch.</summary>
    public string TorchSharp { get; init; } = string.Empty;

    /// <summary>One line of JSON.</summary>
    public string ToJson() => JsonSerializer.Serialize(this, Json);

    /// <summary>Reads what <see cref="ToJson"/> wrote.</summary>
    /// <exception cref="MelFusionException">It is no recipe.</exception>
    public static Recipe FromJson(string json)
    {
        try
        {
            return JsonSerializer.Deserialize<Recipe>(json, Json) ?? throw new MelFusionException("The recipe says null and nothing else.");
        }
        catch (JsonException e)
        {
            throw new MelFusionException($"The recipe is not readable: '{e.Path}' holds something else than a recipe does.", e);
        }
    }
}
