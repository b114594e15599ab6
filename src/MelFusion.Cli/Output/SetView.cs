using Spectre.Console;

namespace MelFusion.Cli.Output;

/// <summary>Shows a set of clips while it is made.</summary>
internal static class SetView
{
    /// <summary>Does the work on the calling thread, and shows it.</summary>
    public static T Show<T>(IAnsiConsole console, Func<IProgress<SetProgress>, T> work) =>
        CountView.Show<SetProgress, T>(console, value => ("set", Line(value)), work);

    /// <summary>Such as "Clip 4 of 40: Denoising, step 3 of 25, 5 min 2 s left".</summary>
    public static string Line(SetProgress value) => string.Concat(
        value.Now is { } now ? Words.Text($"Clip {value.Done + 1} of {value.Count}: {Words.Of(now)}") : Words.Text($"{value.Done} of {value.Count} clips are there"),
        Words.Left(value.Remaining));
}
