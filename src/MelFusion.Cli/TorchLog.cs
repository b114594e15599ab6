using System.Runtime.InteropServices;

namespace MelFusion.Cli;

/// <summary>
/// libtorch's own log on standard error. On some processors it warns at every convolution that NNPACK cannot be used, in the midst of the progress
/// that people watch.
/// </summary>
internal static class TorchLog
{
    private const int Error = 2; // INFO, WARNING, ERROR, FATAL

    /// <summary>Leaves errors only, where the platform's libtorch names its level; to be called before it computes.</summary>
    public static void ShowErrorsOnly()
    {
        if (NativeLibrary.TryLoad("c10", typeof(TorchLog).Assembly, null, out nint library)
            && NativeLibrary.TryGetExport(library, "FLAGS_caffe2_log_level", out nint level))
        {
            Marshal.WriteInt32(level, Error);
        }
    }
}
