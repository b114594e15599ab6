using MelFusion.Training.Engine;
using MelFusion.UNet;
using MelFusion.Vae;
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

/// <summary>Every case. All weights are random: speed does not depend on their values.</summary>
internal static class Cases
{
    // bench.py's small network, not melfusion-mini's.
    private static readonly UNetConfig PeersMini = UNetConfig.Mini with { BlockOutChannels = [128, 256, 384], AttentionHeadDim = [4, 8, 12] };

    public static IReadOnlyList<BenchmarkCase> All { get; } =
    [
        new("unet-tango", 1606.36, 8, (place, _) => UNet(UNetConfig.Tango, place, [2, 8, 256, 16], [2, 64, 1024])),
        new("unet-sd21", 796.86, 8, (place, _) => UNet(UNetConfig.StableDiffusion21, place, [1, 4, 64, 64], [1, 1, 1024])),
        new("unet-mini", 39.32, 2, (place, _) => UNet(PeersMini, place, [2, 8, 128, 8], [2, 32, 384])),
        new("unet-mini-image", 19.41, 2, (place, _) => UNet(PeersMini with { InChannels = 4, OutChannels = 4 }, place, [1, 4, 32, 32], [1, 1, 384])),
        new("vae-mel-decode", 670.47, 2, (place, _) => Decode(AutoencoderKlConfig.AudioLdm, place, [1, 8, 256, 16])),
        new("sd-vae-encode", 1116.66, 2, (place, _) => Encode(AutoencoderKlConfig.StableDiffusion, place, [1, 3, 512, 512])),
        new("train-mini", 472.06, 2, (place, _) => Train(PeersMini, place, [8, 8, 128, 8], [8, 32, 384])) { Trains = true },
    ];

    private static Work UNet(UNetConfig config, Placement place, long[] latent, long[] text)
    {
        var unet = Filled(new ConditionalUNet(config, place));
        var (z, c, t) = (torch.randn(latent).to(place.Dtype), torch.randn(text).to(place.Dtype), torch.tensor(500L).expand(latent[0]));
        return new(() => unet.Forward(z, t, c).Dispose(), Count(unet), [unet]);
    }

    private static Work Decode(AutoencoderKlConfig config, Placement place, long[] latent)
    {
        var vae = Filled(new AutoencoderKl(config, place));
        var z = torch.randn(latent).to(place.Dtype);
        return new(() => vae.Decode(z).Dispose(), Count(vae), [vae]);
    }

    private static Work Encode(AutoencoderKlConfig config, Placement place, long[] picture)
    {
        var vae = Filled(new AutoencoderKl(config, place));
        var x = torch.randn(picture).to(place.Dtype);
        return new(
            () =>
            {
                var (mean, logVariance) = vae.Encode(x);
                mean.Dispose();
                logVariance.Dispose();
            },
            Count(vae), [vae]);
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

    private static TNetwork Filled<TNetwork>(TNetwork network) where TNetwork : nn.Module
    {
        Initialiser.Initialise(network, new Generator(0));
        return network;
    }

    private static long Count(nn.Module network) => network.parameters().Sum(parameter => parameter.numel());
}
