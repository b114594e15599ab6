using System.Buffers.Binary;
using System.Text;

namespace MelFusion.Text;

/// <summary>What a SentencePiece file (spiece.model) holds, as far as a unigram tokenizer needs it.</summary>
/// <param name="Pieces">Every piece with its score, in the order of the ids.</param>
/// <param name="CharacterMap">The compiled rules that normalise a text; empty: none.</param>
internal sealed record SentencePieceModel(IReadOnlyList<SentencePieceModel.Piece> Pieces, byte[] CharacterMap)
{
    private const long LongestFile = 256 << 20;
    private const int PiecesField = 1, TrainerField = 2, NormalizerField = 3, TextField = 1, ScoreField = 2, TypeField = 3, ModelTypeField = 3, MapField = 2;
    private const int Unigram = 1;

    /// <summary>What a piece is for.</summary>
    public enum Kind
    {
        /// <summary>Part of ordinary text.</summary>
        Normal = 1,

        /// <summary>Stands for what is in no other piece.</summary>
        Unknown = 2,

        /// <summary>A mark such as the end of the text.</summary>
        Control = 3,
    }

    /// <summary>One piece.</summary>
    /// <param name="Text">Its letters, U+2581 for a space.</param>
    /// <param name="Score">Its log probability.</param>
    /// <param name="Kind">What it is for.</param>
    public readonly record struct Piece(string Text, double Score, Kind Kind);

    /// <summary>Reads a file.</summary>
    /// <exception cref="MelFusionException">It cannot be read, or is no unigram model.</exception>
    public static SentencePieceModel Read(string path)
    {
        try
        {
            return new FileInfo(path).Length <= LongestFile
                ? Parse(File.ReadAllBytes(path), path)
                : throw new MelFusionException($"{path}: far too long for a SentencePiece model.");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new MelFusionException($"{path}: the tokenizer's model cannot be read ({e.Message.TrimEnd('.')}).", e);
        }
        catch (Exception e) when (e is InvalidDataException or ArgumentException or OverflowException)
        {
            throw new MelFusionException($"{path}: not a readable SentencePiece model; copy or download it again.", e);
        }
    }

    private static SentencePieceModel Parse(byte[] bytes, string path)
    {
        var pieces = new List<Piece>();
        byte[] map = [];
        foreach (var field in Fields(bytes))
        {
            switch (field.Number)
            {
                case PiecesField:
                    pieces.Add(ParsePiece(field.Bytes.Span));
                    break;
                case TrainerField when Fields(field.Bytes).Any(inner => inner.Number == ModelTypeField && inner.Value != Unigram):
                    throw new MelFusionException($"{path}: this SentencePiece model is not of the unigram kind, which T5 has.");
                case NormalizerField:
                    map = Fields(field.Bytes).Where(inner => inner.Number == MapField).Select(inner => inner.Bytes.ToArray()).LastOrDefault() ?? [];
                    break;
            }
        }

        return pieces.Count > 0 ? new(pieces, map) : throw new InvalidDataException("no pieces");
    }

    private static Piece ParsePiece(ReadOnlySpan<byte> bytes)
    {
        (string text, double score, Kind kind) = (string.Empty, 0, Kind.Normal);
        foreach (var field in Fields(bytes.ToArray()))
        {
            switch (field.Number)
            {
                case TextField:
                    text = Encoding.UTF8.GetString(field.Bytes.Span);
                    break;
                case ScoreField:
                    score = BitConverter.Int32BitsToSingle((int)field.Value);
                    break;
                case TypeField:
                    kind = (Kind)field.Value;
                    break;
            }
        }

        return new(text, score, kind);
    }

    /// <summary>The fields of a protocol-buffers message: a number with a value or with bytes.</summary>
    private static List<(int Number, ulong Value, ReadOnlyMemory<byte> Bytes)> Fields(ReadOnlyMemory<byte> message)
    {
        var fields = new List<(int, ulong, ReadOnlyMemory<byte>)>();
        for (int at = 0; at < message.Length;)
        {
            ulong tag = Varint(message.Span, ref at);
            int number = checked((int)(tag >> 3));
            switch (tag & 7)
            {
                case 0:
                    fields.Add((number, Varint(message.Span, ref at), default));
                    break;
                case 1:
                    fields.Add((number, BinaryPrimitives.ReadUInt64LittleEndian(Take(message, ref at, 8).Span), default));
                    break;
                case 2:
                    fields.Add((number, 0, Take(message, ref at, Varint(message.Span, ref at))));
                    break;
                case 5:
                    fields.Add((number, BinaryPrimitives.ReadUInt32LittleEndian(Take(message, ref at, 4).Span), default));
                    break;
                default:
                    throw new InvalidDataException("unknown wire type");
            }
        }

        return fields;
    }

    private static ReadOnlyMemory<byte> Take(ReadOnlyMemory<byte> message, ref int at, ulong length)
    {
        int start = at;
        at = length <= (ulong)(message.Length - at) ? at + (int)length : throw new InvalidDataException("cut off");
        return message[start..at];
    }

    private static ulong Varint(ReadOnlySpan<byte> bytes, ref int at)
    {
        ulong value = 0;
        for (int shift = 0; shift < 64; shift += 7)
        {
            byte next = at < bytes.Length ? bytes[at++] : throw new InvalidDataException("cut off");
            value |= (ulong)(next & 0x7F) << shift;
            if (next < 0x80)
            {
                return value;
            }
        }

        throw new InvalidDataException("a number is too long");
    }
}

/// <summary>
/// SentencePiece's normalisation by the rules inside its file: a trie (double array) from UTF-8 bytes to places in a list of
/// replacements. Whole characters as a person sees them are looked up first where they are short, single code points else, as the
/// tokenizers library does with which these models are run.
/// </summary>
internal sealed class CharacterMap
{
    private const int LongestGrapheme = 6;
    private readonly uint[] _trie;
    private readonly byte[] _replacements;

    public CharacterMap(byte[] map)
    {
        if (map.Length == 0)
        {
            (_trie, _replacements) = ([], []);
            return;
        }

        uint size = map.Length >= 4 ? BinaryPrimitives.ReadUInt32LittleEndian(map) : uint.MaxValue;
        if (size % 4 != 0 || size > map.Length - 4)
        {
            throw new InvalidDataException("the character map is cut off");
        }

        _trie = new uint[size / 4];
        for (int i = 0; i < _trie.Length; i++)
        {
            _trie[i] = BinaryPrimitives.ReadUInt32LittleEndian(map.AsSpan(4 + (i * 4)));
        }

        _replacements = map[(4 + (int)size)..];
    }

    /// <summary>The normalised text.</summary>
    public string Apply(string text)
    {
        var result = new StringBuilder(text.Length);
        for (int at = 0; at < text.Length;)
        {
            int length = System.Globalization.StringInfo.GetNextTextElementLength(text, at);
            string grapheme = text.Substring(at, length);
            at += length;
            if (Encoding.UTF8.GetByteCount(grapheme) < LongestGrapheme && Find(grapheme) is { } whole)
            {
                result.Append(whole);
                continue;
            }

            foreach (Rune rune in grapheme.EnumerateRunes())
            {
                string single = rune.ToString();
                result.Append(Find(single) ?? single);
            }
        }

        return result.ToString();
    }

    /// <summary>The replacement of the shortest key that the text begins with, or null.</summary>
    private string? Find(string text)
    {
        uint at = 0;
        if (!Step(ref at, 0))
        {
            return null;
        }

        foreach (byte letter in Encoding.UTF8.GetBytes(text))
        {
            at ^= letter;
            if (letter == 0 || at >= _trie.Length || (_trie[at] & 0x800000FF) != letter)
            {
                return null;
            }

            bool isKey = ((_trie[at] >> 8) & 1) == 1;
            if (!Step(ref at, at))
            {
                return null;
            }

            if (isKey)
            {
                return Replacement(_trie[at] & 0x7FFFFFFF);
            }
        }

        return null;
    }

    private bool Step(ref uint at, uint from)
    {
        if (from >= _trie.Length)
        {
            return false;
        }

        at = from ^ ((_trie[from] >> 10) << (int)((_trie[from] & 0x200) >> 6));
        return at < _trie.Length;
    }

    private string? Replacement(uint start)
    {
        if (start >= _replacements.Length)
        {
            return null;
        }

        var rest = _replacements.AsSpan((int)start);
        int end = rest.IndexOf((byte)0);
        return Encoding.UTF8.GetString(end < 0 ? rest : rest[..end]);
    }
}
