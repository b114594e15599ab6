using System.Globalization;
using System.Net;
using System.Text;
using System.Text.Json;

namespace MelFusion.Evaluation.Reports;

/// <summary>Writes a report as JSON, Markdown, CSV and HTML with plots.</summary>
public static class ReportWriter
{
    /// <summary>Fills a folder with report.json, report.md, report.csv, report.html and their pictures.</summary>
    /// <param name="folder">Made where it is missing; reports in it are replaced.</param>
    /// <param name="report">The figures.</param>
    /// <param name="request">Where the sounds are.</param>
    /// <param name="details">What the plots are drawn from; null draws none.</param>
    /// <exception cref="MelFusionException">The folder cannot be written.</exception>
    public static void Write(string folder, EvaluationReport report, EvaluationRequest request, EvaluationDetails? details)
    {
        try
        {
            Directory.CreateDirectory(folder);
            var pictures = details is null ? [] : ReportPlots.Draw(folder, report, request, details);
            WriteWhole(Path.Combine(folder, "report.csv"), ToCsv(report));
            WriteWhole(Path.Combine(folder, "report.md"), ToMarkdown(report, pictures));
            WriteWhole(Path.Combine(folder, "report.html"), ToHtml(report, pictures));
            WriteWhole(Path.Combine(folder, "report.json"), report.ToJson());
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new MelFusionException($"{folder}: the report cannot be written: {e.Message.ReplaceLineEndings(" ")}", e);
        }
    }

    /// <summary>One row per figure, and one per figure of a control.</summary>
    public static string ToCsv(EvaluationReport report)
    {
        var csv = new StringBuilder("metric,of,value,low,high,bias,note\n");
        foreach (var (name, metric) in report.Metrics)
        {
            csv.Append(CultureInfo.InvariantCulture, $"{name},generated,{metric.Value:R},{metric.Low:R},{metric.High:R},{metric.Bias:R},{Quoted(Note(metric))}\n");
            foreach (var (part, value) in metric.Parts ?? new Dictionary<string, double>())
            {
                csv.Append(CultureInfo.InvariantCulture, $"{name},{part},{value:R},,,,\n");
            }
        }

        foreach (var (control, figures) in report.Controls)
        {
            foreach (var (name, value) in figures ?? new Dictionary<string, double?>())
            {
                csv.Append(CultureInfo.InvariantCulture, $"{name},{control},{value:R},,,,\n");
            }
        }

        return csv.ToString();
    }

    /// <summary>Tables of figures, controls, passport and skipped files.</summary>
    /// <param name="report">The figures.</param>
    /// <param name="pictures">Names of PNG files beside the report, with their titles.</param>
    public static string ToMarkdown(EvaluationReport report, IReadOnlyList<(string File, string Title)> pictures)
    {
        var text = new StringBuilder("# Evaluation\n");
        foreach (var (title, rows) in Tables(report))
        {
            text.Append(CultureInfo.InvariantCulture, $"\n## {title}\n\n");
            for (int i = 0; i < rows.Count; i++)
            {
                text.Append(CultureInfo.InvariantCulture, $"| {string.Join(" | ", rows[i].Select(MarkdownCell))} |\n");
                text.Append(i == 0 ? $"|{string.Concat(Enumerable.Repeat(" --- |", rows[i].Length))}\n" : string.Empty);
            }
        }

        foreach (var (file, title) in pictures)
        {
            text.Append(CultureInfo.InvariantCulture, $"\n![{title}]({file})\n");
        }

        return text.ToString();
    }

    /// <summary>The same as one page without scripts.</summary>
    /// <param name="report">The figures.</param>
    /// <param name="pictures">Names of PNG files beside the report, with their titles.</param>
    public static string ToHtml(EvaluationReport report, IReadOnlyList<(string File, string Title)> pictures)
    {
        var html = new StringBuilder("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Evaluation</title><style>\n")
            .Append("body{font:16px/1.4 sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}table{border-collapse:collapse}\n")
            .Append("th,td{border:1px solid #bbb;padding:.25rem .6rem;text-align:left;white-space:nowrap}td:last-child{white-space:normal;overflow-wrap:anywhere}img{max-width:100%}\n")
            .Append("</style></head><body><h1>Evaluation</h1>\n");
        foreach (var (title, rows) in Tables(report))
        {
            html.Append(CultureInfo.InvariantCulture, $"<h2>{title}</h2><table>\n");
            for (int i = 0; i < rows.Count; i++)
            {
                string tag = i == 0 ? "th" : "td";
                html.Append(CultureInfo.InvariantCulture, $"<tr>{string.Concat(rows[i].Select(cell => $"<{tag}>{WebUtility.HtmlEncode(cell)}</{tag}>"))}</tr>\n");
            }

            html.Append("</table>\n");
        }

        foreach (var (file, title) in pictures)
        {
            html.Append(CultureInfo.InvariantCulture, $"<h2>{title}</h2><img src=\"{file}\" alt=\"{title}\">\n");
        }

        return html.Append("</body></html>\n").ToString();
    }

    /// <summary>A figure as a person reads it.</summary>
    public static string Shown(double? value) => value is not { } number ? "-"
        : number.ToString("0.####", CultureInfo.InvariantCulture) is var text && text == "-0" ? "0" : text;

    /// <summary>Why there is no figure, or what belongs to it and what to bear in mind.</summary>
    public static string Note(MetricValue metric) => metric.Reason ?? string.Join("; ", (metric.Parts ?? new Dictionary<string, double>())
        .Select(part => $"{part.Key.Replace('_', ' ')} {Shown(part.Value)}").Append(metric.Warning).Where(text => text is not null));

    private static IEnumerable<(string Title, List<string[]> Rows)> Tables(EvaluationReport report)
    {
        yield return ("Figures, with 95 % intervals", [
            ["metric", "value", "low", "high", "bias", "note"],
            .. report.Metrics.Select(metric => (string[])[
                metric.Key, Shown(metric.Value.Value), Shown(metric.Value.Low), Shown(metric.Value.High), Shown(metric.Value.Bias), Note(metric.Value)])]);
        string[] measured = [.. report.Controls.Values.SelectMany(figures => figures?.Keys ?? []).Distinct()];
        yield return ("Controls", [
            ["of", .. measured],
            .. report.Controls.Where(control => control.Value is not null).Select(control =>
                (string[])[control.Key, .. measured.Select(name => Shown(control.Value!.GetValueOrDefault(name)))])]);
        yield return ("Passport", [["field", "value"], .. PassportRows(report.Passport)]);
        if (report.Skipped.Count > 0)
        {
            yield return ("Skipped files", [["file", "reason"], .. report.Skipped.Select(file => (string[])[file.File, file.Reason])]);
        }
    }

    private static IEnumerable<string[]> PassportRows(Passport passport)
    {
        using var json = JsonSerializer.SerializeToDocument(passport, EvaluationReport.Json);
        return [.. json.RootElement.EnumerateObject().Select(field => (string[])[field.Name, InOneLine(field.Value)])];
    }

    private static string InOneLine(JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.Array => string.Join(", ", value.EnumerateArray()),
        JsonValueKind.Object => string.Join(", ", value.EnumerateObject().Select(field => $"{field.Name} {field.Value}")),
        _ => value.ToString(),
    };

    internal static string MarkdownCell(string text) => text.Replace("|", "\\|", StringComparison.Ordinal).ReplaceLineEndings(" ");

    private static string Quoted(string text) => text.Length == 0 ? text : $"\"{text.Replace("\"", "\"\"", StringComparison.Ordinal)}\"";

    /// <summary>Writes a text beside its file, then takes that one's place.</summary>
    public static void WriteWhole(string path, string text)
    {
        File.WriteAllText(path + ".part", text);
        File.Move(path + ".part", path, true);
    }
}
