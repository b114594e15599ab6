using System.Text;
using System.Text.RegularExpressions;

namespace MelFusion.Training.Data.Build.Readers;

/// <summary>Extreme Tux Racer: the list of races names the music theme and the light; the sky of that light is the picture.</summary>
public sealed partial class ExtremeTuxRacerReader : IGameReader
{
    private const string Root = "usr/share/games/etr";

    private static readonly string[] Views = ["front", "left", "right"];
    private static readonly string[] Sets = ["etr", "tuxracer"];

    /// <inheritdoc/>
    public IReadOnlyList<string> Packages { get; } = ["extremetuxracer-data"];

    /// <inheritdoc/>
    public IEnumerable<GameScene> Read(GameTrees trees)
    {
        foreach (var events in trees.Files(Root).Where(file => Path.GetFileName(file) == "events.lst"))
        {
            var data = Path.GetDirectoryName(Path.GetDirectoryName(events))!;
            var files = Items(Path.Combine(data, "music", "music.lst")).ToDictionary(item => item["name"], item => item["file"], StringComparer.Ordinal);
            var themes = Items(Path.Combine(data, "music", "racing_themes.lst")).ToDictionary(item => item["name"], item => item["race"], StringComparer.Ordinal);
            foreach (var race in Items(events).Where(item => item.ContainsKey("course")))
            {
                var theme = race.GetValueOrDefault("theme", "normal");
                var light = race.GetValueOrDefault("light", "sunny");
                var music = MediaFile.Below(Path.Combine(data, "music"), files.GetValueOrDefault(themes.GetValueOrDefault(theme, "race_1"), ""));
                var sky = Sets.SelectMany(set => Views.Select(view => MediaFile.Below(Path.Combine(data, "env", set, light), view + ".png"))).OfType<string>().ToList();
                if (music is not null && sky.Count > 0)
                {
                    yield return new GameScene("Extreme Tux Racer", "races", PlainWords.FromName(race["course"]), $"{light} snowy mountains, downhill race", [new SceneTrack(music, PlainWords.FromName(music), music)], [.. sky.Select(file => new ScenePicture(file))]);
                }
            }
        }
    }

    // Lines of "*[key] value [key] value"; an item goes on until the next asterisk.
    private static IEnumerable<Dictionary<string, string>> Items(string file)
    {
        var text = File.Exists(file) ? string.Join('\n', File.ReadLines(file, Encoding.Latin1).Where(line => !line.TrimStart().StartsWith('#'))) : "";
        return text.Split('*').Select(item => Field().Matches(item).GroupBy(match => match.Groups[1].Value, StringComparer.Ordinal)
            .ToDictionary(group => group.Key, group => group.First().Groups[2].Value.Trim(), StringComparer.Ordinal)).Where(item => item.ContainsKey("name") || item.ContainsKey("course"));
    }

    [GeneratedRegex(@"\[(\w+)\]\s*([^\[]*)")]
    private static partial Regex Field();
}
