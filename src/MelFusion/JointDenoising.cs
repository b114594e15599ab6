using MelFusion.Inversion;
using MelFusion.KeyValue;
using MelFusion.Noise;
using MelFusion.Synapse;
using MelFusion.UNet;
using MelFusion.Weights;
using static TorchSharp.torch;

namespace MelFusion;

/// <summary>The texts of a batch of B clips: B rows, or under guidance 2B, the unconditional ones first.</summary>
/// <param name="States">(R, s, c).</param>
/// <param name="Mask">(R, s) of bool, true where a token is valid.</param>
internal readonly record struct TextRows(Tensor States, Tensor Mask);

/// <summary>The picture's part in a batch.</summary>
/// <param name="KeyValues">Gives K^I and V^I of one picture, or of one per row, at each noise level.</param>
/// <param name="Synapse">Where they meet the music.</param>
/// <param name="Influence">Multiplies every alpha.</param>
/// <param name="Guidance">Which rows see it.</param>
internal sealed record PicturePart(PictureKeyValues KeyValues, VisualSynapse Synapse, double Influence, ImageGuidance Guidance);

/// <summary>Algorithm 2, lines 5 to 13: the loop from noise to a music latent, with the picture's keys and values let in at every step.</summary>
/// <param name="unet">The music's UNet.</param>
/// <param name="sampler">The reverse process over its schedule.</param>
/// <param name="place">Device, and precision of the UNet's computation; the latents stay in fp32.</param>
internal sealed class JointDenoising(ConditionalUNet unet, ISampler sampler, Placement place)
{
    /// <summary>Classifier-free guidance scale; 1 or less: none, and the texts have B rows.</summary>
    public double Guidance { get; init; } = 1;

    /// <summary>Share of guidance rescaling.</summary>
    public double GuidanceRescale { get; init; }

    /// <summary>Fresh noise like the latents, for samplers that take it.</summary>
    public Func<Tensor>? FreshNoise { get; init; }

    /// <summary>Told the number of steps done, after each.</summary>
    public Action<int>? StepDone { get; init; }

    /// <summary>Sees each step's guided prediction and the latent after it.</summary>
    public Action<int, Tensor, Tensor>? Observer { get; init; }

    /// <summary>The clean music latent (B, C, H, W).</summary>
    /// <param name="noise">z_T^M, standard normal, fp32.</param>
    /// <param name="text">The texts.</param>
    /// <param name="picture">Null, or influence 0: text-to-music.</param>
    /// <param name="cancellation">Looked at before every step.</param>
    public Tensor Run(Tensor noise, TextRows text, PicturePart? picture, CancellationToken cancellation = default)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var textKeyValues = unet.ProjectText(text.States.to(place.Dtype));
        var (latent, lastClean) = (noise.alias(), (Tensor?)null);
        for (int i = 0; i < sampler.Timesteps.Count; i++)
        {
            cancellation.ThrowIfCancellationRequested();
            var (before, cleanBefore) = (latent, lastClean);
            (latent, lastClean) = Step(i, before, cleanBefore, text, textKeyValues, picture);
            before.Dispose();
            cleanBefore?.Dispose();
            StepDone?.Invoke(i + 1);
        }

        return latent.MoveToOuterDisposeScope();
    }

    private Denoised Step(int i, Tensor latent, Tensor? lastClean, TextRows text, TextKeyValues textKeyValues, PicturePart? picture)
    {
        using var scope = NewDisposeScope();
        long t = sampler.Timesteps[i];
        var prediction = Predict(latent, t, text, textKeyValues, Tap(picture, t, latent.shape[0], text.Mask));
        var fresh = sampler.TakesNoise(i) ? FreshNoise!() : null;
        var (next, clean) = sampler.Denoise(prediction, latent, i, lastClean, fresh);
        Observer?.Invoke(i, prediction, next);
        return new(next.MoveToOuterDisposeScope(), clean.MoveToOuterDisposeScope());
    }

    /// <summary>eps or v of Eq. 7 under the text, guided: both branches in one batch.</summary>
    private Tensor Predict(Tensor latent, long t, TextRows text, TextKeyValues textKeyValues, IKeyValueTap? tap)
    {
        bool guided = Guidance > 1;
        var rows = (guided ? cat([latent, latent]) : latent).to(place.Dtype);
        var timestep = tensor(new[] { t }, device: place.Device);
        var prediction = unet.Forward(rows, timestep, text.States, text.Mask, tap, textKeyValues).to(ScalarType.Float32);
        if (!guided)
        {
            return prediction;
        }

        var branches = prediction.chunk(2);
        return Noise.Guidance.Combine(branches[0], branches[1], Guidance, GuidanceRescale);
    }

    /// <summary>Eq. 5-6 for this noise level, or null where no picture takes part.</summary>
    private IKeyValueTap? Tap(PicturePart? picture, long t, long clips, Tensor mask)
    {
        if (picture is null || picture.Influence == 0)
        {
            return null;
        }

        var captured = picture.KeyValues.At(t);
        if (Guidance <= 1 || picture.Guidance == ImageGuidance.Both)
        {
            return picture.Synapse.Tap(captured, picture.Influence, mask);
        }

        var conditional = full([clips], picture.Influence, ScalarType.Float32, place.Device);
        return picture.Synapse.Tap(captured, cat([zeros_like(conditional), conditional]), mask);
    }
}
