using MelFusion.Vae;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Training.Stages;

/// <summary>
/// First weights with which a picture autoencoder already passes its channels through, averaged over cells of the latent's size: a small one
/// that begins at random learns brightness alone for most of a short run. Channel k travels as a pair (x, -x) in places 2k and 2k + 1, so
/// that SiLU lets it pass whole: silu(x) - silu(-x) = x. Residual branches begin small, everything else stays random.
/// </summary>
internal static class PyramidStart
{
    private const double BranchScale = 0.1, OutputScale = 0.5;

    /// <summary>Changes the weights of a new network; one too narrow for all pairs is left as it is.</summary>
    public static void Apply(AutoencoderKl network)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        int pairs = network.Config.InChannels;
        if (network.Config.BlockOutChannels.Min() < 2 * pairs || network.Config.LatentChannels < pairs)
        {
            return;
        }

        foreach (var (name, parameter) in network.named_parameters().Where(p => p.name.EndsWith(".weight", StringComparison.Ordinal) && p.parameter.dim() == 4))
        {
            Set(name, parameter, pairs);
        }
    }

    private static void Set(string name, Tensor kernel, int pairs)
    {
        if (name.EndsWith("conv2.weight", StringComparison.Ordinal))
        {
            kernel.mul_(BranchScale);
        }
        else if (name is "encoder.conv_in.weight" or "decoder.conv_in.weight")
        {
            Clear(kernel, 2 * pairs);
            Each(pairs, k => (Middle(kernel, 2 * k, k).fill_(1), Middle(kernel, 2 * k + 1, k).fill_(-1)));
        }
        else if (name is "encoder.conv_out.weight" or "decoder.conv_out.weight")
        {
            double scale = name[0] == 'd' ? OutputScale : 1;
            Clear(kernel, pairs);
            Each(pairs, k => (Middle(kernel, k, 2 * k).fill_(scale), Middle(kernel, k, 2 * k + 1).fill_(-scale)));
        }
        else if (name.Contains("downsamplers", StringComparison.Ordinal))
        {
            Clear(kernel, 2 * pairs);
            Each(2 * pairs, i => kernel[i][i].narrow(0, 0, 2).narrow(1, 0, 2).fill_(0.25));
        }
        else if (name.Contains("upsamplers", StringComparison.Ordinal) || name.Contains("shortcut", StringComparison.Ordinal))
        {
            Clear(kernel, 2 * pairs);
            Each(2 * pairs, i => Middle(kernel, i, i).fill_(1));
        }
        else if (name is "quant_conv.weight" or "post_quant_conv.weight")
        {
            Clear(kernel, pairs);
            Each(pairs, i => Middle(kernel, i, i).fill_(1));
        }
    }

    // The first outputs see nothing but what is set afterwards.
    private static void Clear(Tensor kernel, int outputs) => kernel.narrow(0, 0, outputs).zero_();

    private static Tensor Middle(Tensor kernel, int output, int input) => kernel[output][input][(int)kernel.shape[2] / 2][(int)kernel.shape[3] / 2];

    private static void Each(int count, Func<int, object> set)
    {
        for (int i = 0; i < count; i++)
        {
            set(i);
        }
    }
}
