using System.Runtime.CompilerServices;
using TorchSharp;

namespace MelFusion.Tests.Support;

internal static class OneThread
{
    /// <summary>
    /// Test classes run side by side already; with two threads of libtorch in each, tensors as small as these spend their time waiting
    /// for one another.
    /// </summary>
    [ModuleInitializer]
    internal static void Set() => torch.set_num_threads(1);
}
