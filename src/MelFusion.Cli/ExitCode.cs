namespace MelFusion.Cli;

/// <summary>What the process ends with.</summary>
internal static class ExitCode
{
    /// <summary>Done.</summary>
    public const int Done = 0;

    /// <summary>It could not be done, or a replay differs; stderr holds the sentence.</summary>
    public const int Failed = 1;

    /// <summary>The command line is not usable; nothing was begun.</summary>
    public const int Usage = 2;

    /// <summary>Ctrl+C.</summary>
    public const int Interrupted = 128 + 2;

    /// <summary>SIGTERM.</summary>
    public const int Terminated = 128 + 15;
}
