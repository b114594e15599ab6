using MelFusion.Training.Data;
using MelFusion.Weights;

namespace MelFusion.Cli.Commands;

/// <summary>What <c>melfusion generate</c> was asked for, beside what the library's <see cref="MusicRequest"/> states.</summary>
internal sealed record GenerateSettings
{
    /// <summary>The music: of one picture and text, or how every row's is made.</summary>
    public required MusicRequest Request { get; init; }

    /// <summary>The picture: a PNG, JPEG, WebP, BMP or GIF file; without one it is text-to-music.</summary>
    public string? Image { get; init; }

    /// <summary>A data folder: a clip is made for every row of a split's table.jsonl, of its first picture and its first caption, and named like the row.</summary>
    public string? Data { get; init; }

    /// <summary>Which split of the data (default: test).</summary>
    public string Split { get; init; } = "test";

    /// <summary>
    /// Which captions of the data: heard (what is heard alone, so that the picture has something to say) or all (from the one that names game and scene on); a
    /// table without captions of the first kind has its own taken for them (default: heard).
    /// </summary>
    public CaptionKind Captions { get; init; } = CaptionKind.Heard;

    /// <summary>At most so many rows of the data, spread evenly over the table.</summary>
    public int? Limit { get; init; }

    /// <summary>Whether the seed was drawn.</summary>
    public bool SeedIsDrawn { get; init; }

    /// <summary>Precision of the large networks; auto (the default) is bf16 only where the processor has instructions for it.</summary>
    public Precision Precision { get; init; }

    /// <summary>Where the networks compute (default: cpu).</summary>
    public ComputeDevice Device { get; init; }

    /// <summary>Threads of libtorch, 1 to 256 (default: one per physical core).</summary>
    public int? Threads { get; init; }

    /// <summary>The model folder (default: models/melfusion-mini, from the program upward, then from here).</summary>
    public string? Model { get; init; }

    /// <summary>The WAV file to write: 16-bit mono at the model's rate, with its recipe inside. With --data a folder; finished files in it are kept, so that the same command goes on.</summary>
    public required string Output { get; init; }

    /// <summary>Print one line of JSON for scripts on standard output; everything else goes to standard error.</summary>
    public bool Json { get; init; }

    /// <summary>Replace the output where it exists; with --data, files that were made otherwise.</summary>
    public bool Overwrite { get; init; }
}
