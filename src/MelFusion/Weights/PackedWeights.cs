using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Weights;

/// <summary>
/// Whether weights in oneDNN's layout do what they did before. On some processors they do not: on Zen 5 libtorch 2.10 gives numbers without meaning for matrices
/// of 48 or 96 outputs in 32 bits. So every layer is tried when it is packed, and stays as it was where the two differ.
/// </summary>
internal static class PackedWeights
{
    // Rounding differs by parts in 10^6, or in 10^2 for 16 bits; what is wrong differs by the size of the numbers themselves.
    private const double Tolerance = 1e-3, ToleranceOf16Bits = 5e-2;

    /// <summary>A matrix (out, in) packed, or null where what it then gives is wrong.</summary>
    public static Tensor? TryLinear(Tensor weight)
    {
        var (packed, sample) = (LibTorchC.PackLinear(weight), Sample([2, weight.shape[1]], weight));
        return Agree(LibTorchC.Linear(sample, packed, null), nn.functional.linear(sample, weight)) ? packed : null;
    }

    /// <summary>Numbers from -1 to 1, no two alike, in the precision of the weights.</summary>
    public static Tensor Sample(long[] shape, Tensor weights)
    {
        long count = shape.Aggregate(1L, (product, side) => product * side);
        return linspace(-1, 1, count, ScalarType.Float32).sin().view(shape).to(weights.dtype);
    }

    /// <summary>Whether two results are the same but for rounding.</summary>
    public static bool Agree(Tensor packed, Tensor plain)
    {
        var (actual, expected) = (packed.to(ScalarType.Float32), plain.to(ScalarType.Float32));
        double allowed = plain.dtype == ScalarType.Float32 ? Tolerance : ToleranceOf16Bits;
        return (actual - expected).abs().max().item<float>() <= allowed * expected.abs().max().item<float>();
    }
}
