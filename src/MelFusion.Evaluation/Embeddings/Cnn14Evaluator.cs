using MelFusion.Weights;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Evaluation.Embeddings;

/// <summary>
/// PANNs Cnn14 for 16 kHz as an evaluator: one embedding a clip for FD and KID, one row of AudioSet's logits for KL and IS. The mean is taken off before
/// silence fills a short clip up, as audioldm_eval does.
/// </summary>
public sealed class Cnn14Evaluator : IEvaluator
{
    private const int ShortestSamples = 512, FilledTo = 32_000;

    private readonly Cnn14 _network;

    /// <summary>From a folder with its weights, Cnn14_16k_mAP=0.438.pth as published or safetensors with the same keys.</summary>
    /// <exception cref="MelFusionException">The weights are missing or do not fit.</exception>
    public Cnn14Evaluator(string folder) : this(
        NetworkFolder.Fill(folder, new Cnn14(Placement.Cpu)), NetworkFolder.HashOf(folder))
    {
    }

    /// <summary>Of a network, which is owned from now on.</summary>
    internal Cnn14Evaluator(Cnn14 network, string weightsSha256) => (_network, WeightsSha256) = (network, weightsSha256);

    /// <inheritdoc/>
    public string Name => "cnn14";

    /// <inheritdoc/>
    public string WeightsSha256 { get; }

    /// <inheritdoc/>
    public int SampleRate => Cnn14.SampleRate;

    /// <inheritdoc/>
    public bool HasPatches => false;

    /// <inheritdoc/>
    public bool HasClips => true;

    /// <inheritdoc/>
    public ClassKind Classes => ClassKind.Logits;

    /// <inheritdoc/>
    public string Rule => "the mean is taken off, then silence fills a clip up to 2 s; a clip below one window (512 samples) does not count";

    /// <inheritdoc/>
    public ClipEmbedding Embed(float[] samples)
    {
        if (samples.Length < ShortestSamples)
        {
            return new ClipEmbedding([], [], []);
        }

        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        float mean = (float)samples.Average(sample => (double)sample);
        var centred = new float[Math.Max(samples.Length, FilledTo)];
        for (int i = 0; i < samples.Length; i++)
        {
            centred[i] = samples[i] - mean;
        }

        var output = _network.Forward(Cnn14.LogMel(torch.tensor(centred).unsqueeze(0)));
        return new ClipEmbedding([], ClipEmbedding.Rows(output.Embedding)[0], ClipEmbedding.Rows(output.Logits)[0]);
    }

    /// <inheritdoc/>
    public void Dispose() => _network.Dispose();
}
