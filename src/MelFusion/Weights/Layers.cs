using TorchSharp;
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace MelFusion.Weights;

// The layers every network here is made of. Parameters are allocated and not filled: they come from a file (WeightsFile.LoadInto) or
// from Initialiser. A layer computes in the precision of its input; a weight kept in another one is cast on the way (fp32 master
// weights under bf16 compute: the gradient comes back in fp32).

/// <summary>y = x W^T + b over the last axis, in the precision of x.</summary>
public sealed class Linear : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "weight")] private readonly Parameter _weight; // (out, in)
    [ComponentName(Name = "bias")] private readonly Parameter? _bias;
    private bool _packs; // the layer then only predicts
    private Tensor? _packed; // the weight in the layout of oneDNN

    /// <summary>A layer of uninitialised weights.</summary>
    public Linear(long inFeatures, long outFeatures, Placement place, bool bias = true) : base(nameof(Linear))
    {
        _weight = LayerParameter.Empty([outFeatures, inFeatures], place);
        _bias = bias ? LayerParameter.Empty([outFeatures], place) : null;
        RegisterComponents();
    }

    /// <summary>The kernel (out, in).</summary>
    public Parameter Weight => _weight;

    /// <summary>The bias (out), where there is one.</summary>
    public Parameter? Bias => _bias;

    /// <inheritdoc/>
    public override Tensor forward(Tensor x)
    {
        if (_packs && _packed is null)
        {
            PackNow();
        }

        return _packed is null
            ? F.linear(x, _weight.InPrecisionOf(x), _bias?.InPrecisionOf(x))
            : LibTorchC.Linear(x.InPrecisionOf(_packed), _packed, _bias);
    }

    /// <summary>Lets the weight be put into the processor's own layout when the first input comes; the memory it had is then given up.</summary>
    internal void Pack() => _packs = true;

    private void PackNow()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        _packed = PackedWeights.TryLinear(_weight.detach())?.DetachFromDisposeScope();
        _packs = _packed is not null;
        if (_packs)
        {
            _weight.GiveUpMemory();
        }
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _packed?.Dispose();
        }

        base.Dispose(disposing);
    }
}

/// <summary>One-dimensional convolution over (B, C, T).</summary>
public sealed class Conv1d : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "weight")] private readonly Parameter _weight; // (out, in / groups, kernel)
    [ComponentName(Name = "bias")] private readonly Parameter? _bias;
    // From here on oneDNN's kernel for channels that come last takes up to twice as long where taps lie apart: such a layer is not packed.
    private const long ManyChannels = 256, ManyTaps = 9;

    private readonly long _stride, _padding, _dilation, _groups;
    private bool _turns; // whether an input in the order B, T, C is turned first
    private PackedKernel? _packed; // the layer then only predicts, and gives (B, C, T) in the order B, T, C

    /// <summary>A layer of uninitialised weights.</summary>
    public Conv1d(
        long inChannels, long outChannels, long kernel, Placement place,
        long stride = 1, long padding = 0, long dilation = 1, long groups = 1, bool bias = true) : base(nameof(Conv1d))
    {
        _weight = LayerParameter.Empty([outChannels, inChannels / groups, kernel], place);
        _bias = bias ? LayerParameter.Empty([outChannels], place) : null;
        (_stride, _padding, _dilation, _groups) = (stride, padding, dilation, groups);
        RegisterComponents();
    }

    /// <summary>The kernel (out, in / groups, width).</summary>
    public Parameter Weight => _weight;

    /// <inheritdoc/>
    public override Tensor forward(Tensor x) => MetaConvolution.Of(x, _weight, [_stride], [_padding], [_dilation]) ??
        (_packed is null ? Plain(x) : Packed(x));

    /// <summary>Lets the kernel be put into the processor's own layout when the first input comes: which one is best depends on its shape.</summary>
    internal void Pack()
    {
        _turns = _dilation > 1 && _weight.shape[1] >= ManyChannels && _weight.shape[2] >= ManyTaps;
        _packed ??= _turns ? null : new(_weight, _bias, new([1, _stride], [0, _padding], [1, _dilation], _groups));
    }

    private Tensor Plain(Tensor x) => WholeBlocks.Of(_turns ? x.contiguous() : x, _weight, _bias, _groups,
        (input, weight, bias) => F.conv1d(input, weight, bias, _stride, _padding, _dilation, _groups));

    // As a plane of height 1: (B, C, 1, T).
    private Tensor Packed(Tensor x)
    {
        using var scope = NewDisposeScope();
        return _packed!.Convolve(x.unsqueeze(2)).squeeze(2).MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _packed?.Dispose();
        }

        base.Dispose(disposing);
    }
}

/// <summary>One-dimensional transposed convolution over (B, C, T).</summary>
public sealed class ConvTranspose1d : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "weight")] private readonly Parameter _weight; // (in, out, kernel)
    [ComponentName(Name = "bias")] private readonly Parameter? _bias;
    private readonly long _outChannels, _width, _stride, _padding;
    private PackedKernel? _packed; // the layer then only predicts, and gives (B, C, T) in the order B, T, C
    private Tensor? _repeatedBias; // (stride out)

    /// <summary>A layer of uninitialised weights.</summary>
    public ConvTranspose1d(
        long inChannels, long outChannels, long kernel, Placement place, long stride = 1, long padding = 0, bool bias = true)
        : base(nameof(ConvTranspose1d))
    {
        _weight = LayerParameter.Empty([inChannels, outChannels, kernel], place);
        _bias = bias ? LayerParameter.Empty([outChannels], place) : null;
        (_outChannels, _width, _stride, _padding) = (outChannels, kernel, stride, padding);
        RegisterComponents();
    }

    /// <summary>The kernel (in, out, width).</summary>
    public Parameter Weight => _weight;

    /// <inheritdoc/>
    public override Tensor forward(Tensor x) => MetaConvolution.Transposed(x, _weight, _stride, _padding) ??
        (_packed is null ? F.conv_transpose1d(x, _weight.InPrecisionOf(x), _bias?.InPrecisionOf(x), _stride, _padding) : Packed(x));

    /// <summary>Lets the kernel be put into the processor's own layout when the first input comes: which one is best depends on its shape.</summary>
    internal void Pack()
    {
        if (_packed is null)
        {
            using var scope = NewDisposeScope();
            _repeatedBias = _bias?.detach().repeat([_stride]).DetachFromDisposeScope();
            _packed = new(_weight, _repeatedBias, new([1, 1], [0, Taps - 1], [1, 1], 1), Phases);
        }
    }

    // Every stride-th sample is a convolution of its own with every stride-th weight: all of these are one convolution with stride times as
    // many channels, which lie as the samples of one.
    private Tensor Packed(Tensor x)
    {
        using var scope = NewDisposeScope();
        var (batch, length) = (x.shape[0], ((x.shape[2] - 1) * _stride) - (2 * _padding) + _width);
        var phases = _packed!.Convolve(x.unsqueeze(2)).squeeze(2).transpose(1, 2); // (B, T + taps - 1, stride C')
        return phases.reshape(batch, -1, _outChannels).narrow(1, _padding, length).transpose(1, 2).MoveToOuterDisposeScope();
    }

    // (in, out, width) to (stride out, in, 1, taps), the last tap first.
    private Tensor Phases(Tensor kernel) => F.pad(kernel, [0, (Taps * _stride) - _width])
        .reshape(kernel.shape[0], kernel.shape[1], Taps, _stride).flip(2).permute(3, 1, 0, 2).reshape(_stride * kernel.shape[1], kernel.shape[0], 1, Taps).contiguous();

    private long Taps => (_width + _stride - 1) / _stride;

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _packed?.Dispose();
            _repeatedBias?.Dispose();
        }

        base.Dispose(disposing);
    }
}

/// <summary>Two-dimensional convolution over (B, C, H, W).</summary>
public sealed class Conv2d : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "weight")] private readonly Parameter _weight; // (out, in / groups, kernel, kernel)
    [ComponentName(Name = "bias")] private readonly Parameter? _bias;
    private readonly ConvolutionPlan _plan;
    private PackedKernel? _packed; // the layer then only predicts

    /// <summary>A layer of uninitialised weights with a square kernel.</summary>
    public Conv2d(
        long inChannels, long outChannels, long kernel, Placement place,
        long stride = 1, long padding = 0, long groups = 1, bool bias = true)
        : this(inChannels, outChannels, (kernel, kernel), place, (stride, stride), (padding, padding), groups, bias)
    {
    }

    /// <summary>A layer of uninitialised weights; pairs are (vertical, horizontal).</summary>
    public Conv2d(
        long inChannels, long outChannels, (long H, long W) kernel, Placement place,
        (long H, long W) stride, (long H, long W) padding, long groups = 1, bool bias = true) : base(nameof(Conv2d))
    {
        _weight = LayerParameter.Empty([outChannels, inChannels / groups, kernel.H, kernel.W], place);
        _bias = bias ? LayerParameter.Empty([outChannels], place) : null;
        _plan = new([stride.H, stride.W], [padding.H, padding.W], [1, 1], groups);
        RegisterComponents();
    }

    /// <summary>The kernel (out, in / groups, height, width).</summary>
    public Parameter Weight => _weight;

    /// <inheritdoc/>
    public override Tensor forward(Tensor x) => MetaConvolution.Of(x, _weight, _plan.Stride, _plan.Padding, _plan.Dilation) ??
        (_packed?.Convolve(x) ?? WholeBlocks.OfPlane(x, _weight, _bias, _plan));

    /// <summary>Lets the kernel be put into the processor's own layout when the first input comes: which one is best depends on its shape.</summary>
    internal void Pack() => _packed ??= new(_weight, _bias, _plan);

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _packed?.Dispose();
        }

        base.Dispose(disposing);
    }
}

/// <summary>A kernel in the layout of oneDNN that suits inputs of one shape, made when the first one comes; the parameter's own memory is then given up.</summary>
/// <param name="weight">The kernel as it was loaded.</param>
/// <param name="bias">(out).</param>
/// <param name="plan">How it is moved.</param>
/// <param name="asPlane">From the weight to a kernel (out, in, height, width); null: it is one, or one of height 1.</param>
internal sealed class PackedKernel(Parameter weight, Tensor? bias, ConvolutionPlan plan, Func<Tensor, Tensor>? asPlane = null) : IDisposable
{
    private const long SideOfSample = 12;

    private Tensor? _packed, _kernel; // one of the two
    private bool _isWrong; // the processor's kernel for packed weights is, so that the plain one is taken
    private long[] _packedFor = [];

    /// <summary>x (B, in, H, W) to (B, out, H', W'), whose memory is in the order B, H', W', out. No gradient passes.</summary>
    public Tensor Convolve(Tensor x)
    {
        if (!_isWrong && !x.shape.AsSpan().SequenceEqual(_packedFor))
        {
            PackFor(x.shape);
        }

        return _packed is not null ? LibTorchC.Convolve(x.InPrecisionOf(_packed), _packed, bias, plan) : WholeBlocks.OfPlane(x.InPrecisionOf(weight), _kernel!, bias, plan);
    }

    public void Dispose()
    {
        _packed?.Dispose();
        _kernel?.Dispose();
    }

    // The layout changes no bit of the result, so that it does not matter which shapes came before.
    private void PackFor(long[] shape)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var kernel = _packed?.to_dense() ?? (asPlane ?? Plane)(weight.detach());
        var packed = LibTorchC.PackConvolution(kernel, plan, shape);
        long Side(int axis) => Math.Min(shape[axis], Math.Max(SideOfSample, (plan.Dilation[axis - 2] * (kernel.shape[axis] - 1)) + 1));
        var sample = PackedWeights.Sample([1, shape[1], Side(2), Side(3)], kernel);
        _isWrong = !PackedWeights.Agree(LibTorchC.Convolve(sample, packed, null, plan), WholeBlocks.OfPlane(sample, kernel, null, plan));
        if (_isWrong)
        {
            _kernel = _packed is null ? kernel.alias().DetachFromDisposeScope() : null; // what was packed for another shape serves this one too
            return;
        }

        if (_packed is null)
        {
            weight.GiveUpMemory();
        }

        _packed?.Dispose();
        (_packed, _packedFor) = (packed.DetachFromDisposeScope(), shape);
    }

    // (out, in, width) to (out, in, 1, width).
    private static Tensor Plane(Tensor kernel) => kernel.dim() == 3 ? kernel.unsqueeze(2) : kernel;
}

/// <summary>Group normalisation over (B, C, ...), parameters in fp32 whatever the input.</summary>
public sealed class GroupNorm : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "weight")] private readonly Parameter _weight;
    [ComponentName(Name = "bias")] private readonly Parameter _bias;
    // Below so many positions libtorch's kernel for planes whose channels come last is several times slower than the other one.
    private const long FewPositions = 1024;

    private readonly long _groups;
    private readonly double _epsilon;

    /// <summary>A norm of uninitialised parameters.</summary>
    public GroupNorm(long groups, long channels, double epsilon, Placement place) : base(nameof(GroupNorm))
    {
        _weight = LayerParameter.Empty([channels], place.InFloat32);
        _bias = LayerParameter.Empty([channels], place.InFloat32);
        (_groups, _epsilon) = (groups, epsilon);
        RegisterComponents();
    }

    /// <inheritdoc/>
    public override Tensor forward(Tensor x) => x.device_type == DeviceType.META
        ? torch.empty_like(x) // libtorch has no norms on the meta device
        : F.group_norm(x.HasChannelsLast() && x.shape[2] * x.shape[3] < FewPositions ? x.contiguous() : x, _groups, _weight, _bias, _epsilon);
}

/// <summary>Layer normalisation over the last axis, parameters in fp32 whatever the input.</summary>
public sealed class LayerNorm : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "weight")] private readonly Parameter _weight;
    [ComponentName(Name = "bias")] private readonly Parameter _bias;
    private readonly long[] _shape;
    private readonly double _epsilon;

    /// <summary>A norm of uninitialised parameters.</summary>
    public LayerNorm(long channels, double epsilon, Placement place) : base(nameof(LayerNorm))
    {
        _weight = LayerParameter.Empty([channels], place.InFloat32);
        _bias = LayerParameter.Empty([channels], place.InFloat32);
        (_shape, _epsilon) = ([channels], epsilon);
        RegisterComponents();
    }

    /// <inheritdoc/>
    public override Tensor forward(Tensor x) => x.device_type == DeviceType.META
        ? torch.empty_like(x) // libtorch has no norms on the meta device
        : F.layer_norm(x, _shape, _weight, _bias, _epsilon);
}

/// <summary>A table of vectors looked up by id: (…) of int64 to (…, D).</summary>
public sealed class Embedding : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "weight")] private readonly Parameter _weight; // (count, D)

    /// <summary>A table of uninitialised vectors.</summary>
    public Embedding(long count, long width, Placement place) : base(nameof(Embedding))
    {
        _weight = LayerParameter.Empty([count, width], place);
        RegisterComponents();
    }

    /// <summary>The table (count, D).</summary>
    public Parameter Weight => _weight;

    /// <inheritdoc/>
    public override Tensor forward(Tensor ids) =>
        _weight.device_type == DeviceType.META
            ? torch.empty([.. ids.shape, _weight.shape[1]], _weight.dtype, _weight.device) // libtorch has no index_select on the meta device
            : _weight.index_select(0, ids.reshape(-1)).reshape([.. ids.shape, _weight.shape[1]]);
}

/// <summary>What the layers share: parameters without a value, and weights in the precision of an input.</summary>
internal static class LayerParameter
{
    /// <summary>A parameter that has memory and no value yet; it outlives every dispose scope.</summary>
    public static Parameter Empty(long[] shape, Placement place)
    {
        var parameter = new Parameter(torch.empty(shape, place.Dtype, place.Device));
        parameter.DetachFromDisposeScope();
        return parameter;
    }

    /// <summary>The tensor itself where the precisions agree, a cast (seen by autograd) where not.</summary>
    public static Tensor InPrecisionOf(this Tensor tensor, Tensor x) => tensor.dtype == x.dtype ? tensor : tensor.to(x.dtype);

    /// <summary>Frees what a parameter keeps, also for those of libtorch's own who know it; it is empty from now on.</summary>
    public static void GiveUpMemory(this Parameter parameter)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        long bytes = parameter.numel() * parameter.element_size();
        parameter.set_(torch.empty([0], parameter.dtype, parameter.device));
        NativeHeap.Freed(bytes);
    }

    /// <summary>Whether the memory of a (B, C, H, W) is in the order B, H, W, C and not that of its axes.</summary>
    public static bool HasChannelsLast(this Tensor x) => x.dim() == 4 && x.shape[1] > 1 && x.stride(1) == 1 && x.stride(3) == x.shape[1];
}

/// <summary>Operations that may overwrite a fresh tensor when no gradient is recorded.</summary>
internal static class Fresh
{
    public static Tensor Silu(Tensor x) => is_grad_enabled() ? F.silu(x) : x.silu_();

    public static Tensor Gelu(Tensor x) => is_grad_enabled() ? F.gelu(x) : x.gelu_();

    public static Tensor Add(Tensor x, Tensor y) => is_grad_enabled() ? x.add(y) : x.add_(y);
}

/// <summary>
/// libtorch has no convolution on the meta device, where tensors are shapes without values: here is the shape. Null on every other device.
/// </summary>
internal static class MetaConvolution
{
    /// <summary>(B, C, ...) to (B, C', ...).</summary>
    public static Tensor? Of(Tensor x, Parameter weight, long[] stride, long[] padding, long[] dilation)
    {
        if (x.device_type != DeviceType.META)
        {
            return null;
        }

        var sides = x.shape.Skip(2).Select((side, i) =>
            (side + 2 * padding[i] - dilation[i] * (weight.shape[i + 2] - 1) - 1) / stride[i] + 1);
        return torch.empty([x.shape[0], weight.shape[0], .. sides], x.dtype, x.device);
    }

    /// <summary>(B, C, T) to (B, C', T').</summary>
    public static Tensor? Transposed(Tensor x, Parameter weight, long stride, long padding) =>
        x.device_type == DeviceType.META
            ? torch.empty([x.shape[0], weight.shape[1], (x.shape[2] - 1) * stride - 2 * padding + weight.shape[2]], x.dtype, x.device)
            : null;
}
