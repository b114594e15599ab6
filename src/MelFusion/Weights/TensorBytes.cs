using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Weights;

/// <summary>Fills a tensor from bytes of some type without a second copy of it in memory.</summary>
internal static class TensorBytes
{
    /// <summary>Writes the bytes that begin at <paramref name="offset"/> of the tensor's data into <paramref name="bytes"/>.</summary>
    public delegate void Source(Span<byte> bytes, long offset);

    private const int ChunkElements = 1 << 20;

    /// <summary>Fills <paramref name="target"/> with elements of <paramref name="type"/>, in place where it has that type itself.</summary>
    public static void Read(ScalarType type, Tensor target, Source source)
    {
        if (target.numel() == 0 || target.device_type == DeviceType.META)
        {
            return;
        }

        if (target.dtype == type && target.device_type == DeviceType.CPU && target.is_contiguous())
        {
            ReadInPlace(target, source);
        }
        else
        {
            ReadConverted(type, target, source);
        }
    }

    /// <summary>Bytes of one element.</summary>
    public static int Width(ScalarType type) => type switch
    {
        ScalarType.Bool or ScalarType.Byte or ScalarType.Int8 => 1,
        ScalarType.Int16 or ScalarType.Float16 or ScalarType.BFloat16 => 2,
        ScalarType.Int32 or ScalarType.Float32 => 4,
        ScalarType.ComplexFloat64 => 16,
        _ => 8,
    };

    private static void ReadInPlace(Tensor target, Source source)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        int width = Width(target.dtype);
        var flat = target.detach().view(-1);
        for (long at = 0; at < flat.numel(); at += ChunkElements)
        {
            var chunk = flat.narrow(0, at, Math.Min(ChunkElements, flat.numel() - at));
            source(chunk.bytes, at * width);
        }
    }

    private static void ReadConverted(ScalarType type, Tensor target, Source source)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        int width = Width(type);
        var destination = target.is_contiguous() ? target.detach() : torch.empty(target.shape, target.dtype, target.device);
        var flat = destination.view(-1);
        var buffer = torch.empty(Math.Min(ChunkElements, flat.numel()), type);
        for (long at = 0; at < flat.numel(); at += ChunkElements)
        {
            long count = Math.Min(ChunkElements, flat.numel() - at);
            var chunk = buffer.narrow(0, 0, count);
            source(chunk.bytes, at * width);
            flat.narrow(0, at, count).copy_(chunk);
        }

        if (!target.is_contiguous())
        {
            target.detach().copy_(destination);
        }
    }
}
