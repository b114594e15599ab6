using System.ComponentModel;
using System.Diagnostics;
using System.Text;

namespace MelFusion.Training.Data.Build;

/// <summary>Runs the system's own tools (apt-get, dpkg, ffmpeg) without a shell: every argument is handed over as it is.</summary>
internal static class ToolProcess
{
    private const int KeptErrorCharacters = 2000;

    /// <summary>Runs a tool and returns what it wrote to its standard output, as bytes.</summary>
    /// <param name="tool">Name of the program, sought on the path.</param>
    /// <param name="arguments">The arguments, one an item.</param>
    /// <param name="folder">The folder to run it in, or null for the current one.</param>
    /// <param name="maximumBytes">More output than this ends the tool and is an error.</param>
    /// <param name="timeout">A tool that takes longer is ended, and that is an error.</param>
    /// <param name="cancellationToken">Ends the tool.</param>
    /// <exception cref="MelFusionException">The tool is missing, failed, wrote too much or took too long.</exception>
    public static async Task<byte[]> RunAsync(string tool, IEnumerable<string> arguments, string? folder, long maximumBytes, TimeSpan timeout, CancellationToken cancellationToken)
    {
        using var process = Start(tool, arguments, folder);
        using var timer = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        timer.CancelAfter(timeout);
        try
        {
            process.StandardInput.Close();
            var errors = ReadErrorsAsync(process, timer.Token);
            var output = await ReadOutputAsync(tool, process.StandardOutput.BaseStream, maximumBytes, timer.Token).ConfigureAwait(false);
            await process.WaitForExitAsync(timer.Token).ConfigureAwait(false);
            return process.ExitCode == 0
                ? output
                : throw new MelFusionException($"{tool} failed with exit code {process.ExitCode}: {LastLine(await errors.ConfigureAwait(false))}");
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            throw new MelFusionException($"{tool} did not end within {timeout.TotalSeconds:0} seconds and was stopped.");
        }
        finally
        {
            End(process);
        }
    }

    private static Process Start(string tool, IEnumerable<string> arguments, string? folder)
    {
        var start = new ProcessStartInfo(tool)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            UseShellExecute = false,
            WorkingDirectory = folder ?? Environment.CurrentDirectory,
        };
        foreach (var argument in arguments)
        {
            start.ArgumentList.Add(argument);
        }

        try
        {
            return Process.Start(start) ?? throw new MelFusionException($"{tool} could not be started.");
        }
        catch (Win32Exception)
        {
            throw new MelFusionException($"The program {tool} was not found; install it and try again.");
        }
    }

    private static async Task<byte[]> ReadOutputAsync(string tool, Stream stream, long maximumBytes, CancellationToken cancellationToken)
    {
        using var kept = new MemoryStream();
        var buffer = new byte[1 << 16];
        for (int read; (read = await stream.ReadAsync(buffer, cancellationToken).ConfigureAwait(false)) > 0;)
        {
            if (kept.Length + read > maximumBytes)
            {
                throw new MelFusionException($"{tool} wrote more than {maximumBytes} bytes and was stopped.");
            }

            kept.Write(buffer, 0, read);
        }

        return kept.ToArray();
    }

    private static async Task<string> ReadErrorsAsync(Process process, CancellationToken cancellationToken)
    {
        var kept = new StringBuilder();
        while (await process.StandardError.ReadLineAsync(cancellationToken).ConfigureAwait(false) is { } line)
        {
            if (kept.Length < KeptErrorCharacters && line.Length > 0)
            {
                kept.AppendLine(line);
            }
        }

        return kept.ToString();
    }

    private static string LastLine(string text) => text.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries).LastOrDefault() ?? "it said nothing.";

    private static void End(Process process)
    {
        if (!process.HasExited)
        {
            process.Kill(entireProcessTree: true);
        }
    }
}
