namespace MelFusion.Training;

/// <summary>Plain data about a running training.</summary>
/// <param name="Stage">The stage's name, such as mel-vae.</param>
/// <param name="Activity">What is being done: "reading the data", "training", "validating", ...</param>
/// <param name="Step">Steps done (or items, while the data are read).</param>
/// <param name="StepCount">Steps (or items) in all.</param>
/// <param name="Loss">A moving average of the loss; null before the first step.</param>
/// <param name="SamplesPerSecond">Throughput of the last steps; null before the first.</param>
/// <param name="Remaining">Time left; null until there is an estimate.</param>
/// <param name="Figures">Figures of a validation that has just ended, else empty.</param>
public sealed record TrainingProgress(
    string Stage,
    string Activity,
    long Step,
    long StepCount,
    double? Loss,
    double? SamplesPerSecond,
    TimeSpan? Remaining,
    IReadOnlyList<(string Name, double Value)> Figures);

/// <summary>How a training ended.</summary>
/// <param name="Steps">Steps done in all.</param>
/// <param name="Loss">The moving average of the loss at the end; NaN where no step was left to do.</param>
/// <param name="Figures">The last validation.</param>
/// <param name="Model">The model folder that was written.</param>
public sealed record TrainingResult(long Steps, double Loss, IReadOnlyList<(string Name, double Value)> Figures, string Model);
