using TorchSharp;

namespace MelFusion.Tests.Support;

/// <summary>What is alive.</summary>
public static class Tensors
{
    /// <summary>Native tensors that TorchSharp holds handles of in this process, whichever test made them.</summary>
    public static long Live => torch.Tensor.TotalCount;

    /// <summary>The process's resident memory once the collector has run and given free regions back to the system.</summary>
    public static long ResidentBytes()
    {
        GC.Collect();
        GC.WaitForPendingFinalizers();
        GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive, blocking: true, compacting: true); // gives free regions back to the system
        using var process = System.Diagnostics.Process.GetCurrentProcess();
        return process.WorkingSet64;
    }
}
