namespace MelFusion.Cli;

/// <summary>Where the default model lies.</summary>
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

        for (string? folder = AppContext.BaseDirectory; folder is not null; folder = Path.GetDirectoryName(folder))
        {
            if (IsModel(Path.Combine(folder, Default)))
            {
                return Path.Combine(folder, Default);
            }
        }

        return IsModel(Default)
            ? Default
            : throw new MelFusionException($"There is no {Default} above the program or in this folder; name a model folder with --model.");
    }

    private static bool IsModel(string folder) => File.Exists(Path.Combine(folder, "model_index.json"));
}
