using MelFusion.Text;
using MelFusion.Weights;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Evaluation.Embeddings;

/// <summary>CLAP as an evaluator: one embedding a clip, for FD and KID, and for the scores that compare it with texts.</summary>
public sealed class ClapEvaluator : IEvaluator
{
    private const int ShortestSamples = 1024, FirstPosition = 2;

    private readonly Clap _network;
    private readonly RobertaTokenizer _tokenizer;

    /// <summary>From a folder of transformers' ClapModel: config.json, weights, vocab.json and merges.txt.</summary>
    /// <exception cref="MelFusionException">A file is missing or does not fit.</exception>
    public ClapEvaluator(string folder)
    {
        var config = ConfigFile.Read<ClapConfig>(Path.Combine(folder, "config.json"));
        _tokenizer = RobertaTokenizer.Open(folder, Math.Max(2, config.TextConfig.MaxPositionEmbeddings - FirstPosition));
        _network = NetworkFolder.Fill(folder, new Clap(config, Placement.Cpu));
        WeightsSha256 = NetworkFolder.HashOf(folder);
    }

    /// <inheritdoc/>
    public string Name => "clap";

    /// <inheritdoc/>
    public string WeightsSha256 { get; }

    /// <summary>What the cosine of a sound and a text is multiplied by before a softmax over texts.</summary>
    public double AudioScale => _network.AudioScale;

    /// <inheritdoc/>
    public int SampleRate => Clap.SampleRate;

    /// <inheritdoc/>
    public bool HasPatches => false;

    /// <inheritdoc/>
    public bool HasClips => true;

    /// <inheritdoc/>
    public ClassKind Classes => ClassKind.None;

    /// <inheritdoc/>
    public string Rule => "10 s from the middle count; a shorter clip is repeated as often as it fits whole and filled with silence; a clip below one window (1024 samples) does not count";

    /// <inheritdoc/>
    public ClipEmbedding Embed(float[] samples)
    {
        if (samples.Length < ShortestSamples)
        {
            return new ClipEmbedding([], [], []);
        }

        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        return new ClipEmbedding([], ClipEmbedding.Rows(_network.EmbedSounds(_network.Features(samples, SampleRate)))[0], []);
    }

    /// <summary>Embeddings of texts (N, projection), each of length 1.</summary>
    public Tensor EmbedTexts(IReadOnlyList<string> texts)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var rows = texts.Select(text =>
        {
            long[] ids = [.. _tokenizer.Encode(text).Ids.Select(id => (long)id)];
            return _network.EmbedTexts(torch.tensor(ids).unsqueeze(0), torch.ones(1, ids.Length, dtype: ScalarType.Bool));
        });
        return torch.cat([.. rows], 0).MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    public void Dispose() => _network.Dispose();
}
