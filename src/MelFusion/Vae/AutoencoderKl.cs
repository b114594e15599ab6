using MelFusion.KeyValue;
using MelFusion.Weights;
using TorchSharp;
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;
using Conv2d = MelFusion.Weights.Conv2d;
using F = TorchSharp.torch.nn.functional;
using GroupNorm = MelFusion.Weights.GroupNorm;
using Linear = MelFusion.Weights.Linear;

namespace MelFusion.Vae;

// One autoencoder for pictures (B, 3, H, W) and for mels (B, 1, time, mel). Leaves first, the network last. B samples, C channels,
// H x W cells of a plane, n = H W. Every leaf opens a dispose scope: what backward needs, autograd holds itself.

/// <summary>Group norm, silu, convolution, twice, around a shortcut.</summary>
internal sealed class ResidualBlock : nn.Module<Tensor, Tensor>
{
    public const double Epsilon = 1e-6;

    [ComponentName(Name = "norm1")] private readonly GroupNorm _norm1;
    [ComponentName(Name = "conv1")] private readonly Conv2d _conv1;
    [ComponentName(Name = "norm2")] private readonly GroupNorm _norm2;
    [ComponentName(Name = "conv2")] private readonly Conv2d _conv2;
    [ComponentName(Name = "conv_shortcut")] private readonly Conv2d? _shortcut;

    public ResidualBlock(long inChannels, long outChannels, long groups, Placement place) : base(nameof(ResidualBlock))
    {
        _norm1 = new(groups, inChannels, Epsilon, place);
        _conv1 = new(inChannels, outChannels, 3, place, padding: 1);
        _norm2 = new(groups, outChannels, Epsilon, place);
        _conv2 = new(outChannels, outChannels, 3, place, padding: 1);
        _shortcut = inChannels == outChannels ? null : new(inChannels, outChannels, 1, place);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var h = _conv1.call(Fresh.Silu(_norm1.call(x)));
        h = _conv2.call(Fresh.Silu(_norm2.call(h)));
        return Fresh.Add(h, _shortcut?.call(x) ?? x).MoveToOuterDisposeScope(); // (B, C', H, W)
    }
}

/// <summary>Attention of every cell to every other, one head of the full width.</summary>
internal sealed class PlaneAttention : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "group_norm")] private readonly GroupNorm _norm;
    [ComponentName(Name = "to_q")] private readonly Linear _toQ;
    [ComponentName(Name = "to_k")] private readonly Linear _toK;
    [ComponentName(Name = "to_v")] private readonly Linear _toV;
    [ComponentName(Name = "to_out")] private readonly ModuleList<Linear> _toOut;

    public PlaneAttention(long channels, long groups, Placement place) : base(nameof(PlaneAttention))
    {
        _norm = new(groups, channels, ResidualBlock.Epsilon, place);
        _toQ = new(channels, channels, place);
        _toK = new(channels, channels, place);
        _toV = new(channels, channels, place);
        _toOut = new(new Linear(channels, channels, place));
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var h = _norm.call(x).flatten(2).transpose(1, 2); // (B, n, C)
        h = ScaledDotProduct.Attend(_toQ.call(h), new(_toK.call(h), _toV.call(h)), heads: 1); // Eq. 1
        h = _toOut[0].call(h).transpose(1, 2).reshape(x.shape); // (B, C, H, W)
        return (x + h).MoveToOuterDisposeScope();
    }
}

/// <summary>Halves both axes: one zero column to the right and one zero row below, then a convolution of stride 2.</summary>
internal sealed class Downsampler : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "conv")] private readonly Conv2d _conv;

    public Downsampler(long channels, Placement place) : base(nameof(Downsampler))
    {
        _conv = new(channels, channels, 3, place, stride: 2);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        return _conv.call(F.pad(x, [0, 1, 0, 1])).MoveToOuterDisposeScope(); // (B, C, H / 2, W / 2)
    }
}

/// <summary>Doubles both axes: each cell four times, then a convolution.</summary>
internal sealed class Upsampler : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "conv")] private readonly Conv2d _conv;

    public Upsampler(long channels, Placement place) : base(nameof(Upsampler))
    {
        _conv = new(channels, channels, 3, place, padding: 1);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var doubled = F.interpolate(x, scale_factor: [2, 2], mode: InterpolationMode.Nearest);
        return _conv.call(doubled).MoveToOuterDisposeScope(); // (B, C, 2 H, 2 W)
    }
}

/// <summary>A level of the encoder; the last one keeps its resolution.</summary>
internal sealed class DownBlock : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "resnets")] private readonly ModuleList<ResidualBlock> _resnets;
    [ComponentName(Name = "downsamplers")] private readonly ModuleList<Downsampler>? _downsamplers;

    public DownBlock(long inChannels, long outChannels, bool isLast, AutoencoderKlConfig config, Placement place) : base(nameof(DownBlock))
    {
        _resnets = new([.. Enumerable.Range(0, config.LayersPerBlock)
            .Select(layer => new ResidualBlock(layer == 0 ? inChannels : outChannels, outChannels, config.NormNumGroups, place))]);
        _downsamplers = isLast ? null : new(new Downsampler(outChannels, place));
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        foreach (var resnet in _resnets)
        {
            x = resnet.call(x);
        }

        return (_downsamplers?[0].call(x) ?? x).MoveToOuterDisposeScope();
    }
}

/// <summary>A level of the decoder; the last one keeps its resolution.</summary>
internal sealed class UpBlock : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "resnets")] private readonly ModuleList<ResidualBlock> _resnets;
    [ComponentName(Name = "upsamplers")] private readonly ModuleList<Upsampler>? _upsamplers;

    public UpBlock(long inChannels, long outChannels, bool isLast, AutoencoderKlConfig config, Placement place) : base(nameof(UpBlock))
    {
        _resnets = new([.. Enumerable.Range(0, config.LayersPerBlock + 1)
            .Select(layer => new ResidualBlock(layer == 0 ? inChannels : outChannels, outChannels, config.NormNumGroups, place))]);
        _upsamplers = isLast ? null : new(new Upsampler(outChannels, place));
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        foreach (var resnet in _resnets)
        {
            x = resnet.call(x);
        }

        return (_upsamplers?[0].call(x) ?? x).MoveToOuterDisposeScope();
    }
}

/// <summary>Two residual blocks, attention between them where the config has it.</summary>
internal sealed class MidBlock : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "attentions")] private readonly ModuleList<PlaneAttention>? _attentions;
    [ComponentName(Name = "resnets")] private readonly ModuleList<ResidualBlock> _resnets;

    public MidBlock(AutoencoderKlConfig config, Placement place) : base(nameof(MidBlock))
    {
        int channels = config.BlockOutChannels[^1];
        _attentions = config.MidBlockAddAttention ? new(new PlaneAttention(channels, config.NormNumGroups, place)) : null;
        _resnets = new(new ResidualBlock(channels, channels, config.NormNumGroups, place), new ResidualBlock(channels, channels, config.NormNumGroups, place));
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var h = _resnets[0].call(x);
        h = _attentions?[0].call(h) ?? h;
        return _resnets[1].call(h).MoveToOuterDisposeScope();
    }
}

/// <summary>From a picture or mel to mean and logvar, still joined.</summary>
internal sealed class Encoder : nn.Module<Tensor, CancellationToken, Tensor>
{
    [ComponentName(Name = "conv_in")] private readonly Conv2d _convIn;
    [ComponentName(Name = "down_blocks")] private readonly ModuleList<DownBlock> _downBlocks;
    [ComponentName(Name = "mid_block")] private readonly MidBlock _midBlock;
    [ComponentName(Name = "conv_norm_out")] private readonly GroupNorm _normOut;
    [ComponentName(Name = "conv_out")] private readonly Conv2d _convOut;

    public Encoder(AutoencoderKlConfig config, Placement place) : base(nameof(Encoder))
    {
        var widths = config.BlockOutChannels;
        _convIn = new(config.InChannels, widths[0], 3, place, padding: 1);
        _downBlocks = new([.. widths.Select((width, level) => new DownBlock(level == 0 ? width : widths[level - 1], width, level == widths.Count - 1, config, place))]);
        _midBlock = new(config, place);
        _normOut = new(config.NormNumGroups, widths[^1], ResidualBlock.Epsilon, place);
        _convOut = new(widths[^1], 2 * config.LatentChannels, 3, place, padding: 1);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x, CancellationToken cancellation)
    {
        using var scope = NewDisposeScope();
        var h = _convIn.call(x);
        foreach (var block in _downBlocks)
        {
            cancellation.ThrowIfCancellationRequested();
            h = Advance(block, h);
        }

        cancellation.ThrowIfCancellationRequested();
        h = Advance(_midBlock, h);
        return _convOut.call(Fresh.Silu(_normOut.call(h))).MoveToOuterDisposeScope(); // (B, 2 latent, h, w)
    }

    /// <summary>The next block's output; the one before is let go at once, as a scope frees only at its end.</summary>
    public static Tensor Advance(nn.Module<Tensor, Tensor> block, Tensor h)
    {
        var next = block.call(h);
        h.Dispose();
        return next;
    }
}

/// <summary>From a latent to a picture or mel.</summary>
internal sealed class Decoder : nn.Module<Tensor, CancellationToken, Tensor>
{
    [ComponentName(Name = "conv_in")] private readonly Conv2d _convIn;
    [ComponentName(Name = "mid_block")] private readonly MidBlock _midBlock;
    [ComponentName(Name = "up_blocks")] private readonly ModuleList<UpBlock> _upBlocks;
    [ComponentName(Name = "conv_norm_out")] private readonly GroupNorm _normOut;
    [ComponentName(Name = "conv_out")] private readonly Conv2d _convOut;

    public Decoder(AutoencoderKlConfig config, Placement place) : base(nameof(Decoder))
    {
        int[] widths = [.. config.BlockOutChannels.Reverse()];
        _convIn = new(config.LatentChannels, widths[0], 3, place, padding: 1);
        _midBlock = new(config, place);
        _upBlocks = new([.. widths.Select((width, level) => new UpBlock(level == 0 ? width : widths[level - 1], width, level == widths.Length - 1, config, place))]);
        _normOut = new(config.NormNumGroups, widths[^1], ResidualBlock.Epsilon, place);
        _convOut = new(widths[^1], config.OutChannels, 3, place, padding: 1);
        RegisterComponents();
    }

    public override Tensor forward(Tensor z, CancellationToken cancellation)
    {
        using var scope = NewDisposeScope();
        var h = Encoder.Advance(_midBlock, _convIn.call(z));
        foreach (var block in _upBlocks)
        {
            cancellation.ThrowIfCancellationRequested();
            h = Encoder.Advance(block, h);
        }

        return _convOut.call(Fresh.Silu(_normOut.call(h))).MoveToOuterDisposeScope(); // (B, out, H, W)
    }
}

/// <summary>
/// The variational autoencoder of Stable Diffusion and of AudioLDM, as diffusers' AutoencoderKL names its tensors. Latents are unscaled
/// here: the caller multiplies by <see cref="AutoencoderKlConfig.ScalingFactor"/> before diffusion and divides after it.
/// </summary>
public sealed class AutoencoderKl : nn.Module, IPublishedLayouts
{
    private const double LeastLogVariance = -30, LargestLogVariance = 20;

    [ComponentName(Name = "encoder")] private readonly Encoder _encoder;
    [ComponentName(Name = "decoder")] private readonly Decoder _decoder;
    [ComponentName(Name = "quant_conv")] private readonly Conv2d? _quantConv;
    [ComponentName(Name = "post_quant_conv")] private readonly Conv2d? _postQuantConv;

    /// <summary>A network of uninitialised weights.</summary>
    /// <param name="config">Its sizes.</param>
    /// <param name="place">Device and precision of its weights.</param>
    /// <exception cref="MelFusionException">The sizes cannot be.</exception>
    public AutoencoderKl(AutoencoderKlConfig config, Placement place) : base(nameof(AutoencoderKl))
    {
        config.Validate(config.ClassName);
        Config = config;
        _encoder = new(config, place);
        _decoder = new(config, place);
        _quantConv = config.UseQuantConv ? new(2 * config.LatentChannels, 2 * config.LatentChannels, 1, place) : null;
        _postQuantConv = config.UsePostQuantConv ? new(config.LatentChannels, config.LatentChannels, 1, place) : null;
        RegisterComponents();
    }

    /// <summary>The sizes.</summary>
    public AutoencoderKlConfig Config { get; }

    /// <inheritdoc/>
    WeightsFile IPublishedLayouts.InOwnNames(WeightsFile file) => KeyRenames.ForAutoencoder(file);

    /// <summary>The distribution of the latent.</summary>
    /// <param name="x">A picture (B, 3, H, W) in [-1, 1] or a log-mel (B, 1, time, mel).</param>
    /// <param name="cancellation">Looked at before every level.</param>
    /// <returns>Mean and log variance, each (B, latent, H / f, W / f), sides rounded down at every halving.</returns>
    public (Tensor Mean, Tensor LogVariance) Encode(Tensor x, CancellationToken cancellation = default)
    {
        using var scope = NewDisposeScope();
        var moments = _encoder.call(x, cancellation);
        moments = _quantConv?.call(moments) ?? moments;
        var halves = moments.chunk(2, 1);
        return (halves[0].MoveToOuterDisposeScope(), halves[1].clamp(LeastLogVariance, LargestLogVariance).MoveToOuterDisposeScope());
    }

    /// <summary>A draw from the distribution of the latent.</summary>
    /// <param name="x">As for <see cref="Encode"/>.</param>
    /// <param name="noise">Standard normal, of the latent's shape.</param>
    public Tensor Sample(Tensor x, Tensor noise)
    {
        using var scope = NewDisposeScope();
        var (mean, logVariance) = Encode(x);
        return (mean + (logVariance * 0.5).exp() * noise).MoveToOuterDisposeScope();
    }

    /// <summary>The picture or mel of a latent.</summary>
    /// <param name="z">(B, latent, h, w), unscaled.</param>
    /// <param name="cancellation">Looked at before every level.</param>
    /// <returns>(B, out, f h, f w).</returns>
    public Tensor Decode(Tensor z, CancellationToken cancellation = default)
    {
        using var scope = NewDisposeScope();
        return _decoder.call(_postQuantConv?.call(z) ?? z, cancellation).MoveToOuterDisposeScope();
    }
}
