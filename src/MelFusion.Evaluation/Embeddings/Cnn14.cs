using MelFusion.Wave;
using MelFusion.Weights;
using TorchSharp;
using TorchSharp.Utils;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace MelFusion.Evaluation.Embeddings;

/// <summary>What <see cref="Cnn14"/> gives for a batch of sounds.</summary>
/// <param name="Pooled">Before the first matrix (B, 2048).</param>
/// <param name="Embedding">After it and its ReLU (B, 2048): the "2048" of FD and KID.</param>
/// <param name="Logits">Of AudioSet's classes (B, 527): KL and IS are made of these.</param>
public sealed record Cnn14Output(Tensor Pooled, Tensor Embedding, Tensor Logits);

/// <summary>Two convolutions, each with a norm and a ReLU, and a pooling.</summary>
internal sealed class Cnn14Block : nn.Module<Tensor, Tensor>
{
    private const double Epsilon = 1e-5;

    [ComponentName(Name = "conv1")] private readonly Conv2d _conv1;
    [ComponentName(Name = "conv2")] private readonly Conv2d _conv2;
    [ComponentName(Name = "bn1")] private readonly FrozenBatchNorm _norm1;
    [ComponentName(Name = "bn2")] private readonly FrozenBatchNorm _norm2;
    private readonly bool _pools;

    public Cnn14Block(int inChannels, int outChannels, bool pools, Placement place) : base(nameof(Cnn14Block))
    {
        _conv1 = new(inChannels, outChannels, 3, place, padding: 1, bias: false);
        _conv2 = new(outChannels, outChannels, 3, place, padding: 1, bias: false);
        _norm1 = new(outChannels, Epsilon, place);
        _norm2 = new(outChannels, Epsilon, place);
        _pools = pools;
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        x = _norm1.Forward(_conv1.call(x)).relu_();
        x = _norm2.Forward(_conv2.call(x)).relu_();
        return (_pools ? F.avg_pool2d(x, 2) : x).MoveToOuterDisposeScope(); // (B, C, T / 2, M / 2)
    }
}

/// <summary>
/// PANNs Cnn14 for 16 kHz (Kong and others, 2020): log-mels of a whole sound to an embedding and AudioSet's classes. B = sounds, T = frames,
/// M = mel bands.
/// </summary>
public sealed class Cnn14 : nn.Module, IPublishedLayouts
{
    /// <summary>The rate of its sounds in Hz.</summary>
    public const int SampleRate = 16_000;

    private const double Floor = 1e-10;

    private static readonly MelConfig Mel = new()
    {
        SampleRate = SampleRate, NFft = 512, WinLength = 512, HopLength = 160, NMels = 64, FMin = 50, FMax = 8000, Padding = 256, Power = 2, MagnitudeEpsilon = 0,
    };

    [ComponentName(Name = "bn0")] private readonly FrozenBatchNorm _norm;
    [ComponentName(Name = "conv_block1")] private readonly Cnn14Block _block1;
    [ComponentName(Name = "conv_block2")] private readonly Cnn14Block _block2;
    [ComponentName(Name = "conv_block3")] private readonly Cnn14Block _block3;
    [ComponentName(Name = "conv_block4")] private readonly Cnn14Block _block4;
    [ComponentName(Name = "conv_block5")] private readonly Cnn14Block _block5;
    [ComponentName(Name = "conv_block6")] private readonly Cnn14Block _block6;
    [ComponentName(Name = "fc1")] private readonly Linear _fc1;
    [ComponentName(Name = "fc_audioset")] private readonly Linear _classes;

    /// <summary>A network of uninitialised weights.</summary>
    /// <param name="place">Device and precision.</param>
    public Cnn14(Placement place) : base(nameof(Cnn14))
    {
        _norm = new(Mel.NMels, 1e-5, place);
        _block1 = new(1, 64, true, place);
        _block2 = new(64, 128, true, place);
        _block3 = new(128, 256, true, place);
        _block4 = new(256, 512, true, place);
        _block5 = new(512, 1024, true, place);
        _block6 = new(1024, 2048, false, place);
        _fc1 = new(2048, 2048, place);
        _classes = new(2048, 527, place);
        RegisterComponents();
    }

    /// <summary>The published file also holds its front end as kernels, and how many batches were seen.</summary>
    WeightsFile IPublishedLayouts.InOwnNames(WeightsFile file) => KeyRenames.StripPrefix(file, "model.").Renamed(
        [new(@"\.num_batches_tracked$", null), new("^(spectrogram_extractor|logmel_extractor)\\.", null)]);

    /// <summary>The filters (64, 257) of the front end.</summary>
    public static Tensor Filters() => MelFilters.Create(Mel);

    /// <summary>Log-mels in dB of sounds at 16 kHz.</summary>
    /// <param name="waveform">(B, n), n above 256.</param>
    /// <returns>(B, 1, T, M).</returns>
    public static Tensor LogMel(Tensor waveform)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var power = Mel.Stft.Forward(waveform).abs().square(); // (B, K, T)
        var bands = torch.matmul(MelFilters.Create(Mel, waveform.device), power);
        return (10 * bands.clamp_min(Floor).log10()).transpose(1, 2).unsqueeze(1).contiguous().MoveToOuterDisposeScope();
    }

    /// <summary>Embedding and classes of log-mels.</summary>
    /// <param name="logMel">(B, 1, T, M), T at least 32.</param>
    public Cnn14Output Forward(Tensor logMel)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var x = _norm.Forward(logMel.transpose(1, 3)).transpose(1, 3); // the norm runs over the bands
        foreach (var block in (Cnn14Block[])[_block1, _block2, _block3, _block4, _block5, _block6])
        {
            var next = block.call(x);
            x.Dispose();
            x = next;
        }

        x = x.mean([3]); // (B, 2048, T / 32)
        var pooled = x.amax([2]) + x.mean([2]);
        var embedding = _fc1.call(pooled).relu();
        var logits = _classes.call(embedding);
        return new(pooled.MoveToOuterDisposeScope(), embedding.MoveToOuterDisposeScope(), logits.MoveToOuterDisposeScope());
    }
}
