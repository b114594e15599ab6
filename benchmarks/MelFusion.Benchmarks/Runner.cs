using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using System.Text.Json.Serialization;
using MelFusion.Weights;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Benchmarks;

/// <summary>What was asked for on the command line.</summary>
internal sealed record Options(string[] Cases, string Dtype, int Threads, int Runs, double Seconds, string Clock, string Model);

/// <summary>One line of output; names and meaning are those of the peer's bench.py.</summary>
internal sealed record Line(
    string Case, string Precision, int Threads, string Clock, string Mode, double MedianS, double MinS, int Runs, double ParametersM,
    double? Gflop, double? Gflops, double GemmGflops, double? RooflineFraction, double Load);

/// <summary>A case that was not run, and why.</summary>
internal sealed record Skipped(string Case, [property: JsonPropertyName("skipped")] string Why);

/// <summary>Runs cases and prints their lines.</summary>
internal static class Runner
{
    private const int GemmSize = 4096, GemmRuns = 3, MostRuns = 200;

    private static readonly JsonSerializerOptions Json = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };

    public static int Run(Options options)
    {
        if (options.Cases.Except(Cases.All.Select(known => known.Name)).FirstOrDefault() is { } unknown)
        {
            Console.Error.WriteLine($"There is no case '{unknown}'; there are: {string.Join(", ", Cases.All.Select(known => known.Name))}.");
            return 2;
        }

        if (options.Threads < 1 || options.Runs < 1 || !(options.Seconds >= 0))
        {
            Console.Error.WriteLine("--threads and --runs must be at least 1, --seconds at least 0.");
            return 2;
        }

        set_num_threads(options.Threads);
        foreach (var chosen in Cases.All.Where(known => options.Cases.Length == 0 || options.Cases.Contains(known.Name)))
        {
            foreach (var dtype in Dtypes(options.Dtype))
            {
                Print(Why(chosen, options) is { } why ? new Skipped(chosen.Name, why) : Measure(chosen, dtype, options));
            }
        }

        return 0;
    }

    private static ScalarType[] Dtypes(string name) => name switch
    {
        "fp32" => [ScalarType.Float32],
        "bf16" => [ScalarType.BFloat16],
        _ => [ScalarType.Float32, ScalarType.BFloat16],
    };

    private static string? Why(BenchmarkCase chosen, Options options) =>
        FreeGib() < chosen.NeededGib ? $"needs about {chosen.NeededGib} GiB of free memory"
        : chosen.NeedsModel && !Directory.Exists(options.Model) ? $"there is no model folder {options.Model}"
        : null;

    private static Line Measure(BenchmarkCase chosen, ScalarType dtype, Options options)
    {
        using var scope = NewDisposeScope();
        using var grad = set_grad_enabled(chosen.Trains);
        manual_seed(0);
        using var work = chosen.Prepare(new Placement(CPU, dtype), options.Model);
        if (chosen.PeersParametersM is { } peers && Math.Abs(work.Parameters / 1e6 - peers) > 0.01 * peers)
        {
            throw new InvalidOperationException($"{chosen.Name} has {work.Parameters / 1e6:0.00} million weights here and {peers} in the peer: not the same network.");
        }

        double gemm = BestGemm(dtype, options);
        _ = Time(work.Step, options);
        _ = Time(work.Step, options);
        var times = new List<double>();
        while (times.Count < options.Runs || (times.Sum() < options.Seconds && times.Count < MostRuns))
        {
            times.Add(Time(work.Step, options));
        }

        gemm = Math.Max(gemm, BestGemm(dtype, options));
        double? rate = chosen.Gflop / times.Min();
        return new(
            chosen.Name, dtype == ScalarType.Float32 ? "fp32" : "bf16", options.Threads, options.Clock, work.Mode, Round(Median(times), 5),
            Round(times.Min(), 5), times.Count, Round(work.Parameters / 1e6, 2), chosen.Gflop, Round(rate, 1), Round(gemm, 1),
            Round(rate / gemm, 3), Round(Load(), 2));
    }

    // The rate of a matrix product of the same precision, timed in the same run: other load hurts it alike.
    private static double BestGemm(ScalarType dtype, Options options)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var a = torch.randn(GemmSize, GemmSize).to(dtype);
        var b = torch.randn(GemmSize, GemmSize).to(dtype);
        void Multiply() => torch.mm(a, b).Dispose();
        Multiply();
        double best = Enumerable.Range(0, GemmRuns).Min(_ => Time(Multiply, options));
        return 2 * Math.Pow(GemmSize, 3) / best / 1e9;
    }

    private static double Time(Action work, Options options)
    {
        double start = Now(options);
        work();
        return Now(options) - start;
    }

    private static double Now(Options options) => options.Clock == "cpu"
        ? Environment.CpuUsage.TotalTime.TotalSeconds / options.Threads
        : Stopwatch.GetTimestamp() / (double)Stopwatch.Frequency;

    private static double Median(List<double> times)
    {
        var sorted = times.Order().ToList();
        return (sorted[sorted.Count / 2] + sorted[(sorted.Count - 1) / 2]) / 2;
    }

    private static double Round(double x, int digits) => Math.Round(x, digits);

    private static double? Round(double? x, int digits) => x is { } value ? Math.Round(value, digits) : null;

    private static double FreeGib() => OperatingSystem.IsLinux()
        ? double.Parse(File.ReadLines("/proc/meminfo").First(line => line.StartsWith("MemAvailable", StringComparison.Ordinal)).Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture) / (1 << 20)
        : GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / Math.Pow(2, 30);

    private static double Load() => OperatingSystem.IsLinux()
        ? double.Parse(File.ReadAllText("/proc/loadavg").Split(' ')[0], CultureInfo.InvariantCulture)
        : 0;

    private static void Print(object line) => Console.WriteLine(JsonSerializer.Serialize(line, Json));
}
