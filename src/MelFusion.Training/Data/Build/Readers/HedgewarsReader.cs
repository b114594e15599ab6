namespace MelFusion.Training.Data.Build.Readers;

/// <summary>Hedgewars: <c>theme.cfg</c> names the music of a landscape, whose sky and horizon are painted in layers.</summary>
public sealed class HedgewarsReader : IGameReader
{
    private const string Root = "usr/share/games/hedgewars/Data";

    /// <inheritdoc/>
    public IReadOnlyList<string> Packages { get; } = ["hedgewars-data"];

    /// <inheritdoc/>
    public IEnumerable<GameScene> Read(GameTrees trees)
    {
        var files = trees.Files(Root);
        var data = files.Where(file => Path.GetFileName(file) == "theme.cfg").ToList();
        foreach (var theme in data)
        {
            var folder = Path.GetDirectoryName(theme)!;
            var name = Path.GetFileName(folder);
            var music = MusicNames(theme).Select(music => MediaFile.Below(Path.Combine(folder, "..", "..", "Music"), music)).OfType<string>()
                .Select(file => new SceneTrack(file, PlainWords.FromName(file), PlainWords.FromName(file))).ToList();
            var pictures = Backdrops(folder).ToList();
            if (music.Count > 0 && pictures.Count > 0)
            {
                yield return new GameScene("Hedgewars", "Hedgewars", name, $"{PlainWords.FromName(name)} landscape, cartoon painting", music, pictures);
            }
        }
    }

    private static IEnumerable<string> MusicNames(string theme) => File.ReadLines(theme)
        .Select(line => line.Split('=', 2, StringSplitOptions.TrimEntries))
        .Where(parts => parts.Length == 2 && parts[0] is "music" or "sd-music")
        .Select(parts => parts[1]).Distinct(StringComparer.Ordinal);

    private static IEnumerable<ScenePicture> Backdrops(string folder)
    {
        var sky = MediaFile.Below(folder, "Sky.png");
        var horizon = MediaFile.Below(folder, "horizont.png");
        if (sky is not null || horizon is not null)
        {
            yield return new ScenePicture([.. new[] { sky, horizon }.OfType<string>()]);
        }
    }
}
