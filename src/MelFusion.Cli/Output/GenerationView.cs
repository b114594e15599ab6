using Spectre.Console;

namespace MelFusion.Cli.Output;

/// <summary>Shows a generation while it runs: bars on a terminal, a line now and then elsewhere.</summary>
internal static class GenerationView
{
    /// <summary>Does the work on the calling thread, and shows it.</summary>
    public static T Show<T>(IAnsiConsole console, Func<IProgress<GenerationProgress>, T> work) =>
        console.IsLive()
            ? console.Progress().AutoRefresh(false).AutoClear(true)
                .Columns(new TaskDescriptionColumn { Alignment = Justify.Left }, new ProgressBarColumn(), new PercentageColumn())
                .Start(context => work(new Bars(context)))
            : work(new Lines(console));

    /// <summary>A bar per stage. It is redrawn when something happens, not by a thread of its own that would take time from libtorch's.</summary>
    private sealed class Bars(ProgressContext context) : IProgress<GenerationProgress>
    {
        private ProgressTask? _task;
        private GenerationStage? _stage;

        public void Report(GenerationProgress value)
        {
            if (_stage != value.Stage)
            {
                Finish();
                (_stage, _task) = (value.Stage, context.AddTask(Words.Of(value.Stage)));
            }

            string left = value.Remaining is { } time ? $" [grey]({Words.Of(time)} left)[/]" : string.Empty;
            _task!.Description = Words.Of(value) + left;
            _task.MaxValue = Math.Max(1, value.StepCount);
            _task.Value = value.Step;
            context.Refresh();
        }

        private void Finish()
        {
            if (_task is not null)
            {
                _task.Value = _task.MaxValue;
                _task.Description = Words.Of(_stage!.Value);
            }
        }
    }

    /// <summary>A line at each stage's beginning and at every fifth of it.</summary>
    private sealed class Lines(IAnsiConsole console) : IProgress<GenerationProgress>
    {
        private string? _said;
        private (GenerationStage Stage, int Fifth)? _place;

        public void Report(GenerationProgress value)
        {
            var place = (value.Stage, 5 * value.Step / Math.Max(1, value.StepCount));
            string what = Words.Of(value);
            if (_place != place && _said != what)
            {
                (_place, _said) = (place, what);
                console.Say(what + (value.Remaining is { } time ? $", about {Words.Of(time)} left" : string.Empty));
            }
        }
    }
}
