namespace MelFusion;

/// <summary>
/// Names of files in a folder, as tables, configs and hubs state them. One rule for all of them and on every system, so that a table that is read here is
/// read everywhere: parts joined by '/', none of them empty or "..", without backslashes, colons (drives, and streams of files, on Windows) and control characters.
/// </summary>
internal static class InnerPath
{
    private const int Longest = 1023;

    /// <summary>Whether a name stays inside the folder it is seen from.</summary>
    /// <param name="name">A name from outside; null is none.</param>
    public static bool IsInner(string? name) =>
        !string.IsNullOrWhiteSpace(name) && name.Length <= Longest && !name.Any(c => c is '\\' or ':' || char.IsControl(c))
        && name.Split('/') is var parts && parts.All(part => part is not ("" or "..")) && parts.Any(part => part != ".");

    /// <summary>The full path of a name in a folder, or null where the name does not stay inside.</summary>
    /// <param name="folder">The folder.</param>
    /// <param name="name">A name from outside; null is none.</param>
    public static string? In(string folder, string? name) => IsInner(name) ? Path.GetFullPath(Path.Combine(folder, name!)) : null;

    /// <summary>A name in a part of a folder; the empty part is the folder itself.</summary>
    public static string Join(string part, string name) => part.Length == 0 ? name : $"{part}/{name}";
}
