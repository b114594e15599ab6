using System.Reflection;
using System.Text.Json;
using System.Text.Json.Serialization;
using MelFusion.Image;
using MelFusion.Weights;
using TorchSharp;

namespace MelFusion;

/// <summary>
/// Everything that decides a clip's samples, every default spelled out. The same recipe gives the same samples, bit for bit, on the same
/// machine. A picture is known by its hash; a name is only where a person may look for it, and never a path.
/// </summary>
public sealed record Recipe
{
    /// <summary>The version of this record; another one is refused.</summary>
    public const int CurrentFormat = 1;

    /// <summary>The rule by which kernels are chosen where weights are not packed: libtorch's own, every time.</summary>
    public const string KernelRule = "libtorch";

    /// <summary>The rule of this version where weights are packed (<see cref="ModuleWeights.PackForInference"/>): oneDNN's kernels for every network.</summary>
    public const string PackedKernelRule = "packed-2";

    /// <summary>The most threads a recipe may ask for.</summary>
    public const int MostThreads = 256;

    private const int LongestJson = 1 << 16;
    private const int LongestName = 255;

    private static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.SnakeCaseLower, allowIntegerValues: false) },
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
        RespectNullableAnnotations = true,
        AllowDuplicateProperties = false,
        Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        MaxDepth = 8,
    };

    /// <summary>The version of this record.</summary>
    [JsonRequired]
    public int Format { get; init; } = CurrentFormat;

    /// <summary>The text; null: the null text.</summary>
    public string? Prompt { get; init; }

    /// <summary>The text steered away from; null: the null text.</summary>
    public string? NegativePrompt { get; init; }

    /// <summary>Bare name of the picture's file, where it is known.</summary>
    public string? ImageName { get; init; }

    /// <summary>SHA-256 of the picture's file in lower-case hex; null: no picture.</summary>
    public string? ImageSha256 { get; init; }

    /// <summary>The size at which the picture was read; null: no picture.</summary>
    public PictureSize? PictureSize { get; init; }

    /// <summary>The model's name.</summary>
    public string Model { get; init; } = string.Empty;

    /// <summary>SHA-256 over the model folder's parts, in lower-case hex.</summary>
    [JsonRequired]
    public string WeightsSha256 { get; init; } = string.Empty;

    /// <summary>Seed of the first clip of the batch; this clip's own is <see cref="Seed"/> + <see cref="Candidate"/>.</summary>
    [JsonRequired]
    public long Seed { get; init; }

    /// <summary>Place of this clip in its batch, from 0.</summary>
    [JsonRequired]
    public int Candidate { get; init; }

    /// <summary>Clips in the batch, which decides the last bits.</summary>
    [JsonRequired]
    public int Candidates { get; init; } = 1;

    /// <summary>The duration asked for in seconds; null: the model's own.</summary>
    public double? Duration { get; init; }

    /// <summary>The sampler.</summary>
    [JsonRequired]
    public SamplerKind Sampler { get; init; }

    /// <summary>Denoising steps.</summary>
    [JsonRequired]
    public int Steps { get; init; }

    /// <summary>Guidance scale.</summary>
    [JsonRequired]
    public double Guidance { get; init; }

    /// <summary>Share of guidance rescaling.</summary>
    [JsonRequired]
    public double GuidanceRescale { get; init; }

    /// <summary>Steps of the picture's inversion.</summary>
    [JsonRequired]
    public int InversionSteps { get; init; }

    /// <summary>How far the picture was inverted, as a share of the schedule. Recipes that do not say it went to the noise.</summary>
    public double InversionDepth { get; init; } = 1;

    /// <summary>How much picture; 0 also where there is none.</summary>
    [JsonRequired]
    public double ImageInfluence { get; init; }

    /// <summary>Which branch of the guidance sees the picture.</summary>
    [JsonRequired]
    public ImageGuidance ImageGuidance { get; init; }

    /// <summary>Where the picture's keys and values come from.</summary>
    [JsonRequired]
    public KeyValueSource KeyValueSource { get; init; }

    /// <summary>How the mel becomes a waveform.</summary>
    [JsonRequired]
    public VocoderKind Vocoder { get; init; }

    /// <summary>Rounds of spectral refinement.</summary>
    [JsonRequired]
    public int Refine { get; init; }

    /// <summary>Precision of both UNets: "fp32" or "bf16".</summary>
    [JsonRequired]
    public string Precision { get; init; } = string.Empty;

    /// <summary>"cpu" or "cuda".</summary>
    [JsonRequired]
    public string Device { get; init; } = string.Empty;

    /// <summary>Threads of libtorch.</summary>
    [JsonRequired]
    public int Threads { get; init; }

    /// <summary>The rule by which kernels are chosen.</summary>
    public string Kernels { get; init; } = string.Empty;

    /// <summary>Processor features that arithmetic depends on.</summary>
    public string Processor { get; init; } = string.Empty;

    /// <summary>Version of this library.</summary>
    public string Version { get; init; } = string.Empty;

    /// <summary>Version of TorchSharp.</summary>
    public string TorchSharp { get; init; } = string.Empty;

    /// <summary>Version of libtorch.</summary>
    public string Libtorch { get; init; } = string.Empty;

    /// <summary>This library's version, as recipes state it.</summary>
    public static string LibraryVersion { get; } = VersionOf(typeof(Recipe));

    /// <summary>The same recipe with the threads, the kernel rule, the processor and the versions of this process.</summary>
    public Recipe OnThisMachine() => this with
    {
        Threads = torch.get_num_threads(),
        Kernels = Device == "cpu" && LibTorchC.HasPackedWeights ? PackedKernelRule : KernelRule,
        Processor = Weights.Processor.Features,
        Version = LibraryVersion,
        TorchSharp = VersionOf(typeof(torch)),
        Libtorch = torch.__version__,
    };

    /// <summary>The request that makes the whole batch again.</summary>
    /// <param name="image">The picture's file, where the recipe has one.</param>
    public MusicRequest ToRequest(byte[]? image) => new()
    {
        // Spelled out, as an array that is null would become an empty picture.
        Image = image is null ? default(ReadOnlyMemory<byte>?) : image,
        ImageName = ImageName,
        PictureSize = PictureSize,
        Prompt = Prompt,
        NegativePrompt = NegativePrompt,
        Duration = Duration,
        Steps = Steps,
        Guidance = Guidance,
        Sampler = Sampler,
        InversionSteps = InversionSteps,
        InversionDepth = InversionDepth,
        ImageInfluence = ImageInfluence,
        ImageGuidance = ImageGuidance,
        KeyValueSource = KeyValueSource,
        Seed = Seed,
        Seeds = [.. Enumerable.Range(0, Candidates).Select(place => Seed + place)],
        Candidates = Candidates,
        Vocoder = Vocoder,
        Refine = Refine,
    };

    /// <summary>The fields in which <paramref name="other"/> differs, by their names in JSON and with both values.</summary>
    public IReadOnlyList<RecipeDifference> DifferencesFrom(Recipe other)
    {
        ArgumentNullException.ThrowIfNull(other);
        var (mine, theirs) = (JsonSerializer.SerializeToNode(this, Json)!.AsObject(), JsonSerializer.SerializeToNode(other, Json)!.AsObject());
        return [.. mine.Select(field => field.Key).Union(theirs.Select(field => field.Key))
            .Select(name => new RecipeDifference(name, mine[name]?.ToJsonString(Json) ?? "nothing", theirs[name]?.ToJsonString(Json) ?? "nothing"))
            .Where(field => field.Here != field.There)];
    }

    /// <summary>One line of JSON.</summary>
    public string ToJson() => JsonSerializer.Serialize(this, Json);

    /// <summary>Reads what <see cref="ToJson"/> wrote, and trusts none of it: types, sizes and ranges are checked.</summary>
    /// <param name="json">The text.</param>
    /// <param name="name">What to call its origin in an error.</param>
    /// <exception cref="MelFusionException">It is no recipe, or states something impossible.</exception>
    public static Recipe FromJson(string json, string name = "recipe")
    {
        ArgumentNullException.ThrowIfNull(json);
        try
        {
            if (json.Length > LongestJson)
            {
                throw new MelFusionException("it is far longer than a recipe");
            }

            var recipe = JsonSerializer.Deserialize<Recipe>(json, Json) ?? throw new MelFusionException("it says null and nothing else");
            recipe.Validate();
            return recipe;
        }
        catch (JsonException e)
        {
            string wrong = e.Path is { Length: > 2 } path && path.StartsWith("$.", StringComparison.Ordinal) && IsPlain(path) && path.Length < 60
                ? $"its field '{path[2..]}' holds something else than a recipe's does"
                : "it is not a recipe's JSON, or lacks some of a recipe's fields";
            throw Refuse(name, wrong, e);
        }
        catch (MelFusionException e)
        {
            throw Refuse(name, e.Message.TrimEnd('.'), e);
        }
    }

    /// <summary>Whether a name is a file's bare name: no folder, no drive, no control character.</summary>
    internal static bool IsBareName(string name) =>
        name.Length is > 0 and <= LongestName && name is not ("." or "..") && name.IndexOfAny(['/', '\\']) < 0
        && IsPlain(name) && Path.GetFileName(name) == name;

    private void Validate()
    {
        string? wrong =
            Format != CurrentFormat ? $"its format is {Format} and this version of MelFusion knows format {CurrentFormat}"
            : ImageName is not null && !IsBareName(ImageName) ? "its image_name is no bare file name, and paths are not followed"
            : ImageName is not null && ImageSha256 is null ? "it names a picture without its hash"
            : ImageSha256 is not null && !IsSha256(ImageSha256) ? "its image_sha256 is no SHA-256 in lower-case hex"
            : !IsSha256(WeightsSha256) ? "its weights_sha256 is no SHA-256 in lower-case hex"
            : Candidates is < 1 or > MusicRequest.MostCandidates ? $"its candidates are {Candidates} and must be 1 to {MusicRequest.MostCandidates}"
            : Candidate < 0 || Candidate >= Candidates ? $"its candidate is {Candidate} and must be 0 to {Candidates - 1}"
            : Seed is < 0 or > MusicRequest.LargestSeed ? $"its seed is {Seed} and must be 0 to {MusicRequest.LargestSeed}"
            : !(GuidanceRescale is >= 0 and <= 1) ? "its guidance_rescale must be 0 to 1"
            : Precision is not ("fp32" or "bf16") ? "its precision must be fp32 or bf16"
            : Device is not ("cpu" or "cuda") ? "its device must be cpu or cuda"
            : Threads is < 1 or > MostThreads ? $"its threads are {Threads} and must be 1 to {MostThreads}"
            : Array.Exists([Model, Kernels, Processor, Version, TorchSharp, Libtorch], text => text.Length > LongestName || !IsPlain(text))
                ? "one of its names and versions is too long or holds control characters"
            : null;
        if (wrong is not null)
        {
            throw new MelFusionException(wrong);
        }

        ToRequest(ImageSha256 is null ? null : new byte[1]).Validate();
    }

    private static MelFusionException Refuse(string name, string wrong, Exception cause) =>
        new($"{name}: the recipe cannot be used: {wrong}.", cause);

    private static bool IsSha256(string text) => text.Length == 64 && text.All(c => c is (>= '0' and <= '9') or (>= 'a' and <= 'f'));

    private static bool IsPlain(string text) => !text.Any(char.IsControl);

    private static string VersionOf(Type type) =>
        type.Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion.Split('+')[0]
        ?? type.Assembly.GetName().Version?.ToString() ?? string.Empty;
}

/// <summary>A field in which two recipes differ.</summary>
/// <param name="Name">Its name in JSON.</param>
/// <param name="Here">Its value in the one, as JSON.</param>
/// <param name="There">Its value in the other, as JSON.</param>
public sealed record RecipeDifference(string Name, string Here, string There);
