using System.Globalization;
using System.Text.Json;
using MelFusion.Inversion;
using MelFusion.Noise;
using MelFusion.Synapse;
using MelFusion.Training.Engine;
using MelFusion.Training.Stages;
using MelFusion.UNet;

namespace MelFusion.Training;

/// <summary>A mean difference of two conditions over the same clips, noise and timesteps.</summary>
/// <param name="Mean">The mean of (wrong - right): above 0 where the right condition helps.</param>
/// <param name="HalfInterval">Half of its 95 % interval, each clip counted as one observation.</param>
/// <param name="HalfIntervalByTune">The same with one observation per tune: clips of one tune are alike.</param>
public readonly record struct PairedDifference(double Mean, double HalfInterval, double HalfIntervalByTune)
{
    /// <summary>Whether the interval by clip lies above 0.</summary>
    public bool IsAboveZero => Mean > HalfInterval;

    internal static PairedDifference Of(double[] right, double[] wrong, IReadOnlyList<string> tunes)
    {
        double[] differences = [.. right.Zip(wrong, (r, w) => w - r)];
        double[] byTune = [.. differences.Zip(tunes).GroupBy(pair => pair.Second, StringComparer.Ordinal).Select(tune => tune.Average(pair => pair.First))];
        return new(differences.Average(), HalfIntervalOf(differences), HalfIntervalOf(byTune));
    }

    private static double HalfIntervalOf(double[] values)
    {
        double mean = values.Average(), variance = values.Sum(x => (x - mean) * (x - mean)) / Math.Max(1, values.Length - 1);
        return 1.96 * Math.Sqrt(variance / values.Length);
    }
}

/// <summary>The comparison at one noise level.</summary>
/// <param name="Timestep">t.</param>
/// <param name="Loss">The mean loss under each condition, as <see cref="ConditionComparison.Loss"/> has it over all levels.</param>
/// <param name="Difference">Every wrong condition less its right one.</param>
public sealed record LevelComparison(long Timestep, IReadOnlyDictionary<string, double> Loss, IReadOnlyDictionary<string, PairedDifference> Difference);

/// <summary>
/// What text and picture are worth to a trained model: the loss of held-out clips at fixed noise and timesteps with the right picture, with
/// another clip's, and without one, and the same for texts, compared clip by clip.
/// </summary>
public sealed class ConditionComparison
{
    internal const string Right = "right", ShuffledPicture = "shuffled_picture", NoPicture = "no_picture", ShuffledText = "shuffled_text",
        NoText = "no_text", ShuffledPictureNoText = "shuffled_picture_no_text", Nothing = "nothing",
        FullText = "full_text", ShuffledPictureFullText = "shuffled_picture_full_text", OtherSource = "other_source";

    private static readonly (string Right, string Wrong)[] Pairs =
    [
        (Right, ShuffledPicture), (Right, NoPicture), (Right, ShuffledText), (Right, NoText), (NoText, ShuffledPictureNoText), (NoText, Nothing),
        (FullText, ShuffledPictureFullText), (Right, OtherSource),
    ];

    private static readonly JsonSerializerOptions Json = new() { WriteIndented = true, PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };

    private readonly IReadOnlyDictionary<string, double[][]> _losses; // by condition: level, clip
    private readonly IReadOnlyList<long> _timesteps;
    private readonly IReadOnlyList<(string Id, string Tune)> _clips;

    internal ConditionComparison(IReadOnlyDictionary<string, double[][]> losses, IReadOnlyList<long> timesteps, IReadOnlyList<(string Id, string Tune)> clips)
    {
        (_losses, _timesteps, _clips) = (losses, timesteps, clips);
        (Loss, Difference) = Compare(levels => [.. Enumerable.Range(0, Clips).Select(clip => levels.Average(level => level[clip]))]);
        ByTimestep = [.. timesteps.Select((t, i) =>
        {
            var (loss, difference) = Compare(levels => levels[i]);
            return new LevelComparison(t, loss, difference);
        })];
    }

    internal static IReadOnlyList<string> Conditions { get; } = [Right, ShuffledPicture, NoPicture, ShuffledText, NoText, ShuffledPictureNoText, Nothing, FullText, ShuffledPictureFullText, OtherSource];

    internal static bool IsShuffled(string condition) => condition is ShuffledPicture or ShuffledText or ShuffledPictureNoText or ShuffledPictureFullText;

    /// <summary>Number of clips.</summary>
    public int Clips => _clips.Count;

    /// <summary>
    /// The mean loss under each condition: right (a clip's captions and pictures in turn, as training draws them), shuffled_picture, no_picture,
    /// shuffled_text, no_text, shuffled_picture_no_text, nothing; full_text and shuffled_picture_full_text, where the text is always the fullest
    /// caption; and other_source, which is right but takes keys and values from the trajectory where the model's are recorded, and the other way about.
    /// </summary>
    public IReadOnlyDictionary<string, double> Loss { get; }

    /// <summary>Every wrong condition less its right one ("right"; "no_text" for the two that have no text, "full_text" for the one with the fullest), by the wrong one's name.</summary>
    public IReadOnlyDictionary<string, PairedDifference> Difference { get; }

    /// <summary>The same at every noise level by itself: a mean over levels may hide that a picture helps at one and harms at another.</summary>
    public IReadOnlyList<LevelComparison> ByTimestep { get; }

    internal IReadOnlyList<(string Name, double Value)> Figures =>
    [
        .. Loss.Select(condition => ("loss_" + condition.Key, condition.Value)),
        .. Difference.SelectMany(pair => new[] { (pair.Key + "_difference", pair.Value.Mean), (pair.Key + "_interval", pair.Value.HalfInterval) }),
    ];

    /// <summary>Measures the model folder of a music-ldm config on a split, training or not.</summary>
    /// <param name="config">A config of the stage music-ldm: its model, data, caches, precision and timesteps.</param>
    /// <param name="split">train, validation or test.</param>
    /// <param name="clips">At most so many clips, evenly chosen.</param>
    /// <param name="strangers">
    /// Clips whose picture or text a clip gets in the place of its own at every noise level, 1 or more: their losses are averaged, so that the interval
    /// depends less on which strangers a clip happens to meet.
    /// </param>
    /// <param name="progress">Told while data are prepared.</param>
    /// <param name="cancellation">Looked at while data are prepared.</param>
    /// <exception cref="MelFusionException">The model or the data are not whole.</exception>
    public static ConditionComparison Measure(
        TrainingConfig config, string split, int clips, int strangers = 1, IProgress<TrainingProgress>? progress = null, CancellationToken cancellation = default)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(strangers, 1);
        var trained = config with { StartFrom = config.Model };
        using var pool = new WorkerPool(config.Workers, config.ThreadsPerWorker);
        var context = new StageContext(trained, pool, new(config.Output), progress, cancellation);
        var defaults = ModelParts.ReadDefaults(config.Model);
        using var model = new MusicModel(context, config.MusicLdm with
        {
            InversionSteps = defaults.InversionSteps ?? config.MusicLdm.InversionSteps,
            InversionDepth = defaults.InversionDepth,
            KeyValueSource = defaults.KeyValueSource == KeyValueSource.Replay ? KeyValueSource.Recorded : defaults.KeyValueSource, // replay is a way of sampling
            Network = ModelParts.ReadConfig<UNetConfig>(config.Model, "unet"),
            Synapse = ModelParts.ReadConfig<SynapseConfig>(config.Model, "synapse"),
            Schedule = ModelParts.ReadConfig<NoiseScheduleConfig>(config.Model, "scheduler", "scheduler_config.json"),
        }, split);
        model.PrepareSynapse(config.Model, (_, _) => throw new InvalidOperationException("A trained synapse needs no statistics."));
        return ConditionMeasurement.Measure(model[split], model, config.MusicLdm.ValidationTimesteps, clips, strangers, context);
    }

    /// <summary>Writes the figures as JSON, and the losses of every clip at every noise level as CSV.</summary>
    public void Write(string json, string csv)
    {
        File.WriteAllText(json, JsonSerializer.Serialize(new { Clips, Loss, Difference, ByTimestep }, Json) + "\n");
        var lines =
            from clip in Enumerable.Range(0, Clips)
            from level in Enumerable.Range(0, _timesteps.Count)
            let losses = Conditions.Select(condition => _losses[condition][level][clip].ToString("G7", CultureInfo.InvariantCulture))
            select string.Create(CultureInfo.InvariantCulture, $"{Csv.Cell(_clips[clip].Id)},{_timesteps[level]},{string.Join(',', losses)}");
        File.WriteAllLines(csv, lines.Prepend(string.Join(',', Conditions.Prepend("timestep").Prepend("id"))));
    }

    /// <summary>Means and differences of what is taken of each condition's losses: one number a clip.</summary>
    private (IReadOnlyDictionary<string, double> Loss, IReadOnlyDictionary<string, PairedDifference> Difference) Compare(Func<double[][], double[]> take)
    {
        var losses = _losses.ToDictionary(condition => condition.Key, condition => take(condition.Value));
        string[] tunes = [.. _clips.Select(clip => clip.Tune)];
        return (
            losses.ToDictionary(condition => condition.Key, condition => condition.Value.Average()),
            Pairs.ToDictionary(pair => pair.Wrong, pair => PairedDifference.Of(losses[pair.Right], losses[pair.Wrong], tunes)));
    }
}
