using MelFusion.Text;
using MelFusion.Training.Engine;
using MelFusion.UNet;
using MelFusion.Vae;
using MelFusion.Vocoder;
using MelFusion.Weights;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Benchmarks;

/// <summary>One thing that is timed.</summary>
/// <param name="Name">As the peer's bench.py names it, where it has it.</param>
/// <param name="Gflop">Multiply-adds x 2 of one step, in 10^9, as the peer counts them; null: not counted.</param>
/// <param name="NeededGib">Memory that must be free.</param>
/// <param name="Prepare">Makes the network and its inputs, for a place and, where the case needs it, a model folder.</param>
internal sealed record BenchmarkCase(string Name, double? Gflop, double NeededGib, Func<Placement, string, Work> Prepare)
{
    /// <summary>Weights of the peer's network, in 10^6: the times of another network are worth nothing; null: the peer has no such case.</summary>
    public double? PeersParametersM { get; init; }

    /// <summary>Whether gradients are recorded.</summary>
    public bool Trains { get; init; }

    /// <summary>Whether a trained model is needed.</summary>
    public bool NeedsModel { get; init; }
}

/// <summary>A prepared case.</summary>
/// <param name="Step">What is timed.</param>
/// <param name="Parameters">Number of weights.</param>
/// <param name="Owned">What is freed afterwards.</param>
/// <param name="Mode">How it is run.</param>
internal sealed record Work(Action Step, long Parameters, IDisposable[] Owned, string Mode = "eager") : IDisposable
{
    public void Dispose() => Array.ForEach(Owned, one => one.Dispose());
}

/// <summary>Every case. Weights are random where they are not a model's: speed does not depend on their values.</summary>
internal static class Cases
{
    // bench.py's small network, stated in full: melfusion-mini's own sizes may change.
    private static readonly UNetConfig PeersMini = new()
    {
        InChannels = 8,
        OutChannels = 8,
        BlockOutChannels = [128, 256, 384],
        LayersPerBlock = 2,
        DownBlockTypes = ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        UpBlockTypes = ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        CrossAttentionDim = 384,
        AttentionHeadDim = [4, 8, 12],
        UseLinearProjection = true,
    };

    public static IReadOnlyList<BenchmarkCase> All { get; } =
    [
        new("unet-tango", 1606.36, 8, (place, _) => UNet(UNetConfig.Tango, place, [2, 8, 256, 16], [2, 64, 1024])) { PeersParametersM = 865.93 },
        new("unet-sd21", 796.86, 8, (place, _) => UNet(UNetConfig.StableDiffusion21, place, [1, 4, 64, 64], [1, 1, 1024])) { PeersParametersM = 865.91 },
        new("unet-mini", 39.32, 2, (place, _) => UNet(PeersMini, place, [2, 8, 128, 8], [2, 32, 384])) { PeersParametersM = 65.07 },
        new("unet-mini-image", 19.41, 2, (place, _) => UNet(PeersMini with { InChannels = 4, OutChannels = 4 }, place, [1, 4, 32, 32], [1, 1, 384])) { PeersParametersM = 65.06 },
        new("vae-mel-decode", 670.47, 2, (place, _) => Decode(AutoencoderKlConfig.AudioLdm, place, [1, 8, 256, 16])) { PeersParametersM = 55.38 },
        new("sd-vae-encode", 1116.66, 2, (place, _) => Encode(AutoencoderKlConfig.StableDiffusion, place, [1, 3, 512, 512])) { PeersParametersM = 83.65 },
        new("hifigan", 1027.04, 3, (place, _) => Vocode(Filled(new HifiGan(HifiGanConfig.AudioLdm, place)), place, 1024)) { PeersParametersM = 55.26 },
        new("flan-t5-large", null, 4, (place, _) => Text(T5EncoderConfig.FlanLarge, place, 64)) { PeersParametersM = 341.23 },
        new("train-mini", 472.06, 2, (place, _) => Train(PeersMini, place, [8, 8, 128, 8], [8, 32, 384])) { PeersParametersM = 65.07, Trains = true },

        // melfusion-mini, from its folder: one denoising step with guidance, one call for the picture, one clip to sound.
        new("mini-unet-music", null, 1, MusicStep) { NeedsModel = true },
        new("mini-unet-image", null, 1, PictureStep) { NeedsModel = true },
        new("mini-vocoder", null, 1, VocodeClip) { NeedsModel = true },
        new("generate", null, 3, Generate) { NeedsModel = true },
    ];

    private static Work UNet(UNetConfig config, Placement place, long[] latent, long[] text)
    {
        var unet = Filled(new ConditionalUNet(config, place));
        long parameters = CountAndPack(unet);
        var (z, c, t) = (torch.randn(latent).to(place.Dtype), torch.randn(text).to(place.Dtype), torch.tensor(500L).expand(latent[0]));
        return new(() => unet.Forward(z, t, c).Dispose(), parameters, [unet]);
    }

    private static Work Decode(AutoencoderKlConfig config, Placement place, long[] latent)
    {
        var vae = Filled(new AutoencoderKl(config, place));
        long parameters = CountAndPack(vae);
        var z = torch.randn(latent).to(place.Dtype);
        return new(() => vae.Decode(z).Dispose(), parameters, [vae]);
    }

    private static Work Encode(AutoencoderKlConfig config, Placement place, long[] picture)
    {
        var vae = Filled(new AutoencoderKl(config, place));
        long parameters = CountAndPack(vae);
        var x = torch.randn(picture).to(place.Dtype);
        return new(
            () =>
            {
                var (mean, logVariance) = vae.Encode(x);
                mean.Dispose();
                logVariance.Dispose();
            },
            parameters, [vae]);
    }

    // Master weights are fp32 in either precision; bf16 is that of the activations, what PyTorch calls autocast.
    private static Work Train(UNetConfig config, Placement place, long[] latent, long[] text)
    {
        var unet = Filled(new ConditionalUNet(config, place.InFloat32));
        var parameters = unet.named_parameters().Select(p => new NamedParameter(p.name, p.parameter)).ToList();
        var optimiser = new AdamW([new(parameters, 1e-5, 0.01)]);
        var (z, c, t) = (torch.randn(latent).to(place.Dtype), torch.randn(text).to(place.Dtype), torch.tensor(500L).expand(latent[0]));
        var target = torch.randn(latent);
        void Step()
        {
            using var scope = NewDisposeScope();
            nn.functional.mse_loss(unet.Forward(z, t, c).to(ScalarType.Float32), target).backward();
            for (int i = 0; i < optimiser.Count; i++)
            {
                optimiser.Step(i, parameters[i].Value.grad);
            }

            unet.zero_grad();
        }

        return new(Step, Count(unet), [optimiser, unet], place.Dtype == ScalarType.Float32 ? "eager" : "autocast");
    }

    private static Work Text(T5EncoderConfig config, Placement place, long tokens)
    {
        var encoder = Filled(new T5Encoder(config, place));
        long parameters = CountAndPack(encoder);
        var (ids, mask) = (torch.randint(0, 32000, [1, tokens]), torch.ones(1, tokens, ScalarType.Bool));
        return new(() => encoder.forward(ids, mask).Dispose(), parameters, [encoder]);
    }

    private static Work Vocode(HifiGan vocoder, Placement place, int frames)
    {
        long parameters = CountAndPack(vocoder);
        var mel = torch.randn(1, vocoder.Config.Mels, frames).to(place.Dtype);
        return new(() => vocoder.Forward(mel).Dispose(), parameters, [vocoder]);
    }

    private static Work MusicStep(Placement place, string model)
    {
        var folder = ModelFolder.Open(model);
        var unet = Load("unet", folder, (UNetConfig c) => new ConditionalUNet(c, place));
        long parameters = CountAndPack(unet);
        long factor = AutoencoderKlConfig.Read(folder.FileOf("vae", "config.json")).Factor;
        int mels = folder.Config<HifiGanConfig>("vocoder").Mels;
        var z = torch.randn(2, unet.Config.InChannels, folder.Defaults.MelFrames / factor, mels / factor).to(place.Dtype);
        var text = torch.randn(2, 32, unet.Config.CrossAttentionDim).to(place.Dtype);
        var mask = torch.ones(2, 32, ScalarType.Bool);
        var t = torch.tensor(500L).expand(2);
        var projected = unet.ProjectText(text);
        return new(() => unet.Forward(z, t, text, mask, textKeyValues: projected).Dispose(), parameters, [projected, unet]);
    }

    private static Work PictureStep(Placement place, string model)
    {
        var folder = ModelFolder.Open(model);
        var unet = Load("image_unet", folder, (UNetConfig c) => new ConditionalUNet(c, place));
        long parameters = CountAndPack(unet);
        int factor = AutoencoderKlConfig.Read(folder.FileOf("image_vae", "config.json")).Factor;
        var z = torch.randn(1, unet.Config.InChannels, folder.Defaults.PictureHeight / factor, folder.Defaults.PictureWidth / factor).to(place.Dtype);
        var text = torch.randn(1, 2, unet.Config.CrossAttentionDim).to(place.Dtype);
        var t = torch.tensor(500L).reshape(1);
        var projected = unet.ProjectText(text);
        return new(() => unet.Forward(z, t, text, textKeyValues: projected).Dispose(), parameters, [projected, unet]);
    }

    private static Work VocodeClip(Placement place, string model)
    {
        var folder = ModelFolder.Open(model);
        return Vocode(Load("vocoder", folder, (HifiGanConfig c) => new HifiGan(c, place)), place, folder.Defaults.MelFrames);
    }

    // The main job once everything is loaded: 25 steps, with the sample picture. The networks only: nothing refines the sound, as in peer-generate.py.
    private static Work Generate(Placement place, string model)
    {
        const string Picture = "samples/harbour.jpg";
        var loaded = MelFusionModel.Load(ModelFolder.Open(model), CPU, place.Dtype == ScalarType.Float32 ? Precision.Fp32 : Precision.Bf16);
        var request = new MusicRequest
        {
            Prompt = "calm acoustic guitar by the sea",
            Image = loaded.Folder.TakesPictures && File.Exists(Picture) ? File.ReadAllBytes(Picture) : null,
            Seed = 1,
            Steps = 25,
            InversionSteps = 25,
            InversionDepth = 1,
            KeyValueSource = KeyValueSource.Recorded,
            Guidance = 3,
            Refine = 0,
        };
        return new(() => new MusicGenerator(loaded).Generate(request), Count(loaded.Vae), [loaded]);
    }

    private static TNetwork Load<TConfig, TNetwork>(string part, ModelFolder folder, Func<TConfig, TNetwork> make)
        where TConfig : class where TNetwork : nn.Module => folder.Load(part, make(folder.Config<TConfig>(part)));

    // In this order: packed weights cannot be counted any more.
    private static long CountAndPack(nn.Module network)
    {
        long parameters = Count(network);
        network.PackForInference();
        return parameters;
    }

    private static TNetwork Filled<TNetwork>(TNetwork network) where TNetwork : nn.Module
    {
        Initialiser.Initialise(network, new Generator(0));
        return network;
    }

    private static long Count(nn.Module network) => network.parameters().Sum(parameter => parameter.numel());
}
