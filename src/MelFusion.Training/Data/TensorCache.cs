using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using MelFusion.Training.Engine;
using MelFusion.Weights;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Training.Data;

/// <summary>Tensors that are computed once from data and networks and kept in a file; its metadata name what they were computed from.</summary>
internal static class TensorCache
{
    private const string Key = "computed_from", Items = "items";
    private const int ItemsBetweenSweeps = 32;

    /// <summary>The tensors in the file, if they were computed from the same; else they are computed now and written.</summary>
    /// <param name="path">The file.</param>
    /// <param name="from">All that the values depend on, as text.</param>
    /// <param name="compute">Computes the tensors, detached from every scope.</param>
    public static Dictionary<string, Tensor> Get(string path, string from, Func<Dictionary<string, Tensor>> compute)
    {
        string hash = HashOf(from);
        if (Read(path, hash) is { } kept)
        {
            return kept;
        }

        var tensors = compute();
        Write(path, hash, tensors);
        return tensors;
    }

    /// <summary>
    /// What is computed of many items one by one, (count, ...) in fp16. While the work goes on, what is done lies in parts beside the file: a run that
    /// was stopped goes on there.
    /// </summary>
    /// <param name="path">The file.</param>
    /// <param name="from">All that the values depend on, as text.</param>
    /// <param name="count">Number of items.</param>
    /// <param name="part">Items of a part: so many are lost at most.</param>
    /// <param name="compute">Computes item i, of the same shape for all; called on the pool's threads, without gradients.</param>
    /// <param name="pool">Threads to work on.</param>
    /// <param name="report">Told the items done and their number.</param>
    /// <param name="prepare">Called before the first item is computed, if any is.</param>
    public static Tensor GetItems(string path, string from, int count, int part, Func<int, Tensor> compute, WorkerPool pool, Action<int, int>? report, Action? prepare = null)
    {
        string hash = HashOf($"{count} items, {part} a part\n{from}");
        if (Read(path, hash) is { } kept)
        {
            DeleteParts(path);
            return kept[Items];
        }

        Tensor? whole = null;
        for (int first = 0; first < count; first += part)
        {
            string file = Path.ChangeExtension(path, string.Create(CultureInfo.InvariantCulture, $".part-{first:D7}.safetensors"));
            using var items = Read(file, hash)?[Items] ?? Compute(file, first, Math.Min(count, first + part));
            whole ??= torch.empty([count, .. items.shape[1..]], ScalarType.Float16).DetachFromDisposeScope();
            whole.narrow(0, first, items.shape[0]).copy_(items);
        }

        whole ??= torch.empty([0], ScalarType.Float16).DetachFromDisposeScope();
        Write(path, hash, new() { [Items] = whole });
        DeleteParts(path);
        return whole;

        Tensor Compute(string file, int first, int end)
        {
            prepare?.Invoke();
            prepare = null; // once is enough
            return ComputePart(file, hash, first, end, compute, pool, done => report?.Invoke(first + done, count));
        }
    }

    /// <summary>A weights file's name and SHA-256, for a list of what a cache depends on: a copied model folder keeps its caches.</summary>
    /// <param name="path">The file.</param>
    public static string DescribeContent(string path)
    {
        if (!File.Exists(path))
        {
            return $"{Path.GetFileName(path)}:missing";
        }

        using var file = File.OpenRead(path);
        return $"{Path.GetFileName(path)}:{Convert.ToHexStringLower(SHA256.HashData(file))}";
    }

    /// <summary>A data file's name, length and time, the same for a list of thousands.</summary>
    /// <param name="path">The file.</param>
    public static string Describe(string path)
    {
        var file = new FileInfo(path);
        return file.Exists ? $"{file.Name}:{file.Length}:{file.LastWriteTimeUtc.Ticks}" : $"{file.Name}:missing";
    }

    private static Tensor ComputePart(string file, string hash, int first, int end, Func<int, Tensor> compute, WorkerPool pool, Action<int> report)
    {
        var results = new Tensor[end - first];
        int done = 0;
        pool.ShareInChunks(results.Length, ItemsBetweenSweeps, i =>
        {
            using var scope = NewDisposeScope();
            using var noGrad = no_grad();
            results[i] = compute(first + i).to(ScalarType.Float16).DetachFromDisposeScope();
            report(Interlocked.Increment(ref done));
        });
        var items = stack(results, 0).DetachFromDisposeScope();
        Array.ForEach(results, result => result.Dispose());
        Write(file, hash, new() { [Items] = items });
        return items;
    }

    private static string HashOf(string from) => Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(from)));

    private static void Write(string path, string hash, Dictionary<string, Tensor> tensors)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        Safetensors.Write(path, tensors, new Dictionary<string, string> { [Key] = hash });
    }

    private static void DeleteParts(string path)
    {
        foreach (string file in Directory.EnumerateFiles(Path.GetDirectoryName(path)!, $"{Path.GetFileNameWithoutExtension(path)}.part-*.safetensors"))
        {
            File.Delete(file);
        }
    }

    private static Dictionary<string, Tensor>? Read(string path, string hash)
    {
        if (!File.Exists(path))
        {
            return null;
        }

        using var file = Safetensors.Open(path);
        return file.Metadata.TryGetValue(Key, out string? from) && from == hash
            ? file.Tensors.ToDictionary(entry => entry.Key, entry => file.Read(entry.Key).DetachFromDisposeScope())
            : null;
    }
}
