namespace MelFusion.Cli.Output;

/// <summary>Where the music goes, made sure of before the long work.</summary>
internal static class OutputFiles
{
    /// <summary>The files of a run: the named one, or for several candidates numbered ones beside it.</summary>
    /// <exception cref="MelFusionException">One of them could not be written, or exists and may not be replaced.</exception>
    public static IReadOnlyList<string> Prepare(string output, int count, bool overwrite)
    {
        var files = count == 1 ? [output] : Enumerable.Range(1, count).Select(number => Numbered(output, number)).ToArray();
        foreach (string file in files)
        {
            if (Directory.Exists(file))
            {
                throw new MelFusionException($"{file} is a folder; name a file in it.");
            }

            if (!overwrite && File.Exists(file))
            {
                throw new MelFusionException($"{file} exists already; add --overwrite to replace it, or choose another --output.");
            }

            Try(file);
        }

        return files;
    }

    /// <summary>Makes a folder where it is missing, and makes sure that it can be written.</summary>
    /// <param name="folder">The folder.</param>
    /// <param name="option">The option that names it.</param>
    /// <exception cref="MelFusionException">It cannot be made or written.</exception>
    public static void PrepareFolder(string folder, string option)
    {
        try
        {
            Directory.CreateDirectory(folder);
            using var probe = new FileStream(Path.Combine(folder, $".{Guid.NewGuid():N}.part"), FileMode.CreateNew, FileAccess.Write, FileShare.None, 1, FileOptions.DeleteOnClose);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or NotSupportedException)
        {
            throw new MelFusionException($"The folder {folder} cannot be written ({e.Message.ReplaceLineEndings(" ").TrimEnd('.')}); choose another {option}.", e);
        }
    }

    private static string Numbered(string output, int number) =>
        Path.Combine(Path.GetDirectoryName(output) ?? string.Empty, $"{Path.GetFileNameWithoutExtension(output)}-{number}{Path.GetExtension(output)}");

    /// <summary>Makes the file that the music is first written to, and takes it away again.</summary>
    private static void Try(string file)
    {
        string folder = Path.GetDirectoryName(Path.GetFullPath(file)) ?? string.Empty;
        if (!Directory.Exists(folder))
        {
            throw new MelFusionException($"{file} cannot be written, as the folder {folder} does not exist; create it first.");
        }

        try
        {
            string beside = file + ".part";
            bool left = File.Exists(beside);
            using (new FileStream(beside, FileMode.OpenOrCreate, FileAccess.Write, FileShare.ReadWrite))
            {
            }

            if (!left)
            {
                File.Delete(beside);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or NotSupportedException)
        {
            throw new MelFusionException($"{file} cannot be written ({e.Message.ReplaceLineEndings(" ").TrimEnd('.')}); choose another --output.", e);
        }
    }
}
