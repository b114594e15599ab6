using System.Runtime.Intrinsics.X86;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Weights;

/// <summary>In which precision the large networks compute.</summary>
public enum Precision
{
    /// <summary>What is fastest here: <see cref="Bf16"/> where the processor multiplies such numbers itself, else <see cref="Fp32"/>.</summary>
    Auto,

    /// <summary>32-bit floats.</summary>
    Fp32,

    /// <summary>16-bit brain floats: half the memory; several times slower on a processor without instructions for them.</summary>
    Bf16,
}

/// <summary>What this machine can do; the one place where <see cref="Precision.Auto"/> is decided.</summary>
public static class Processor
{
    private static readonly (bool Avx512Bf16, bool Amx) Bf16Units = Ask();

    /// <summary>Features that decide which arithmetic runs, such as "avx2 avx512f avx512_bf16": part of a recipe, as bits depend on them.</summary>
    public static string Features { get; } = string.Join(' ', new[]
    {
        (Avx2.IsSupported, "avx2"), (Avx512F.IsSupported, "avx512f"), (Bf16Units.Avx512Bf16, "avx512_bf16"), (Bf16Units.Amx, "amx_bf16"),
    }.Where(feature => feature.Item1).Select(feature => feature.Item2));

    /// <summary>Whether brain floats are multiplied by the processor's own instructions.</summary>
    public static bool HasBf16 => Bf16Units.Avx512Bf16 || Bf16Units.Amx;

    /// <summary>The precision that is meant by a wish.</summary>
    public static Precision Resolve(Precision wish, DeviceType device = DeviceType.CPU) =>
        wish != Precision.Auto ? wish
        : device == DeviceType.CUDA || (device == DeviceType.CPU && HasBf16) ? Precision.Bf16
        : Precision.Fp32;

    /// <summary>The place of a network's weights in a wished precision.</summary>
    public static Placement Place(Device device, Precision wish) =>
        new(device, Resolve(wish, device.type) == Precision.Bf16 ? ScalarType.BFloat16 : ScalarType.Float32);

    private static (bool Avx512Bf16, bool Amx) Ask()
    {
        if (!X86Base.IsSupported || X86Base.CpuId(0, 0).Eax < 7)
        {
            return (false, false);
        }

        var (deepest, _, _, features) = X86Base.CpuId(7, 0);
        bool avx512Bf16 = Avx512F.IsSupported && deepest >= 1 && (X86Base.CpuId(7, 1).Eax & (1 << 5)) != 0;
        return (avx512Bf16, (features & (1 << 22)) != 0);
    }
}
