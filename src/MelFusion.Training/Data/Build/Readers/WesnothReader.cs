using System.Text.RegularExpressions;

namespace MelFusion.Training.Data.Build.Readers;

/// <summary>The Battle for Wesnoth: a scenario's file lists its music, and the story art and portraits that are shown in it.</summary>
public sealed partial class WesnothReader : IGameReader
{
    private const string Root = "usr/share/games/wesnoth/1.16";

    private static readonly string[] Campaigns = ["did", "dm", "dw", "ei", "httt", "l", "low", "nr", "sof", "sota", "sotbe", "thot", "trow", "tsg", "ttb", "utbs"];

    /// <inheritdoc/>
    public IReadOnlyList<string> Packages { get; } = ["wesnoth-1.16-music", "wesnoth-1.16-data", .. Campaigns.Select(campaign => "wesnoth-1.16-" + campaign)];

    /// <inheritdoc/>
    public IEnumerable<GameScene> Read(GameTrees trees)
    {
        var files = trees.Files(Root);
        var music = files.Where(MediaFile.IsMusic).Where(file => file.Contains("/music/", StringComparison.Ordinal))
            .GroupBy(file => Path.GetFileName(file), StringComparer.Ordinal).ToDictionary(group => group.Key, group => group.First(), StringComparer.Ordinal);
        var pictures = files.Where(MediaFile.IsPicture).Where(file => file.Contains("/images/", StringComparison.Ordinal) && !file.Contains("/l10n/", StringComparison.Ordinal)).ToList();
        foreach (var campaign in files.Where(file => file.Contains("/campaigns/", StringComparison.Ordinal) && file.Contains("/scenarios/", StringComparison.Ordinal) && file.EndsWith(".cfg", StringComparison.Ordinal)).GroupBy(Campaign, StringComparer.Ordinal))
        {
            var art = pictures.Where(file => !file.Contains("/campaigns/", StringComparison.Ordinal) || Campaign(file) == campaign.Key).ToLookup(file => Path.GetFileName(file), StringComparer.Ordinal);
            foreach (var scene in campaign.Select(file => ReadScenario(file, campaign.Key, music, art)).OfType<GameScene>())
            {
                yield return scene;
            }
        }
    }

    private static GameScene? ReadScenario(string file, string campaign, Dictionary<string, string> music, ILookup<string, string> art)
    {
        var text = Comment().Replace(File.ReadAllText(file), "");
        var tracks = MusicName().Matches(text).Select(found => music.GetValueOrDefault(found.Value)).OfType<string>().Distinct(StringComparer.Ordinal)
            .Select(path => new SceneTrack(path, PlainWords.FromName(path), path)).ToList();
        var pictures = PictureName().Matches(text).Select(found => Resolve(found.Value, art)).OfType<string>().Distinct(StringComparer.Ordinal).ToList();
        return tracks.Count == 0 || pictures.Count == 0
            ? null
            : new GameScene("Battle for Wesnoth", PlainWords.FromName(campaign), ScenarioName(file), "fantasy painting", tracks, [.. pictures.Select(path => new ScenePicture(path))]);
    }

    // A scenario names "story/x.jpg" or "portraits/x.png"; the folder it means is the campaign's own or the game's.
    private static string? Resolve(string name, ILookup<string, string> art) =>
        art[Path.GetFileName(name)].Where(path => path.EndsWith("/" + name, StringComparison.Ordinal)).OrderByDescending(path => path.Contains("/campaigns/", StringComparison.Ordinal)).FirstOrDefault();

    private static string Campaign(string file)
    {
        var parts = file.Split('/');
        return parts[Array.IndexOf(parts, "campaigns") + 1];
    }

    private static string ScenarioName(string file) => ScenarioNumber().Replace(PlainWords.FromName(file), "");

    [GeneratedRegex(@"^\s*#.*$", RegexOptions.Multiline)]
    private static partial Regex Comment();

    [GeneratedRegex(@"[\w-]+\.ogg")]
    private static partial Regex MusicName();

    [GeneratedRegex(@"(?:story|portraits|maps)/[\w/-]+\.(?:jpg|png|webp)")]
    private static partial Regex PictureName();

    [GeneratedRegex(@"^\d+\s*[a-z]?\s+")]
    private static partial Regex ScenarioNumber();
}
