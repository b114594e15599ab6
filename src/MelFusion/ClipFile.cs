using MelFusion.Wave;

namespace MelFusion;

/// <summary>Clips as WAV files that carry their recipe as JSON in LIST/INFO ICMT.</summary>
public static class ClipFile
{
    /// <summary>Writes clips, one a path. Each file is written beside its target and renamed; where one fails, those already written are removed.</summary>
    /// <param name="paths">The targets, replaced where they exist.</param>
    /// <param name="clips">As many clips.</param>
    /// <param name="cancellation">Honoured between blocks.</param>
    /// <exception cref="MelFusionException">A target cannot be written.</exception>
    public static void Write(IReadOnlyList<string> paths, IReadOnlyList<MusicClip> clips, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(paths);
        ArgumentNullException.ThrowIfNull(clips);
        int done = 0;
        try
        {
            foreach (var (path, clip) in paths.Zip(clips))
            {
                WavFile.Write(path, clip.Samples, clip.SampleRate, clip.Recipe.ToJson(), cancellation);
                done++;
            }
        }
        catch
        {
            foreach (string path in paths.Take(done))
            {
                File.Delete(path);
            }

            throw;
        }
    }

    /// <summary>Reads the recipe of a file.</summary>
    /// <exception cref="MelFusionException">It is no WAV file, carries no recipe, or one that cannot be used.</exception>
    public static Recipe ReadRecipe(string path) =>
        Recipe.FromJson(
            WavFile.ReadInfo(path).Comment is { Length: > 0 } comment && comment.TrimStart().StartsWith('{')
                ? comment
                : throw new MelFusionException($"{path}: this file carries no recipe, as it was not made by MelFusion or was edited since."),
            path);
}
