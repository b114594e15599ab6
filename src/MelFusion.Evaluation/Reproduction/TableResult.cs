using System.Globalization;
using System.Text;
using System.Text.Json;
using MelFusion.Evaluation.Reports;

namespace MelFusion.Evaluation.Reproduction;

/// <summary>What became of a row.</summary>
/// <param name="Row">Its name.</param>
/// <param name="Clips">Clips that were compared.</param>
/// <param name="Figures">The figures; empty where there are none.</param>
/// <param name="Paper">The paper's figures, by data set and figure.</param>
/// <param name="Missing">What is missing and what to do; null where the row was measured.</param>
/// <param name="Note">What is other here than in the paper.</param>
public sealed record RowResult(
    string Row, int Clips, IReadOnlyDictionary<string, MetricValue> Figures, IReadOnlyDictionary<string, IReadOnlyDictionary<string, double>> Paper,
    string? Missing, string Note);

/// <summary>How far the order of rows here agrees with the paper's.</summary>
/// <param name="Set">The paper's data set.</param>
/// <param name="Figure">The figure.</param>
/// <param name="Rows">Rows that have both figures.</param>
/// <param name="Tau">Kendall's tau-a: 1 the same order, -1 the reverse, about 0 for chance.</param>
public sealed record OrderAgreement(string Set, string Figure, int Rows, double Tau);

/// <summary>A table of the paper, made here.</summary>
public sealed record TableResult
{
    /// <summary>What every reader of the table must know.</summary>
    public const string Caution =
        "The paper's figures were measured on MusicCaps and MeLBench with its own networks; ours on open data, with the evaluator named above and a model trained on them. "
        + "Compare the order of rows and the direction of a change, never a figure of ours with one of the paper.";

    /// <summary>What the table is about.</summary>
    public required string Title { get; init; }

    /// <summary>Whether it was a quick run, whose figures say nothing.</summary>
    public bool Quick { get; init; }

    /// <summary>The evaluator.</summary>
    public required string Evaluator { get; init; }

    /// <summary>The model's name.</summary>
    public required string Model { get; init; }

    /// <summary>The figures' names, in the order of the columns.</summary>
    public required IReadOnlyList<string> Metrics { get; init; }

    /// <summary>The rows.</summary>
    public required IReadOnlyList<RowResult> Rows { get; init; }

    /// <summary>Figures of what is worth nothing and of the floor, by control.</summary>
    public required IReadOnlyDictionary<string, IReadOnlyDictionary<string, double?>> Controls { get; init; }

    /// <summary>Where three rows or more have a figure on both sides.</summary>
    public IReadOnlyList<OrderAgreement> Agreement =>
    [
        .. from set in Sets
           from figure in FiguresOf(set)
           let pairs = Rows.Where(row => Ours(row, figure) is not null && Theirs(row, set, figure) is not null)
               .Select(row => (Ours: Ours(row, figure)!.Value, Theirs: Theirs(row, set, figure)!.Value)).ToList()
           where pairs.Count >= 3
           select new OrderAgreement(set, figure, pairs.Count, Tau(pairs)),
    ];

    /// <summary>The paper's data sets, in the order of the columns.</summary>
    private IEnumerable<string> Sets => Rows.SelectMany(row => row.Paper.Keys).Distinct();

    /// <summary>The table as cells, its head first.</summary>
    /// <param name="measuredOnly">Whether the paper's figures that have none of ours beside them are left out, for a narrow page.</param>
    public IReadOnlyList<IReadOnlyList<string>> Cells(bool measuredOnly = false)
    {
        string[] measured = [.. Metrics.Where(name => Rows.Any(row => Ours(row, name) is not null))];
        (string Set, string Figure)[] paper =
            [.. Sets.SelectMany(set => FiguresOf(set).Where(figure => !measuredOnly || measured.Contains(figure)).Select(figure => (set, figure)))];
        return
        [
            ["row", "clips", .. measured.Select(name => $"{name} here"), .. paper.Select(column => $"{column.Figure} {column.Set}")],
            .. Rows.Select(row => (IReadOnlyList<string>)[
                row.Row, row.Missing is null ? $"{row.Clips}" : "-", .. measured.Select(name => Shown(row.Figures.GetValueOrDefault(name))),
                .. paper.Select(column => ReportWriter.Shown(Theirs(row, column.Set, column.Figure)))]),
            .. Controls.Select(control => (IReadOnlyList<string>)[
                $"({control.Key})", string.Empty, .. measured.Select(name => ReportWriter.Shown(control.Value.GetValueOrDefault(name))), .. paper.Select(_ => string.Empty)]),
        ];
    }

    /// <summary>What stands below the table.</summary>
    public IReadOnlyList<string> Remarks() =>
    [
        Caution,
        .. Enumerable.Repeat("This was a quick run of a few clips and steps: it shows that every row can be made, and its figures say nothing.", Quick ? 1 : 0),
        .. Rows.Where(row => row.Missing is not null).Select(row => $"{row.Row}: {row.Missing}"),
        .. Rows.Where(row => row.Note.Length > 0).Select(row => $"{row.Row}: {row.Note}"),
        .. Metrics.Where(name => Rows.All(row => Ours(row, name) is null))
            .Select(name => (name, Reason: Rows.Select(row => row.Figures.GetValueOrDefault(name)?.Reason).FirstOrDefault(reason => reason is not null)))
            .Where(metric => metric.Reason is not null).Select(metric => $"{metric.name}: {metric.Reason}"),
        .. Agreement.Where(_ => !Quick).Select(agreement => FormattableString.Invariant(
            $"Order of {agreement.Rows} rows by {agreement.Figure}, here and on {agreement.Set}: Kendall's tau {agreement.Tau:0.00}")),
    ];

    /// <summary>As Markdown.</summary>
    public string ToMarkdown()
    {
        var text = new StringBuilder().Append(CultureInfo.InvariantCulture, $"# {Title}\n\nEvaluator: {Evaluator}. Model: {Model}. Brackets hold 95 % intervals.\n\n");
        var cells = Cells();
        for (int i = 0; i < cells.Count; i++)
        {
            text.Append(CultureInfo.InvariantCulture, $"| {string.Join(" | ", cells[i].Select(ReportWriter.MarkdownCell))} |\n");
            text.Append(i == 0 ? $"|{string.Concat(Enumerable.Repeat(" --- |", cells[i].Count))}\n" : string.Empty);
        }

        return text.Append('\n').AppendJoin('\n', Remarks().Select(remark => $"- {remark}")).Append('\n').ToString();
    }

    /// <summary>As CSV: one line a figure.</summary>
    public string ToCsv()
    {
        var csv = new StringBuilder("row,of,figure,value,low,high,clips,note\n");
        foreach (var row in Rows)
        {
            foreach (var (name, metric) in row.Figures)
            {
                csv.Append(CultureInfo.InvariantCulture, $"{Csv.Cell(row.Row)},here,{name},{metric.Value:R},{metric.Low:R},{metric.High:R},{row.Clips},{Csv.Cell(ReportWriter.Note(metric))}\n");
            }

            foreach (var (set, figures) in row.Paper)
            {
                foreach (var (name, value) in figures)
                {
                    csv.Append(CultureInfo.InvariantCulture, $"{Csv.Cell(row.Row)},{Csv.Cell(set)},{name},{value:R},,,,\n");
                }
            }

            csv.Append(row.Missing is null ? string.Empty : $"{Csv.Cell(row.Row)},here,,,,,0,{Csv.Cell(row.Missing)}\n");
        }

        foreach (var (control, figures) in Controls)
        {
            foreach (var (name, value) in figures)
            {
                csv.Append(CultureInfo.InvariantCulture, $"({control}),here,{name},{value:R},,,,\n");
            }
        }

        return csv.ToString();
    }

    /// <summary>As JSON.</summary>
    public string ToJson() => JsonSerializer.Serialize(this, EvaluationReport.Json);

    /// <summary>As JSON on one line.</summary>
    public string ToLine() => JsonSerializer.Serialize(this, EvaluationReport.OnOneLine);

    /// <summary>Fills a folder with table.md, table.csv and table.json, each written beside and renamed.</summary>
    /// <exception cref="MelFusionException">The folder cannot be written.</exception>
    public void Write(string folder)
    {
        try
        {
            Directory.CreateDirectory(folder);
            foreach (var (name, text) in new[] { ("table.md", ToMarkdown()), ("table.csv", ToCsv()), ("table.json", ToJson()) })
            {
                ReportWriter.WriteWhole(Path.Combine(folder, name), text);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new MelFusionException($"{folder}: the table cannot be written ({e.Message.ReplaceLineEndings(" ").TrimEnd('.')}).", e);
        }
    }

    private IEnumerable<string> FiguresOf(string set) => Rows.SelectMany(row => row.Paper.GetValueOrDefault(set)?.Keys ?? []).Distinct();

    private static double? Ours(RowResult row, string figure) => row.Figures.GetValueOrDefault(figure)?.Value;

    private static double? Theirs(RowResult row, string set, string figure) =>
        row.Paper.GetValueOrDefault(set) is { } figures && figures.TryGetValue(figure, out double value) ? value : null;

    private static string Shown(MetricValue? metric) => metric?.Value is null ? "-"
        : ReportWriter.Shown(metric.Value) + (metric.Low is null ? string.Empty : $" [{ReportWriter.Shown(metric.Low)}, {ReportWriter.Shown(metric.High)}]");

    private static double Tau(List<(double Ours, double Theirs)> pairs)
    {
        int sum = 0;
        for (int i = 0; i < pairs.Count; i++)
        {
            for (int j = 0; j < i; j++)
            {
                sum += Math.Sign(pairs[i].Ours - pairs[j].Ours) * Math.Sign(pairs[i].Theirs - pairs[j].Theirs);
            }
        }

        return sum / (0.5 * pairs.Count * (pairs.Count - 1));
    }
}
