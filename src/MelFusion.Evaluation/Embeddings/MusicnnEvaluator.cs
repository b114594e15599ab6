using MelFusion.Weights;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Evaluation.Embeddings;

/// <summary>
/// musicnn as an evaluator, the embedded default: its penultimate layer embeds each patch of 3 s, a clip is the mean of its patches, and so are its tags.
/// </summary>
public sealed class MusicnnEvaluator : IEvaluator
{
    private const int PatchesAtOnce = 16;

    private readonly Musicnn _network;

    /// <summary>From a folder with config.json and model.safetensors.</summary>
    /// <exception cref="MelFusionException">A file is missing or does not fit.</exception>
    public MusicnnEvaluator(string folder)
    {
        _network = Musicnn.Open(folder, Placement.Cpu);
        WeightsSha256 = NetworkFolder.HashOf(folder);
    }

    /// <inheritdoc/>
    public string Name => "musicnn";

    /// <inheritdoc/>
    public string WeightsSha256 { get; }

    /// <summary>The names of its tags, in the order of <see cref="ClipEmbedding.Classes"/>.</summary>
    public IReadOnlyList<string> Tags => _network.Config.Tags;

    /// <inheritdoc/>
    public int SampleRate => _network.Config.SampleRate;

    /// <inheritdoc/>
    public bool HasPatches => true;

    /// <inheritdoc/>
    public bool HasClips => true;

    /// <inheritdoc/>
    public ClassKind Classes => ClassKind.Tags;

    /// <inheritdoc/>
    public string Rule => "whole patches of 187 frames (3 s) count, the rest of a clip does not";

    /// <inheritdoc/>
    public ClipEmbedding Embed(float[] samples)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var patches = _network.Patches(samples, SampleRate); // (P, T, M)
        (var embeddings, var tags) = (new List<float[]>(), new List<float[]>());
        for (long at = 0; at < patches.shape[0]; at += PatchesAtOnce)
        {
            using var inner = NewDisposeScope();
            var output = _network.Forward(patches.narrow(0, at, Math.Min(PatchesAtOnce, patches.shape[0] - at)));
            embeddings.AddRange(ClipEmbedding.Rows(output.Penultimate));
            tags.AddRange(ClipEmbedding.Rows(output.Tags));
        }

        return new ClipEmbedding(embeddings, Mean(embeddings), Mean(tags));
    }

    /// <inheritdoc/>
    public void Dispose() => _network.Dispose();

    private static float[] Mean(List<float[]> rows) =>
        rows.Count == 0 ? [] : [.. Enumerable.Range(0, rows[0].Length).Select(j => rows.Average(row => row[j]))];
}
