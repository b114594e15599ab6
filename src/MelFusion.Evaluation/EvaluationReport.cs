using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;
using MelFusion.Evaluation.Embeddings;

namespace MelFusion.Evaluation;

/// <summary>A figure with its 95 % interval, or the reason why there is none.</summary>
/// <param name="Value">The figure; null where it cannot be computed.</param>
/// <param name="Low">The lower end of the interval; null where there is none.</param>
/// <param name="High">The upper end.</param>
/// <param name="Bias">The mean over redrawn clips minus the figure.</param>
/// <param name="Reason">Why there is no figure.</param>
/// <param name="Warning">What to bear in mind.</param>
/// <param name="Parts">Figures that belong to it, such as its chance level and its control; null where there are none.</param>
public sealed record MetricValue(
    double? Value, double? Low = null, double? High = null,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] double? Bias = null,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] string? Reason = null,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] string? Warning = null,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] IReadOnlyDictionary<string, double>? Parts = null)
{
    /// <summary>No figure, for a reason.</summary>
    public static MetricValue None(string reason) => new(null, Reason: reason);
}

/// <summary>Everything that decides the figures: reports with unlike passports cannot be compared.</summary>
public sealed record Passport
{
    /// <summary>The embedding network.</summary>
    public string Evaluator { get; init; } = string.Empty;

    /// <summary>SHA-256 of its weights.</summary>
    public string WeightsSha256 { get; init; } = string.Empty;

    /// <summary>The rate at which it hears, in Hz.</summary>
    public int SampleRate { get; init; }

    /// <summary>How other rates become that one.</summary>
    public string Resampler { get; init; } = "windowed sinc of torchaudio's kind (6 zero crossings, roll-off 0.99), after averaging channels";

    /// <summary>How a clip is prepared.</summary>
    public string Rule { get; init; } = string.Empty;

    /// <summary>Of a longer file, so many seconds from its beginning count.</summary>
    public double LongestSeconds { get; init; }

    /// <summary>SHA-256 over names and contents of the reference clips that count.</summary>
    public string ClipListSha256 { get; init; } = string.Empty;

    /// <summary>Reference clips that count.</summary>
    public int ReferenceCount { get; init; }

    /// <summary>Generated clips that count.</summary>
    public int GeneratedCount { get; init; }

    /// <summary>Pairs of equal names.</summary>
    public int PairCount { get; init; }

    /// <summary>Names of reference clips without a generated one.</summary>
    public IReadOnlyList<string> MissingIds { get; init; } = [];

    /// <summary>Names of generated clips without a reference.</summary>
    public IReadOnlyList<string> UnpairedIds { get; init; } = [];

    /// <summary>Shortest and longest reference clip in seconds.</summary>
    public IReadOnlyList<double> ReferenceSeconds { get; init; } = [];

    /// <summary>Shortest and longest generated clip in seconds.</summary>
    public IReadOnlyList<double> GeneratedSeconds { get; init; } = [];

    /// <summary>Of how many candidates each generated clip was chosen.</summary>
    public int BestOfN { get; init; } = 1;

    /// <summary>Seed of redraws, shuffles and noise.</summary>
    public int Seed { get; init; }

    /// <summary>Rounds of the bootstrap.</summary>
    public int BootstrapRounds { get; init; }

    /// <summary>SHA-256 of the weights of other networks that figures needed, by name.</summary>
    public IReadOnlyDictionary<string, string> Networks { get; init; } = new Dictionary<string, string>();

    /// <summary>SHA-256 over names, captions and pictures of the triplets that figures needed; empty: none.</summary>
    public string TripletsSha256 { get; init; } = string.Empty;

    /// <summary>Version of the program that computed the figures.</summary>
    public string Version { get; init; } = typeof(Passport).Assembly.GetName().Version?.ToString(3) ?? string.Empty;
}

/// <summary>What an evaluation found: report.json.</summary>
public sealed record EvaluationReport
{
    private const int LongestShown = 100;

    internal static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower, WriteIndented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals, RespectNullableAnnotations = true,
    };

    internal static readonly JsonSerializerOptions OnOneLine = new(Json) { WriteIndented = false };

    /// <summary>What decides the figures.</summary>
    public required Passport Passport { get; init; }

    /// <summary>The figures by name.</summary>
    public required IReadOnlyDictionary<string, MetricValue> Metrics { get; init; }

    /// <summary>The same figures of things whose worth is known: silence, noise, shuffled pairs, halves of the reference, reconstruction.</summary>
    public required IReadOnlyDictionary<string, IReadOnlyDictionary<string, double?>?> Controls { get; init; }

    /// <summary>Files that do not count, each with its reason.</summary>
    public required IReadOnlyList<SkippedFile> Skipped { get; init; }

    /// <summary>As JSON.</summary>
    public string ToJson() => JsonSerializer.Serialize(this, Json);

    /// <summary>As JSON on one line.</summary>
    public string ToLine() => JsonSerializer.Serialize(this, OnOneLine);

    /// <summary>Reads a report.json.</summary>
    /// <exception cref="MelFusionException">It is missing or no report.</exception>
    public static EvaluationReport Read(string path)
    {
        try
        {
            return JsonSerializer.Deserialize<EvaluationReport>(File.ReadAllBytes(path), Json)
                ?? throw new MelFusionException($"{path}: this is no evaluation report.");
        }
        catch (JsonException e)
        {
            throw new MelFusionException($"{path}: this is no evaluation report: {e.Message.ReplaceLineEndings(" ")}", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new MelFusionException($"{path}: the report cannot be read: {e.Message.ReplaceLineEndings(" ")}", e);
        }
    }

    /// <summary>What differs between two passports that must agree for their figures to be compared; empty where they may be.</summary>
    public static IReadOnlyList<string> Differences(Passport a, Passport b)
    {
        (string Field, object A, object B)[] fields =
        [
            ("evaluator", a.Evaluator, b.Evaluator), ("weights_sha256", a.WeightsSha256, b.WeightsSha256), ("sample_rate", a.SampleRate, b.SampleRate),
            ("resampler", a.Resampler, b.Resampler), ("rule", a.Rule, b.Rule), ("longest_seconds", a.LongestSeconds, b.LongestSeconds),
            ("clip_list_sha256", a.ClipListSha256, b.ClipListSha256), ("reference_count", a.ReferenceCount, b.ReferenceCount),
            ("generated_count", a.GeneratedCount, b.GeneratedCount), ("pair_count", a.PairCount, b.PairCount),
            ("missing_ids", string.Join(' ', a.MissingIds), string.Join(' ', b.MissingIds)), ("best_of_n", a.BestOfN, b.BestOfN),
            ("networks", string.Join(' ', a.Networks), string.Join(' ', b.Networks)), ("triplets_sha256", a.TripletsSha256, b.TripletsSha256),
            ("version", a.Version, b.Version),
        ];
        return [.. fields.Where(field => !field.A.Equals(field.B)).Select(field => $"{field.Field}: {Shown(field.A)} and {Shown(field.B)}")];
    }

    // A list of names may be as long as a data set.
    private static string Shown(object value) => FormattableString.Invariant($"{value}") is { Length: > LongestShown } text ? text[..LongestShown] + "..." : FormattableString.Invariant($"{value}");
}
