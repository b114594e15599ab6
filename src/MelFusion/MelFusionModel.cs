using MelFusion.Inversion;
using MelFusion.Noise;
using MelFusion.Synapse;
using MelFusion.Text;
using MelFusion.UNet;
using MelFusion.Vae;
using MelFusion.Vocoder;
using MelFusion.Wave;
using MelFusion.Weights;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion;

/// <summary>
/// A model folder in memory. Both UNets lie in the precision asked for, everything else in 32-bit floats. What only a picture needs is
/// loaded when the first picture comes.
/// </summary>
public sealed class MelFusionModel : IDisposable
{
    private readonly Lazy<PictureModel> _picture;
    private readonly Lazy<string> _hash;

    private MelFusionModel(ModelFolder folder, Placement place)
    {
        (Folder, Place) = (folder, place);
        _picture = new(() => new PictureModel(folder, place, UNet!.Config));
        _hash = new(folder.ComputeHash);
    }

    /// <summary>Where it came from, with its defaults.</summary>
    public ModelFolder Folder { get; }

    /// <summary>Device of everything, and precision of both UNets.</summary>
    public Placement Place { get; }

    /// <summary>SHA-256 over the model folder's parts, in lower-case hex.</summary>
    public string WeightsSha256 => _hash.Value;

    /// <summary>T_M: from texts to a vector per token.</summary>
    public required ITextEncoder Text { get; init; }

    /// <summary>eps_theta: the music's UNet.</summary>
    public required ConditionalUNet UNet { get; init; }

    /// <summary>The music's noise schedule.</summary>
    public required NoiseSchedule Schedule { get; init; }

    /// <summary>E_M and D_M: between mels and latents.</summary>
    public required AutoencoderKl Vae { get; init; }

    /// <summary>The mel front end.</summary>
    public required MelSpectrogram Mel { get; init; }

    /// <summary>From mels to a waveform.</summary>
    public required IVocoder Vocoder { get; init; }

    /// <summary>What only a picture needs.</summary>
    /// <exception cref="MelFusionException">Its weights cannot be used.</exception>
    public PictureModel Picture => _picture.Value;

    /// <summary>Mel frames in one cell of the coarsest level: a clip's length is a multiple of it.</summary>
    public int FramesPerCell => Vae.Config.Factor << (UNet.Config.Levels - 1);

    /// <summary>Loads a model.</summary>
    /// <param name="folder">The folder.</param>
    /// <param name="device">Where to; null: processor memory.</param>
    /// <param name="precision">Precision of the UNets.</param>
    /// <exception cref="MelFusionException">A file is missing or does not fit the others.</exception>
    public static MelFusionModel Load(ModelFolder folder, Device? device = null, Precision precision = Precision.Auto)
    {
        using var loaded = new Loaded();
        var place = Processor.Place(device ?? CPU, precision);
        var exact = place.InFloat32;
        var model = new MelFusionModel(folder, place)
        {
            Text = loaded.Add(TextEncoder.Open(folder, exact).PackForInference()),
            UNet = loaded.Add(folder.Load("unet", new ConditionalUNet(folder.Config<UNetConfig>("unet"), place)).PackForInference()),
            Schedule = new(folder.Config<NoiseScheduleConfig>("scheduler")),
            Vae = loaded.Add(folder.Load("vae", new AutoencoderKl(AutoencoderKlConfig.Read(folder.FileOf("vae", "config.json")), exact)).PackForInference()),
            Mel = loaded.Add(new MelSpectrogram(folder.Config<MelConfig>("mel"), place.Device)),
            Vocoder = loaded.Add(OpenVocoder(folder, exact)),
        };
        model.RequireFit();
        loaded.Keep();
        return model;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Text.Dispose();
        UNet.Dispose();
        Vae.Dispose();
        Mel.Dispose();
        Vocoder.Dispose();
        if (_picture.IsValueCreated)
        {
            _picture.Value.Dispose();
        }
    }

    private static IVocoder OpenVocoder(ModelFolder folder, Placement place) =>
        folder.Config<KindOfVocoder>("vocoder").Architecture switch
        {
            "hifigan" => folder.Load("vocoder", new HifiGan(folder.Config<HifiGanConfig>("vocoder"), place)).PackForInference(),
            "vocos" => folder.Load("vocoder", new Vocos(folder.Config<VocosConfig>("vocoder"), place)),
            var kind => throw new MelFusionException($"{folder.FileOf("vocoder", "config.json")}: vocoders of the kind '{kind}' are not known; hifigan and vocos are."),
        };

    private void RequireFit()
    {
        string? wrong =
            UNet.Config.InChannels != Vae.Config.LatentChannels ? $"unet takes {UNet.Config.InChannels} channels and vae gives {Vae.Config.LatentChannels}"
            : UNet.Config.CrossAttentionDim != Text.Width ? $"unet reads text of width {UNet.Config.CrossAttentionDim} and text_encoder gives {Text.Width}"
            : Mel.Config.NMels % Vae.Config.Factor != 0 ? $"mel has {Mel.Config.NMels} bands, which vae cannot divide by {Vae.Config.Factor}"
            : Folder.Defaults.MelFrames % Vae.Config.Factor != 0 ? $"mel_frames is {Folder.Defaults.MelFrames}, which vae cannot divide by {Vae.Config.Factor}"
            : null;
        if (wrong is not null)
        {
            throw new MelFusionException($"{Folder.Path}: the parts do not belong together: {wrong}.");
        }
    }

    private sealed record KindOfVocoder
    {
        public string Architecture { get; init; } = "hifigan";
    }

    /// <summary>Parts loaded so far, to be freed where a later one fails.</summary>
    private sealed class Loaded : IDisposable
    {
        private readonly List<IDisposable> _parts = [];

        public T Add<T>(T part) where T : IDisposable
        {
            _parts.Add(part);
            return part;
        }

        public void Keep() => _parts.Clear();

        public void Dispose() => _parts.ForEach(part => part.Dispose());
    }
}

/// <summary>The parts of a model that only a picture needs.</summary>
public sealed class PictureModel : IDisposable
{
    private readonly ConditionalUNet _unet;
    private readonly Tensor _nullText; // (1, s, c)

    internal PictureModel(ModelFolder folder, Placement place, UNetConfig music)
    {
        var config = folder.Config<UNetConfig>("image_unet");
        var synapse = folder.Config<SynapseConfig>("synapse");
        VisualSynapse.RequireMatch(synapse, config, music);
        using var scope = NewDisposeScope();
        Synapse = folder.Load("synapse", new VisualSynapse(synapse, music, place.InFloat32));
        Vae = folder.Load("image_vae", new AutoencoderKl(AutoencoderKlConfig.Read(folder.FileOf("image_vae", "config.json")), place.InFloat32)).PackForInference();
        _unet = folder.Load("image_unet", new ConditionalUNet(config, place)).PackForInference();
        _nullText = ReadNullText(folder, config, place.Device);
        Network = new(_unet, new(folder.Config<NoiseScheduleConfig>("image_scheduler")), _nullText, place);
    }

    /// <summary>E_I: from pictures to latents.</summary>
    public AutoencoderKl Vae { get; }

    /// <summary>eps_psi under the null text.</summary>
    public PictureNetwork Network { get; }

    /// <summary>Where picture and music meet.</summary>
    public VisualSynapse Synapse { get; }

    /// <inheritdoc/>
    public void Dispose()
    {
        Network.Dispose();
        _nullText.Dispose();
        _unet.Dispose();
        Vae.Dispose();
        Synapse.Dispose();
    }

    // image_null_text holds what the picture model's text encoder says to "", so that the encoder itself need not be there.
    private static Tensor ReadNullText(ModelFolder folder, UNetConfig config, Device device)
    {
        using var file = folder.Weights("image_null_text");
        var states = file.Read("states", ScalarType.Float32);
        return states.dim() == 3 && states.shape[0] == 1 && states.shape[1] > 0 && states.shape[2] == config.CrossAttentionDim
            ? states.to(device).DetachFromDisposeScope()
            : throw new MelFusionException($"{file.Path}: 'states' must have the shape (1, tokens, {config.CrossAttentionDim}), as image_unet reads it.");
    }
}
