using MelFusion.Weights;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Evaluation.Embeddings;

/// <summary>VGGish as an evaluator: FAD as its era computed it, over all patches of 0.96 s, a sound neither padded nor freed of its mean.</summary>
public sealed class VggishEvaluator : IEvaluator
{
    private const int PatchesAtOnce = 16;

    private readonly Vggish _network;

    /// <summary>From a folder with its weights, vggish-10086976.pth as published or safetensors with the same keys.</summary>
    /// <exception cref="MelFusionException">The weights are missing or do not fit.</exception>
    public VggishEvaluator(string folder) : this(
        NetworkFolder.Fill(folder, new Vggish(Placement.Cpu)), NetworkFolder.HashOf(folder))
    {
    }

    /// <summary>Of a network, which is owned from now on.</summary>
    internal VggishEvaluator(Vggish network, string weightsSha256) => (_network, WeightsSha256) = (network, weightsSha256);

    /// <inheritdoc/>
    public string Name => "vggish";

    /// <inheritdoc/>
    public string WeightsSha256 { get; }

    /// <inheritdoc/>
    public int SampleRate => Vggish.SampleRate;

    /// <inheritdoc/>
    public bool HasPatches => true;

    /// <inheritdoc/>
    public bool HasClips => false;

    /// <inheritdoc/>
    public ClassKind Classes => ClassKind.None;

    /// <inheritdoc/>
    public string Rule => "whole patches of 96 frames (0.96 s) count, the rest of a clip does not; nothing is padded, so that below 15,600 samples (0.975 s) no patch is whole";

    /// <inheritdoc/>
    public ClipEmbedding Embed(float[] samples)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var patches = Vggish.Patches(samples, SampleRate); // (P, T, M)
        var embeddings = new List<float[]>();
        for (long at = 0; at < patches.shape[0]; at += PatchesAtOnce)
        {
            using var inner = NewDisposeScope();
            embeddings.AddRange(ClipEmbedding.Rows(_network.Forward(patches.narrow(0, at, Math.Min(PatchesAtOnce, patches.shape[0] - at)))));
        }

        return new ClipEmbedding(embeddings, [], []);
    }

    /// <inheritdoc/>
    public void Dispose() => _network.Dispose();
}
