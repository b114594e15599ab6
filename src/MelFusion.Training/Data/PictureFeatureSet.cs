using MelFusion.Evaluation.Embeddings;
using MelFusion.Training.Engine;
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
    public PictureFeatureSet(Tensor maps)
    {
        _maps = maps;
        using var scope = NewDisposeScope();
        using var pictures = maps.to(ScalarType.Float32);
        var ofPictures = pictures.mean([2, 3]);
        Mean = ofPictures.mean([0]).DetachFromDisposeScope();
        Deviation = Root((pictures - Mean.view(1, -1, 1, 1)).square().mean([0, 2, 3]));
        DeviationOfPictures = Root((ofPictures - Mean).square().mean([0]));
    }

    /// <summary>Mean of every channel, (channels).</summary>
    public Tensor Mean { get; }

    /// <summary>Deviation of every channel over all places, (channels).</summary>
    public Tensor Deviation { get; }

    /// <summary>Deviation of a channel's average over a picture, (channels).</summary>
    public Tensor DeviationOfPictures { get; }

    /// <summary>Number of channels.</summary>
    public int Channels => (int)_maps.shape[1];

    /// <summary>Looks at pictures, or takes what the cache says of them.</summary>
    /// <param name="path">The cache's file.</param>
    /// <param name="from">All that the pictures and the network depend on.</param>
    /// <param name="teacher">The network.</param>
    /// <param name="cells">Cells along each side of a map.</param>
    /// <param name="pictures">Which.</param>
    /// <param name="pool">Threads to work on.</param>
    /// <param name="report">Told the pictures done and their number.</param>
    /// <param name="cancel">Looked at before every picture.</param>
    public static PictureFeatureSet Load(
        string path, string from, EfficientNetLite teacher, int cells, IReadOnlyList<CaptionedPicture> pictures, WorkerPool pool, Action<int, int>? report, CancellationToken cancel) =>
        new(TensorCache.GetItems(path, $"{from} {cells}", pictures.Count, Part, i =>
        {
            cancel.ThrowIfCancellationRequested();
            return teacher.StageMaps(teacher.Pixels(PictureSet.Decode(pictures[i].File)), cells)[0];
        }, pool, report));

    /// <summary>What is seen in some pictures: (B, channels, cells, cells), fp32.</summary>
    public Tensor Get(IReadOnlyList<int> pictures) => stack(pictures.Select(picture => _maps[picture])).to(ScalarType.Float32);

    /// <inheritdoc/>
    public void Dispose()
    {
        _maps.Dispose();
        Mean.Dispose();
        Deviation.Dispose();
        DeviationOfPictures.Dispose();
    }

    private static Tensor Root(Tensor variance) => variance.sqrt().clamp(min: 1e-4).DetachFromDisposeScope();
}
