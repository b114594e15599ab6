using MelFusion.Evaluation.Embeddings;
using MelFusion.Wave;
using ScottPlot;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Evaluation.Reports;

/// <summary>The pictures of a report.</summary>
internal static class ReportPlots
{
    private const int GridClips = 6;
    private const double LongestSeconds = 10;

    /// <summary>Draws what there is enough of, and names the files with their titles.</summary>
    public static IReadOnlyList<(string File, string Title)> Draw(
        string folder, EvaluationReport report, EvaluationRequest request, EvaluationDetails details)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        (string File, string Title, Action<string> Draw)[] plots =
        [
            ("intervals.png", "95 % intervals, each figure divided by its value", path => Intervals(path, report)),
            ("map.png", "Embeddings of clips on their two principal axes", path => Map(path, details)),
            ("spectrograms.png", "Log-mel spectrograms: references above, generated clips of the same names below", path => Grid(path, request, details)),
        ];
        foreach (var plot in plots)
        {
            File.Delete(Path.Combine(folder, plot.File));
            plot.Draw(Path.Combine(folder, plot.File));
        }

        return [.. plots.Where(plot => File.Exists(Path.Combine(folder, plot.File))).Select(plot => (plot.File, plot.Title))];
    }

    private static void Intervals(string path, EvaluationReport report)
    {
        var metrics = report.Metrics.Where(metric => metric.Value is { Value: not null and not 0, Low: not null, High: not null }).ToArray();
        if (metrics.Length == 0)
        {
            return;
        }

        using var plot = new Plot();
        for (int i = 0; i < metrics.Length; i++)
        {
            double value = metrics[i].Value.Value!.Value;
            var line = plot.Add.Line(metrics[i].Value.Low!.Value / value, i, metrics[i].Value.High!.Value / value, i);
            plot.Add.Marker(1, i, color: line.LineColor);
        }

        plot.Axes.Left.SetTicks([.. metrics.Select((_, i) => (double)i)], [.. metrics.Select(metric => metric.Key)]);
        plot.XLabel("figure / its value on all clips");
        plot.SavePng(path, 800, 100 + (60 * metrics.Length));
    }

    private static void Map(string path, EvaluationDetails details)
    {
        var clips = details.Reference.Concat(details.Generated).Select(clip => Vector(clip.Embedding)).ToArray();
        if (details.Reference.Count == 0 || details.Generated.Count == 0 || clips.Length < 3 || clips[0].Length < 2)
        {
            return;
        }

        double[][] points = PrincipalAxes(clips);
        using var plot = new Plot();
        Scatter(plot, points.Take(details.Reference.Count), "reference");
        Scatter(plot, points.Skip(details.Reference.Count), "generated");
        plot.XLabel("first principal axis");
        plot.YLabel("second principal axis");
        plot.ShowLegend();
        plot.SavePng(path, 800, 600);
    }

    private static void Scatter(Plot plot, IEnumerable<double[]> points, string name)
    {
        var all = points.ToArray();
        plot.Add.ScatterPoints(all.Select(point => point[0]).ToArray(), all.Select(point => point[1]).ToArray()).LegendText = name;
    }

    private static double[][] PrincipalAxes(float[][] clips)
    {
        using var scope = NewDisposeScope();
        var x = torch.stack(clips.Select(clip => torch.tensor(clip)).ToArray()).to(ScalarType.Float64);
        var centred = x - x.mean([0], keepdim: true); // (N, D)
        var (u, s, _) = linalg.svd(centred, fullMatrices: false);
        double[] flat = (u.narrow(1, 0, 2) * s.narrow(0, 0, 2)).contiguous().data<double>().ToArray();
        return [.. flat.Chunk(2)];
    }

    private static float[] Vector(ClipEmbedding clip) => clip.Clip.Length > 0
        ? clip.Clip
        : [.. Enumerable.Range(0, clip.Patches[0].Length).Select(j => clip.Patches.Average(patch => patch[j]))];

    private static void Grid(string path, EvaluationRequest request, EvaluationDetails details)
    {
        var byId = details.Generated.ToDictionary(clip => clip.Id);
        var pairs = details.Reference.Where(clip => byId.ContainsKey(clip.Id)).Take(GridClips).ToArray();
        if (pairs.Length == 0)
        {
            return;
        }

        using var front = new MelSpectrogram(MelConfig.Tango);
        SpectrogramSheet.Draw(
            path, front,
            [
                [.. pairs.Select(pair => Read(Path.Combine(EmbeddingPipeline.FolderOf(request.Reference), pair.File)))],
                [.. pairs.Select(pair => Read(Path.Combine(EmbeddingPipeline.FolderOf(request.Generated), byId[pair.Id].File)))],
            ],
            string.Join("    ", pairs.Select(pair => pair.Id.Length <= 24 ? pair.Id : pair.Id[..24])));
    }

    private static Waveform Read(string path) =>
        AudioFile.Read(path, new AudioLimits { Mono = true, Cut = true, Duration = TimeSpan.FromSeconds(LongestSeconds) });
}
