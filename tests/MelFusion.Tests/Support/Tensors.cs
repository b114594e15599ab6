using TorchSharp;

namespace MelFusion.Tests.Support;

/// <summary>What is alive.</summary>
public static class Tensors
{
    /// <summary>Native tensors that TorchSharp holds handles of in this process, whichever test made them.</summary>
    public static long Live => torch.Tensor.TotalCount;

    /// <summary>The process's resident memory after the collector has run.</summary>
    public static long ResidentBytes()
    {
        GC.Collect();
        GC.WaitForPendingFinalizers();
        GC.Collect();
        using var process = System.Diagnostics.Process.GetCurrentProcess();
        return process.WorkingSet64;
    }
}
