using MelFusion.Wave;
using MelFusion.Weights;
using TorchSharp;
using TorchSharp.Utils;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace MelFusion.Evaluation.Embeddings;

/// <summary>Sizes, front end and tags of a musicnn tagger, as its <c>config.json</c> writes them.</summary>
public sealed record MusicnnConfig
{
    /// <summary>Sample rate in Hz.</summary>
    public int SampleRate { get; init; } = 16_000;

    /// <summary>Length of the Fourier transform and its window in samples.</summary>
    public int NFft { get; init; } = 512;

    /// <summary>Samples from frame to frame.</summary>
    public int HopLength { get; init; } = 256;

    /// <summary>Mel bands.</summary>
    public int NMels { get; init; } = 96;

    /// <summary>Lower edge of the lowest band in Hz.</summary>
    public double FMin { get; init; }

    /// <summary>Upper edge of the highest band in Hz.</summary>
    public double FMax { get; init; } = 8000;

    /// <summary>Frames of a patch (3 s).</summary>
    public int PatchFrames { get; init; } = 187;

    /// <summary>Kernels (time, frequency) that look for timbre.</summary>
    public IReadOnlyList<IReadOnlyList<int>> TimbralKernels { get; init; } = [[7, 38], [7, 67]];

    /// <summary>Kernels in time that look for rhythm.</summary>
    public IReadOnlyList<int> TemporalKernels { get; init; } = [128, 64, 32];

    /// <summary>Channels of a timbral kernel.</summary>
    public int TimbralFilters { get; init; } = 204;

    /// <summary>Channels of a temporal kernel.</summary>
    public int TemporalFilters { get; init; } = 51;

    /// <summary>Channels of a middle layer.</summary>
    public int MidendFilters { get; init; } = 64;

    /// <summary>Width of the penultimate layer.</summary>
    public int BackendUnits { get; init; } = 200;

    /// <summary>Number of tags.</summary>
    public int NumTags { get; init; } = 50;

    /// <summary>Epsilon of every batch norm.</summary>
    public double BatchNormEps { get; init; } = 1e-3;

    /// <summary>The tags, in the order of the output.</summary>
    public IReadOnlyList<string> Tags { get; init; } = [];

    /// <summary>Front end of the tagger as the wave folder knows it.</summary>
    internal MelConfig Mel => new()
    {
        SampleRate = SampleRate,
        NFft = NFft,
        WinLength = NFft,
        HopLength = HopLength,
        NMels = NMels,
        FMin = FMin,
        FMax = FMax,
        Padding = NFft / 2,
        Power = 2,
        MagnitudeEpsilon = 0,
    };

    internal int FrontChannels => (TimbralKernels.Count * TimbralFilters) + (TemporalKernels.Count * TemporalFilters);
}

/// <summary>What musicnn gives for a batch of patches.</summary>
/// <param name="Tags">Probability of each tag (B, tags).</param>
/// <param name="Penultimate">The embedding (B, 200).</param>
/// <param name="MaxPool">Largest value over time of all channels (B, 753).</param>
/// <param name="MeanPool">Mean over time of all channels (B, 753).</param>
/// <param name="Timbral">Timbral maps (B, 408, time).</param>
/// <param name="Temporal">Temporal maps (B, 153, time).</param>
/// <param name="Middle">The three middle maps (B, 64, time).</param>
public sealed record MusicnnOutput(Tensor Tags, Tensor Penultimate, Tensor MaxPool, Tensor MeanPool, Tensor Timbral, Tensor Temporal, IReadOnlyList<Tensor> Middle);

/// <summary>
/// musicnn, a music tagger (Pons and Serra, 2019): musically shaped convolutions over 3-second log-mel patches. Its penultimate layer is an
/// embedding of music. B = patches, T = frames, M = mel bands, C = channels. Order everywhere: convolution, ReLU, batch norm.
/// </summary>
public sealed class Musicnn : nn.Module
{
    private readonly MusicnnConfig _config;
    private readonly Lazy<Tensor> _lazyBands; // (M, K); lazy, so that it is not taken for a weight
    [ComponentName(Name = "frontend")] private readonly MusicnnFrontEnd _frontEnd;
    [ComponentName(Name = "midend")] private readonly TorchSharp.Modules.ModuleList<MusicnnBlock> _middle;
    [ComponentName(Name = "backend")] private readonly MusicnnBackEnd _backEnd;

    /// <summary>A network of uninitialised weights.</summary>
    /// <param name="config">Its sizes.</param>
    /// <param name="place">Device and precision.</param>
    public Musicnn(MusicnnConfig config, Placement place) : base(nameof(Musicnn))
    {
        _config = config;
        _lazyBands = new(() => MelFilters.Create(config.Mel, place.Device).DetachFromDisposeScope());
        _frontEnd = new MusicnnFrontEnd(config, place);
        _middle = new(Enumerable.Range(0, 3)
            .Select(k => new MusicnnBlock(config.MidendFilters, (7, k == 0 ? config.FrontChannels : config.MidendFilters), 3, 3, config.BatchNormEps, place)).ToArray());
        _backEnd = new MusicnnBackEnd(config, place);
        RegisterComponents();
    }

    /// <summary>Its sizes and tags.</summary>
    public MusicnnConfig Config => _config;

    /// <summary>Reads a tagger from a folder with <c>config.json</c> and <c>model.safetensors</c>.</summary>
    /// <param name="folder">The folder.</param>
    /// <param name="place">Device and precision.</param>
    /// <exception cref="MelFusionException">A file is missing or does not fit.</exception>
    public static Musicnn Open(string folder, Placement place) =>
        NetworkFolder.Open(folder, (MusicnnConfig config) => new Musicnn(config, place));

    /// <summary>Log-mel patches (B, T, M) of a mono sound; the remainder at the end is dropped.</summary>
    /// <param name="samples">The sound.</param>
    /// <param name="sampleRate">Its rate in Hz; other rates than the tagger's are resampled.</param>
    public Tensor Patches(ReadOnlySpan<float> samples, int sampleRate)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var sound = new Resampler(sampleRate, _config.SampleRate).Resample(samples);
        if (sound.Length <= _config.NFft)
        {
            return torch.empty([0, _config.PatchFrames, _config.NMels], device: Bands.device).MoveToOuterDisposeScope();
        }

        var wave = torch.tensor(sound, device: Bands.device).unsqueeze(0);
        var mel = torch.matmul(Bands, _config.Mel.Stft.Forward(wave).abs().square()); // (1, M, T)
        var log = (mel * 10_000 + 1).log10().squeeze(0).transpose(0, 1); // (T, M)
        var count = log.shape[0] / _config.PatchFrames;
        return log.narrow(0, 0, count * _config.PatchFrames).reshape(count, _config.PatchFrames, _config.NMels).MoveToOuterDisposeScope();
    }

    /// <summary>Tags and embedding of patches (B, T, M).</summary>
    /// <param name="patches">The patches; B may not be 0.</param>
    public MusicnnOutput Forward(Tensor patches)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var (timbral, temporal) = _frontEnd.Forward(patches.unsqueeze(1)); // (B, 1, T, M) -> (B, C, T)
        var front = torch.cat([timbral, temporal], 1);
        var y1 = Middle(0, front);
        var y2 = Middle(1, y1) + y1;
        var y3 = Middle(2, y2) + y2;
        var all = torch.cat([front, y1, y2, y3], 1); // (B, 753, T)
        var (max, mean) = (all.amax([2]), all.mean([2]));
        var (tags, penultimate) = _backEnd.Forward(max, mean);
        return new MusicnnOutput(
            tags.MoveToOuterDisposeScope(), penultimate.MoveToOuterDisposeScope(), max.MoveToOuterDisposeScope(), mean.MoveToOuterDisposeScope(),
            timbral.MoveToOuterDisposeScope(), temporal.MoveToOuterDisposeScope(), [y1.MoveToOuterDisposeScope(), y2.MoveToOuterDisposeScope(), y3.MoveToOuterDisposeScope()]);
    }

    /// <summary>Mean probability of each tag over the patches of a sound, in the order of <see cref="MusicnnConfig.Tags"/>; all 0 for a sound shorter than a patch.</summary>
    /// <param name="samples">The sound, mono.</param>
    /// <param name="sampleRate">Its rate in Hz.</param>
    public float[] TagProbabilities(ReadOnlySpan<float> samples, int sampleRate)
    {
        using var scope = NewDisposeScope();
        var patches = Patches(samples, sampleRate);
        return patches.shape[0] == 0 ? new float[_config.NumTags] : Forward(patches).Tags.mean([0]).cpu().data<float>().ToArray();
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            DisposeBands();
        }

        base.Dispose(disposing);
    }

    private Tensor Bands => _lazyBands.Value;

    private void DisposeBands()
    {
        if (_lazyBands.IsValueCreated)
        {
            _lazyBands.Value.Dispose();
        }
    }

    // The middle layers see the map of (time, channel) as a picture of one channel.
    private Tensor Middle(int k, Tensor x) => _middle[k].Forward(x.transpose(1, 2).unsqueeze(1)).squeeze(3); // (B, 1, T, C) -> (B, 64, T)
}

/// <summary>Convolution over (time, frequency), ReLU, batch norm; zeros are added in time only.</summary>
internal sealed class MusicnnBlock : nn.Module
{
    [ComponentName(Name = "conv")] private readonly Conv2d _conv;
    [ComponentName(Name = "norm")] private readonly FrozenBatchNorm _norm;
    private readonly long[] _zeros;

    public MusicnnBlock(int filters, (int Time, int Frequency) kernel, int before, int after, double epsilon, Placement place) : base(nameof(MusicnnBlock))
    {
        _conv = new Conv2d(1, filters, kernel, place, (1, 1), (0, 0));
        _norm = new FrozenBatchNorm(filters, epsilon, place);
        _zeros = [0, 0, before, after];
        RegisterComponents();
    }

    /// <summary>(B, 1, T, F) to (B, filters, T, F - kernel + 1).</summary>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        return _norm.Forward(_conv.forward(F.pad(x, _zeros, PaddingModes.Constant, 0)).relu_()).MoveToOuterDisposeScope();
    }
}

/// <summary>A batch norm with the statistics of its training.</summary>
internal sealed class FrozenBatchNorm : nn.Module
{
    [ComponentName(Name = "weight")] private readonly TorchSharp.Modules.Parameter _weight;
    [ComponentName(Name = "bias")] private readonly TorchSharp.Modules.Parameter _bias;
    [ComponentName(Name = "running_mean")] private readonly Tensor _mean;
    [ComponentName(Name = "running_var")] private readonly Tensor _variance;
    private readonly double _epsilon;

    public FrozenBatchNorm(long channels, double epsilon, Placement place) : base(nameof(FrozenBatchNorm))
    {
        Tensor Empty() => torch.empty([channels], ScalarType.Float32, place.Device).DetachFromDisposeScope();
        TorchSharp.Modules.Parameter EmptyParameter()
        {
            var parameter = new TorchSharp.Modules.Parameter(torch.empty([channels], ScalarType.Float32, place.Device));
            parameter.DetachFromDisposeScope();
            return parameter;
        }

        (_weight, _bias, _mean, _variance) = (EmptyParameter(), EmptyParameter(), Empty(), Empty());
        _epsilon = epsilon;
        RegisterComponents();
    }

    /// <summary>Over the second axis of (B, C, ...).</summary>
    public Tensor Forward(Tensor x) => x.device_type == DeviceType.META ? torch.empty_like(x) : F.batch_norm(x, _mean, _variance, _weight, _bias, training: false, eps: _epsilon);
}

/// <summary>The front of musicnn: timbral and temporal kernels on the normalised patch.</summary>
internal sealed class MusicnnFrontEnd : nn.Module
{
    [ComponentName(Name = "norm")] private readonly FrozenBatchNorm _norm;
    [ComponentName(Name = "timbral")] private readonly TorchSharp.Modules.ModuleList<MusicnnBlock> _timbral;
    [ComponentName(Name = "temporal")] private readonly TorchSharp.Modules.ModuleList<MusicnnBlock> _temporal;

    public MusicnnFrontEnd(MusicnnConfig config, Placement place) : base(nameof(MusicnnFrontEnd))
    {
        _norm = new FrozenBatchNorm(1, config.BatchNormEps, place);
        _timbral = new(config.TimbralKernels.Select(k => new MusicnnBlock(config.TimbralFilters, (k[0], k[1]), 3, 3, config.BatchNormEps, place)).ToArray());
        // "Same" with an even kernel: the odd zero comes after.
        _temporal = new(config.TemporalKernels.Select(k => new MusicnnBlock(config.TemporalFilters, (k, 1), (k - 1) / 2, k / 2, config.BatchNormEps, place)).ToArray());
        RegisterComponents();
    }

    /// <summary>(B, 1, T, M) to timbral (B, 408, T) and temporal (B, 153, T), each the largest over frequency.</summary>
    public (Tensor Timbral, Tensor Temporal) Forward(Tensor patch)
    {
        using var scope = NewDisposeScope();
        var x = _norm.Forward(patch);
        var timbral = torch.cat([.. _timbral.Select(block => block.Forward(x).amax([3]))], 1);
        var temporal = torch.cat([.. _temporal.Select(block => block.Forward(x).amax([3]))], 1);
        return (timbral.MoveToOuterDisposeScope(), temporal.MoveToOuterDisposeScope());
    }
}

/// <summary>The end of musicnn: pooled channels to embedding and tags.</summary>
internal sealed class MusicnnBackEnd : nn.Module
{
    [ComponentName(Name = "pool_norm")] private readonly FrozenBatchNorm _poolNorm;
    [ComponentName(Name = "dense")] private readonly Linear _dense;
    [ComponentName(Name = "dense_norm")] private readonly FrozenBatchNorm _denseNorm;
    [ComponentName(Name = "output")] private readonly Linear _output;

    public MusicnnBackEnd(MusicnnConfig config, Placement place) : base(nameof(MusicnnBackEnd))
    {
        var pooled = 2 * (config.FrontChannels + (3 * config.MidendFilters));
        _poolNorm = new FrozenBatchNorm(pooled, config.BatchNormEps, place);
        _dense = new Linear(pooled, config.BackendUnits, place);
        _denseNorm = new FrozenBatchNorm(config.BackendUnits, config.BatchNormEps, place);
        _output = new Linear(config.BackendUnits, config.NumTags, place);
        RegisterComponents();
    }

    /// <summary>Largest and mean value (B, C) of each channel to probabilities (B, tags) and embedding (B, 200).</summary>
    public (Tensor Tags, Tensor Penultimate) Forward(Tensor max, Tensor mean)
    {
        using var scope = NewDisposeScope();
        var pooled = torch.stack([max, mean], 2).flatten(1); // interleaved: max_0, mean_0, max_1, ...
        var penultimate = _denseNorm.Forward(_dense.forward(_poolNorm.Forward(pooled)).relu());
        return (_output.forward(penultimate).sigmoid().MoveToOuterDisposeScope(), penultimate.MoveToOuterDisposeScope());
    }
}
