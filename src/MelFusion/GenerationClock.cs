namespace MelFusion;

/// <summary>Reports a generation's progress with the time it will still take, from how long its work has taken so far.</summary>
internal sealed class GenerationClock
{
    private readonly IProgress<GenerationProgress>? _progress;
    private readonly TimeProvider _time;
    private readonly IReadOnlyList<(GenerationStage Stage, int Steps, double Weight)> _work;
    private readonly double _total;
    private readonly long _start;

    /// <summary>Starts the clock.</summary>
    /// <param name="progress">Who is told; null: nobody.</param>
    /// <param name="work">The stages in their order, how many steps each has and what a step weighs beside the others.</param>
    /// <param name="time">Where time comes from.</param>
    public GenerationClock(
        IProgress<GenerationProgress>? progress, IReadOnlyList<(GenerationStage Stage, int Steps, double Weight)> work, TimeProvider time)
    {
        (_progress, _work, _time) = (progress, work, time);
        _total = work.Sum(stage => stage.Steps * stage.Weight);
        _start = time.GetTimestamp();
    }

    /// <summary>Tells that a stage begins.</summary>
    public void Begin(GenerationStage stage) => Done(stage, 0);

    /// <summary>Tells the steps of a stage that are done whenever it is called.</summary>
    public Action<int> Steps(GenerationStage stage) => step => Done(stage, step);

    /// <summary>Tells that <paramref name="step"/> steps of a stage are done.</summary>
    public void Done(GenerationStage stage, int step)
    {
        double done = 0;
        foreach (var part in _work)
        {
            done += part.Weight * (part.Stage == stage ? step : part.Steps);
            if (part.Stage == stage)
            {
                _progress?.Report(new(stage, step, part.Steps, Remaining(done)));
                return;
            }
        }
    }

    // The first few percent are warm-up and say nothing about the rest.
    private TimeSpan? Remaining(double done) =>
        done < 0.03 * _total ? null : _time.GetElapsedTime(_start) * ((_total - done) / done);
}
