using MelFusion.Image;
using MelFusion.Inversion;
using MelFusion.Noise;
using MelFusion.Wave;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion;

/// <summary>Music from a picture, a sentence, or both: the paper's Algorithm 2, one call per folder, in order.</summary>
/// <param name="model">The model; it stays its owner's to dispose.</param>
/// <param name="time">Where time comes from; null: the system's clock.</param>
public sealed class MusicGenerator(MelFusionModel model, TimeProvider? time = null)
{
    /// <summary>Makes the clips of a request, all in one batch. One call at a time; always the same thread is fastest.</summary>
    /// <param name="request">What to make.</param>
    /// <param name="progress">Told about every step.</param>
    /// <param name="cancellation">Honoured within one step, decoder or vocoder chunk.</param>
    /// <returns>As many clips as candidates were asked for, in the order of their seeds.</returns>
    /// <exception cref="MelFusionException">The request asks for what the model cannot do, or the picture cannot be read.</exception>
    /// <exception cref="OperationCanceledException">It was cancelled.</exception>
    public IReadOnlyList<MusicClip> Generate(
        MusicRequest request, IProgress<GenerationProgress>? progress = null, CancellationToken cancellation = default)
    {
        var plan = GenerationPlan.Of(request, model);
        using var scope = NewDisposeScope();
        var (waveform, remarks) = Waveform(plan, plan.StartClock(model, progress, time ?? TimeProvider.System), cancellation);
        long kept = Math.Min(plan.Samples ?? waveform.shape[1], waveform.shape[1]);
        return [.. Enumerable.Range(0, plan.Recipe.Candidates).Select(candidate => new MusicClip(
            FullScale.Fit(waveform[candidate].narrow(0, 0, kept).cpu().data<float>().ToArray()), model.Mel.Config.SampleRate, plan.RecipeOf(candidate)) { Remarks = remarks })];
    }

    /// <summary>The whole way as tensors: (candidates, samples), and what a person should be told.</summary>
    internal (Tensor Waveform, IReadOnlyList<string> Remarks) Waveform(GenerationPlan plan, GenerationClock clock, CancellationToken cancellation)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var recipe = plan.Recipe;
        using var chance = new SeededNoise(plan.Seeds, plan.LatentShape, model.Place.Device);

        var sampler = Samplers.Create(recipe.Sampler, model.Schedule, recipe.Steps);
        using var picture = plan.Picture is { } file ? Invert(file, plan, sampler, clock, cancellation) : null;
        var (text, remarks) = Encode(plan);
        var z0 = new JointDenoising(model.UNet, sampler, model.Place)
        {
            Guidance = recipe.Guidance,
            GuidanceRescale = recipe.GuidanceRescale,
            FreshNoise = chance.Draw,
            StepDone = clock.Steps(GenerationStage.Denoising),
        }.Run(chance.Draw(), text, picture is null ? null : new(picture, model.Picture.Synapse, recipe.ImageInfluence, recipe.ImageGuidance), cancellation);
        return (Decode(z0, plan, clock, cancellation).MoveToOuterDisposeScope(), remarks);
    }

    /// <summary>Image, Vae, Inversion: from the picture's file to its K and V at every noise level (Algorithm 2, lines 1 to 3).</summary>
    private PictureKeyValues Invert(ReadOnlyMemory<byte> file, GenerationPlan plan, ISampler sampler, GenerationClock clock, CancellationToken cancellation)
    {
        using var scope = NewDisposeScope();
        var (parts, size) = (model.Picture, plan.Recipe.PictureSize!.Value);
        clock.Begin(GenerationStage.ReadingPicture);
        var pixels = ImageReader.Read(file.Span, size.Width, size.Height).to(model.Place.Device); // (1, 3, H, W)
        var latent = parts.Vae.Encode(pixels, cancellation).Mean * parts.Vae.Config.ScalingFactor;
        clock.Done(GenerationStage.ReadingPicture, 1);
        return PictureKeyValues.Invert(
            plan.Recipe.KeyValueSource, parts.Network, parts.Synapse.NewRecorder(), latent, plan.Recipe.InversionSteps, sampler.Timesteps,
            plan.Recipe.InversionDepth, clock.Steps(GenerationStage.InvertingPicture), cancellation);
    }

    /// <summary>Text: the rows of the batch; under guidance the null (or negative) text's come first.</summary>
    private (TextRows Rows, IReadOnlyList<string> Remarks) Encode(GenerationPlan plan)
    {
        using var scope = NewDisposeScope();
        string prompt = plan.Recipe.Prompt ?? string.Empty, against = plan.Recipe.NegativePrompt ?? string.Empty;
        var states = model.Text.Encode(plan.IsGuided ? [against, prompt] : [prompt]);
        Tensor Rows(Tensor texts) => texts.repeat_interleave(plan.Recipe.Candidates, 0).MoveToOuterDisposeScope();
        return (new(Rows(states.States), Rows(states.Mask)),
            states.Cut.Any(cut => cut) ? [$"The text is longer than the {states.Mask.shape[1]} tokens the model reads; its end was left out."] : []);
    }

    /// <summary>Vae, Vocoder, Wave: from the latent to its mel and on to the waveform, one candidate after another.</summary>
    private Tensor Decode(Tensor latent, GenerationPlan plan, GenerationClock clock, CancellationToken cancellation)
    {
        using var scope = NewDisposeScope();
        var done = clock.Steps(GenerationStage.Decoding);
        done(0);
        var waveforms = Enumerable.Range(0, plan.Recipe.Candidates).Select(candidate =>
        {
            using var inner = NewDisposeScope();
            cancellation.ThrowIfCancellationRequested();
            var mel = DecodeMel(latent.narrow(0, candidate, 1), cancellation); // (1, M, T)
            done((2 * candidate) + 1);
            var waveform = new MelToWave(model).Forward(mel, plan.Recipe.Vocoder, plan.Recipe.Refine, plan.Seeds[candidate], cancellation);
            done((2 * candidate) + 2);
            return waveform.MoveToOuterDisposeScope();
        });
        return cat([.. waveforms]).MoveToOuterDisposeScope();
    }

    /// <summary>D_M: latent (1, C, T / f, M / f) to log-mel (1, M, T).</summary>
    private Tensor DecodeMel(Tensor latent, CancellationToken cancellation)
    {
        using var scope = NewDisposeScope();
        var mel = model.Mel.Denormalise(model.Vae.Decode(latent / model.Vae.Config.ScalingFactor, cancellation)); // (1, 1, T, M)
        return mel.squeeze(1).transpose(1, 2).contiguous().MoveToOuterDisposeScope();
    }
}
