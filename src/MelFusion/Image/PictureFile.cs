namespace MelFusion.Image;

/// <summary>Picture files as bytes, which are what a picture is known by.</summary>
public static class PictureFile
{
    /// <summary>The largest file that is read, in bytes.</summary>
    public const int LargestFile = 256 << 20;

    /// <summary>Reads a file whole.</summary>
    /// <exception cref="MelFusionException">It is missing, empty, unreadable, or larger than <see cref="LargestFile"/>.</exception>
    public static byte[] Read(string path)
    {
        if (Directory.Exists(path))
        {
            throw new MelFusionException($"{path} is a folder; name a picture in it.");
        }

        if (!File.Exists(path))
        {
            throw new MelFusionException($"{path}: there is no such picture; check the path.");
        }

        try
        {
            return ReadBounded(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or NotSupportedException)
        {
            throw new MelFusionException($"{path}: the picture cannot be read ({e.Message.ReplaceLineEndings(" ").TrimEnd('.')}).", e);
        }
    }

    // A device or a pipe has no length to be asked for, so the bound is kept while reading.
    private static byte[] ReadBounded(string path)
    {
        using var file = File.OpenRead(path);
        using var bytes = new MemoryStream();
        var block = new byte[1 << 16];
        for (int got; (got = file.Read(block)) > 0;)
        {
            bytes.Write(block, 0, got);
            if (bytes.Length > LargestFile)
            {
                throw new MelFusionException($"{path}: a picture's file has {LargestFile >> 20} MB at most; save it smaller.");
            }
        }

        return bytes.Length > 0 ? bytes.ToArray() : throw new MelFusionException($"{path}: the picture's file is empty.");
    }
}
