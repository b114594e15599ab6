using System.Text.Json;

namespace MelFusion.Training.Data.Build;

/// <summary>The parts of the data: to learn from, to choose by, to measure with.</summary>
public enum DataSplit
{
    /// <summary>To learn from.</summary>
    Train,

    /// <summary>To choose by.</summary>
    Validation,

    /// <summary>To measure with, once.</summary>
    Test,
}

/// <summary>One row of a split's <c>table.jsonl</c>: a clip, its pictures and its captions. Paths are relative to the split's folder.</summary>
public sealed record OpenMelRow
{
    /// <summary>Name of the table in a split's folder.</summary>
    public const string TableName = "table.jsonl";

    internal static readonly JsonSerializerOptions Json = new(JsonSerializerDefaults.Web) { Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping, PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };

    /// <summary>The row's name, unique over all splits, safe as a file name.</summary>
    public required string Id { get; init; }

    /// <summary>The clip: <c>audio/ID.wav</c>, 16-bit mono.</summary>
    public required string Audio { get; init; }

    /// <summary>The pictures paired with it, <c>images/NAME.jpg</c>; never empty.</summary>
    public required IReadOnlyList<string> Images { get; init; }

    /// <summary>Captions from rich to poor; never empty.</summary>
    public required IReadOnlyList<string> Captions { get; init; }

    /// <summary>Captions of what is heard alone, from rich to poor; they name neither game nor scene.</summary>
    public IReadOnlyList<string> HeardCaptions { get; init; } = [];

    /// <summary>Tags of the music, the surest first; empty until a tagger has heard it.</summary>
    public IReadOnlyList<string> Tags { get; init; } = [];

    /// <summary>The game.</summary>
    public required string Game { get; init; }

    /// <summary>The part of the game: a campaign, a world, a soundtrack.</summary>
    public required string Album { get; init; }

    /// <summary>The scenes that play the track and show the pictures.</summary>
    public required IReadOnlyList<string> Scenes { get; init; }

    /// <summary>What is seen there, in plain words; may be empty.</summary>
    public string Words { get; init; } = "";

    /// <summary>Title of the track.</summary>
    public required string Title { get; init; }

    /// <summary>The licences that the package's copyright file names.</summary>
    public required string Licence { get; init; }

    /// <summary>The Debian package that the track comes from.</summary>
    public required string Package { get; init; }

    /// <summary>The track's path inside the package.</summary>
    public required string Path { get; init; }

    /// <summary>Where the clip begins in the track, in seconds.</summary>
    public required double Offset { get; init; }

    /// <summary>Sample rate of the track in Hz.</summary>
    public required int SourceRate { get; init; }

    /// <summary>Whether the track was made at a lower rate than the clips have, so that its highest band is empty.</summary>
    public bool LowRate { get; init; }

    /// <summary>Reads a split's table.</summary>
    /// <param name="splitFolder">The split's folder.</param>
    public static IReadOnlyList<OpenMelRow> ReadTable(string splitFolder) => [.. File.ReadLines(System.IO.Path.Combine(splitFolder, TableName))
        .Where(line => line.Length > 0)
        .Select(line => JsonSerializer.Deserialize<OpenMelRow>(line, Json)!)];

    /// <summary>Writes a split's table, beside and renamed.</summary>
    /// <param name="splitFolder">The split's folder.</param>
    /// <param name="rows">The rows.</param>
    public static void WriteTable(string splitFolder, IEnumerable<OpenMelRow> rows)
    {
        var target = System.IO.Path.Combine(splitFolder, TableName);
        File.WriteAllLines(target + ".part", rows.Select(row => JsonSerializer.Serialize(row, Json)));
        File.Move(target + ".part", target, overwrite: true);
    }
}
