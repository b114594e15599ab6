using MelFusion.Evaluation.Embeddings;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Evaluation;

/// <summary>Vectors of many clips as one matrix, which can be redrawn clip by clip. Float64.</summary>
internal sealed class FeatureSet : IDisposable
{
    private readonly (int Start, int Count)[] _clips;

    private FeatureSet(IReadOnlyList<IReadOnlyList<float[]>> clips)
    {
        int start = 0;
        _clips = [.. clips.Select(rows => (Start: (start += rows.Count) - rows.Count, rows.Count))];
        int columns = clips.SelectMany(rows => rows).FirstOrDefault()?.Length ?? 0;
        var values = new double[start, columns];
        foreach (var (row, i) in clips.SelectMany(rows => rows).Select((row, i) => (row, i)))
        {
            for (int j = 0; j < columns; j++)
            {
                values[i, j] = row[j];
            }
        }

        Rows = torch.tensor(values).DetachFromDisposeScope();
    }

    /// <summary>All vectors, (N, D).</summary>
    public Tensor Rows { get; }

    /// <summary>The number of clips.</summary>
    public int Clips => _clips.Length;

    public static FeatureSet OfPatches(IEnumerable<ClipEmbedding> clips) => new([.. clips.Select(clip => clip.Patches)]);

    public static FeatureSet OfClips(IEnumerable<ClipEmbedding> clips) => new([.. clips.Select(clip => (float[][])[clip.Clip])]);

    public static FeatureSet OfClasses(IEnumerable<ClipEmbedding> clips) => new([.. clips.Select(clip => (float[][])[clip.Classes])]);

    /// <summary>The vectors of some clips, as often as each is named.</summary>
    public Tensor Of(IEnumerable<int> clips)
    {
        long[] rows = [.. clips.SelectMany(clip => Enumerable.Range(_clips[clip].Start, _clips[clip].Count)).Select(row => (long)row)];
        using var index = torch.tensor(rows);
        return Rows.index_select(0, index);
    }

    public void Dispose() => Rows.Dispose();
}
