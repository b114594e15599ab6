using System.Text;
using Spectre.Console;

namespace MelFusion.Cli;

/// <summary>What a command talks to: the consoles, and whether it should stop.</summary>
/// <param name="Output">Results, and progress unless a script reads them.</param>
/// <param name="Error">Errors, and progress when a script reads the results.</param>
/// <param name="WhenCancelled">The exit code of a process that was told to stop.</param>
/// <param name="Cancellation">Cancelled when the command should stop.</param>
internal sealed record Session(IAnsiConsole Output, IAnsiConsole Error, Func<int> WhenCancelled, CancellationToken Cancellation)
{
    // Redirected output is not cut into lines of a terminal's width: one message stays one line.
    private const int NoWrapping = 100_000;

    /// <summary>The session of this process.</summary>
    public static Session OfTerminal(Interruption interruption)
    {
        Console.OutputEncoding = new UTF8Encoding(false);
        return new(Open(Console.Out), Open(Console.Error), () => interruption.ExitCode, interruption.Token);
    }

    /// <summary>A console on a writer.</summary>
    public static IAnsiConsole Open(TextWriter writer)
    {
        var console = AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(writer) });
        if (!console.Profile.Out.IsTerminal)
        {
            console.Profile.Width = NoWrapping;
        }

        return console;
    }

    /// <summary>Where progress goes and what a person reads.</summary>
    /// <param name="json">Whether a script reads standard output.</param>
    public IAnsiConsole ForPeople(bool json) => json ? Error : Output;

    /// <summary>One line for a script, exactly as it is.</summary>
    public void WriteJson(string line) => Output.Profile.Out.Writer.WriteLine(line);
}

/// <summary>Short ways to print.</summary>
internal static class ConsoleExtensions
{
    /// <summary>Prints a line; nothing in it is markup, and control characters do not reach the terminal.</summary>
    public static void Say(this IAnsiConsole console, string line) => console.WriteLine(Printable(line));

    /// <summary>Whether lines can be redrawn.</summary>
    public static bool IsLive(this IAnsiConsole console) => console.Profile.Out.IsTerminal && console.Profile.Capabilities.Ansi;

    /// <summary>The text without control characters, which a hostile file name or recipe may hold.</summary>
    public static string Printable(string text) => string.Concat(text.Select(c => char.IsControl(c) ? ' ' : c));
}
