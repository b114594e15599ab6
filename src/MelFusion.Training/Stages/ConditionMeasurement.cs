using MelFusion.Training.Data;
using MelFusion.Training.Engine;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Training.Stages;

/// <summary>Computes the losses of a <see cref="ConditionComparison"/>.</summary>
internal static class ConditionMeasurement
{
    /// <summary>Measures so many clips, evenly chosen, on the context's threads; its progress is told, and cancellation looked at before every pass.</summary>
    /// <param name="data">The split.</param>
    /// <param name="model">The model.</param>
    /// <param name="timesteps">The noise levels.</param>
    /// <param name="clips">At most so many.</param>
    /// <param name="strangers">Other clips whose picture or text a clip gets at every noise level, their losses averaged.</param>
    /// <param name="context">Threads, progress, cancellation.</param>
    public static ConditionComparison Measure(MusicData data, MusicModel model, IReadOnlyList<long> timesteps, int clips, int strangers, StageContext context)
    {
        int count = Math.Min(clips, data.Count);
        int[] rows = [.. Enumerable.Range(0, count).Select(i => Evenly.Place(i, count, data.Count))];
        var losses = ConditionComparison.Conditions.ToDictionary(condition => condition, _ => timesteps.Select(_ => new double[count]).ToArray());
        int done = 0;
        context.Pool.ShareInChunks(count, 4 * context.Pool.Count, i =>
        {
            int[][] others = [.. Enumerable.Range(0, strangers).Select(turn => StrangersOf(data, rows, i, timesteps.Count, turn, strangers))];
            foreach (var (condition, levels) in losses)
            {
                var passes = ConditionComparison.IsShuffled(condition) ? others : others.AsSpan(0, 1);
                foreach (int[] ofLevels in passes)
                {
                    context.Cancel.ThrowIfCancellationRequested();
                    float[] ofClip = LossOf(data, model, timesteps, rows[i], ofLevels, condition);
                    for (int level = 0; level < levels.Length; level++)
                    {
                        levels[level][i] += ofClip[level] / (double)passes.Length;
                    }
                }
            }

            context.Report("comparing right and wrong texts and pictures", Interlocked.Increment(ref done), count);
        });
        return new(losses, timesteps, [.. rows.Select(row => data.Rows[row]).Select(row => (row.Id, row.Path ?? row.Id))]);
    }

    /// <summary>The loss at every timestep, each with the noise that belongs to clip and timestep, with another of the clip's captions and pictures, and
    /// with another stranger where a condition takes one.</summary>
    private static float[] LossOf(MusicData data, MusicModel model, IReadOnlyList<long> timesteps, int row, int[] strangers, string condition)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var samples = timesteps.Select((t, level) =>
        {
            using var generator = StepRandom.Generator(0, -2, row * 1000L + level);
            bool otherSource = condition == ConditionComparison.OtherSource;
            return new MusicSample(
                data.Latents.Mean(row), randn(data.Latents.Shape, generator: generator), t,
                Caption(data, row, strangers[level], level, condition),
                Picture(data, row, strangers[level], level, condition) is { } picture ? data.Trajectories.At(picture, t, otherSource: otherSource) : null);
        }).ToList();
        return [.. model.Objective.PerSample(samples, model.Texts).data<float>()];
    }

    /// <summary>Captions run from the fullest to the shortest; clips begin at different ones, as training draws any. "full_text" is the fullest of all, which names game and scene.</summary>
    private static string Caption(MusicData data, int row, int stranger, int level, string condition) => condition switch
    {
        ConditionComparison.NoText or ConditionComparison.ShuffledPictureNoText or ConditionComparison.Nothing => string.Empty,
        ConditionComparison.FullText or ConditionComparison.ShuffledPictureFullText => data.Rows[row].Captions[0],
        ConditionComparison.ShuffledText => InTurn(data.Captions(stranger), row + level),
        _ => InTurn(data.Captions(row), row + level),
    };

    private static string? Picture(MusicData data, int row, int stranger, int level, string condition) => condition switch
    {
        ConditionComparison.NoPicture or ConditionComparison.Nothing => null,
        ConditionComparison.ShuffledPicture or ConditionComparison.ShuffledPictureNoText or ConditionComparison.ShuffledPictureFullText => InTurn(data.Rows[stranger].Images, level),
        _ => InTurn(data.Rows[row].Images, level),
    };

    private static string InTurn(IReadOnlyList<string> items, int turn) => items[turn % items.Count];

    /// <summary>A stranger for every noise level: all levels and turns have other ones, as evenly spread over the list as can be.</summary>
    private static int[] StrangersOf(MusicData data, int[] rows, int index, int levels, int turn, int turns) =>
        [.. Enumerable.Range(0, levels).Select(level => Stranger(data, rows, index, ((level * turns) + turn + 1) / ((levels * turns) + 1.0)))];

    /// <summary>That share of the list further, and on to the next row that shares neither a picture nor the fullest caption.</summary>
    private static int Stranger(MusicData data, int[] rows, int index, double share)
    {
        var own = data.Rows[rows[index]];
        var others = Enumerable.Range(0, rows.Length).Select(i => rows[(index + (int)(rows.Length * share) + i) % rows.Length]).ToList();
        return others.FirstOrDefault(row => !data.Rows[row].Images.Intersect(own.Images).Any() && data.Rows[row].Captions[0] != own.Captions[0], others[0]);
    }
}
