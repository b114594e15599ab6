namespace MelFusion.Cli.Commands;

/// <summary>What <c>melfusion data build</c> was asked for.</summary>
internal sealed record DataBuildSettings
{
    /// <summary>The folder that is filled with train, validation, test and pictures.</summary>
    public required string Output { get; init; }

    /// <summary>Where archives and unpacked packages are kept (default: .cache in the output folder).</summary>
    public string? Cache { get; init; }

    /// <summary>Only games whose packages are all among these, separated by commas (default: all games).</summary>
    public IReadOnlyList<string>? Packages { get; init; }

    /// <summary>Leave out the pictures for the image models.</summary>
    public bool NoPictures { get; init; }

    /// <summary>Folder of the tagger that hears the clips for their captions, such as models/musicnn/mtt; without it captions say what the games say.</summary>
    public string? Tagger { get; init; }

    /// <summary>How many tools run at the same time (default: 2).</summary>
    public int Workers { get; init; } = 2;
}
