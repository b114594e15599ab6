using MelFusion.Training.Engine;
using MelFusion.Training.Stages;

namespace MelFusion.Training;

/// <summary>Trains one stage from its config, from where it was left or from the beginning.</summary>
public static class TrainingRun
{
    /// <summary>Runs to the end, or to the cancellation; call it again with the same config to go on.</summary>
    /// <param name="config">What to train.</param>
    /// <param name="progress">Told after every step, on the training's own threads.</param>
    /// <param name="cancellation">Honoured within one step; what was learned until then lies in a checkpoint.</param>
    /// <exception cref="OperationCanceledException">It was cancelled.</exception>
    /// <exception cref="MelFusionException">Data, model or settings are not as they must be.</exception>
    public static TrainingResult Run(TrainingConfig config, IProgress<TrainingProgress>? progress = null, CancellationToken cancellation = default) =>
        With(config, progress, trainer => trainer.Run(cancellation), cancellation);

    /// <summary>Writes what the newest checkpoint has learned into the model folder, without training on: a run that is stopped early still gives a model.</summary>
    /// <param name="config">The run.</param>
    /// <param name="progress">Told while data are prepared.</param>
    /// <param name="cancellation">Looked at while data are prepared.</param>
    /// <exception cref="MelFusionException">There is no checkpoint, or data, model or settings are not as they must be.</exception>
    public static TrainingResult Export(TrainingConfig config, IProgress<TrainingProgress>? progress = null, CancellationToken cancellation = default) =>
        Checkpoint.Newest(Path.Combine(config.Output, "checkpoints")) is null
            ? throw new MelFusionException($"{config.Output} holds no checkpoint yet: train first.")
            : With(config, progress, trainer => trainer.Export(), cancellation);

    private static TrainingResult With(TrainingConfig config, IProgress<TrainingProgress>? progress, Func<Trainer, TrainingResult> work, CancellationToken cancellation)
    {
        VariantFolder.Fill(config);
        var folder = new RunFolder(config.Output);
        using var pool = new WorkerPool(config.Workers, config.ThreadsPerWorker);
        var context = new StageContext(config, pool, folder, progress, cancellation);
        using ITrainingStage stage = config.Stage switch
        {
            TrainingStage.MelVae => new MelVaeStage(config, context),
            TrainingStage.ImageVae => new ImageVaeStage(config, context),
            TrainingStage.ImageLdm => new ImageLdmStage(config, context),
            TrainingStage.MusicLdm => new MusicLdmStage(config, context),
            _ => throw new MelFusionException($"The stage {config.StageName} is not known."),
        };
        using var trainer = new Trainer(config, stage, folder, pool, progress);
        return work(trainer);
    }
}
