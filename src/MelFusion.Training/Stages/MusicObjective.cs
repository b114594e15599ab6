using MelFusion.KeyValue;
using MelFusion.Noise;
using MelFusion.Synapse;
using MelFusion.Training.Data;
using MelFusion.UNet;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Training.Stages;

/// <summary>One sample of a step: everything that chance decides about it.</summary>
/// <param name="Clean">z, the scaled latent (C, H, W).</param>
/// <param name="Noise">eps.</param>
/// <param name="Timestep">t.</param>
/// <param name="Caption">The text; empty: the null text.</param>
/// <param name="Picture">What the picture's UNet is to see, and the timestep it is given; null: no picture.</param>
/// <param name="OfChannels">Noise on K^I and V^I, (<see cref="VisualSynapse.NoiseWidth"/>) in deviations; null: none.</param>
/// <param name="Blend">How much of the pictures of all samples computed together is added to its own, (B) in deviations; null: none.</param>
/// <param name="ExchangeDetails">Whether the picture has the details of that of the next sample.</param>
internal sealed record MusicSample(
    Tensor Clean, Tensor Noise, long Timestep, string Caption, (Tensor Latent, long Timestep)? Picture,
    Tensor? OfChannels = null, Tensor? Blend = null, bool ExchangeDetails = false);

/// <summary>Algorithm 1, lines 5 to 8, for a batch: K^I and V^I, the music's prediction with them, and the loss.</summary>
/// <param name="network">eps_theta.</param>
/// <param name="synapse">The alphas.</param>
/// <param name="imageNetwork">eps_psi, frozen.</param>
/// <param name="nullText">The picture network's null text (1, s, c).</param>
/// <param name="loss">Eq. 7 and its weights.</param>
/// <param name="precision">Precision of activations.</param>
internal sealed class MusicObjective(
    ConditionalUNet network, VisualSynapse synapse, ConditionalUNet imageNetwork, Tensor nullText, DiffusionLoss loss, ScalarType precision)
{
    /// <summary>The loss of every sample, (B), in fp32.</summary>
    public Tensor PerSample(IReadOnlyList<MusicSample> samples, TextSet texts)
    {
        var (clean, noise) = (stack(samples.Select(sample => sample.Clean)), stack(samples.Select(sample => sample.Noise)));
        var t = tensor(samples.Select(sample => sample.Timestep).ToArray());
        var (states, mask) = texts.Get([.. samples.Select(sample => sample.Caption)]);
        var prediction = Predict(loss.Diffuse(clean, noise, t), t, states, mask, [.. samples.Select(sample => sample.Picture)], NoiseOf(samples));
        return loss.PerSample(prediction, clean, noise, t);
    }

    /// <summary>The music network's output, fp32.</summary>
    /// <param name="noisy">z_t (B, C, H, W).</param>
    /// <param name="t">(B).</param>
    /// <param name="captions">One per sample; empty: the null text.</param>
    /// <param name="pictures">One per sample; null: none.</param>
    /// <param name="texts">The captions' states.</param>
    public Tensor Predict(Tensor noisy, Tensor t, IReadOnlyList<string> captions, IReadOnlyList<(Tensor Latent, long Timestep)?> pictures, TextSet texts)
    {
        var (states, mask) = texts.Get(captions);
        return Predict(noisy, t, states, mask, pictures);
    }

    /// <summary>The same with states at hand.</summary>
    /// <param name="noisy">z_t (B, C, H, W).</param>
    /// <param name="t">(B).</param>
    /// <param name="states">(B, s, c).</param>
    /// <param name="mask">(B, s), true where a token is valid.</param>
    /// <param name="pictures">One per sample; null: none.</param>
    /// <param name="keyValueNoise">What is done to K^I and V^I; null: nothing.</param>
    public Tensor Predict(Tensor noisy, Tensor t, Tensor states, Tensor mask, IReadOnlyList<(Tensor Latent, long Timestep)?> pictures, KeyValueNoise? keyValueNoise = null)
    {
        using var seen = Capture(pictures);
        using var perturbed = seen is not null && keyValueNoise is not null ? synapse.Perturb(seen, keyValueNoise) : null;
        var captured = perturbed ?? seen;
        var influence = tensor(pictures.Select(picture => picture is null ? 0f : 1f).ToArray());
        var tap = synapse.Tap(captured, influence, mask);
        return network.Forward(noisy.to(precision), t, states, mask, tap).to(ScalarType.Float32);
    }

    /// <summary>Sets the synapse's fixed statistics: of K^I and V^I as they are mixed, and of the music's own for the same texts.</summary>
    /// <param name="levels">Samples with pictures: those of every noise level that has statistics of its own, or all in one.</param>
    /// <param name="texts">The captions' states.</param>
    public void Standardise(IEnumerable<IEnumerable<MusicSample>> levels, TextSet texts)
    {
        var ofPictures = new List<KeyValueStatistics>();
        using var ofMusic = new KeyValueStatistics();
        foreach (var level in levels)
        {
            ofPictures.Add(new());
            Gather(level, texts, ofPictures[^1], ofMusic);
        }

        synapse.SetStatistics(ofPictures, ofMusic);
        ofPictures.ForEach(statistics => statistics.Dispose());
    }

    private static KeyValueNoise? NoiseOf(IReadOnlyList<MusicSample> samples)
    {
        bool exchange = samples.Any(sample => sample.ExchangeDetails);
        var (ofChannels, blend) = (All(sample => sample.OfChannels), All(sample => sample.Blend));
        return ofChannels is null && blend is null && !exchange ? null : new(
            ofChannels, blend, exchange ? tensor(samples.Select((sample, i) => sample.ExchangeDetails ? (i + 1L) % samples.Count : i).ToArray()) : null);

        Tensor? All(Func<MusicSample, Tensor?> take) => samples.All(sample => take(sample) is not null) ? stack(samples.Select(sample => take(sample)!)) : null;
    }

    private void Gather(IEnumerable<MusicSample> samples, TextSet texts, KeyValueStatistics ofPictures, KeyValueStatistics ofMusic)
    {
        foreach (var few in samples.Chunk(8))
        {
            using var scope = NewDisposeScope();
            using var noGrad = no_grad();
            var (states, mask) = texts.Get([.. few.Select(sample => sample.Caption)]);
            using var captured = Capture([.. few.Select(sample => sample.Picture)])!;
            using var pooling = new TokenPooling(mask);
            using var pooled = synapse.Config.Mode == SynapseMode.Pool ? pooling.Pool(captured) : captured.Select(tensor => tensor);
            using var text = network.ProjectText(states);
            ofPictures.Add(pooled.KeyValues, pooled.IsPooled ? mask : null);
            ofMusic.Add(text.KeyValues.Where(layer => pooled.KeyValues.ContainsKey(layer.Key)).ToDictionary(), mask);
        }
    }

    // Samples without a picture borrow another's rows, as their influence is 0; without any picture nothing is captured.
    private CapturedKeyValues? Capture(IReadOnlyList<(Tensor Latent, long Timestep)?> pictures)
    {
        if (pictures.FirstOrDefault(picture => picture is not null) is not { } any)
        {
            return null;
        }

        var seen = pictures.Select(picture => picture ?? any).ToList();
        using var scope = NewDisposeScope();
        return imageNetwork.Capture(
            stack(seen.Select(picture => picture.Latent)).to(precision), tensor(seen.Select(picture => picture.Timestep).ToArray()), nullText, synapse.NewRecorder());
    }
}
