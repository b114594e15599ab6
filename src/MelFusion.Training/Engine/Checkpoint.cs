using System.Text.Json;
using MelFusion.Weights;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Training.Engine;

/// <summary>What a checkpoint says beside its tensors.</summary>
internal sealed record CheckpointState
{
    /// <summary>Steps done.</summary>
    public required long Step { get; init; }

    /// <summary>AdamW's own count of steps per parameter.</summary>
    public required IReadOnlyList<long> OptimiserSteps { get; init; }

    /// <summary>The whole config of the run: seed, batch, precision, threads. All chance and the place in the data follow from it and the step.</summary>
    public required string Config { get; init; }

    /// <summary>Threads of libtorch in each worker; another number gives other last bits.</summary>
    public required int ThreadsPerWorker { get; init; }

    /// <summary>Seconds of training behind this checkpoint, over all resumptions.</summary>
    public required double Seconds { get; init; }
}

/// <summary>
/// Checkpoints are folders step-N with state.json and state.safetensors: the fp32 weights, AdamW's moments, the average and, where it has a share in the
/// result, the start. A folder is written beside and renamed when it is complete, and only then are older ones removed, so there is a whole one at every moment.
/// </summary>
internal static class Checkpoint
{
    private const string Prefix = "step-";

    /// <summary>Writes a checkpoint and removes all but the newest two.</summary>
    public static void Write(string folder, CheckpointState state, AdamW optimiser, WeightAverage average)
    {
        string complete = System.IO.Path.Combine(folder, $"{Prefix}{state.Step:D8}");
        string beside = complete + ".new";
        Remove(beside);
        Directory.CreateDirectory(beside);
        Safetensors.Write(System.IO.Path.Combine(beside, "state.safetensors"), Tensors(optimiser, average));
        File.WriteAllText(System.IO.Path.Combine(beside, "state.json"), JsonSerializer.Serialize(state));
        Remove(complete);
        Directory.Move(beside, complete);
        foreach (string old in Complete(folder).SkipLast(2))
        {
            Remove(old);
        }
    }

    /// <summary>The state of the newest complete checkpoint, or null where there is none.</summary>
    public static CheckpointState? Newest(string folder) => Complete(folder).LastOrDefault() is { } newest
        ? JsonSerializer.Deserialize<CheckpointState>(File.ReadAllText(System.IO.Path.Combine(newest, "state.json")))
        : null;

    /// <summary>Fills weights, moments and averages from the newest checkpoint.</summary>
    public static void ReadNewest(string folder, AdamW optimiser, WeightAverage average)
    {
        using var file = Safetensors.Open(System.IO.Path.Combine(Complete(folder)[^1], "state.safetensors"));
        using var noGrad = no_grad();
        foreach (var (name, tensor) in Tensors(optimiser, average))
        {
            file.ReadInto(name, tensor);
        }
    }

    private static Dictionary<string, Tensor> Tensors(AdamW optimiser, WeightAverage average) => new(
        optimiser.Parameters.Select(p => KeyValuePair.Create("weight." + p.Name, (Tensor)p.Value))
            .Concat(optimiser.State.Concat(average.State).Select(s => KeyValuePair.Create(s.Name, s.Value))));

    private static List<string> Complete(string folder) => Directory.Exists(folder)
        ? [.. Directory.GetDirectories(folder, Prefix + "*").Where(path => !path.EndsWith(".new", StringComparison.Ordinal)).Order(StringComparer.Ordinal)]
        : [];

    private static void Remove(string folder)
    {
        if (Directory.Exists(folder))
        {
            Directory.Delete(folder, recursive: true);
        }
    }
}
