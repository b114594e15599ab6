using System.Globalization;
using System.Text;

namespace MelFusion.Text;

/// <summary>
/// T5's unigram tokenizer: of all ways to cut a word into pieces, the likeliest. It gives the ids of the tokenizers library, which TANGO
/// runs, from spiece.model; marks written out in a text, such as &lt;/s&gt;, stand for themselves.
/// </summary>
public sealed class SentencePieceTokenizer : ITextTokenizer
{
    private const char Space = '\u2581';
    private const double UnknownPenalty = 10;

    private readonly Dictionary<string, (int Id, double Score)>.AlternateLookup<ReadOnlySpan<char>> _pieces;
    private readonly SpecialTokens _marks;
    private readonly CharacterMap _map;
    private readonly int _longestPiece, _unknown, _end;
    private readonly double _unknownScore;

    private SentencePieceTokenizer(SentencePieceModel model, int extraIds, int maxLength)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(maxLength, 1);
        ArgumentOutOfRangeException.ThrowIfNegative(extraIds);
        MaxLength = maxLength;
        _map = new(model.CharacterMap);
        var pieces = new Dictionary<string, (int, double)>(StringComparer.Ordinal);
        var marks = new List<(string, int)>();
        for (int id = 0; id < model.Pieces.Count; id++)
        {
            var piece = model.Pieces[id];
            if (piece.Kind == SentencePieceModel.Kind.Normal && piece.Text.Length > 0)
            {
                pieces[piece.Text] = (id, piece.Score);
            }
            else if (piece.Text.Length > 0)
            {
                marks.Add((piece.Text, id));
            }
        }

        for (int i = 0; i < extraIds; i++)
        {
            marks.Add(($"<extra_id_{i.ToString(CultureInfo.InvariantCulture)}>", model.Pieces.Count + extraIds - 1 - i));
        }

        _pieces = pieces.GetAlternateLookup<ReadOnlySpan<char>>();
        _marks = new(marks);
        _longestPiece = pieces.Keys.DefaultIfEmpty(string.Empty).Max(piece => piece.Length);
        _unknownScore = model.Pieces.Min(piece => piece.Score) - UnknownPenalty;
        _unknown = Mark("<unk>");
        _end = Mark("</s>");
        PadId = Mark("<pad>");
    }

    /// <inheritdoc/>
    public int MaxLength { get; }

    /// <inheritdoc/>
    public int PadId { get; }

    /// <summary>Reads spiece.model.</summary>
    /// <param name="path">The file.</param>
    /// <param name="maxLength">The most ids of one text, the end mark included; TANGO's is 512.</param>
    /// <param name="extraIds">Marks &lt;extra_id_n&gt; after the file's pieces, the first one last; T5 has 100.</param>
    /// <exception cref="MelFusionException">The file cannot be read or is no such model.</exception>
    public static SentencePieceTokenizer Open(string path, int maxLength = 512, int extraIds = 100)
    {
        try
        {
            return new(SentencePieceModel.Read(path), extraIds, maxLength);
        }
        catch (InvalidDataException e)
        {
            throw new MelFusionException($"{path}: not a usable SentencePiece model ({e.Message}).", e);
        }
    }

    /// <inheritdoc/>
    public TokenIds Encode(string text)
    {
        var ids = new List<int>();
        foreach (var (plain, mark) in _marks.Split(text))
        {
            AddPlain(plain, ids);
            if (mark is var (_, id))
            {
                ids.Add(id);
            }
        }

        return new([.. ids.Take(MaxLength - 1), _end], ids.Count > MaxLength - 1);
    }

    private void AddPlain(string text, List<int> ids)
    {
        var word = new StringBuilder();
        foreach (Rune rune in _map.Apply(text).EnumerateRunes())
        {
            bool blank = Rune.IsWhiteSpace(rune);
            if (blank || rune.Value == Space)
            {
                AddWord(word, ids);
            }

            if (!blank)
            {
                word.Append(word.Length == 0 && rune.Value != Space ? Space.ToString() : string.Empty).Append(rune.ToString());
            }
        }

        AddWord(word, ids);
    }

    /// <summary>The best way through a word: at each place the best score of a cut that ends there, and the piece before it.</summary>
    private void AddWord(StringBuilder letters, List<int> ids)
    {
        string word = letters.ToString();
        letters.Clear();
        var best = new (double Score, int Start, int Id)[word.Length + 1];
        Array.Fill(best, (double.NegativeInfinity, 0, 0), 1, word.Length);
        for (int start = 0; start < word.Length; start += Step(word, start))
        {
            int one = Step(word, start);
            bool hasOne = false;
            for (int length = one; length <= Math.Min(_longestPiece, word.Length - start); length++)
            {
                if (_pieces.TryGetValue(word.AsSpan(start, length), out var piece))
                {
                    Offer(best, start, length, piece.Score, piece.Id);
                    hasOne |= length == one;
                }
            }

            if (!hasOne)
            {
                Offer(best, start, one, _unknownScore, _unknown);
            }
        }

        var path = new Stack<int>();
        for (int at = word.Length; at > 0; at = best[at].Start)
        {
            if (best[at].Id != _unknown || path.Count == 0 || path.Peek() != _unknown)
            {
                path.Push(best[at].Id); // unknown neighbours are one
            }
        }

        ids.AddRange(path);
    }

    private static void Offer((double Score, int Start, int Id)[] best, int start, int length, double score, int id)
    {
        double total = best[start].Score + score;
        if (total > best[start + length].Score)
        {
            best[start + length] = (total, start, id);
        }
    }

    private static int Step(string word, int at) => char.IsHighSurrogate(word[at]) && at + 1 < word.Length ? 2 : 1;

    private int Mark(string text) => _marks.Find(text)
        ?? throw new InvalidDataException($"it lacks the mark {text}, so that it is not T5's");
}
