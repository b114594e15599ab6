using MelFusion.Weights.Hub;

namespace MelFusion.Weights.Assembly;

/// <summary>A folder that parts are taken from: one that was named, or a snapshot in the hub's cache.</summary>
internal sealed class SourceFolder
{
    private static readonly string[] PlainNames = ["diffusion_pytorch_model", "model", "pytorch_model"];

    /// <summary>Every name under which weights lie, the most wanted first.</summary>
    private static readonly string[] WeightsNames =
    [
        .. from variant in new[] { string.Empty, ".fp16", ".non_ema" }
            from ending in new[] { ".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json" }
            from name in PlainNames
            select ending.Contains(".index", StringComparison.Ordinal) ? name + ending.Replace(".index", ".index" + variant, StringComparison.Ordinal) : name + variant + ending,
    ];

    private SourceFolder(string path, string name) => (Path, Name) = (path, name);

    /// <summary>Where it lies, absolute.</summary>
    public string Path { get; }

    /// <summary>How it was named: the repository's name where it is one.</summary>
    public string Name { get; }

    /// <summary>Finds a folder by its path, or a repository in the cache by its name.</summary>
    /// <exception cref="MelFusionException">There is neither.</exception>
    public static SourceFolder Locate(string name, HubCache cache) => TryLocate(name, cache) ?? throw new MelFusionException(
        $"{TorchPickle.Shown(name)}: there is no such folder, and no such repository in the cache {cache.Folder}; fetch it with 'melfusion models pull {TorchPickle.Shown(name)}'.");

    /// <summary>The same, or null.</summary>
    public static SourceFolder? TryLocate(string name, HubCache cache)
    {
        if (Directory.Exists(name))
        {
            string full = System.IO.Path.GetFullPath(name);
            return new(full, RepositoryOf(full) ?? System.IO.Path.GetFileName(full.TrimEnd(System.IO.Path.DirectorySeparatorChar)));
        }

        try
        {
            return cache.FindSnapshot(name) is { } folder ? new(folder, name) : null;
        }
        catch (HubException)
        {
            return null; // a name that no repository can have
        }
    }

    /// <summary>A folder inside; null where there is none or the name leads out.</summary>
    public SourceFolder? Inside(string name) => Resolve(name) is { } path && Directory.Exists(path) ? new(path, Name) : null;

    /// <summary>A file inside; null where there is none or the name leads out.</summary>
    public string? Find(string name) => Resolve(name) is { } path && File.Exists(path) ? path : null;

    /// <summary>A file inside.</summary>
    /// <exception cref="MelFusionException">There is none.</exception>
    public string Require(string name) => Find(name) ?? throw new MelFusionException($"{Path}: '{name}' is missing; the folder was copied or downloaded incompletely, or is of another kind.");

    /// <summary>The first of some files that is there.</summary>
    /// <exception cref="MelFusionException">None is.</exception>
    public string RequireOne(string what, params string[] names) => names.Select(Find).FirstOrDefault(path => path is not null)
        ?? throw new MelFusionException($"{Path}: there is no {what} ({string.Join(", ", names)}); the folder was copied or downloaded incompletely, or is of another kind.");

    /// <summary>The weights of a part, safetensors before PyTorch's, full precision before half.</summary>
    /// <exception cref="MelFusionException">There are none.</exception>
    public string Weights(string part) => WeightsNames.Select(name => Find(InnerPath.Join(part, name))).FirstOrDefault(path => path is not null)
        ?? throw new MelFusionException($"{System.IO.Path.Combine(Path, part)}: there are no weights ({WeightsNames[0]} or another usual name); the folder was copied or downloaded incompletely.");

    private string? Resolve(string name) => InnerPath.In(Path, name);

    /// <summary>The repository of which a folder is a snapshot.</summary>
    private static string? RepositoryOf(string full)
    {
        string? parent = System.IO.Path.GetDirectoryName(full.TrimEnd(System.IO.Path.DirectorySeparatorChar));
        string repository = System.IO.Path.GetFileName(System.IO.Path.GetDirectoryName(parent)) ?? string.Empty;
        return System.IO.Path.GetFileName(parent) == "snapshots" && repository.StartsWith("models--", StringComparison.Ordinal)
            ? repository["models--".Length..].Replace("--", "/", StringComparison.Ordinal)
            : null;
    }
}
