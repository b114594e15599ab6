using MelFusion.Training.Engine;
using MelFusion.Vae;
using MelFusion.Weights;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Training.Stages;

/// <summary>What the two autoencoders' stages share: the loss, the first weights, and the latents' deviation.</summary>
internal static class AutoencoderObjective
{
    /// <summary>A network with first weights, or those of the part of another model.</summary>
    public static AutoencoderKl Create(AutoencoderKlConfig config, double initialLogVariance, long seed, string? startFrom, string part)
    {
        var network = new AutoencoderKl(config, Placement.Cpu);
        if (startFrom is not null)
        {
            return ModelParts.Load(startFrom, part, network);
        }

        using var generator = StepRandom.Generator(seed, -1, 0);
        Initialiser.Initialise(network, generator);
        BeginCertain(network, initialLogVariance);
        return network;
    }

    /// <summary>Reconstruction L1, KL and difference terms of a batch; the third result is the reconstruction.</summary>
    public static (Tensor L1, Tensor Kl, Tensor Difference, Tensor Reconstruction) Terms(AutoencoderKl network, Tensor x, Tensor noise, ScalarType precision)
    {
        var (mean, logVariance) = network.Encode(x.to(precision));
        (mean, logVariance) = (mean.to(ScalarType.Float32), logVariance.to(ScalarType.Float32));
        var latent = mean + (logVariance * 0.5).exp() * noise;
        var reconstruction = network.Decode(latent.to(precision)).to(ScalarType.Float32);
        var kl = 0.5 * (mean.square() + logVariance.exp() - 1 - logVariance).mean();
        return ((reconstruction - x).abs().mean(), kl, Difference(reconstruction - x), reconstruction);
    }

    /// <summary>1 / deviation of the latents of a data set, drawn as training draws them.</summary>
    /// <param name="network">The autoencoder.</param>
    /// <param name="count">Samples to encode.</param>
    /// <param name="sample">Sample i as a batch of one.</param>
    /// <param name="pool">Threads to work on.</param>
    public static double ScalingFactor(AutoencoderKl network, int count, Func<int, Tensor> sample, WorkerPool pool)
    {
        var sums = new (double Sum, double Squares, double Number)[count];
        pool.Share(count, i =>
        {
            using var scope = NewDisposeScope();
            using var noGrad = no_grad();
            using var generator = StepRandom.Generator(0, -3, i);
            var (mean, logVariance) = network.Encode(sample(i));
            var latent = mean + (logVariance * 0.5).exp() * randn(mean.shape, generator: generator);
            sums[i] = (latent.sum().item<float>(), latent.square().sum().item<float>(), latent.numel());
        });
        double number = sums.Sum(s => s.Number), average = sums.Sum(s => s.Sum) / number;
        return 1 / Math.Sqrt(sums.Sum(s => s.Squares) / number - average * average);
    }

    // Latents that begin nearly certain: the decoder sees something from the first step on.
    private static void BeginCertain(AutoencoderKl network, double logVariance)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        string last = network.Config.UseQuantConv ? "quant_conv" : "encoder.conv_out";
        long channels = network.Config.LatentChannels;
        foreach (var (name, parameter) in network.named_parameters())
        {
            if (name == last + ".weight")
            {
                parameter.narrow(0, channels, channels).mul_(0.1);
            }
            else if (name == last + ".bias")
            {
                parameter.narrow(0, channels, channels).fill_(logVariance);
            }
        }
    }

    private static Tensor Difference(Tensor error)
    {
        long h = error.shape[2], w = error.shape[3];
        var down = error.narrow(2, 1, h - 1) - error.narrow(2, 0, h - 1);
        var right = error.narrow(3, 1, w - 1) - error.narrow(3, 0, w - 1);
        return down.abs().mean() + right.abs().mean();
    }
}
