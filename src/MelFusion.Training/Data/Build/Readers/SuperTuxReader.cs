using System.Text.RegularExpressions;

namespace MelFusion.Training.Data.Build.Readers;

/// <summary>SuperTux: every sector of a level names its music and the pictures behind it.</summary>
public sealed partial class SuperTuxReader : IGameReader
{
    private const string Root = "usr/share/games/supertux2";

    /// <inheritdoc/>
    public IReadOnlyList<string> Packages { get; } = ["supertux-data"];

    /// <inheritdoc/>
    public IEnumerable<GameScene> Read(GameTrees trees)
    {
        var files = trees.Files(Root);
        var pictures = files.Where(file => MediaFile.IsPicture(file) && file.Contains("/images/background/", StringComparison.Ordinal))
            .GroupBy(file => Path.GetFileName(file), StringComparer.Ordinal).ToDictionary(group => group.Key, group => group.First(), StringComparer.Ordinal);
        var music = files.Where(MediaFile.IsMusic).Where(file => file.Contains("/music/", StringComparison.Ordinal))
            .GroupBy(Bare, StringComparer.Ordinal).ToDictionary(group => group.Key, group => group.First(), StringComparer.Ordinal);
        foreach (var level in files.Where(file => Path.GetExtension(file) is ".stl" or ".stwm"))
        {
            var text = File.ReadAllText(level);
            var name = LevelName().Match(text) is { Success: true } match ? match.Groups[1].Value : PlainWords.FromName(level);
            foreach (var sector in text.Split("(sector").Skip(1).DefaultIfEmpty(text))
            {
                var tracks = Music().Matches(sector).Select(found => music.GetValueOrDefault(Bare(found.Groups[1].Value))).OfType<string>().Distinct(StringComparer.Ordinal)
                    .Select(file => new SceneTrack(file, PlainWords.FromName(file), file)).ToList();
                var seen = Background().Matches(sector).Select(found => pictures.GetValueOrDefault(Path.GetFileName(found.Groups[1].Value))).OfType<string>().Distinct(StringComparer.Ordinal).ToList();
                if (tracks.Count > 0 && seen.Count > 0)
                {
                    yield return new GameScene("SuperTux", PlainWords.FromName(Path.GetFileName(Path.GetDirectoryName(level)!)), name, $"{PlainWords.FromName(seen[0])}, cartoon background", tracks, [.. seen.Select(file => new ScenePicture(file))]);
                }
            }
        }
    }

    private static string Bare(string name) => Path.GetFileNameWithoutExtension(name);

    [GeneratedRegex(@"\(name\s+(?:\(_\s+)?""([^""]+)""")]
    private static partial Regex LevelName();

    [GeneratedRegex(@"\((?:file|music)\s+""([^""]*music/[^""]+|[^""/]+\.(?:music|ogg))""")]
    private static partial Regex Music();

    [GeneratedRegex(@"\((?:image|image-top|image-bottom)\s+""(images/background/[^""]+)""")]
    private static partial Regex Background();
}
