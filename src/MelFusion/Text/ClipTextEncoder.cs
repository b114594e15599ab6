using MelFusion.Weights;
using TorchSharp;
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;
using Embedding = MelFusion.Weights.Embedding;
using F = TorchSharp.torch.nn.functional;
using LayerNorm = MelFusion.Weights.LayerNorm;
using Linear = MelFusion.Weights.Linear;

namespace MelFusion.Text;

// CLIP's transformer and its text encoder. Leaves first, the network last. B texts, s tokens, C channels, H heads of width D.

/// <summary>The sizes of a <see cref="ClipTextEncoder"/>: config.json of transformers' CLIPTextModel, with its defaults.</summary>
public sealed record ClipTextConfig
{
    /// <summary>The kind of network.</summary>
    public string ModelType { get; init; } = "clip_text_model";

    /// <summary>Tokens in the vocabulary.</summary>
    public int VocabSize { get; init; } = 49408;

    /// <summary>Channels.</summary>
    public int HiddenSize { get; init; } = 512;

    /// <summary>Channels between a layer's two matrices.</summary>
    public int IntermediateSize { get; init; } = 2048;

    /// <summary>Layers.</summary>
    public int NumHiddenLayers { get; init; } = 12;

    /// <summary>Heads of every attention.</summary>
    public int NumAttentionHeads { get; init; } = 8;

    /// <summary>Rows of the table of positions: the longest text.</summary>
    public int MaxPositionEmbeddings { get; init; } = 77;

    /// <summary>"quick_gelu" (OpenAI's) or "gelu" (OpenCLIP's).</summary>
    public string HiddenAct { get; init; } = "quick_gelu";

    /// <summary>Epsilon of the norms.</summary>
    public double LayerNormEps { get; init; } = 1e-5;

    /// <summary>The end mark at which the pooled output is taken; 2, which published files state wrongly, means the largest id of a text.</summary>
    public int EosTokenId { get; init; } = 2;

    /// <summary>The text encoder of Stable Diffusion 1.5: CLIP ViT-L/14's.</summary>
    public static ClipTextConfig StableDiffusion15 { get; } = new() { HiddenSize = 768, IntermediateSize = 3072, NumAttentionHeads = 12 };

    /// <summary>The text encoder of Stable Diffusion 2.x: OpenCLIP ViT-H's without its last layer.</summary>
    public static ClipTextConfig StableDiffusion2 { get; } = new()
    {
        HiddenSize = 1024, IntermediateSize = 4096, NumHiddenLayers = 23, NumAttentionHeads = 16, HiddenAct = "gelu",
    };

    /// <summary>Refuses sizes of which no network can be made.</summary>
    /// <exception cref="MelFusionException">With the reason.</exception>
    public void Validate()
    {
        if (VocabSize is < 1 or > 1 << 24 || MaxPositionEmbeddings is < 2 or > 1 << 20)
        {
            throw new MelFusionException("The text encoder's config.json: a table's size is not usable.");
        }

        Layer.Validate();
    }

    /// <summary>What the layers need.</summary>
    internal ClipLayerConfig Layer => new(HiddenSize, IntermediateSize, NumHiddenLayers, NumAttentionHeads, HiddenAct, LayerNormEps);
}

/// <summary>Sizes that CLIP's two towers share.</summary>
internal sealed record ClipLayerConfig(int Width, int Inner, int Layers, int Heads, string Activation, double Epsilon)
{
    public void Validate()
    {
        string? wrong =
            Width is < 1 or > 1 << 16 || Inner is < 1 or > 1 << 20 || Layers is < 1 or > 256 ? "a size is not usable"
            : Heads < 1 || Width % Heads != 0 ? "hidden_size must be a multiple of num_attention_heads"
            : Activation is not ("gelu" or "quick_gelu") ? $"the activation '{Activation}' is not known; gelu and quick_gelu are"
            : null;
        if (wrong is not null)
        {
            throw new MelFusionException($"The encoder's config.json: {wrong}.");
        }
    }
}

/// <summary>Self-attention; in the text tower no token sees those behind it.</summary>
internal sealed class ClipAttention : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "q_proj")] private readonly Linear _q;
    [ComponentName(Name = "k_proj")] private readonly Linear _k;
    [ComponentName(Name = "v_proj")] private readonly Linear _v;
    [ComponentName(Name = "out_proj")] private readonly Linear _out;
    private readonly int _heads;
    private readonly bool _causal;

    public ClipAttention(ClipLayerConfig config, bool causal, Placement place) : base(nameof(ClipAttention))
    {
        Linear Square() => new(config.Width, config.Width, place);
        (_q, _k, _v, _out) = (Square(), Square(), Square(), Square());
        (_heads, _causal) = (config.Heads, causal);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var y = F.scaled_dot_product_attention(Split(_q.call(x)), Split(_k.call(x)), Split(_v.call(x)), is_casual: _causal);
        return _out.call(y.transpose(1, 2).flatten(2)).MoveToOuterDisposeScope(); // (B, s, C)
    }

    private Tensor Split(Tensor x) => x.view(x.shape[0], x.shape[1], _heads, -1).transpose(1, 2); // (B, H, s, D)
}

/// <summary>Two matrices with a gelu between them.</summary>
internal sealed class ClipFeedForward : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "fc1")] private readonly Linear _fc1;
    [ComponentName(Name = "fc2")] private readonly Linear _fc2;
    private readonly bool _quick;

    public ClipFeedForward(ClipLayerConfig config, Placement place) : base(nameof(ClipFeedForward))
    {
        _fc1 = new(config.Width, config.Inner, place);
        _fc2 = new(config.Inner, config.Width, place);
        _quick = config.Activation == "quick_gelu";
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var h = _fc1.call(x);
        return _fc2.call(_quick ? h * (1.702 * h).sigmoid() : F.gelu(h)).MoveToOuterDisposeScope();
    }
}

/// <summary>Attention, then two matrices, each after a norm and inside a shortcut.</summary>
internal sealed class ClipLayer : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "self_attn")] private readonly ClipAttention _attention;
    [ComponentName(Name = "layer_norm1")] private readonly LayerNorm _norm1;
    [ComponentName(Name = "mlp")] private readonly ClipFeedForward _feedForward;
    [ComponentName(Name = "layer_norm2")] private readonly LayerNorm _norm2;

    public ClipLayer(ClipLayerConfig config, bool causal, Placement place) : base(nameof(ClipLayer))
    {
        _attention = new(config, causal, place);
        _norm1 = new(config.Width, config.Epsilon, place);
        _feedForward = new(config, place);
        _norm2 = new(config.Width, config.Epsilon, place);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        x = x + _attention.call(_norm1.call(x));
        return (x + _feedForward.call(_norm2.call(x))).MoveToOuterDisposeScope();
    }
}

/// <summary>The layers one after another.</summary>
internal sealed class ClipLayers : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "layers")] private readonly ModuleList<ClipLayer> _layers;

    public ClipLayers(ClipLayerConfig config, bool causal, Placement place) : base(nameof(ClipLayers))
    {
        _layers = new([.. Enumerable.Range(0, config.Layers).Select(_ => new ClipLayer(config, causal, place))]);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        foreach (var layer in _layers)
        {
            x = layer.call(x);
        }

        return x.MoveToOuterDisposeScope();
    }
}

/// <summary>Token and position of each token as one vector.</summary>
internal sealed class ClipTextEmbeddings : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "token_embedding")] private readonly Embedding _tokens;
    [ComponentName(Name = "position_embedding")] private readonly Embedding _positions;

    public ClipTextEmbeddings(ClipTextConfig config, Placement place) : base(nameof(ClipTextEmbeddings))
    {
        _tokens = new(config.VocabSize, config.HiddenSize, place);
        _positions = new(config.MaxPositionEmbeddings, config.HiddenSize, place);
        RegisterComponents();
    }

    public override Tensor forward(Tensor ids)
    {
        using var scope = NewDisposeScope();
        return (_tokens.call(ids) + _positions.Weight.narrow(0, 0, ids.shape[1])).MoveToOuterDisposeScope(); // (B, s, C)
    }
}

/// <summary>The text tower: embeddings, layers, a last norm.</summary>
internal sealed class ClipTextTower : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "embeddings")] private readonly ClipTextEmbeddings _embeddings;
    [ComponentName(Name = "encoder")] private readonly ClipLayers _encoder;
    [ComponentName(Name = "final_layer_norm")] private readonly LayerNorm _norm;
    private readonly int _end;

    public ClipTextTower(ClipTextConfig config, Placement place) : base(nameof(ClipTextTower))
    {
        config.Validate();
        _embeddings = new(config, place);
        _encoder = new(config.Layer, causal: true, place);
        _norm = new(config.HiddenSize, config.LayerNormEps, place);
        _end = config.EosTokenId;
        RegisterComponents();
    }

    public override Tensor forward(Tensor ids)
    {
        using var scope = NewDisposeScope();
        return _norm.call(_encoder.call(_embeddings.call(ids))).MoveToOuterDisposeScope();
    }

    /// <summary>The state at the first end mark of each text, (B, C).</summary>
    public Tensor Pool(Tensor states, Tensor ids)
    {
        using var scope = NewDisposeScope();
        var place = (_end == 2 ? ids : ids.eq(_end).to(ScalarType.Int64)).argmax(1); // (B); argmax gives the first
        return states[torch.arange(ids.shape[0], device: ids.device), place].MoveToOuterDisposeScope();
    }
}

/// <summary>The text encoder of Stable Diffusion: CLIP's for 1.x, OpenCLIP's for 2.x. Every layer is run, then the last norm.</summary>
public sealed class ClipTextEncoder : nn.Module<Tensor, Tensor, Tensor>, IPublishedLayouts
{
    [ComponentName(Name = "text_model")] private readonly ClipTextTower _tower;

    /// <summary>A network of uninitialised weights.</summary>
    /// <param name="config">Its sizes.</param>
    /// <param name="place">Device and precision, in which it also computes.</param>
    /// <exception cref="MelFusionException">The sizes cannot be.</exception>
    public ClipTextEncoder(ClipTextConfig config, Placement place) : base(nameof(ClipTextEncoder))
    {
        _tower = new(config, place);
        RegisterComponents();
    }

    /// <summary>Older files carry the numbers 0, 1, 2, ... as if they were weights.</summary>
    WeightsFile IPublishedLayouts.InOwnNames(WeightsFile file) => file.Renamed([new(@"\.position_ids$", null)]);

    /// <summary>A vector per token. Padding is not masked: Stable Diffusion was trained so.</summary>
    /// <param name="ids">Token ids (B, s), int64, s at most the longest text.</param>
    /// <param name="mask">Not looked at.</param>
    /// <returns>(B, s, C).</returns>
    public override Tensor forward(Tensor ids, Tensor mask) => _tower.call(ids);

    /// <summary>The state at the first end mark of each text.</summary>
    /// <param name="states">(B, s, C).</param>
    /// <param name="ids">(B, s).</param>
    /// <returns>(B, C).</returns>
    public Tensor Pool(Tensor states, Tensor ids) => _tower.Pool(states, ids);
}
