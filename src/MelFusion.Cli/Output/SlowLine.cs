using Spectre.Console;

namespace MelFusion.Cli.Output;

/// <summary>A line that says how far something is. Reports may come from any thread and as often as they like; few are shown.</summary>
internal sealed class SlowLine
{
    private readonly Lock _lock = new();
    private readonly TimeSpan _between;
    private readonly Action<string> _show;
    private long _shown;
    private string? _topic;

    private SlowLine(TimeSpan between, Action<string> show) => (_between, _show) = (between, show);

    /// <summary>Does the work on the calling thread with a line that is redrawn on a terminal, and repeated now and then elsewhere.</summary>
    /// <param name="console">Where to.</param>
    /// <param name="betweenFrames">The shortest time between two drawings.</param>
    /// <param name="betweenLines">The shortest time between two lines where nothing can be redrawn.</param>
    /// <param name="work">The work.</param>
    public static T Show<T>(IAnsiConsole console, TimeSpan betweenFrames, TimeSpan betweenLines, Func<SlowLine, T> work) =>
        !console.IsLive()
            ? work(new(betweenLines, console.Say))
            : console.Live(Spectre.Console.Text.Empty).AutoClear(true).Start(context => work(new(betweenFrames, line =>
            {
                context.UpdateTarget(new Spectre.Console.Text(ConsoleExtensions.Printable(line)));
                context.Refresh();
            })));

    /// <summary>Shows a line, if it is about something new or the last one is old enough.</summary>
    public void Show(string topic, string line)
    {
        lock (_lock)
        {
            long now = TimeProvider.System.GetTimestamp();
            if (_topic != topic || TimeProvider.System.GetElapsedTime(_shown, now) >= _between)
            {
                (_topic, _shown) = (topic, now);
                _show(line);
            }
        }
    }
}
