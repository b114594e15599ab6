using System.Globalization;

namespace MelFusion.Cli.Output;

/// <summary>Times and stages as a person says them.</summary>
internal static class Words
{
    /// <summary>Such as "8 s" or "3 min 5 s".</summary>
    public static string Of(TimeSpan time)
    {
        long seconds = (long)Math.Ceiling(Math.Max(0, time.TotalSeconds));
        return seconds < 60 ? Text($"{seconds} s")
            : seconds < 3600 ? Text($"{seconds / 60} min {seconds % 60} s")
            : Text($"{seconds / 3600} h {seconds % 3600 / 60} min");
    }

    /// <summary>Such as ", 3 min 5 s left"; empty where there is no estimate.</summary>
    public static string Left(TimeSpan? time) => time is { } left ? $", {Of(left)} left" : string.Empty;

    /// <summary>What a generation does.</summary>
    public static string Of(GenerationStage stage) => stage switch
    {
        GenerationStage.ReadingPicture => "Reading the picture",
        GenerationStage.InvertingPicture => "Inverting the picture",
        GenerationStage.Denoising => "Denoising",
        _ => "Decoding",
    };

    /// <summary>Such as "Denoising, step 3 of 25".</summary>
    public static string Of(GenerationProgress progress) =>
        progress.Step == 0 || progress.StepCount == 1 ? Of(progress.Stage) : Text($"{Of(progress.Stage)}, step {progress.Step} of {progress.StepCount}");

    /// <summary>Text with invariant numbers.</summary>
    public static string Text(FormattableString text) => FormattableString.Invariant(text);
}
