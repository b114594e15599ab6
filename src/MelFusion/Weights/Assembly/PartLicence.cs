using System.Text.Json.Serialization;

namespace MelFusion.Weights.Assembly;

/// <summary>Whether work that was made with weights may be sold.</summary>
public enum CommercialUse
{
    /// <summary>Their licence does not say, or is not known here.</summary>
    Unclear,

    /// <summary>Their licence allows it, under its own conditions.</summary>
    Yes,

    /// <summary>Their licence forbids it.</summary>
    No,
}

/// <summary>Where a part of a model came from, and under which licence: an entry of licences.json.</summary>
/// <param name="Part">The folder of the part.</param>
/// <param name="Source">The folder or repository it was taken from.</param>
/// <param name="Licence">Its licence as far as known.</param>
/// <param name="Commercial">Whether commercial use is allowed.</param>
public sealed record PartLicence(string Part, string Source, string Licence, CommercialUse Commercial)
{
    /// <summary>The file's name in a model folder.</summary>
    internal const string FileName = "licences.json";

    private static readonly (string Name, string Licence)[] KnownSources =
    [
        ("stable-diffusion-2", "openrail++"), ("stable-diffusion-v1-5", "creativeml-openrail-m"), ("stable-diffusion-1-5", "creativeml-openrail-m"),
        ("tango", "cc-by-nc-sa-4.0"), ("audioldm", "cc-by-nc-sa-4.0"), ("flan-t5", "apache-2.0"),
    ];

    private static readonly Dictionary<string, (string Name, CommercialUse Commercial)> KnownLicences = new(StringComparer.OrdinalIgnoreCase)
    {
        ["openrail++"] = ("CreativeML Open RAIL++-M", CommercialUse.Yes),
        ["creativeml-openrail-m"] = ("CreativeML Open RAIL-M", CommercialUse.Yes),
        ["openrail"] = ("Open RAIL", CommercialUse.Yes),
        ["cc-by-nc-sa-4.0"] = ("CC BY-NC-SA 4.0", CommercialUse.No),
        ["cc-by-nc-4.0"] = ("CC BY-NC 4.0", CommercialUse.No),
        ["cc-by-4.0"] = ("CC BY 4.0", CommercialUse.Yes),
        ["cc-by-sa-4.0"] = ("CC BY-SA 4.0", CommercialUse.Yes),
        ["apache-2.0"] = ("Apache 2.0", CommercialUse.Yes),
        ["mit"] = ("MIT", CommercialUse.Yes),
    };

    /// <summary>Reads a source's licence from its model card, else takes what is known of sources of that name.</summary>
    internal static PartLicence Of(string part, SourceFolder source)
    {
        string? id = FromCard(source) ?? KnownSources.FirstOrDefault(known => source.Name.Contains(known.Name, StringComparison.OrdinalIgnoreCase)).Licence;
        return id is not null && KnownLicences.TryGetValue(id, out var known)
            ? new(part, source.Name, known.Name, known.Commercial)
            : new(part, source.Name, id ?? "unknown", CommercialUse.Unclear);
    }

    /// <summary>The licences of a model folder: those of licences.json, else the one its melfusion.json states for all parts.</summary>
    public static IReadOnlyList<PartLicence> Read(ModelFolder folder, ModelDefaults defaults)
    {
        string path = Path.Combine(folder.Path, FileName);
        return File.Exists(path) ? ConfigFile.Read<LicenceList>(path).Parts
            : defaults.Licence is { Length: > 0 } stated ? [new("all parts", defaults.Name, stated, KnownLicences.GetValueOrDefault(stated).Commercial)]
            : [];
    }

    /// <summary>"license: NAME" between the dashes at the top of a model card.</summary>
    private static string? FromCard(SourceFolder source)
    {
        if (source.Find("README.md") is not { } path || new FileInfo(path).Length > 1 << 20)
        {
            return null;
        }

        var lines = File.ReadLines(path).Take(200).ToList();
        return lines is ["---", ..]
            ? lines.Skip(1).TakeWhile(line => line != "---").Where(line => line.StartsWith("license:", StringComparison.Ordinal))
                .Select(line => TorchPickle.Shown(line["license:".Length..].Trim().Trim('"', '\''))).FirstOrDefault(text => text.Length > 0)
            : null;
    }
}

/// <summary>licences.json.</summary>
internal sealed record LicenceList
{
    /// <summary>The parts.</summary>
    [JsonPropertyName("parts")]
    public IReadOnlyList<PartLicence> Parts { get; init; } = [];
}
