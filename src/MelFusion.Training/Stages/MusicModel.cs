using MelFusion.Inversion;
using MelFusion.Noise;
using MelFusion.Synapse;
using MelFusion.Training.Data;
using MelFusion.UNet;
using MelFusion.Vae;
using MelFusion.Weights;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Training.Stages;

/// <summary>All that the music's objective needs: the frozen parts of the model folder, what is trained, and the data of some splits.</summary>
internal sealed class MusicModel : IDisposable
{
    private const string TrainingSplit = "train";
    private const int StatisticsSamples = 256, StatisticsSamplesOfLevel = 96;

    private readonly ConditionalUNet _imageNetwork;
    private readonly Tensor _nullText;
    private readonly Dictionary<string, MusicData> _data;
    private readonly KeyValueSource _source;
    private readonly string _folder;

    /// <summary>Loads the parts, encodes the splits' clips and texts and inverts their pictures where the caches have them not.</summary>
    public MusicModel(StageContext context, MusicLdmConfig settings, params string[] splits)
    {
        var config = context.Config;
        (Schedule, Vae, _source, _folder) = (new(settings.Schedule), context.Autoencoder("vae"), settings.KeyValueSource, config.Model);
        var imageConfig = ModelParts.ReadConfig<UNetConfig>(config.Model, "image_unet");
        VisualSynapse.RequireMatch(settings.Synapse, imageConfig, settings.Network);
        _imageNetwork = ModelParts.LoadFrozen(config.Model, "image_unet", new ConditionalUNet(imageConfig, new(CPU, config.Dtype)));
        _nullText = ModelParts.ReadTensor(config.Model, "image_null_text", "states");
        var imageSchedule = new NoiseSchedule(ModelParts.ReadConfig<NoiseScheduleConfig>(config.Model, "image_scheduler", "scheduler_config.json"));
        using (var picture = new PictureNetwork(_imageNetwork, imageSchedule, _nullText, new(CPU, config.Dtype)))
        {
            _data = splits.ToDictionary(split => split, split => MusicData.Load(split, context, settings, Vae, picture, split == TrainingSplit ? settings.PictureViews : 1));
        }

        Texts = TextEncoders.Encode(
            settings.TextModel ?? config.Model, Path.Combine(context.Cache, $"text-music-{string.Join('-', splits)}.safetensors"),
            _data.Values.SelectMany(data => data.Rows).SelectMany(row => row.CaptionsOf(settings.Captions).Prepend(row.Captions[0])), (done, all) => context.Report("reading captions", done, all));
        Network = LdmNetworks.Create(settings.Network, config.Seed, config.StartFrom, "unet");
        Synapse = new(WithLevels(settings, imageSchedule), settings.Network, Placement.Cpu);
        Objective = new(Network, Synapse, _imageNetwork, _nullText, new(Schedule, settings.Weighting, settings.SnrGamma), config.Dtype);
    }

    /// <summary>eps_theta.</summary>
    public ConditionalUNet Network { get; }

    /// <summary>The alphas.</summary>
    public VisualSynapse Synapse { get; }

    /// <summary>The music's noise schedule.</summary>
    public NoiseSchedule Schedule { get; }

    /// <summary>The mel autoencoder.</summary>
    public AutoencoderKl Vae { get; }

    /// <summary>The captions' states.</summary>
    public TextSet Texts { get; }

    /// <summary>Algorithm 1's loss.</summary>
    public MusicObjective Objective { get; }

    /// <summary>A split's data.</summary>
    public MusicData this[string split] => _data[split];

    /// <summary>Another model's alphas, or statistics of the data where keys and values are standardised.</summary>
    /// <param name="startFrom">The other model; null: none.</param>
    /// <param name="draw">Sample i as training would draw it, at that timestep (null: at its own).</param>
    /// <remarks>
    /// Where the other model standardises otherwise, or takes its keys and values from other latents or another picture's UNet, its alphas are taken and the
    /// statistics are of the data.
    /// </remarks>
    public void PrepareSynapse(string? startFrom, Func<int, long?, MusicSample> draw)
    {
        var config = Synapse.Config;
        var other = startFrom is not null && ModelFolder.OpenParts(startFrom).TakesPictures ? ModelParts.ReadConfig<SynapseConfig>(startFrom, "synapse") : null;
        if (other is not null && other.KeyValueNormalisation == config.KeyValueNormalisation && other.NoiseLevels.SequenceEqual(config.NoiseLevels)
            && ModelParts.ReadDefaults(startFrom!).KeyValueSource is var source && (source == _source || source == KeyValueSource.Replay)
            && ModelParts.HaveSame("image_unet", startFrom!, _folder))
        {
            ModelFolder.OpenParts(startFrom!, "synapse").Load("synapse", Synapse);
            return;
        }

        if (other is not null)
        {
            TakeAlphas(startFrom!, other);
        }

        if (config.KeyValueNormalisation != KeyValueNormalisation.None)
        {
            IEnumerable<long?> levels = config.NoiseLevels.Count == 0 ? [null] : config.NoiseLevels.Select(level => (long?)level);
            int count = config.NoiseLevels.Count == 0 ? StatisticsSamples : StatisticsSamplesOfLevel;
            Objective.Standardise(levels.Select(level => Enumerable.Range(0, count).Select(i => draw(i, level)).Where(sample => sample.Picture is not null)), Texts);
        }
    }

    /// <summary>The noise levels at which training sees pictures, where each is to have its own statistics.</summary>
    private static SynapseConfig WithLevels(MusicLdmConfig settings, NoiseSchedule picture) =>
        settings.Synapse.GoesByLevel && settings.Synapse.NoiseLevels.Count == 0
            ? settings.Synapse with { NoiseLevels = DdimInverter.Timesteps(picture, settings.InversionSteps, settings.InversionDepth) }
            : settings.Synapse;

    private void TakeAlphas(string startFrom, SynapseConfig config)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var other = new VisualSynapse(config, Network.Config, Placement.Cpu);
        ModelFolder.OpenParts(startFrom, "synapse").Load("synapse", other);
        var alphas = other.named_parameters().ToDictionary(entry => entry.name, entry => entry.parameter);
        foreach (var (name, parameter) in Synapse.named_parameters())
        {
            var alpha = alphas.GetValueOrDefault(name)
                ?? throw new MelFusionException($"The synapse of {startFrom} has other alphas than the config's (where, alpha): start from another model, or from none.");
            parameter.copy_(alpha);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Network.Dispose();
        Synapse.Dispose();
        _imageNetwork.Dispose();
        _nullText.Dispose();
        Vae.Dispose();
        Texts.Dispose();
        foreach (var data in _data.Values)
        {
            data.Dispose();
        }
    }
}
