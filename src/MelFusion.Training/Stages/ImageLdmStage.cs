using MelFusion.KeyValue;
using MelFusion.Noise;
using MelFusion.Training.Data;
using MelFusion.Training.Engine;
using MelFusion.UNet;
using MelFusion.Vae;
using MelFusion.Weights;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Training.Stages;

/// <summary>
/// Stage image-ldm: the picture's UNet learns to denoise pictures' latents under their captions, some of them null; if asked to, also to let its decoder's
/// keys and values say what is shown.
/// </summary>
internal sealed class ImageLdmStage : ITrainingStage
{
    private const int SamplingSteps = 25;

    private readonly TrainingConfig _config;
    private readonly ImageLdmConfig _settings;
    private readonly IReadOnlyList<CaptionedPicture> _train, _validation;
    private readonly LatentSet _latents, _validationLatents;
    private readonly TextSet _texts;
    private readonly AutoencoderKl _vae;
    private readonly ConditionalUNet _network;
    private readonly NoiseSchedule _schedule;
    private readonly DiffusionLoss _loss;
    private readonly PictureFeatureSet? _features, _validationFeatures;
    private readonly KeyValueAlignment? _alignment;

    public ImageLdmStage(TrainingConfig config, StageContext context)
    {
        (_config, _settings) = (config, config.ImageLdm);
        _vae = context.Autoencoder("image_vae");
        (_train, _latents) = context.PictureLatents("train", _vae, _settings.Side);
        (_validation, _validationLatents) = context.PictureLatents("validation", _vae, _settings.Side);
        _texts = TextEncoders.Encode(
            _settings.TextModel ?? config.Model, Path.Combine(context.Cache, "text-pictures.safetensors"), _train.Concat(_validation).Select(picture => picture.Caption),
            (done, all) => context.Report("reading captions", done, all));
        _schedule = new(_settings.Schedule);
        _loss = new(_schedule, _settings.Weighting, _settings.SnrGamma);
        _network = LdmNetworks.Create(_settings.Network, config.Seed, config.StartFrom, "image_unet");
        if (_settings.Alignment > 0)
        {
            _features = context.PictureFeatures("train", _train, _settings.AlignmentModel, KeyValueAlignment.Cells);
            _validationFeatures = context.PictureFeatures("validation", _validation, _settings.AlignmentModel, KeyValueAlignment.Cells);
            using var generator = StepRandom.Generator(config.Seed, -1, 2);
            _alignment = new(_settings.Network.DecoderLayers, _features, generator);
        }
    }

    public IReadOnlyList<ParameterGroup> Groups =>
    [
        ParameterGroup.Of(_network, _config.Optimiser.LearningRate, _config.Optimiser.WeightDecay),
        .. _alignment is null ? [] : new[] { ParameterGroup.Of(_alignment, _config.Optimiser.LearningRate, _config.Optimiser.WeightDecay, "alignment.") },
    ];

    public StepLoss Loss(long step, int first, int count)
    {
        var draws = Enumerable.Range(first, count).Select(sample => Draw(step, sample)).ToList();
        var (clean, noise) = (stack(draws.Select(draw => draw.Clean)), stack(draws.Select(draw => draw.Noise)));
        var t = tensor(draws.Select(draw => draw.Timestep).ToArray());
        var (states, mask) = _texts.Get([.. draws.Select(draw => draw.Caption)]);
        using var seen = _alignment is null ? null : new KeyValueAlignment.Seen();
        var prediction = _network.Forward(_loss.Diffuse(clean, noise, t).to(_config.Dtype), t, states, mask, seen);
        var denoising = _loss.Mean(prediction, clean, noise, t);
        if (_alignment is null)
        {
            return new(denoising);
        }

        var alignment = _alignment.Loss(seen!, _features!.Get([.. draws.Select(draw => draw.Picture)]));
        return new(denoising + alignment * _settings.Alignment, ("denoising", denoising.item<float>()), ("alignment", alignment.item<float>()));
    }

    public IReadOnlyList<(string Name, double Value)> Validate(WorkerPool pool, long step, RunFolder folder)
    {
        int count = Math.Min(_validation.Count, _settings.ValidationPictures), levels = _settings.ValidationTimesteps.Count;
        double[] withText = new double[count * levels], without = new double[count * levels], alignment = new double[count * levels];
        pool.Share(count * levels, i =>
        {
            using var scope = NewDisposeScope();
            using var noGrad = no_grad();
            using var generator = StepRandom.Generator(0, -2, i);
            int picture = i / levels;
            var clean = _validationLatents.Mean(picture).unsqueeze(0);
            var (noise, t) = (randn(clean.shape, generator: generator), tensor(new[] { _settings.ValidationTimesteps[i % levels] }));
            using var seen = _alignment is null ? null : new KeyValueAlignment.Seen();
            withText[i] = LossOf(clean, noise, t, _validation[picture].Caption);
            without[i] = LossOf(clean, noise, t, string.Empty, seen);
            alignment[i] = seen is null ? 0 : _alignment!.Loss(seen, _validationFeatures!.Get([picture])).item<float>();
        });
        Sample(pool, step, folder);
        return
        [
            ("loss", withText.Average()), ("loss_null_text", without.Average()),
            .. _alignment is null ? [] : new[] { ("alignment", alignment.Average()) },
        ];
    }

    public void Export(string modelFolder, WorkerPool pool)
    {
        ModelParts.Write(modelFolder, "image_unet", _settings.Network, _network, ("diffusers", "UNet2DConditionModel"));
        LdmNetworks.WriteSchedule(modelFolder, "image_scheduler", _settings.Schedule);
        using var scope = NewDisposeScope();
        string folder = Directory.CreateDirectory(Path.Combine(modelFolder, "image_null_text")).FullName;
        Safetensors.Write(Path.Combine(folder, "model.safetensors"), new Dictionary<string, Tensor> { ["states"] = _texts.Null });
    }

    public void Dispose()
    {
        _network.Dispose();
        _vae.Dispose();
        _latents.Dispose();
        _validationLatents.Dispose();
        _texts.Dispose();
        _features?.Dispose();
        _validationFeatures?.Dispose();
        _alignment?.Dispose();
    }

    private (int Picture, Tensor Clean, Tensor Noise, long Timestep, string Caption) Draw(long step, int sample)
    {
        int index = StepRandom.Item(_config.Seed, step * _config.Batch + sample, _latents.Count);
        using var generator = StepRandom.Generator(_config.Seed, step, sample);
        var choices = StepRandom.Choices(_config.Seed, step, sample);
        string caption = choices.NextDouble() < _settings.TextDropout ? string.Empty : _train[index].Caption;
        return (index, _latents.Draw(index, generator), randn(_latents.Shape, generator: generator), choices.NextInt64(_schedule.Length), caption);
    }

    private double LossOf(Tensor clean, Tensor noise, Tensor t, string caption, IKeyValueTap? tap = null)
    {
        using var scope = NewDisposeScope();
        var (states, mask) = _texts.Get([caption]);
        var prediction = _network.Forward(_loss.Diffuse(clean, noise, t).to(_config.Dtype), t, states, mask, tap);
        return _loss.Mean(prediction, clean, noise, t).item<float>();
    }

    /// <summary>A few pictures by DDIM without guidance, under captions of the validation split.</summary>
    private void Sample(WorkerPool pool, long step, RunFolder folder)
    {
        int count = Math.Min(_settings.Samples, _validation.Count);
        var pictures = new byte[count][];
        pool.Share(count, i =>
        {
            using var scope = NewDisposeScope();
            using var noGrad = no_grad();
            using var generator = StepRandom.Generator(0, -4, i);
            var (states, mask) = _texts.Get([_validation[i * (_validation.Count / count)].Caption]);
            var z = LdmNetworks.Sample(
                _schedule, SamplingSteps, randn([1, .. _latents.Shape], generator: generator),
                (latent, t) => _network.Forward(latent.to(_config.Dtype), t, states, mask).to(ScalarType.Float32));
            pictures[i] = Planes.Pixels(_vae.Decode(z / _vae.Config.ScalingFactor)[0].clamp(-1, 1));
        });
        Planes.DrawGrid(Path.Combine(folder.Samples, $"pictures-{step:D6}.png"), pictures, _settings.Side, Math.Max(1, count));
    }
}
