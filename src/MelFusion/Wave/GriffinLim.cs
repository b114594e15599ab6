using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Wave;

/// <summary>
/// Finds a waveform for magnitudes by going back and forth between spectrogram and waveform; with momentum it is the fast variant of Perraudin et al.
/// B = batch, K = bins, T = frames, M = bands.
/// </summary>
public static class GriffinLim
{
    /// <summary>Momentum that converged best on music.</summary>
    public const double DefaultMomentum = 0.99;

    private const int LeastSquaresSteps = 60;

    /// <summary>The waveform (B, n) of magnitudes (B, K, T), beginning from phases.</summary>
    /// <param name="stft">The framing.</param>
    /// <param name="magnitude">(B, K, T).</param>
    /// <param name="phase">Complex numbers of modulus 1, (B, K, T).</param>
    /// <param name="rounds">How often to go back and forth; a last inverse follows.</param>
    /// <param name="momentum">0 is the plain algorithm.</param>
    /// <param name="cancellation">Honoured within one round.</param>
    public static Tensor FromMagnitude(
        Stft stft, Tensor magnitude, Tensor phase, int rounds, double momentum = DefaultMomentum, CancellationToken cancellation = default)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        (var angles, var previous) = (phase.alias(), torch.zeros_like(phase));
        for (int round = 0; round < rounds; round++)
        {
            cancellation.ThrowIfCancellationRequested();
            var (oldAngles, oldPrevious) = (angles, previous);
            (angles, previous) = Round(stft, magnitude, angles, previous, momentum);
            oldAngles.Dispose();
            oldPrevious.Dispose();
        }

        return stft.Inverse(magnitude * angles).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// The waveform (B, n) of log-mels (B, M, T) without any network: magnitudes by non-negative least squares, random phases from
    /// <paramref name="generator"/>, then <see cref="FromMagnitude"/>.
    /// </summary>
    public static Tensor FromMel(
        MelSpectrogram front, Tensor logMel, Generator generator, int rounds = 16, double momentum = DefaultMomentum, CancellationToken cancellation = default)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var stft = front.Config.Stft;
        var magnitude = MagnitudeOf(front, logMel.exp());
        long frames = stft.FramesOf(logMel.shape[2] * front.Config.HopLength); // one more than the mel has where frames are centred
        magnitude = torch.cat([magnitude, magnitude.narrow(2, magnitude.shape[2] - 1, 1).expand(-1, -1, frames - magnitude.shape[2])], 2);
        var turn = torch.rand(magnitude.shape, ScalarType.Float32, CPU, generator: generator).to(magnitude.dtype, magnitude.device) * (2 * Math.PI);
        return FromMagnitude(stft, magnitude, torch.complex(turn.cos(), turn.sin()), rounds, momentum, cancellation).MoveToOuterDisposeScope();
    }

    /// <summary>The magnitudes (B, K, T) >= 0 whose bands come nearest to (B, M, T) in the least-squares sense, by FISTA.</summary>
    internal static Tensor MagnitudeOf(MelSpectrogram front, Tensor bands)
    {
        using var scope = NewDisposeScope();
        // Bands of equal length: high ones, wide and flat, converge as fast as low ones. The exact solutions are the same.
        var length = front.Filters.square().sum(1, keepdim: true).sqrt(); // (M, 1)
        var (filters, target) = ((front.Filters / length).to(bands.dtype), bands / length.to(bands.dtype));
        double step = 1 / LargestEigenvalue(front.Config);
        var x = torch.matmul(filters.T, target).mul_(step); // (B, K, T)
        (var y, double t) = (x.clone(), 1.0);
        for (int i = 0; i < LeastSquaresSteps; i++)
        {
            using var inner = NewDisposeScope();
            var error = torch.matmul(filters, y).sub_(target);
            var next = (y - (torch.matmul(filters.T, error) * step)).clamp_min_(0);
            double nextT = (1 + Math.Sqrt(1 + (4 * t * t))) / 2;
            y.copy_(next + ((next - x) * ((t - 1) / nextT)));
            x.copy_(next);
            t = nextT;
        }

        return (front.Config.Power == 1 ? x.alias() : x.pow(1 / front.Config.Power)).MoveToOuterDisposeScope();
    }

    private static (Tensor Angles, Tensor Previous) Round(Stft stft, Tensor magnitude, Tensor angles, Tensor previous, double momentum)
    {
        using var scope = NewDisposeScope();
        var rebuilt = stft.Forward(stft.Inverse(magnitude * angles));
        var turned = momentum == 0 ? rebuilt : rebuilt - (previous * (momentum / (1 + momentum)));
        var unit = turned / (turned.abs() + 1e-16);
        return (unit.MoveToOuterDisposeScope(), rebuilt.MoveToOuterDisposeScope());
    }

    /// <summary>Of F F^T with rows of length 1: the steepest curvature, which bounds the step.</summary>
    private static double LargestEigenvalue(MelConfig config)
    {
        using var scope = NewDisposeScope();
        var filters = MelFilters.Create(config, CPU, ScalarType.Float64);
        filters /= filters.square().sum(1, keepdim: true).sqrt();
        return linalg.eigvalsh(filters.matmul(filters.T)).max().item<double>();
    }
}
