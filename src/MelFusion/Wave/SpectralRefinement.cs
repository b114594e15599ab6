using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Wave;

/// <summary>
/// Brings a vocoder's waveform nearer to the mel it was made from: its magnitudes are corrected band by band towards the mel, then a few rounds of
/// Griffin-Lim find phases for them, beginning from the waveform's own. B = batch, n = samples, M = bands, K = bins, T = frames.
/// </summary>
public sealed class SpectralRefinement : IDisposable
{
    private const int Corrections = 3, GriffinLimRounds = 8;
    private const double LeastRatio = 0.05, LargestRatio = 20;

    private readonly MelSpectrogram _front;
    private readonly Tensor _spread; // (K, M): each row a mean over the bands of its bin
    private readonly Tensor _uncovered; // (K, 1): 1 where no band covers the bin

    /// <summary>For the front end of the mel; it stays its owner's to dispose.</summary>
    public SpectralRefinement(MelSpectrogram front)
    {
        using var scope = NewDisposeScope();
        _front = front;
        var columns = front.Filters.sum([0]).unsqueeze(1); // (K, 1)
        var covered = columns > 0;
        _spread = (front.Filters.T / torch.where(covered, columns, torch.ones_like(columns))).contiguous().DetachFromDisposeScope();
        _uncovered = covered.logical_not().to(front.Filters.dtype).DetachFromDisposeScope();
    }

    /// <summary>The refined waveform, of the same length.</summary>
    /// <param name="waveform">(B, n), full scale at 1.</param>
    /// <param name="targetMel">The log-mel to keep to, (B, M, T).</param>
    /// <param name="rounds">0 returns the waveform as it is; 4 is what was measured best.</param>
    /// <param name="progress">Told the number of rounds done after each.</param>
    /// <param name="cancellation">Honoured within one round of Griffin-Lim.</param>
    public Tensor Refine(Tensor waveform, Tensor targetMel, int rounds, IProgress<int>? progress = null, CancellationToken cancellation = default)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(rounds);
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var (current, target) = (waveform.alias(), targetMel.exp());
        for (int round = 1; round <= rounds; round++)
        {
            cancellation.ThrowIfCancellationRequested();
            var old = current;
            current = Round(old, target, cancellation);
            old.Dispose();
            progress?.Report(round);
        }

        return current.MoveToOuterDisposeScope();
    }

    private Tensor Round(Tensor waveform, Tensor target, CancellationToken cancellation)
    {
        using var scope = NewDisposeScope();
        var stft = _front.Config.Stft;
        var spectrogram = stft.Forward(waveform); // (B, K, T)
        var phase = spectrogram / (spectrogram.abs() + 1e-16);
        var magnitude = Corrected(_front.Magnitude(spectrogram), target);
        var refined = GriffinLim.FromMagnitude(stft, magnitude, phase, GriffinLimRounds, cancellation: cancellation);
        return ToLength(refined, waveform.shape[1]).MoveToOuterDisposeScope();
    }

    /// <summary>Magnitudes whose bands lie near the target's; frames that the mel does not have stay as they are.</summary>
    private Tensor Corrected(Tensor magnitude, Tensor target)
    {
        using var scope = NewDisposeScope();
        long frames = Math.Min(magnitude.shape[2], target.shape[2]);
        var (wanted, spread) = (target.narrow(2, 0, frames), _spread.to(magnitude.dtype));
        var rest = magnitude.narrow(2, frames, magnitude.shape[2] - frames);
        var inside = magnitude.narrow(2, 0, frames);
        for (int i = 0; i < Corrections; i++)
        {
            var ratio = (wanted / _front.Bands(inside).clamp_min(_front.Config.LogFloor)).clamp(LeastRatio, LargestRatio); // (B, M, T)
            inside = inside * (torch.matmul(spread, ratio) + _uncovered);
        }

        return torch.cat([inside, rest], 2).MoveToOuterDisposeScope();
    }

    private static Tensor ToLength(Tensor waveform, long samples) => waveform.shape[1] >= samples
        ? waveform.narrow(1, 0, samples).contiguous()
        : nn.functional.pad(waveform, [0, samples - waveform.shape[1]]);

    /// <inheritdoc/>
    public void Dispose()
    {
        _spread.Dispose();
        _uncovered.Dispose();
    }
}
