using MelFusion.Training.Data;
using MelFusion.Training.Engine;
using MelFusion.Vae;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Training.Stages;

/// <summary>
/// Stage mel-vae: crops of log-mels, normalised as (mel - mean) / deviation, through the autoencoder and back. B samples, T frames, M bands.
/// </summary>
internal sealed class MelVaeStage : ITrainingStage
{
    private const int LatentsForScale = 48, PicturedClips = 3;

    private readonly TrainingConfig _config;
    private readonly MelVaeConfig _settings;
    private readonly MelSet _train, _validation;
    private readonly AutoencoderKl _network;
    private readonly ScalarType _precision;

    public MelVaeStage(TrainingConfig config, StageContext context)
    {
        (_config, _settings, _precision) = (config, config.MelVae, config.Dtype);
        _settings.Network.Validate("mel_vae.network");
        if (_settings.CropFrames % _settings.Network.Factor != 0 || _settings.MelFrames % _settings.Network.Factor != 0 || _settings.CropFrames > _settings.MelFrames)
        {
            throw new MelFusionException($"crop_frames {_settings.CropFrames} and mel_frames {_settings.MelFrames} must be multiples of the autoencoder's factor {_settings.Network.Factor}, the crop not the longer one.");
        }

        _train = context.Mels("train", _settings.Mel, _settings.MelFrames);
        _validation = context.Mels("validation", _settings.Mel, _settings.MelFrames);
        _network = AutoencoderObjective.Create(_settings.Network, _settings.InitialLogVariance, config.Seed, config.StartFrom, "vae");
    }

    public IReadOnlyList<ParameterGroup> Groups =>
        [ParameterGroup.Of(_network, _config.Optimiser.LearningRate, _config.Optimiser.WeightDecay)];

    public StepLoss Loss(long step, int first, int count)
    {
        var draws = Enumerable.Range(first, count).Select(sample => Draw(step, sample)).ToList();
        var x = stack(draws.Select(draw => draw.X)); // (B, 1, T, M)
        var (l1, kl, difference, _) = AutoencoderObjective.Terms(_network, x, stack(draws.Select(draw => draw.Noise)), _precision);
        return new(
            l1 + _settings.KlWeight * kl + _settings.DifferenceWeight * difference,
            ("log_mel_l1", l1.item<float>() * _settings.Mel.Deviation), ("kl", kl.item<float>()));
    }

    public IReadOnlyList<(string Name, double Value)> Validate(WorkerPool pool, long step, RunFolder folder)
    {
        int count = Math.Min(_validation.Count, _settings.ValidationClips);
        double[] l1 = new double[count], deviation = new double[count];
        var pictures = new float[PicturedClips * 2][,];
        pool.Share(count, i =>
        {
            using var scope = NewDisposeScope();
            using var noGrad = no_grad();
            var x = Normalise(_validation.Get(i, 0, _validation.Frames)).unsqueeze(0);
            var (mean, _) = _network.Encode(x);
            var reconstruction = _network.Decode(mean);
            l1[i] = (reconstruction - x).abs().mean().item<float>() * _settings.Mel.Deviation;
            deviation[i] = mean.std().item<float>();
            if (i < PicturedClips)
            {
                pictures[2 * i] = Planes.ToArray(x[0, 0]);
                pictures[2 * i + 1] = Planes.ToArray(reconstruction[0, 0]);
            }
        });
        Planes.Draw(Path.Combine(folder.Samples, $"mel-{step:D6}.png"), pictures.Where(p => p is not null));
        return [("log_mel_l1", l1.Average()), ("latent_deviation", deviation.Average())];
    }

    public void Export(string modelFolder, WorkerPool pool)
    {
        int count = Math.Min(_train.Count, LatentsForScale);
        double scale = AutoencoderObjective.ScalingFactor(
            _network, count, i => Normalise(_train.Get(Evenly.Place(i, count, _train.Count), 0, _train.Frames)).unsqueeze(0), pool);
        ModelParts.Write(modelFolder, "vae", (_settings.Network with { ScalingFactor = scale }).WithBlockTypes(), _network, ("diffusers", "AutoencoderKL"));
        ModelParts.WriteConfig(modelFolder, "mel", "config.json", _settings.Mel);
        ModelParts.ChangeDefaults(modelFolder, defaults => defaults with { MelFrames = _settings.MelFrames });
    }

    public void Dispose()
    {
        _network.Dispose();
        _train.Dispose();
        _validation.Dispose();
    }

    private (Tensor X, Tensor Noise) Draw(long step, int sample)
    {
        int row = StepRandom.Item(_config.Seed, step * _config.Batch + sample, _train.Count);
        using var generator = StepRandom.Generator(_config.Seed, step, sample);
        long start = StepRandom.Choices(_config.Seed, step, sample).NextInt64(_train.Frames - _settings.CropFrames + 1);
        long factor = _settings.Network.Factor;
        long[] latent = [_settings.Network.LatentChannels, _settings.CropFrames / factor, _settings.Mel.NMels / factor];
        return (Normalise(_train.Get(row, start, _settings.CropFrames)), randn(latent, generator: generator));
    }

    private Tensor Normalise(Tensor mel) => ((mel - _settings.Mel.Mean) / _settings.Mel.Deviation).unsqueeze(0); // (1, T, M)
}
