namespace MelFusion.Training.Data.Build.Readers;

/// <summary>Naev: the music played after landing depends on the planet's class, as its <c>music.lua</c> says; the picture is that of the planet's surface.</summary>
public sealed class NaevReader : IGameReader
{
    private const string Root = "usr/share/naev/dat";

    // music.lua, choose_land and the table "factional": what is played at a planet of this class or people.
    private static readonly Dictionary<string, string[]> ByFaction = new(StringComparer.Ordinal)
    {
        ["Collective"] = ["collective1", "collective2", "automat"],
        ["Pirate"] = ["pirate1_theme1", "pirates_orchestra", "ambient4", "terminal"],
        ["Empire"] = ["empire1", "empire2"],
        ["Sirius"] = ["sirius1", "sirius2"],
        ["Dvaered"] = ["dvaered1", "dvaered2"],
        ["Za'lek"] = ["zalek1", "zalek2"],
        ["Thurion"] = ["motherload", "dark_city", "ambient1", "ambient3"],
        ["Proteron"] = ["heartofmachine", "imminent_threat"],
    };

    /// <inheritdoc/>
    public IReadOnlyList<string> Packages { get; } = ["naev-data"];

    /// <inheritdoc/>
    public IEnumerable<GameScene> Read(GameTrees trees)
    {
        var files = trees.Files(Root);
        var music = files.Where(file => MediaFile.IsMusic(file) && file.Contains("/snd/music/", StringComparison.Ordinal)).ToDictionary(file => Path.GetFileNameWithoutExtension(file), StringComparer.Ordinal);
        var views = files.Where(file => MediaFile.IsPicture(file) && file.Contains("/gfx/planet/exterior/", StringComparison.Ordinal)).ToDictionary(file => Path.GetFileName(file), StringComparer.Ordinal);
        foreach (var asset in files.Where(file => file.Contains("/assets/", StringComparison.Ordinal) && file.EndsWith(".xml", StringComparison.Ordinal)))
        {
            var root = LooseXml.Read(asset)?.Root;
            if (root?.Element("GFX")?.Element("exterior")?.Value is not { } view || !views.TryGetValue(view, out var picture))
            {
                continue;
            }

            var faction = root.Element("presence")?.Element("faction")?.Value ?? "";
            var tracks = Songs(root.Element("general")?.Element("class")?.Value ?? "", faction, root.Descendants("bar").Any() || root.Descendants("population").Any(p => p.Value is not "0"))
                .Where(music.ContainsKey).Select(song => new SceneTrack(music[song], PlainWords.FromName(song), song.TrimEnd('1', '2', '3', '4', '5', '6'))).ToList();
            if (tracks.Count > 0)
            {
                yield return new GameScene("Naev", faction.Length > 0 ? $"space of the {faction}" : "deep space", (string?)root.Attribute("name") ?? "a planet", $"{PlainWords.FromName(view)}, surface of a planet, science fiction", tracks, [new ScenePicture(picture)]);
            }
        }
    }

    private static IEnumerable<string> Songs(string planetClass, string faction, bool inhabited)
    {
        string[] landing = planetClass switch
        {
            "M" => ["agriculture"],
            "O" => ["ocean"],
            "P" => ["snow"],
            _ => inhabited ? ["cosmostation", "upbeat"] : ["agriculture"],
        };
        return landing.Concat(ByFaction.GetValueOrDefault(faction, []));
    }
}
