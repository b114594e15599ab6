using MelFusion.Weights;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Text;

/// <summary>A tokenizer and a network that belong together.</summary>
public sealed class TextEncoder : ITextEncoder
{
    private readonly ITextTokenizer _tokenizer;
    private readonly nn.Module<Tensor, Tensor, Tensor> _network;
    private readonly Device _device;

    /// <summary>Joins the two.</summary>
    /// <param name="tokenizer">Gives the ids.</param>
    /// <param name="network">From ids and mask, both (B, s), to states (B, s, width); owned from now on.</param>
    /// <param name="width">The width of its states.</param>
    /// <param name="device">Where it lies.</param>
    public TextEncoder(ITextTokenizer tokenizer, nn.Module<Tensor, Tensor, Tensor> network, int width, Device device) =>
        (_tokenizer, _network, Width, _device) = (tokenizer, network, width, device);

    /// <inheritdoc/>
    public int Width { get; }

    /// <summary>Opens text_encoder and tokenizer of a model folder; what kind they are, its config.json says.</summary>
    /// <param name="folder">The model.</param>
    /// <param name="place">Device and precision of its weights.</param>
    /// <exception cref="MelFusionException">The kind is not known, or a file is missing or does not fit.</exception>
    public static TextEncoder Open(ModelFolder folder, Placement place)
    {
        string kind = folder.Config<KindOfEncoder>("text_encoder").ModelType;
        switch (kind)
        {
            case "bert":
                var bert = folder.Config<MiniLmConfig>("text_encoder");
                var words = WordPieceTokenizer.Open(folder.FileOf("tokenizer", "vocab.txt"));
                return new(words, folder.Load("text_encoder", new MiniLm(bert, place)), bert.HiddenSize, place.Device);
            case "t5":
                var t5 = folder.Config<T5EncoderConfig>("text_encoder");
                var pieces = SentencePieceTokenizer.Open(folder.FileOf("tokenizer", "spiece.model"));
                return new(pieces, folder.Load("text_encoder", new T5Encoder(t5, place)), t5.DModel, place.Device);
            case "clip_text_model":
                var clip = folder.Config<ClipTextConfig>("text_encoder");
                var pairs = ClipTokenizer.Open(Path.GetDirectoryName(folder.FileOf("tokenizer", "vocab.json"))!, clip.MaxPositionEmbeddings);
                return new(pairs, folder.Load("text_encoder", new ClipTextEncoder(clip, place)), clip.HiddenSize, place.Device);
            default:
                throw new MelFusionException($"{folder.FileOf("text_encoder", "config.json")}: text encoders of the kind '{kind}' are not known; bert, t5 and clip_text_model are.");
        }
    }

    /// <inheritdoc/>
    public TextStates Encode(IReadOnlyList<string> texts)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var tokens = texts.Select(_tokenizer.Encode).ToList();
        var (ids, mask) = Pad(tokens);
        var states = _network.call(ids, mask);
        return new(states.MoveToOuterDisposeScope(), mask.MoveToOuterDisposeScope(), [.. tokens.Select(text => text.Cut)]);
    }

    /// <summary>Makes the network faster (<see cref="ModuleWeights.PackForInference"/>).</summary>
    /// <returns>The encoder itself.</returns>
    public TextEncoder PackForInference()
    {
        _network.PackForInference();
        return this;
    }

    /// <inheritdoc/>
    public void Dispose() => _network.Dispose();

    private (Tensor Ids, Tensor Mask) Pad(List<TokenIds> texts)
    {
        int length = _tokenizer.FillsToMaxLength ? _tokenizer.MaxLength : texts.Max(text => text.Ids.Count);
        var ids = new long[texts.Count * length];
        var mask = new bool[ids.Length];
        Array.Fill(ids, _tokenizer.PadId);
        Array.Fill(mask, _tokenizer.FillsToMaxLength); // CLIP's padding counts as text
        for (int row = 0; row < texts.Count; row++)
        {
            for (int i = 0; i < texts[row].Ids.Count; i++)
            {
                ids[(row * length) + i] = texts[row].Ids[i];
                mask[(row * length) + i] = true;
            }
        }

        return (torch.tensor(ids, [texts.Count, length], device: _device), torch.tensor(mask, [texts.Count, length], device: _device));
    }

    private sealed record KindOfEncoder
    {
        public string ModelType { get; init; } = "unknown";
    }
}
