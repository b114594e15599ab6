using System.Diagnostics;
using System.Globalization;
using MelFusion.Cli;
using MelFusion.Tests.Support;
using Shouldly;
using Xunit;

namespace MelFusion.Tests.Cli;

/// <summary>How a run ended.</summary>
internal sealed record Ended(int ExitCode, string Output, string Error, TimeSpan Elapsed)
{
    /// <summary>One clear sentence on standard error, and nothing that looks like a stack trace.</summary>
    public Ended ShouldFailWith(int exitCode, params string[] words)
    {
        string all = $"exit code {ExitCode}\n{Output}\n{Error}";
        ExitCode.ShouldBe(exitCode, all);
        string sentence = Error.TrimEnd().Split('\n')[^1];
        sentence.ShouldNotBeEmpty(all);
        sentence.ShouldEndWith(".", Case.Sensitive, all);
        foreach (string word in words)
        {
            sentence.ShouldContain(word, Case.Insensitive, all);
        }

        (Output + Error).ShouldNotContain("   at ", Case.Sensitive, all);
        (Output + Error).ShouldNotContain("Exception", Case.Sensitive, all);
        return this;
    }
}

/// <summary>The command line: as the built program, and inside this process.</summary>
internal static class Melfusion
{
    private static readonly string Folder =
        Path.Combine(Repository.Root, "artifacts", "bin", "MelFusion.Cli", Path.GetFileName(AppContext.BaseDirectory.TrimEnd(Path.DirectorySeparatorChar)));

    private static readonly string Program = Path.Combine(Folder, OperatingSystem.IsWindows() ? "MelFusion.Cli.exe" : "MelFusion.Cli");

    /// <summary>Starts the built program.</summary>
    public static Process Start(params string[] args) => StartProgram(Program, args);

    /// <summary>Runs the built program to its end, and says how long processors were busy with it.</summary>
    public static Ended RunTimed(out TimeSpan processorTime, params string[] args)
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "bash keeps the time.");
        string times = Path.GetTempFileName();
        using var process = StartProgram("bash", ["-c", "TIMEFORMAT='%U %S'; { time \"${@:2}\" 2>&3; } 3>&2 2>\"$1\"", "-", times, Program, .. args]);
        var ended = End(process, Stopwatch.GetTimestamp());
        processorTime = TimeSpan.FromSeconds(File.ReadAllText(times).Split(' ').Sum(part => double.Parse(part, CultureInfo.InvariantCulture)));
        File.Delete(times);
        return ended;
    }

    private static Process StartProgram(string program, string[] args, string? terminal = null)
    {
        var start = new ProcessStartInfo(program, args) { RedirectStandardOutput = true, RedirectStandardError = true };
        // Tests share the machine's cores.
        start.Environment["OMP_NUM_THREADS"] = "1";
        if (terminal is not null)
        {
            start.Environment["TERM"] = terminal;
        }

        return Process.Start(start)!;
    }

    /// <summary>Runs the built program to its end.</summary>
    public static Ended Run(params string[] args)
    {
        long began = Stopwatch.GetTimestamp();
        using var process = Start(args);
        return End(process, began);
    }

    /// <summary>Runs the built program on a terminal of its own; what the terminal was sent is the output.</summary>
    public static Ended RunOnTerminal(params string[] args)
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "util-linux's script makes the terminal.");
        long began = Stopwatch.GetTimestamp();
        string command = string.Join(' ', args.Prepend(Program).Select(arg => $"'{arg.Replace("'", "'\\''", StringComparison.Ordinal)}'"));
        using var process = StartProgram("script", ["-qec", command, "/dev/null"], terminal: "xterm-256color");
        return End(process, began);
    }

    /// <summary>Waits for a started program.</summary>
    public static Ended End(Process process, long began)
    {
        var error = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return new(process.ExitCode, output, error.GetAwaiter().GetResult(), Stopwatch.GetElapsedTime(began));
    }

    /// <summary>A session on two writers, which nothing cancels.</summary>
    public static Session SessionOf(TextWriter output, TextWriter error) =>
        new(Session.Open(output), Session.Open(error), () => ExitCode.Interrupted, CancellationToken.None);

    /// <summary>Runs the same command line inside this process, for checks that need no process of their own.</summary>
    public static Ended Here(params string[] args)
    {
        using var output = new StringWriter();
        using var error = new StringWriter();
        long began = Stopwatch.GetTimestamp();
        int exitCode = Application.Run(args, SessionOf(output, error));
        return new(exitCode, output.ToString(), error.ToString(), Stopwatch.GetElapsedTime(began));
    }
}
