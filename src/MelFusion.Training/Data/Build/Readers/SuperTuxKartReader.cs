using System.Xml.Linq;

namespace MelFusion.Training.Data.Build.Readers;

/// <summary>SuperTuxKart: <c>track.xml</c> names the music and the screenshot of each race track, <c>*.music</c> the title and the fast version.</summary>
public sealed class SuperTuxKartReader : IGameReader
{
    private const string Root = "usr/share/games/supertuxkart/data";

    /// <inheritdoc/>
    public IReadOnlyList<string> Packages { get; } = ["supertuxkart-data"];

    /// <inheritdoc/>
    public IEnumerable<GameScene> Read(GameTrees trees)
    {
        var files = trees.Files(Root);
        var tunes = files.Where(file => file.EndsWith(".music", StringComparison.OrdinalIgnoreCase)).GroupBy(Path.GetFileName, StringComparer.OrdinalIgnoreCase)
            .ToDictionary(group => group.Key!, group => group.First(), StringComparer.OrdinalIgnoreCase);
        foreach (var file in files.Where(file => Path.GetFileName(file) == "track.xml"))
        {
            if (LooseXml.Read(file)?.Root is { } track && ReadTrack(file, track, tunes) is { } scene)
            {
                yield return scene;
            }
        }
    }

    private static GameScene? ReadTrack(string file, XElement track, Dictionary<string, string> tunes)
    {
        var folder = Path.GetDirectoryName(file)!;
        if (!tunes.TryGetValue((string?)track.Attribute("music") ?? "", out var tune) || MediaFile.Below(folder, (string?)track.Attribute("screenshot")) is not { } picture)
        {
            return null;
        }

        var tracks = ReadTune(tune);
        var name = (string?)track.Attribute("name") ?? Path.GetFileName(folder);
        var kind = (string?)track.Attribute("arena") == "Y" ? "battle arena" : (string?)track.Attribute("soccer") == "Y" ? "soccer field" : "race track";
        return tracks.Count == 0 ? null : new GameScene("SuperTuxKart", "SuperTuxKart", name, $"{PlainWords.FromName(Path.GetFileName(folder))}, cartoon 3D {kind}", tracks, [new ScenePicture(picture)]);
    }

    private static List<SceneTrack> ReadTune(string file)
    {
        var root = LooseXml.Read(file)?.Root;
        var title = (string?)root?.Attribute("title") ?? PlainWords.FromName(file);
        var folder = Path.GetDirectoryName(file)!;
        var tracks = new List<SceneTrack>();
        foreach (var attribute in new[] { "file", "fast-filename" })
        {
            if (MediaFile.Below(folder, (string?)root?.Attribute(attribute)) is { } audio)
            {
                tracks.Add(new SceneTrack(audio, title, title));
            }
        }

        var fast = Path.Combine(folder, Path.GetFileNameWithoutExtension((string?)root?.Attribute("file") ?? "") + "_fast.ogg");
        if (tracks.Count == 1 && File.Exists(fast))
        {
            tracks.Add(new SceneTrack(fast, title, title));
        }

        return tracks;
    }
}
