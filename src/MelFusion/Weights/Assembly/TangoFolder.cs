using MelFusion.Noise;
using MelFusion.Text;
using MelFusion.UNet;
using MelFusion.Vae;
using MelFusion.Vocoder;
using MelFusion.Wave;
using MelFusion.Weights.Hub;

namespace MelFusion.Weights.Assembly;

/// <summary>A checkpoint folder of TANGO's authors, with every name in its configs resolved.</summary>
internal sealed record TangoFolder
{
    /// <summary>Where the text encoder's config and tokenizer may lie in a repository: at its root, or in diffusers' folders.</summary>
    private static readonly string[] TextParts = ["", "text_encoder"];

    public required SourceFolder Source { get; init; }

    /// <summary>The file with "unet." and "text_encoder.".</summary>
    public required string MainFile { get; init; }

    public required UNetConfig UNet { get; init; }

    public required NoiseScheduleConfig Scheduler { get; init; }

    public required T5EncoderConfig TextEncoder { get; init; }

    /// <summary>Where the text encoder's tokenizer is.</summary>
    public required SourceFolder Text { get; init; }

    /// <summary>The folder of its config in there.</summary>
    public required string TextPart { get; init; }

    public required MelConfig Mel { get; init; }

    public static TangoFolder Open(SourceFolder source, AssemblyRequest request, HubCache cache)
    {
        var main = ConfigFile.Read<MainConfig>(source.Require("main_config.json"));
        var text = FindText(source, main, request, cache);
        string textPart = TextParts.FirstOrDefault(part => text.Find(InnerPath.Join(part, "config.json")) is not null)
            ?? throw new MelFusionException($"{text.Path}: 'config.json' of the text encoder is missing; name a folder that has it with --text-encoder.");
        var found = new TangoFolder
        {
            Source = source,
            MainFile = source.RequireOne("checkpoint", "pytorch_model_main.bin", "pytorch_model_main.safetensors", "pytorch_model_2.bin", "model_2.safetensors", "pytorch_model.bin", "model.safetensors"),
            UNet = FindUNet(source, main),
            Scheduler = FindScheduler(source, main, cache),
            Text = text,
            TextPart = textPart,
            TextEncoder = ConfigFile.Read<T5EncoderConfig>(text.Require(InnerPath.Join(textPart, "config.json"))),
            Mel = source.Find("stft_config.json") is { } stft ? ConfigFile.Read<StftConfig>(stft).ToMel() : MelConfig.Tango,
        };
        return found.TextFile("spiece.model") is null
            ? throw new MelFusionException($"{text.Path}: 'spiece.model' of the tokenizer is missing; name a folder that has it with --text-encoder.")
            : found;
    }

    /// <summary>A file of the tokenizer.</summary>
    public string? TextFile(string name) => new[] { "", TextPart, "tokenizer" }.Select(part => Text.Find(InnerPath.Join(part, name))).FirstOrDefault(file => file is not null);

    private static SourceFolder FindText(SourceFolder source, MainConfig main, AssemblyRequest request, HubCache cache)
    {
        if (request.TextEncoder is { } named)
        {
            return SourceFolder.Locate(named, cache);
        }

        string name = main.TextEncoderName ?? throw new MelFusionException($"{source.Path}: main_config.json names no text encoder; name a folder with --text-encoder.");
        return source.Inside(name) ?? SourceFolder.TryLocate(name, cache) ?? throw new MelFusionException(
            $"{source.Path}: its text encoder is '{TorchPickle.Shown(name)}', which is neither in the folder nor in the cache {cache.Folder}; fetch config.json and spiece.model "
            + $"with 'melfusion models pull {TorchPickle.Shown(name)} --include config.json --include spiece.model', or name a folder with --text-encoder.");
    }

    private static UNetConfig FindUNet(SourceFolder source, MainConfig main)
    {
        string name = main.UnetModelConfigPath ?? throw new MelFusionException($"{source.Path}: main_config.json names no unet_model_config_path; only TANGO's own UNet is known.");
        var config = source.Find(name) is { } file ? ConfigFile.Read<UNetConfig>(file)
            : Path.GetFileName(name) == "diffusion_model_config.json" ? UNetConfig.Tango // lies in TANGO's program, not with its weights
            : throw new MelFusionException($"{source.Path}: '{TorchPickle.Shown(name)}', which main_config.json names, is missing; copy it from the program the model was trained with.");
        config.Validate();
        return config;
    }

    private static NoiseScheduleConfig FindScheduler(SourceFolder source, MainConfig main, HubCache cache)
    {
        string name = main.SchedulerName ?? string.Empty;
        string? file = source.Inside(name)?.Find("scheduler_config.json")
            ?? SourceFolder.TryLocate(name, cache)?.Find("scheduler/scheduler_config.json");
        return file is not null ? ConfigFile.Read<NoiseScheduleConfig>(file)
            : Path.GetFileName(name) switch
            {
                // The repositories are gone; their schedules are the defaults of NoiseScheduleConfig.
                "stable-diffusion-2-1" or "stable-diffusion-2" => new() { PredictionType = PredictionType.VPrediction },
                "stable-diffusion-2-1-base" or "stable-diffusion-2-base" or "stable-diffusion-v1-5" => new(),
                _ => throw new MelFusionException(
                    $"{source.Path}: its noise schedule is '{TorchPickle.Shown(name)}', which is neither in the folder nor in the cache {cache.Folder}; put it into the folder as scheduler/scheduler_config.json and name that in main_config.json."),
            };
    }

    private sealed record MainConfig
    {
        public string? TextEncoderName { get; init; }

        public string? SchedulerName { get; init; }

        public string? UnetModelConfigPath { get; init; }
    }

    private sealed record StftConfig
    {
        public int FilterLength { get; init; } = 1024;

        public int HopLength { get; init; } = 160;

        public int WinLength { get; init; } = 1024;

        public int NMelChannels { get; init; } = 64;

        public int SamplingRate { get; init; } = 16000;

        public double MelFmin { get; init; }

        public double MelFmax { get; init; } = 8000;

        public MelConfig ToMel() => MelConfig.Tango with
        {
            NFft = FilterLength,
            HopLength = HopLength,
            WinLength = WinLength,
            NMels = NMelChannels,
            SampleRate = SamplingRate,
            FMin = MelFmin,
            FMax = MelFmax,
            Padding = FilterLength / 2,
        };
    }
}

/// <summary>The mel autoencoder and the vocoder of a release, and where their weights lie.</summary>
internal sealed record AudioParts(SourceFolder Source, AutoencoderKlConfig Vae, HifiGanConfig Vocoder, string VaeFile, string VocoderFile, bool IsOriginal)
{
    public static AudioParts OfTango(TangoFolder tango)
    {
        var source = tango.Source;
        string file = source.Find("pytorch_model_vae.bin") ?? source.Find("pytorch_model_vae.safetensors") ?? throw new MelFusionException(
            $"{source.Path}: 'pytorch_model_vae.bin' is missing; copy it and vae_config.json from declare-lab/tango, or take an AudioLDM release with --vae.");
        return OfOriginal(source, file, source.Require("vae_config.json"), tango.Mel);
    }

    /// <summary>
    /// A release of AudioLDM: diffusers' folders, or the original file with everything in it. The published files all have one size; where a
    /// vae_config.json lies beside the file, it states another.
    /// </summary>
    public static AudioParts OfAudioLdm(string name, HubCache cache, MelConfig mel)
    {
        if (File.Exists(name))
        {
            var folder = SourceFolder.Locate(Path.GetDirectoryName(Path.GetFullPath(name))!, cache);
            var parts = OfOriginal(folder, name, folder.Find("vae_config.json"), mel);
            using var file = WeightsFile.Open(name);
            RequirePublishedSize(folder, file);
            return file.Contains("scale_factor") ? parts with { Vae = parts.Vae with { ScalingFactor = ReadScale(file) } } : parts;
        }

        var source = SourceFolder.Locate(name, cache);
        return new(
            source, AutoencoderKlConfig.Read(source.Require("vae/config.json")), ConfigFile.Read<HifiGanConfig>(source.Require("vocoder/config.json")),
            source.Weights("vae"), source.Weights("vocoder"), false);
    }

    /// <summary>Sizes come from TANGO's vae_config.json; null: those of every published release.</summary>
    private static AudioParts OfOriginal(SourceFolder source, string file, string? config, MelConfig mel)
    {
        var vae = config is null ? AutoencoderKlConfig.AudioLdm : AutoencoderKlConfig.Read(config);
        var stated = config is null ? new() : ConfigFile.Read<VaeConfig>(config);
        return new(
            source, vae with { ScalingFactor = stated.ScaleFactor ?? AutoencoderKlConfig.AudioLdm.ScalingFactor },
            (stated.Vocoder ?? new()).Over(HifiGanConfig.AudioLdm) with { ModelInDim = mel.NMels, SamplingRate = mel.SampleRate }, file, file, true);
    }

    private static void RequirePublishedSize(SourceFolder source, WeightsFile file)
    {
        const string First = "first_stage_model.encoder.conv_in.weight";
        if (source.Find("vae_config.json") is null && file.Find(First) is { } entry && entry.Shape[0] != AutoencoderKlConfig.AudioLdm.BlockOutChannels[0])
        {
            throw new MelFusionException(
                $"{file.Path}: its autoencoder begins with {entry.Shape[0]} channels where AudioLDM's releases have {AutoencoderKlConfig.AudioLdm.BlockOutChannels[0]}; put its vae_config.json beside it.");
        }
    }

    private static double ReadScale(WeightsFile file)
    {
        using var scale = file.Read("scale_factor", TorchSharp.torch.ScalarType.Float64);
        return scale.data<double>()[0];
    }

    private sealed record VaeConfig
    {
        public double? ScaleFactor { get; init; }

        public VocoderSizes? Vocoder { get; init; }
    }

    /// <summary>What a release's vocoder has other than the published one; its authors' programs know one size only.</summary>
    private sealed record VocoderSizes
    {
        public int? UpsampleInitialChannel { get; init; }

        public IReadOnlyList<int>? UpsampleRates { get; init; }

        public IReadOnlyList<int>? UpsampleKernelSizes { get; init; }

        public IReadOnlyList<int>? ResblockKernelSizes { get; init; }

        public IReadOnlyList<IReadOnlyList<int>>? ResblockDilationSizes { get; init; }

        public HifiGanConfig Over(HifiGanConfig published) => published with
        {
            UpsampleInitialChannel = UpsampleInitialChannel ?? published.UpsampleInitialChannel,
            UpsampleRates = UpsampleRates ?? published.UpsampleRates,
            UpsampleKernelSizes = UpsampleKernelSizes ?? published.UpsampleKernelSizes,
            ResblockKernelSizes = ResblockKernelSizes ?? published.ResblockKernelSizes,
            ResblockDilationSizes = ResblockDilationSizes ?? published.ResblockDilationSizes,
        };
    }
}
