namespace MelFusion.Training.Data.Build;

/// <summary>Makes plain English of a tagger's tags: "slow", "guitar", "quiet" give "slow quiet guitar music".</summary>
internal static class TagSentence
{
    private static readonly string[] Tempi = ["slow", "fast"];
    private static readonly string[] Moods = ["quiet", "soft", "loud", "ambient", "weird", "beat", "beats", "heavy"];
    private static readonly string[] Styles = ["classical", "techno", "electronic", "rock", "indian", "opera", "pop", "new age", "dance", "country", "metal", "eastern", "solo"];
    private static readonly string[] Dropped = ["no vocal", "no vocals", "no voice", "vocal", "vocals", "singing", "voice", "male vocal", "female vocal", "male voice", "female voice", "man", "woman", "male", "female", "foreign", "choral"];

    /// <summary>Tempo, mood, style and instruments in the order in which people say them; empty without tags.</summary>
    /// <param name="tags">The tags, the surest first.</param>
    public static string Full(IEnumerable<string> tags)
    {
        var heard = tags.Where(tag => !Dropped.Contains(tag, StringComparer.Ordinal)).Distinct(StringComparer.Ordinal).ToList();
        if (heard.Count == 0)
        {
            return "";
        }

        var front = Pick(heard, Tempi).Concat(Pick(heard, Moods)).Concat(Pick(heard, Styles)).Select(AsAdjective).Distinct(StringComparer.Ordinal);
        var instruments = heard.Except(Tempi, StringComparer.Ordinal).Except(Moods, StringComparer.Ordinal).Except(Styles, StringComparer.Ordinal).ToList();
        var with = instruments.Count == 0 ? "" : " with " + string.Join(" and ", instruments);
        return $"{string.Join(' ', front.Append("music"))}{with}";
    }

    /// <summary>Tempo and mood only, for example "slow quiet music"; empty where neither is heard.</summary>
    /// <param name="tags">The tags.</param>
    public static string Mood(IReadOnlyList<string> tags)
    {
        var words = Pick(tags, Tempi).Concat(Pick(tags, Moods)).Select(AsAdjective).Distinct(StringComparer.Ordinal).ToList();
        return words.Count == 0 ? "" : string.Join(' ', words.Append("music"));
    }

    private static IEnumerable<string> Pick(IEnumerable<string> tags, string[] kind) => tags.Where(tag => kind.Contains(tag, StringComparer.Ordinal));

    private static string AsAdjective(string tag) => tag switch { "beat" or "beats" => "rhythmic", _ => tag };
}
