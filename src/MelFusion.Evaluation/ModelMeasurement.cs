using MelFusion.Evaluation.Reports;
using MelFusion.Wave;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Evaluation;

/// <summary>How far one way from a mel to a waveform leads from the sound that the mel was taken of; means over clips.</summary>
/// <param name="Vocoder">What makes the waveform.</param>
/// <param name="Refine">Rounds of spectral refinement after it.</param>
/// <param name="LogMelL1">Mean |difference| of the log-mels.</param>
/// <param name="MultiResolutionStft">See <see cref="WaveDistance.MultiResolutionStft"/>.</param>
public sealed record VocoderFigures(VocoderKind Vocoder, int Refine, double LogMelL1, double MultiResolutionStft);

/// <summary>What the model's autoencoder and its ways to a waveform keep of real clips.</summary>
/// <param name="Clips">How many were measured.</param>
/// <param name="AutoencoderLogMelL1">Mean |difference| of a clip's log-mel and what the VAE gives back of it.</param>
/// <param name="Vocoders">HiFi-GAN and Griffin-Lim, each without and with refinement, from the clips' own mels.</param>
public sealed record ReconstructionFigures(int Clips, double AutoencoderLogMelL1, IReadOnlyList<VocoderFigures> Vocoders);

/// <summary>A held-out clip with what a model is told to make it.</summary>
/// <param name="Id">Its name.</param>
/// <param name="Audio">The sound's file.</param>
/// <param name="Image">The picture's file.</param>
/// <param name="Caption">The text.</param>
public sealed record HeldOutClip(string Id, string Audio, string Image, string Caption);

/// <summary>A clip that was made while measuring.</summary>
/// <param name="Id">The held-out clip whose text and picture were used.</param>
/// <param name="Statistics">Level, clipping, silence, flatness.</param>
public sealed record MadeClip(string Id, WaveStatistics Statistics);

/// <summary>What a model card states beside the losses: what the model's parts keep of real music, and whether what it makes is sound.</summary>
/// <param name="model">The model; it stays its owner's to dispose.</param>
public sealed class ModelMeasurement(MelFusionModel model)
{
    private const int SheetClips = 4, DefaultRefine = 4;

    /// <summary>Makes a clip under the text and picture of each held-out clip, each with a seed of its own and the model's own settings.</summary>
    /// <param name="clips">The clips.</param>
    /// <param name="folder">Where the sounds are written, under their ids; those of an earlier call are kept.</param>
    /// <param name="done">Told the number of clips as it grows.</param>
    /// <param name="cancellation">Honoured within one step.</param>
    public IReadOnlyList<MadeClip> Make(IReadOnlyList<HeldOutClip> clips, string folder, Action<int>? done = null, CancellationToken cancellation = default)
    {
        RequireSome(clips);
        var request = new SetRequest
        {
            Rows = [.. clips.Select(clip => new SetRow(clip.Id, clip.Image, clip.Caption))], Output = folder, Settings = new() { Seed = 0 },
        };
        new SetGenerator(model).Run(request, new Relay<SetProgress>(value => done?.Invoke(value.Done)), cancellation);
        return [.. clips.Select(clip => new MadeClip(clip.Id, WaveStatistics.Of(WavFile.Read(MadeFile(folder, clip)).Channels[0])))];
    }

    /// <summary>Draws the first clips: as they are, as the model's VAE and vocoder give them back, and as <see cref="Make"/> made them.</summary>
    /// <param name="path">The PNG.</param>
    /// <param name="clips">The clips that were made.</param>
    /// <param name="folder">Where <see cref="Make"/> wrote.</param>
    public void DrawSheet(string path, IReadOnlyList<HeldOutClip> clips, string folder)
    {
        var shown = clips.Take(SheetClips).ToList();
        var originals = shown.Select(clip => ToModelLength(AudioFile.Read(clip.Audio))).ToList();
        var reconstruction = new ModelReconstruction(model);
        SpectrogramSheet.Draw(
            path, model.Mel,
            [
                [.. originals],
                [.. originals.Select(reconstruction.Forward)],
                [.. shown.Select(clip => WavFile.Read(MadeFile(folder, clip)))],
            ],
            "held-out clips; through autoencoder and vocoder; made from their texts and pictures");
    }

    /// <summary>Measures on clips at any rate; each is cut or filled with silence to the model's own length.</summary>
    /// <param name="clips">The clips.</param>
    /// <param name="done">Told the number of clips after each.</param>
    /// <param name="cancellation">Looked at before every clip, chunk and round.</param>
    public ReconstructionFigures Reconstruct(IReadOnlyList<HeldOutClip> clips, Action<int>? done = null, CancellationToken cancellation = default)
    {
        RequireSome(clips);
        var ways = Ways();
        var (l1, stft) = (new double[ways.Count], new double[ways.Count]);
        (int count, double autoencoder) = (0, 0);
        foreach (var clip in clips)
        {
            cancellation.ThrowIfCancellationRequested();
            using var scope = NewDisposeScope();
            using var noGrad = no_grad();
            float[] heard = Resampler.ToMono(AudioFile.Read(clip.Audio, cancellation: cancellation), model.Mel.Config.SampleRate);
            var sound = model.Mel.Prepare(torch.tensor(heard, device: model.Place.Device).unsqueeze(0), model.Folder.Defaults.MelFrames); // (1, n)
            var mel = model.Mel.Forward(sound); // (1, M, T)
            autoencoder += (ThroughAutoencoder(mel, cancellation) - mel).abs().mean().item<float>();
            for (int i = 0; i < ways.Count; i++)
            {
                var made = new MelToWave(model).Forward(mel, ways[i].Vocoder, ways[i].Refine, seed: 0, cancellation);
                long samples = Math.Min(sound.shape[1], made.shape[1]);
                l1[i] += WaveDistance.LogMelL1(model.Mel, mel, made);
                stft[i] += WaveDistance.MultiResolutionStft(sound.narrow(1, 0, samples), made.narrow(1, 0, samples));
            }

            count++;
            done?.Invoke(count);
        }

        return new(count, autoencoder / count, [.. ways.Select((way, i) => new VocoderFigures(way.Vocoder, way.Refine, l1[i] / count, stft[i] / count))]);
    }

    private static void RequireSome(IReadOnlyList<HeldOutClip> clips)
    {
        if (clips.Count == 0)
        {
            throw new MelFusionException("There is no clip to measure the model on; name a data folder that has some.");
        }
    }

    /// <summary>A log-mel (1, M, T) through the VAE and back.</summary>
    internal Tensor ThroughAutoencoder(Tensor mel, CancellationToken cancellation = default)
    {
        using var scope = NewDisposeScope();
        var (latent, _) = model.Vae.Encode(model.Mel.Normalise(mel).transpose(1, 2).unsqueeze(1), cancellation); // (1, C, T / f, M / f)
        var decoded = model.Mel.Denormalise(model.Vae.Decode(latent, cancellation)); // (1, 1, T, M)
        return decoded.squeeze(1).transpose(1, 2).contiguous().MoveToOuterDisposeScope();
    }

    private IReadOnlyList<(VocoderKind Vocoder, int Refine)> Ways()
    {
        int refine = model.Folder.Defaults.Refine > 0 ? model.Folder.Defaults.Refine : DefaultRefine;
        return [.. Enum.GetValues<VocoderKind>().SelectMany(vocoder => new[] { (vocoder, 0), (vocoder, refine) })];
    }

    /// <summary>A clip, mono, at the model's rate and of its length.</summary>
    private Waveform ToModelLength(Waveform clip)
    {
        var config = model.Mel.Config;
        float[] samples = Resampler.ToMono(clip, config.SampleRate);
        Array.Resize(ref samples, model.Folder.Defaults.MelFrames * config.HopLength);
        return new([samples], config.SampleRate);
    }

    private static string MadeFile(string folder, HeldOutClip clip) => Path.Combine(folder, clip.Id + ".wav");
}
