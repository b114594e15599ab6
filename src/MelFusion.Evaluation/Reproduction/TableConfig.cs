using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using MelFusion.Weights;

namespace MelFusion.Evaluation.Reproduction;

/// <summary>Which picture a clip is made of.</summary>
public enum PictureUse
{
    /// <summary>Its own.</summary>
    Own,

    /// <summary>None: text-to-music.</summary>
    None,

    /// <summary>Another clip's: what the right picture is worth.</summary>
    Other,
}

/// <summary>A table of the paper: its rows, how each is made here, and the figures printed there.</summary>
public sealed record TableConfig
{
    private static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
        RespectNullableAnnotations = true,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.SnakeCaseLower, allowIntegerValues: false) },
    };

    /// <summary>What the table is about.</summary>
    public required string Title { get; init; }

    /// <summary>The split of the data whose clips are made and compared with.</summary>
    public string Split { get; init; } = "test";

    /// <summary>At most so many clips a row, spread evenly over the split.</summary>
    public int Clips { get; init; } = 64;

    /// <summary>How every row's clips are made, where the row states nothing else; the seed is the set's.</summary>
    public required MusicRequest Settings { get; init; }

    /// <summary>The figures, by the names of the command line.</summary>
    public IReadOnlyList<string> Metrics { get; init; } = ["fad", "kl", "fd"];

    /// <summary>Rounds of the bootstrap behind each interval.</summary>
    public int Rounds { get; init; } = 100;

    /// <summary>What becomes less in a quick run.</summary>
    public QuickConfig Quick { get; init; } = new();

    /// <summary>The rows.</summary>
    public required IReadOnlyList<PaperRow> Rows { get; init; }

    /// <summary>Reads a table's file over its bases; a row states only how its settings differ from the table's.</summary>
    /// <exception cref="MelFusionException">The file is missing, or states something impossible.</exception>
    public static TableConfig Read(string path)
    {
        var stated = LayeredConfig.Read(path);
        foreach (var row in (stated["rows"] as JsonArray ?? new JsonArray()).OfType<JsonObject>().Where(row => row["settings"] is null or JsonObject))
        {
            var settings = stated["settings"]?.DeepClone() as JsonObject ?? new JsonObject();
            LayeredConfig.Overlay(settings, row["settings"] as JsonObject ?? new JsonObject());
            row["settings"] = settings;
        }

        try
        {
            var table = stated.Deserialize<TableConfig>(Json)!;
            table.Validate();
            return table;
        }
        catch (Exception e) when (e is JsonException or MelFusionException)
        {
            throw new MelFusionException($"{path}: the table cannot be used: {e.Message.ReplaceLineEndings(" ").Split(". ")[0].TrimEnd('.')}.", e);
        }
    }

    private void Validate()
    {
        string? wrong =
            Rows.Count == 0 ? "it has no rows"
            : Rows.GroupBy(row => row.FolderName).FirstOrDefault(rows => rows.Count() > 1) is { } twice ? $"two rows have the folder '{twice.Key}'"
            : Rows.FirstOrDefault(row => row.FolderName.Length == 0) is { } unnamed ? $"the row's name '{unnamed.Name}' has no letter or digit"
            : Rows.FirstOrDefault(row => row.Sounds is { } sounds && !Recipe.IsBareName(sounds)) is { } sounded ? $"sounds of '{sounded.Name}' must be a folder's bare name"
            : Rows.FirstOrDefault(row => row.CaptionWords is { } words && !(words.Count == 2 && words[0] <= words[1])) is { } worded ? $"caption_words of '{worded.Name}' must be the least and the most"
            : Rows.FirstOrDefault(row => !row.Text && row.Picture == PictureUse.None) is { } bare ? $"'{bare.Name}' has neither text nor picture"
            : Metrics.FirstOrDefault(name => !EvaluationRequest.AllMetrics.Contains(name)) is { } unknown ? $"no metric is named '{unknown}'"
            : Clips < 2 || Quick.Clips < 2 ? "clips must be at least 2"
            : Rounds is < 0 or > 100_000 ? "rounds must be 0 to 100000"
            : null;
        if (wrong is not null)
        {
            throw new MelFusionException(wrong);
        }

        foreach (var row in Rows)
        {
            (row.Settings with { Prompt = "any" }).Validate();
        }
    }
}

/// <summary>What becomes less in a quick run, which ends in minutes and shows that everything works, not what is better.</summary>
public sealed record QuickConfig
{
    /// <summary>Clips a row.</summary>
    public int Clips { get; init; } = 3;

    /// <summary>Denoising steps where the row states none.</summary>
    public int Steps { get; init; } = 4;

    /// <summary>Stated steps are divided by this.</summary>
    public int StepsDivisor { get; init; } = 25;

    /// <summary>Rounds of spectral refinement.</summary>
    public int Refine { get; init; }

    /// <summary>A row's settings, made less.</summary>
    internal MusicRequest Of(MusicRequest settings) => settings with
    {
        Steps = settings.Steps is { } steps ? Math.Clamp(steps / Math.Max(1, StepsDivisor), 2, steps) : Steps,
        Refine = Refine,
    };
}

/// <summary>A row of a table.</summary>
public sealed record PaperRow
{
    /// <summary>As the paper names it, or what it is beyond the paper.</summary>
    public required string Name { get; init; }

    /// <summary>How its clips are made: the table's settings with what the row states.</summary>
    public required MusicRequest Settings { get; init; }

    /// <summary>Which picture.</summary>
    public PictureUse Picture { get; init; }

    /// <summary>Whether the caption is given.</summary>
    public bool Text { get; init; } = true;

    /// <summary>The least and the most words of the caption that is chosen; null: the first caption, the richest.</summary>
    public IReadOnlyList<int>? CaptionWords { get; init; }

    /// <summary>A trained variant's model folder; null: the model that is reproduced with.</summary>
    public string? Model { get; init; }

    /// <summary>The training config of the variant, from the table's folder; null: none.</summary>
    public string? Training { get; init; }

    /// <summary>Another system's clips: a folder, in the folder of systems; null: they are made here.</summary>
    public string? Sounds { get; init; }

    /// <summary>The paper's figures, by data set and figure; empty: the row goes beyond the paper.</summary>
    public IReadOnlyDictionary<string, IReadOnlyDictionary<string, double>> Paper { get; init; } = new Dictionary<string, IReadOnlyDictionary<string, double>>();

    /// <summary>What is other here than in the paper.</summary>
    public string Note { get; init; } = string.Empty;

    /// <summary>Its folder in the output: the name's letters and digits.</summary>
    [JsonIgnore]
    public string FolderName => string.Join('-', new string([.. Name.ToLowerInvariant().Select(c => char.IsAsciiLetterOrDigit(c) || c == '.' ? c : ' ')])
        .Split(' ', StringSplitOptions.RemoveEmptyEntries)).Trim('.', '-');
}
