using MelFusion.Training;
using Spectre.Console;

namespace MelFusion.Cli.Output;

/// <summary>Shows a training while it runs.</summary>
internal static class TrainingView
{
    private static readonly TimeSpan BetweenLines = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan BetweenFrames = TimeSpan.FromSeconds(0.5);

    /// <summary>Does the work on the calling thread, and shows it.</summary>
    public static T Show<T>(IAnsiConsole console, Func<IProgress<TrainingProgress>, T> work) =>
        SlowLine.Show(console, BetweenFrames, BetweenLines, line => work(new Reports(console, line)));

    private sealed class Reports(IAnsiConsole console, SlowLine line) : IProgress<TrainingProgress>
    {
        public void Report(TrainingProgress value)
        {
            if (value.Figures.Count > 0)
            {
                console.Say(Words.Text($"Step {value.Step}: ") + string.Join(", ", value.Figures.Select(figure => Words.Text($"{figure.Name} {figure.Value:0.####}"))));
            }

            line.Show(value.Activity, Line(value));
        }

        private static string Line(TrainingProgress value) => string.Concat(
            Words.Text($"{value.Stage}: {value.Activity} {value.Step} of {value.StepCount}"),
            value.Loss is { } loss ? Words.Text($", loss {loss:0.0000}") : string.Empty,
            value.SamplesPerSecond is { } rate ? Words.Text($", {rate:0.0} samples/s") : string.Empty,
            Words.Left(value.Remaining));
    }
}
