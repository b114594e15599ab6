namespace MelFusion.Evaluation;

/// <summary>Passes progress on at once, on the thread that reports it; <see cref="Progress{T}"/> would tell late, and on another thread.</summary>
internal sealed class Relay<T>(Action<T> report) : IProgress<T>
{
    /// <inheritdoc/>
    public void Report(T value) => report(value);
}
