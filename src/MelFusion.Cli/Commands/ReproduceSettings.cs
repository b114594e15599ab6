using MelFusion.Weights;

namespace MelFusion.Cli.Commands;

/// <summary>What <c>melfusion reproduce</c> was asked for.</summary>
internal sealed record ReproduceSettings
{
    /// <summary>table1 to table7 of the paper, or a JSON file of the same form.</summary>
    public required string Table { get; init; }

    /// <summary>The data folder, or its name in the folder data (default: openmel).</summary>
    public string Data { get; init; } = "openmel";

    /// <summary>The model folder (default: models/melfusion-mini, from the program upward, then from here).</summary>
    public string? Model { get; init; }

    /// <summary>A few clips of a few steps for every row: ends in minutes, and its figures say nothing.</summary>
    public bool Quick { get; init; }

    /// <summary>At most so many clips a row (default: as the table's file states).</summary>
    public int? Limit { get; init; }

    /// <summary>The network that hears (default: musicnn).</summary>
    public EvaluatorKind Evaluator { get; init; }

    /// <summary>Folder that holds the folders of networks whose weights do not come with the program (default: models, and the hub's cache).</summary>
    public string? Weights { get; init; }

    /// <summary>Folder of other systems' clips, a folder each (default: systems).</summary>
    public string Systems { get; init; } = "systems";

    /// <summary>Train the variants that are missing first, which takes hours each.</summary>
    public bool Train { get; init; }

    /// <summary>Folder for the clips, a report for each row, and table.md, table.csv and table.json (default: runs/reproduce/TABLE, or TABLE-quick). Finished clips in it are kept.</summary>
    public required string Output { get; init; }

    /// <summary>Precision of the large networks; auto (the default) is bf16 only where the processor has instructions for it.</summary>
    public Precision Precision { get; init; }

    /// <summary>Where the networks compute (default: cpu).</summary>
    public ComputeDevice Device { get; init; }

    /// <summary>Threads of libtorch, 1 to 256 (default: one per physical core).</summary>
    public int? Threads { get; init; }

    /// <summary>Print the table as JSON on standard output; everything else goes to standard error.</summary>
    public bool Json { get; init; }

    /// <summary>Replace clips that were made otherwise.</summary>
    public bool Overwrite { get; init; }
}
