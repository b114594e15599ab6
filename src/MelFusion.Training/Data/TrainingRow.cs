using System.Text.Json;

namespace MelFusion.Training.Data;

/// <summary>Which of a row's captions the music is made from.</summary>
public enum CaptionKind
{
    /// <summary>All that is known, game and scene too.</summary>
    All,

    /// <summary>What is heard alone: what is seen is left for the picture to say.</summary>
    Heard,
}

/// <summary>What training needs of a row of a split's table.jsonl; whatever else the row states is left alone.</summary>
public sealed record TrainingRow
{
    private static readonly JsonSerializerOptions Json = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower, RespectNullableAnnotations = true };

    /// <summary>The row's name, unique over all splits.</summary>
    public required string Id { get; init; }

    /// <summary>The clip's file, relative to the split's folder; null in a table of pictures alone.</summary>
    public string? Audio { get; init; }

    /// <summary>The pictures' files, relative to the split's folder.</summary>
    public IReadOnlyList<string> Images { get; init; } = [];

    /// <summary>Captions; one is drawn at random every time.</summary>
    public IReadOnlyList<string> Captions { get; init; } = [];

    /// <summary>Captions of what is heard alone; empty: the table has none.</summary>
    public IReadOnlyList<string> HeardCaptions { get; init; } = [];

    /// <summary>What is seen in the pictures, in plain words; may be empty.</summary>
    public string Words { get; init; } = string.Empty;

    /// <summary>The tune the clip was cut from; null: unknown.</summary>
    public string? Path { get; init; }

    /// <summary>The game the tune is from; null: unknown.</summary>
    public string? Game { get; init; }

    /// <summary>Reads a split's table.</summary>
    /// <param name="data">The data folder.</param>
    /// <param name="split">train, validation or test.</param>
    /// <exception cref="MelFusionException">There is no such table, it is empty, or a line of it is no such row.</exception>
    public static IReadOnlyList<TrainingRow> ReadTable(string data, string split)
    {
        string path = System.IO.Path.Combine(data, split, "table.jsonl");
        if (!File.Exists(path))
        {
            throw new MelFusionException($"{path} is missing: name a folder that 'melfusion data build' has written.");
        }

        var rows = File.ReadLines(path).Select((line, i) => (line, i)).Where(l => !string.IsNullOrWhiteSpace(l.line)).Select(l => Parse(l.line, path, l.i + 1)).ToList();
        return rows.Count > 0 ? rows : throw new MelFusionException($"{path} has no rows; build the data again.");
    }

    /// <summary>The captions of a kind, from rich to poor. Where a table keeps none of the music alone, its captions are taken to be that (as MeLBench's are).</summary>
    /// <param name="kind">Which.</param>
    public IReadOnlyList<string> CaptionsOf(CaptionKind kind) => kind == CaptionKind.Heard && HeardCaptions.Count > 0 ? HeardCaptions : Captions;

    /// <summary>What a clip is made of in the row's place: its first picture and its first caption of a kind, as far as it has them.</summary>
    /// <param name="folder">The split's folder.</param>
    /// <param name="kind">Which captions.</param>
    /// <exception cref="MelFusionException">Its name is no bare file name, or its picture is not there.</exception>
    public SetRow ToSetRow(string folder, CaptionKind kind) =>
        SetRow.FromTable(folder, Id, Images is [var picture, ..] ? picture : null, CaptionsOf(kind) is [var caption, ..] ? caption : null);

    private IEnumerable<string> Files => Audio is null ? Images : Images.Append(Audio);

    private static TrainingRow Parse(string line, string path, int number)
    {
        try
        {
            var row = JsonSerializer.Deserialize<TrainingRow>(line, Json) ?? throw new MelFusionException($"{path}: line {number} is null where a row must be.");
            return row.Files.All(InnerPath.IsInner)
                ? row
                : throw new MelFusionException($"{path}: line {number} names '{row.Files.First(name => !InnerPath.IsInner(name))}', which does not lie in the split's folder.");
        }
        catch (JsonException e)
        {
            throw new MelFusionException($"{path}: line {number} is no row of a data table.", e);
        }
    }
}
