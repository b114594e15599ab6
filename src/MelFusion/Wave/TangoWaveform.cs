using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Wave;

/// <summary>How AudioLDM and TANGO level and cut a waveform before its mel.</summary>
public static class TangoWaveform
{
    /// <summary>
    /// Without its mean, peak at 0.5, cut or padded with zeros to <paramref name="samples"/>, peak at 0.5 again, no numbers as 0. The mean and the
    /// first peak are those of the whole waveform. (B, n) to (B, samples).
    /// </summary>
    public static Tensor Normalise(Tensor waveform, long samples)
    {
        using var scope = NewDisposeScope();
        var x = waveform - waveform.mean([-1], keepdim: true);
        x = x / (Peak(x) + 1e-8) * 0.5;
        x = x.shape[^1] >= samples ? x.narrow(-1, 0, samples) : nn.functional.pad(x, [0, samples - x.shape[^1]]);
        return (x / Peak(x) * 0.5).clamp(-1, 1).nan_to_num(0).MoveToOuterDisposeScope();
    }

    private static Tensor Peak(Tensor x) => x.abs().amax([-1], keepdim: true);
}
