using MelFusion.Inversion;
using MelFusion.KeyValue;
using MelFusion.Noise;
using MelFusion.Synapse;
using MelFusion.Training.Data;
using MelFusion.Training.Engine;
using MelFusion.UNet;
using MelFusion.Vae;
using MelFusion.Wave;
using MelFusion.Weights;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Training.Stages;

/// <summary>
/// Stage music-ldm, Algorithm 1: the music's UNet and the alphas learn together, with K^I and V^I of each sample's picture from the frozen
/// picture UNet at the inversion's latent of that noise level.
/// </summary>
internal sealed class MusicLdmStage : ITrainingStage
{
    private const int SamplingSteps = 25, StatisticsSamples = 256;

    private readonly TrainingConfig _config;
    private readonly MusicLdmConfig _settings;
    private readonly MusicData _train, _validation;
    private readonly TextSet _texts;
    private readonly AutoencoderKl _vae;
    private readonly ConditionalUNet _imageNetwork, _network;
    private readonly Tensor _nullText;
    private readonly VisualSynapse _synapse;
    private readonly NoiseSchedule _schedule;
    private readonly MusicObjective _objective;

    public MusicLdmStage(TrainingConfig config, StageContext context)
    {
        (_config, _settings) = (config, config.MusicLdm);
        _vae = context.Autoencoder("vae");
        var imageConfig = ModelParts.ReadConfig<UNetConfig>(config.Model, "image_unet");
        VisualSynapse.RequireMatch(_settings.Synapse, imageConfig, _settings.Network);
        _imageNetwork = ModelParts.LoadFrozen(config.Model, "image_unet", new ConditionalUNet(imageConfig, new(CPU, config.Dtype)));
        _nullText = ModelParts.ReadTensor(config.Model, "image_null_text", "states");
        var imageSchedule = new NoiseSchedule(ModelParts.ReadConfig<NoiseScheduleConfig>(config.Model, "image_scheduler", "scheduler_config.json"));
        using (var picture = new PictureNetwork(_imageNetwork, imageSchedule, _nullText, new(CPU, config.Dtype)))
        {
            _train = MusicData.Load("train", context, _settings, _vae, picture);
            _validation = MusicData.Load("validation", context, _settings, _vae, picture);
        }

        _texts = TextEncoders.Encode(
            _settings.TextModel ?? config.Model, Path.Combine(context.Cache, "text-music.safetensors"), _train.Rows.Concat(_validation.Rows).SelectMany(row => row.Captions),
            (done, all) => context.Report("reading captions", done, all));
        _schedule = new(_settings.Schedule);
        _network = LdmNetworks.Create(_settings.Network, config.Seed, config.StartFrom, "unet");
        _synapse = new(_settings.Synapse, _settings.Network, Placement.Cpu);
        _objective = new(_network, _synapse, _imageNetwork, _nullText, new(_schedule, _settings.Weighting, _settings.SnrGamma), config.Dtype);
        Prepare();
    }

    public IReadOnlyList<ParameterGroup> Groups =>
    [
        new([.. _synapse.named_parameters().Select(p => new NamedParameter("synapse." + p.name, p.parameter))], _settings.AlphaLearningRate, 0),
        new([.. _network.named_parameters().Select(p => new NamedParameter(p.name, p.parameter))], _config.Optimiser.LearningRate, _config.Optimiser.WeightDecay),
    ];

    public StepLoss Loss(long step, int first, int count)
    {
        MusicSample[] samples = [.. Enumerable.Range(first, count).Select(sample => Draw(step, sample))];
        return new(_objective.PerSample(samples, _texts).mean());
    }

    public IReadOnlyList<(string Name, double Value)> Watched() => [.. _synapse.Alphas().Select(alpha => (alpha.Key, alpha.Value))];

    public IReadOnlyList<(string Name, double Value)> Validate(WorkerPool pool, long step, RunFolder folder)
    {
        int clips = step >= _config.Steps ? _settings.FinalValidationClips : _settings.ValidationClips;
        var report = new ConditionReport(_validation, _texts, _objective, _settings.ValidationTimesteps, _schedule.Config).Measure(pool, clips);
        report.Write(folder, step);
        Sample(pool, step, folder);
        return report.Figures;
    }

    public void Export(string modelFolder, WorkerPool pool)
    {
        ModelParts.Write(modelFolder, "unet", _settings.Network, _network, ("diffusers", "UNet2DConditionModel"));
        LdmNetworks.WriteSchedule(modelFolder, "scheduler", _settings.Schedule);
        ModelParts.WriteConfig(modelFolder, "synapse", "config.json", _settings.Synapse);
        using var noGrad = no_grad();
        Safetensors.Write(Path.Combine(modelFolder, "synapse", "model.safetensors"), _synapse.state_dict());
        ModelParts.ChangeDefaults(modelFolder, defaults => defaults with
        {
            InversionSteps = _settings.InversionSteps, KeyValueSource = _settings.KeyValueSource,
        });
    }

    public void Dispose()
    {
        _network.Dispose();
        _synapse.Dispose();
        _imageNetwork.Dispose();
        _nullText.Dispose();
        _vae.Dispose();
        _train.Dispose();
        _validation.Dispose();
        _texts.Dispose();
    }

    private MusicSample Draw(long step, int sample)
    {
        int row = StepRandom.Item(_config.Seed, step * _config.Batch + sample, _train.Count);
        using var generator = StepRandom.Generator(_config.Seed, step, sample);
        var choices = StepRandom.Choices(_config.Seed, step, sample);
        var (dropText, dropPicture) = Dropout(choices.NextDouble());
        string caption = _train.Rows[row].Captions[choices.Next(_train.Rows[row].Captions.Count)];
        string picture = _train.Rows[row].Images[choices.Next(_train.Rows[row].Images.Count)];
        long t = choices.NextInt64(_schedule.Length);
        return new(
            _train.Latents.Draw(row, generator), randn(_train.Latents.Shape, generator: generator), t,
            dropText ? string.Empty : caption, dropPicture ? null : _train.Trajectories.At(picture, t));
    }

    private (bool Text, bool Picture) Dropout(double u) =>
        u < _settings.BothDropout ? (true, true)
        : u < _settings.BothDropout + _settings.TextDropout ? (true, false)
        : (false, u < _settings.BothDropout + _settings.TextDropout + _settings.PictureDropout);

    /// <summary>Start from another model's alphas, or from statistics of the data where keys and values are standardised.</summary>
    private void Prepare()
    {
        if (_config.StartFrom is { } model)
        {
            using var file = Safetensors.Open(Path.Combine(model, "synapse", "model.safetensors"));
            _synapse.LoadFrom(file);
        }
        else if (_settings.Synapse.KeyValueNormalisation == KeyValueNormalisation.Standardise)
        {
            _objective.Standardise(Enumerable.Range(0, StatisticsSamples).Select(sample => Draw(long.MaxValue >> 24, sample)).Where(sample => sample.Picture is not null), _texts);
        }
    }

    /// <summary>A few mels by DDIM without guidance, from text and picture of validation clips, drawn under the clip's own.</summary>
    private void Sample(WorkerPool pool, long step, RunFolder folder)
    {
        int count = Math.Min(_settings.Samples, _validation.Count);
        var strips = new float[2 * count][,];
        pool.Share(count, i =>
        {
            using var scope = NewDisposeScope();
            using var noGrad = no_grad();
            int row = (int)((long)i * _validation.Count / count);
            using var generator = StepRandom.Generator(0, -4, i);
            var z = LdmNetworks.Sample(
                _schedule, SamplingSteps, randn([1, .. _validation.Latents.Shape], generator: generator),
                (latent, t) => _objective.Predict(latent, t, [_validation.Rows[row].Captions[0]], [_validation.Trajectories.At(_validation.Rows[row].Images[0], t.item<long>())], _texts));
            strips[2 * i] = Decode(_validation.Latents.Mean(row).unsqueeze(0));
            strips[2 * i + 1] = Decode(z);
        });
        Planes.Draw(Path.Combine(folder.Samples, $"mel-{step:D6}.png"), strips);
    }

    private float[,] Decode(Tensor latent) => Planes.ToArray(_vae.Decode(latent / _vae.Config.ScalingFactor)[0, 0]);
}
