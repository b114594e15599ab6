using System.Runtime.InteropServices;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Weights;

/// <summary>
/// The few operators of libtorch that TorchSharp does not have, through libtorch's own C interface. A tensor's handle is the same there
/// and here. Shapes must be right before a call: an error says nothing but that there was one.
/// </summary>
internal static unsafe partial class LibTorchC
{
    private const string Library = "torch_cpu";
    private const ulong ExtensionVersion = (2UL << 56) | (10UL << 48); // libtorch 2.10

    private static readonly string[] Exports = ["torch_call_dispatcher", "aoti_torch_new_tensor_handle", "aoti_torch_cpu__linear_pointwise"];
    private static readonly Lazy<bool> Found = new(Look);

    /// <summary>Whether oneDNN's packed weights can be used: a 64-bit x86 processor, and a libtorch that has the operators.</summary>
    public static bool HasPackedLinear => Found.Value;

    /// <summary>A weight (out, in) in the layout that oneDNN multiplies fastest; a new tensor, of use to <see cref="Linear"/> only.</summary>
    public static Tensor PackLinear(Tensor weight)
    {
        Check(NewHandle(weight.Handle, out nint owned), "mkldnn::_reorder_linear_weight");
        ulong* stack = stackalloc ulong[2]; // self, which the call consumes, and no batch size; then the result
        (stack[0], stack[1]) = ((ulong)owned, 0);
        Check(CallDispatcher("mkldnn::_reorder_linear_weight", string.Empty, stack, ExtensionVersion), "mkldnn::_reorder_linear_weight");
        GC.KeepAlive(weight);
        return Tensor.UnsafeCreateTensor((nint)stack[0]);
    }

    /// <summary>x (..., in) times a packed weight, plus a bias (out): (..., out). No gradient passes.</summary>
    public static Tensor Linear(Tensor x, Tensor packed, Tensor? bias)
    {
        nint biasHandle = bias?.Handle ?? 0;
        Check(LinearPointwise(x.Handle, packed.Handle, bias is null ? null : &biasHandle, "none", null, 0, null, out nint y), "mkldnn::_linear_pointwise");
        GC.KeepAlive(x);
        GC.KeepAlive(packed);
        GC.KeepAlive(bias);
        return Tensor.UnsafeCreateTensor(y);
    }

    private static bool Look()
    {
        if (RuntimeInformation.ProcessArchitecture != Architecture.X64)
        {
            return false;
        }

        InitializeDeviceType(DeviceType.CPU); // loads libtorch, where nothing has yet
        return NativeLibrary.TryLoad(Library, typeof(LibTorchC).Assembly, null, out nint library)
            && Exports.All(name => NativeLibrary.TryGetExport(library, name, out _));
    }

    private static void Check(int error, string what)
    {
        if (error != 0)
        {
            throw new InvalidOperationException($"libtorch refused {what}.");
        }
    }

    [LibraryImport(Library, EntryPoint = "aoti_torch_new_tensor_handle")]
    private static partial int NewHandle(nint tensor, out nint copy);

    [LibraryImport(Library, EntryPoint = "torch_call_dispatcher", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int CallDispatcher(string name, string overload, ulong* stack, ulong version);

    [LibraryImport(Library, EntryPoint = "aoti_torch_cpu__linear_pointwise", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int LinearPointwise(
        nint x, nint weight, nint* bias, string attribute, double** scalars, long scalarCount, byte** algorithm, out nint y);
}
