using System.Text;
using System.Text.Json;
using MelFusion.Noise;
using MelFusion.Synapse;
using MelFusion.Text;
using MelFusion.UNet;
using MelFusion.Vae;
using MelFusion.Vocoder;
using MelFusion.Wave;
using MelFusion.Weights.Hub;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Weights.Assembly;

/// <summary>
/// Puts the paper's ingredients together: Stable Diffusion sees the picture, TANGO makes the music, a synapse with alphas as at the
/// beginning of training joins them. Every part is checked against its network before the folder gets its name.
/// </summary>
public sealed class ModelAssembler
{
    private static readonly string[] Terms = ["LICENSE", "LICENSE.md", "LICENSE.txt", "LICENSE-WEIGHTS", "README.md"];
    private static readonly string[] TokenizerFiles = ["spiece.model", "tokenizer_config.json", "special_tokens_map.json"];
    private static readonly string[] AudioFolders = ["vae", "vocoder", "mel"];

    private readonly AssemblyRequest _request;
    private readonly HubCache _cache;
    private readonly Action<string> _say;
    private readonly List<string> _remarks = [];
    private readonly List<PartLicence> _licences = [];
    private readonly string _folder; // under its preliminary name

    private ModelAssembler(AssemblyRequest request, HubCache cache, Action<string>? say)
    {
        (_request, _cache, _say) = (request, cache, say ?? (_ => { }));
        _folder = Path.GetFullPath(request.Output).TrimEnd(Path.DirectorySeparatorChar) + ".part";
    }

    /// <summary>Makes the model folder.</summary>
    /// <param name="request">Of what.</param>
    /// <param name="cache">Where repositories of the hub lie.</param>
    /// <param name="say">Told what is being done.</param>
    /// <param name="cancellation">Looked at between parts; nothing is left behind.</param>
    /// <exception cref="MelFusionException">An ingredient is missing or does not fit.</exception>
    public static AssemblyReport Assemble(AssemblyRequest request, HubCache cache, Action<string>? say = null, CancellationToken cancellation = default)
    {
        string output = Path.GetFullPath(request.Output);
        if (Path.Exists(output) && !request.Overwrite)
        {
            throw new MelFusionException($"{request.Output} exists already; add --overwrite to replace it, or choose another --output.");
        }

        var assembler = new ModelAssembler(request, cache, say);
        try
        {
            assembler.Run(cancellation);
            if (Directory.Exists(output))
            {
                Directory.Delete(output, true);
            }

            Directory.Move(assembler._folder, output);
            return new(ModelFolder.Open(request.Output), assembler._remarks);
        }
        finally
        {
            if (Directory.Exists(assembler._folder))
            {
                Directory.Delete(assembler._folder, true);
            }
        }
    }

    private void Run(CancellationToken cancellation)
    {
        var (image, music) = (SourceFolder.Locate(_request.Image, _cache), SourceFolder.Locate(_request.Music, _cache));
        if (Directory.Exists(_folder))
        {
            Directory.Delete(_folder, true); // left by a run that was killed
        }

        Directory.CreateDirectory(_folder);
        var tango = TangoFolder.Open(music, _request, _cache);
        Action[] parts =
        [
            () => PictureVae(image), () => PictureUNet(image), () => NullText(image), () => MusicUNet(tango), () => TextEncoder(tango),
            () => AudioVae(tango), () => Synapse(tango), Describe,
        ];
        foreach (var part in parts)
        {
            cancellation.ThrowIfCancellationRequested();
            part();
        }
    }

    private void PictureVae(SourceFolder image)
    {
        _say("The picture's autoencoder");
        var config = AutoencoderKlConfig.Read(image.Require("vae/config.json"));
        Keep(image, "image_vae", "vae/config.json");
        Link("image_vae", image.Weights("vae"), "diffusion_pytorch_model", new AutoencoderKl(config, Placement.Meta));
        int step = config.Factor << 3;
        if (_request.PictureSize.Width % step != 0 || _request.PictureSize.Height % step != 0)
        {
            _remarks.Add($"Pictures of {_request.PictureSize} are no multiple of {step}, for which the image networks were made.");
        }
    }

    private void PictureUNet(SourceFolder image)
    {
        _say("The picture's UNet");
        Keep(image, "image_unet", "unet/config.json");
        Link("image_unet", image.Weights("unet"), "diffusion_pytorch_model", new ConditionalUNet(ConfigFile.Read<UNetConfig>(image.Require("unet/config.json")), Placement.Meta));
        WriteScheduler("image_scheduler", ConfigFile.Read<NoiseScheduleConfig>(image.Require("scheduler/scheduler_config.json")), "DDIMScheduler");
        _licences.Add(PartLicence.Of("image_scheduler", image));
    }

    /// <summary>What Stable Diffusion's text encoder says to "" is kept, so that the encoder itself is not needed any more.</summary>
    private void NullText(SourceFolder image)
    {
        _say("The states of the null text");
        using var scope = NewDisposeScope();
        using var encoder = MelFusion.Text.TextEncoder.Open(ModelFolder.OpenParts(image.Path, "text_encoder", "tokenizer"), Placement.Cpu);
        using var states = encoder.Encode([string.Empty]);
        int width = ConfigFile.Read<UNetConfig>(image.Require("unet/config.json")).CrossAttentionDim;
        if (states.States.shape[2] != width)
        {
            throw new MelFusionException($"{image.Path}: text_encoder gives states of width {states.States.shape[2]} and unet reads {width}; they are of different releases.");
        }

        string part = NewPart("image_null_text");
        Safetensors.Write(Path.Combine(part, "model.safetensors"), new Dictionary<string, Tensor> { ["states"] = states.States });
        File.WriteAllText(Path.Combine(part, "config.json"), $"{{\n  \"text\": \"\",\n  \"tokens\": {states.States.shape[1]},\n  \"width\": {states.States.shape[2]}\n}}\n");
        _licences.Add(PartLicence.Of("image_null_text", image));
    }

    private void MusicUNet(TangoFolder tango)
    {
        _say("The music's UNet");
        ConfigFile.Write(Path.Combine(NewPart("unet"), "config.json"), tango.UNet);
        using var file = KeyRenames.ForMusicUNet(WeightsFile.Open(tango.MainFile));
        Convert("unet", "diffusion_pytorch_model", new ConditionalUNet(tango.UNet, Placement.Meta), file);
        WriteScheduler("scheduler", tango.Scheduler, "DDPMScheduler");
        _licences.Add(PartLicence.Of("unet", tango.Source));
        _licences.Add(PartLicence.Of("scheduler", tango.Source));
        KeepTerms(tango.Source, "unet");
    }

    private void TextEncoder(TangoFolder tango)
    {
        _say("The text encoder");
        string part = NewPart("text_encoder"), tokenizer = NewPart("tokenizer");
        ConfigFile.Write(Path.Combine(part, "config.json"), tango.TextEncoder);
        using (var main = WeightsFile.Open(tango.MainFile))
        {
            bool isInside = main.Tensors.Any(entry => entry.Key.StartsWith("text_encoder.", StringComparison.Ordinal));
            using var own = isInside ? null : WeightsFile.Open(tango.Text.Weights(tango.TextPart));
            Convert("text_encoder", "model", new T5Encoder(tango.TextEncoder, Placement.Meta), isInside ? KeyRenames.StripPrefix(main, "text_encoder.") : own!);
            _licences.Add(PartLicence.Of("text_encoder", isInside ? tango.Source : tango.Text));
        }

        foreach (string name in TokenizerFiles)
        {
            if (tango.TextFile(name) is { } file)
            {
                File.Copy(file, Path.Combine(tokenizer, name));
            }
        }

        _licences.Add(PartLicence.Of("tokenizer", tango.Text));
        KeepTerms(tango.Text, "tokenizer");
    }

    private void AudioVae(TangoFolder tango)
    {
        _say("The mel autoencoder and the vocoder");
        var audio = _request.Vae is null ? AudioParts.OfTango(tango) : AudioParts.OfAudioLdm(_request.Vae, _cache, tango.Mel);
        ConfigFile.Write(Path.Combine(NewPart("vae"), "config.json"), audio.Vae);
        ConfigFile.Write(Path.Combine(NewPart("vocoder"), "config.json"), audio.Vocoder);
        using (var file = WeightsFile.Open(audio.VaeFile))
        {
            Convert("vae", "diffusion_pytorch_model", new AutoencoderKl(audio.Vae, Placement.Meta), file);
        }

        using (var file = WeightsFile.Open(audio.VocoderFile))
        {
            Convert("vocoder", "model", new HifiGan(audio.Vocoder, Placement.Meta), audio.IsOriginal ? KeyRenames.StripPrefix(KeyRenames.StripPrefix(file, "first_stage_model."), "vocoder.") : file);
        }

        ConfigFile.Write(Path.Combine(NewPart("mel"), "config.json"), tango.Mel);
        _licences.AddRange(AudioFolders.Select(part => PartLicence.Of(part, part == "mel" ? tango.Source : audio.Source)));
        KeepTerms(audio.Source, "vae");
        _remarks.Add(FormattableString.Invariant($"Mel latents are multiplied by {audio.Vae.ScalingFactor}, the scale of {audio.Source.Name}; another release has another one."));
    }

    private void Synapse(TangoFolder tango)
    {
        _say("The synapse");
        var image = ConfigFile.Read<UNetConfig>(Path.Combine(_folder, "image_unet", "config.json"));
        string? file = _request.Synapse is { } named && File.Exists(named) ? named
            : _request.Synapse is null ? null
            : throw new MelFusionException($"{_request.Synapse}: there is no such file of alphas; leave --synapse out to begin as training does.");
        string part = NewPart("synapse");
        var config = SynapseAlphas.ConfigOf(file ?? tango.MainFile);
        VisualSynapse.RequireMatch(config, image, tango.UNet);
        var synapse = new VisualSynapse(config, tango.UNet, Placement.Cpu);
        SynapseAlphas.Load(synapse, file ?? tango.MainFile);
        ConfigFile.Write(Path.Combine(part, "config.json"), config);
        Safetensors.Write(Path.Combine(part, "model.safetensors"), synapse.state_dict());
        Remark(image, tango.UNet, SynapseAlphas.AreIn(file ?? tango.MainFile));
    }

    private void Remark(UNetConfig image, UNetConfig music, bool hasAlphas)
    {
        var heads = music.DecoderLayers.Join(image.DecoderLayers, layer => layer.Name, layer => layer.Name, (m, i) => (m.Name, Music: m.Heads, Image: i.Heads)).ToList();
        if (heads.FirstOrDefault(layer => layer.Music != layer.Image) is { Name: not null } differs)
        {
            _remarks.Add(
                $"The picture's UNet splits its channels into other heads than the music's ({differs.Image} and {differs.Music} in {differs.Name}): "
                + "its keys and values are blended channel by channel all the same, and the music's heads then see channels of several of its heads. Stable Diffusion 2.1 agrees head by head.");
        }

        if (!hasAlphas)
        {
            _remarks.Add(FormattableString.Invariant($"The alphas are as training starts ({new SynapseConfig().InitialAlpha}); train them before you judge the pictures' influence."));
        }
    }

    private void Describe()
    {
        var defaults = new ModelDefaults
        {
            Name = Path.GetFileName(Path.GetFullPath(_request.Output)),
            Licence = string.Join("; ", _licences.GroupBy(part => part.Licence).Select(group => $"{group.Key} ({string.Join(", ", group.Select(part => part.Source).Distinct())})")),
            Sampler = SamplerKind.Ddpm, // what TANGO samples with
            Steps = 200,
            Guidance = 3,
            ImageGuidance = ImageGuidance.Both,
            KeyValueSource = KeyValueSource.Replay,
            Refine = 0,
            MelFrames = 1024,
            PictureWidth = _request.PictureSize.Width,
            PictureHeight = _request.PictureSize.Height,
        };
        defaults.Validate("melfusion.json");
        ConfigFile.Write(Path.Combine(_folder, "melfusion.json"), defaults);
        ConfigFile.Write(Path.Combine(_folder, PartLicence.FileName), new LicenceList { Parts = _licences });
        File.WriteAllText(Path.Combine(_folder, "README.md"), Card());
        var index = new Dictionary<string, object> { ["_class_name"] = "MelFusion" };
        foreach (string part in ModelFolder.MusicParts.Concat(ModelFolder.PictureParts))
        {
            index[part] = new[] { LibraryOf(part), ClassOf(part) };
        }

        File.WriteAllText(Path.Combine(_folder, "model_index.json"), JsonSerializer.Serialize(index, IndentedJson) + "\n");
    }

    private static readonly JsonSerializerOptions IndentedJson = new() { WriteIndented = true };

    private static string LibraryOf(string part) => part switch
    {
        "text_encoder" or "tokenizer" or "vocoder" => "transformers",
        "mel" or "synapse" or "image_null_text" => "melfusion",
        _ => "diffusers",
    };

    private static string ClassOf(string part) => part switch
    {
        "unet" or "image_unet" => "UNet2DConditionModel",
        "vae" or "image_vae" => "AutoencoderKL",
        "scheduler" => "DDPMScheduler",
        "image_scheduler" => "DDIMScheduler",
        "text_encoder" => "T5EncoderModel",
        "tokenizer" => "T5Tokenizer",
        "vocoder" => "SpeechT5HifiGan",
        "mel" => "MelSpectrogram",
        "synapse" => "VisualSynapse",
        _ => "NullText",
    };

    private string Card()
    {
        var card = new StringBuilder($"# {Path.GetFileName(Path.GetFullPath(_request.Output))}\n\nPut together by `melfusion models assemble`. Each part keeps its own licence:\n\n| part | from | licence | commercial use |\n|---|---|---|---|\n");
        foreach (var part in _licences)
        {
            card.Append(System.Globalization.CultureInfo.InvariantCulture, $"| {part.Part} | {part.Source} | {part.Licence} | {part.Commercial.ToString().ToLowerInvariant()} |\n");
        }

        return _remarks.Aggregate(card.Append('\n'), (text, remark) => text.Append("- ").Append(remark).Append('\n')).ToString();
    }

    private void WriteScheduler(string part, NoiseScheduleConfig config, string className)
    {
        config.Validate();
        string json = JsonSerializer.Serialize(config, ScheduleJson);
        File.WriteAllText(Path.Combine(NewPart(part), "scheduler_config.json"), $"{{\n  \"_class_name\": \"{className}\",{json[1..]}\n");
    }

    private static readonly JsonSerializerOptions ScheduleJson = new()
    {
        WriteIndented = true,
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        Converters = { new System.Text.Json.Serialization.JsonStringEnumConverter(JsonNamingPolicy.SnakeCaseLower) },
    };

    private string NewPart(string part) => Directory.CreateDirectory(Path.Combine(_folder, part)).FullName;

    /// <summary>Takes a config over as it is, with licence and model card.</summary>
    private void Keep(SourceFolder source, string part, string config)
    {
        File.Copy(source.Require(config), Path.Combine(NewPart(part), Path.GetFileName(config)), true);
        KeepTerms(source, part);
        _licences.Add(PartLicence.Of(part, source));
    }

    private void KeepTerms(SourceFolder source, string part)
    {
        foreach (string name in Terms)
        {
            if (source.Find(name) is { } file)
            {
                File.Copy(file, Path.Combine(_folder, part, name), true);
            }
        }
    }

    /// <summary>Checks weights against their network and puts them into the part: a link to a safetensors file, a conversion of others.</summary>
    private void Link(string part, string file, string name, nn.Module network)
    {
        using var weights = WeightsFile.Open(file);
        network.LoadFrom(weights);
        string target = Path.Combine(_folder, part, name + ".safetensors");
        if (weights is not Safetensors)
        {
            network.Convert(weights, target);
        }
        else if (_request.CopyFiles || !TryLink(target, file))
        {
            File.Copy(file, target);
        }
    }

    private static bool TryLink(string link, string file)
    {
        try
        {
            File.CreateSymbolicLink(link, File.ResolveLinkTarget(file, true)?.FullName ?? file);
            return true;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or PlatformNotSupportedException)
        {
            return false;
        }
    }

    private void Convert(string part, string name, nn.Module network, WeightsFile file) =>
        network.Convert(file, Path.Combine(_folder, part, name + ".safetensors"));
}
