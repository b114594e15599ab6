using MelFusion.Training.Data.Build;
using Spectre.Console;

namespace MelFusion.Cli.Output;

/// <summary>Shows a count while it grows: one line that is redrawn on a terminal, a line now and then elsewhere.</summary>
internal static class CountView
{
    private static readonly TimeSpan BetweenLines = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan BetweenFrames = TimeSpan.FromSeconds(0.2);

    /// <summary>Does the work on the calling thread, and shows it.</summary>
    public static T Show<T>(IAnsiConsole console, Func<IProgress<OpenMelProgress>, T> work) =>
        SlowLine.Show(console, BetweenFrames, BetweenLines, line =>
            work(new Reports(value => line.Show(value.Stage, Words.Text($"{value.Stage}: {value.Done} of {value.Total}")))));

    private sealed class Reports(Action<OpenMelProgress> report) : IProgress<OpenMelProgress>
    {
        public void Report(OpenMelProgress value) => report(value);
    }
}
