using MelFusion.Image;
using MelFusion.Inversion;
using MelFusion.Training.Engine;
using MelFusion.Training.Stages;
using MelFusion.Vae;
using MelFusion.Wave;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Training.Data;

/// <summary>A split as the music's stage sees it: rows, latents of the clips, trajectories of the pictures.</summary>
internal sealed record MusicData(IReadOnlyList<TrainingRow> Rows, CaptionKind Kind, LatentSet Latents, TrajectorySet Trajectories) : IDisposable
{
    private readonly Dictionary<string, List<string>> _picturesOfGames = Rows.Where(row => row.Game is not null)
        .GroupBy(row => row.Game!, StringComparer.Ordinal).ToDictionary(game => game.Key, game => game.SelectMany(row => row.Images).Distinct(StringComparer.Ordinal).ToList());

    /// <summary>Number of clips.</summary>
    public int Count => Rows.Count;

    /// <summary>A row's captions, of the kind that the music is made from.</summary>
    public IReadOnlyList<string> Captions(int row) => Rows[row].CaptionsOf(Kind);

    /// <summary>All pictures of the game a row's tune is from; where it is from none, the row's own.</summary>
    public IReadOnlyList<string> OfSameGame(int row) => Rows[row].Game is { } game ? _picturesOfGames[game] : Rows[row].Images;

    /// <summary>Encodes clips and inverts pictures of a split, or takes the caches.</summary>
    /// <param name="split">train or validation.</param>
    /// <param name="context">The run.</param>
    /// <param name="settings">The stage's settings.</param>
    /// <param name="vae">The mel autoencoder.</param>
    /// <param name="picture">The picture's network.</param>
    /// <param name="views">Views of every picture; the first is what sampling sees.</param>
    public static MusicData Load(string split, StageContext context, MusicLdmConfig settings, AutoencoderKl vae, PictureNetwork picture, int views = 1)
    {
        string model = context.Config.Model;
        var mel = ModelParts.ReadConfig<MelConfig>(model, "mel");
        using var mels = context.Mels(split, mel, ModelParts.ReadDefaults(model).MelFrames, settings.MostClips);
        var rows = mels.Rows;
        if (rows.FirstOrDefault(row => row.Captions.Count == 0 || row.Images.Count == 0) is { } bare)
        {
            throw new MelFusionException($"The row '{bare.Id}' of {split} lacks captions or pictures; build the data again.");
        }

        var latents = LatentSet.Load(
            Path.Combine(context.Cache, $"music-latents-{split}.safetensors"),
            $"{ModelParts.Describe(model, "vae")} {MelSet.Describe(mel)} {context.Config.Precision} {mels.Frames}\n{string.Join('\n', rows.Select(row => row.Id))}",
            vae, null, mels.Count, i => ((mels.Get(i, 0, mels.Frames) - mel.Mean) / mel.Deviation).unsqueeze(0),
            context.Config.Dtype, context.Pool, (done, all) => context.Report($"encoding the music ({split})", done, all), context.Cancel);
        return new(rows, settings.Captions, latents, LoadTrajectories(split, context, settings, rows, picture, views));
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Latents.Dispose();
        Trajectories.Dispose();
    }

    private static TrajectorySet LoadTrajectories(
        string split, StageContext context, MusicLdmConfig settings, IReadOnlyList<TrainingRow> rows, PictureNetwork picture, int views)
    {
        string model = context.Config.Model, data = context.Config.Data;
        List<string> names = [.. rows.SelectMany(row => row.Images).Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal)];
        var defaults = ModelParts.ReadDefaults(model);
        var size = new PictureSize(defaults.PictureWidth, defaults.PictureHeight);
        string shown = size.Width == size.Height ? $"{size.Width}" : $"{size}";
        using var vae = context.Autoencoder("image_vae");
        string from = $"{ModelParts.Describe(model, "image_vae")} {ModelParts.Describe(model, "image_unet")} {shown} {context.Config.Precision} {views} views";
        return TrajectorySet.Load(
            Path.Combine(context.Cache, $"trajectories-{split}{(views > 1 ? $"-{views}-views" : string.Empty)}.safetensors"), from, names, picture,
            i => Encode(vae, PictureSet.Decode(Path.Combine(data, split, names[i])), Enumerable.Range(0, views).Select(view => PictureView.Of(i, view)), size),
            settings.InversionSteps, settings.InversionDepth, settings.KeyValueSource, context.Pool, (done, all) => context.Report($"inverting pictures ({split})", done, all), context.Cancel);
    }

    private static Tensor Encode(AutoencoderKl vae, RgbPicture picture, IEnumerable<PictureView> views, PictureSize size) =>
        vae.Encode(cat([.. views.Select(view => view.Of(picture, size))], 0)).Mean * vae.Config.ScalingFactor;
}
