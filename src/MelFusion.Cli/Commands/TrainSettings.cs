namespace MelFusion.Cli.Commands;

/// <summary>What <c>melfusion train</c> was asked for.</summary>
internal sealed record TrainSettings
{
    /// <summary>The run's JSON file: its stage, and what differs from the defaults or from the file it names as base.</summary>
    public required string Config { get; init; }
}
