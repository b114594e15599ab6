using MelFusion.Training.Data;
using MelFusion.Training.Engine;
using MelFusion.Vae;
using TorchSharp;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace MelFusion.Training.Stages;

/// <summary>Stage image-vae: crops of pictures in [-1, 1] through the autoencoder and back.</summary>
internal sealed class ImageVaeStage : ITrainingStage
{
    private const int LatentsForScale = 64, PicturedPictures = 4;

    private readonly TrainingConfig _config;
    private readonly ImageVaeConfig _settings;
    private readonly PictureSet _train, _validation;
    private readonly AutoencoderKl _network;

    public ImageVaeStage(TrainingConfig config, StageContext context)
    {
        (_config, _settings) = (config, config.ImageVae);
        _settings.Network.Validate("image_vae.network");
        if (_settings.CropSide % _settings.Network.Factor != 0 || _settings.Side % _settings.Network.Factor != 0 || _settings.CropSide > _settings.Side)
        {
            throw new MelFusionException($"crop_side {_settings.CropSide} and side {_settings.Side} must be multiples of the autoencoder's factor {_settings.Network.Factor}, the crop not the larger one.");
        }

        _train = context.Pictures("train", _settings.Side);
        _validation = context.Pictures("validation", _settings.Side, _settings.ValidationPictures);
        _network = AutoencoderObjective.Create(_settings.Network, _settings.InitialLogVariance, config.Seed, config.StartFrom, "image_vae");
        if (config.StartFrom is null)
        {
            PyramidStart.Apply(_network);
        }
    }

    public IReadOnlyList<ParameterGroup> Groups =>
        [ParameterGroup.Of(_network, _config.Optimiser.LearningRate, _config.Optimiser.WeightDecay)];

    public StepLoss Loss(long step, int first, int count)
    {
        var draws = Enumerable.Range(first, count).Select(sample => Draw(step, sample)).ToList();
        var x = stack(draws.Select(draw => draw.X)); // (B, 3, H, W)
        var (l1, kl, difference, reconstruction) = AutoencoderObjective.Terms(_network, x, stack(draws.Select(draw => draw.Noise)), _config.Dtype);
        var (colour, coarse) = (Opponent(reconstruction - x), F.avg_pool2d(reconstruction - x, 8).abs().mean());
        return new(
            l1 + _settings.KlWeight * kl + _settings.DifferenceWeight * difference + _settings.ColourWeight * colour + _settings.CoarseWeight * coarse,
            ("l1", l1.item<float>()), ("colour", colour.item<float>()), ("kl", kl.item<float>()));
    }

    public IReadOnlyList<(string Name, double Value)> Validate(WorkerPool pool, long step, RunFolder folder)
    {
        int count = _validation.Count;
        double[] l1 = new double[count], colour = new double[count], saturation = new double[count];
        var pictures = new byte[PicturedPictures * 2][];
        pool.Share(count, i =>
        {
            using var scope = NewDisposeScope();
            using var noGrad = no_grad();
            var x = _validation.Get(i).unsqueeze(0);
            var reconstruction = _network.Decode(_network.Encode(x).Mean);
            l1[i] = (reconstruction - x).abs().mean().item<float>();
            colour[i] = Opponent(reconstruction - x).item<float>();
            saturation[i] = Opponent(reconstruction).item<float>() / Math.Max(1e-3, Opponent(x).item<float>());
            if (i < PicturedPictures)
            {
                pictures[i] = Planes.Pixels(x[0]);
                pictures[PicturedPictures + i] = Planes.Pixels(reconstruction[0]);
            }
        });
        Planes.DrawGrid(Path.Combine(folder.Samples, $"pictures-{step:D6}.png"), pictures, (int)_validation.Side, PicturedPictures);
        return [("l1", l1.Average()), ("colour_l1", colour.Average()), ("colour_kept", saturation.Average())];
    }

    public void Export(string modelFolder, WorkerPool pool)
    {
        int count = Math.Min(_train.Count, LatentsForScale);
        double scale = AutoencoderObjective.ScalingFactor(_network, count, i => _train.Get(Evenly.Place(i, count, _train.Count)).unsqueeze(0), pool);
        ModelParts.Write(
            modelFolder, "image_vae", (_settings.Network with { ScalingFactor = scale, SampleSize = _settings.Side }).WithBlockTypes(), _network, ("diffusers", "AutoencoderKL"));
        ModelParts.ChangeDefaults(modelFolder, defaults => defaults with { PictureWidth = _settings.Side, PictureHeight = _settings.Side });
    }

    public void Dispose()
    {
        _network.Dispose();
        _train.Dispose();
        _validation.Dispose();
    }

    private (Tensor X, Tensor Noise) Draw(long step, int sample)
    {
        int index = StepRandom.Item(_config.Seed, step * _config.Batch + sample, _train.Count);
        var choices = StepRandom.Choices(_config.Seed, step, sample);
        using var generator = StepRandom.Generator(_config.Seed, step, sample);
        long size = _settings.CropSide, room = _train.Side - size + 1;
        var x = _train.Crop(index, choices.NextInt64(room), choices.NextInt64(room), size, choices.Next(2) == 1);
        long cells = size / _settings.Network.Factor;
        return (x, randn([_settings.Network.LatentChannels, cells, cells], generator: generator));
    }

    /// <summary>Mean absolute red - green and blue - yellow of (B, 3, H, W), four times smaller.</summary>
    private static Tensor Opponent(Tensor pictures)
    {
        var small = F.avg_pool2d(pictures, 4);
        Tensor red = small.narrow(1, 0, 1), green = small.narrow(1, 1, 1), blue = small.narrow(1, 2, 1);
        return (red - green).abs().mean() + (blue - 0.5 * (red + green)).abs().mean();
    }
}
