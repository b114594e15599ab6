using MelFusion.Evaluation.Embeddings;
using Spectre.Console;

namespace MelFusion.Cli.Output;

/// <summary>Shows how many files of a folder are embedded.</summary>
internal static class FileCountView
{
    private static readonly TimeSpan BetweenLines = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan BetweenFrames = TimeSpan.FromSeconds(0.2);

    /// <summary>Does the work on the calling thread, and shows it.</summary>
    public static T Show<T>(IAnsiConsole console, Func<IProgress<EvaluationProgress>, T> work) =>
        SlowLine.Show(console, BetweenFrames, BetweenLines, line =>
            work(new Reports(value => line.Show(value.Stage, Words.Text($"{value.Stage}: {value.Done} of {value.Count} files heard")))));

    private sealed class Reports(Action<EvaluationProgress> report) : IProgress<EvaluationProgress>
    {
        public void Report(EvaluationProgress value) => report(value);
    }
}
