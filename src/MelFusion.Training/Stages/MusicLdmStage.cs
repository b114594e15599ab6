using MelFusion.Synapse;
using MelFusion.Training.Data;
using MelFusion.Training.Engine;
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
    private const int SamplingSteps = 25;

    // Steps that no run reaches: chance for what is measured before the first step.
    private const long BeforeTraining = 1L << 40;

    private readonly TrainingConfig _config;
    private readonly MusicLdmConfig _settings;
    private readonly StageContext _context;
    private readonly MusicModel _model;
    private readonly MusicData _train, _validation;

    public MusicLdmStage(TrainingConfig config, StageContext context)
    {
        (_config, _settings, _context) = (config, config.MusicLdm, context);
        RequireWholeCells();
        RequireDeviations();
        _model = new(context, _settings, "train", "validation");
        (_train, _validation) = (_model["train"], _model["validation"]);
        _model.PrepareSynapse(config.StartFrom, (sample, timestep) => Draw(BeforeTraining, sample, timestep));
    }

    public IReadOnlyList<ParameterGroup> Groups =>
    [
        ParameterGroup.Of(_model.Synapse, _settings.AlphaLearningRate, 0, "synapse."),
        ParameterGroup.Of(_model.Network, _config.Optimiser.LearningRate, _config.Optimiser.WeightDecay),
    ];

    public StepLoss Loss(long step, int first, int count)
    {
        MusicSample[] samples = [.. Enumerable.Range(first, count).Select(sample => Draw(step, sample))];
        return new(_model.Objective.PerSample(samples, _model.Texts).mean());
    }

    public IReadOnlyList<(string Name, double Value)> Watched() => [.. _model.Synapse.Alphas().Select(alpha => (alpha.Key, alpha.Value))];

    public IReadOnlyList<(string Name, double Value)> Validate(WorkerPool pool, long step, RunFolder folder)
    {
        int clips = step >= _config.Steps ? _settings.FinalValidationClips : _settings.ValidationClips;
        var comparison = ConditionMeasurement.Measure(_validation, _model, _settings.ValidationTimesteps, clips, strangers: 1, _context);
        comparison.Write(folder.File("conditions.json"), folder.File("conditions.csv"));
        Sample(pool, step, folder);
        return comparison.Figures;
    }

    public void Export(string modelFolder, WorkerPool pool)
    {
        ModelParts.Write(modelFolder, "unet", _settings.Network, _model.Network, ("diffusers", "UNet2DConditionModel"));
        LdmNetworks.WriteSchedule(modelFolder, "scheduler", _settings.Schedule);
        ModelParts.WriteConfig(modelFolder, "synapse", "config.json", _model.Synapse.Config);
        using var noGrad = no_grad();
        Safetensors.Write(Path.Combine(modelFolder, "synapse", "model.safetensors"), _model.Synapse.state_dict());
        ModelParts.ChangeDefaults(modelFolder, defaults => defaults with
        {
            InversionSteps = _settings.InversionSteps,
            InversionDepth = _settings.InversionDepth,
            KeyValueSource = _settings.KeyValueSource,
        });
    }

    public void Dispose() => _model.Dispose();

    private MusicSample Draw(long step, int sample, long? timestep = null)
    {
        int row = StepRandom.Item(_config.Seed, step * _config.Batch + sample, _train.Count);
        using var generator = StepRandom.Generator(_config.Seed, step, sample);
        var choices = StepRandom.Choices(_config.Seed, step, sample);
        var (dropText, dropPicture) = Dropout(choices.NextDouble());
        var captions = _train.Captions(row);
        string caption = captions[choices.Next(captions.Count)];
        string picture = _train.Rows[row].Images[choices.Next(_train.Rows[row].Images.Count)];
        long drawn = StepRandom.Timestep(choices, _model.Schedule.Length, _settings.TimestepPower), t = timestep ?? drawn;
        var clean = Crop(_train.Latents.Draw(row, generator), choices);
        int view = choices.Next(_settings.PictureViews);
        if (_settings.SameGamePictures > 0 && choices.NextDouble() < _settings.SameGamePictures)
        {
            var kindred = _train.OfSameGame(row);
            picture = kindred[choices.Next(kindred.Count)];
        }

        long together = _config.Batch / _config.Parts;
        bool exchange = _settings.ExchangedDetails > 0 && choices.NextDouble() < _settings.ExchangedDetails;

        return new(
            clean, randn(clean.shape, generator: generator), t,
            dropText ? string.Empty : caption, dropPicture ? null : _train.Trajectories.At(picture, t, view),
            _settings.PictureNoise > 0 ? _settings.PictureNoise * randn(_model.Synapse.NoiseWidth, generator: generator) : null,
            _settings.PictureBlend > 0 ? _settings.PictureBlend / Math.Sqrt(Math.Max(1, together - 1)) * randn(together, generator: generator) : null,
            exchange);
    }

    private void RequireWholeCells()
    {
        int cell = 1 << (_settings.Network.Levels - 1);
        if (_settings.CropFrames is { } frames && (frames < cell || frames % cell != 0))
        {
            throw new MelFusionException($"music_ldm.crop_frames is {frames} and must be a multiple of {cell}, as the network halves it {_settings.Network.Levels - 1} times.");
        }
    }

    private void RequireDeviations()
    {
        if (_settings.PictureNoise + _settings.PictureBlend > 0 && _settings.Synapse.KeyValueNormalisation == KeyValueNormalisation.None)
        {
            throw new MelFusionException("music_ldm.picture_noise and picture_blend count in deviations of the pictures' statistics: set synapse.key_value_normalisation to other than none, or both to 0.");
        }

        if (_settings.ExchangedDetails > 0 && _settings.Synapse.KeyValueNormalisation != KeyValueNormalisation.StandardiseByPart)
        {
            throw new MelFusionException("music_ldm.exchanged_details tells details from means: set synapse.key_value_normalisation to standardise_by_part, or exchanged_details to 0.");
        }
    }

    /// <summary>A stretch of a clip's latent (C, time, mel).</summary>
    private Tensor Crop(Tensor latent, Random choices) =>
        _settings.CropFrames is { } frames && frames < latent.shape[1] ? latent.narrow(1, choices.NextInt64(latent.shape[1] - frames + 1), frames) : latent;

    private (bool Text, bool Picture) Dropout(double u) =>
        u < _settings.BothDropout ? (true, true)
        : u < _settings.BothDropout + _settings.TextDropout ? (true, false)
        : (false, u < _settings.BothDropout + _settings.TextDropout + _settings.PictureDropout);

    /// <summary>A few mels by DDIM without guidance, from text and picture of validation clips, drawn under the clip's own.</summary>
    private void Sample(WorkerPool pool, long step, RunFolder folder)
    {
        int count = Math.Min(_settings.Samples, _validation.Count);
        var strips = new float[2 * count][,];
        pool.Share(count, i =>
        {
            using var scope = NewDisposeScope();
            using var noGrad = no_grad();
            int row = Evenly.Place(i, count, _validation.Count);
            using var generator = StepRandom.Generator(0, -4, i);
            var z = LdmNetworks.Sample(
                _model.Schedule, SamplingSteps, randn([1, .. _validation.Latents.Shape], generator: generator),
                (latent, t) => _model.Objective.Predict(latent, t, [_validation.Captions(row)[0]], [_validation.Trajectories.At(_validation.Rows[row].Images[0], t.item<long>())], _model.Texts));
            strips[2 * i] = Decode(_validation.Latents.Mean(row).unsqueeze(0));
            strips[2 * i + 1] = Decode(z);
        });
        Planes.Draw(Path.Combine(folder.Samples, $"mel-{step:D6}.png"), strips);
    }

    private float[,] Decode(Tensor latent) => Planes.ToArray(_model.Vae.Decode(latent / _model.Vae.Config.ScalingFactor)[0, 0]);
}
