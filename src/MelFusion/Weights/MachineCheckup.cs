using System.Diagnostics;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Weights;

/// <summary>What a machine has to offer to a generation.</summary>
/// <param name="Processors">How many there are.</param>
/// <param name="AvailableBytes">Memory that is free.</param>
/// <param name="OperationsPerSecond">Measured on products of matrices in fp32, with a discount for what networks do beside them.</param>
/// <param name="Bf16OperationsPerSecond">The same in bf16.</param>
public sealed record MachineCheckup(int Processors, long AvailableBytes, double OperationsPerSecond, double Bf16OperationsPerSecond)
{
    private const double ShareOfProducts = 0.72; // a UNet's speed over that of its matrix products alone
    private const int Side = 2048;

    /// <summary>Measures, for about a second.</summary>
    public static MachineCheckup Look() => new(
        Environment.ProcessorCount, GC.GetGCMemoryInfo().TotalAvailableMemoryBytes - GC.GetGCMemoryInfo().MemoryLoadBytes is var free && free > 0 ? Free(free) : 0,
        Measure(ScalarType.Float32), Measure(ScalarType.BFloat16));

    /// <summary>What stands against a generation with a model here.</summary>
    public IEnumerable<string> Problems(ModelCheckup model)
    {
        if (model.NeededBytes > AvailableBytes)
        {
            yield return FormattableString.Invariant(
                $"A generation needs about {model.NeededBytes / 1e9:0.0} GB of memory and {AvailableBytes / 1e9:0.0} GB are free; close other programs or take --precision bf16.");
        }
    }

    /// <summary>MemAvailable where the system tells it: what can be had without swapping.</summary>
    private static long Free(long otherwise)
    {
        const string Name = "MemAvailable:";
        string? line = File.Exists("/proc/meminfo") ? File.ReadLines("/proc/meminfo").FirstOrDefault(line => line.StartsWith(Name, StringComparison.Ordinal)) : null;
        return line is not null && long.TryParse(line[Name.Length..].Replace("kB", string.Empty, StringComparison.Ordinal).Trim(), out long kibibytes) ? kibibytes * 1024 : otherwise;
    }

    private static double Measure(ScalarType type)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var (a, b) = (torch.ones([Side, Side], type), torch.ones([Side, Side], type));
        var watch = Stopwatch.StartNew();
        double best = double.MaxValue;
        for (int round = 0; round < 20 && watch.ElapsedMilliseconds < 600; round++)
        {
            using var inner = NewDisposeScope();
            var before = watch.Elapsed;
            a.mm(b);
            best = Math.Min(best, (watch.Elapsed - before).TotalSeconds);
        }

        return ShareOfProducts * 2.0 * Side * Side * Side / best;
    }
}
