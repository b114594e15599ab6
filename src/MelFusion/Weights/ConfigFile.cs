using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace MelFusion.Weights;

/// <summary>Reads the JSON files that lie beside weights: snake_case names, unknown ones ignored, errors in one sentence.</summary>
public static class ConfigFile
{
    private const long LongestFile = 4 << 20;

    private static readonly JsonSerializerOptions Options = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        ReadCommentHandling = JsonCommentHandling.Skip,
        AllowTrailingCommas = true,
        WriteIndented = true,
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.SnakeCaseLower, allowIntegerValues: false) },
    };

    /// <summary>Reads a file into a config record; what the file does not state keeps the record's default.</summary>
    /// <exception cref="MelFusionException">The file is missing, larger than a config can be, or not such JSON.</exception>
    public static T Read<T>(string path) where T : class
    {
        try
        {
            return new FileInfo(path).Length <= LongestFile
                ? Parse<T>(File.ReadAllText(path), path)
                : throw new MelFusionException($"{path}: far too long for a config file; is it something else?");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new MelFusionException($"{path}: the config cannot be read ({e.Message.TrimEnd('.')}).", e);
        }
    }

    /// <summary>Reads a config record from text.</summary>
    /// <param name="json">The text.</param>
    /// <param name="name">What to call it in an error.</param>
    public static T Parse<T>(string json, string name) where T : class
    {
        try
        {
            return JsonSerializer.Deserialize<T>(StandardNumbers(json), Options)
                ?? throw new MelFusionException($"{name}: the config says null and nothing else.");
        }
        catch (JsonException e)
        {
            string where = e.Path is { Length: > 2 } path ? $"'{path[2..]}' is not usable" : "not readable JSON";
            throw new MelFusionException($"{name}: {where} (line {e.LineNumber + 1}); see the published config for what belongs there.", e);
        }
    }

    /// <summary>Writes a config record.</summary>
    public static void Write<T>(string path, T config) where T : class =>
        File.WriteAllText(path, JsonSerializer.Serialize(config, Options) + "\n");

    /// <summary>Python writes numbers that JSON does not have (-Infinity as lambda_min_clipped of a scheduler); they become null.</summary>
    public static string StandardNumbers(string json)
    {
        if (!json.Contains("Infinity", StringComparison.Ordinal) && !json.Contains("NaN", StringComparison.Ordinal))
        {
            return json;
        }

        var text = new StringBuilder(json.Length);
        bool quoted = false;
        for (int i = 0; i < json.Length; i++)
        {
            string? literal = quoted ? null : Array.Find(["-Infinity", "Infinity", "NaN"], word => string.CompareOrdinal(json, i, word, 0, word.Length) == 0);
            if (literal is not null)
            {
                text.Append("null");
                i += literal.Length - 1;
                continue;
            }

            text.Append(json[i]);
            if (quoted && json[i] == '\\' && i + 1 < json.Length)
            {
                text.Append(json[++i]);
            }
            else if (json[i] == '"')
            {
                quoted = !quoted;
            }
        }

        return text.ToString();
    }
}
