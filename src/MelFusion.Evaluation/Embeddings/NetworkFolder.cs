using MelFusion.Weights;
using TorchSharp;

namespace MelFusion.Evaluation.Embeddings;

/// <summary>A network alone in a folder: its weights, and a config.json where its sizes are not fixed.</summary>
internal static class NetworkFolder
{
    private static readonly string[] Endings = [".safetensors", ".pth", ".pt", ".bin"];

    /// <summary>Reads a network with a config, ready for use.</summary>
    /// <param name="folder">The folder.</param>
    /// <param name="make">From its config to the network.</param>
    /// <exception cref="MelFusionException">A file is missing or does not fit.</exception>
    public static TNetwork Open<TConfig, TNetwork>(string folder, Func<TConfig, TNetwork> make) where TConfig : class where TNetwork : torch.nn.Module =>
        Fill(folder, make(ConfigFile.Read<TConfig>(Path.Combine(folder, "config.json"))));

    /// <summary>Fills a network from the folder's weights and makes it ready for use.</summary>
    /// <exception cref="MelFusionException">There are none or several, or they do not fit; the network is disposed.</exception>
    public static TNetwork Fill<TNetwork>(string folder, TNetwork network) where TNetwork : torch.nn.Module
    {
        try
        {
            using var weights = WeightsFile.Open(WeightsIn(folder));
            network.LoadFrom(weights);
            network.eval();
            return network;
        }
        catch
        {
            network.Dispose();
            throw;
        }
    }

    /// <summary>The file of weights: model.safetensors, or else the only one with the ending of the best kind that is there.</summary>
    /// <exception cref="MelFusionException">There is none, or no telling which.</exception>
    public static string WeightsIn(string folder)
    {
        if (File.Exists(Path.Combine(folder, "model.safetensors")))
        {
            return Path.Combine(folder, "model.safetensors");
        }

        string[] found = Endings.Select(ending => Files(folder, ending)).FirstOrDefault(files => files.Length > 0) ?? [];
        return found switch
        {
            [var one] => one,
            [] => throw new MelFusionException($"{folder}: there is no file of weights in it ({string.Join(", ", Endings)})."),
            _ => throw new MelFusionException($"{folder}: there are {found.Length} files of weights in it; leave one, or name it model.safetensors."),
        };
    }

    /// <summary>SHA-256 of the folder's weights, lower-case hex.</summary>
    public static string HashOf(string folder) => EmbeddingCache.HashOf(WeightsIn(folder));

    /// <summary>Whether there are weights in a folder.</summary>
    public static bool HasWeights(string folder) => Directory.Exists(folder) && Endings.Any(ending => Files(folder, ending).Length > 0);

    private static string[] Files(string folder, string ending) =>
        [.. Directory.EnumerateFiles(folder, "*" + ending).Where(file => file.EndsWith(ending, StringComparison.Ordinal)).Order(StringComparer.Ordinal)];
}
