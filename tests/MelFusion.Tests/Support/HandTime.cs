namespace MelFusion.Tests.Support;

/// <summary>A clock that a test turns by hand.</summary>
internal sealed class HandTime : TimeProvider
{
    /// <summary>What it shows.</summary>
    public TimeSpan Now { get; set; }

    /// <inheritdoc/>
    public override long TimestampFrequency => TimeSpan.TicksPerSecond;

    /// <inheritdoc/>
    public override long GetTimestamp() => Now.Ticks;
}
