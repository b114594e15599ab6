using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Evaluation.Embeddings;

/// <summary>What an evaluator's last layer says.</summary>
public enum ClassKind
{
    /// <summary>Nothing: it embeds only.</summary>
    None,

    /// <summary>Logits of classes.</summary>
    Logits,

    /// <summary>Probabilities of tags, each for itself.</summary>
    Tags,
}

/// <summary>What a network hears in one clip.</summary>
/// <param name="Patches">An embedding for each patch of time, in order; empty where the network has none or the clip is too short for one.</param>
/// <param name="Clip">One embedding for the clip; empty where there is none.</param>
/// <param name="Classes">Logits or probabilities for the clip; empty where there are none.</param>
public sealed record ClipEmbedding(IReadOnlyList<float[]> Patches, float[] Clip, float[] Classes)
{
    /// <summary>Whether nothing was heard: the clip is too short.</summary>
    public bool IsEmpty => Patches.Count == 0 && Clip.Length == 0;

    /// <summary>The rows of a matrix (N, D).</summary>
    internal static float[][] Rows(Tensor x)
    {
        using var scope = NewDisposeScope();
        float[] values = x.to(ScalarType.Float32).contiguous().data<float>().ToArray();
        return [.. values.Chunk((int)x.shape[1])];
    }
}

/// <summary>A network that embeds sounds, with its front end. Called from several threads at once.</summary>
public interface IEvaluator : IDisposable
{
    /// <summary>Its name on the command line.</summary>
    public string Name { get; }

    /// <summary>SHA-256 of its weights file, lower-case hex.</summary>
    public string WeightsSha256 { get; }

    /// <summary>The rate of the sounds it takes, in Hz.</summary>
    public int SampleRate { get; }

    /// <summary>Whether patches are embedded: FAD is computed on them.</summary>
    public bool HasPatches { get; }

    /// <summary>Whether clips are embedded: FD and KID are computed on them.</summary>
    public bool HasClips { get; }

    /// <summary>What <see cref="ClipEmbedding.Classes"/> holds.</summary>
    public ClassKind Classes { get; }

    /// <summary>How a clip is prepared and what is too short, in one sentence for the passport.</summary>
    public string Rule { get; }

    /// <summary>Embeds a mono sound at <see cref="SampleRate"/>.</summary>
    public ClipEmbedding Embed(float[] samples);
}
