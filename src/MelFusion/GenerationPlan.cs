using System.Security.Cryptography;
using MelFusion.Inversion;
using static TorchSharp.torch;

namespace MelFusion;

/// <summary>A request with every default filled in from the model: what is done, and what the recipe will say.</summary>
/// <param name="Recipe">The recipe of the first clip.</param>
/// <param name="Picture">The picture's file; null where none takes part.</param>
/// <param name="LatentShape">Of one clip's latent: (C, T / f, M / f).</param>
/// <param name="Samples">Samples to keep; null: all there are.</param>
/// <param name="Seeds">The clips' own seeds.</param>
internal sealed record GenerationPlan(Recipe Recipe, ReadOnlyMemory<byte>? Picture, long[] LatentShape, int? Samples, IReadOnlyList<long> Seeds)
{
    /// <summary>Whether the unconditional branch is computed.</summary>
    public bool IsGuided => Recipe.Guidance > 1;

    /// <summary>Checks a request and fills in the model's defaults.</summary>
    /// <exception cref="MelFusionException">The request asks for what the model cannot do.</exception>
    public static GenerationPlan Of(MusicRequest request, MelFusionModel model)
    {
        request.Validate();
        var defaults = model.Folder.Defaults;
        var picture = request.ImageInfluence > 0 ? request.Image : null;
        if (picture is not null && !model.Folder.TakesPictures)
        {
            throw new MelFusionException($"The model {defaults.Name} makes music of text alone; leave the picture out or choose a model with picture parts.");
        }

        int steps = request.Steps ?? defaults.Steps;
        var recipe = new Recipe
        {
            Prompt = request.Prompt,
            NegativePrompt = request.NegativePrompt,
            ImageName = request.Image is null ? null : request.ImageName,
            ImageSha256 = request.Image is { } bytes ? Convert.ToHexStringLower(SHA256.HashData(bytes.Span)) : null,
            PictureSize = request.Image is null ? null : request.PictureSize ?? new(defaults.PictureWidth, defaults.PictureHeight),
            Model = defaults.Name,
            WeightsSha256 = model.WeightsSha256,
            Seed = request.Seed,
            Candidates = request.Candidates,
            Duration = request.Duration,
            Sampler = request.Sampler ?? defaults.Sampler,
            Steps = steps,
            Guidance = request.Guidance ?? defaults.Guidance,
            GuidanceRescale = defaults.GuidanceRescale,
            InversionSteps = request.InversionSteps ?? request.Steps ?? defaults.InversionSteps ?? steps,
            InversionDepth = request.InversionDepth ?? defaults.InversionDepth,
            ImageInfluence = picture is null ? 0 : request.ImageInfluence,
            ImageGuidance = request.ImageGuidance ?? defaults.ImageGuidance,
            KeyValueSource = request.KeyValueSource ?? defaults.KeyValueSource,
            Vocoder = request.Vocoder,
            Refine = request.Refine ?? defaults.Refine,
            Precision = model.Place.Dtype == ScalarType.BFloat16 ? "bf16" : "fp32",
            Device = model.Place.Device.type.ToString().ToLowerInvariant(),
        }.OnThisMachine();
        var (frames, samples) = Length(request.Duration, model);
        int factor = model.Vae.Config.Factor;
        long[] latent = [model.Vae.Config.LatentChannels, frames / factor, model.Mel.Config.NMels / factor];
        return new(recipe, picture, latent, samples, request.Seeds ?? [.. Enumerable.Range(0, request.Candidates).Select(place => request.Seed + place)]);
    }

    /// <summary>Starts the clock of this generation. The weights of the stages are what melfusion-mini takes on two cores.</summary>
    public GenerationClock StartClock(MelFusionModel model, IProgress<GenerationProgress>? progress, TimeProvider time)
    {
        var work = new List<(GenerationStage, int, double)>();
        double calls = 0; // of the picture's network, for a step of the music
        if (Picture is not null)
        {
            work.Add((GenerationStage.ReadingPicture, 1, 1));
            int inversion = DdimInverter.Timesteps(model.Picture.Network.Schedule, Recipe.InversionSteps, Recipe.InversionDepth).Count;
            work.Add((GenerationStage.InvertingPicture, inversion, 0.5));
            calls = Recipe.KeyValueSource == KeyValueSource.Recorded ? 0 : inversion / (double)Recipe.InversionSteps;
        }

        work.Add((GenerationStage.Denoising, Recipe.Steps, (Recipe.Candidates * (IsGuided ? 1 : 0.5)) + (0.5 * calls)));
        work.Add((GenerationStage.Decoding, 2 * Recipe.Candidates, 5));
        return new(progress, work, time);
    }

    /// <summary>The recipe of a clip of the batch. What its neighbours were made of does not touch its bits, so that a batch of consecutive seeds around its own makes it again.</summary>
    public Recipe RecipeOf(int candidate) => Recipe with { Candidate = candidate, Seed = Seeds[candidate] - candidate };

    // A shorter clip is generated in whole cells of the coarsest level of VAE and UNet, then cut to the sample.
    private static (int Frames, int? Samples) Length(double? duration, MelFusionModel model)
    {
        int most = model.Folder.Defaults.MelFrames;
        if (duration is not { } seconds)
        {
            return (most, null);
        }

        double framesPerSecond = model.Mel.Config.SampleRate / (double)model.Mel.Config.HopLength;
        if (seconds > (most / framesPerSecond) + 0.01)
        {
            throw new MelFusionException(FormattableString.Invariant(
                $"The duration is {seconds} s and this model makes {most / framesPerSecond:0.00} s at most; ask for that or less."));
        }

        int cell = model.FramesPerCell;
        int wanted = (int)Math.Min(most, Math.Ceiling(seconds * framesPerSecond));
        int samples = Math.Max(1, (int)Math.Round(seconds * model.Mel.Config.SampleRate));
        return (Math.Min(most, (wanted + cell - 1) / cell * cell), samples);
    }
}
