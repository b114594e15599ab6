namespace MelFusion.Training.Data.Build;

/// <summary>Fetches packages of the Debian archive and unpacks them into a folder; nothing is installed.</summary>
internal sealed class DebianPackages
{
    /// <summary>Packages that are never used, whatever is asked for: parts of their music or art are not free.</summary>
    public static readonly IReadOnlyList<string> Refused = ["unknown-horizons", "marsshooter-data", "fillets-ng-data", "singularity-music"];

    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(20);

    private readonly string _archives;
    private readonly string _trees;

    /// <summary>Packages kept below a folder: the archives in <c>debs</c>, the unpacked files in <c>trees</c>.</summary>
    /// <param name="cache">The folder; made if it is missing.</param>
    public DebianPackages(string cache)
    {
        _archives = Path.Combine(Path.GetFullPath(cache), "debs");
        _trees = Path.Combine(Path.GetFullPath(cache), "trees");
        Directory.CreateDirectory(_archives);
        Directory.CreateDirectory(_trees);
        AllowSandbox(_archives);
    }

    /// <summary>Returns the folder of a package's files, fetched and unpacked first where it is not there yet.</summary>
    /// <param name="package">The package's name.</param>
    /// <param name="cancellationToken">Stops the work.</param>
    /// <exception cref="MelFusionException">The name is not one of a package, the package is refused, or a tool failed.</exception>
    public async Task<string> FetchAsync(string package, CancellationToken cancellationToken)
    {
        CheckName(package);
        var tree = Path.Combine(_trees, package);
        if (Directory.Exists(tree))
        {
            return tree;
        }

        var archive = Archive(package) ?? await DownloadAsync(package, cancellationToken).ConfigureAwait(false);
        var beside = tree + ".part";
        if (Directory.Exists(beside))
        {
            Directory.Delete(beside, recursive: true);
        }

        await ToolProcess.RunAsync("dpkg", ["-x", archive, beside], null, 1 << 20, Patience, cancellationToken).ConfigureAwait(false);
        await ArchiveFolders.OpenAsync(beside, cancellationToken).ConfigureAwait(false);
        Directory.Move(beside, tree);
        return tree;
    }

    private async Task<string> DownloadAsync(string package, CancellationToken cancellationToken)
    {
        await ToolProcess.RunAsync("apt-get", ["-q", "download", package], _archives, 1 << 20, Patience, cancellationToken).ConfigureAwait(false);
        return Archive(package) ?? throw new MelFusionException($"apt-get left no archive of {package} in {_archives}; run 'apt-get update' and try again.");
    }

    private string? Archive(string package) => Directory.EnumerateFiles(_archives, package + "_*.deb").Order(StringComparer.Ordinal).LastOrDefault();

    private static void CheckName(string package)
    {
        if (package.Length < 2 || !char.IsAsciiLetterOrDigit(package[0]) || !package.All(c => char.IsAsciiLetterLower(c) || char.IsAsciiDigit(c) || c is '+' or '-' or '.'))
        {
            throw new MelFusionException($"'{package}' is not the name of a Debian package; names are lower case letters, digits, '+', '-' and '.'.");
        }

        if (Refused.Contains(package, StringComparer.Ordinal))
        {
            throw new MelFusionException($"The package {package} is not used here, because parts of it are not free; leave it out.");
        }
    }

    // apt downloads as the user _apt where it can, and that user needs to write here.
    private static void AllowSandbox(string folder)
    {
        if (!OperatingSystem.IsWindows() && Environment.UserName == "root")
        {
            File.SetUnixFileMode(folder, (UnixFileMode)0b111_111_111);
        }
    }
}
