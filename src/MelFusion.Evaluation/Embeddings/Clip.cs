using MelFusion.Image;
using MelFusion.Text;
using MelFusion.Weights;
using TorchSharp;
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;
using Conv2d = MelFusion.Weights.Conv2d;
using Embedding = MelFusion.Weights.Embedding;
using F = TorchSharp.torch.nn.functional;
using LayerNorm = MelFusion.Weights.LayerNorm;
using Linear = MelFusion.Weights.Linear;

namespace MelFusion.Evaluation.Embeddings;

// CLIP (Radford and others 2021): pictures and texts in one space. The layers are those of Stable Diffusion's text encoder. Leaves first,
// the network last. B pictures or texts, p patches, C channels.

/// <summary>The sizes of a <see cref="Clip"/>: config.json of transformers' CLIPModel; the defaults are CLIP ViT-B/32's.</summary>
public sealed record ClipConfig
{
    /// <summary>The text tower.</summary>
    public ClipTextConfig TextConfig { get; init; } = new();

    /// <summary>The picture tower.</summary>
    public ClipVisionConfig VisionConfig { get; init; } = new();

    /// <summary>Width of the common space.</summary>
    public int ProjectionDim { get; init; } = 512;
}

/// <summary>The sizes of CLIP's picture tower.</summary>
public sealed record ClipVisionConfig
{
    /// <summary>Channels.</summary>
    public int HiddenSize { get; init; } = 768;

    /// <summary>Channels between a layer's two matrices.</summary>
    public int IntermediateSize { get; init; } = 3072;

    /// <summary>Layers.</summary>
    public int NumHiddenLayers { get; init; } = 12;

    /// <summary>Heads.</summary>
    public int NumAttentionHeads { get; init; } = 12;

    /// <summary>Side of a picture in pixels.</summary>
    public int ImageSize { get; init; } = 224;

    /// <summary>Side of a patch in pixels.</summary>
    public int PatchSize { get; init; } = 32;

    /// <summary>"quick_gelu" or "gelu".</summary>
    public string HiddenAct { get; init; } = "quick_gelu";

    /// <summary>Epsilon of the norms.</summary>
    public double LayerNormEps { get; init; } = 1e-5;

    internal ClipLayerConfig Layer => new(HiddenSize, IntermediateSize, NumHiddenLayers, NumAttentionHeads, HiddenAct, LayerNormEps);
}

/// <summary>A vector for the whole picture and one for each patch, with their positions.</summary>
internal sealed class ClipVisionEmbeddings : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "class_embedding")] private readonly Parameter _class; // (C)
    [ComponentName(Name = "patch_embedding")] private readonly Conv2d _patches;
    [ComponentName(Name = "position_embedding")] private readonly Embedding _positions;

    public ClipVisionEmbeddings(ClipVisionConfig config, Placement place) : base(nameof(ClipVisionEmbeddings))
    {
        int side = config.ImageSize / config.PatchSize;
        _class = LayerParameter.Empty([config.HiddenSize], place);
        _patches = new(3, config.HiddenSize, config.PatchSize, place, stride: config.PatchSize, bias: false);
        _positions = new((side * side) + 1, config.HiddenSize, place);
        RegisterComponents();
    }

    public override Tensor forward(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        var patches = _patches.call(pixels).flatten(2).transpose(1, 2); // (B, p, C)
        var whole = _class.expand(pixels.shape[0], 1, _class.shape[0]); // (B, 1, C)
        return (torch.cat([whole, patches], 1) + _positions.Weight).MoveToOuterDisposeScope();
    }
}

/// <summary>The picture tower; its last norm is for the vector of the whole picture alone.</summary>
internal sealed class ClipVisionTower : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "embeddings")] private readonly ClipVisionEmbeddings _embeddings;
    [ComponentName(Name = "pre_layrnorm")] private readonly LayerNorm _normIn; // so spelt in every published file
    [ComponentName(Name = "encoder")] private readonly ClipLayers _encoder;
    [ComponentName(Name = "post_layernorm")] private readonly LayerNorm _normOut;

    public ClipVisionTower(ClipVisionConfig config, Placement place) : base(nameof(ClipVisionTower))
    {
        config.Layer.Validate();
        _embeddings = new(config, place);
        _normIn = new(config.HiddenSize, config.LayerNormEps, place);
        _encoder = new(config.Layer, causal: false, place);
        _normOut = new(config.HiddenSize, config.LayerNormEps, place);
        RegisterComponents();
    }

    public override Tensor forward(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        var x = _encoder.call(_normIn.call(_embeddings.call(pixels)));
        return _normOut.call(x.select(1, 0)).MoveToOuterDisposeScope(); // (B, C)
    }
}

/// <summary>CLIP: embeddings of pictures and of texts, each of length 1, whose product says how well they fit.</summary>
public sealed class Clip : nn.Module, IPublishedLayouts
{
    private static readonly double[] Mean = [0.48145466, 0.4578275, 0.40821073], Deviation = [0.26862954, 0.26130258, 0.27577711];

    [ComponentName(Name = "text_model")] private readonly ClipTextTower _text;
    [ComponentName(Name = "vision_model")] private readonly ClipVisionTower _vision;
    [ComponentName(Name = "text_projection")] private readonly Linear _textProjection;
    [ComponentName(Name = "visual_projection")] private readonly Linear _visionProjection;
    [ComponentName(Name = "logit_scale")] private readonly Parameter _logitScale; // a logarithm
    private readonly ClipConfig _config;

    /// <summary>A network of uninitialised weights.</summary>
    /// <param name="config">Its sizes.</param>
    /// <param name="place">Device and precision.</param>
    /// <exception cref="MelFusionException">The sizes cannot be.</exception>
    public Clip(ClipConfig config, Placement place) : base(nameof(Clip))
    {
        _config = config;
        _text = new(config.TextConfig, place);
        _vision = new(config.VisionConfig, place);
        _textProjection = new(config.TextConfig.HiddenSize, config.ProjectionDim, place, bias: false);
        _visionProjection = new(config.VisionConfig.HiddenSize, config.ProjectionDim, place, bias: false);
        _logitScale = LayerParameter.Empty([], place);
        RegisterComponents();
    }

    /// <summary>What the product of two embeddings is multiplied by before a softmax.</summary>
    public double LogitScale => Math.Exp(_logitScale.to(ScalarType.Float64).item<double>());

    /// <summary>Older files carry the numbers 0, 1, 2, ... as if they were weights.</summary>
    WeightsFile IPublishedLayouts.InOwnNames(WeightsFile file) => file.Renamed([new(@"\.position_ids$", null)]);

    /// <summary>A picture as this network reads it: shorter side fitted, the middle, normalised.</summary>
    /// <param name="picture">The picture.</param>
    /// <returns>(1, 3, side, side).</returns>
    public Tensor Pixels(RgbPicture picture) => picture.FitShorterSide(_config.VisionConfig.ImageSize, _config.VisionConfig.ImageSize).ToTensor(Mean, Deviation);

    /// <summary>Embeddings of pictures.</summary>
    /// <param name="pixels">(B, 3, side, side), as <see cref="Pixels"/> gives them.</param>
    /// <returns>(B, projection), each of length 1.</returns>
    public Tensor EmbedPictures(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        return F.normalize(_visionProjection.call(_vision.call(pixels)), 2, 1).MoveToOuterDisposeScope();
    }

    /// <summary>Embeddings of texts.</summary>
    /// <param name="ids">Token ids (B, s), int64.</param>
    /// <returns>(B, projection), each of length 1.</returns>
    public Tensor EmbedTexts(Tensor ids)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        return F.normalize(_textProjection.call(_text.Pool(_text.call(ids), ids)), 2, 1).MoveToOuterDisposeScope();
    }
}
