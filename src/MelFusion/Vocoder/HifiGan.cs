using System.Text.Json.Serialization;
using MelFusion.Weights;
using TorchSharp;
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;
using Conv1d = MelFusion.Weights.Conv1d;
using ConvTranspose1d = MelFusion.Weights.ConvTranspose1d;
using F = TorchSharp.torch.nn.functional;

namespace MelFusion.Vocoder;

// HiFi-GAN's generator (Kong, Kim, Bae 2020). Leaves first, the network last. B samples, C channels, T frames or samples of a stage.

/// <summary>
/// The sizes of a <see cref="HifiGan"/>: config.json of transformers' SpeechT5HifiGan, or of the original generator (num_mels, hop_size).
/// </summary>
public sealed record HifiGanConfig
{
    private const int MostStages = 16;
    private const int LargestSize = 1 << 16;

    /// <summary>Mel bands that come in, as transformers names them.</summary>
    public int ModelInDim { get; init; } = 80;

    /// <summary>Mel bands that come in, as the original names them; where given, it holds.</summary>
    public int? NumMels { get; init; }

    /// <summary>Samples a second, in Hz.</summary>
    public int SamplingRate { get; init; } = 16000;

    /// <summary>Channels after the first convolution; each stage halves them.</summary>
    public int UpsampleInitialChannel { get; init; } = 512;

    /// <summary>How many times longer each stage makes the signal; the product is the hop.</summary>
    public IReadOnlyList<int> UpsampleRates { get; init; } = [4, 4, 4, 4];

    /// <summary>Width of each stage's transposed convolution.</summary>
    public IReadOnlyList<int> UpsampleKernelSizes { get; init; } = [8, 8, 8, 8];

    /// <summary>Kernel widths of the residual blocks of every stage, whose mean is taken.</summary>
    public IReadOnlyList<int> ResblockKernelSizes { get; init; } = [3, 7, 11];

    /// <summary>Dilations inside each residual block.</summary>
    public IReadOnlyList<IReadOnlyList<int>> ResblockDilationSizes { get; init; } = [[1, 3, 5], [1, 3, 5], [1, 3, 5]];

    /// <summary>Slope of the leaky ReLUs.</summary>
    public double LeakyReluSlope { get; init; } = 0.1;

    /// <summary>Slope of the last leaky ReLU; the original leaves it at PyTorch's default there.</summary>
    public double LeakyReluSlopeBeforeConvPost { get; init; } = 0.01;

    /// <summary>Whether mels are normalised by stored means; no music vocoder was published so, and true is refused.</summary>
    public bool NormalizeBefore { get; init; }

    /// <summary>The original's kind of residual block; only "1" is known.</summary>
    public string Resblock { get; init; } = "1";

    /// <summary>Mel bands that come in.</summary>
    [JsonIgnore]
    public int Mels => NumMels ?? ModelInDim;

    /// <summary>Samples per mel frame.</summary>
    [JsonIgnore]
    public int Hop => UpsampleRates.Aggregate(1, (product, rate) => product * rate);

    /// <summary>The vocoder of AudioLDM and TANGO: 64 mels, 16 kHz, hop 160.</summary>
    [JsonIgnore]
    public static HifiGanConfig AudioLdm { get; } = new()
    {
        ModelInDim = 64,
        UpsampleInitialChannel = 1024,
        UpsampleRates = [5, 4, 2, 2, 2],
        UpsampleKernelSizes = [16, 16, 8, 4, 4],
    };

    /// <summary>The universal model and melfusion-mini's: 80 mels, 22.05 kHz, hop 256.</summary>
    [JsonIgnore]
    public static HifiGanConfig Universal22k { get; } = new()
    {
        NumMels = 80,
        SamplingRate = 22050,
        UpsampleRates = [8, 8, 2, 2],
        UpsampleKernelSizes = [16, 16, 4, 4],
    };

    /// <summary>A few thousand parameters, for tests: 80 mels, hop 256.</summary>
    [JsonIgnore]
    public static HifiGanConfig Tiny { get; } = Universal22k with { UpsampleInitialChannel = 32, ResblockKernelSizes = [3], ResblockDilationSizes = [[1, 3]] };

    /// <summary>Refuses sizes of which no network can be made.</summary>
    /// <exception cref="MelFusionException">With the reason.</exception>
    public void Validate()
    {
        string? wrong =
            Mels is < 1 or > LargestSize || SamplingRate is < 1 or > 1_000_000 ? "the number of mels or the sampling rate is not usable"
            : UpsampleRates is not { Count: > 0 and <= MostStages } || UpsampleRates.Any(rate => rate is < 1 or > 64) ? "upsample_rates must list 1 to 16 rates of 1 to 64"
            : UpsampleKernelSizes.Count != UpsampleRates.Count || UpsampleKernelSizes.Zip(UpsampleRates).Any(pair => pair.First < pair.Second || pair.First > 1024)
                ? "upsample_kernel_sizes must have a width for each rate, not below it"
            : UpsampleInitialChannel is < 1 or > LargestSize || UpsampleInitialChannel % (1 << UpsampleRates.Count) != 0
                ? "upsample_initial_channel must be halved by every stage without a rest"
            : ResblockKernelSizes.Count is < 1 or > 64 || ResblockKernelSizes.Any(kernel => kernel is < 1 or > 255 || kernel % 2 == 0) ? "resblock_kernel_sizes must be odd"
            : ResblockDilationSizes.Count != ResblockKernelSizes.Count || ResblockDilationSizes.Any(list => list.Count is < 1 or > 64 || list.Any(dilation => dilation is < 1 or > 1024))
                ? "resblock_dilation_sizes must have a list for each kernel"
            : NormalizeBefore ? "normalize_before is true, which is a speech vocoder's and not supported"
            : Resblock != "1" ? "only HiFi-GAN's residual block of kind 1 is supported"
            : null;
        if (wrong is not null)
        {
            throw new MelFusionException($"The vocoder's config.json: {wrong}.");
        }
    }
}

/// <summary>Pairs of a dilated and a plain convolution, each around a shortcut.</summary>
internal sealed class DilatedBlock : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "convs1")] private readonly ModuleList<Conv1d> _dilated;
    [ComponentName(Name = "convs2")] private readonly ModuleList<Conv1d> _plain;
    private readonly double _slope;

    public DilatedBlock(long channels, int kernel, IReadOnlyList<int> dilations, double slope, Placement place) : base(nameof(DilatedBlock))
    {
        _dilated = new([.. dilations.Select(d => new Conv1d(channels, channels, kernel, place, padding: (kernel - 1) / 2 * d, dilation: d))]);
        _plain = new([.. dilations.Select(_ => new Conv1d(channels, channels, kernel, place, padding: (kernel - 1) / 2))]);
        _slope = slope;
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        foreach (var (dilated, plain) in _dilated.Zip(_plain))
        {
            using var pair = NewDisposeScope();
            var h = dilated.call(F.leaky_relu(x, _slope));
            h = plain.call(HifiGan.Bend(h, _slope));
            x = Fresh.Add(h, x).MoveToOuterDisposeScope(); // (B, C, T)
        }

        return x.MoveToOuterDisposeScope();
    }
}

/// <summary>
/// From log-mels to a waveform. Files in the original's names, AudioLDM's, TANGO's and transformers' load, weight norm folded or not.
/// </summary>
public sealed class HifiGan : nn.Module, IVocoder, IPublishedLayouts
{
    // What chunks overlap by is computed twice: about 55 frames of AudioLDM's size. A chunk of this many takes some 100 MB.
    private const int FramesPerChunk = 1024;

    [ComponentName(Name = "conv_pre")] private readonly Conv1d _convPre;
    [ComponentName(Name = "upsampler")] private readonly ModuleList<ConvTranspose1d> _upsampler;
    [ComponentName(Name = "resblocks")] private readonly ModuleList<DilatedBlock> _resblocks; // kernels fastest
    [ComponentName(Name = "conv_post")] private readonly Conv1d _convPost;

    /// <summary>A network of uninitialised weights.</summary>
    /// <param name="config">Its sizes.</param>
    /// <param name="place">Device and precision; 32 bits are advised, as 16 are slower and fill digital silence with noise.</param>
    /// <exception cref="MelFusionException">The sizes cannot be.</exception>
    public HifiGan(HifiGanConfig config, Placement place) : base(nameof(HifiGan))
    {
        config.Validate();
        Config = config;
        int first = config.UpsampleInitialChannel;
        _convPre = new(config.Mels, first, 7, place, padding: 3);
        _upsampler = new([.. config.UpsampleRates.Zip(config.UpsampleKernelSizes, (rate, kernel) => (rate, kernel))
            .Select((stage, i) => new ConvTranspose1d(first >> i, first >> (i + 1), stage.kernel, place, stage.rate, (stage.kernel - stage.rate) / 2))]);
        _resblocks = new([.. config.UpsampleRates.SelectMany((_, i) => config.ResblockKernelSizes.Zip(config.ResblockDilationSizes,
            (kernel, dilations) => new DilatedBlock(first >> (i + 1), kernel, dilations, config.LeakyReluSlope, place)))]);
        _convPost = new(first >> config.UpsampleRates.Count, 1, 7, place, padding: 3);
        ContextFrames = Context(config);
        RegisterComponents();
    }

    /// <summary>The sizes.</summary>
    public HifiGanConfig Config { get; }

    /// <summary>How many frames to each side a sample depends on.</summary>
    public int ContextFrames { get; }

    /// <inheritdoc/>
    WeightsFile IPublishedLayouts.InOwnNames(WeightsFile file) => KeyRenames.ForVocoder(file);

    /// <summary>
    /// The waveform of log-mels. Without gradients a long input is cut into chunks that overlap by <see cref="ContextFrames"/>, so that
    /// memory stays bounded and the result is that of the whole within rounding.
    /// </summary>
    /// <param name="mel">Natural-log mels (B, mels, T).</param>
    /// <param name="framesPerChunk">Frames that a chunk adds; null: the default, 0: never cut.</param>
    /// <param name="cancellation">Looked at before every chunk.</param>
    /// <returns>(B, samples) in [-1, 1]: <see cref="HifiGanConfig.Hop"/> samples a frame, and a few more where a kernel is odd by its rate.</returns>
    public Tensor Forward(Tensor mel, int? framesPerChunk = null, CancellationToken cancellation = default)
    {
        using var scope = NewDisposeScope();
        long frames = mel.shape[2], step = framesPerChunk ?? FramesPerChunk;
        if (is_grad_enabled() || step == 0 || frames <= step + ContextFrames)
        {
            cancellation.ThrowIfCancellationRequested();
            return Whole(mel).MoveToOuterDisposeScope();
        }

        var chunks = new List<Tensor>();
        for (long start = 0; start < frames; start += step)
        {
            cancellation.ThrowIfCancellationRequested();
            chunks.Add(Chunk(mel, start, Math.Min(start + step, frames)));
        }

        return torch.cat(chunks, 1).MoveToOuterDisposeScope();
    }

    /// <summary>Leaky ReLU of a fresh tensor, over it when no gradient is recorded.</summary>
    internal static Tensor Bend(Tensor fresh, double slope) => F.leaky_relu(fresh, slope, inplace: !is_grad_enabled());

    /// <summary>The samples of frames start to end, computed with what surrounds them.</summary>
    private Tensor Chunk(Tensor mel, long start, long end)
    {
        using var scope = NewDisposeScope();
        long from = Math.Max(0, start - ContextFrames), to = Math.Min(mel.shape[2], end + ContextFrames);
        var samples = Whole(mel.narrow(2, from, to - from));
        long first = (start - from) * Config.Hop, last = end == mel.shape[2] ? samples.shape[1] : (end - from) * Config.Hop;
        return samples.narrow(1, first, last - first).clone().MoveToOuterDisposeScope();
    }

    private Tensor Whole(Tensor mel)
    {
        using var scope = NewDisposeScope();
        var x = _convPre.call(mel); // (B, C, T)
        for (int stage = 0; stage < _upsampler.Count; stage++)
        {
            x = Stage(stage, x); // (B, C / 2, T rate)
        }

        x = _convPost.call(Bend(x, Config.LeakyReluSlopeBeforeConvPost));
        return x.tanh().squeeze(1).MoveToOuterDisposeScope(); // (B, samples)
    }

    private Tensor Stage(int stage, Tensor before)
    {
        using var scope = NewDisposeScope();
        int kernels = Config.ResblockKernelSizes.Count;
        var x = _upsampler[stage].call(Bend(before, Config.LeakyReluSlope));
        before.Dispose();
        Tensor? sum = null;
        for (int i = 0; i < kernels; i++)
        {
            var block = _resblocks[(stage * kernels) + i].call(x);
            sum = sum is null ? block : Fresh.Add(sum, block);
        }

        return (is_grad_enabled() ? sum! / kernels : sum!.div_(kernels)).MoveToOuterDisposeScope();
    }

    private static int Context(HifiGanConfig config)
    {
        double frames = 3; // of the first convolution, 7 wide
        int rate = 1;
        int block = config.ResblockKernelSizes.Zip(config.ResblockDilationSizes, (kernel, dilations) => (kernel - 1) / 2 * dilations.Sum(d => d + 1)).Max();
        foreach (var (up, kernel) in config.UpsampleRates.Zip(config.UpsampleKernelSizes))
        {
            frames += Math.Ceiling(kernel / (double)up) / rate;
            rate *= up;
            frames += block / (double)rate;
        }

        return (int)Math.Ceiling(frames + (3.0 / rate)) + 1;
    }
}
