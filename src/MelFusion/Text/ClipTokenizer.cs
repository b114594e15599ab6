using System.Globalization;
using System.IO.Compression;
using System.Text;
using System.Text.Json;

namespace MelFusion.Text;

/// <summary>
/// CLIP's byte-pair encoding. Ids are those of the tokenizers library (CLIPTokenizerFast): NFC, blanks to one space, lower case, words cut
/// at letters, single digits and everything else. Stable Diffusion 2 declares "!" its padding and thereby a mark of its own, which is kept.
/// </summary>
public sealed class ClipTokenizer : ITextTokenizer
{
    private const string Begin = "<|startoftext|>", End = "<|endoftext|>", WordEnd = "</w>";
    private const int PublishedMerges = 49152 - 256 - 2; // what CLIP took of its list

    private readonly BytePairs _pairs;
    private readonly SpecialTokens _marks;

    private ClipTokenizer(BytePairs pairs, string padding, int maxLength)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(maxLength, 2);
        (_pairs, MaxLength, PadId) = (pairs, maxLength, pairs[padding]);
        _marks = new(new[] { Begin, End, padding }.Distinct().Select(mark => (mark, pairs[mark])));
    }

    /// <inheritdoc/>
    public int MaxLength { get; }

    /// <inheritdoc/>
    public int PadId { get; }

    /// <inheritdoc/>
    public bool FillsToMaxLength => true;

    /// <summary>Reads vocab.json and merges.txt of a folder, and of its settings which token is the padding.</summary>
    /// <param name="folder">The folder, such as "tokenizer" of a Stable Diffusion pipeline.</param>
    /// <param name="maxLength">The most ids of one text, both marks included.</param>
    /// <exception cref="MelFusionException">A file cannot be read, or is not such a file.</exception>
    public static ClipTokenizer Open(string folder, int maxLength = 77) => new(
        BytePairs.Open(Path.Combine(folder, "vocab.json"), Path.Combine(folder, "merges.txt"), WordEnd), Padding(folder), maxLength);

    /// <summary>Reads the original's list of merges (bpe_simple_vocab_16e6.txt.gz), from which the vocabulary follows.</summary>
    /// <param name="path">The file.</param>
    /// <param name="padding">The token that fills: the end mark, or "!" for Stable Diffusion 2.</param>
    /// <param name="maxLength">The most ids of one text, both marks included.</param>
    /// <exception cref="MelFusionException">The file cannot be read, or is not such a file.</exception>
    public static ClipTokenizer OpenMerges(string path, string padding = End, int maxLength = 77)
    {
        try
        {
            using var file = new GZipStream(File.OpenRead(path), CompressionMode.Decompress);
            using var reader = new StreamReader(file, Encoding.UTF8);
            var lines = new List<string>();
            for (reader.ReadLine(); lines.Count < PublishedMerges && reader.ReadLine() is { } line;)
            {
                lines.Add(line); // the first line states a version
            }

            return new(FromMerges([.. BytePairs.ParseMerges(lines)]), padding, maxLength);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or InvalidDataException)
        {
            throw new MelFusionException($"{path}: the tokenizer's merges cannot be read ({e.Message.TrimEnd('.')}).", e);
        }
    }

    /// <inheritdoc/>
    public TokenIds Encode(string text)
    {
        text = Normalise(text);
        var ids = new List<int> { _pairs[Begin] };
        foreach (var (plain, mark) in _marks.Split(text))
        {
            AddPlain(plain, ids);
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
            if (text[at] != ' ')
            {
                _pairs.AddWord(text[at..end], ids);
            }

            at = end;
        }
    }

    private static int EndOfWord(string text, int at)
    {
        if (WordKinds.ContractionAt(text, at) is { } ending)
        {
            return at + ending.Length;
        }

        var first = Rune.GetRuneAt(text, at);
        return Rune.IsLetter(first) ? WordKinds.EndOfRun(text, at, Rune.IsLetter)
            : WordKinds.IsOther(first) ? WordKinds.EndOfRun(text, at, WordKinds.IsOther)
            : at + first.Utf16SequenceLength;
    }

    private static string Normalise(string text)
    {
        var result = new StringBuilder(text.Length);
        bool blank = false;
        foreach (Rune rune in WordKinds.WellFormed(text).Normalize(NormalizationForm.FormC).EnumerateRunes())
        {
            if (Rune.IsWhiteSpace(rune))
            {
                blank = true;
                continue;
            }

            result.Append(blank ? " " : string.Empty).Append(rune.Value == 0x130 ? "i\u0307" : Rune.ToLowerInvariant(rune).ToString());
            blank = false;
        }

        return result.ToString();
    }

    /// <summary>The vocabulary in its order: bytes, bytes at a word's end, one entry a merge, the two marks.</summary>
    private static BytePairs FromMerges(List<(string Left, string Right)> merges)
    {
        string[] letters = [.. BytePairs.LettersInOrder.Select(letter => letter.ToString())];
        var ids = new Dictionary<string, int>();
        foreach (string piece in letters.Concat(letters.Select(letter => letter + WordEnd)).Concat(merges.Select(pair => pair.Left + pair.Right)).Append(Begin).Append(End))
        {
            ids.TryAdd(piece, ids.Count);
        }

        return new(ids, merges, WordEnd);
    }

    private static string Padding(string folder)
    {
        foreach (string name in (string[])["special_tokens_map.json", "tokenizer_config.json"])
        {
            string path = Path.Combine(folder, name);
            if (File.Exists(path) && PadToken(path) is { } padding)
            {
                return padding;
            }
        }

        return End;
    }

    private static string? PadToken(string path)
    {
        try
        {
            using var json = JsonDocument.Parse(File.ReadAllText(path));
            return !json.RootElement.TryGetProperty("pad_token", out var token) ? null
                : token.ValueKind == JsonValueKind.Object ? token.GetProperty("content").GetString() : token.GetString();
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException or IOException or UnauthorizedAccessException)
        {
            throw new MelFusionException(string.Create(CultureInfo.InvariantCulture, $"{path}: the tokenizer's settings cannot be read."), e);
        }
    }
}
