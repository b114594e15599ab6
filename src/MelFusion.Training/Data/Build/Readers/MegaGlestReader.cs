namespace MelFusion.Training.Data.Build.Readers;

/// <summary>MegaGlest: each faction has its music and its loading screen; a scenario's screen belongs to the factions that play in it.</summary>
public sealed class MegaGlestReader : IGameReader
{
    private const string Root = "usr/share/games/megaglest";

    /// <inheritdoc/>
    public IReadOnlyList<string> Packages { get; } = ["megaglest-data"];

    /// <inheritdoc/>
    public IEnumerable<GameScene> Read(GameTrees trees)
    {
        var files = trees.Files(Root);
        var music = files.Where(file => MediaFile.IsMusic(file) && Faction(file) is not null)
            .GroupBy(file => Faction(file)!, StringComparer.Ordinal)
            .ToDictionary(group => group.Key, group => group.Select(file => new SceneTrack(file, PlainWords.FromName(file), file)).ToList(), StringComparer.Ordinal);
        foreach (var screen in files.Where(file => Path.GetFileName(file) == "loading_screen.jpg"))
        {
            var folder = Path.GetDirectoryName(screen)!;
            var name = PlainWords.FromName(Path.GetFileName(folder));
            var factions = screen.Contains("/factions/", StringComparison.Ordinal) ? [Path.GetFileName(folder)] : Players(folder);
            var tracks = factions.Where(music.ContainsKey).SelectMany(faction => music[faction]).ToList();
            if (tracks.Count > 0)
            {
                yield return new GameScene("MegaGlest", factions.Count == 1 ? $"faction {factions[0]}" : "scenarios", name, $"{string.Join(" and ", factions)} people, fantasy battle", tracks, [new ScenePicture(screen)]);
            }
        }
    }

    private static string? Faction(string file)
    {
        var parts = file.Split('/');
        var at = Array.LastIndexOf(parts, "music");
        return at > 1 && parts[at - 2] == "factions" ? parts[at - 1] : null;
    }

    private static List<string> Players(string folder) => [.. Directory.EnumerateFiles(folder, "*.xml").Order(StringComparer.Ordinal)
        .SelectMany(file => LooseXml.Read(file)?.Descendants("player") ?? [])
        .Select(player => (string?)player.Attribute("faction")).OfType<string>().Distinct(StringComparer.Ordinal)];
}
