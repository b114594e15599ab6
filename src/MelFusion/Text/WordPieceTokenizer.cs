using System.Globalization;
using System.Text;

namespace MelFusion.Text;

/// <summary>
/// BERT's uncased WordPiece. Microsoft.ML.Tokenizers has one too, which drops symbols such as $ and +, and joins words that only a line
/// break parts, so that its ids are not those the networks were trained on.
/// </summary>
public sealed class WordPieceTokenizer : ITextTokenizer
{
    private const long LongestVocabulary = 64 << 20;
    private const int LongestWord = 100;
    private const string Unknown = "[UNK]", Begin = "[CLS]", End = "[SEP]", Padding = "[PAD]", Mask = "[MASK]", Inner = "##";

    // Han characters stand for themselves; the ranges are BERT's.
    private static readonly (int First, int Last)[] Han =
    [
        (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F), (0x2B920, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
    ];

    private readonly Dictionary<string, int> _ids;
    private readonly int _longestPiece;
    private readonly (string Text, int Id)[] _specials;
    private readonly int _begin, _end, _unknown;

    /// <summary>From the tokens of a vocabulary in their order.</summary>
    /// <param name="vocabulary">One token each; its place is its id.</param>
    /// <param name="maxLength">The most ids of one text, both marks included; 256 is what all-MiniLM-L6-v2 was made for.</param>
    /// <exception cref="MelFusionException">A token that every text needs is missing.</exception>
    public WordPieceTokenizer(IEnumerable<string> vocabulary, int maxLength = 256)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(maxLength, 2);
        MaxLength = maxLength;
        _ids = [];
        foreach (string token in vocabulary)
        {
            _ids[token] = _ids.Count;
        }

        _longestPiece = _ids.Keys.DefaultIfEmpty(string.Empty).Max(token => token.Length);
        (_begin, _end, _unknown, PadId) = (Find(Begin), Find(End), Find(Unknown), Find(Padding));
        _specials = [.. new[] { Unknown, Begin, End, Padding, Mask }.Where(_ids.ContainsKey).Select(token => (token, _ids[token]))];
    }

    /// <inheritdoc/>
    public int MaxLength { get; }

    /// <inheritdoc/>
    public int PadId { get; }

    /// <summary>Reads vocab.txt: one token per line.</summary>
    /// <param name="path">The file.</param>
    /// <param name="maxLength">The most ids of one text.</param>
    /// <exception cref="MelFusionException">The file cannot be read or is no such vocabulary.</exception>
    public static WordPieceTokenizer Open(string path, int maxLength = 256)
    {
        try
        {
            return new FileInfo(path).Length <= LongestVocabulary
                ? new(File.ReadAllLines(path), maxLength)
                : throw new MelFusionException($"{path}: far too long for a vocabulary.");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new MelFusionException($"{path}: the vocabulary cannot be read ({e.Message.TrimEnd('.')}).", e);
        }
    }

    /// <inheritdoc/>
    public TokenIds Encode(string text)
    {
        var ids = new List<int> { _begin };
        int at = 0;
        while (at < text.Length)
        {
            var (start, special) = NextSpecial(text, at);
            AddPlain(text[at..start], ids);
            if (special is var (token, id))
            {
                ids.Add(id);
                start += token.Length;
            }

            at = start;
        }

        bool cut = ids.Count > MaxLength - 1;
        return new([.. ids.Take(MaxLength - 1), _end], cut);
    }

    /// <summary>A special token written out in the text stands for itself.</summary>
    private (int Start, (string Text, int Id)? Special) NextSpecial(string text, int from)
    {
        (int Start, (string, int)? Special) first = (text.Length, null);
        foreach (var special in _specials)
        {
            int start = text.IndexOf(special.Text, from, StringComparison.Ordinal);
            first = start >= 0 && start < first.Start ? (start, special) : first;
        }

        return first;
    }

    private void AddPlain(string text, List<int> ids)
    {
        var word = new List<string>(); // one entry per code point
        foreach (Rune rune in Normalise(text).EnumerateRunes())
        {
            bool alone = IsPunctuation(rune) || IsHan(rune);
            if (alone || Rune.IsWhiteSpace(rune))
            {
                AddWord(word, ids);
                word.Clear();
            }

            if (alone)
            {
                AddWord([rune.ToString()], ids);
            }
            else if (!Rune.IsWhiteSpace(rune))
            {
                word.Add(rune.ToString());
            }
        }

        AddWord(word, ids);
    }

    /// <summary>Control and format characters dropped, accents taken off, lower case. Half a surrogate pair counts as a control character.</summary>
    private static string Normalise(string text)
    {
        var clean = new StringBuilder(text.Length);
        foreach (Rune rune in text.EnumerateRunes())
        {
            if (rune.Value is '\t' or '\n' or '\r' || Rune.IsWhiteSpace(rune))
            {
                clean.Append(' ');
            }
            else if (rune.Value is not 0xFFFD && !IsOther(rune))
            {
                clean.Append(rune.ToString());
            }
        }

        var plain = new StringBuilder(clean.Length);
        foreach (Rune rune in clean.ToString().Normalize(NormalizationForm.FormD).EnumerateRunes())
        {
            if (Rune.GetUnicodeCategory(rune) != UnicodeCategory.NonSpacingMark)
            {
                plain.Append(Rune.ToLowerInvariant(rune).ToString());
            }
        }

        return plain.ToString();
    }

    /// <summary>Greedy from the left: the longest piece that the vocabulary has; a word with a rest is unknown as a whole.</summary>
    private void AddWord(List<string> word, List<int> ids)
    {
        if (word.Count > LongestWord)
        {
            ids.Add(_unknown);
            return;
        }

        int before = ids.Count;
        for (int start = 0; start < word.Count;)
        {
            var (length, id) = LongestPiece(word, start);
            if (length == 0)
            {
                ids.RemoveRange(before, ids.Count - before);
                ids.Add(_unknown);
                return;
            }

            ids.Add(id);
            start += length;
        }
    }

    private (int Length, int Id) LongestPiece(List<string> word, int start)
    {
        string prefix = start == 0 ? string.Empty : Inner;
        for (int length = Math.Min(word.Count - start, _longestPiece); length > 0; length--)
        {
            if (_ids.TryGetValue(string.Concat(word.GetRange(start, length).Prepend(prefix)), out int id))
            {
                return (length, id);
            }
        }

        return (0, _unknown);
    }

    private static bool IsOther(Rune rune) => Rune.GetUnicodeCategory(rune) is UnicodeCategory.Control or UnicodeCategory.Format
        or UnicodeCategory.OtherNotAssigned or UnicodeCategory.PrivateUse or UnicodeCategory.Surrogate;

    /// <summary>All of Unicode's punctuation, and what ASCII has beside letters and digits.</summary>
    private static bool IsPunctuation(Rune rune) => rune.IsAscii
        ? rune.Value > ' ' && rune.Value < 0x7F && !Rune.IsLetterOrDigit(rune)
        : Rune.IsPunctuation(rune);

    private static bool IsHan(Rune rune) => Array.Exists(Han, range => rune.Value >= range.First && rune.Value <= range.Last);

    private int Find(string token) => _ids.TryGetValue(token, out int id)
        ? id
        : throw new MelFusionException($"The tokenizer's vocabulary lacks '{token}'; it is not BERT's.");
}
