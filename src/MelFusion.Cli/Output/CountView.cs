using Spectre.Console;

namespace MelFusion.Cli.Output;

/// <summary>Shows a count while it grows: one line that is redrawn on a terminal, a line now and then elsewhere.</summary>
internal static class CountView
{
    private static readonly TimeSpan BetweenLines = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan BetweenFrames = TimeSpan.FromSeconds(0.2);

    /// <summary>Does the work on the calling thread, and shows it.</summary>
    /// <param name="console">Where to.</param>
    /// <param name="line">What a report is about, and how it reads.</param>
    /// <param name="work">The work.</param>
    public static T Show<TProgress, T>(IAnsiConsole console, Func<TProgress, (string Topic, string Text)> line, Func<IProgress<TProgress>, T> work) =>
        SlowLine.Show(console, BetweenFrames, BetweenLines, shown => work(new Reports<TProgress>(value =>
        {
            var (topic, text) = line(value);
            shown.Show(topic, text);
        })));

    // Progress<T> would show late, and on another thread.
    private sealed class Reports<TProgress>(Action<TProgress> report) : IProgress<TProgress>
    {
        public void Report(TProgress value) => report(value);
    }
}
