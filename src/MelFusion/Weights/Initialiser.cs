using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MelFusion.Weights;

/// <summary>Gives a new network its first weights, from one explicit generator, in the order of its keys.</summary>
public static class Initialiser
{
    /// <summary>
    /// Matrices and kernels uniform in ±1/sqrt(fan-in) and their biases likewise (PyTorch's default for Linear and Conv), norms one and
    /// zero, embedding tables normal with deviation 0.02.
    /// </summary>
    public static void Initialise(nn.Module module, Generator generator)
    {
        using var noGrad = no_grad();
        foreach (var (_, child) in module.named_modules().Prepend((string.Empty, module)))
        {
            using var scope = NewDisposeScope();
            switch (child)
            {
                case Linear or Conv1d or Conv2d or ConvTranspose1d:
                    Uniform(child, generator);
                    break;
                case GroupNorm or LayerNorm:
                    Fill(child);
                    break;
                case Embedding table:
                    table.Weight.normal_(0, 0.02, generator);
                    break;
            }
        }
    }

    private static void Uniform(nn.Module layer, Generator generator)
    {
        var parameters = layer.named_parameters(recurse: false).ToDictionary(p => p.name, p => p.parameter);
        Tensor weight = parameters["weight"];
        double bound = 1 / Math.Sqrt(weight.numel() / (double)weight.shape[0]);
        foreach (var parameter in parameters.Values)
        {
            var values = torch.rand(parameter.shape, ScalarType.Float32, generator: generator);
            parameter.copy_((2 * values - 1) * bound);
        }
    }

    private static void Fill(nn.Module norm)
    {
        foreach (var (name, parameter) in norm.named_parameters(recurse: false))
        {
            parameter.fill_(name == "weight" ? 1f : 0f);
        }
    }
}
