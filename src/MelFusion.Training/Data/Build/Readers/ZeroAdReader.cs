using System.Text.Json;

namespace MelFusion.Training.Data.Build.Readers;

/// <summary>0 A.D.: each people's file lists its music; pictures are the backdrops of the title and the loading screens, by the people they show.</summary>
public sealed class ZeroAdReader : IGameReader
{
    private const string Root = "usr/share/games/0ad/mods/public/public.zip.open";

    // Which peoples a picture shows, by words in its name; a picture without such a word belongs to all.
    private static readonly (string Word, string[] Peoples)[] Shown =
    [
        ("carth", ["cart"]), ("kush", ["kush"]), ("meroe", ["kush"]), ("pyramid", ["kush", "ptol"]), ("hellenes", ["athen", "spart"]), ("spartan", ["spart"]), ("theater", ["athen"]),
        ("seleucid", ["sele"]), ("war_elephants", ["sele", "maur"]), ("elephant_stable", ["maur", "pers"]), ("persian", ["pers"]), ("briton", ["brit"]), ("celtic", ["brit", "gaul"]),
        ("iber", ["iber"]), ("city_walls", ["rome", "iber"]), ("army_camp", ["rome"]), ("syntagma", ["mace"]), ("pikemen", ["mace"]), ("quinquereme", ["ptol", "rome"]), ("triremes", ["athen"]),
        ("lighthouse", ["ptol"]), ("savanna", ["kush"]), ("temples", ["athen"]), ("whales", ["athen", "cart"]), ("fishing", ["athen", "brit"]),
    ];

    /// <inheritdoc/>
    public IReadOnlyList<string> Packages { get; } = ["0ad-data"];

    /// <inheritdoc/>
    public IEnumerable<GameScene> Read(GameTrees trees)
    {
        var files = trees.Files(Root);
        var music = files.Where(MediaFile.IsMusic).Where(file => file.Contains("/audio/music/", StringComparison.Ordinal)).GroupBy(file => Path.GetFileName(file), StringComparer.Ordinal)
            .ToDictionary(group => group.Key, group => group.First(), StringComparer.Ordinal);
        var peoples = files.Where(file => file.Contains("/civs/", StringComparison.Ordinal) && file.EndsWith(".json", StringComparison.Ordinal))
            .ToDictionary(file => Path.GetFileNameWithoutExtension(file), file => Songs(file).Where(music.ContainsKey).Select(name => music[name]).ToList(), StringComparer.Ordinal);
        var own = peoples.Values.SelectMany(songs => songs).ToHashSet(StringComparer.Ordinal);
        var others = music.Values.Where(file => !own.Contains(file)).Order(StringComparer.Ordinal).ToList();
        foreach (var picture in Pictures(files))
        {
            var name = PlainWords.FromName(picture.Layers[0]);
            var shown = Shown.Where(entry => Path.GetFileName(picture.Layers[0]).Contains(entry.Word, StringComparison.Ordinal)).SelectMany(entry => entry.Peoples).Where(peoples.ContainsKey).Distinct(StringComparer.Ordinal).ToList();
            var songs = shown.Count > 0 ? shown.SelectMany(people => peoples[people]).Distinct(StringComparer.Ordinal).ToList() : others;
            if (songs.Count > 0)
            {
                yield return new GameScene("0 A.D.", shown.Count > 0 ? string.Join(" and ", shown) : "all peoples", name, $"{name}, ancient world", [.. songs.Select(file => new SceneTrack(file, PlainWords.FromName(file), file))], [picture]);
            }
        }
    }

    private static IEnumerable<ScenePicture> Pictures(IReadOnlyList<string> files)
    {
        foreach (var backdrop in files.Where(file => file.Contains("/pregame/backgrounds/", StringComparison.Ordinal) && MediaFile.IsPicture(file)).GroupBy(file => Path.GetFileNameWithoutExtension(file)[..^2], StringComparer.Ordinal))
        {
            yield return new ScenePicture([.. backdrop]);
        }

        foreach (var tip in files.Where(file => file.Contains("/loading/tips/", StringComparison.Ordinal) && MediaFile.IsPicture(file)))
        {
            yield return new ScenePicture(tip);
        }
    }

    private static List<string> Songs(string file)
    {
        try
        {
            using var json = JsonDocument.Parse(File.ReadAllText(file));
            return json.RootElement.TryGetProperty("Music", out var music) && music.ValueKind == JsonValueKind.Array
                ? [.. music.EnumerateArray().Where(song => song.ValueKind == JsonValueKind.Object && song.TryGetProperty("File", out var name) && name.ValueKind == JsonValueKind.String).Select(song => song.GetProperty("File").GetString()!)]
                : [];
        }
        catch (JsonException)
        {
            return [];
        }
    }
}
