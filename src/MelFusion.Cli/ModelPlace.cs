using MelFusion.Weights;

namespace MelFusion.Cli;

/// <summary>Where the default model lies, and other files that come with the program.</summary>
internal static class ModelPlace
{
    private static readonly string Default = Path.Combine("models", "melfusion-mini");

    /// <summary>The named folder; without one, models/melfusion-mini of the nearest folder above the program that has it, then of the working directory.</summary>
    /// <exception cref="MelFusionException">There is none.</exception>
    public static string Find(string? named)
    {
        if (named is not null)
        {
            return named;
        }

        return Above(Path.Combine(Default, "model_index.json")) is { } index
            ? Path.GetDirectoryName(index)!
            : throw new MelFusionException($"There is no {Default} above the program or in this folder; name a model folder with --model.");
    }

    /// <summary>A file of the nearest folder above the program that has it, then of the working directory; null: there is none.</summary>
    /// <param name="file">Its path from there.</param>
    public static string? Above(string file) => ProgramPlaces.Of(file).FirstOrDefault(File.Exists);
}
