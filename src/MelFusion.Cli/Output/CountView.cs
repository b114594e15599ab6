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

    /// <summary>Does counted work on the calling thread, and shows what is being done, how much of it is done and the time it will still take.</summary>
    /// <param name="console">Where to.</param>
    /// <param name="unit">What is counted, such as "clips"; empty where the activity says it.</param>
    /// <param name="count">What a report says.</param>
    /// <param name="work">The work; it may report from any thread.</param>
    public static T ShowCount<TProgress, T>(IAnsiConsole console, string unit, Func<TProgress, (string Activity, int Done, int Count)> count, Func<IProgress<TProgress>, T> work)
    {
        var pace = new Pace(TimeProvider.System);
        return Show(
            console, value =>
            {
                var (activity, done, all) = count(value);
                var left = pace.Left(activity, done, all);
                return (activity, Words.Text($"{activity}: {done} of {all} {unit}").TrimEnd() + Words.Left(done < all ? left : null));
            },
            work);
    }

    // Progress<T> would show late, and on another thread.
    private sealed class Reports<TProgress>(Action<TProgress> report) : IProgress<TProgress>
    {
        public void Report(TProgress value) => report(value);
    }
}
