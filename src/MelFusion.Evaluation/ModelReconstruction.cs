using MelFusion.Wave;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Evaluation;

/// <summary>
/// A sound through a model's mel, VAE and vocoder and back: what a perfect diffusion model of that folder would give. Stays its model's owner's to dispose.
/// </summary>
public sealed class ModelReconstruction(MelFusionModel model)
{
    /// <summary>The reconstruction, mono, at the model's rate; as long as whole latent cells reach.</summary>
    public Waveform Forward(Waveform sound)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var config = model.Mel.Config;
        float[] samples = Resampler.ToMono(sound, config.SampleRate);
        int cell = config.HopLength * model.Vae.Config.Factor;
        int frames = Math.Max(1, (samples.Length + cell - 1) / cell) * model.Vae.Config.Factor;
        var mel = model.Mel.Forward(model.Mel.Prepare(torch.tensor(samples, device: model.Place.Device).unsqueeze(0), frames)); // (1, M, T)
        var decoded = new ModelMeasurement(model).ThroughAutoencoder(mel);
        var waveform = new MelToWave(model).Forward(decoded, VocoderKind.HifiGan, model.Folder.Defaults.Refine, seed: 0, CancellationToken.None);
        long kept = Math.Min(waveform.shape[1], decoded.shape[2] * config.HopLength);
        return new Waveform([waveform.narrow(1, 0, kept).flatten().cpu().data<float>().ToArray()], config.SampleRate);
    }
}
