using MelFusion.KeyValue;
using MelFusion.Weights;
using TorchSharp;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace MelFusion.Synapse;

/// <summary>
/// Gathers mean and deviation of every channel of keys and values over many samples, layer by layer: of the tokens, of each sample's mean over
/// its tokens, and of what the tokens differ from that mean.
/// </summary>
public sealed class KeyValueStatistics : IDisposable
{
    private readonly Dictionary<string, (TokenMoments Keys, TokenMoments Values)> _layers = [];

    /// <summary>Adds samples.</summary>
    /// <param name="keyValues">K and V by layer, (B, n, d): of a picture, or of <see cref="UNet.TextKeyValues"/>.</param>
    /// <param name="mask">Which tokens count, (B, n) of bool; null: all.</param>
    public void Add(IReadOnlyDictionary<string, KeysAndValues> keyValues, Tensor? mask = null)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        foreach (var (layer, (keys, values)) in keyValues)
        {
            var (ofKeys, ofValues) = _layers.TryGetValue(layer, out var known) ? known : _layers[layer] = (new(keys), new(values));
            ofKeys.Add(keys, mask);
            ofValues.Add(values, mask);
        }
    }

    internal (TokenMoments Keys, TokenMoments Values) this[string layer] => _layers.TryGetValue(layer, out var moments)
        ? moments
        : throw new InvalidOperationException($"No sample of {layer} was added to the statistics.");

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var (keys, values) in _layers.Values)
        {
            keys.Dispose();
            values.Dispose();
        }
    }

    /// <summary>A sample's mean over its tokens, (B, 1, d) in fp32.</summary>
    /// <param name="x">(B, n, d).</param>
    /// <param name="valid">Which tokens count, (B, n, 1), 1 or 0; null: all.</param>
    internal static Tensor MeanOf(Tensor x, Tensor? valid)
    {
        var wide = x.to(ScalarType.Float32);
        return valid is null
            ? wide.mean([1L], keepdim: true)
            : (wide * valid).sum([1L], keepdim: true) / valid.sum([1L], keepdim: true).clamp_min(1);
    }
}

/// <summary>The moments of tokens, of each sample's mean over them, and of what they differ from it.</summary>
internal sealed class TokenMoments(Tensor like) : IDisposable
{
    public Moments Tokens { get; } = new(like);

    public Moments Means { get; } = new(like);

    public Moments Details { get; } = new(like);

    public void Add(Tensor x, Tensor? mask)
    {
        Tokens.Add(x, mask);
        var mean = KeyValueStatistics.MeanOf(x, mask?.to(ScalarType.Float32).unsqueeze(2));
        Means.Add(mean, null);
        Details.Add(x - mean, mask);
    }

    public void Dispose()
    {
        Tokens.Dispose();
        Means.Dispose();
        Details.Dispose();
    }
}

/// <summary>Count, sum and sum of squares per channel, in 64 bits.</summary>
internal sealed class Moments(Tensor like) : IDisposable
{
    private readonly Tensor _sum = Zeros(like), _squares = Zeros(like); // (d)
    private long _count;

    public void Add(Tensor x, Tensor? mask)
    {
        var rows = x.reshape(-1, x.shape[2]).to(ScalarType.Float64); // (B n, d)
        rows = mask is null ? rows : rows[mask.reshape(-1)];
        _sum.add_(rows.sum([0L])); // sum(0) would be a sum to bytes: 0 is a ScalarType too
        _squares.add_(rows.square().sum([0L]));
        _count += rows.shape[0];
    }

    public Tensor Mean() => _sum / _count;

    public Tensor Deviation() => (_squares / _count - Mean().square()).clamp_min(0).sqrt();

    public void Dispose()
    {
        _sum.Dispose();
        _squares.Dispose();
    }

    private static Tensor Zeros(Tensor like) => torch.zeros([like.shape[2]], ScalarType.Float64, like.device).DetachFromDisposeScope();
}

/// <summary>One layer's fixed statistics, and the change of scale they make. The picture's are one for all noise levels, or one for each.</summary>
internal sealed class KeyValueScale : nn.Module
{
    private const double SmallestDeviation = 1e-4;
    private static readonly double HalfOfVariance = Math.Sqrt(0.5);

    [ComponentName(Name = "image")] private readonly ChannelStatistics _image; // of the tokens, or of the pictures' means where there are details
    [ComponentName(Name = "detail")] private readonly ChannelStatistics? _detail;
    [ComponentName(Name = "music")] private readonly ChannelStatistics _music;

    public KeyValueScale(int width, int levels, bool parts, Placement place) : base(nameof(KeyValueScale))
    {
        long[] shape = levels == 0 ? [width] : [levels, width];
        (_image, _detail, _music) = (new(shape, place), parts ? new(shape, place) : null, new([width], place));
        RegisterComponents();
    }

    /// <summary>
    /// (x - image mean) / image deviation x music deviation + music mean, channel by channel, in fp32. In parts, that of the picture's mean and
    /// that of what its tokens differ from it are added, half of the variance each.
    /// </summary>
    /// <param name="picture">K^I and V^I, (B, n, d) or (1, n, d).</param>
    /// <param name="level">The noise level of each sample as a row of the statistics, (B) or (1) of int64; null: they are one for all.</param>
    /// <param name="valid">Which tokens count, (B, n, 1), 1 or 0; null: all.</param>
    public KeysAndValues Apply(KeysAndValues picture, Tensor? level, Tensor? valid) => new(
        Scale(picture.Keys, level, valid, channels => (channels.KeyMean, channels.KeyDeviation)),
        Scale(picture.Values, level, valid, channels => (channels.ValueMean, channels.ValueDeviation)));

    /// <summary>K^I and V^I with noise, in deviations of the pictures' statistics.</summary>
    /// <param name="picture">K^I and V^I, (B, n, d).</param>
    /// <param name="level">As for <see cref="Apply"/>.</param>
    /// <param name="noise">What is done to them.</param>
    /// <param name="ofChannels">The layer's part of <see cref="KeyValueNoise.OfChannels"/>, (B, 1, d) for keys and for values; null: none.</param>
    /// <exception cref="InvalidOperationException">Details are to be exchanged, and the statistics have none.</exception>
    public KeysAndValues Perturb(KeysAndValues picture, Tensor? level, KeyValueNoise noise, KeysAndValues? ofChannels) => new(
        Perturb(picture.Keys, level, noise, ofChannels?.Keys, channels => (channels.KeyMean, channels.KeyDeviation)),
        Perturb(picture.Values, level, noise, ofChannels?.Values, channels => (channels.ValueMean, channels.ValueDeviation)));

    public void Set(IReadOnlyList<KeyValueStatistics> pictures, KeyValueStatistics music, string layer)
    {
        _image.Set([.. pictures.Select(level => _detail is null ? (level[layer].Keys.Tokens, level[layer].Values.Tokens) : (level[layer].Keys.Means, level[layer].Values.Means))]);
        _detail?.Set([.. pictures.Select(level => (level[layer].Keys.Details, level[layer].Values.Details))]);
        _music.Set([(music[layer].Keys.Tokens, music[layer].Values.Tokens)]);
    }

    private Tensor Scale(Tensor x, Tensor? level, Tensor? valid, Func<ChannelStatistics, (Tensor Mean, Tensor Deviation)> of)
    {
        var (newMean, newDeviation) = of(_music);
        if (_detail is null)
        {
            return Scale(x, level, of(_image), newDeviation) + newMean;
        }

        var mean = KeyValueStatistics.MeanOf(x, valid);
        return HalfOfVariance * (Scale(mean, level, of(_image), newDeviation) + Scale(x - mean, level, of(_detail), newDeviation)) + newMean;
    }

    private Tensor Perturb(Tensor x, Tensor? level, KeyValueNoise noise, Tensor? ofChannels, Func<ChannelStatistics, (Tensor Mean, Tensor Deviation)> of)
    {
        var deviation = Row(of(_image).Deviation, level); // (B, 1, d)
        var perturbed = noise.DetailsOf is null ? x : ExchangeDetails(x, level, noise.DetailsOf, of);
        if (noise.Blend is not null)
        {
            var standard = (KeyValueStatistics.MeanOf(x, valid: null) - Row(of(_image).Mean, level)) / deviation.clamp_min(SmallestDeviation);
            var apart = (standard - standard.mean([0], keepdim: true)).squeeze(1); // (B, d): what the pictures of the batch differ in
            perturbed += matmul(noise.Blend, apart).unsqueeze(1) * deviation;
        }

        return ofChannels is null ? perturbed : perturbed + ofChannels * deviation;
    }

    /// <summary>Every picture's own mean with the details of another, as large as those of its own noise level.</summary>
    private Tensor ExchangeDetails(Tensor x, Tensor? level, Tensor detailsOf, Func<ChannelStatistics, (Tensor Mean, Tensor Deviation)> of)
    {
        var statistics = _detail ?? throw new InvalidOperationException("The synapse's config does not tell details from means.");
        var (mean, deviation) = (KeyValueStatistics.MeanOf(x, valid: null), Row(of(statistics).Deviation, level).clamp_min(SmallestDeviation));
        return mean + ((x - mean) / deviation).index_select(0, detailsOf) * deviation;
    }

    private static Tensor Scale(Tensor x, Tensor? level, (Tensor Mean, Tensor Deviation) channels, Tensor newDeviation) =>
        (x - Row(channels.Mean, level)) * (newDeviation / Row(channels.Deviation, level).clamp_min(SmallestDeviation));

    private static Tensor Row(Tensor statistics, Tensor? level) => level is null ? statistics : statistics.index_select(0, level).unsqueeze(1);
}

/// <summary>Mean and deviation of keys and values per channel, (d) or (levels, d) each: buffers of the synapse's file, mean 0 and deviation 1 until set.</summary>
internal sealed class ChannelStatistics : nn.Module
{
    [ComponentName(Name = "key_mean")] private readonly Tensor _keyMean;
    [ComponentName(Name = "key_deviation")] private readonly Tensor _keyDeviation;
    [ComponentName(Name = "value_mean")] private readonly Tensor _valueMean;
    [ComponentName(Name = "value_deviation")] private readonly Tensor _valueDeviation;

    public ChannelStatistics(long[] shape, Placement place) : base(nameof(ChannelStatistics))
    {
        _keyMean = torch.zeros(shape, ScalarType.Float32, place.Device).DetachFromDisposeScope();
        _keyDeviation = torch.ones(shape, ScalarType.Float32, place.Device).DetachFromDisposeScope();
        _valueMean = torch.zeros(shape, ScalarType.Float32, place.Device).DetachFromDisposeScope();
        _valueDeviation = torch.ones(shape, ScalarType.Float32, place.Device).DetachFromDisposeScope();
        RegisterComponents();
    }

    public Tensor KeyMean => _keyMean;

    public Tensor KeyDeviation => _keyDeviation;

    public Tensor ValueMean => _valueMean;

    public Tensor ValueDeviation => _valueDeviation;

    public void Set(IReadOnlyList<(Moments Keys, Moments Values)> levels)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        Set(_keyMean, levels.Select(level => level.Keys.Mean()));
        Set(_keyDeviation, levels.Select(level => level.Keys.Deviation()));
        Set(_valueMean, levels.Select(level => level.Values.Mean()));
        Set(_valueDeviation, levels.Select(level => level.Values.Deviation()));
    }

    private static void Set(Tensor buffer, IEnumerable<Tensor> levels)
    {
        var values = stack(levels); // (levels, d)
        buffer.copy_(buffer.dim() == 1 ? values.squeeze(0) : values);
    }
}
