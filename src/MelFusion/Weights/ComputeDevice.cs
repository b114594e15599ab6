using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Weights;

/// <summary>Where networks compute.</summary>
public enum ComputeDevice
{
    /// <summary>The processor.</summary>
    Cpu,

    /// <summary>An NVIDIA graphics card, with a CUDA build of libtorch.</summary>
    Cuda,
}

/// <summary>The computing side of this process.</summary>
public static class Computing
{
    /// <summary>libtorch's device.</summary>
    /// <exception cref="MelFusionException">There is none here.</exception>
    public static Device Open(ComputeDevice device) =>
        device == ComputeDevice.Cpu ? CPU
        : HasCuda() ? CUDA
        : throw new MelFusionException("There is no CUDA here: this build carries libtorch for processors, or no NVIDIA card is ready; use --device cpu.");

    /// <summary>Sets libtorch's threads, which decide the last bits of every sum; to be called before the first network.</summary>
    /// <param name="count">How many; null leaves libtorch's choice, one per physical core.</param>
    public static void UseThreads(int? count)
    {
        if (count is { } threads)
        {
            // libtorch ends the process where this is 0.
            ArgumentOutOfRangeException.ThrowIfNegativeOrZero(threads);
            set_num_threads(threads);
        }
    }

    private static bool HasCuda()
    {
        try
        {
            return cuda.is_available();
        }
        catch (Exception e) when (e is NotSupportedException or DllNotFoundException or TypeInitializationException or System.Runtime.InteropServices.ExternalException)
        {
            return false;
        }
    }
}
