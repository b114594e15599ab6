namespace MelFusion.Training.Data.Build.Readers;

/// <summary>Finds files that a game's tables name, without leaving the game's folder.</summary>
internal static class MediaFile
{
    private static readonly string[] Pictures = [".png", ".jpg", ".jpeg", ".webp", ".bmp"];
    private static readonly string[] Sounds = [".ogg", ".mp3", ".opus", ".flac", ".xm", ".it", ".s3m", ".mod", ".wav"];

    /// <summary>Whether a name is that of a picture we can read.</summary>
    /// <param name="file">A file name.</param>
    public static bool IsPicture(string file) => Pictures.Contains(Path.GetExtension(file), StringComparer.OrdinalIgnoreCase);

    /// <summary>Whether a name is that of music we can read.</summary>
    /// <param name="file">A file name.</param>
    public static bool IsMusic(string file) => Sounds.Contains(Path.GetExtension(file), StringComparer.OrdinalIgnoreCase);

    /// <summary>The file of that name below a folder, or null where there is none or the name leads out of the folder.</summary>
    /// <param name="folder">The folder.</param>
    /// <param name="name">A relative name from a table of the game, or null.</param>
    public static string? Below(string folder, string? name) => InnerPath.In(folder, name) is { } full && File.Exists(full) ? full : null;
}
