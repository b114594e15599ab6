using MelFusion.KeyValue;
using MelFusion.Weights;
using TorchSharp;
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;
using Embedding = MelFusion.Weights.Embedding;
using F = TorchSharp.torch.nn.functional;
using Linear = MelFusion.Weights.Linear;

namespace MelFusion.Text;

// The encoder of T5 and FLAN-T5. Leaves first, the network last. B texts, s tokens, C channels, H heads of width D (H D need not be C).

/// <summary>The sizes of a <see cref="T5Encoder"/>: config.json of transformers' T5, with its defaults.</summary>
public sealed record T5EncoderConfig
{
    /// <summary>The kind of network.</summary>
    public string ModelType { get; init; } = "t5";

    /// <summary>Tokens in the vocabulary.</summary>
    public int VocabSize { get; init; } = 32128;

    /// <summary>Channels.</summary>
    public int DModel { get; init; } = 512;

    /// <summary>Width of a head.</summary>
    public int DKv { get; init; } = 64;

    /// <summary>Channels between the matrices of the feed-forward part.</summary>
    public int DFf { get; init; } = 2048;

    /// <summary>Blocks.</summary>
    public int NumLayers { get; init; } = 6;

    /// <summary>Heads.</summary>
    public int NumHeads { get; init; } = 8;

    /// <summary>Rows of the table of distances.</summary>
    public int RelativeAttentionNumBuckets { get; init; } = 32;

    /// <summary>The distance from which on all are alike.</summary>
    public int RelativeAttentionMaxDistance { get; init; } = 128;

    /// <summary>Epsilon of the norms.</summary>
    public double LayerNormEpsilon { get; init; } = 1e-6;

    /// <summary>"relu" (T5 1.0) or "gated-gelu" (T5 1.1, FLAN).</summary>
    public string FeedForwardProj { get; init; } = "relu";

    /// <summary>Whether the feed-forward part has a gate.</summary>
    internal bool IsGated => FeedForwardProj == "gated-gelu";

    /// <summary>The encoder of FLAN-T5 large, which TANGO conditions on.</summary>
    public static T5EncoderConfig FlanLarge { get; } = new() { DModel = 1024, DFf = 2816, NumLayers = 24, NumHeads = 16, FeedForwardProj = "gated-gelu" };

    /// <summary>The encoder of T5 base, which MusicGen conditions on.</summary>
    public static T5EncoderConfig Base { get; } = new() { DModel = 768, DFf = 3072, NumLayers = 12, NumHeads = 12 };

    /// <summary>Refuses sizes of which no network can be made.</summary>
    /// <exception cref="MelFusionException">With the reason.</exception>
    public void Validate()
    {
        string? wrong =
            VocabSize is < 1 or > 1 << 24 || DModel is < 1 or > 1 << 16 || DKv is < 1 or > 1 << 14 || DFf is < 1 or > 1 << 20 || NumLayers is < 1 or > 256
            || NumHeads is < 1 or > 1 << 12 ? "a size is not usable"
            : RelativeAttentionNumBuckets < 4 || RelativeAttentionNumBuckets % 4 != 0 || RelativeAttentionMaxDistance <= RelativeAttentionNumBuckets / 4
                ? "relative_attention_num_buckets must be a multiple of 4, and a quarter of it below relative_attention_max_distance"
            : FeedForwardProj is not ("relu" or "gated-gelu") ? $"feed_forward_proj '{FeedForwardProj}' is not known; relu and gated-gelu are"
            : null;
        if (wrong is not null)
        {
            throw new MelFusionException($"The text encoder's config.json: {wrong}.");
        }
    }
}

/// <summary>Scaling to a root mean square of one, computed in 32 bits, without mean and bias.</summary>
internal sealed class RootMeanSquareNorm : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "weight")] private readonly Parameter _weight;
    private readonly double _epsilon;

    public RootMeanSquareNorm(int channels, double epsilon, Placement place) : base(nameof(RootMeanSquareNorm))
    {
        _weight = LayerParameter.Empty([channels], place.InFloat32);
        _epsilon = epsilon;
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var wide = x.to(ScalarType.Float32);
        var scale = (wide.square().mean([-1], keepdim: true) + _epsilon).rsqrt();
        return (wide * scale * _weight).to(x.dtype).MoveToOuterDisposeScope();
    }
}

/// <summary>Attention without biases and without scaling; a learnt number for each distance is added to the scores.</summary>
internal sealed class T5SelfAttention : nn.Module<Tensor, Tensor, Tensor>
{
    [ComponentName(Name = "q")] private readonly Linear _q;
    [ComponentName(Name = "k")] private readonly Linear _k;
    [ComponentName(Name = "v")] private readonly Linear _v;
    [ComponentName(Name = "o")] private readonly Linear _o;
    [ComponentName(Name = "relative_attention_bias")] private readonly Embedding? _distances; // of the first block
    private readonly T5EncoderConfig _config;

    public T5SelfAttention(T5EncoderConfig config, bool isFirst, Placement place) : base(nameof(T5SelfAttention))
    {
        int inner = config.NumHeads * config.DKv;
        _q = new(config.DModel, inner, place, bias: false);
        _k = new(config.DModel, inner, place, bias: false);
        _v = new(config.DModel, inner, place, bias: false);
        _o = new(inner, config.DModel, place, bias: false);
        _distances = isFirst ? new(config.RelativeAttentionNumBuckets, config.NumHeads, place) : null;
        _config = config;
        RegisterComponents();
    }

    public override Tensor forward(Tensor x, Tensor bias)
    {
        using var scope = NewDisposeScope();
        var q = Split(_q.call(x)) * Math.Sqrt(_config.DKv); // undoes the scaling inside
        var y = ScaledDotProduct.OfHeads(q, Split(_k.call(x)), Split(_v.call(x)), bias);
        return _o.call(y.transpose(1, 2).flatten(2)).MoveToOuterDisposeScope(); // (B, s, C)
    }

    /// <summary>What is added to the scores in every block: the number of the distance, minus infinity for padding.</summary>
    public Tensor Bias(Tensor mask, ScalarType dtype)
    {
        using var scope = NewDisposeScope();
        long s = mask.shape[1];
        var rows = new long[s * s];
        for (long i = 0; i < rows.Length; i++)
        {
            rows[i] = Bucket((i % s) - (i / s), _config.RelativeAttentionNumBuckets, _config.RelativeAttentionMaxDistance);
        }

        var bias = _distances!.call(torch.tensor(rows, [s, s], device: mask.device)).permute(2, 0, 1).unsqueeze(0); // (1, H, s, s)
        return bias.to(dtype).masked_fill(mask.logical_not().view(-1, 1, 1, s), double.NegativeInfinity).MoveToOuterDisposeScope(); // (B, H, s, s)
    }

    /// <summary>The row of the table for a distance: half of them for keys behind the query; exact when near, logarithmic further off.</summary>
    internal static long Bucket(long distance, int buckets, int farthest)
    {
        int half = buckets / 2, exact = half / 2;
        long size = Math.Abs(distance), side = distance > 0 ? half : 0;
        return size < exact
            ? side + size
            : side + Math.Min(half - 1, exact + (long)(Math.Log(size / (double)exact) / Math.Log(farthest / (double)exact) * (half - exact)));
    }

    private Tensor Split(Tensor x) => x.view(x.shape[0], x.shape[1], _config.NumHeads, _config.DKv).transpose(1, 2); // (B, H, s, D)
}

/// <summary>A norm, attention, and the shortcut around both.</summary>
internal sealed class T5AttentionLayer : nn.Module<Tensor, Tensor, Tensor>
{
    [ComponentName(Name = "SelfAttention")] private readonly T5SelfAttention _attention;
    [ComponentName(Name = "layer_norm")] private readonly RootMeanSquareNorm _norm;

    public T5AttentionLayer(T5EncoderConfig config, bool isFirst, Placement place) : base(nameof(T5AttentionLayer))
    {
        _attention = new(config, isFirst, place);
        _norm = new(config.DModel, config.LayerNormEpsilon, place);
        RegisterComponents();
    }

    public T5SelfAttention Attention => _attention;

    public override Tensor forward(Tensor x, Tensor bias)
    {
        using var scope = NewDisposeScope();
        return (x + _attention.call(_norm.call(x), bias)).MoveToOuterDisposeScope();
    }
}

/// <summary>Two matrices with a ReLU between them, or three where a gelu of the one gates the other.</summary>
internal sealed class T5FeedForward : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "wi")] private readonly Linear? _wi;
    [ComponentName(Name = "wi_0")] private readonly Linear? _gate;
    [ComponentName(Name = "wi_1")] private readonly Linear? _value;
    [ComponentName(Name = "wo")] private readonly Linear _wo;

    public T5FeedForward(T5EncoderConfig config, Placement place) : base(nameof(T5FeedForward))
    {
        Linear In() => new(config.DModel, config.DFf, place, bias: false);
        (_wi, _gate, _value) = config.IsGated ? ((Linear?)null, In(), In()) : (In(), null, null);
        _wo = new(config.DFf, config.DModel, place, bias: false);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var h = _wi is not null ? _wi.call(x).relu() : _gate!.call(x).gelu(GELU.Approximate.tanh) * _value!.call(x);
        return _wo.call(h).MoveToOuterDisposeScope();
    }
}

/// <summary>A norm, the feed-forward part, and the shortcut around both.</summary>
internal sealed class T5FeedForwardLayer : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "DenseReluDense")] private readonly T5FeedForward _dense;
    [ComponentName(Name = "layer_norm")] private readonly RootMeanSquareNorm _norm;

    public T5FeedForwardLayer(T5EncoderConfig config, Placement place) : base(nameof(T5FeedForwardLayer))
    {
        _dense = new(config, place);
        _norm = new(config.DModel, config.LayerNormEpsilon, place);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        return (x + _dense.call(_norm.call(x))).MoveToOuterDisposeScope();
    }
}

/// <summary>Attention, then feed-forward.</summary>
internal sealed class T5Block : nn.Module<Tensor, Tensor, Tensor>
{
    [ComponentName(Name = "layer")] private readonly ModuleList<nn.Module> _layer;

    public T5Block(T5EncoderConfig config, bool isFirst, Placement place) : base(nameof(T5Block))
    {
        _layer = new(new T5AttentionLayer(config, isFirst, place), new T5FeedForwardLayer(config, place));
        RegisterComponents();
    }

    public T5AttentionLayer AttentionLayer => (T5AttentionLayer)_layer[0];

    public override Tensor forward(Tensor x, Tensor bias)
    {
        using var scope = NewDisposeScope();
        return ((T5FeedForwardLayer)_layer[1]).call(AttentionLayer.call(x, bias)).MoveToOuterDisposeScope();
    }
}

/// <summary>The blocks and the last norm.</summary>
internal sealed class T5Stack : nn.Module<Tensor, Tensor, Tensor>
{
    [ComponentName(Name = "block")] private readonly ModuleList<T5Block> _block;
    [ComponentName(Name = "final_layer_norm")] private readonly RootMeanSquareNorm _norm;

    public T5Stack(T5EncoderConfig config, Placement place) : base(nameof(T5Stack))
    {
        _block = new([.. Enumerable.Range(0, config.NumLayers).Select(i => new T5Block(config, i == 0, place))]);
        _norm = new(config.DModel, config.LayerNormEpsilon, place);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x, Tensor mask)
    {
        using var scope = NewDisposeScope();
        var bias = _block[0].AttentionLayer.Attention.Bias(mask, x.dtype);
        foreach (var block in _block)
        {
            x = block.call(x, bias);
        }

        return _norm.call(x).MoveToOuterDisposeScope();
    }
}

/// <summary>
/// The encoder of T5 or FLAN-T5. It computes in the precision of its weights. Whole T5 checkpoints load too (the decoder is left out), and
/// TANGO's main file with its prefix.
/// </summary>
public sealed class T5Encoder : nn.Module<Tensor, Tensor, Tensor>, IPublishedLayouts
{
    [ComponentName(Name = "shared")] private readonly Embedding _shared;
    [ComponentName(Name = "encoder")] private readonly T5Stack _encoder;

    /// <summary>A network of uninitialised weights.</summary>
    /// <param name="config">Its sizes.</param>
    /// <param name="place">Device and precision.</param>
    /// <exception cref="MelFusionException">The sizes cannot be.</exception>
    public T5Encoder(T5EncoderConfig config, Placement place) : base(nameof(T5Encoder))
    {
        config.Validate();
        _shared = new(config.VocabSize, config.DModel, place);
        _encoder = new(config, place);
        RegisterComponents();
    }

    /// <inheritdoc/>
    WeightsFile IPublishedLayouts.InOwnNames(WeightsFile file)
    {
        file = KeyRenames.StripPrefix(file, "text_encoder.");
        return file.Contains("shared.weight")
            ? file.Renamed([new(@"^encoder\.embed_tokens\.", null), new(@"^(decoder|lm_head)\.", null)])
            : file.Renamed([new(@"^encoder\.embed_tokens\.", "shared."), new(@"^(decoder|lm_head)\.", null)]);
    }

    /// <summary>A vector per token.</summary>
    /// <param name="ids">Token ids (B, s), int64.</param>
    /// <param name="mask">True on real tokens (B, s), bool; every text has at least one.</param>
    /// <returns>(B, s, C). Rows of padding hold numbers too; the mask says which to use.</returns>
    public override Tensor forward(Tensor ids, Tensor mask)
    {
        using var scope = NewDisposeScope();
        return _encoder.call(_shared.call(ids), mask).MoveToOuterDisposeScope();
    }
}
