using MelFusion.Weights;
using MelFusion.Weights.Hub;

namespace MelFusion.Evaluation.Embeddings;

/// <summary>Where the weights of evaluators lie.</summary>
public static class EvaluatorFolder
{
    private static readonly Dictionary<string, Source> Sources = new()
    {
        ["musicnn"] = new(Path.Combine("musicnn", "mtt")),
        ["efficientnet-lite0"] = new("efficientnet-lite0"),
        ["basic-pitch"] = new("basic-pitch"),
        ["minilm"] = new(Path.Combine("melfusion-mini", "text_encoder")),
        ["vggish"] = new("vggish", "the file is vggish-10086976.pth of github.com/harritaylor/torchvggish"),
        ["cnn14"] = new("cnn14", "the file is Cnn14_16k_mAP=0.438.pth of zenodo.org/records/3987831"),
        ["clap"] = new("clap", "config.json, weights, vocab.json and merges.txt", "laion/clap-htsat-unfused"),
        ["clip"] = new("clip", "config.json, weights, vocab.json and merges.txt", "openai/clip-vit-base-patch32"),
    };

    /// <summary>Evaluators by name; musicnn's weights come with the program.</summary>
    public static IReadOnlyList<string> Names { get; } = ["musicnn", "vggish", "cnn14", "clap"];

    /// <summary>Opens an evaluator.</summary>
    /// <param name="name">One of <see cref="Names"/>.</param>
    /// <param name="folder">A folder that holds a folder named like the evaluator; null: models above the program or here, and the hub's cache.</param>
    /// <returns>The evaluator, or the reason why there is none here.</returns>
    /// <exception cref="MelFusionException">Its files are damaged, or no evaluator has that name.</exception>
    public static (IEvaluator? Evaluator, string Reason) Open(string name, string? folder = null)
    {
        if (!Names.Contains(name))
        {
            throw new MelFusionException($"There is no evaluator '{name}'; there are {string.Join(", ", Names)}.");
        }

        (string? found, string reason) = Find(name, folder);
        if (found is null)
        {
            return (null, reason);
        }

        IEvaluator evaluator = name switch
        {
            "vggish" => new VggishEvaluator(found),
            "cnn14" => new Cnn14Evaluator(found),
            "clap" => new ClapEvaluator(found),
            _ => new MusicnnEvaluator(found),
        };
        return (evaluator, string.Empty);
    }

    /// <summary>The folder of a network's weights, or the reason why there is none and what to do.</summary>
    internal static (string? Folder, string Reason) Find(string name, string? given)
    {
        var source = Sources[name];
        string? found = Places(source, given).FirstOrDefault(NetworkFolder.HasWeights);
        string pull = source.Repository is null ? string.Empty : $"`melfusion models pull {source.Repository}` brings them, or ";
        return (found, found is not null ? string.Empty
            : $"the weights of {name} are missing: {pull}put them into {Path.Combine(given ?? "models", source.Folder)} ({source.Files ?? "they come with the program"})");
    }

    private static IEnumerable<string> Places(Source source, string? given)
    {
        if (given is not null)
        {
            yield return Path.Combine(given, source.Folder);
            if (source.Files is not null)
            {
                yield break; // another copy than the named one is not meant
            }
        }

        foreach (string place in ProgramPlaces.Of(Path.Combine("models", source.Folder)))
        {
            yield return place;
        }

        if (source.Repository is not null && new HubCache(HubSettings.FromEnvironment().CacheFolder).FindSnapshot(source.Repository) is { } snapshot)
        {
            yield return snapshot;
        }
    }

    /// <param name="Folder">Inside a folder of models.</param>
    /// <param name="Files">What lies in the folder; null: it comes with the program.</param>
    /// <param name="Repository">On the hub; null where its makers have none there.</param>
    private sealed record Source(string Folder, string? Files = null, string? Repository = null);
}
