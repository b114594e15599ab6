using System.Text.Json;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Weights;

/// <summary>
/// A checkpoint in several files beside its index (model.safetensors.index.json, pytorch_model.bin.index.json). Shards lie in the
/// index's own folder; a name that leads anywhere else is refused.
/// </summary>
public sealed class ShardedWeights : WeightsFile
{
    private const long LongestIndex = 16 << 20;
    private readonly Dictionary<string, WeightsFile> _shards; // by the name of the file
    private readonly Dictionary<string, string> _shardOf; // by the name of the tensor
    private readonly Dictionary<string, string> _metadata;

    private ShardedWeights(Dictionary<string, WeightsFile> shards, Dictionary<string, string> shardOf, Dictionary<string, string> metadata, List<TensorEntry> tensors)
    {
        (_shards, _shardOf, _metadata) = (shards, shardOf, metadata);
        Tensors = tensors;
    }

    /// <inheritdoc/>
    public override IReadOnlyList<TensorEntry> Tensors { get; }

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, string> Metadata => _metadata;

    /// <inheritdoc/>
    public override long Bytes => _shards.Values.Sum(shard => shard.Bytes);

    /// <summary>The names of the shards, in the order of the index.</summary>
    public IReadOnlyCollection<string> Shards => _shards.Keys;

    /// <summary>Opens an index and the shards it names, and checks that each has what is promised of it.</summary>
    /// <param name="path">The index.</param>
    /// <param name="at">As of <see cref="WeightsFile.Open(string, string?)"/>, for each PyTorch shard.</param>
    /// <exception cref="WeightsException">The index lies or a shard is missing or malformed; the sentence says which.</exception>
    public static new ShardedWeights Open(string path, string? at = null)
    {
        var (shardOf, metadata) = ReadIndex(path);
        string folder = System.IO.Path.GetDirectoryName(System.IO.Path.GetFullPath(path))!;
        var shards = new Dictionary<string, WeightsFile>(StringComparer.Ordinal);
        try
        {
            foreach (string name in shardOf.Values.Distinct(StringComparer.Ordinal))
            {
                shards.Add(name, OpenBeside(path, folder, name, at));
            }

            var tensors = shardOf.Select(pair => shards[pair.Value].Find(pair.Key)
                ?? throw new WeightsException($"{path}: the shard '{pair.Value}' has no tensor '{pair.Key}', which the index promises.")).ToList();
            return new ShardedWeights(shards, shardOf, metadata, tensors) { Path = path };
        }
        catch
        {
            shards.Values.ToList().ForEach(shard => shard.Dispose());
            throw;
        }
    }

    /// <inheritdoc/>
    public override void ReadInto(string key, Tensor target)
    {
        FindFor(key, target);
        _shards[_shardOf[key]].ReadInto(key, target);
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _shards.Values.ToList().ForEach(shard => shard.Dispose());
        }
    }

    /// <summary>Whether a name is that of a file in the same folder, on every system.</summary>
    internal static bool IsPlainName(string name) => name is not ("" or "." or "..") && name.Length <= 255
        && !name.Any(c => c is '/' or '\\' or ':' || char.IsControl(c));

    private static WeightsFile OpenBeside(string index, string folder, string name, string? at)
    {
        if (!IsPlainName(name))
        {
            throw new WeightsException(
                $"{index}: the index names the shard '{TorchPickle.Shown(name)}', which is not a file beside it; such an index is refused.");
        }

        string path = System.IO.Path.Combine(folder, name);
        return File.Exists(path)
            ? WeightsFile.OpenShard(path, at)
            : throw new WeightsException($"{index}: the shard '{name}' that the index names is missing; fetch it into the same folder.");
    }

    private static (Dictionary<string, string> ShardOf, Dictionary<string, string> Metadata) ReadIndex(string path)
    {
        try
        {
            using var stream = OpenStream(path);
            if (stream.Length > LongestIndex)
            {
                throw new InvalidDataException($"it has {stream.Length} bytes, more than any index");
            }

            using var json = JsonDocument.Parse(stream, new JsonDocumentOptions { MaxDepth = 16 });
            if (json.RootElement.ValueKind != JsonValueKind.Object || !json.RootElement.TryGetProperty("weight_map", out var map)
                || map.ValueKind != JsonValueKind.Object)
            {
                throw new InvalidDataException("it is JSON without a weight_map: no index of weights");
            }

            var shardOf = new Dictionary<string, string>(StringComparer.Ordinal);
            foreach (var pair in map.EnumerateObject())
            {
                if (pair.Value.ValueKind != JsonValueKind.String || !shardOf.TryAdd(pair.Name, pair.Value.GetString()!))
                {
                    throw new InvalidDataException($"its weight_map gives '{TorchPickle.Shown(pair.Name)}' twice or without the name of a file");
                }
            }

            return (shardOf, ReadMetadata(json.RootElement));
        }
        catch (Exception e) when (e is JsonException or InvalidDataException or InvalidOperationException)
        {
            throw new WeightsException($"{path}: not a readable index of sharded weights: {e.Message.TrimEnd('.')}.", e);
        }
    }

    private static Dictionary<string, string> ReadMetadata(JsonElement root)
    {
        var metadata = new Dictionary<string, string>(StringComparer.Ordinal);
        if (root.TryGetProperty("metadata", out var values) && values.ValueKind == JsonValueKind.Object)
        {
            foreach (var pair in values.EnumerateObject())
            {
                metadata[pair.Name] = pair.Value.ValueKind == JsonValueKind.String ? pair.Value.GetString()! : pair.Value.GetRawText();
            }
        }

        return metadata;
    }
}
