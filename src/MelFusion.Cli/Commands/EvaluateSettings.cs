namespace MelFusion.Cli.Commands;

/// <summary>Which network hears.</summary>
internal enum EvaluatorKind
{
    /// <summary>The tagger that comes with the program.</summary>
    Musicnn,

    /// <summary>FAD's usual network.</summary>
    Vggish,

    /// <summary>The network of FD, KL, IS and KID.</summary>
    Cnn14,

    /// <summary>The network of sound and text.</summary>
    Clap,
}

/// <summary>What <c>melfusion evaluate</c> was asked for.</summary>
internal sealed record EvaluateSettings
{
    /// <summary>Folder of the sounds that are taken as right.</summary>
    public required string Reference { get; init; }

    /// <summary>Folder of the sounds to judge, paired with the reference by name; any folder of sound files will do.</summary>
    public required string Generated { get; init; }

    /// <summary>Folder of pictures named like the sounds (default: those that the file of captions names).</summary>
    public string? Images { get; init; }

    /// <summary>File of captions, a JSON object a line with "id" and "caption" or "captions" (default: table.jsonl of the reference, where it has one).</summary>
    public string? Captions { get; init; }

    /// <summary>Folder that holds folders vggish, cnn14, clap and clip with their weights (default: models, and the hub's cache).</summary>
    public string? Weights { get; init; }

    /// <summary>Model folder whose VAE and vocoder give the reconstruction control (default: no such control).</summary>
    public string? Model { get; init; }

    /// <summary>Which figures, separated by commas (default: fad,fd,kl,is,kid).</summary>
    public IReadOnlyList<string>? Metrics { get; init; }

    /// <summary>The network that hears; figures whose weights are missing are null with the reason (default: musicnn).</summary>
    public EvaluatorKind Evaluator { get; init; }

    /// <summary>Folder for report.json, report.md, report.csv, report.html and plots (default: none is written).</summary>
    public string? Report { get; init; }

    /// <summary>Of how many candidates each generated clip was chosen, for the passport (default: 1).</summary>
    public int BestOf { get; init; } = 1;

    /// <summary>Seed of redraws, shuffles and noise (default: 0).</summary>
    public int Seed { get; init; }

    /// <summary>Rounds of the bootstrap behind each interval; 0 gives none (default: 200).</summary>
    public int Rounds { get; init; } = 200;

    /// <summary>Seconds of a sound that count, from its beginning (default: 60).</summary>
    public double Longest { get; init; } = 60;

    /// <summary>Threads that read and embed (default: one a core).</summary>
    public int? Workers { get; init; }

    /// <summary>Where embeddings are kept between runs (default: the user's own application folder).</summary>
    public string? Cache { get; init; }

    /// <summary>Leave out silence, noise, shuffled pairs, halves and reconstruction.</summary>
    public bool NoControls { get; init; }

    /// <summary>Print the report as JSON on standard output.</summary>
    public bool Json { get; init; }
}

/// <summary>What <c>melfusion evaluate compare</c> was asked for.</summary>
internal sealed record EvaluateCompareSettings
{
    /// <summary>The first report.json.</summary>
    public required string First { get; init; }

    /// <summary>The second report.json.</summary>
    public required string Second { get; init; }
}
