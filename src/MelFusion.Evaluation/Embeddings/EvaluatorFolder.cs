namespace MelFusion.Evaluation.Embeddings;

/// <summary>Where the weights of evaluators lie.</summary>
public static class EvaluatorFolder
{
    private static readonly string Musicnn = Path.Combine("models", "musicnn", "mtt");

    /// <summary>Evaluators by name; musicnn's weights come with the program.</summary>
    public static IReadOnlyList<string> Names { get; } = ["musicnn", "vggish", "cnn14", "clap"];

    /// <summary>Opens an evaluator.</summary>
    /// <returns>The evaluator, or the reason why there is none here.</returns>
    /// <exception cref="MelFusionException">Its files are damaged.</exception>
    public static (IEvaluator? Evaluator, string Reason) Open(string name)
    {
        if (name != "musicnn")
        {
            return (null, $"the weights of {name} are not here; musicnn's are, and --evaluator musicnn needs nothing else");
        }

        return Find() is { } folder
            ? (new MusicnnEvaluator(folder), string.Empty)
            : (null, $"there is no {Musicnn} above the program or in this folder");
    }

    private static string? Find()
    {
        for (string? folder = AppContext.BaseDirectory; folder is not null; folder = Path.GetDirectoryName(folder))
        {
            if (File.Exists(Path.Combine(folder, Musicnn, "config.json")))
            {
                return Path.Combine(folder, Musicnn);
            }
        }

        return File.Exists(Path.Combine(Musicnn, "config.json")) ? Musicnn : null;
    }
}
