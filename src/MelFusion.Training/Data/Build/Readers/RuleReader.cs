using System.IO.Enumeration;
using System.Text.Json;

namespace MelFusion.Training.Data.Build.Readers;

/// <summary>
/// Games whose programs, not data files, say what is played where: the pairs are written down in <c>pairings.json</c>, by names of files
/// with <c>*</c> for anything.
/// </summary>
public sealed class RuleReader : IGameReader
{
    // Such pairs say less than those of a level: they get fewer clips.
    private const int MostClips = 24;

    private readonly GameRule _rule;

    private RuleReader(GameRule rule) => _rule = rule;

    /// <summary>All games of the list that comes with the program.</summary>
    public static IReadOnlyList<RuleReader> BuiltIn()
    {
        using var stream = typeof(RuleReader).Assembly.GetManifestResourceStream("MelFusion.Training.Data.Build.Readers.pairings.json")!;
        using var reader = new StreamReader(stream);
        return Parse(reader.ReadToEnd());
    }

    /// <summary>The games of a list.</summary>
    /// <param name="json">The list.</param>
    internal static IReadOnlyList<RuleReader> Parse(string json) => [.. JsonSerializer.Deserialize<List<GameRule>>(json, OpenMelRow.Json)!.Select(rule => new RuleReader(rule))];

    /// <inheritdoc/>
    public IReadOnlyList<string> Packages => _rule.Packages;

    /// <inheritdoc/>
    public IEnumerable<GameScene> Read(GameTrees trees)
    {
        var files = trees.Files().Select(file => (Full: file, Short: trees.Source(file).Path)).ToList();
        foreach (var scene in _rule.Scenes)
        {
            var music = Matching(files, scene.Music).Where(MediaFile.IsMusic).Select(file => new SceneTrack(file, PlainWords.FromName(file), file, MostClips)).ToList();
            var pictures = Matching(files, scene.Pictures).Where(MediaFile.IsPicture).Select(file => new ScenePicture(file)).ToList();
            if (music.Count > 0 && pictures.Count > 0)
            {
                yield return new GameScene(_rule.Game, scene.Album ?? _rule.Game, scene.Name, scene.Words, music, pictures);
            }
        }
    }

    private static IEnumerable<string> Matching(List<(string Full, string Short)> files, IReadOnlyList<string> patterns) =>
        files.Where(file => patterns.Any(pattern => FileSystemName.MatchesSimpleExpression(pattern, file.Short, ignoreCase: false))).Select(file => file.Full);

    private sealed record GameRule(string Game, IReadOnlyList<string> Packages, IReadOnlyList<SceneRule> Scenes);

    private sealed record SceneRule(string Name, string? Album, string Words, IReadOnlyList<string> Music, IReadOnlyList<string> Pictures);
}
