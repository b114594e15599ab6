using MelFusion.Evaluation.Embeddings;
using MelFusion.Image;
using MelFusion.Text;
using MelFusion.Weights;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Evaluation.Triplets;

/// <summary>Pictures and captions in CLIP's space, as the paper's IMSM compares them.</summary>
internal sealed class ClipSpace : IDisposable
{
    private readonly Clip _network;
    private readonly ClipTokenizer _tokenizer;

    /// <summary>From a folder of transformers' CLIPModel: config.json, weights, vocab.json and merges.txt.</summary>
    /// <exception cref="MelFusionException">A file is missing or does not fit.</exception>
    public ClipSpace(string folder)
    {
        var config = ConfigFile.Read<ClipConfig>(Path.Combine(folder, "config.json"));
        _tokenizer = ClipTokenizer.Open(folder, config.TextConfig.MaxPositionEmbeddings);
        _network = NetworkFolder.Fill(folder, new Clip(config, Placement.Cpu));
    }

    /// <summary>By what cosines are multiplied before a softmax.</summary>
    public double Scale => _network.LogitScale;

    /// <summary>Captions (N, C).</summary>
    public Tensor Captions(IReadOnlyList<string> captions)
    {
        using var scope = NewDisposeScope();
        return torch.cat([.. captions.Select(caption => _network.EmbedTexts(Ids(caption)))], 0).MoveToOuterDisposeScope();
    }

    /// <summary>A picture (1, C).</summary>
    public Tensor Picture(string path)
    {
        using var scope = NewDisposeScope();
        return _network.EmbedPictures(_network.Pixels(ImageReader.Decode(ImageReader.ReadFile(path), path))).MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    public void Dispose() => _network.Dispose();

    private Tensor Ids(string caption)
    {
        var tokens = _tokenizer.Encode(caption);
        var ids = new long[_tokenizer.MaxLength];
        Array.Fill(ids, _tokenizer.PadId);
        for (int i = 0; i < tokens.Ids.Count; i++)
        {
            ids[i] = tokens.Ids[i];
        }

        return torch.tensor(ids).unsqueeze(0);
    }
}
