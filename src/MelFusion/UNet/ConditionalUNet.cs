using MelFusion.KeyValue;
using MelFusion.Weights;
using TorchSharp;
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;
using Conv2d = MelFusion.Weights.Conv2d;
using F = TorchSharp.torch.nn.functional;
using GroupNorm = MelFusion.Weights.GroupNorm;
using LayerNorm = MelFusion.Weights.LayerNorm;
using Linear = MelFusion.Weights.Linear;

namespace MelFusion.UNet;

// One architecture for the picture's and the music's model; only sizes differ. Leaves first, the network last.
// B samples, C channels, H x W positions of a latent, n = H W tokens (row by row), s text tokens, d width of a layer, c width of the
// text, e width of the time embedding. Every leaf opens a dispose scope: what backward needs, autograd holds itself.

/// <summary>Everything a layer sees besides the latent, for one call.</summary>
/// <param name="Time">silu of the time embedding, (B, e).</param>
/// <param name="Text">(B, s, c), or (1, s, c) for the same text in every sample.</param>
/// <param name="Bias">0 on valid tokens, -10000 on padding, (B, 1, 1, s); null: no padding.</param>
/// <param name="Tap">Passes through the attention; null: none.</param>
/// <param name="Projected">K^M and V^M of the text, where they were computed before.</param>
internal readonly record struct Conditioning(Tensor Time, Tensor Text, Tensor? Bias, IKeyValueTap? Tap, TextKeyValues? Projected);

/// <summary>The timestep as a vector: a sinusoid, then two linear layers.</summary>
internal sealed class TimeEmbedding : nn.Module
{
    [ComponentName(Name = "linear_1")] private readonly Linear _linear1;
    [ComponentName(Name = "linear_2")] private readonly Linear _linear2;
    private readonly long _half;
    private readonly double _shift;
    private readonly bool _cosineFirst;

    public TimeEmbedding(UNetConfig config, Placement place) : base(nameof(TimeEmbedding))
    {
        int width = config.BlockOutChannels[0];
        _linear1 = new(width, 4 * width, place);
        _linear2 = new(4 * width, 4 * width, place);
        (_half, _shift, _cosineFirst) = (width / 2, config.FreqShift, config.FlipSinToCos);
        RegisterComponents();
    }

    /// <summary>t (B) to (B, e), in the precision asked for.</summary>
    public Tensor Forward(Tensor timestep, ScalarType dtype) =>
        _linear2.forward(Fresh.Silu(_linear1.forward(Sinusoid(timestep).to(dtype))));

    // Angles t 10000^(-i / (half - shift)): (B) to (B, 2 half).
    internal Tensor Sinusoid(Tensor timestep)
    {
        var exponents = arange(_half, ScalarType.Float32, timestep.device) * (-Math.Log(10000) / (_half - _shift));
        var angles = timestep.to(ScalarType.Float32).unsqueeze(1) * exponents.exp();
        return _cosineFirst ? cat([angles.cos(), angles.sin()], 1) : cat([angles.sin(), angles.cos()], 1);
    }
}

/// <summary>Two convolutions with the timestep between them, and a shortcut around them.</summary>
internal sealed class ResnetBlock : nn.Module
{
    [ComponentName(Name = "norm1")] private readonly GroupNorm _norm1;
    [ComponentName(Name = "conv1")] private readonly Conv2d _conv1;
    [ComponentName(Name = "time_emb_proj")] private readonly Linear _timeProjection;
    [ComponentName(Name = "norm2")] private readonly GroupNorm _norm2;
    [ComponentName(Name = "conv2")] private readonly Conv2d _conv2;
    [ComponentName(Name = "conv_shortcut")] private readonly Conv2d? _shortcut;

    public ResnetBlock(UNetConfig config, int inChannels, int outChannels, Placement place) : base(nameof(ResnetBlock))
    {
        _norm1 = new(config.NormNumGroups, inChannels, config.NormEps, place);
        _conv1 = new(inChannels, outChannels, 3, place, padding: 1);
        _timeProjection = new(4 * config.BlockOutChannels[0], outChannels, place);
        _norm2 = new(config.NormNumGroups, outChannels, config.NormEps, place);
        _conv2 = new(outChannels, outChannels, 3, place, padding: 1);
        _shortcut = inChannels == outChannels ? null : new(inChannels, outChannels, 1, place);
        RegisterComponents();
    }

    /// <summary>(B, C, H, W) to (B, C', H, W).</summary>
    public Tensor Forward(Tensor x, Tensor time)
    {
        using var scope = NewDisposeScope();
        var h = _conv1.forward(Fresh.Silu(_norm1.forward(x)));
        h = Fresh.Add(h, _timeProjection.forward(time).unsqueeze(-1).unsqueeze(-1)); // (B, C', 1, 1)
        h = _conv2.forward(Fresh.Silu(_norm2.forward(h)));
        return Fresh.Add(h, _shortcut?.forward(x) ?? x).MoveToOuterDisposeScope();
    }
}

/// <summary>Q, K, V and out of one attention; what it attends to is chosen by the call.</summary>
internal sealed class AttentionProjections : nn.Module
{
    [ComponentName(Name = "to_q")] private readonly Linear _toQ;
    [ComponentName(Name = "to_k")] private readonly Linear _toK;
    [ComponentName(Name = "to_v")] private readonly Linear _toV;
    [ComponentName(Name = "to_out")] private readonly ModuleList<Linear> _toOut;
    private readonly AttentionLayer _layer;

    public AttentionProjections(AttentionLayer layer, int memoryWidth, Placement place) : base(nameof(AttentionProjections))
    {
        _layer = layer;
        _toQ = new(layer.Width, layer.Width, place, bias: false);
        _toK = new(memoryWidth, layer.Width, place, bias: false);
        _toV = new(memoryWidth, layer.Width, place, bias: false);
        _toOut = new(new Linear(layer.Width, layer.Width, place));
        RegisterComponents();
    }

    /// <summary>(B, n, width of what is attended to) to K and V, (B, n, d).</summary>
    public KeysAndValues Project(Tensor memory) => new(_toK.forward(memory), _toV.forward(memory));

    /// <summary>Self-attention over x (B, n, d).</summary>
    public Tensor ToItself(Tensor x, IKeyValueTap? tap)
    {
        using var scope = NewDisposeScope();
        var own = Project(x);
        var memory = tap?.SelfAttention(_layer, own) ?? own;
        var attended = ScaledDotProduct.Attend(_toQ.forward(x), memory, _layer.Heads);
        return _toOut[0].forward(attended).MoveToOuterDisposeScope();
    }

    /// <summary>Cross-attention of x (B, n, d) to the text; where there is a picture, the tap lets it in here (Eq. 5-6).</summary>
    public Tensor ToText(Tensor x, Conditioning given)
    {
        using var scope = NewDisposeScope();
        var tap = given.Tap;
        var states = tap?.Context(_layer, given.Text) ?? given.Text;
        bool known = given.Projected is not null && ReferenceEquals(states, given.Text);
        var text = known ? given.Projected!.KeyValues[_layer.Name] : Project(states);
        var queries = _toQ.forward(x);
        var attended = tap?.CrossAttention(_layer, queries, text, given.Bias) ?? ScaledDotProduct.Attend(queries, text, _layer.Heads, given.Bias);
        var y = _toOut[0].forward(attended);
        tap?.CrossAttentionOutput(_layer, y);
        return y.MoveToOuterDisposeScope();
    }
}

/// <summary>The gated half of the feed-forward: value x gelu(gate), both from one projection.</summary>
internal sealed class Geglu : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "proj")] private readonly Linear _projection;

    public Geglu(int width, int inner, Placement place) : base(nameof(Geglu))
    {
        _projection = new(width, 2 * inner, place);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        var halves = _projection.forward(x).chunk(2, -1);
        return halves[0] * Fresh.Gelu(halves[1]);
    }
}

/// <summary>d to 4 d, gated, to d. The middle item has no weights; it keeps the published numbering.</summary>
internal sealed class FeedForward : nn.Module
{
    [ComponentName(Name = "net")] private readonly ModuleList<nn.Module<Tensor, Tensor>> _net;

    public FeedForward(int width, Placement place) : base(nameof(FeedForward))
    {
        _net = new(new Geglu(width, 4 * width, place), nn.Identity(), new Linear(4 * width, width, place));
        RegisterComponents();
    }

    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        return _net[2].forward(_net[0].forward(x)).MoveToOuterDisposeScope();
    }
}

/// <summary>Self-attention, cross-attention, feed-forward, each around a residual; over tokens (B, n, d).</summary>
internal sealed class TransformerBlock : nn.Module
{
    private const double Epsilon = 1e-5;

    [ComponentName(Name = "norm1")] private readonly LayerNorm _norm1;
    [ComponentName(Name = "attn1")] private readonly AttentionProjections _selfAttention;
    [ComponentName(Name = "norm2")] private readonly LayerNorm _norm2;
    [ComponentName(Name = "attn2")] private readonly AttentionProjections _crossAttention;
    [ComponentName(Name = "norm3")] private readonly LayerNorm _norm3;
    [ComponentName(Name = "ff")] private readonly FeedForward _feedForward;
    private readonly AttentionLayer _layer;

    public TransformerBlock(AttentionLayer layer, int textWidth, Placement place) : base(nameof(TransformerBlock))
    {
        _layer = layer;
        _norm1 = new(layer.Width, Epsilon, place);
        _selfAttention = new(layer, layer.Width, place);
        _norm2 = new(layer.Width, Epsilon, place);
        _crossAttention = new(layer, textWidth, place);
        _norm3 = new(layer.Width, Epsilon, place);
        _feedForward = new(layer.Width, place);
        RegisterComponents();
    }

    public AttentionProjections CrossAttention => _crossAttention;

    /// <summary>(B, n, d) to (B, n, d); x is overwritten when no gradient is recorded.</summary>
    public Tensor Forward(Tensor x, Conditioning given)
    {
        x = Fresh.Add(x, _selfAttention.ToItself(_norm1.forward(x), given.Tap));
        x = Fresh.Add(x, _crossAttention.ToText(_norm2.forward(x), given));
        return Fresh.Add(x, _feedForward.Forward(_norm3.forward(x)));
    }

    /// <summary>Shows the tap K and V of the self-attention and does nothing else.</summary>
    public void Show(Tensor x, IKeyValueTap tap) => tap.SelfAttention(_layer, _selfAttention.Project(_norm1.forward(x)));
}

/// <summary>From positions to tokens, through a transformer block, and back.</summary>
internal sealed class TransformerLayer : nn.Module
{
    private const double Epsilon = 1e-6;

    [ComponentName(Name = "norm")] private readonly GroupNorm _norm;
    [ComponentName(Name = "proj_in")] private readonly nn.Module<Tensor, Tensor> _projectIn;
    [ComponentName(Name = "transformer_blocks")] private readonly ModuleList<TransformerBlock> _blocks;
    [ComponentName(Name = "proj_out")] private readonly nn.Module<Tensor, Tensor> _projectOut;
    private readonly bool _linear;

    public TransformerLayer(UNetConfig config, AttentionLayer layer, Placement place) : base(nameof(TransformerLayer))
    {
        (Layer, _linear) = (layer, config.UseLinearProjection);
        _norm = new(config.NormNumGroups, layer.Width, Epsilon, place);
        _projectIn = _linear ? new Linear(layer.Width, layer.Width, place) : new Conv2d(layer.Width, layer.Width, 1, place);
        _blocks = new(new TransformerBlock(layer, config.CrossAttentionDim, place));
        _projectOut = _linear ? new Linear(layer.Width, layer.Width, place) : new Conv2d(layer.Width, layer.Width, 1, place);
        RegisterComponents();
    }

    public AttentionLayer Layer { get; }

    public AttentionProjections CrossAttention => _blocks[0].CrossAttention;

    /// <summary>(B, d, H, W) to (B, d, H, W); x is overwritten when no gradient is recorded.</summary>
    public Tensor Forward(Tensor x, Conditioning given)
    {
        using var scope = NewDisposeScope();
        var tokens = _blocks[0].Forward(Tokens(x), given);
        var y = _linear
            ? Positions(_projectOut.forward(tokens), x)
            : _projectOut.forward(Positions(tokens, x));
        return Fresh.Add(x.alias(), y).MoveToOuterDisposeScope();
    }

    /// <summary>Runs as far as K and V of the self-attention, for a call that wants nothing after them.</summary>
    public void Show(Tensor x, IKeyValueTap tap)
    {
        using var scope = NewDisposeScope();
        _blocks[0].Show(Tokens(x), tap);
    }

    private Tensor Tokens(Tensor x)
    {
        var h = _norm.forward(x);
        return _linear ? _projectIn.forward(Flatten(h)) : Flatten(_projectIn.forward(h));
    }

    // (B, d, H, W) to (B, n, d), row by row. Where the memory is in the order B, H, W, d already, neither way moves anything.
    private static Tensor Flatten(Tensor x) => x.flatten(2).transpose(1, 2).contiguous();

    // (B, n, d) to (B, d, H, W).
    private static Tensor Positions(Tensor tokens, Tensor like) => like.HasChannelsLast()
        ? tokens.transpose(1, 2).view(like.shape)
        : tokens.transpose(1, 2).contiguous().view(like.shape);
}

/// <summary>A convolution that halves the sides of a latent.</summary>
internal sealed class Downsample : nn.Module
{
    [ComponentName(Name = "conv")] private readonly Conv2d _conv;

    public Downsample(int width, int padding, Placement place) : base(nameof(Downsample))
    {
        _conv = new(width, width, 3, place, stride: 2, padding: padding);
        RegisterComponents();
    }

    public Tensor Forward(Tensor x) => _conv.forward(x);
}

/// <summary>Nearest neighbours up to a size, and a convolution.</summary>
internal sealed class Upsample : nn.Module
{
    [ComponentName(Name = "conv")] private readonly Conv2d _conv;

    public Upsample(int width, Placement place) : base(nameof(Upsample))
    {
        _conv = new(width, width, 3, place, padding: 1);
        RegisterComponents();
    }

    public Tensor Forward(Tensor x, long height, long width)
    {
        using var scope = NewDisposeScope();
        return _conv.forward(F.interpolate(x, size: [height, width], mode: InterpolationMode.Nearest)).MoveToOuterDisposeScope();
    }
}

/// <summary>One level on the way down.</summary>
internal sealed class DownBlock : nn.Module
{
    [ComponentName(Name = "resnets")] private readonly ModuleList<ResnetBlock> _resnets;
    [ComponentName(Name = "attentions")] private readonly ModuleList<TransformerLayer>? _attentions;
    [ComponentName(Name = "downsamplers")] private readonly ModuleList<Downsample>? _downsamplers;

    public DownBlock(UNetConfig config, int level, Placement place) : base(nameof(DownBlock))
    {
        int width = config.BlockOutChannels[level];
        int before = config.BlockOutChannels[Math.Max(level - 1, 0)];
        var layers = Enumerable.Range(0, config.LayersPerBlock).ToList();
        _resnets = new([.. layers.Select(i => new ResnetBlock(config, i == 0 ? before : width, width, place))]);
        _attentions = UNetConfig.HasAttention(config.DownBlockTypes[level])
            ? new([.. layers.Select(i => new TransformerLayer(config, config.Layer($"down_blocks.{level}.attentions.{i}", level), place))])
            : null;
        _downsamplers = level < config.Levels - 1 ? new(new Downsample(width, config.DownsamplePadding, place)) : null;
        RegisterComponents();
    }

    public IEnumerable<TransformerLayer> Attentions => _attentions ?? Enumerable.Empty<TransformerLayer>();

    /// <summary>(B, C, H, W) to (B, d, H/2, W/2), or null where the call ends inside; every result on the way is a skip.</summary>
    public Tensor? Forward(Tensor x, Conditioning given, List<Tensor> skips, AttentionLayer? last)
    {
        for (int i = 0; i < _resnets.Count; i++)
        {
            x = _resnets[i].Forward(x, given.Time);
            if (_attentions is not null)
            {
                if (last is not null && _attentions[i].Layer == last)
                {
                    _attentions[i].Show(x, given.Tap!);
                    return null;
                }

                x = _attentions[i].Forward(x, given);
            }

            skips.Add(x);
        }

        if (_downsamplers is not null)
        {
            x = _downsamplers[0].Forward(x);
            skips.Add(x);
        }

        return x;
    }
}

/// <summary>The coarsest level, where the two ways meet.</summary>
internal sealed class MidBlock : nn.Module
{
    [ComponentName(Name = "resnets")] private readonly ModuleList<ResnetBlock> _resnets;
    [ComponentName(Name = "attentions")] private readonly ModuleList<TransformerLayer> _attentions;

    public MidBlock(UNetConfig config, Placement place) : base(nameof(MidBlock))
    {
        int width = config.BlockOutChannels[^1];
        _resnets = new(new ResnetBlock(config, width, width, place), new ResnetBlock(config, width, width, place));
        _attentions = new(new TransformerLayer(config, config.Layer("mid_block.attentions.0", config.Levels - 1), place));
        RegisterComponents();
    }

    public IEnumerable<TransformerLayer> Attentions => _attentions;

    /// <summary>(B, d, H, W) to (B, d, H, W).</summary>
    public Tensor Forward(Tensor x, Conditioning given)
    {
        x = _resnets[0].Forward(x, given.Time);
        x = _attentions[0].Forward(x, given);
        return _resnets[1].Forward(x, given.Time);
    }
}

/// <summary>One level on the way up.</summary>
internal sealed class UpBlock : nn.Module
{
    [ComponentName(Name = "resnets")] private readonly ModuleList<ResnetBlock> _resnets;
    [ComponentName(Name = "attentions")] private readonly ModuleList<TransformerLayer>? _attentions;
    [ComponentName(Name = "upsamplers")] private readonly ModuleList<Upsample>? _upsamplers;

    public UpBlock(UNetConfig config, int block, Placement place) : base(nameof(UpBlock))
    {
        int level = config.Levels - 1 - block;
        int width = config.BlockOutChannels[level];
        int below = config.BlockOutChannels[Math.Min(level + 1, config.Levels - 1)]; // what comes from the coarser level
        int above = config.BlockOutChannels[Math.Max(level - 1, 0)]; // the skip that entered this level on the way down
        var layers = Enumerable.Range(0, config.LayersPerBlock + 1).ToList();
        _resnets = new([.. layers.Select(i => new ResnetBlock(
            config, (i == 0 ? below : width) + (i == config.LayersPerBlock ? above : width), width, place))]);
        _attentions = UNetConfig.HasAttention(config.UpBlockTypes[block])
            ? new([.. layers.Select(i => new TransformerLayer(config, config.Layer($"up_blocks.{block}.attentions.{i}", level), place))])
            : null;
        _upsamplers = level > 0 ? new(new Upsample(width, place)) : null;
        RegisterComponents();
    }

    public IEnumerable<TransformerLayer> Attentions => _attentions ?? Enumerable.Empty<TransformerLayer>();

    /// <summary>(B, C, H, W) to (B, d, 2H, 2W), or null where the call ends inside; one skip is taken per layer, the last first.</summary>
    public Tensor? Forward(Tensor x, Conditioning given, List<Tensor> skips, AttentionLayer? last)
    {
        using var scope = NewDisposeScope();
        for (int i = 0; i < _resnets.Count; i++)
        {
            using var skip = skips[^1];
            skips.RemoveAt(skips.Count - 1);
            using var both = cat([x, skip], 1); // the skip behind the hidden state
            x = _resnets[i].Forward(both, given.Time);
            if (_attentions is not null)
            {
                if (last is not null && _attentions[i].Layer == last)
                {
                    _attentions[i].Show(x, given.Tap!);
                    return null;
                }

                x = _attentions[i].Forward(x, given);
            }
        }

        // To the size of the next skip: sides that were odd on the way down come back as they were.
        x = _upsamplers is null ? x : _upsamplers[0].Forward(x, skips[^1].shape[2], skips[^1].shape[3]);
        return x.MoveToOuterDisposeScope();
    }
}

/// <summary>
/// A latent diffusion model's network: predicts noise or velocity from a noisy latent, its timestep and a text. The picture's and the
/// music's model are both of this class; keys are those of diffusers' UNet2DConditionModel. It computes in the precision of the latent.
/// </summary>
/// <remarks>
/// Sampling: under no_grad, with the text projected once (<see cref="ProjectText"/>), once per step
/// <c>unet.Forward(z, t, text, mask, tap, projected)</c>. Training: the same call with gradients and without
/// <c>projected</c>; the tap of a <see cref="Synapse.VisualSynapse"/> carries the picture, sample by sample.
/// </remarks>
public sealed class ConditionalUNet : nn.Module
{
    private const float PaddingBias = -10000;

    [ComponentName(Name = "conv_in")] private readonly Conv2d _convIn;
    [ComponentName(Name = "time_embedding")] private readonly TimeEmbedding _timeEmbedding;
    [ComponentName(Name = "down_blocks")] private readonly ModuleList<DownBlock> _downBlocks;
    [ComponentName(Name = "mid_block")] private readonly MidBlock _midBlock;
    [ComponentName(Name = "up_blocks")] private readonly ModuleList<UpBlock> _upBlocks;
    [ComponentName(Name = "conv_norm_out")] private readonly GroupNorm _normOut;
    [ComponentName(Name = "conv_out")] private readonly Conv2d _convOut;

    /// <summary>A network of uninitialised weights.</summary>
    /// <exception cref="MelFusionException">The config states what this network cannot be.</exception>
    public ConditionalUNet(UNetConfig config, Placement place) : base(nameof(ConditionalUNet))
    {
        config.Validate();
        Config = config;
        int width = config.BlockOutChannels[0];
        var levels = Enumerable.Range(0, config.Levels).ToList();
        _convIn = new(config.InChannels, width, 3, place, padding: 1);
        _timeEmbedding = new(config, place);
        _downBlocks = new([.. levels.Select(level => new DownBlock(config, level, place))]);
        _midBlock = new(config, place);
        _upBlocks = new([.. levels.Select(block => new UpBlock(config, block, place))]);
        _normOut = new(config.NormNumGroups, width, config.NormEps, place);
        _convOut = new(width, config.OutChannels, 3, place, padding: 1);
        RegisterComponents();
    }

    /// <summary>The sizes it was made with.</summary>
    public UNetConfig Config { get; }

    /// <summary>Sees what the parts give, by the name of their keys, so that a difference from a reference can be placed.</summary>
    internal Action<string, Tensor>? Observer { get; set; }

    /// <summary>Every transformer layer's cross-attention with its place, in the order in which they run.</summary>
    private IEnumerable<TransformerLayer> Attentions =>
        [.. _downBlocks.SelectMany(block => block.Attentions), .. _midBlock.Attentions, .. _upBlocks.SelectMany(block => block.Attentions)];

    /// <summary>The prediction, (B, out, H, W).</summary>
    /// <param name="sample">z_t, (B, in, H, W).</param>
    /// <param name="timestep">t, (B) or (1), int64.</param>
    /// <param name="text">c, (B, s, c), or (1, s, c) for the same text in every sample.</param>
    /// <param name="textMask">(B, s) or (1, s) of bool, true where a token is valid; null: all are.</param>
    /// <param name="tap">Passes through every attention; null: plain text conditioning.</param>
    /// <param name="textKeyValues">What <see cref="ProjectText"/> gave for the same text; null: computed here.</param>
    public Tensor Forward(
        Tensor sample, Tensor timestep, Tensor text, Tensor? textMask = null, IKeyValueTap? tap = null, TextKeyValues? textKeyValues = null) =>
        Run(sample, timestep, text, textMask, tap, textKeyValues, last: null)!;

    /// <summary>
    /// Runs only as far as the last layer a recorder wants and gives what it recorded: all that Algorithm 2 needs of the picture's UNet when
    /// its prediction is not needed. No gradient is recorded.
    /// </summary>
    /// <inheritdoc cref="Forward"/>
    public CapturedKeyValues Capture(
        Tensor sample, Tensor timestep, Tensor text, KeyValueRecorder recorder, Tensor? textMask = null, TextKeyValues? textKeyValues = null)
    {
        using var noGrad = no_grad();
        var last = recorder.NeedsOutputs ? null : Attentions.Select(attention => attention.Layer).LastOrDefault(recorder.Wants);
        Run(sample, timestep, text, textMask, recorder, textKeyValues, last)?.Dispose();
        return recorder.Take();
    }

    /// <summary>K^M and V^M of every cross-attention for these texts (B, s, c), to be given to every step of a clip.</summary>
    public TextKeyValues ProjectText(Tensor text)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        return new(Attentions.ToDictionary(attention => attention.Layer.Name, attention => attention.CrossAttention.Project(text)));
    }

    private Tensor? Run(
        Tensor sample, Tensor timestep, Tensor text, Tensor? textMask, IKeyValueTap? tap, TextKeyValues? projected, AttentionLayer? last)
    {
        using var scope = NewDisposeScope();
        tap?.Begin(timestep);
        var time = _timeEmbedding.Forward(timestep, sample.dtype); // (B, e)
        Observer?.Invoke("time_embedding", time);
        var given = new Conditioning(Fresh.Silu(time), text.to(sample.dtype), Bias(textMask, sample.dtype), tap, projected);

        // Down: every result is kept for the way up.
        Tensor? h = _convIn.forward(sample);
        Observer?.Invoke("conv_in", h);
        var skips = new List<Tensor> { h };
        for (int i = 0; i < _downBlocks.Count; i++)
        {
            h = _downBlocks[i].Forward(h, given, skips, last);
            if (h is null)
            {
                return null;
            }

            Observer?.Invoke($"down_blocks.{i}", h);
        }

        // Middle.
        h = _midBlock.Forward(h, given);
        Observer?.Invoke("mid_block", h);

        // Up: each layer takes the skip of its size.
        for (int i = 0; i < _upBlocks.Count; i++)
        {
            h = _upBlocks[i].Forward(h, given, skips, last);
            if (h is null)
            {
                return null;
            }

            Observer?.Invoke($"up_blocks.{i}", h);
        }

        // Out.
        h = _convOut.forward(Fresh.Silu(_normOut.forward(h)));
        return h.contiguous().MoveToOuterDisposeScope();
    }

    // (B, s) of bool to what is added to the scores, (B, 1, 1, s). A row without any valid token acts as if it had no mask.
    private static Tensor? Bias(Tensor? mask, ScalarType dtype) =>
        mask is null ? null : ((1 - mask.to(dtype)) * PaddingBias).unsqueeze(1).unsqueeze(1);
}
