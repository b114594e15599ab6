using MelFusion.Weights;
using TorchSharp;

namespace MelFusion.Evaluation.Embeddings;

/// <summary>A network alone in a folder: config.json and model.safetensors.</summary>
internal static class NetworkFolder
{
    /// <summary>Reads it, ready for use.</summary>
    /// <param name="folder">The folder.</param>
    /// <param name="make">From its config to the network.</param>
    /// <exception cref="MelFusionException">A file is missing or does not fit.</exception>
    public static TNetwork Open<TConfig, TNetwork>(string folder, Func<TConfig, TNetwork> make) where TConfig : class where TNetwork : torch.nn.Module
    {
        var network = make(ConfigFile.Read<TConfig>(Path.Combine(folder, "config.json")));
        using var weights = WeightsFile.Open(Path.Combine(folder, "model.safetensors"));
        network.LoadFrom(weights);
        network.eval();
        return network;
    }
}
