namespace MelFusion.Training.Data.Build;

/// <summary>Writes the captions of a clip from what is known of it, from rich to poor.</summary>
internal static class CaptionWriter
{
    private const int MostTags = 5;

    /// <summary>The captions: with title, game and scene; what the tagger hears and what is seen; the tagger alone; mood and tempo alone.</summary>
    /// <param name="row">The row; its tags may be empty.</param>
    public static IReadOnlyList<string> Write(OpenMelRow row)
    {
        var seen = row.Words.Length > 0 ? row.Words : PlainWords.FromName(row.Scenes.Count > 0 ? row.Scenes[0] : row.Title);
        var heard = TagSentence.Full(row.Tags.Take(MostTags));
        var music = heard.Length > 0 ? heard : "instrumental music";
        var scene = row.Scenes.Count > 0 ? row.Scenes[0] : row.Album;
        string[] all =
        [
            $"{music}, \"{row.Title}\" from the game {row.Game}, for {scene}: {seen}",
            $"{music} for {seen}",
            music,
            heard.Length > 0 ? TagSentence.Mood(row.Tags) : "game music",
        ];
        return [.. all.Where(caption => caption.Length > 0).Distinct(StringComparer.Ordinal)];
    }
}
