using System.Runtime.InteropServices;

namespace MelFusion.Cli;

/// <summary>
/// Turns Ctrl+C and SIGTERM into a cancellation, which every command honours within one step. A second signal ends the process at once.
/// </summary>
internal sealed class Interruption : IDisposable
{
    private readonly CancellationTokenSource _source = new();
    private readonly PosixSignalRegistration[] _signals;

    /// <summary>Listens from here on.</summary>
    public Interruption() =>
        _signals = [Listen(PosixSignal.SIGINT, Cli.ExitCode.Interrupted), Listen(PosixSignal.SIGTERM, Cli.ExitCode.Terminated)];

    /// <summary>Cancelled by the first signal.</summary>
    public CancellationToken Token => _source.Token;

    /// <summary>The exit code that belongs to the signal.</summary>
    public int ExitCode { get; private set; } = Cli.ExitCode.Interrupted;

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var signal in _signals)
        {
            signal.Dispose();
        }

        _source.Dispose();
    }

    private PosixSignalRegistration Listen(PosixSignal signal, int exitCode) => PosixSignalRegistration.Create(signal, context =>
    {
        if (!_source.IsCancellationRequested)
        {
            context.Cancel = true;
            ExitCode = exitCode;
            _source.Cancel();
        }
    });
}
