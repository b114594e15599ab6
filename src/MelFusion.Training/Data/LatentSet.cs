using MelFusion.Training.Engine;
using MelFusion.Vae;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Training.Data;

/// <summary>Means and deviations of latents in memory, fp16, (N, C, H, W) each, computed once by a frozen autoencoder.</summary>
internal sealed class LatentSet : IDisposable
{
    private readonly Tensor _means, _deviations;
    private readonly double _scale;

    private LatentSet(Dictionary<string, Tensor> tensors, double scale) => (_means, _deviations, _scale) = (tensors["mean"], tensors["deviation"], scale);

    /// <summary>Number of latents.</summary>
    public int Count => (int)_means.shape[0];

    /// <summary>C, H, W.</summary>
    public long[] Shape => _means.shape[1..];

    /// <summary>Encodes samples, or takes the cache's latents.</summary>
    /// <param name="path">The cache's file.</param>
    /// <param name="from">All that the samples and the autoencoder depend on.</param>
    /// <param name="network">The autoencoder.</param>
    /// <param name="prepare">Called before the first sample is asked for, if any is.</param>
    /// <param name="count">Number of samples.</param>
    /// <param name="sample">Sample i, (C, H, W).</param>
    /// <param name="precision">Precision of the computation.</param>
    /// <param name="pool">Threads to work on.</param>
    /// <param name="report">Told the samples done and their number.</param>
    /// <param name="cancel">Looked at before every sample.</param>
    public static LatentSet Load(
        string path, string from, AutoencoderKl network, Action prepare, int count, Func<int, Tensor> sample, ScalarType precision,
        WorkerPool pool, Action<int, int>? report, CancellationToken cancel)
    {
        var tensors = TensorCache.Get(path, from, () =>
        {
            prepare();
            return Compute(network, count, sample, precision, pool, report, cancel);
        });
        return new(tensors, network.Config.ScalingFactor);
    }

    /// <summary>A latent drawn from its distribution and scaled for diffusion: (C, H, W), fp32.</summary>
    public Tensor Draw(int index, Generator generator)
    {
        var noise = randn(Shape, generator: generator);
        return (_means[index].to(ScalarType.Float32) + _deviations[index].to(ScalarType.Float32) * noise) * _scale;
    }

    /// <summary>The scaled mean: (C, H, W), fp32.</summary>
    public Tensor Mean(int index) => _means[index].to(ScalarType.Float32) * _scale;

    /// <inheritdoc/>
    public void Dispose()
    {
        _means.Dispose();
        _deviations.Dispose();
    }

    private static Dictionary<string, Tensor> Compute(
        AutoencoderKl network, int count, Func<int, Tensor> sample, ScalarType precision, WorkerPool pool, Action<int, int>? report, CancellationToken cancel)
    {
        var results = new (Tensor Mean, Tensor Deviation)[count];
        int done = 0;
        pool.ShareInChunks(count, 32, i =>
        {
            cancel.ThrowIfCancellationRequested();
            using var scope = NewDisposeScope();
            using var noGrad = no_grad();
            var (mean, logVariance) = network.Encode(sample(i).unsqueeze(0).to(precision), cancel);
            var deviation = (logVariance.to(ScalarType.Float32) * 0.5).exp();
            results[i] = (mean.to(ScalarType.Float16).DetachFromDisposeScope(), deviation.to(ScalarType.Float16).DetachFromDisposeScope());
            report?.Invoke(Interlocked.Increment(ref done), count);
        });
        using var all = NewDisposeScope();
        var tensors = new Dictionary<string, Tensor>
        {
            ["mean"] = cat([.. results.Select(r => r.Mean)], 0).DetachFromDisposeScope(),
            ["deviation"] = cat([.. results.Select(r => r.Deviation)], 0).DetachFromDisposeScope(),
        };
        Array.ForEach(results, r =>
        {
            r.Mean.Dispose();
            r.Deviation.Dispose();
        });
        return tensors;
    }
}
