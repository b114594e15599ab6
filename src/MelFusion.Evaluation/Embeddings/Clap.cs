using MelFusion.Text;
using MelFusion.Wave;
using MelFusion.Weights;
using TorchSharp;
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;
using Conv2d = MelFusion.Weights.Conv2d;
using F = TorchSharp.torch.nn.functional;
using LayerNorm = MelFusion.Weights.LayerNorm;
using Linear = MelFusion.Weights.Linear;

namespace MelFusion.Evaluation.Embeddings;

// CLAP (Wu and others 2023): sounds and texts in one space. The sound tower is HTSAT (Chen and others 2022), a Swin transformer over a log-mel
// folded to a square; the text tower is RoBERTa. Leaves first, the network last. B sounds or texts, S side of a map, C channels, n cells of
// a window, H heads.

/// <summary>The sizes of a <see cref="Clap"/>: config.json of transformers' ClapModel; the defaults are laion/clap-htsat-unfused's.</summary>
public sealed record ClapConfig
{
    /// <summary>The text tower.</summary>
    public MiniLmConfig TextConfig { get; init; } = new()
    {
        VocabSize = 50265, HiddenSize = 768, NumHiddenLayers = 12, NumAttentionHeads = 12, IntermediateSize = 3072,
        MaxPositionEmbeddings = 514, TypeVocabSize = 1, PadTokenId = 1,
    };

    /// <summary>The sound tower.</summary>
    public ClapAudioConfig AudioConfig { get; init; } = new();

    /// <summary>Width of the common space.</summary>
    public int ProjectionDim { get; init; } = 512;
}

/// <summary>The sizes of CLAP's sound tower.</summary>
public sealed record ClapAudioConfig
{
    /// <summary>Side of a window of attention.</summary>
    public int WindowSize { get; init; } = 8;

    /// <summary>Mel bands.</summary>
    public int NumMelBins { get; init; } = 64;

    /// <summary>Side of the square that the log-mel is folded to.</summary>
    public int SpecSize { get; init; } = 256;

    /// <summary>Side of a patch.</summary>
    public int PatchSize { get; init; } = 4;

    /// <summary>Channels of the first stage; each later one doubles them.</summary>
    public int PatchEmbedsHiddenSize { get; init; } = 96;

    /// <summary>Channels that come out.</summary>
    public int HiddenSize { get; init; } = 768;

    /// <summary>Blocks of each stage.</summary>
    public IReadOnlyList<int> Depths { get; init; } = [2, 2, 6, 2];

    /// <summary>Heads of each stage.</summary>
    public IReadOnlyList<int> NumAttentionHeads { get; init; } = [4, 8, 16, 32];

    /// <summary>Channels between a block's two matrices, in multiples of its width.</summary>
    public double MlpRatio { get; init; } = 4;

    /// <summary>Whether several crops are fused; only false is known.</summary>
    public bool EnableFusion { get; init; }

    /// <summary>Epsilon of the norms.</summary>
    public double LayerNormEps { get; init; } = 1e-5;

    /// <summary>Side of the map of patches.</summary>
    internal int Side => SpecSize / PatchSize;

    /// <summary>Quarters into which the frames are cut.</summary>
    internal int Folds => SpecSize / NumMelBins;

    internal void Validate()
    {
        int stages = Depths.Count;
        string? wrong =
            stages is < 1 or > 8 || NumAttentionHeads.Count != stages || Depths.Any(depth => depth is < 1 or > 64) ? "depths and num_attention_heads must list a number for each stage"
            : WindowSize is < 1 or > 64 || PatchSize is < 1 or > 64 || NumMelBins is < 1 or > 1024 || SpecSize is < 1 or > 4096 || PatchEmbedsHiddenSize is < 1 or > 1 << 14
                || MlpRatio is < 0.1 or > 64 ? "a size of the audio tower is not usable"
            : SpecSize % NumMelBins != 0 || SpecSize % PatchSize != 0 || Side % (1 << (stages - 1)) != 0 || (Side >> (stages - 1)) < 1 ? "spec_size cannot be folded and halved as often"
            : Enumerable.Range(0, stages).Any(i => (Side >> i) > WindowSize && (Side >> i) % WindowSize != 0) ? "window_size does not divide the maps"
            : Enumerable.Range(0, stages).Any(i => NumAttentionHeads[i] < 1 || (PatchEmbedsHiddenSize << i) % NumAttentionHeads[i] != 0) ? "a stage's width must be a multiple of its heads"
            : HiddenSize != PatchEmbedsHiddenSize << (stages - 1) ? "hidden_size must be the last stage's width"
            : EnableFusion ? "enable_fusion is true; only the unfused network is supported"
            : null;
        if (wrong is not null)
        {
            throw new MelFusionException($"CLAP's config.json: {wrong}.");
        }
    }
}

/// <summary>Attention inside windows; a learnt number for each offset of two cells is added to the scores.</summary>
internal sealed class WindowSelfAttention : nn.Module
{
    [ComponentName(Name = "query")] private readonly Linear _query;
    [ComponentName(Name = "key")] private readonly Linear _key;
    [ComponentName(Name = "value")] private readonly Linear _value;
    [ComponentName(Name = "relative_position_bias_table")] private readonly Parameter _table; // ((2 w - 1)^2, H)
    private readonly int _heads, _window;

    public WindowSelfAttention(int channels, int heads, int window, Placement place) : base(nameof(WindowSelfAttention))
    {
        Linear Square() => new(channels, channels, place);
        (_query, _key, _value) = (Square(), Square(), Square());
        _table = LayerParameter.Empty([((2 * window) - 1) * ((2 * window) - 1), heads], place);
        (_heads, _window) = (heads, window);
        RegisterComponents();
    }

    /// <summary>Windows (B w, n, C) attend inside themselves.</summary>
    /// <param name="x">All windows of a map, map after map.</param>
    /// <param name="mask">What is added per window of a map (w, 1, n, n), or null.</param>
    public Tensor Forward(Tensor x, Tensor? mask)
    {
        using var scope = NewDisposeScope();
        var bias = _table.InPrecisionOf(x).index_select(0, Offsets(x.device)).view(_window * _window, _window * _window, _heads).permute(2, 0, 1).unsqueeze(0); // (1, H, n, n)
        bias = mask is null ? bias : (bias + mask).repeat(x.shape[0] / mask.shape[0], 1, 1, 1);
        var y = F.scaled_dot_product_attention(Split(_query.call(x)), Split(_key.call(x)), Split(_value.call(x)), attn_mask: bias);
        return y.transpose(1, 2).flatten(2).MoveToOuterDisposeScope();
    }

    private Tensor Split(Tensor x) => x.view(x.shape[0], x.shape[1], _heads, -1).transpose(1, 2); // (B w, H, n, D)

    /// <summary>The row of the table for every pair of cells.</summary>
    private Tensor Offsets(Device device)
    {
        int cells = _window * _window, span = (2 * _window) - 1;
        var rows = new long[cells * cells];
        for (int i = 0; i < rows.Length; i++)
        {
            var (query, key) = (i / cells, i % cells);
            rows[i] = (((query / _window) - (key / _window) + _window - 1) * span) + (query % _window) - (key % _window) + _window - 1;
        }

        return torch.tensor(rows, device: device);
    }
}

/// <summary>Window attention and its output matrix.</summary>
internal sealed class WindowAttention : nn.Module
{
    [ComponentName(Name = "self")] private readonly WindowSelfAttention _self;
    [ComponentName(Name = "output")] private readonly BertDense _output;

    public WindowAttention(int channels, int heads, int window, Placement place) : base(nameof(WindowAttention))
    {
        _self = new(channels, heads, window, place);
        _output = new(channels, channels, place);
        RegisterComponents();
    }

    public Tensor Forward(Tensor x, Tensor? mask) => _output.call(_self.Forward(x, mask));
}

/// <summary>A Swin block: attention in windows, which every other block moves by half a window, then two matrices.</summary>
internal sealed class SwinBlock : nn.Module<Tensor, Tensor>
{
    private const double Forbidden = -100;

    [ComponentName(Name = "layernorm_before")] private readonly LayerNorm _norm1;
    [ComponentName(Name = "attention")] private readonly WindowAttention _attention;
    [ComponentName(Name = "layernorm_after")] private readonly LayerNorm _norm2;
    [ComponentName(Name = "intermediate")] private readonly BertDense _intermediate;
    [ComponentName(Name = "output")] private readonly BertDense _output;
    private readonly int _side, _window, _shift;

    public SwinBlock(ClapAudioConfig config, int stage, bool shifted, Placement place) : base(nameof(SwinBlock))
    {
        int channels = config.PatchEmbedsHiddenSize << stage, inner = (int)(channels * config.MlpRatio);
        _side = config.Side >> stage;
        _window = Math.Min(_side, config.WindowSize);
        _shift = shifted && _side > config.WindowSize ? config.WindowSize / 2 : 0; // a map of one window is never moved
        _norm1 = new(channels, config.LayerNormEps, place);
        _attention = new(channels, config.NumAttentionHeads[stage], _window, place);
        _norm2 = new(channels, config.LayerNormEps, place);
        _intermediate = new(channels, inner, place);
        _output = new(inner, channels, place);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var map = Roll(_norm1.call(x).view(x.shape[0], _side, _side, -1), -_shift); // (B, S, S, C)
        var windows = _attention.Forward(Cut(map), _shift == 0 ? null : Mask(x));
        x = x + Roll(Join(windows, x.shape[0]), _shift).reshape(x.shape);
        return (x + _output.call(F.gelu(_intermediate.call(_norm2.call(x))))).MoveToOuterDisposeScope();
    }

    private static Tensor Roll(Tensor map, long by) => by == 0 ? map : map.roll([by, by], [1L, 2L]);

    /// <summary>(B, S, S, C) to windows (B w, n, C).</summary>
    private Tensor Cut(Tensor map)
    {
        int count = _side / _window;
        return map.reshape(map.shape[0], count, _window, count, _window, -1).permute(0, 1, 3, 2, 4, 5).reshape(-1, _window * _window, map.shape[3]);
    }

    /// <summary>Windows (B w, n, C) to (B, S, S, C).</summary>
    private Tensor Join(Tensor windows, long batch)
    {
        int count = _side / _window;
        return windows.reshape(batch, count, count, _window, _window, -1).permute(0, 1, 3, 2, 4, 5).reshape(batch, _side, _side, -1);
    }

    /// <summary>Cells that were not neighbours before the map was moved round its edges do not see each other.</summary>
    private Tensor Mask(Tensor x)
    {
        var regions = new float[_side * _side];
        int Region(int at) => at < _side - _window ? 0 : at < _side - _shift ? 1 : 2;
        for (int i = 0; i < regions.Length; i++)
        {
            regions[i] = (3 * Region(i / _side)) + Region(i % _side);
        }

        var cut = Cut(torch.tensor(regions, [1, _side, _side, 1], device: x.device)).squeeze(2); // (w, n)
        return (cut.unsqueeze(1).ne(cut.unsqueeze(2)).to(x.dtype) * Forbidden).unsqueeze(1); // (w, 1, n, n)
    }
}

/// <summary>Four neighbours become one cell of twice the width.</summary>
internal sealed class PatchMerging : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "norm")] private readonly LayerNorm _norm;
    [ComponentName(Name = "reduction")] private readonly Linear _reduction;

    public PatchMerging(int channels, double epsilon, Placement place) : base(nameof(PatchMerging))
    {
        _norm = new(4 * channels, epsilon, place);
        _reduction = new(4 * channels, 2 * channels, place, bias: false);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        long side = (long)Math.Sqrt(x.shape[1]), half = side / 2;
        var cells = x.view(x.shape[0], half, 2, half, 2, -1); // rows and columns by pairs
        Tensor Of(long row, long column) => cells.select(4, column).select(2, row); // (B, S / 2, S / 2, C)
        var four = torch.cat([Of(0, 0), Of(1, 0), Of(0, 1), Of(1, 1)], -1).flatten(1, 2);
        return _reduction.call(_norm.call(four)).MoveToOuterDisposeScope(); // (B, S S / 4, 2 C)
    }
}

/// <summary>Blocks of one width, then merging where a stage follows.</summary>
internal sealed class SwinStage : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "blocks")] private readonly ModuleList<SwinBlock> _blocks;
    [ComponentName(Name = "downsample")] private readonly PatchMerging? _downsample;

    public SwinStage(ClapAudioConfig config, int stage, Placement place) : base(nameof(SwinStage))
    {
        _blocks = new([.. Enumerable.Range(0, config.Depths[stage]).Select(i => new SwinBlock(config, stage, i % 2 == 1, place))]);
        _downsample = stage == config.Depths.Count - 1 ? null : new(config.PatchEmbedsHiddenSize << stage, config.LayerNormEps, place);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        foreach (var block in _blocks)
        {
            x = block.call(x);
        }

        return (_downsample?.call(x) ?? x).MoveToOuterDisposeScope();
    }
}

/// <summary>Patches of the square as vectors.</summary>
internal sealed class PatchEmbedding : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "proj")] private readonly Conv2d _projection;
    [ComponentName(Name = "norm")] private readonly LayerNorm _norm;

    public PatchEmbedding(ClapAudioConfig config, Placement place) : base(nameof(PatchEmbedding))
    {
        _projection = new(1, config.PatchEmbedsHiddenSize, config.PatchSize, place, stride: config.PatchSize);
        _norm = new(config.PatchEmbedsHiddenSize, config.LayerNormEps, place);
        RegisterComponents();
    }

    public override Tensor forward(Tensor square)
    {
        using var scope = NewDisposeScope();
        return _norm.call(_projection.call(square).flatten(2).transpose(1, 2)).MoveToOuterDisposeScope(); // (B, S S, C)
    }
}

/// <summary>HTSAT: the log-mel normalised, folded to a square and seen through Swin stages.</summary>
internal sealed class ClapAudioEncoder : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "batch_norm")] private readonly FrozenBatchNorm _batchNorm;
    [ComponentName(Name = "patch_embed")] private readonly PatchEmbedding _patches;
    [ComponentName(Name = "layers")] private readonly ModuleList<SwinStage> _stages;
    [ComponentName(Name = "norm")] private readonly LayerNorm _norm;
    private readonly ClapAudioConfig _config;

    public ClapAudioEncoder(ClapAudioConfig config, Placement place) : base(nameof(ClapAudioEncoder))
    {
        config.Validate();
        _config = config;
        _batchNorm = new(config.NumMelBins, 1e-5, place);
        _patches = new(config, place);
        _stages = new([.. Enumerable.Range(0, config.Depths.Count).Select(stage => new SwinStage(config, stage, place))]);
        _norm = new(config.HiddenSize, config.LayerNormEps, place);
        RegisterComponents();
    }

    public override Tensor forward(Tensor features)
    {
        using var scope = NewDisposeScope();
        var x = _patches.call(Fold(features));
        foreach (var stage in _stages)
        {
            x = stage.call(x);
        }

        return _norm.call(x).mean([1]).MoveToOuterDisposeScope(); // (B, C)
    }

    /// <summary>Log-mels (B, 1, T, bands) to squares (B, 1, side, side): frames stretched to whole quarters, which are stacked along frequency.</summary>
    public Tensor Fold(Tensor features)
    {
        using var scope = NewDisposeScope();
        var x = _batchNorm.Forward(features.transpose(1, 3)).transpose(1, 3); // the norm runs over the bands
        long frames = (long)_config.SpecSize * _config.Folds;
        x = x.shape[2] == frames ? x : F.interpolate(x, [frames, x.shape[3]], mode: InterpolationMode.Bicubic, align_corners: true);
        return x.reshape(x.shape[0], _config.Folds, _config.SpecSize, _config.NumMelBins) // (B, quarter, frame, band)
            .transpose(2, 3).reshape(x.shape[0], 1, _config.SpecSize, _config.SpecSize).contiguous().MoveToOuterDisposeScope();
    }
}

/// <summary>The sound tower under the name that checkpoints give it.</summary>
internal sealed class ClapAudioModel : nn.Module
{
    [ComponentName(Name = "audio_encoder")] private readonly ClapAudioEncoder _encoder;

    public ClapAudioModel(ClapAudioConfig config, Placement place) : base(nameof(ClapAudioModel))
    {
        _encoder = new(config, place);
        RegisterComponents();
    }

    public ClapAudioEncoder Encoder => _encoder;
}

/// <summary>Two matrices with a ReLU between them, into the common space.</summary>
internal sealed class ClapProjection : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "linear1")] private readonly Linear _linear1;
    [ComponentName(Name = "linear2")] private readonly Linear _linear2;

    public ClapProjection(int width, int projection, Placement place) : base(nameof(ClapProjection))
    {
        _linear1 = new(width, projection, place);
        _linear2 = new(projection, projection, place);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        return F.normalize(_linear2.call(_linear1.call(x).relu()), 2, 1).MoveToOuterDisposeScope();
    }
}

/// <summary>CLAP: embeddings of sounds and of texts, each of length 1, whose product says how well they fit.</summary>
public sealed class Clap : nn.Module, IPublishedLayouts
{
    /// <summary>The rate of its sounds in Hz.</summary>
    public const int SampleRate = 48_000;

    /// <summary>Samples it looks at: 10 seconds.</summary>
    public const int ClipSamples = 480_000;

    private const double Floor = 1e-10;

    [ComponentName(Name = "audio_model")] private readonly ClapAudioModel _audio;
    [ComponentName(Name = "text_model")] private readonly MiniLm _text;
    [ComponentName(Name = "audio_projection")] private readonly ClapProjection _audioProjection;
    [ComponentName(Name = "text_projection")] private readonly ClapProjection _textProjection;
    [ComponentName(Name = "logit_scale_a")] private readonly Parameter _audioScale; // a logarithm
    [ComponentName(Name = "logit_scale_t")] private readonly Parameter _textScale;
    private readonly MelConfig _mel;

    /// <summary>A network of uninitialised weights.</summary>
    /// <param name="config">Its sizes.</param>
    /// <param name="place">Device and precision.</param>
    /// <exception cref="MelFusionException">The sizes cannot be.</exception>
    public Clap(ClapConfig config, Placement place) : base(nameof(Clap))
    {
        _audio = new(config.AudioConfig, place);
        _text = new(config.TextConfig with { ModelType = "roberta" }, place);
        _audioProjection = new(config.AudioConfig.HiddenSize, config.ProjectionDim, place);
        _textProjection = new(config.TextConfig.HiddenSize, config.ProjectionDim, place);
        (_audioScale, _textScale) = (LayerParameter.Empty([], place), LayerParameter.Empty([], place));
        _mel = new()
        {
            SampleRate = SampleRate, NFft = 1024, WinLength = 1024, HopLength = 480, NMels = config.AudioConfig.NumMelBins, FMin = 50, FMax = 14_000,
            Padding = 512, Power = 2, MagnitudeEpsilon = 0,
        };
        RegisterComponents();
    }

    /// <summary>What sound times text is multiplied by before a softmax over texts.</summary>
    public double AudioScale => Math.Exp(_audioScale.to(ScalarType.Float64).item<double>());

    /// <summary>What text times sound is multiplied by before a softmax over sounds.</summary>
    public double TextScale => Math.Exp(_textScale.to(ScalarType.Float64).item<double>());

    /// <summary>Files also hold indices that are computed here, and two transforms of the training that embeddings do not use.</summary>
    WeightsFile IPublishedLayouts.InOwnNames(WeightsFile file) => file.Renamed(
        [new(@"\.(num_batches_tracked|relative_position_index|position_ids|token_type_ids)$", null), new(@"^(audio|text)_transform\.", null)]);

    /// <summary>
    /// The log-mel in dB of a sound, 10 seconds of it: a shorter one is repeated as often as it fits whole and filled with silence, of a longer one
    /// the middle is taken (the reference draws a place at random).
    /// </summary>
    /// <param name="samples">The sound, mono.</param>
    /// <param name="sampleRate">Its rate in Hz; other rates than 48 kHz are resampled.</param>
    /// <returns>(1, 1, 1001, bands).</returns>
    public Tensor Features(ReadOnlySpan<float> samples, int sampleRate)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var sound = sampleRate == SampleRate ? samples : new Resampler(sampleRate, SampleRate).Resample(samples);
        var power = _mel.Stft.Forward(torch.tensor(Fit(sound)).unsqueeze(0)).abs().square(); // (1, K, T)
        var bands = torch.matmul(MelFilters.Create(_mel), power);
        return (10 * bands.clamp_min(Floor).log10()).transpose(1, 2).unsqueeze(1).contiguous().MoveToOuterDisposeScope();
    }

    /// <summary>Embeddings of sounds.</summary>
    /// <param name="features">(B, 1, frames, bands), as <see cref="Features"/> gives them.</param>
    /// <returns>(B, projection), each of length 1.</returns>
    public Tensor EmbedSounds(Tensor features)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        return _audioProjection.call(_audio.Encoder.call(features)).MoveToOuterDisposeScope();
    }

    /// <summary>Embeddings of texts.</summary>
    /// <param name="ids">Token ids of RoBERTa (B, s), int64.</param>
    /// <param name="mask">True on real tokens (B, s), bool.</param>
    /// <returns>(B, projection), each of length 1.</returns>
    public Tensor EmbedTexts(Tensor ids, Tensor mask)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        return _textProjection.call(_text.Pool(_text.call(ids, mask))).MoveToOuterDisposeScope();
    }

    private static float[] Fit(ReadOnlySpan<float> sound)
    {
        var clip = new float[ClipSamples];
        if (sound.Length >= ClipSamples)
        {
            sound.Slice((sound.Length - ClipSamples) / 2, ClipSamples).CopyTo(clip);
            return clip;
        }

        for (int at = 0; sound.Length > 0 && at + sound.Length <= ClipSamples; at += sound.Length)
        {
            sound.CopyTo(clip.AsSpan(at));
        }

        return clip;
    }
}
