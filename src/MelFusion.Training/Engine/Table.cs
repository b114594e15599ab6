using System.Globalization;

namespace MelFusion.Training.Engine;

/// <summary>A CSV file whose rows begin with a step number; a resumed run cuts it back to the step it resumes from.</summary>
internal sealed class Table
{
    private readonly string _path;
    private string? _header;

    /// <summary>Opens or begins a table and drops the rows after <paramref name="step"/>.</summary>
    public Table(string path, long step)
    {
        _path = path;
        string[] lines = File.Exists(path) ? File.ReadAllLines(path) : [];
        if (lines.Length > 0)
        {
            _header = lines[0];
            File.WriteAllLines(path, lines.Take(1).Concat(lines.Skip(1).Where(line => StepOf(line) <= step)));
        }
    }

    /// <summary>Adds a row; the first one names the columns.</summary>
    public void Add(long step, IEnumerable<(string Name, double Value)> values)
    {
        var row = values.ToList();
        if (_header is null)
        {
            _header = string.Join(',', row.Select(cell => cell.Name).Prepend("step"));
            File.WriteAllText(_path, _header + "\n");
        }

        string[] cells = [.. row.Select(cell => cell.Value.ToString("G7", CultureInfo.InvariantCulture))];
        File.AppendAllText(_path, string.Join(',', cells.Prepend(step.ToString(CultureInfo.InvariantCulture))) + "\n");
    }

    /// <summary>The columns by name; a row with another number of cells is left out.</summary>
    public static IReadOnlyDictionary<string, double[]> Read(string path)
    {
        string[] lines = File.Exists(path) ? File.ReadAllLines(path) : [];
        string[] names = lines.Length > 0 ? lines[0].Split(',') : [];
        var rows = lines.Skip(1).Select(line => line.Split(',')).Where(cells => cells.Length == names.Length).ToList();
        return names.Select((name, i) => (name, values: rows.Select(cells => Number(cells[i])).ToArray())).ToDictionary(c => c.name, c => c.values);
    }

    private static double Number(string cell) =>
        double.TryParse(cell, NumberStyles.Float, CultureInfo.InvariantCulture, out double value) ? value : double.NaN;

    private static long StepOf(string line) =>
        long.TryParse(line.Split(',')[0], CultureInfo.InvariantCulture, out long step) ? step : long.MaxValue;
}
