using MelFusion.Evaluation.Embeddings;
using MelFusion.Wave;

namespace MelFusion.Evaluation;

/// <summary>Which folders to compare, and how.</summary>
public sealed record EvaluationRequest
{
    /// <summary>The metrics there are, by the names of the command line.</summary>
    public static IReadOnlyList<string> AllMetrics { get; } =
    [
        "fad", "fad-infinity", "fd", "kl", "kl-sigmoid", "is", "kid", "coverage", "density", "clap", "imsm", "imsm-open", .. NoteEvaluator.Figures,
    ];

    /// <summary>Folder of reference sounds.</summary>
    public required string Reference { get; init; }

    /// <summary>Folder of generated sounds, paired with the reference by name.</summary>
    public required string Generated { get; init; }

    /// <summary>Of the generated sounds, only those of these names; null: all.</summary>
    internal IReadOnlySet<string>? Only { get; init; }

    /// <summary>Which metrics, by name.</summary>
    public IReadOnlyList<string> Metrics { get; init; } = ["fad", "fd", "kl", "is", "kid"];

    /// <summary>Of how many candidates each generated clip was chosen; the passport states it.</summary>
    public int BestOfN { get; init; } = 1;

    /// <summary>Seed of redraws, shuffles and noise.</summary>
    public int Seed { get; init; }

    /// <summary>Rounds of the bootstrap; 0 gives figures without intervals.</summary>
    public int BootstrapRounds { get; init; } = 200;

    /// <summary>Of a longer file, so many seconds from its beginning count.</summary>
    public double LongestSeconds { get; init; } = 60;

    /// <summary>Threads that read and embed.</summary>
    public int Workers { get; init; } = Math.Clamp(Environment.ProcessorCount, 1, 8);

    /// <summary>Where embeddings are kept; null keeps none.</summary>
    public string? CacheFolder { get; init; } = EmbeddingCache.DefaultFolder;

    /// <summary>Whether silence, noise, shuffled pairs, halves and reconstruction are measured too.</summary>
    public bool Controls { get; init; } = true;

    /// <summary>A model's way there and back (VAE and vocoder), for the reconstruction control; null: none.</summary>
    public Func<Waveform, Waveform>? Reconstruct { get; init; }

    /// <summary>File of captions, a JSON object a line with "id" and "caption" or "captions"; null: table.jsonl of the reference folder, where it has one.</summary>
    public string? Captions { get; init; }

    /// <summary>Folder of pictures named like the sounds; null: those that the captions' file names.</summary>
    public string? Images { get; init; }

    /// <summary>Folder that holds folders of networks whose weights do not come with the program (vggish, cnn14, clap, clip); null: models, and the hub's cache.</summary>
    public string? Weights { get; init; }
}
