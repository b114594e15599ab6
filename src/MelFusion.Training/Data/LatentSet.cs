using MelFusion.Training.Engine;
using MelFusion.Vae;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Training.Data;

/// <summary>Means and deviations of latents in memory, fp16, (N, C, H, W) each, computed once by a frozen autoencoder.</summary>
internal sealed class LatentSet : IDisposable
{
    private const int Part = 256;

    private readonly Tensor _latents; // (N, 2, C, H, W): mean and deviation
    private readonly double _scale;

    private LatentSet(Tensor latents, double scale) => (_latents, _scale) = (latents, scale);

    /// <summary>Number of latents.</summary>
    public int Count => (int)_latents.shape[0];

    /// <summary>C, H, W.</summary>
    public long[] Shape => _latents.shape[2..];

    /// <summary>Encodes samples, or takes the cache's latents.</summary>
    /// <param name="path">The cache's file.</param>
    /// <param name="from">All that the samples and the autoencoder depend on.</param>
    /// <param name="network">The autoencoder.</param>
    /// <param name="prepare">Called before the first sample is asked for, if any is; null: nothing is to be done.</param>
    /// <param name="count">Number of samples.</param>
    /// <param name="sample">Sample i, (C, H, W).</param>
    /// <param name="precision">Precision of the computation.</param>
    /// <param name="pool">Threads to work on.</param>
    /// <param name="report">Told the samples done and their number.</param>
    /// <param name="cancel">Looked at before every sample.</param>
    public static LatentSet Load(
        string path, string from, AutoencoderKl network, Action? prepare, int count, Func<int, Tensor> sample, ScalarType precision,
        WorkerPool pool, Action<int, int>? report, CancellationToken cancel)
    {
        var latents = TensorCache.GetItems(path, from, count, Part, i =>
        {
            cancel.ThrowIfCancellationRequested();
            var (mean, logVariance) = network.Encode(sample(i).unsqueeze(0).to(precision), cancel); // (1, C, H, W)
            return cat([mean, (logVariance.to(ScalarType.Float32) * 0.5).exp()], 0);
        }, pool, report, prepare);
        return new(latents, network.Config.ScalingFactor);
    }

    /// <summary>A latent drawn from its distribution and scaled for diffusion: (C, H, W), fp32.</summary>
    public Tensor Draw(int index, Generator generator)
    {
        var noise = randn(Shape, generator: generator);
        return (_latents[index, 0].to(ScalarType.Float32) + _latents[index, 1].to(ScalarType.Float32) * noise) * _scale;
    }

    /// <summary>The scaled mean: (C, H, W), fp32.</summary>
    public Tensor Mean(int index) => _latents[index, 0].to(ScalarType.Float32) * _scale;

    /// <inheritdoc/>
    public void Dispose() => _latents.Dispose();
}
