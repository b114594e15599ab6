using MelFusion.Training.Data;
using MelFusion.Training.Engine;
using MelFusion.Vae;
using MelFusion.Wave;
using MelFusion.Weights;

namespace MelFusion.Training.Stages;

/// <summary>What a stage needs while it is set up: the threads, the caches, someone to tell, and when to stop.</summary>
/// <param name="Config">The run's config.</param>
/// <param name="Pool">Threads to work on.</param>
/// <param name="Folder">The run's folder.</param>
/// <param name="Progress">Who is told.</param>
/// <param name="Cancel">When to stop.</param>
internal sealed record StageContext(TrainingConfig Config, WorkerPool Pool, RunFolder Folder, IProgress<TrainingProgress>? Progress, CancellationToken Cancel)
{
    private readonly Pace _pace = new(TimeProvider.System);

    /// <summary>The folder of caches.</summary>
    public string Cache => Config.Cache ?? Folder.File("cache");

    /// <summary>The mels of a split, at most so many clips, evenly chosen.</summary>
    public MelSet Mels(string split, MelConfig mel, int frames, int most = int.MaxValue) =>
        MelSet.Load(Config.Data, split, Cache, mel, frames, most, Pool, (done, all) => Report($"reading the music ({split})", done, all), Cancel);

    /// <summary>The pictures of a split, at most so many, evenly chosen.</summary>
    public PictureSet Pictures(string split, int side, int most = int.MaxValue) => PictureSet.Load(
        Evenly.Some(PictureSet.List(Config.Data, split), most), side, Pool, (done, all) => Report($"reading pictures ({split})", done, all), Cancel);

    /// <summary>A trained autoencoder of the model folder, frozen.</summary>
    public AutoencoderKl Autoencoder(string part) =>
        ModelParts.LoadFrozen(Config.Model, part, new AutoencoderKl(ModelParts.ReadVaeConfig(Config.Model, part), Placement.Cpu));

    /// <summary>The latents of all pictures of a split; the pictures themselves are read only where the cache has no latents of them.</summary>
    public (IReadOnlyList<CaptionedPicture> Pictures, LatentSet Latents) PictureLatents(string split, AutoencoderKl vae, int side)
    {
        var pictures = PictureSet.List(Config.Data, split);
        string from = Describe($"{ModelParts.Describe(Config.Model, "image_vae")} {side} {Config.Precision}", pictures);
        PictureSet? set = null;
        try
        {
            var latents = LatentSet.Load(
                Path.Combine(Cache, $"picture-latents-{split}.safetensors"), from, vae,
                () => set = PictureSet.Load(pictures, side, Pool, (done, of) => Report($"reading pictures ({split})", done, of), Cancel),
                pictures.Count, i => set!.Get(i), Config.Dtype, Pool, (done, of) => Report($"encoding pictures ({split})", done, of), Cancel);
            return (pictures, latents);
        }
        finally
        {
            set?.Dispose();
        }
    }

    /// <summary>What an EfficientNet-Lite sees in the places of pictures.</summary>
    /// <param name="split">Whose pictures they are.</param>
    /// <param name="pictures">The pictures.</param>
    /// <param name="model">The network's folder.</param>
    /// <param name="cells">Cells along each side of a picture.</param>
    public PictureFeatureSet PictureFeatures(string split, IReadOnlyList<CaptionedPicture> pictures, string model, int cells) => PictureFeatureSet.Load(
        Path.Combine(Cache, $"picture-features-{split}.safetensors"), Describe(TensorCache.DescribeContent(Path.Combine(model, "model.safetensors")), pictures), model, cells,
        pictures, Pool, (done, all) => Report($"looking at pictures ({split})", done, all), Cancel);

    /// <summary>Tells how far some preparation is.</summary>
    public void Report(string activity, int done, int all)
    {
        var left = _pace.Left(activity, done, all);
        if (done % 16 == 0 || done == all)
        {
            Progress?.Report(new(Config.StageName, activity, done, all, null, null, left, []));
        }
    }

    // All that a cache of pictures depends on: what they are looked at with, and every file.
    private static string Describe(string network, IEnumerable<CaptionedPicture> pictures) =>
        string.Join('\n', pictures.Select(picture => TensorCache.Describe(picture.File)).Prepend(network));
}
