using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Text;

/// <summary>The numbers of a text's pieces, the tokenizer's own marks at the ends included.</summary>
/// <param name="Ids">Indices into the vocabulary.</param>
/// <param name="Cut">Whether the text was longer than the encoder reads, and its end left out.</param>
public sealed record TokenIds(IReadOnlyList<int> Ids, bool Cut);

/// <summary>From a text to numbers.</summary>
public interface ITextTokenizer
{
    /// <summary>The most ids of one text, marks included.</summary>
    public int MaxLength { get; }

    /// <summary>The id that fills shorter texts of a batch.</summary>
    public int PadId { get; }

    /// <summary>Whether every text is filled up to <see cref="MaxLength"/> (CLIP), not only to the longest of its batch.</summary>
    public bool FillsToMaxLength => false;

    /// <summary>The ids of a text, at most <see cref="MaxLength"/>.</summary>
    public TokenIds Encode(string text);
}

/// <summary>What a text encoder says about some texts.</summary>
/// <param name="States">A vector per token, (B, s, width).</param>
/// <param name="Mask">True on real tokens, false on padding, (B, s).</param>
/// <param name="Cut">Per text, whether its end was left out as too long.</param>
public sealed record TextStates(Tensor States, Tensor Mask, bool[] Cut) : IDisposable
{
    /// <summary>Frees both tensors.</summary>
    public void Dispose()
    {
        States.Dispose();
        Mask.Dispose();
    }
}

/// <summary>From texts to a vector per token.</summary>
public interface ITextEncoder : IDisposable
{
    /// <summary>The width of a vector.</summary>
    public int Width { get; }

    /// <summary>Encodes texts together; padding does not change a text's valid rows.</summary>
    /// <returns>Tensors of the caller's dispose scope.</returns>
    public TextStates Encode(IReadOnlyList<string> texts);
}
