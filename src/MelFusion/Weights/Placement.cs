using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Weights;

/// <summary>
/// Where a network lies and in which precision its matrices are kept. Norms always keep 32-bit parameters; activations follow the
/// precision of the network's input.
/// </summary>
/// <param name="Device">The device of every parameter, and of every tensor a forward makes.</param>
/// <param name="Dtype">The type of matrices and convolution kernels: Float32 or BFloat16.</param>
public readonly record struct Placement(Device Device, ScalarType Dtype)
{
    /// <summary>Processor memory, 32-bit floats: how networks train, and how the fixtures are met.</summary>
    public static Placement Cpu => new(torch.CPU, ScalarType.Float32);

    /// <summary>Processor memory, 16-bit brain floats.</summary>
    public static Placement CpuBFloat16 => new(torch.CPU, ScalarType.BFloat16);

    /// <summary>No memory at all: shapes and names only.</summary>
    public static Placement Meta => new(torch.META, ScalarType.Float32);

    /// <summary>The same place with 32-bit matrices.</summary>
    public Placement InFloat32 => this with { Dtype = ScalarType.Float32 };
}
