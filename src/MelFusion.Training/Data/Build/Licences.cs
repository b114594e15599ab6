using System.Text.RegularExpressions;

namespace MelFusion.Training.Data.Build;

/// <summary>Reads the licences of a package from its copyright file.</summary>
internal static partial class Licences
{
    private const int MostNames = 12;

    /// <summary>The short names of the licences, joined by commas; a file in free form is pointed to.</summary>
    /// <param name="tree">The folder of the package's files.</param>
    /// <param name="package">The package.</param>
    public static string Of(string tree, string package)
    {
        var file = Path.Combine(tree, "usr/share/doc", package, "copyright");
        var names = File.Exists(file)
            ? File.ReadLines(file).Select(line => Name().Match(line)).Where(match => match.Success).Select(match => match.Groups[1].Value.Trim()).Distinct(StringComparer.OrdinalIgnoreCase).Take(MostNames).ToList()
            : [];
        return names.Count > 0 ? string.Join(", ", names) : $"free, see /usr/share/doc/{package}/copyright";
    }

    [GeneratedRegex(@"^License:\s*(\S.*)$")]
    private static partial Regex Name();
}
