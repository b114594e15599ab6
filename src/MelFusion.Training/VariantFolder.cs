namespace MelFusion.Training;

/// <summary>A variant's model folder: another model's parts but for those that the stage will make.</summary>
internal static class VariantFolder
{
    // Were the other model's networks there, an untrained variant would look like a trained one; and the card is about the other model.
    private static readonly string[] Left = ["unet", "scheduler", "synapse", "README.md"];

    /// <summary>Copies the files that the model folder lacks; without <see cref="TrainingConfig.PartsFrom"/> nothing.</summary>
    public static void Fill(TrainingConfig config)
    {
        if (config.PartsFrom is not { } from)
        {
            return;
        }

        if (!Directory.Exists(from))
        {
            throw new MelFusionException($"{from}: there is no such model folder to take parts from; correct parts_from, or train that model first.");
        }

        if (Path.GetFullPath(from) == Path.GetFullPath(config.Model))
        {
            throw new MelFusionException($"{from}: a variant needs a model folder of its own, as its training replaces parts; correct model or parts_from.");
        }

        foreach (string file in Directory.EnumerateFiles(from, "*", SearchOption.AllDirectories))
        {
            string name = Path.GetRelativePath(from, file), target = Path.Combine(config.Model, name);
            if (!Left.Contains(name.Split(Path.DirectorySeparatorChar)[0]) && !File.Exists(target))
            {
                Directory.CreateDirectory(Path.GetDirectoryName(target)!);
                File.Copy(file, target + ".part", overwrite: true);
                File.Move(target + ".part", target);
            }
        }
    }
}
