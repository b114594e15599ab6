using MelFusion.Tests.Support;
using MelFusion.Weights;
using Shouldly;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace MelFusion.Tests.Weights;

public class LayersTests
{
    [Fact]
    public void A_new_group_norm_is_initialised_to_one_and_zero()
    {
        using var scope = NewDisposeScope();
        var norm = new GroupNorm(2, 4, 1e-5, Placement.Cpu);
        Initialiser.Initialise(norm, new Generator(1));
        var x = torch.randn(3, 4, 5, 5);

        var y = norm.call(x).reshape(3, 2, -1);

        y.mean([2]).abs().max().item<float>().ShouldBeLessThan(1e-5f);
        (y.var(2, false) - 1).abs().max().item<float>().ShouldBeLessThan(1e-4f);
    }

    [Fact]
    public void Master_weights_stay_in_32_bits_under_16_bit_compute_and_so_do_their_gradients()
    {
        using var scope = NewDisposeScope();
        var layer = new Linear(8, 4, Placement.Cpu);
        Initialiser.Initialise(layer, new Generator(1));

        var y = layer.call(torch.randn(2, 8).bfloat16());
        y.sum().backward();

        y.dtype.ShouldBe(ScalarType.BFloat16);
        layer.Weight.grad!.dtype.ShouldBe(ScalarType.Float32);
    }

    [Theory]
    [InlineData(ScalarType.Float32, 1e-5)]
    [InlineData(ScalarType.BFloat16, 2e-2)]
    public void A_packed_linear_layer_gives_what_it_gave_before(ScalarType dtype, double tolerance)
    {
        using var scope = NewDisposeScope();
        foreach (bool bias in new[] { true, false })
        {
            var layer = new Linear(48, 96, new(CPU, dtype), bias);
            Initialiser.Initialise(layer, new Generator(1));
            var x = torch.randn(2, 5, 48).to(dtype);
            using var expected = layer.forward(x).to(ScalarType.Float32);
            using var noGrad = no_grad();

            layer.PackForInference();
            var y = layer.forward(x);

            y.dtype.ShouldBe(dtype);
            y.to(ScalarType.Float32).ShouldMatch(expected, tolerance);
            layer.forward(x[0, 0].reshape(1, 48)).to(ScalarType.Float32).ShouldMatch(expected[0, 0].reshape(1, 96), tolerance);
        }
    }

    [Theory]
    [InlineData(ScalarType.Float32, 1e-5)]
    [InlineData(ScalarType.BFloat16, 2e-2)]
    public void A_packed_convolution_gives_what_it_gave_before_whatever_shapes_came_first(ScalarType dtype, double tolerance)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        long[][] shapes = [[1, 32, 8, 8], [2, 32, 16, 4], [1, 32, 8, 8]];
        foreach (var (kernel, stride, bias) in new[] { (3, 1, true), (3, 2, false), (1, 1, true) })
        {
            Conv2d Layer() => Networks.Filled(new Conv2d(32, 48, kernel, new(CPU, dtype), stride, kernel / 2, bias: bias));
            var (plain, packed) = (Layer(), Layer().PackForInference());
            var inputs = shapes.Select(shape => torch.randn(shape, generator: new Generator(3)).to(dtype)).ToList();
            var results = inputs.Select(packed.forward).ToList();

            foreach (var (x, y) in inputs.Zip(results))
            {
                y.dtype.ShouldBe(dtype);
                y.to(ScalarType.Float32).ShouldMatch(plain.forward(x).to(ScalarType.Float32), tolerance);
            }

            results[2].Equals(results[0]).ShouldBeTrue();
        }
    }

    [Fact]
    public void A_packed_convolution_over_time_gives_what_it_gave_before_whatever_lengths_came_first()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        foreach (var (channels, kernel, stride, dilation) in new[] { (32, 3, 1, 1), (32, 7, 2, 1), (32, 11, 1, 5), (32, 1, 1, 1), (256, 11, 1, 3) })
        {
            Conv1d Layer() => Networks.Filled(new Conv1d(channels, 48, kernel, Placement.Cpu, stride, kernel / 2 * dilation, dilation));
            var (plain, packed) = (Layer(), Layer().PackForInference());
            var inputs = new[] { 40, 25, 40 }.Select(length => torch.randn([2, channels, length], generator: new Generator(3))).ToList();
            var results = inputs.Select(packed.forward).ToList();

            foreach (var (x, y) in inputs.Zip(results))
            {
                y.ShouldMatch(plain.forward(x), 1e-5);
            }

            results[2].Equals(results[0]).ShouldBeTrue();
        }
    }

    [Theory]
    [InlineData(16, 5)]
    [InlineData(16, 4)]
    [InlineData(4, 2)]
    [InlineData(3, 3)]
    public void A_packed_transposed_convolution_gives_what_it_gave_before_whatever_lengths_came_first(int kernel, int stride)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        ConvTranspose1d Layer() => Networks.Filled(new ConvTranspose1d(32, 24, kernel, Placement.Cpu, stride, (kernel - stride) / 2));
        var (plain, packed) = (Layer(), Layer().PackForInference());
        var inputs = new[] { 40, 25, 40 }.Select(length => torch.randn([2, 32, length], generator: new Generator(3))).ToList();
        var results = inputs.Select(packed.forward).ToList();

        foreach (var (x, y) in inputs.Zip(results))
        {
            y.ShouldMatch(plain.forward(x), 1e-5);
        }

        results[2].Equals(results[0]).ShouldBeTrue();
    }

    [Fact]
    public void A_packed_network_keeps_its_weights_once()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var (linear, convolution) = (Networks.Filled(new Linear(8, 4, Placement.Cpu)).PackForInference(), Networks.Filled(new Conv2d(8, 4, 3, Placement.Cpu)).PackForInference());
        linear.forward(torch.randn(1, 8));
        convolution.forward(torch.randn(1, 8, 5, 5));

        if (LibTorchC.HasPackedWeights)
        {
            (linear.Weight.numel(), convolution.Weight.numel()).ShouldBe((0, 0));
        }
    }
}
