using TorchSharp;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace MelFusion.Wave;

/// <summary>
/// The short-time Fourier transform with a periodic Hann window, and its least-squares inverse. B = batch, n = samples, K = bins (FftSize / 2 + 1),
/// T = frames.
/// </summary>
/// <param name="FftSize">Length of the transform in samples.</param>
/// <param name="HopLength">Samples from frame to frame.</param>
/// <param name="WindowLength">Length of the window in samples; a shorter one lies in the middle of the transform.</param>
/// <param name="Padding">Samples mirrored at both ends; half the transform centres each frame on a multiple of the hop.</param>
public sealed record Stft(int FftSize, int HopLength, int WindowLength, int Padding)
{
    /// <summary>A centred transform whose window is as long as it.</summary>
    public static Stft Centred(int fftSize, int hopLength) => new(fftSize, hopLength, fftSize, fftSize / 2);

    /// <summary>Bins of a frame.</summary>
    public int Bins => (FftSize / 2) + 1;

    /// <summary>Frames of a signal of so many samples.</summary>
    public long FramesOf(long samples) => Math.Max(0, ((samples + (2L * Padding) - FftSize) / HopLength) + 1);

    /// <summary>Samples that so many frames stand for.</summary>
    public long SamplesOf(long frames) => ((frames - 1) * HopLength) + FftSize - (2L * Padding);

    /// <summary>Waveform (B, n) to complex spectrogram (B, K, T). A signal must be longer than the padding.</summary>
    public Tensor Forward(Tensor waveform)
    {
        using var scope = NewDisposeScope();
        var padded = Padding == 0 ? waveform : F.pad(waveform.unsqueeze(1), [Padding, Padding], PaddingModes.Reflect).squeeze(1);
        var window = Window(waveform.dtype, waveform.device);
        var frames = padded.unfold(-1, FftSize, HopLength) * window; // (B, T, FftSize)
        return fft.rfft(frames).transpose(1, 2).MoveToOuterDisposeScope(); // (B, K, T)
    }

    /// <summary>Complex spectrogram (B, K, T) to the waveform (B, n) whose transform is nearest to it.</summary>
    public Tensor Inverse(Tensor spectrogram)
    {
        using var scope = NewDisposeScope();
        var frames = fft.irfft(spectrogram.transpose(1, 2), FftSize); // (B, T, FftSize)
        var window = Window(frames.dtype, frames.device);
        long count = spectrogram.shape[2];
        var sum = OverlapAdd(frames * window); // (B, n + 2 Padding)
        var envelope = OverlapAdd((window * window).expand(1, count, FftSize)); // (1, n + 2 Padding)
        // Where no window reaches, at the outermost samples of an unpadded transform, nothing is known: silence.
        var waveform = sum / torch.where(envelope > 1e-8, envelope, torch.ones_like(envelope));
        return waveform.narrow(1, Padding, SamplesOf(count)).contiguous().MoveToOuterDisposeScope();
    }

    /// <summary>Frames (B, T, FftSize) summed where they overlap.</summary>
    private Tensor OverlapAdd(Tensor frames)
    {
        long length = ((frames.shape[1] - 1) * HopLength) + FftSize;
        var columns = frames.transpose(1, 2); // (B, FftSize, T)
        return F.fold(columns, (length, 1), (FftSize, 1), stride: (HopLength, 1)).flatten(1); // (B, 1, length, 1) -> (B, length)
    }

    private Tensor Window(ScalarType dtype, Device device)
    {
        var window = torch.hann_window(WindowLength, true, dtype, device);
        int left = (FftSize - WindowLength) / 2;
        return WindowLength == FftSize ? window : F.pad(window, [left, FftSize - WindowLength - left]);
    }
}
