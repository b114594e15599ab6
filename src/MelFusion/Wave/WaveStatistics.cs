using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Wave;

/// <summary>Plain figures about one sound.</summary>
/// <param name="RmsDbfs">Root mean square in dB, where a full-scale square wave is 0; negative infinity for silence.</param>
/// <param name="Peak">The largest |sample|; full scale is 1.</param>
/// <param name="ClippedFraction">Part of the samples at or beyond full scale of 16 bits, 0 to 1.</param>
/// <param name="SilenceFraction">Part of the frames of 2048 samples below -60 dBFS, 0 to 1; 1 where no frame is whole.</param>
/// <param name="SpectralFlatness">
/// Mean over the frames that are not silent of the geometric over the arithmetic mean of the power spectrum: 0 a tone, near 0.56 white noise, 1 a click;
/// 0 where all is silent.
/// </param>
public sealed record WaveStatistics(double RmsDbfs, double Peak, double ClippedFraction, double SilenceFraction, double SpectralFlatness)
{
    private const int FrameLength = 2048, Hop = 512;
    private const double SilenceDbfs = -60, FullScale = 32767.0 / 32768;

    /// <summary>The figures of samples, full scale at 1.</summary>
    public static WaveStatistics Of(ReadOnlySpan<float> samples)
    {
        if (samples.IsEmpty)
        {
            return new WaveStatistics(double.NegativeInfinity, 0, 0, 1, 0);
        }

        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var x = torch.tensor(samples.ToArray());
        var magnitude = x.abs();
        double power = x.to(ScalarType.Float64).square().mean().item<double>();
        (double silence, double flatness) = samples.Length < FrameLength ? (1, 0) : OfFrames(x);
        return new WaveStatistics(
            10 * Math.Log10(power), magnitude.max().item<float>(), (magnitude >= FullScale).to(ScalarType.Float64).mean().item<double>(), silence, flatness);
    }

    private static (double Silence, double Flatness) OfFrames(Tensor x)
    {
        var frames = x.unfold(0, FrameLength, Hop); // (T, FrameLength)
        var loud = frames.square().mean([1]) >= Math.Pow(10, SilenceDbfs / 10); // (T)
        double fraction = loud.to(ScalarType.Float64).mean().item<double>();
        if (fraction == 0)
        {
            return (1, 0);
        }

        var power = new Stft(FrameLength, Hop, FrameLength, 0).Forward(x.unsqueeze(0))[0].abs().square().to(ScalarType.Float64) + 1e-12; // (K, T)
        var flatness = power.log().mean([0]).exp() / power.mean([0]);
        return (1 - fraction, flatness[loud].mean().item<double>());
    }
}

/// <summary>How far one waveform is from another of the same length.</summary>
public static class WaveDistance
{
    private static readonly int[] FftSizes = [512, 1024, 2048];

    /// <summary>
    /// Mean over transforms of 512, 1024 and 2048 samples (hop a quarter) of spectral convergence, ||A| - |B|| / ||A|| in the Frobenius norm, plus the mean
    /// |ln |A| - ln |B||, magnitudes floored at 1e-4; A is the reference. Waveforms are (B, n), of more than
    /// 256 samples; a transform whose half is not shorter than they are is left out.
    /// </summary>
    public static double MultiResolutionStft(Tensor reference, Tensor waveform)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        return FftSizes.Where(size => reference.shape[1] > size / 2).Average(size =>
        {
            var stft = Stft.Centred(size, size / 4);
            (var a, var b) = (stft.Forward(reference).abs().clamp_min(1e-4), stft.Forward(waveform).abs().clamp_min(1e-4));
            return ((a - b).norm() / a.norm() + (a.log() - b.log()).abs().mean()).item<float>();
        });
    }

    /// <summary>Mean |difference| of the log-mel of a waveform (B, n) from a log-mel (B, M, T).</summary>
    public static double LogMelL1(MelSpectrogram front, Tensor referenceMel, Tensor waveform)
    {
        using var scope = NewDisposeScope();
        var mel = front.Forward(waveform);
        long frames = Math.Min(mel.shape[2], referenceMel.shape[2]);
        return (mel.narrow(2, 0, frames) - referenceMel.narrow(2, 0, frames)).abs().mean().item<float>();
    }
}
