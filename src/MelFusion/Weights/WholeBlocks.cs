using TorchSharp;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace MelFusion.Weights;

/// <summary>
/// Convolutions whose channels are filled up to whole blocks of oneDNN's layouts. The kernels of libtorch 2.10 multiply what lies in the rest of a block, and
/// never was set, by zero: where the memory last held a NaN, so does the result. In 16 bits, on Zen 5, results of fewer than 16 channels are wrong altogether.
/// Zeros in the rest change no other bit.
/// </summary>
internal static class WholeBlocks
{
    private const long Block = 16;

    /// <summary>A convolution of x (B, in, ...) by a kernel (out, in, ...), in the precision of x.</summary>
    /// <param name="x">The input.</param>
    /// <param name="weight">The kernel.</param>
    /// <param name="bias">(out), or null.</param>
    /// <param name="groups">Groups of channels; with more than one nothing is filled up.</param>
    /// <param name="convolve">The convolution of an input by a kernel and a bias.</param>
    public static Tensor Of(Tensor x, Tensor weight, Tensor? bias, long groups, Func<Tensor, Tensor, Tensor?, Tensor> convolve)
    {
        var (kernel, offset) = (weight.InPrecisionOf(x), bias?.InPrecisionOf(x));
        long outputs = weight.shape[0], moreInputs = groups == 1 ? MissingInputs(x, weight) : 0, moreOutputs = groups == 1 ? MissingOutputs(x, weight) : 0;
        if (moreInputs == 0 && moreOutputs == 0)
        {
            return convolve(x, kernel, offset);
        }

        var y = convolve(
            moreInputs == 0 ? x : F.pad(x, [.. new long[2 * (x.dim() - 2)], 0, moreInputs]),
            F.pad(kernel, [.. new long[2 * (kernel.dim() - 2)], 0, moreInputs, 0, moreOutputs]),
            offset is null || moreOutputs == 0 ? offset : F.pad(offset, [0, moreOutputs]));
        return moreOutputs == 0 ? y : y.narrow(1, 0, outputs);
    }

    /// <summary>A convolution of a plane x (B, in, H, W) by a kernel (out, in, height, width), in the precision of x.</summary>
    public static Tensor OfPlane(Tensor x, Tensor weight, Tensor? bias, ConvolutionPlan plan)
    {
        var padding = plan.Padding;
        if (plan.Stride.AsSpan().ContainsAnyExcept(1) && x.dtype == ScalarType.BFloat16 && is_grad_enabled())
        {
            // The gradient of a strided kernel in 16 bits would read a border that was never set.
            (x, padding) = (F.pad(x, [padding[1], padding[1], padding[0], padding[0]]), [0, 0]);
        }

        return Of(x, weight, bias, plan.Groups, (input, kernel, offset) => F.conv2d(input, kernel, offset, plan.Stride, padding, plan.Dilation, plan.Groups));
    }

    private static long MissingInputs(Tensor x, Tensor weight) =>
        HasTaps(weight) && (weight.shape[1] > Block || (is_grad_enabled() && x.dtype == ScalarType.BFloat16)) ? Missing(weight.shape[1]) : 0;

    // The gradient of x reads the rest of a block of outputs, in every precision.
    private static long MissingOutputs(Tensor x, Tensor weight) =>
        (is_grad_enabled() && x.requires_grad) || (x.dtype == ScalarType.BFloat16 && HasTaps(weight)) ? Missing(weight.shape[0]) : 0;

    private static bool HasTaps(Tensor weight) => weight.shape.AsSpan()[2..].ContainsAnyExcept(1);

    private static long Missing(long channels) => (Block - (channels % Block)) % Block;
}
