using MelFusion.Tests.Support;
using MelFusion.Weights;
using Shouldly;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace MelFusion.Tests.Weights;

/// <summary>
/// Convolutions on a heap full of NaN. libtorch's kernels for blocks of 16 channels read the unset rest of a block and multiply it by zero, which a NaN
/// survives: on a machine that did other work as well, every second training of a tiny model ended so.
/// </summary>
public sealed class WholeBlocksTests
{
    [Theory]
    [InlineData(24, 16, 1, ScalarType.Float32)]
    [InlineData(33, 1, 1, ScalarType.Float32)]
    [InlineData(16, 4, 1, ScalarType.Float32)]
    [InlineData(8, 24, 1, ScalarType.Float32)]
    [InlineData(32, 32, 2, ScalarType.BFloat16)]
    [InlineData(24, 8, 2, ScalarType.BFloat16)]
    public void No_convolution_and_no_gradient_of_one_shows_what_memory_held_before(int inputs, int outputs, int stride, ScalarType precision)
    {
        using var scope = NewDisposeScope();
        var convolution = Networks.Filled(new Conv2d(inputs, outputs, 3, Placement.Cpu, stride, 1));
        var alongTime = Networks.Filled(new Conv1d(inputs, outputs, 3, Placement.Cpu, padding: 1));

        foreach (int side in new[] { 2, 4, 8 })
        {
            foreach (int _ in Enumerable.Range(0, 5))
            {
                using var round = NewDisposeScope();
                var x = randn([2, inputs, side, side]).to(precision).requires_grad_();
                Litter();
                var y = convolution.forward(x);
                var gradients = autograd.grad([y], [x, convolution.Weight], [randn_like(y)]);
                var series = alongTime.forward(x.detach().flatten(2));

                y.shape.ShouldBe([2, outputs, (side + stride - 1) / stride, (side + stride - 1) / stride]);
                new[] { y, gradients[0], gradients[1], series }.ShouldAllBe(tensor => tensor.isfinite().all().item<bool>());
            }
        }
    }

    [Theory]
    [InlineData(24, 20, 1, ScalarType.Float32, 1e-5)]
    [InlineData(24, 20, 1, ScalarType.BFloat16, 2e-2)]
    [InlineData(96, 8, 1, ScalarType.BFloat16, 2e-2)]
    [InlineData(32, 32, 2, ScalarType.BFloat16, 2e-2)]
    [InlineData(4, 96, 1, ScalarType.BFloat16, 2e-2)]
    [InlineData(8, 8, 2, ScalarType.BFloat16, 2e-2)]
    public void Filling_up_channels_changes_neither_the_result_nor_the_gradients(int inputs, int outputs, int stride, ScalarType precision, double tolerance)
    {
        using var scope = NewDisposeScope();
        var convolution = Networks.Filled(new Conv2d(inputs, outputs, 3, new(CPU, precision), stride, 1));
        var x = randn([2, inputs, 8, 8]).to(precision).requires_grad_();
        var (weight, inDoubles) = (Doubles(convolution.Weight.detach()).requires_grad_(), Doubles(x.detach()).requires_grad_());

        var y = convolution.forward(x);
        var upstream = randn_like(y);
        var expected = nn.functional.conv2d(inDoubles, weight, Doubles(convolution.parameters().Last().detach()), strides: [stride, stride], padding: [1, 1]);
        var gradients = autograd.grad([y], [x, convolution.Weight], [upstream]);
        var expectedGradients = autograd.grad([expected], [inDoubles, weight], [Doubles(upstream)]);

        y.ShouldMatch(expected, tolerance);
        gradients[0].ShouldMatch(expectedGradients[0], tolerance);
        gradients[1].ShouldMatch(expectedGradients[1], tolerance);
    }

    [Theory]
    [InlineData(4)]
    [InlineData(8)]
    [InlineData(16)]
    [InlineData(24)]
    [InlineData(48)]
    public void Convolutions_and_packed_weights_are_right_in_16_bits_and_in_32_whatever_the_width(int outputs)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        foreach (var precision in new[] { ScalarType.Float32, ScalarType.BFloat16 })
        {
            var place = new Placement(CPU, precision);
            double tolerance = precision == ScalarType.Float32 ? 1e-5 : 2e-2;
            foreach (int inputs in new[] { 4, 24, 96 })
            {
                var (convolution, linear) = (Networks.Filled(new Conv2d(inputs, outputs, 3, place, 1, 1)), Networks.Filled(new Linear(inputs, outputs, place)));
                var (plane, rows) = (randn([2, inputs, 8, 8]).to(precision), randn([7, inputs]).to(precision));
                var ofPlane = nn.functional.conv2d(Doubles(plane), Doubles(convolution.Weight), Doubles(convolution.parameters().Last()), padding: [1, 1]);
                var ofRows = nn.functional.linear(Doubles(rows), Doubles(linear.Weight), Doubles(linear.Bias!));

                convolution.forward(plane).ShouldMatch(ofPlane, tolerance);
                linear.forward(rows).ShouldMatch(ofRows, tolerance);
                convolution.PackForInference().forward(plane).ShouldMatch(ofPlane, tolerance);
                linear.PackForInference().forward(rows).ShouldMatch(ofRows, tolerance);
            }
        }
    }

    private static Tensor Doubles(Tensor x) => x.to(ScalarType.Float64);

    // Memory that was freed last is what the next tensors get.
    private static void Litter()
    {
        using var scope = NewDisposeScope();
        foreach (long size in new long[] { 16, 64, 256, 1024, 4096, 16384 })
        {
            foreach (int _ in Enumerable.Range(0, 24))
            {
                full([size], double.NaN, ScalarType.Float32);
            }
        }
    }
}
