using System.Collections.Concurrent;

namespace MelFusion;

/// <summary>
/// How long counted work will still take, each activity at the rate since it was first told of: what was done before (an earlier run's) says nothing of
/// the rate. It may be asked from any thread.
/// </summary>
/// <param name="time">Where time comes from.</param>
public sealed class Pace(TimeProvider time)
{
    private readonly ConcurrentDictionary<string, (int Done, long At)> _begun = new(StringComparer.Ordinal);

    /// <summary>The time left; null until something was done since the activity was first told of.</summary>
    /// <param name="activity">What is being done.</param>
    /// <param name="done">How much of it is done.</param>
    /// <param name="all">How much there is.</param>
    public TimeSpan? Left(string activity, int done, int all)
    {
        var begun = _begun.GetOrAdd(activity, _ => (done, time.GetTimestamp()));
        return done > begun.Done ? time.GetElapsedTime(begun.At) / (done - begun.Done) * (all - done) : null;
    }
}
