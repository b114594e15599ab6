using System.Globalization;
using System.Text.Json;
using MelFusion.Noise;
using MelFusion.Training.Data;
using MelFusion.Training.Engine;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Training.Stages;

/// <summary>A mean difference of two conditions over the same clips, noise and timesteps.</summary>
/// <param name="Mean">The mean of (other - right): above 0 where the right condition helps.</param>
/// <param name="HalfInterval">Half of its 95 % interval, clip by clip.</param>
internal readonly record struct PairedDifference(double Mean, double HalfInterval)
{
    /// <summary>Of two lists in the same order.</summary>
    public static PairedDifference Of(double[] right, double[] other)
    {
        double[] differences = [.. right.Zip(other, (a, b) => b - a)];
        double mean = differences.Average(), variance = differences.Sum(d => (d - mean) * (d - mean)) / Math.Max(1, differences.Length - 1);
        return new(mean, 1.96 * Math.Sqrt(variance / differences.Length));
    }
}

/// <summary>
/// What text and picture are worth: the loss of held-out clips at fixed noise and timesteps with the right picture, another clip's, and
/// none, and the same for texts; each paired clip by clip.
/// </summary>
internal sealed class ConditionReport(MusicData data, TextSet texts, MusicObjective objective, IReadOnlyList<long> timesteps, NoiseScheduleConfig schedule)
{
    private static readonly string[] Conditions = ["right", "shuffled_picture", "no_picture", "shuffled_text", "no_text"];

    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true };

    private readonly Dictionary<string, double[]> _losses = [];

    /// <summary>Mean losses, and every difference from "right" with its interval.</summary>
    public IReadOnlyList<(string Name, double Value)> Figures =>
    [
        .. Conditions.Select(condition => ("loss_" + condition, _losses[condition].Average())),
        .. Conditions.Skip(1).SelectMany(condition => new[]
        {
            (condition + "_minus_right", PairedDifference.Of(_losses["right"], _losses[condition]).Mean),
            (condition + "_interval", PairedDifference.Of(_losses["right"], _losses[condition]).HalfInterval),
        }),
    ];

    /// <summary>Measures so many clips, evenly chosen.</summary>
    public ConditionReport Measure(WorkerPool pool, int clips)
    {
        int count = Math.Min(clips, data.Count);
        int[] rows = [.. Enumerable.Range(0, count).Select(i => (int)((long)i * data.Count / count))];
        foreach (string condition in Conditions)
        {
            _losses[condition] = new double[count];
        }

        pool.Share(count, i =>
        {
            foreach (string condition in Conditions)
            {
                _losses[condition][i] = LossOf(rows[i], Stranger(rows, i), condition);
            }
        });
        return this;
    }

    /// <summary>Writes conditions.json for the newest measurement, and its rows to conditions.csv.</summary>
    public void Write(RunFolder folder, long step)
    {
        var json = new Dictionary<string, object>
        {
            ["step"] = step,
            ["clips"] = _losses["right"].Length,
            ["timesteps"] = timesteps,
            ["prediction_type"] = schedule.PredictionType.ToString(),
            ["loss"] = Conditions.ToDictionary(condition => condition, condition => _losses[condition].Average()),
            ["minus_right"] = Conditions.Skip(1).ToDictionary(condition => condition, condition =>
            {
                var difference = PairedDifference.Of(_losses["right"], _losses[condition]);
                return new { mean = difference.Mean, half_interval_95 = difference.HalfInterval };
            }),
        };
        File.WriteAllText(folder.File("conditions.json"), JsonSerializer.Serialize(json, Indented));
        var lines = Enumerable.Range(0, _losses["right"].Length)
            .Select(i => string.Join(',', Conditions.Select(condition => _losses[condition][i].ToString("G7", CultureInfo.InvariantCulture))));
        File.WriteAllLines(folder.File("conditions.csv"), lines.Prepend(string.Join(',', Conditions)));
    }

    /// <summary>The mean over the timesteps, each with the noise that belongs to clip and timestep.</summary>
    private double LossOf(int row, int stranger, string condition)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var samples = timesteps.Select((t, level) =>
        {
            using var generator = StepRandom.Generator(0, -2, row * 1000L + level);
            string caption = condition switch
            {
                "no_text" => string.Empty,
                "shuffled_text" => data.Rows[stranger].Captions[0],
                _ => data.Rows[row].Captions[0],
            };
            string picture = data.Rows[condition == "shuffled_picture" ? stranger : row].Images[0];
            return new MusicSample(
                data.Latents.Mean(row), randn(data.Latents.Shape, generator: generator), t, caption,
                condition == "no_picture" ? null : data.Trajectories.At(picture, t));
        }).ToList();
        return objective.PerSample(samples, texts).mean().item<float>();
    }

    /// <summary>Half the list further, and on to the next row that shares neither picture nor caption.</summary>
    private int Stranger(int[] rows, int index)
    {
        var own = data.Rows[rows[index]];
        return Enumerable.Range(0, rows.Length).Select(i => rows[(index + rows.Length / 2 + i) % rows.Length])
            .FirstOrDefault(row => data.Rows[row].Images[0] != own.Images[0] && data.Rows[row].Captions[0] != own.Captions[0], rows[(index + rows.Length / 2) % rows.Length]);
    }
}
