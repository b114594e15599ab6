using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Wave;

/// <summary>
/// Waveforms to log-mel spectrograms, in the precision of the waveform. B = batch, n = samples, M = bands, K = bins, T = n / hop, rounded down.
/// </summary>
public sealed class MelSpectrogram : IDisposable
{
    private readonly Tensor _filters; // (M, K)

    /// <summary>With the front end's sizes; filters lie on <paramref name="device"/>, processor memory by default.</summary>
    public MelSpectrogram(MelConfig config, Device? device = null)
    {
        Config = config;
        _filters = MelFilters.Create(config, device).DetachFromDisposeScope();
    }

    /// <summary>The sizes.</summary>
    public MelConfig Config { get; }

    /// <summary>The filters (M, K), fp32.</summary>
    public Tensor Filters => _filters;

    /// <summary>The shortest signal that can be transformed, in samples: the ends are mirrored.</summary>
    public int ShortestSignal => Math.Max(Config.HopLength, Config.Padding + 1);

    /// <summary>Waveforms (B, n) as models learn from them: levelled where the front end says so, and as long as so many frames, cut or followed by silence.</summary>
    public Tensor Prepare(Tensor waveform, int frames)
    {
        long samples = (long)frames * Config.HopLength;
        return Config.Levelled ? TangoWaveform.Normalise(waveform, samples)
            : waveform.shape[1] >= samples ? waveform.narrow(1, 0, samples)
            : nn.functional.pad(waveform, [0, samples - waveform.shape[1]]);
    }

    /// <summary>A log-mel as a model's VAE reads it: (x - mean) / deviation.</summary>
    public Tensor Normalise(Tensor mel) => (mel - Config.Mean) / Config.Deviation;

    /// <summary>The log-mel that a model's VAE means.</summary>
    public Tensor Denormalise(Tensor mel) => (mel * Config.Deviation) + Config.Mean;

    /// <summary>Log-mel (B, M, T) of waveforms (B, n), full scale at 1.</summary>
    public Tensor Forward(Tensor waveform)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        return Log(Bands(Magnitude(Config.Stft.Forward(waveform)))).narrow(2, 0, waveform.shape[1] / Config.HopLength)
            .contiguous().MoveToOuterDisposeScope();
    }

    /// <summary>|S| of a complex spectrogram, with the front end's epsilon under the root.</summary>
    internal Tensor Magnitude(Tensor spectrogram) =>
        Config.MagnitudeEpsilon == 0
            ? spectrogram.abs()
            : (spectrogram.real.square() + spectrogram.imag.square() + Config.MagnitudeEpsilon).sqrt();

    /// <summary>Band energies (B, M, T) of magnitudes (B, K, T).</summary>
    internal Tensor Bands(Tensor magnitude) =>
        torch.matmul(_filters.to(magnitude.dtype), Config.Power == 1 ? magnitude : magnitude.pow(Config.Power));

    private Tensor Log(Tensor bands) => bands.clamp_min(Config.LogFloor).log();

    /// <inheritdoc/>
    public void Dispose() => _filters.Dispose();
}
