using System.Runtime.InteropServices;

namespace MelFusion.Weights;

/// <summary>
/// Memory between what is still in use, which glibc keeps when weights of a few megabytes are freed one by one: it is given back to the
/// system as often as much of it has come together.
/// </summary>
internal static partial class NativeHeap
{
    private const long Much = 128 << 20;

    private static long _freed;
    private static bool _cannot = !OperatingSystem.IsLinux();

    /// <summary>Takes note of freed memory.</summary>
    public static void Freed(long bytes)
    {
        if (!_cannot && Interlocked.Add(ref _freed, bytes) >= Much)
        {
            Interlocked.Exchange(ref _freed, 0);
            Trim();
        }
    }

    private static void Trim()
    {
        try
        {
            _ = MallocTrim(0);
        }
        catch (Exception missing) when (missing is EntryPointNotFoundException or DllNotFoundException)
        {
            _cannot = true; // another C library
        }
    }

    [LibraryImport("libc", EntryPoint = "malloc_trim")]
    private static partial int MallocTrim(nuint keep);
}
