namespace MelFusion;

/// <summary>Text in a file of comma-separated values.</summary>
internal static class Csv
{
    /// <summary>The text as one cell: in quotation marks where it has a comma, a quotation mark or a new line in it.</summary>
    public static string Cell(string text) =>
        text.AsSpan().IndexOfAny(",\"\n") < 0 ? text : $"\"{text.Replace("\"", "\"\"", StringComparison.Ordinal)}\"";
}
