using MelFusion.Evaluation.Embeddings;
using MelFusion.Training.Engine;
using MelFusion.Weights;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Training.Data;

/// <summary>What a network that was trained on photographs sees in the places of pictures: (N, channels, cells, cells), fp16.</summary>
internal sealed class PictureFeatureSet : IDisposable
{
    private const int Part = 256;

    private readonly Tensor _maps;

    /// <summary>Takes over what was seen: it lives until this is disposed.</summary>
    /// <param name="maps">(N, channels, cells, cells).</param>
    public PictureFeatureSet(Tensor maps) => _maps = maps;

    /// <summary>Number of channels.</summary>
    public int Channels => (int)_maps.shape[1];

    /// <summary>Looks at pictures, or takes what the cache says of them.</summary>
    /// <param name="path">The cache's file.</param>
    /// <param name="from">All that the pictures and the network depend on.</param>
    /// <param name="model">The network's folder; it is read only where the cache has not all.</param>
    /// <param name="cells">Cells along each side of a map.</param>
    /// <param name="pictures">Which.</param>
    /// <param name="pool">Threads to work on.</param>
    /// <param name="report">Told the pictures done and their number.</param>
    /// <param name="cancel">Looked at before every picture.</param>
    public static PictureFeatureSet Load(
        string path, string from, string model, int cells, IReadOnlyList<CaptionedPicture> pictures, WorkerPool pool, Action<int, int>? report, CancellationToken cancel)
    {
        EfficientNetLite? network = null;
        try
        {
            return new(TensorCache.GetItems(path, $"{from} {cells}", pictures.Count, Part, i =>
            {
                cancel.ThrowIfCancellationRequested();
                return network!.StageMaps(network.Pixels(PictureSet.Decode(pictures[i].File)), cells)[0];
            }, pool, report, () => network = EfficientNetLite.Open(model, Placement.Cpu)));
        }
        finally
        {
            network?.Dispose();
        }
    }

    /// <summary>The means and deviations of all that is seen.</summary>
    public PictureFeatureScale Scale()
    {
        using var scope = NewDisposeScope();
        var pictures = _maps.to(ScalarType.Float32);
        return new(pictures.mean([0, 2, 3]).DetachFromDisposeScope(), DeviationOf(pictures, 0, 2, 3), DeviationOf(pictures.mean([2, 3]), 0));

        static Tensor DeviationOf(Tensor x, params long[] axes) => x.std(axes, unbiased: false).clamp(min: 1e-4).DetachFromDisposeScope();
    }

    /// <summary>What is seen in some pictures: (B, channels, cells, cells), fp32.</summary>
    public Tensor Get(IReadOnlyList<int> pictures) => stack(pictures.Select(picture => _maps[picture])).to(ScalarType.Float32);

    /// <inheritdoc/>
    public void Dispose() => _maps.Dispose();
}

/// <summary>In what the channels of a set of features are counted.</summary>
/// <param name="Mean">Mean of every channel, (channels).</param>
/// <param name="Deviation">Its deviation over all places, (channels).</param>
/// <param name="DeviationOfPictures">Deviation of its average over a picture, (channels).</param>
internal sealed record PictureFeatureScale(Tensor Mean, Tensor Deviation, Tensor DeviationOfPictures) : IDisposable
{
    /// <inheritdoc/>
    public void Dispose()
    {
        Mean.Dispose();
        Deviation.Dispose();
        DeviationOfPictures.Dispose();
    }
}
