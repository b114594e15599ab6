using System.Collections.Concurrent;
using System.Security.Cryptography;
using System.Text;

namespace MelFusion.Weights;

/// <summary>
/// A model on disk, in the layout of diffusers: a folder per part, each with its config and weights, and melfusion.json with the
/// defaults. Opening reads no weights and needs no libtorch; it says at once, in one sentence, what is missing.
/// </summary>
public sealed class ModelFolder
{
    /// <summary>The parts that make music of text.</summary>
    public static IReadOnlyList<string> MusicParts { get; } = ["unet", "vae", "scheduler", "text_encoder", "tokenizer", "vocoder", "mel"];

    /// <summary>The parts that bring in a picture: all of them or none.</summary>
    public static IReadOnlyList<string> PictureParts { get; } = ["image_vae", "image_unet", "image_scheduler", "image_null_text", "synapse"];

    private static readonly string[] WeightsNames =
    [
        "diffusion_pytorch_model.safetensors", "model.safetensors",
        "diffusion_pytorch_model.safetensors.index.json", "model.safetensors.index.json",
        "diffusion_pytorch_model.bin", "pytorch_model.bin",
    ];

    private static readonly ConcurrentDictionary<(string Path, long Length, DateTime Written), string> Hashes = new();

    private ModelFolder(string path, ModelDefaults defaults, bool takesPictures) =>
        (Path, Defaults, TakesPictures) = (path, defaults, takesPictures);

    /// <summary>The folder, absolute.</summary>
    public string Path { get; }

    /// <summary>What the model was trained and measured with.</summary>
    public ModelDefaults Defaults { get; }

    /// <summary>Whether the model has the parts for a picture.</summary>
    public bool TakesPictures { get; }

    /// <summary>Opens a folder and looks whether every part is there.</summary>
    /// <exception cref="MelFusionException">It is no model folder, or lacks a part.</exception>
    public static ModelFolder Open(string path)
    {
        string full = System.IO.Path.GetFullPath(path);
        if (!Directory.Exists(full))
        {
            throw new MelFusionException($"{path}: there is no such model folder.");
        }

        if (!File.Exists(System.IO.Path.Combine(full, "model_index.json")))
        {
            throw new MelFusionException($"{path}: not a model folder, as model_index.json is missing; name the folder that holds unet, vae and the other parts.");
        }

        string defaults = System.IO.Path.Combine(full, "melfusion.json");
        var folder = new ModelFolder(full, File.Exists(defaults) ? ConfigFile.Read<ModelDefaults>(defaults) : new(), PictureParts.Any(part => HasPart(full, part)));
        folder.Defaults.Validate(defaults);
        foreach (string part in folder.Parts.Where(part => !HasPart(full, part)))
        {
            throw new MelFusionException($"{path}: the model folder lacks its part '{part}'; it was copied or downloaded incompletely.");
        }

        return folder;
    }

    /// <summary>Opens a folder that need not be a whole model, such as one in training or another pipeline's, for some of its parts.</summary>
    /// <param name="path">The folder.</param>
    /// <param name="parts">The parts that must be there.</param>
    /// <exception cref="MelFusionException">One of them is not.</exception>
    public static ModelFolder OpenParts(string path, params ReadOnlySpan<string> parts)
    {
        string full = System.IO.Path.GetFullPath(path);
        foreach (string part in parts)
        {
            if (!HasPart(full, part))
            {
                throw new MelFusionException($"{path}: there is no folder '{part}' in it; it was copied or downloaded incompletely, or is of another kind.");
            }
        }

        return new(full, new(), PictureParts.Any(part => HasPart(full, part)));
    }

    /// <summary>The parts it has, as folder names.</summary>
    public IEnumerable<string> Parts => TakesPictures ? MusicParts.Concat(PictureParts) : MusicParts;

    /// <summary>The path of a file of a part.</summary>
    /// <exception cref="MelFusionException">The names lead out of the folder, or there is no such file.</exception>
    public string FileOf(string part, string name)
    {
        string root = Path + System.IO.Path.DirectorySeparatorChar;
        string full = System.IO.Path.GetFullPath(System.IO.Path.Combine(Path, part, name));
        if (!full.StartsWith(root, StringComparison.Ordinal))
        {
            throw new MelFusionException($"{Path}: '{part}/{name}' leads out of the model folder and is not read.");
        }

        return File.Exists(full) ? full : throw new MelFusionException($"{full}: this file of the model is missing; it was copied or downloaded incompletely.");
    }

    /// <summary>A part's config; scheduler parts have scheduler_config.json, the others config.json.</summary>
    public T Config<T>(string part) where T : class =>
        ConfigFile.Read<T>(FileOf(part, part.EndsWith("scheduler", StringComparison.Ordinal) ? "scheduler_config.json" : "config.json"));

    /// <summary>Opens a part's weights.</summary>
    /// <exception cref="MelFusionException">There are none, or the file is malformed.</exception>
    public WeightsFile Weights(string part)
    {
        string folder = System.IO.Path.Combine(Path, part);
        string name = WeightsNames.FirstOrDefault(name => File.Exists(System.IO.Path.Combine(folder, name)))
            ?? throw new MelFusionException($"{folder}: there are no weights ({WeightsNames[0]} or {WeightsNames[1]}); the model was copied or downloaded incompletely.");
        return WeightsFile.Open(FileOf(part, name));
    }

    /// <summary>Fills a network of a part from its weights.</summary>
    /// <exception cref="MelFusionException">A key is missing, left over or has another shape; the network is disposed.</exception>
    public TNetwork Load<TNetwork>(string part, TNetwork network, Func<string, bool>? ignore = null) where TNetwork : TorchSharp.torch.nn.Module
    {
        try
        {
            using var file = Weights(part);
            network.LoadFrom(file, ignore: ignore);
            network.eval();
            return network;
        }
        catch
        {
            network.Dispose();
            throw;
        }
    }

    /// <summary>
    /// The hash of everything that lies in the parts: SHA-256, in lower-case hex, of what <c>sha256sum</c> prints for the parts' files in
    /// the order of their paths.
    /// </summary>
    public string ComputeHash()
    {
        var names = Parts.SelectMany(part => Directory.EnumerateFiles(System.IO.Path.Combine(Path, part)))
            .Select(file => System.IO.Path.GetRelativePath(Path, file).Replace('\\', '/')).Order(StringComparer.Ordinal);
        var lines = names.Select(name => $"{HashOf(System.IO.Path.Combine(Path, name))}  {name}\n");
        return Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(string.Concat(lines))));
    }

    private static string HashOf(string path)
    {
        var file = new FileInfo(path);
        return Hashes.GetOrAdd((path, file.Length, file.LastWriteTimeUtc), key =>
        {
            using var stream = new FileStream(key.Path, FileMode.Open, FileAccess.Read, FileShare.Read, 1 << 20, FileOptions.SequentialScan);
            return Convert.ToHexStringLower(SHA256.HashData(stream));
        });
    }

    private static bool HasPart(string folder, string part) => Directory.Exists(System.IO.Path.Combine(folder, part));
}
