using System.Security.Cryptography;
using System.Text;
using MelFusion.Weights;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Training.Data;

/// <summary>Tensors that are computed once from data and networks and kept in a file; its metadata name what they were computed from.</summary>
internal static class TensorCache
{
    private const string Key = "computed_from";

    /// <summary>The tensors in the file, if they were computed from the same; else they are computed now and written.</summary>
    /// <param name="path">The file.</param>
    /// <param name="from">All that the values depend on, as text.</param>
    /// <param name="compute">Computes the tensors, detached from every scope.</param>
    public static Dictionary<string, Tensor> Get(string path, string from, Func<Dictionary<string, Tensor>> compute)
    {
        string hash = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(from)));
        if (Read(path, hash) is { } kept)
        {
            return kept;
        }

        var tensors = compute();
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        Safetensors.Write(path, tensors, new Dictionary<string, string> { [Key] = hash });
        return tensors;
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
