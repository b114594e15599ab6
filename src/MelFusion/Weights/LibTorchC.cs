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

    private const string ReorderLinear = "mkldnn::_reorder_linear_weight", ReorderConvolution = "mkldnn::_reorder_convolution_weight";

    private static readonly string[] Exports =
    [
        "torch_call_dispatcher", "torch_new_list_reserve_size", "torch_list_push_back", "aoti_torch_new_tensor_handle",
        "aoti_torch_cpu__linear_pointwise", "aoti_torch_cpu_mkldnn__convolution_pointwise",
    ];

    private static readonly Lazy<bool> Found = new(Look);

    /// <summary>Whether oneDNN's packed weights can be used: a 64-bit x86 processor, and a libtorch that has the operators.</summary>
    public static bool HasPackedWeights => Found.Value;

    /// <summary>A weight (out, in) in the layout that oneDNN multiplies fastest; a new tensor, of use to <see cref="Linear"/> only.</summary>
    public static Tensor PackLinear(Tensor weight)
    {
        ulong* stack = stackalloc ulong[2]; // self and no batch size; then the result
        (stack[0], stack[1]) = (Owned(weight), 0);
        return Call(ReorderLinear, stack);
    }

    /// <summary>
    /// A kernel (out, in, height, width) in the layout in which oneDNN convolves an input of a certain shape fastest. With another shape it
    /// gives the same, bit for bit, but may be reordered at every call. Of use to <see cref="Convolve"/> only.
    /// </summary>
    public static Tensor PackConvolution(Tensor kernel, ConvolutionPlan plan, long[] inputShape)
    {
        ulong* stack = stackalloc ulong[6];
        (stack[0], stack[1], stack[2], stack[3]) = (Owned(kernel), List(plan.Padding), List(plan.Stride), List(plan.Dilation));
        ulong* optional = (ulong*)NativeMemory.Alloc(sizeof(ulong)); // the call frees it
        *optional = List(inputShape);
        (stack[4], stack[5]) = ((ulong)plan.Groups, (ulong)optional);
        return Call(ReorderConvolution, stack);
    }

    /// <summary>The convolution of x (B, in, H, W) with a packed kernel, plus a bias (out); its memory is in the order B, H, W, out. No gradient passes.</summary>
    public static Tensor Convolve(Tensor x, Tensor packed, Tensor? bias, ConvolutionPlan plan)
    {
        nint biasHandle = bias?.Handle ?? 0, y;
        fixed (long* padding = plan.Padding, stride = plan.Stride, dilation = plan.Dilation)
        {
            Check(
                ConvolutionPointwise(
                    x.Handle, packed.Handle, bias is null ? null : &biasHandle, padding, plan.Padding.Length, stride, plan.Stride.Length, dilation,
                    plan.Dilation.Length, plan.Groups, "none", null, 0, null, out y),
                "mkldnn::_convolution_pointwise");
        }

        GC.KeepAlive(x);
        GC.KeepAlive(packed);
        GC.KeepAlive(bias);
        return Tensor.UnsafeCreateTensor(y);
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

    /// <summary>Calls an operator of one result; what is on the stack is consumed.</summary>
    private static Tensor Call(string name, ulong* stack)
    {
        Check(CallDispatcher(name, string.Empty, stack, ExtensionVersion), name);
        return Tensor.UnsafeCreateTensor((nint)stack[0]);
    }

    private static ulong Owned(Tensor tensor)
    {
        Check(NewHandle(tensor.Handle, out nint owned), "a tensor's handle");
        GC.KeepAlive(tensor);
        return (ulong)owned;
    }

    private static ulong List(long[] numbers)
    {
        Check(NewList((nuint)numbers.Length, out nint list), "a list");
        foreach (long number in numbers)
        {
            Check(PushBack(list, (ulong)number), "a list's item");
        }

        return (ulong)list;
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

    [LibraryImport(Library, EntryPoint = "torch_new_list_reserve_size")]
    private static partial int NewList(nuint size, out nint list);

    [LibraryImport(Library, EntryPoint = "torch_list_push_back")]
    private static partial int PushBack(nint list, ulong item);

    [LibraryImport(Library, EntryPoint = "aoti_torch_cpu_mkldnn__convolution_pointwise", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int ConvolutionPointwise(
        nint x, nint weight, nint* bias, long* padding, long paddingCount, long* stride, long strideCount, long* dilation, long dilationCount,
        long groups, string attribute, double** scalars, long scalarCount, byte** algorithm, out nint y);

    [LibraryImport(Library, EntryPoint = "torch_call_dispatcher", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int CallDispatcher(string name, string overload, ulong* stack, ulong version);

    [LibraryImport(Library, EntryPoint = "aoti_torch_cpu__linear_pointwise", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int LinearPointwise(
        nint x, nint weight, nint* bias, string attribute, double** scalars, long scalarCount, byte** algorithm, out nint y);
}

/// <summary>How a kernel is moved over a plane; pairs are (vertical, horizontal).</summary>
internal sealed record ConvolutionPlan(long[] Stride, long[] Padding, long[] Dilation, long Groups);
