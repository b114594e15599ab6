namespace MelFusion.Training.Data.Build.Readers;

/// <summary>Warmux: a map's <c>config.xml</c> names its list of music, or none for the common one; its sky is painted in layers under the land.</summary>
public sealed class WarmuxReader : IGameReader
{
    private const string Root = "usr/share/games/warmux";
    private const string Common = "ingame";

    private static readonly string[] Skies = ["one_layer_sky.jpg", "sky.jpg", "sky.png", "sky_layer-0.jpg"];

    /// <inheritdoc/>
    public IReadOnlyList<string> Packages { get; } = ["warmux-data"];

    /// <inheritdoc/>
    public IEnumerable<GameScene> Read(GameTrees trees)
    {
        var files = trees.Files(Root);
        var lists = files.Where(file => file.EndsWith(".m3u", StringComparison.Ordinal)).ToDictionary(file => Path.GetFileNameWithoutExtension(file), Songs, StringComparer.Ordinal);
        foreach (var config in files.Where(file => Path.GetFileName(file) == "config.xml" && file.Contains("/map/", StringComparison.Ordinal)))
        {
            var folder = Path.GetDirectoryName(config)!;
            var map = LooseXml.Read(config)?.Root;
            var list = map?.Descendants("music_playlist").FirstOrDefault()?.Value.Trim();
            var songs = lists.GetValueOrDefault(list ?? Common) ?? lists.GetValueOrDefault(Common, []);
            var sky = Skies.Select(name => MediaFile.Below(folder, name)).OfType<string>().FirstOrDefault();
            var preview = MediaFile.Below(folder, "preview.jpg");
            if (map is not null && songs.Count > 0 && (sky ?? preview) is not null)
            {
                var name = map.Element("name")?.Value.Trim() ?? Path.GetFileName(folder);
                yield return new GameScene("Warmux", list ?? "maps", name, $"{PlainWords.FromName(Path.GetFileName(folder))}, cartoon landscape", [.. songs.Select(file => new SceneTrack(file, PlainWords.FromName(file), file))], [.. new[] { sky, preview }.OfType<string>().Select(file => new ScenePicture(file))]);
            }
        }
    }

    private static List<string> Songs(string list) => [.. File.ReadLines(list).Select(line => MediaFile.Below(Path.GetDirectoryName(list)!, line.Trim())).OfType<string>()];
}
