using MelFusion.KeyValue;
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

// BERT's encoder, of which MiniLM is a small one (and RoBERTa one that counts positions otherwise). Leaves first, the network last.
// B texts, s tokens, C channels, H heads of width D.

/// <summary>The sizes of a <see cref="MiniLm"/>: config.json of transformers' BertModel or RobertaModel; the defaults are all-MiniLM-L6-v2's.</summary>
public sealed record MiniLmConfig
{
    /// <summary>"bert", or "roberta": there positions are counted over real tokens and begin after the padding id.</summary>
    public string ModelType { get; init; } = "bert";

    /// <summary>Tokens in the vocabulary.</summary>
    public int VocabSize { get; init; } = 30522;

    /// <summary>Channels.</summary>
    public int HiddenSize { get; init; } = 384;

    /// <summary>Layers.</summary>
    public int NumHiddenLayers { get; init; } = 6;

    /// <summary>Heads of every attention.</summary>
    public int NumAttentionHeads { get; init; } = 12;

    /// <summary>Channels between a layer's two matrices.</summary>
    public int IntermediateSize { get; init; } = 1536;

    /// <summary>Rows of the table of positions.</summary>
    public int MaxPositionEmbeddings { get; init; } = 512;

    /// <summary>Rows of the table of token types; only the first is used.</summary>
    public int TypeVocabSize { get; init; } = 2;

    /// <summary>Epsilon of the norms.</summary>
    public double LayerNormEps { get; init; } = 1e-12;

    /// <summary>The padding token.</summary>
    public int PadTokenId { get; init; }

    /// <summary>The activation; only "gelu", by the error function, is known.</summary>
    public string HiddenAct { get; init; } = "gelu";

    /// <summary>Refuses sizes of which no network can be made.</summary>
    /// <exception cref="MelFusionException">With the reason.</exception>
    public void Validate()
    {
        string? wrong =
            VocabSize is < 1 or > 1 << 24 || HiddenSize is < 1 or > 1 << 16 || IntermediateSize is < 1 or > 1 << 20 || NumHiddenLayers is < 1 or > 256 ? "a size is not usable"
            : NumAttentionHeads < 1 || HiddenSize % NumAttentionHeads != 0 ? "hidden_size must be a multiple of num_attention_heads"
            : MaxPositionEmbeddings is < 3 or > 1 << 20 || TypeVocabSize is < 1 or > 1024 || PadTokenId < 0 || PadTokenId >= VocabSize ? "a table's size is not usable"
            : HiddenAct != "gelu" ? $"the activation '{HiddenAct}' is not known; gelu is"
            : null;
        if (wrong is not null)
        {
            throw new MelFusionException($"The text encoder's config.json: {wrong}.");
        }
    }
}

/// <summary>Token, position and type of each token as one vector.</summary>
internal sealed class BertEmbeddings : nn.Module<Tensor, Tensor, Tensor>
{
    [ComponentName(Name = "word_embeddings")] private readonly Embedding _words;
    [ComponentName(Name = "position_embeddings")] private readonly Embedding _positions;
    [ComponentName(Name = "token_type_embeddings")] private readonly Embedding _types;
    [ComponentName(Name = "LayerNorm")] private readonly LayerNorm _norm;
    private readonly int? _padding; // of RoBERTa

    public BertEmbeddings(MiniLmConfig config, Placement place) : base(nameof(BertEmbeddings))
    {
        _words = new(config.VocabSize, config.HiddenSize, place);
        _positions = new(config.MaxPositionEmbeddings, config.HiddenSize, place);
        _types = new(config.TypeVocabSize, config.HiddenSize, place);
        _norm = new(config.HiddenSize, config.LayerNormEps, place);
        _padding = config.ModelType == "roberta" ? config.PadTokenId : null;
        RegisterComponents();
    }

    public override Tensor forward(Tensor ids, Tensor mask)
    {
        using var scope = NewDisposeScope();
        var places = _padding is { } padding
            ? (mask.to(ScalarType.Int64).cumsum(1) * mask) + padding
            : torch.arange(ids.shape[1], dtype: ScalarType.Int64, device: ids.device);
        var x = _words.call(ids) + _positions.call(places) + _types.Weight[0];
        return _norm.call(x).MoveToOuterDisposeScope(); // (B, s, C)
    }
}

/// <summary>Queries, keys and values of the real tokens, mixed (Eq. 1).</summary>
internal sealed class BertSelfAttention : nn.Module<Tensor, Tensor, Tensor>
{
    [ComponentName(Name = "query")] private readonly Linear _query;
    [ComponentName(Name = "key")] private readonly Linear _key;
    [ComponentName(Name = "value")] private readonly Linear _value;
    private readonly int _heads;

    public BertSelfAttention(MiniLmConfig config, Placement place) : base(nameof(BertSelfAttention))
    {
        _query = new(config.HiddenSize, config.HiddenSize, place);
        _key = new(config.HiddenSize, config.HiddenSize, place);
        _value = new(config.HiddenSize, config.HiddenSize, place);
        _heads = config.NumAttentionHeads;
        RegisterComponents();
    }

    public override Tensor forward(Tensor x, Tensor mask)
    {
        using var scope = NewDisposeScope();
        var (q, k, v) = (Split(_query.call(x)), Split(_key.call(x)), Split(_value.call(x)));
        var y = ScaledDotProduct.OfHeads(q, k, v, mask.view(mask.shape[0], 1, 1, -1));
        return y.transpose(1, 2).flatten(2).MoveToOuterDisposeScope(); // (B, s, C)
    }

    private Tensor Split(Tensor x) => x.view(x.shape[0], x.shape[1], _heads, -1).transpose(1, 2); // (B, H, s, D)
}

/// <summary>A matrix, the sum with a shortcut, and a norm.</summary>
internal sealed class BertOutput : nn.Module<Tensor, Tensor, Tensor>
{
    [ComponentName(Name = "dense")] private readonly Linear _dense;
    [ComponentName(Name = "LayerNorm")] private readonly LayerNorm _norm;

    public BertOutput(int inChannels, MiniLmConfig config, Placement place) : base(nameof(BertOutput))
    {
        _dense = new(inChannels, config.HiddenSize, place);
        _norm = new(config.HiddenSize, config.LayerNormEps, place);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x, Tensor shortcut)
    {
        using var scope = NewDisposeScope();
        return _norm.call(_dense.call(x) + shortcut).MoveToOuterDisposeScope();
    }
}

/// <summary>A matrix by itself, under the name that checkpoints give it.</summary>
internal sealed class BertDense : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "dense")] private readonly Linear _dense;

    public BertDense(int inChannels, int outChannels, Placement place) : base(nameof(BertDense))
    {
        _dense = new(inChannels, outChannels, place);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x) => _dense.call(x);
}

/// <summary>Attention with its output matrix.</summary>
internal sealed class BertAttention : nn.Module<Tensor, Tensor, Tensor>
{
    [ComponentName(Name = "self")] private readonly BertSelfAttention _self;
    [ComponentName(Name = "output")] private readonly BertOutput _output;

    public BertAttention(MiniLmConfig config, Placement place) : base(nameof(BertAttention))
    {
        _self = new(config, place);
        _output = new(config.HiddenSize, config, place);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x, Tensor mask) => _output.call(_self.call(x, mask), x);
}

/// <summary>Attention, then two matrices with a gelu between them.</summary>
internal sealed class BertLayer : nn.Module<Tensor, Tensor, Tensor>
{
    [ComponentName(Name = "attention")] private readonly BertAttention _attention;
    [ComponentName(Name = "intermediate")] private readonly BertDense _intermediate;
    [ComponentName(Name = "output")] private readonly BertOutput _output;

    public BertLayer(MiniLmConfig config, Placement place) : base(nameof(BertLayer))
    {
        _attention = new(config, place);
        _intermediate = new(config.HiddenSize, config.IntermediateSize, place);
        _output = new(config.IntermediateSize, config, place);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x, Tensor mask)
    {
        using var scope = NewDisposeScope();
        var h = _attention.call(x, mask);
        return _output.call(F.gelu(_intermediate.call(h)), h).MoveToOuterDisposeScope(); // (B, s, C)
    }
}

/// <summary>The layers one after another.</summary>
internal sealed class BertLayers : nn.Module<Tensor, Tensor, Tensor>
{
    [ComponentName(Name = "layer")] private readonly ModuleList<BertLayer> _layers;

    public BertLayers(MiniLmConfig config, Placement place) : base(nameof(BertLayers))
    {
        _layers = new([.. Enumerable.Range(0, config.NumHiddenLayers).Select(_ => new BertLayer(config, place))]);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x, Tensor mask)
    {
        using var scope = NewDisposeScope();
        foreach (var layer in _layers)
        {
            x = layer.call(x, mask);
        }

        return x.MoveToOuterDisposeScope();
    }
}

/// <summary>
/// The sentence encoder all-MiniLM-L6-v2, or another BERT or RoBERTa encoder. Its states per token condition a UNet; their mean over the
/// real tokens is the sentence embedding that it was trained for.
/// </summary>
public sealed class MiniLm : nn.Module<Tensor, Tensor, Tensor>, IPublishedLayouts
{
    [ComponentName(Name = "embeddings")] private readonly BertEmbeddings _embeddings;
    [ComponentName(Name = "encoder")] private readonly BertLayers _encoder;
    [ComponentName(Name = "pooler")] private readonly BertDense _pooler;

    /// <summary>A network of uninitialised weights.</summary>
    /// <param name="config">Its sizes.</param>
    /// <param name="place">Device and precision, in which it also computes.</param>
    /// <exception cref="MelFusionException">The sizes cannot be.</exception>
    public MiniLm(MiniLmConfig config, Placement place) : base(nameof(MiniLm))
    {
        config.Validate();
        _embeddings = new(config, place);
        _encoder = new(config, place);
        _pooler = new(config.HiddenSize, config.HiddenSize, place);
        RegisterComponents();
    }

    /// <summary>Older files carry the numbers 0, 1, 2, ... as if they were weights.</summary>
    WeightsFile IPublishedLayouts.InOwnNames(WeightsFile file) => file.Renamed([new(@"(^|\.)position_ids$", null)]);

    /// <summary>A vector per token.</summary>
    /// <param name="ids">Token ids (B, s), int64.</param>
    /// <param name="mask">True on real tokens (B, s), bool.</param>
    /// <returns>(B, s, C).</returns>
    public override Tensor forward(Tensor ids, Tensor mask)
    {
        using var scope = NewDisposeScope();
        return _encoder.call(_embeddings.call(ids, mask), mask).MoveToOuterDisposeScope();
    }

    /// <summary>The pooled output of BERT: tanh of a matrix times the first token's state. The sentence embedding does not use it.</summary>
    /// <param name="states">(B, s, C).</param>
    /// <returns>(B, C).</returns>
    public Tensor Pool(Tensor states)
    {
        using var scope = NewDisposeScope();
        return _pooler.call(states.select(1, 0)).tanh().MoveToOuterDisposeScope();
    }

    /// <summary>The mean of the real tokens' states, scaled to length 1.</summary>
    /// <param name="states">(B, s, C).</param>
    /// <param name="mask">(B, s), bool.</param>
    /// <returns>(B, C).</returns>
    public static Tensor SentenceEmbedding(Tensor states, Tensor mask)
    {
        using var scope = NewDisposeScope();
        var weights = mask.to(states.dtype).unsqueeze(2); // (B, s, 1)
        var mean = (states * weights).sum(1) / weights.sum(1).clamp_min(1e-9);
        return F.normalize(mean, 2, 1).MoveToOuterDisposeScope();
    }
}
