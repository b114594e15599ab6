using System.Text;
using System.Text.Json;

namespace MelFusion.Text;

/// <summary>
/// Byte-pair encoding over the bytes of a text: each byte is written as one letter, and the pair that was learnt first is joined until
/// none is left. CLIP and RoBERTa differ in how they cut words and in what marks a word's end.
/// </summary>
internal sealed class BytePairs
{
    private const long LongestFile = 64 << 20;

    private readonly Dictionary<string, int> _ids;
    private readonly Dictionary<(string, string), int> _ranks = [];
    private readonly string _wordEnd;

    /// <summary>From a vocabulary and the joins in the order they were learnt.</summary>
    public BytePairs(Dictionary<string, int> ids, IEnumerable<(string, string)> merges, string wordEnd)
    {
        (_ids, _wordEnd) = (ids, wordEnd);
        foreach (var pair in merges)
        {
            _ranks.TryAdd(pair, _ranks.Count);
        }
    }

    /// <summary>The letter of each byte: itself where it prints, else one above U+0100.</summary>
    public static IReadOnlyList<char> Letters { get; } = MakeLetters();

    /// <summary>The letters in the order of CLIP's vocabulary: those that stand for themselves come first.</summary>
    public static IEnumerable<char> LettersInOrder => Letters.Where(letter => letter < 256).Concat(Letters.Where(letter => letter >= 256));

    /// <summary>Entries of the vocabulary.</summary>
    public int Count => _ids.Count;

    /// <summary>Reads vocab.json (an object from piece to id) and merges.txt (a pair per line).</summary>
    /// <exception cref="MelFusionException">A file cannot be read, or is not such a file.</exception>
    public static BytePairs Open(string vocabulary, string merges, string wordEnd)
    {
        try
        {
            var ids = JsonSerializer.Deserialize<Dictionary<string, int>>(Text(vocabulary)) ?? [];
            return new(ids, ParseMerges(Text(merges).Split('\n')), wordEnd);
        }
        catch (JsonException e)
        {
            throw new MelFusionException($"{vocabulary}: not a vocabulary of pieces and numbers in JSON.", e);
        }
    }

    /// <summary>Lines of two pieces each; the first line states a version, and a line beginning so is no pair.</summary>
    public static IEnumerable<(string, string)> ParseMerges(IEnumerable<string> lines) =>
        from line in lines
        where !line.StartsWith("#version", StringComparison.Ordinal)
        let pieces = line.TrimEnd('\r').Split(' ')
        where pieces.Length == 2
        select (pieces[0], pieces[1]);

    /// <summary>The id of a piece.</summary>
    /// <exception cref="MelFusionException">The vocabulary lacks it.</exception>
    public int this[string piece] => _ids.TryGetValue(piece, out int id) ? id : throw new MelFusionException($"The tokenizer's vocabulary lacks '{piece}'.");

    /// <summary>Adds the ids of one word.</summary>
    public void AddWord(string word, List<int> ids)
    {
        var pieces = Encoding.UTF8.GetBytes(word).Select(value => Letters[value].ToString()).ToList();
        if (pieces.Count == 0)
        {
            return;
        }

        pieces[^1] += _wordEnd;
        while (FirstLearnt(pieces) is var (left, right))
        {
            Join(pieces, left, right);
        }

        ids.AddRange(pieces.Select(piece => this[piece]));
    }

    private (string, string)? FirstLearnt(List<string> pieces)
    {
        ((string, string)? Pair, int Rank) best = (null, int.MaxValue);
        for (int i = 1; i < pieces.Count; i++)
        {
            if (_ranks.TryGetValue((pieces[i - 1], pieces[i]), out int rank) && rank < best.Rank)
            {
                best = ((pieces[i - 1], pieces[i]), rank);
            }
        }

        return best.Pair;
    }

    private static void Join(List<string> pieces, string left, string right)
    {
        int kept = 0;
        for (int i = 0; i < pieces.Count; i++, kept++)
        {
            bool joins = pieces[i] == left && i + 1 < pieces.Count && pieces[i + 1] == right;
            pieces[kept] = joins ? left + right : pieces[i];
            i += joins ? 1 : 0;
        }

        pieces.RemoveRange(kept, pieces.Count - kept);
    }

    private static char[] MakeLetters()
    {
        var letters = new char[256];
        int next = 256;
        for (int value = 0; value < 256; value++)
        {
            letters[value] = value is (>= '!' and <= '~') or (>= 0xA1 and <= 0xAC) or (>= 0xAE and <= 0xFF) ? (char)value : (char)next++;
        }

        return letters;
    }

    private static string Text(string path)
    {
        try
        {
            return new FileInfo(path).Length <= LongestFile
                ? File.ReadAllText(path)
                : throw new MelFusionException($"{path}: far too long for a tokenizer's file.");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new MelFusionException($"{path}: the tokenizer's file cannot be read ({e.Message.TrimEnd('.')}).", e);
        }
    }
}

/// <summary>What both kinds cut words by.</summary>
internal static class WordKinds
{
    private static readonly string[] Contractions = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"];

    /// <summary>The English ending that stands at this place, or null.</summary>
    public static string? ContractionAt(string text, int at) =>
        text[at] == '\'' ? Array.Find(Contractions, ending => string.CompareOrdinal(text, at, ending, 0, ending.Length) == 0) : null;

    /// <summary>Where the run of one kind that begins here ends.</summary>
    public static int EndOfRun(string text, int at, Func<Rune, bool> isKind)
    {
        while (at < text.Length && Rune.TryGetRuneAt(text, at, out Rune rune) && isKind(rune))
        {
            at += rune.Utf16SequenceLength;
        }

        return at;
    }

    /// <summary>Neither letter, number nor blank.</summary>
    public static bool IsOther(Rune rune) => !Rune.IsLetter(rune) && !IsNumber(rune) && !Rune.IsWhiteSpace(rune);

    /// <summary>Unicode's category N: digits, and numbers such as one half.</summary>
    public static bool IsNumber(Rune rune) => Rune.IsNumber(rune);

    /// <summary>Half surrogate pairs made harmless.</summary>
    public static string WellFormed(string text) => string.Concat(text.EnumerateRunes());
}
