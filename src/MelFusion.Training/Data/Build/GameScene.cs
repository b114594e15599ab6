namespace MelFusion.Training.Data.Build;

/// <summary>A track of a game's music, as a file of an unpacked package.</summary>
/// <param name="File">Full path of the file.</param>
/// <param name="Title">Title of the track, from the game's own tables or from the file's name.</param>
/// <param name="Tune">Tracks of one game with the same tune (a fast version, a remix) belong into the same split.</param>
/// <param name="MostClips">At most so many clips are used, spread over the track; fewer where the pictures belong to the game as a whole.</param>
public sealed record SceneTrack(string File, string Title, string Tune, int MostClips = ClipCutter.MostClips);

/// <summary>A picture of a scene: one file, or a backdrop painted from several, the lowest first.</summary>
/// <param name="Layers">Full paths of the files; the first fills the picture, later ones stand at its foot.</param>
public sealed record ScenePicture(IReadOnlyList<string> Layers)
{
    /// <summary>A picture of one file.</summary>
    /// <param name="file">Full path of the file.</param>
    public ScenePicture(string file)
        : this([file])
    {
    }
}

/// <summary>What a game's own makers put together: the music and the pictures of one level, chapter, faction or place.</summary>
/// <param name="Game">Name of the game, as people write it.</param>
/// <param name="Album">The part of the game: a campaign, a world, a soundtrack.</param>
/// <param name="Name">Name of the scene in plain words.</param>
/// <param name="Words">What is seen there, in a few plain words, for the captions; may be empty.</param>
/// <param name="Tracks">The music played there.</param>
/// <param name="Pictures">The pictures shown there.</param>
public sealed record GameScene(string Game, string Album, string Name, string Words, IReadOnlyList<SceneTrack> Tracks, IReadOnlyList<ScenePicture> Pictures);

/// <summary>The unpacked packages of one game.</summary>
/// <param name="Folders">Package name to the folder of its files.</param>
public sealed record GameTrees(IReadOnlyDictionary<string, string> Folders)
{
    /// <summary>All files below the given folder of every package, in ordinal order of their paths.</summary>
    /// <param name="below">A folder inside the packages, such as <c>usr/share/games/hedgewars</c>.</param>
    public IReadOnlyList<string> Files(string below = "") => [.. Folders.Values
        .Select(root => Path.Combine(root, below))
        .Where(Directory.Exists)
        .SelectMany(folder => Directory.EnumerateFiles(folder, "*", SafeEnumeration))
        .Order(StringComparer.Ordinal)];

    /// <summary>The package that a file comes from, and its path there.</summary>
    /// <param name="file">Full path of a file below one of <see cref="Folders"/>.</param>
    public (string Package, string Path) Source(string file)
    {
        var (package, root) = Folders.First(pair => file.StartsWith(pair.Value + Path.DirectorySeparatorChar, StringComparison.Ordinal));
        return (package, Path.GetRelativePath(root, file).Replace('\\', '/'));
    }

    // Links in a package may point anywhere: they are not followed.
    private static readonly EnumerationOptions SafeEnumeration = new() { RecurseSubdirectories = true, AttributesToSkip = FileAttributes.ReparsePoint, IgnoreInaccessible = true };
}

/// <summary>Reads from a game's own files which music belongs to which pictures.</summary>
public interface IGameReader
{
    /// <summary>The packages it needs.</summary>
    public IReadOnlyList<string> Packages { get; }

    /// <summary>The scenes of the game, in a fixed order.</summary>
    /// <param name="trees">The unpacked packages.</param>
    public IEnumerable<GameScene> Read(GameTrees trees);
}
