namespace MelFusion.Cli.Commands;

/// <summary>What <c>melfusion replay</c> was asked for.</summary>
internal sealed record ReplaySettings
{
    /// <summary>The WAV file that MelFusion made.</summary>
    public required string File { get; init; }

    /// <summary>The picture it was made of, where it does not lie beside the file under its name.</summary>
    public string? Image { get; init; }

    /// <summary>The model folder (default: models/melfusion-mini, from the program upward, then from here).</summary>
    public string? Model { get; init; }

    /// <summary>Keep what was made again in this WAV file.</summary>
    public string? Output { get; init; }

    /// <summary>Print one line of JSON for scripts on standard output; everything else goes to standard error.</summary>
    public bool Json { get; init; }

    /// <summary>Replace the output where it exists.</summary>
    public bool Overwrite { get; init; }
}
