using System.Text.Json;
using System.Text.Json.Nodes;
using MelFusion.Vae;
using MelFusion.Weights;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Training.Stages;

/// <summary>Writes and reads the parts of a model folder, one at a time, while the model is not yet whole.</summary>
internal static class ModelParts
{
    private const string WeightsName = "diffusion_pytorch_model.safetensors";

    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true };

    /// <summary>Writes a part: config.json and fp16 weights, and its line in model_index.json.</summary>
    /// <param name="model">The model folder.</param>
    /// <param name="part">The part's folder.</param>
    /// <param name="config">Its config.</param>
    /// <param name="network">The network.</param>
    /// <param name="library">The library and class that model_index.json names.</param>
    public static void Write<T>(string model, string part, T config, nn.Module network, (string Library, string Class) library) where T : class
    {
        string folder = Directory.CreateDirectory(Path.Combine(model, part)).FullName;
        using var noGrad = no_grad();
        Safetensors.Write(Path.Combine(folder, WeightsName), network.state_dict(), dtype: ScalarType.Float16);
        ConfigFile.Write(Path.Combine(folder, "config.json"), config);
        AddToIndex(model, part, library);
    }

    /// <summary>Writes a part that is a config alone.</summary>
    public static void WriteConfig<T>(string model, string part, string file, T config, (string Library, string Class)? library = null, string? className = null) where T : class
    {
        string path = Path.Combine(Directory.CreateDirectory(Path.Combine(model, part)).FullName, file);
        ConfigFile.Write(path, config);
        if (className is not null)
        {
            var json = JsonNode.Parse(File.ReadAllText(path))!.AsObject();
            json.Insert(0, "_class_name", className);
            File.WriteAllText(path, json.ToJsonString(Indented) + "\n");
        }

        if (library is { } named)
        {
            AddToIndex(model, part, named);
        }
    }

    /// <summary>Changes some of the model's defaults, melfusion.json.</summary>
    public static void ChangeDefaults(string model, Func<ModelDefaults, ModelDefaults> change)
    {
        string path = Path.Combine(model, "melfusion.json");
        ConfigFile.Write(path, change(ReadDefaults(model)));
    }

    /// <summary>The model's defaults as far as they are written.</summary>
    public static ModelDefaults ReadDefaults(string model)
    {
        string path = Path.Combine(model, "melfusion.json");
        return File.Exists(path) ? ConfigFile.Read<ModelDefaults>(path) : new();
    }

    /// <summary>Reads a part's config.</summary>
    public static T ReadConfig<T>(string model, string part, string file = "config.json") where T : class =>
        ConfigFile.Read<T>(Require(model, part, file));

    /// <summary>Reads an autoencoder's config, in any form in which they are published.</summary>
    public static AutoencoderKlConfig ReadVaeConfig(string model, string part) => AutoencoderKlConfig.Read(Require(model, part, "config.json"));

    /// <summary>Fills a network from a part's weights.</summary>
    public static TNetwork Load<TNetwork>(string model, string part, TNetwork network) where TNetwork : nn.Module
    {
        using var file = Safetensors.Open(Require(model, part, WeightsName));
        network.LoadFrom(file);
        return network;
    }

    /// <summary>The same for a network that is used and not trained: no gradient is kept for it.</summary>
    public static TNetwork LoadFrozen<TNetwork>(string model, string part, TNetwork network) where TNetwork : nn.Module
    {
        foreach (var parameter in Load(model, part, network).parameters())
        {
            parameter.requires_grad = false;
        }

        return network;
    }

    /// <summary>Reads one tensor of a part's model.safetensors, fp32, detached from every scope.</summary>
    public static Tensor ReadTensor(string model, string part, string key)
    {
        using var file = Safetensors.Open(Require(model, part, "model.safetensors"));
        return file.Read(key, ScalarType.Float32).DetachFromDisposeScope();
    }

    /// <summary>What a cache depends on when it depends on a part's weights.</summary>
    public static string Describe(string model, string part) => Data.TensorCache.DescribeContent(Path.Combine(model, part, WeightsName));

    /// <summary>Whether two models have the same weights of a part; those of one folder are not read for it.</summary>
    public static bool HaveSame(string part, string model, string other) =>
        Path.GetFullPath(model) == Path.GetFullPath(other) || Describe(model, part) == Describe(other, part);

    private static string Require(string model, string part, string file)
    {
        string path = Path.Combine(model, part, file);
        return File.Exists(path) ? path : throw new MelFusionException($"{path} is missing: train the stage that makes '{part}' first.");
    }

    private static void AddToIndex(string model, string part, (string Library, string Class) library)
    {
        string path = Path.Combine(model, "model_index.json");
        var index = File.Exists(path) ? JsonNode.Parse(File.ReadAllText(path))!.AsObject() : new JsonObject { ["_class_name"] = "MelFusionPipeline" };
        index[part] = new JsonArray(library.Library, library.Class);
        File.WriteAllText(path, index.ToJsonString(Indented) + "\n");
    }
}
