using MelFusion.Weights;
using TorchSharp;
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;
using Conv1d = MelFusion.Weights.Conv1d;
using F = TorchSharp.torch.nn.functional;
using LayerNorm = MelFusion.Weights.LayerNorm;
using Linear = MelFusion.Weights.Linear;

namespace MelFusion.Vocoder;

// Vocos (Siuzdak 2024): ConvNeXt blocks at the mel's own rate, then magnitudes and phases for one inverse STFT. Leaves first, the
// network last. B samples, C channels, T frames.

/// <summary>The sizes of a <see cref="Vocos"/>: the published config.yaml as JSON.</summary>
public sealed record VocosConfig
{
    /// <summary>The ConvNeXt part.</summary>
    public Part<BackboneSizes> Backbone { get; init; } = new();

    /// <summary>The part that makes the spectrum.</summary>
    public Part<HeadSizes> Head { get; init; } = new();

    /// <summary>A part as the published config writes it: a class, and the arguments it is made with.</summary>
    /// <typeparam name="T">The arguments.</typeparam>
    public sealed record Part<T> where T : new()
    {
        /// <summary>The arguments.</summary>
        public T InitArgs { get; init; } = new();
    }

    /// <summary>Sizes of the ConvNeXt part.</summary>
    public sealed record BackboneSizes
    {
        /// <summary>Mel bands that come in.</summary>
        public int InputChannels { get; init; } = 100;

        /// <summary>Channels.</summary>
        public int Dim { get; init; } = 512;

        /// <summary>Channels between a block's two matrices.</summary>
        public int IntermediateDim { get; init; } = 1536;

        /// <summary>Blocks.</summary>
        public int NumLayers { get; init; } = 8;
    }

    /// <summary>Sizes of the spectrum.</summary>
    public sealed record HeadSizes
    {
        /// <summary>Length of the Fourier transform and of its window, in samples.</summary>
        public int NFft { get; init; } = 1024;

        /// <summary>Samples from frame to frame.</summary>
        public int HopLength { get; init; } = 256;

        /// <summary>"same": hop samples a frame; "center": one frame fewer, as the published 24 kHz model has it.</summary>
        public string Padding { get; init; } = "center";
    }

    /// <summary>Refuses sizes of which no network can be made.</summary>
    /// <exception cref="MelFusionException">With the reason.</exception>
    public void Validate()
    {
        var (backbone, head) = (Backbone.InitArgs, Head.InitArgs);
        string? wrong =
            backbone.InputChannels is < 1 or > 65_536 || backbone.Dim is < 1 or > 65_536 || backbone.IntermediateDim is < 1 or > 1 << 20 || backbone.NumLayers is < 1 or > 256
                ? "a size of the backbone is not usable"
            : head.NFft is < 4 or > 65_536 || head.NFft % 2 != 0 || head.HopLength < 1 || head.HopLength > head.NFft || (head.NFft - head.HopLength) % 2 != 0
                ? "n_fft must be even, 4 to 65536, and hop_length not above it and even too"
            : head.Padding is not ("same" or "center") ? "padding must be same or center"
            : null;
        if (wrong is not null)
        {
            throw new MelFusionException($"The vocoder's config.json: {wrong}.");
        }
    }
}

/// <summary>A depthwise convolution, a norm and two matrices, scaled per channel, around a shortcut.</summary>
internal sealed class ConvNeXtBlock : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "dwconv")] private readonly Conv1d _depthwise;
    [ComponentName(Name = "norm")] private readonly LayerNorm _norm;
    [ComponentName(Name = "pwconv1")] private readonly Linear _widen;
    [ComponentName(Name = "pwconv2")] private readonly Linear _narrow;
    [ComponentName(Name = "gamma")] private readonly Parameter _gamma; // (C)

    public ConvNeXtBlock(long channels, long inner, Placement place) : base(nameof(ConvNeXtBlock))
    {
        _depthwise = new(channels, channels, 7, place, padding: 3, groups: channels);
        _norm = new(channels, Vocos.Epsilon, place);
        _widen = new(channels, inner, place);
        _narrow = new(inner, channels, place);
        _gamma = LayerParameter.Empty([channels], place);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var h = _norm.call(_depthwise.call(x).transpose(1, 2)); // (B, T, C)
        h = _narrow.call(F.gelu(_widen.call(h))) * _gamma.InPrecisionOf(x);
        return (x + h.transpose(1, 2)).MoveToOuterDisposeScope(); // (B, C, T)
    }
}

/// <summary>From a mel to features at the same rate.</summary>
internal sealed class VocosBackbone : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "embed")] private readonly Conv1d _embed;
    [ComponentName(Name = "norm")] private readonly LayerNorm _norm;
    [ComponentName(Name = "convnext")] private readonly ModuleList<ConvNeXtBlock> _blocks;
    [ComponentName(Name = "final_layer_norm")] private readonly LayerNorm _normOut;

    public VocosBackbone(VocosConfig.BackboneSizes sizes, Placement place) : base(nameof(VocosBackbone))
    {
        _embed = new(sizes.InputChannels, sizes.Dim, 7, place, padding: 3);
        _norm = new(sizes.Dim, Vocos.Epsilon, place);
        _blocks = new([.. Enumerable.Range(0, sizes.NumLayers).Select(_ => new ConvNeXtBlock(sizes.Dim, sizes.IntermediateDim, place))]);
        _normOut = new(sizes.Dim, Vocos.Epsilon, place);
        RegisterComponents();
    }

    public override Tensor forward(Tensor mel)
    {
        using var scope = NewDisposeScope();
        var x = _norm.call(_embed.call(mel).transpose(1, 2)).transpose(1, 2); // (B, C, T)
        foreach (var block in _blocks)
        {
            x = block.call(x);
        }

        return _normOut.call(x.transpose(1, 2)).MoveToOuterDisposeScope(); // (B, T, C)
    }
}

/// <summary>From features to the spectrum of each frame, and by its inverse transform to samples.</summary>
internal sealed class SpectrumHead : nn.Module<Tensor, Tensor>
{
    private const double LargestMagnitude = 100;

    [ComponentName(Name = "out")] private readonly Linear _out;
    private readonly int _length, _hop;
    private readonly bool _centred;

    public SpectrumHead(int channels, VocosConfig.HeadSizes sizes, Placement place) : base(nameof(SpectrumHead))
    {
        _out = new(channels, sizes.NFft + 2, place);
        (_length, _hop, _centred) = (sizes.NFft, sizes.HopLength, sizes.Padding == "center");
        RegisterComponents();
    }

    public override Tensor forward(Tensor features)
    {
        using var scope = NewDisposeScope();
        return Samples(Spectrum(features)).MoveToOuterDisposeScope();
    }

    /// <summary>(B, T, C) to complex (B, n_fft / 2 + 1, T).</summary>
    public Tensor Spectrum(Tensor features)
    {
        using var scope = NewDisposeScope();
        var halves = _out.call(features).to(ScalarType.Float32).transpose(1, 2).chunk(2, 1);
        var magnitude = halves[0].exp().clamp_max(LargestMagnitude);
        return torch.polar(magnitude, halves[1]).MoveToOuterDisposeScope();
    }

    /// <summary>Overlap-add of the frames' inverse transforms, divided by the summed squared window, cut at both ends.</summary>
    private Tensor Samples(Tensor spectrum)
    {
        long frames = spectrum.shape[2], whole = ((frames - 1) * _hop) + _length;
        var window = torch.hann_window(_length, device: spectrum.device);
        var pieces = torch.fft.irfft(spectrum, _length, dim: 1) * window.unsqueeze(1); // (B, n_fft, T)
        var sum = OverlapAdd(pieces, whole) / OverlapAdd(window.square().reshape(1, _length, 1).expand(1, _length, frames), whole).clamp_min(1e-11);
        long cut = _centred ? _length / 2 : (_length - _hop) / 2;
        return sum.narrow(1, cut, whole - (2 * cut)); // (B, samples)
    }

    private Tensor OverlapAdd(Tensor pieces, long whole) =>
        F.fold(pieces, (1, whole), (1, _length), stride: (1, _hop)).reshape(pieces.shape[0], whole);
}

/// <summary>From log-mels to a waveform by one inverse Fourier transform.</summary>
public sealed class Vocos : nn.Module, IVocoder, IPublishedLayouts
{
    internal const double Epsilon = 1e-6;
    private const int FramesPerChunk = 2048;

    [ComponentName(Name = "backbone")] private readonly VocosBackbone _backbone;
    [ComponentName(Name = "head")] private readonly SpectrumHead _head;
    private readonly int _context;

    /// <summary>A network of uninitialised weights.</summary>
    /// <param name="config">Its sizes.</param>
    /// <param name="place">Device and precision.</param>
    /// <exception cref="MelFusionException">The sizes cannot be.</exception>
    public Vocos(VocosConfig config, Placement place) : base(nameof(Vocos))
    {
        config.Validate();
        Config = config;
        _backbone = new(config.Backbone.InitArgs, place);
        _head = new(config.Backbone.InitArgs.Dim, config.Head.InitArgs, place);
        _context = 3 * (config.Backbone.InitArgs.NumLayers + 1);
        RegisterComponents();
    }

    /// <summary>The sizes.</summary>
    public VocosConfig Config { get; }

    /// <summary>The window is computed, and a published file's front end is not part of the network.</summary>
    WeightsFile IPublishedLayouts.InOwnNames(WeightsFile file) => file.Renamed([new(@"^head\.istft\.window$", null), new(@"^feature_extractor\.", null)]);

    /// <summary>The waveform of log-mels. Without gradients the blocks work on a long input chunk by chunk.</summary>
    /// <param name="mel">Natural-log mels (B, mels, T).</param>
    /// <param name="framesPerChunk">Frames that a chunk adds; null: the default, 0: never cut.</param>
    /// <param name="cancellation">Looked at before every chunk.</param>
    /// <returns>(B, samples): hop samples a frame, one hop fewer with padding "center".</returns>
    public Tensor Forward(Tensor mel, int? framesPerChunk = null, CancellationToken cancellation = default)
    {
        using var scope = NewDisposeScope();
        long frames = mel.shape[2], step = framesPerChunk ?? FramesPerChunk;
        step = is_grad_enabled() || step == 0 ? frames : step;
        var features = new List<Tensor>();
        for (long start = 0; start < frames; start += step)
        {
            cancellation.ThrowIfCancellationRequested();
            long from = Math.Max(0, start - _context), end = Math.Min(start + step, frames), to = Math.Min(end + _context, frames);
            features.Add(_backbone.call(mel.narrow(2, from, to - from)).narrow(1, start - from, end - start));
        }

        return _head.call(torch.cat(features, 1)).MoveToOuterDisposeScope();
    }
}
