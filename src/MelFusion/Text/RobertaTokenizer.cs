using System.Text;

namespace MelFusion.Text;

/// <summary>RoBERTa's byte-pair encoding, which CLAP's text encoder reads: nothing is normalised, and a space belongs to the word behind it.</summary>
public sealed class RobertaTokenizer : ITextTokenizer
{
    private const string Begin = "<s>", Padding = "<pad>", End = "</s>", Unknown = "<unk>", Mask = "<mask>";

    private readonly BytePairs _pairs;
    private readonly SpecialTokens _marks;

    private RobertaTokenizer(BytePairs pairs, int maxLength)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(maxLength, 2);
        (_pairs, MaxLength, PadId) = (pairs, maxLength, pairs[Padding]);
        _marks = new(new[] { Begin, Padding, End, Unknown, Mask }.Select(mark => (mark, pairs[mark])));
    }

    /// <inheritdoc/>
    public int MaxLength { get; }

    /// <inheritdoc/>
    public int PadId { get; }

    /// <summary>Reads vocab.json and merges.txt of a folder.</summary>
    /// <param name="folder">The folder.</param>
    /// <param name="maxLength">The most ids of one text, both marks included.</param>
    /// <exception cref="MelFusionException">A file cannot be read, or is not such a file.</exception>
    public static RobertaTokenizer Open(string folder, int maxLength = 512) =>
        new(BytePairs.Open(Path.Combine(folder, "vocab.json"), Path.Combine(folder, "merges.txt"), string.Empty), maxLength);

    /// <inheritdoc/>
    public TokenIds Encode(string text)
    {
        text = WordKinds.WellFormed(text);
        var ids = new List<int> { _pairs[Begin] };
        foreach (var (plain, mark) in _marks.Split(text))
        {
            AddPlain(mark?.Text == Mask ? plain.TrimEnd() : plain, ids); // the mask takes the blanks before it
            if (mark is var (_, id))
            {
                ids.Add(id);
            }
        }

        return new([.. ids.Take(MaxLength - 1), _pairs[End]], ids.Count > MaxLength - 1);
    }

    private void AddPlain(string text, List<int> ids)
    {
        for (int at = 0; at < text.Length;)
        {
            int end = EndOfWord(text, at);
            _pairs.AddWord(text[at..end], ids);
            at = end;
        }
    }

    private static int EndOfWord(string text, int at)
    {
        if (WordKinds.ContractionAt(text, at) is { } ending)
        {
            return at + ending.Length;
        }

        int start = text[at] == ' ' && at + 1 < text.Length ? at + 1 : at;
        var first = Rune.GetRuneAt(text, start);
        if (!Rune.IsWhiteSpace(first))
        {
            return WordKinds.EndOfRun(text, start, Rune.IsLetter(first) ? Rune.IsLetter : WordKinds.IsNumber(first) ? WordKinds.IsNumber : WordKinds.IsOther);
        }

        // Of several blanks the last one belongs to what follows, or stands for itself.
        int end = WordKinds.EndOfRun(text, at, Rune.IsWhiteSpace);
        return end < text.Length && end - at > 1 ? end - 1 : end;
    }
}
