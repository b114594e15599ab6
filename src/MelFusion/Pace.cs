namespace MelFusion;

/// <summary>How long counted work will still take, at the rate since it began. What was done before (an earlier run's) says nothing of the rate.</summary>
/// <param name="begun">How much was done when it began.</param>
/// <param name="time">Where time comes from.</param>
public sealed class Pace(int begun, TimeProvider time)
{
    private readonly long _start = time.GetTimestamp();

    /// <summary>The time left; null until something was done.</summary>
    /// <param name="done">How much is done.</param>
    /// <param name="all">How much there is.</param>
    public TimeSpan? Left(int done, int all) => done > begun ? time.GetElapsedTime(_start) / (done - begun) * (all - done) : null;
}
