using Shouldly;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Tests.Support;

/// <summary>What layers inside a network put out, by their names.</summary>
public static class Outputs
{
    /// <summary>Keeps the first output of each named layer from now on.</summary>
    public static Dictionary<string, Tensor> Of(nn.Module network, IEnumerable<string> names)
    {
        var outputs = new Dictionary<string, Tensor>();
        var modules = network.named_modules().ToDictionary(pair => pair.name, pair => pair.module);
        foreach (string name in names)
        {
            modules[name].ShouldBeAssignableTo<nn.Module<Tensor, Tensor>>()!.register_forward_hook((_, _, output) =>
            {
                if (!outputs.ContainsKey(name))
                {
                    outputs[name] = output.clone().DetachFromDisposeScope();
                }

                return output;
            });
        }

        return outputs;
    }

    /// <summary>A tensor against every k-th element of it along each axis, k found from the sizes.</summary>
    public static void ShouldMatchSlice(this Tensor actual, Tensor expected, double tolerance = 1e-4, string? what = null) =>
        Slice(actual, expected).ShouldMatch(expected, tolerance, what);

    /// <summary>Every k-th element along each axis, so that the shape is that of <paramref name="expected"/>.</summary>
    public static Tensor Slice(Tensor actual, Tensor expected)
    {
        TensorIndex[] every = [.. actual.shape.Zip(expected.shape, (have, want) => TensorIndex.Slice(step: (have + want - 1) / want))];
        return actual[every];
    }
}
