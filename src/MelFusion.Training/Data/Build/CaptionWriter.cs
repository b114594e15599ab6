namespace MelFusion.Training.Data.Build;

/// <summary>Writes the captions of a clip from what is known of it, from rich to poor.</summary>
internal static class CaptionWriter
{
    private const int MostTags = 5;
    private const string Untagged = "instrumental music";

    /// <summary>The row with both its lists of captions.</summary>
    /// <param name="row">The row; its tags may be empty.</param>
    public static OpenMelRow Caption(OpenMelRow row) => row with { Captions = Write(row), HeardCaptions = WriteHeard(row.Tags) };

    /// <summary>The captions: with title, game and scene; what the tagger hears and what is seen; the tagger alone; mood and tempo alone.</summary>
    /// <param name="row">The row; its tags may be empty.</param>
    public static IReadOnlyList<string> Write(OpenMelRow row)
    {
        var seen = row.Words.Length > 0 ? row.Words : PlainWords.FromName(row.Scenes.Count > 0 ? row.Scenes[0] : row.Title);
        var heard = TagSentence.Full(row.Tags.Take(MostTags));
        var music = heard.Length > 0 ? heard : Untagged;
        var scene = row.Scenes.Count > 0 ? row.Scenes[0] : row.Album;
        string[] all =
        [
            $"{music}, \"{row.Title}\" from the game {row.Game}, for {scene}: {seen}",
            $"{music} for {seen}",
            music,
            heard.Length > 0 ? TagSentence.Mood(row.Tags) : "game music",
        ];
        return Plain(all);
    }

    /// <summary>The captions that say what is heard and nothing of what is seen: all the tagger hears; the two surest of it; the surest; mood and tempo.</summary>
    /// <param name="tags">What the tagger hears, the surest first; may be empty.</param>
    public static IReadOnlyList<string> WriteHeard(IReadOnlyList<string> tags) =>
        Plain([.. new[] { MostTags, 2, 1 }.Select(count => TagSentence.Full(tags.Take(count))), TagSentence.Mood(tags)]) is { Count: > 0 } heard ? heard : [Untagged];

    private static IReadOnlyList<string> Plain(string[] captions) => [.. captions.Where(caption => caption.Length > 0).Distinct(StringComparer.Ordinal)];
}
