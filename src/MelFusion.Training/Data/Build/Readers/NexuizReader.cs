using System.Text.RegularExpressions;

namespace MelFusion.Training.Data.Build.Readers;

/// <summary>Nexuiz: a map's <c>.mapinfo</c> gives the number of its track, which the list of <c>cd remap</c> turns into a name; its picture lies beside it.</summary>
public sealed partial class NexuizReader : IGameReader
{
    private const string Root = "usr/share/games/nexuiz/data";

    /// <inheritdoc/>
    public IReadOnlyList<string> Packages { get; } = ["nexuiz-data", "nexuiz-music"];

    /// <inheritdoc/>
    public IEnumerable<GameScene> Read(GameTrees trees)
    {
        var files = trees.Files(Root);
        var music = files.Where(file => MediaFile.IsMusic(file) && file.Contains("/cdtracks/", StringComparison.Ordinal)).ToDictionary(file => Path.GetFileNameWithoutExtension(file), StringComparer.Ordinal);
        var names = files.Where(file => file.EndsWith(".cfg", StringComparison.Ordinal)).SelectMany(file => File.ReadLines(file)).Select(line => Remap().Match(line)).FirstOrDefault(match => match.Success)
            is { } found ? found.Groups[1].Value.Split([' ', '"'], StringSplitOptions.RemoveEmptyEntries) : [];
        foreach (var info in files.Where(file => file.EndsWith(".mapinfo", StringComparison.Ordinal)))
        {
            var text = File.ReadAllText(info);
            var picture = Path.ChangeExtension(info, ".jpg");
            if (Track().Match(text) is { Success: true } match && int.TryParse(match.Groups[1].Value, out var number) && number >= 1 && number <= names.Length && music.TryGetValue(names[number - 1], out var file) && File.Exists(picture))
            {
                var title = Title().Match(text) is { Success: true } named ? named.Groups[1].Value.Trim() : PlainWords.FromName(info);
                var words = Description().Match(text) is { Success: true } described ? described.Groups[1].Value.Trim() : PlainWords.FromName(info);
                yield return new GameScene("Nexuiz", "maps", title, $"{words}, 3D arena", [new SceneTrack(file, PlainWords.FromName(file), file)], [new ScenePicture(picture)]);
            }
        }
    }

    [GeneratedRegex(@"^set g_cdtracks_remaplist ""([^""]+)""")]
    private static partial Regex Remap();

    [GeneratedRegex(@"^cdtrack\s+(\d+)", RegexOptions.Multiline)]
    private static partial Regex Track();

    [GeneratedRegex(@"^title[ \t]+(.+)$", RegexOptions.Multiline)]
    private static partial Regex Title();

    [GeneratedRegex(@"^description[ \t]+(.+)$", RegexOptions.Multiline)]
    private static partial Regex Description();
}
