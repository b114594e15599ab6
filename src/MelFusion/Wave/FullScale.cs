using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Wave;

/// <summary>Keeps a piece of music from being cut off where a file's numbers end.</summary>
internal static class FullScale
{
    /// <summary>The largest sample of a piece that was too loud, just below full scale (-0.09 dBFS).</summary>
    public const float Ceiling = 0.99f;

    /// <summary>Makes a piece whose peak is above full scale quieter as a whole; any other stays as it is, bit for bit.</summary>
    /// <param name="samples">(N).</param>
    public static Tensor Fit(Tensor samples)
    {
        float peak = samples.abs().max().item<float>();
        return peak > 1 && float.IsFinite(peak) ? samples * (Ceiling / peak) : samples;
    }
}
