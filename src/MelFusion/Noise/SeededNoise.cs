using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Noise;

/// <summary>
/// A batch's noise: each candidate has a generator of its own, whose numbers are drawn in fp32 on the processor whatever the device, so
/// that they depend on neither the device nor the batch.
/// </summary>
internal sealed class SeededNoise : IDisposable
{
    private readonly List<Generator> _generators;
    private readonly long[] _shape;
    private readonly Device _device;

    /// <summary>A generator for each candidate.</summary>
    /// <param name="seeds">Their seeds.</param>
    /// <param name="shape">Of one candidate's latent, (C, H, W).</param>
    /// <param name="device">Where the numbers go.</param>
    public SeededNoise(IReadOnlyList<long> seeds, long[] shape, Device device)
    {
        (_shape, _device) = ([1, .. shape], device);
        _generators = [.. seeds.Select(seed => new Generator((ulong)seed, CPU))];
    }

    /// <summary>The next standard normal numbers, (candidates, C, H, W).</summary>
    public Tensor Draw()
    {
        using var scope = NewDisposeScope();
        return cat([.. _generators.Select(generator => randn(_shape, ScalarType.Float32, CPU, generator: generator))])
            .to(_device).MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    public void Dispose() => _generators.ForEach(generator => generator.Dispose());
}
