using System.IO.Compression;

namespace MelFusion.Training.Data.Build;

/// <summary>Opens the zip files in which some games keep their data: what is of use lies beside the archive in a folder of its name, and the archive is removed.</summary>
internal static class ArchiveFolders
{
    private const string Ending = ".open";
    private const long LargestEntry = 64 << 20;
    private const long LargestArchive = 3L << 30;

    private static readonly string[] Archives = [".pk3", ".wz", ".zip"];
    private static readonly string[] Wanted = [".ogg", ".opus", ".jpg", ".png", ".json", ".mapinfo", ".cfg", ".dds"];

    // DirectDraw pictures are turned into PNG; of the thousands that a game has, only those that are shown as pictures.
    private static readonly string[] WantedDds = ["ui/loading/tips/", "ui/pregame/backgrounds/"];

    /// <summary>Opens every archive below a folder.</summary>
    /// <param name="tree">The folder of a package's files.</param>
    /// <param name="cancellationToken">Stops it.</param>
    public static async Task OpenAsync(string tree, CancellationToken cancellationToken)
    {
        foreach (var archive in new GameTrees(new Dictionary<string, string> { [""] = tree }).Files().Where(file => Archives.Contains(Path.GetExtension(file), StringComparer.OrdinalIgnoreCase)))
        {
            Extract(archive, cancellationToken);
            foreach (var picture in new GameTrees(new Dictionary<string, string> { [""] = archive + Ending }).Files().Where(file => Path.GetExtension(file) == ".dds"))
            {
                await ConvertAsync(picture, cancellationToken).ConfigureAwait(false);
            }

            File.Delete(archive);
        }
    }

    /// <summary>Takes the useful entries out of an archive; names that lead out of the folder are skipped.</summary>
    /// <param name="archive">The archive.</param>
    /// <param name="cancellationToken">Stops it.</param>
    internal static void Extract(string archive, CancellationToken cancellationToken)
    {
        var root = Path.GetFullPath(archive + Ending) + Path.DirectorySeparatorChar;
        var taken = 0L;
        using var zip = ZipFile.OpenRead(archive);
        foreach (var entry in zip.Entries.Where(IsWanted))
        {
            cancellationToken.ThrowIfCancellationRequested();
            var target = Path.GetFullPath(Path.Combine(root, entry.FullName.Replace('\\', '/')));
            taken += entry.Length;
            if (entry.Length > LargestEntry || taken > LargestArchive || !target.StartsWith(root, StringComparison.Ordinal))
            {
                continue;
            }

            Directory.CreateDirectory(Path.GetDirectoryName(target)!);
            entry.ExtractToFile(target, overwrite: true);
        }
    }

    private static bool IsWanted(ZipArchiveEntry entry)
    {
        var ending = Path.GetExtension(entry.Name);
        return Wanted.Contains(ending, StringComparer.OrdinalIgnoreCase) && !entry.FullName.Contains('\0', StringComparison.Ordinal)
            && (ending != ".dds" || WantedDds.Any(part => entry.FullName.Contains(part, StringComparison.Ordinal)));
    }

    private static async Task ConvertAsync(string picture, CancellationToken cancellationToken)
    {
        string[] arguments = ["-nostdin", "-v", "error", "-y", "-protocol_whitelist", "file,pipe", "-f", "dds_pipe", "-i", "file:" + picture, "-frames:v", "1", "file:" + Path.ChangeExtension(picture, null).Replace(".cached", "", StringComparison.Ordinal)];
        await ToolProcess.RunAsync("ffmpeg", arguments, null, 1 << 20, TimeSpan.FromMinutes(1), cancellationToken).ConfigureAwait(false);
        File.Delete(picture);
    }
}
