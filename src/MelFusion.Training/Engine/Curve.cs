using ScottPlot;

namespace MelFusion.Training.Engine;

/// <summary>Draws columns of a table over the step as a PNG.</summary>
internal static class Curve
{
    /// <summary>Draws the named columns, or every one, of a CSV file; does nothing while it has fewer than two rows.</summary>
    /// <param name="table">The CSV file.</param>
    /// <param name="picture">The PNG to write.</param>
    /// <param name="title">Above the plot.</param>
    /// <param name="columns">Which columns; null: all.</param>
    public static void Draw(string table, string picture, string title, IReadOnlyList<string>? columns = null)
    {
        var data = Table.Read(table);
        if (!data.TryGetValue("step", out double[]? steps) || steps.Length < 2)
        {
            return;
        }

        using var plot = new Plot();
        foreach (string name in columns ?? [.. data.Keys.Where(key => key != "step")])
        {
            var points = steps.Zip(data[name]).Where(point => double.IsFinite(point.Second)).ToList();
            var line = plot.Add.ScatterLine(points.Select(p => p.First).ToArray(), points.Select(p => p.Second).ToArray());
            line.LegendText = name;
        }

        plot.Title(title);
        plot.XLabel("step");
        plot.ShowLegend();
        plot.SavePng(picture, 1000, 500);
    }
}
