using MelFusion.Training.Data;

namespace MelFusion.Cli.Commands;

/// <summary>What <c>melfusion measure</c> was asked for.</summary>
internal sealed record MeasureSettings
{
    /// <summary>Model folder to measure (default: the one that comes with the program).</summary>
    public string? Model { get; init; }

    /// <summary>Data folder as 'melfusion data build' writes it (default: data/openmel).</summary>
    public string Data { get; init; } = "data/openmel";

    /// <summary>Which clips: train, validation or test (default: test).</summary>
    public string Split { get; init; } = "test";

    /// <summary>
    /// Texts of the clips: heard (what is heard alone, so that the picture has something to say) or all (also those that name game and scene); a table
    /// without captions of the first kind has its own taken for them (default: heard).
    /// </summary>
    public CaptionKind Captions { get; init; } = CaptionKind.Heard;

    /// <summary>Clips whose losses under right and wrong texts and pictures are compared, by Eq. 7, at all timesteps together and one by one (default: 500; 0: none).</summary>
    public int Conditions { get; init; } = 500;

    /// <summary>Timesteps, of 0 to 999, at which they are compared (default: 500,700,900; text and picture decide where there is much noise).</summary>
    public IReadOnlyList<long> Timesteps { get; init; } = [500, 700, 900];

    /// <summary>Other clips whose picture or text each of those gets at every timestep, 1 to 1000; their losses are averaged: more take longer and narrow the intervals (default: 1).</summary>
    public int Strangers { get; init; } = 1;

    /// <summary>Clips that go through the autoencoder and the vocoders (default: 50; 0: none).</summary>
    public int Clips { get; init; } = 50;

    /// <summary>Clips that are made, one seed each, from texts and pictures of the split (default: 20; 0: none).</summary>
    public int Seeds { get; init; } = 20;

    /// <summary>Folder for figures, spectrograms and the clips that were made (default: measured).</summary>
    public string Report { get; init; } = "measured";

    /// <summary>Folder of caches of encoded data, which measurements and trainings may share (default: in the report's folder).</summary>
    public string? Cache { get; init; }

    /// <summary>Print the figures as JSON on standard output.</summary>
    public bool Json { get; init; }
}
