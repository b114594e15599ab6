using MelFusion.Image;
using MelFusion.Weights;
using TorchSharp;
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;
using Conv2d = MelFusion.Weights.Conv2d;
using F = TorchSharp.torch.nn.functional;
using Linear = MelFusion.Weights.Linear;

namespace MelFusion.Evaluation.Embeddings;

/// <summary>The sizes and class names of an <see cref="EfficientNetLite"/>: config.json beside its weights.</summary>
public sealed record EfficientNetLiteConfig
{
    /// <summary>Side of a picture in pixels.</summary>
    public int ImageSize { get; init; } = 224;

    /// <summary>Side of the square that is cut from the middle, in parts of the shorter side.</summary>
    public double CropFraction { get; init; } = 0.875;

    /// <summary>Subtracted from each channel, 0 to 255.</summary>
    public IReadOnlyList<double> Mean { get; init; } = [127, 127, 127];

    /// <summary>What the difference is divided by.</summary>
    public IReadOnlyList<double> Std { get; init; } = [128, 128, 128];

    /// <summary>The first convolution.</summary>
    public StemSizes Stem { get; init; } = new();

    /// <summary>Stages: blocks, kernel, stride of the first block, expansion, channels.</summary>
    public IReadOnlyList<IReadOnlyList<int>> Stages { get; init; } = [];

    /// <summary>Channels of the features.</summary>
    public int HeadChannels { get; init; } = 1280;

    /// <summary>Number of classes.</summary>
    public int NumClasses { get; init; } = 1000;

    /// <summary>Names of the classes, in the order of the output; some occur twice.</summary>
    public IReadOnlyList<string> Classes { get; init; } = [];

    /// <summary>Sizes of the first convolution.</summary>
    public sealed record StemSizes
    {
        /// <summary>Channels.</summary>
        public int Channels { get; init; } = 32;

        /// <summary>Width of its kernel.</summary>
        public int Kernel { get; init; } = 3;

        /// <summary>Its stride.</summary>
        public int Stride { get; init; } = 2;
    }

    internal void Validate()
    {
        bool usable = ImageSize is > 0 and <= 4096 && CropFraction is > 0 and <= 1 && Mean.Count == 3 && Std.Count == 3 && Std.All(std => std > 0)
            && Stem is { Channels: > 0 and <= 8192, Kernel: > 0 and <= 64, Stride: > 0 and <= 16 } && Stages.Count is > 0 and <= 64
            && Stages.All(stage => stage.Count == 5 && stage.All(number => number is > 0 and <= 8192)) && HeadChannels is > 0 and <= 65536 && NumClasses is > 0 and <= 1 << 20;
        if (!usable)
        {
            throw new MelFusionException("EfficientNet-Lite's config.json: a size is not usable; stages are lists of five whole numbers.");
        }
    }
}

/// <summary>A convolution whose zeros are laid as TensorFlow lays them: the smaller half left and above.</summary>
internal sealed class SameConvolution : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "weight")] private readonly Parameter _weight;
    [ComponentName(Name = "bias")] private readonly Parameter _bias;
    private readonly long _kernel, _stride, _groups;

    public SameConvolution(long inChannels, long outChannels, long kernel, long stride, long groups, Placement place) : base(nameof(SameConvolution))
    {
        _weight = LayerParameter.Empty([outChannels, inChannels / groups, kernel, kernel], place);
        _bias = LayerParameter.Empty([outChannels], place);
        (_kernel, _stride, _groups) = (kernel, stride, groups);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var (rows, columns) = (Zeros(x.shape[2]), Zeros(x.shape[3]));
        x = rows + columns == 0 ? x : F.pad(x, [columns / 2, columns - (columns / 2), rows / 2, rows - (rows / 2)]);
        return F.conv2d(x, _weight.InPrecisionOf(x), _bias.InPrecisionOf(x), [_stride, _stride], groups: _groups).MoveToOuterDisposeScope();
    }

    private long Zeros(long side) => Math.Max(0, ((((side + _stride - 1) / _stride) - 1) * _stride) + _kernel - side);
}

/// <summary>Wider, each channel by itself, narrower; around it a shortcut where the shape stays.</summary>
internal sealed class InvertedBlock : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "expand")] private readonly SameConvolution? _expand;
    [ComponentName(Name = "depthwise")] private readonly SameConvolution _depthwise;
    [ComponentName(Name = "project")] private readonly SameConvolution _project;
    private readonly bool _keepsShape;

    public InvertedBlock(int inChannels, int outChannels, int kernel, int stride, int expansion, Placement place) : base(nameof(InvertedBlock))
    {
        int inner = inChannels * expansion;
        _expand = expansion == 1 ? null : new(inChannels, inner, 1, 1, 1, place);
        _depthwise = new(inner, inner, kernel, stride, inner, place);
        _project = new(inner, outChannels, 1, 1, 1, place);
        _keepsShape = stride == 1 && inChannels == outChannels;
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var h = _expand is null ? x : F.relu6(_expand.call(x));
        h = _project.call(F.relu6(_depthwise.call(h)));
        return (_keepsShape ? h + x : h).MoveToOuterDisposeScope();
    }
}

/// <summary>What <see cref="EfficientNetLite"/> gives for a batch of pictures.</summary>
/// <param name="Features">(B, 1280).</param>
/// <param name="Logits">(B, classes).</param>
public sealed record PictureOutput(Tensor Features, Tensor Logits);

/// <summary>EfficientNet-Lite (Tan and Le 2019; the Lite form without squeeze-excitation): pictures to features and ImageNet's classes, batch norms folded.</summary>
public sealed class EfficientNetLite : nn.Module
{
    [ComponentName(Name = "stem")] private readonly SameConvolution _stem;
    [ComponentName(Name = "blocks")] private readonly ModuleList<InvertedBlock> _blocks;
    [ComponentName(Name = "head")] private readonly SameConvolution _head;
    [ComponentName(Name = "classifier")] private readonly Linear _classifier;

    /// <summary>A network of uninitialised weights.</summary>
    /// <param name="config">Its sizes.</param>
    /// <param name="place">Device and precision.</param>
    /// <exception cref="MelFusionException">The sizes cannot be.</exception>
    public EfficientNetLite(EfficientNetLiteConfig config, Placement place) : base(nameof(EfficientNetLite))
    {
        config.Validate();
        Config = config;
        _stem = new(3, config.Stem.Channels, config.Stem.Kernel, config.Stem.Stride, 1, place);
        _blocks = new([.. Blocks(config, place)]);
        _head = new(config.Stages[^1][4], config.HeadChannels, 1, 1, 1, place);
        _classifier = new(config.HeadChannels, config.NumClasses, place);
        RegisterComponents();
    }

    /// <summary>Its sizes and class names.</summary>
    public EfficientNetLiteConfig Config { get; }

    /// <summary>Reads a network from a folder with config.json and model.safetensors.</summary>
    /// <exception cref="MelFusionException">A file is missing or does not fit.</exception>
    public static EfficientNetLite Open(string folder, Placement place) =>
        NetworkFolder.Open(folder, (EfficientNetLiteConfig config) => new EfficientNetLite(config, place));

    /// <summary>The square from the middle of a picture at the network's size.</summary>
    public RgbPicture Fit(RgbPicture picture)
    {
        int side = Math.Max(1, (int)(Config.CropFraction * Math.Min(picture.Width, picture.Height)));
        return picture.Window((picture.Width - side + 1) / 2, (picture.Height - side + 1) / 2, side, side).Resize(Config.ImageSize, Config.ImageSize, ResampleFilter.Bicubic);
    }

    /// <summary>A picture as the network reads it.</summary>
    /// <returns>(1, 3, side, side).</returns>
    public Tensor Pixels(RgbPicture picture) => Fit(picture).ToTensor([.. Config.Mean.Select(mean => mean / 255)], [.. Config.Std.Select(std => std / 255)]);

    /// <summary>Features and classes of pictures.</summary>
    /// <param name="pixels">(B, 3, side, side), as <see cref="Pixels"/> gives them.</param>
    public PictureOutput Forward(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var x = Stages(pixels).Last();
        var features = F.relu6(_head.call(x)).mean([2, 3]);
        var logits = _classifier.call(features);
        return new(features.MoveToOuterDisposeScope(), logits.MoveToOuterDisposeScope());
    }

    /// <summary>What the stages see in the places of pictures, from edges and colours to parts of things: averages over the cells of a grid.</summary>
    /// <param name="pixels">(B, 3, side, side), as <see cref="Pixels"/> gives them.</param>
    /// <param name="cells">Cells along each side of the grid. Stages whose own maps are coarser are left out.</param>
    /// <returns>(B, the stages' channels in all, cells, cells).</returns>
    public Tensor StageMaps(Tensor pixels, int cells)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        return cat([.. Stages(pixels).TakeWhile(x => x.shape[2] >= cells).Select(x => F.adaptive_avg_pool2d(x, cells))], 1).MoveToOuterDisposeScope();
    }

    private IEnumerable<Tensor> Stages(Tensor pixels)
    {
        var x = F.relu6(_stem.call(pixels));
        int block = 0;
        foreach (var stage in Config.Stages)
        {
            for (int last = block + stage[0]; block < last; block++)
            {
                x = _blocks[block].call(x);
            }

            yield return x;
        }
    }

    private static IEnumerable<InvertedBlock> Blocks(EfficientNetLiteConfig config, Placement place)
    {
        int channels = config.Stem.Channels;
        foreach (var stage in config.Stages)
        {
            for (int i = 0; i < stage[0]; i++)
            {
                yield return new(channels, stage[4], stage[1], i == 0 ? stage[2] : 1, stage[3], place);
                channels = stage[4];
            }
        }
    }
}
