namespace MelFusion.Weights;

/// <summary>Where files that come with the program lie: models, configs.</summary>
public static class ProgramPlaces
{
    /// <summary>A path in every folder from the program upward, the nearest first, then in the working directory; whether anything is there is not looked at.</summary>
    /// <param name="path">The path from there.</param>
    public static IEnumerable<string> Of(string path)
    {
        for (string? folder = AppContext.BaseDirectory; folder is not null; folder = Path.GetDirectoryName(folder))
        {
            yield return Path.Combine(folder, path);
        }

        yield return path;
    }
}
