using System.Text.Json;
using System.Text.Json.Nodes;

namespace MelFusion.Weights;

/// <summary>JSON files that state only what differs from another file, which they name as "base".</summary>
public static class LayeredConfig
{
    private const int MostLayers = 8;

    private static readonly JsonDocumentOptions Lenient = new() { CommentHandling = JsonCommentHandling.Skip, AllowTrailingCommas = true };

    /// <summary>Reads a file over its bases: objects are merged name by name, everything else is replaced.</summary>
    /// <param name="path">The file; a base is sought from its folder.</param>
    /// <exception cref="MelFusionException">A file is missing, no JSON object, or the bases have no end.</exception>
    public static JsonObject Read(string path) => Read(path, 0);

    /// <summary>Lays an object over another, which is changed.</summary>
    /// <param name="target">Below.</param>
    /// <param name="over">Above; it is copied.</param>
    public static void Overlay(JsonObject target, JsonObject over)
    {
        ArgumentNullException.ThrowIfNull(target);
        ArgumentNullException.ThrowIfNull(over);
        foreach (var (key, value) in over)
        {
            if (value is JsonObject inner && target[key] is JsonObject outer)
            {
                Overlay(outer, inner);
            }
            else
            {
                target[key] = value?.DeepClone();
            }
        }
    }

    private static JsonObject Read(string path, int depth)
    {
        var own = ReadObject(path);
        if (own["base"] is not { } named)
        {
            return own;
        }

        if (depth == MostLayers)
        {
            throw new MelFusionException($"{path}: the configs name one another as base without end.");
        }

        if (named.GetValueKind() != JsonValueKind.String)
        {
            throw new MelFusionException($"{path}: base must be a file's name.");
        }

        own.Remove("base");
        var merged = Read(Path.Combine(Path.GetDirectoryName(path) ?? string.Empty, named.GetValue<string>()), depth + 1);
        Overlay(merged, own);
        return merged;
    }

    private static JsonObject ReadObject(string path)
    {
        try
        {
            return JsonNode.Parse(File.ReadAllText(path), documentOptions: Lenient) as JsonObject
                ?? throw new MelFusionException($"{path}: a config is one JSON object.");
        }
        catch (JsonException e)
        {
            throw new MelFusionException($"{path}: the config is no readable JSON (line {e.LineNumber + 1}).", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new MelFusionException($"{path}: the config cannot be read ({e.Message.ReplaceLineEndings(" ").TrimEnd('.')}).", e);
        }
    }
}
