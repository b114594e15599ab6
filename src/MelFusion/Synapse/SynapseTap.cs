using MelFusion.KeyValue;
using MelFusion.Weights;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Synapse;

// B samples, s text tokens, n tokens of the picture, d width of a layer. alpha is (B, 1, 1) or (1, 1, 1): sigmoid(a) times the influence.

/// <summary>What one call of the music's UNet brings together.</summary>
internal sealed record Meeting(
    IReadOnlyList<AttentionLayer> Layers, CapturedKeyValues Picture, Tensor Logits, Tensor Influence, bool EverySample, Tensor? TextMask,
    IReadOnlyList<KeyValueScale>? Normalisation, Tensor? Level);

/// <summary>
/// Stands in the music's cross-attention while a picture is there. A mode overrides what it changes; layers without an alpha are left alone.
/// </summary>
internal abstract class SynapseTap : IKeyValueTap
{
    private readonly Dictionary<string, int> _index;

    protected SynapseTap(Meeting meeting)
    {
        Meeting = meeting;
        Strength = meeting.Logits.sigmoid();
        _index = meeting.Layers.Select((layer, i) => (layer.Name, i)).ToDictionary(pair => pair.Name, pair => pair.i);
    }

    protected Meeting Meeting { get; }

    /// <summary>alpha of every layer before influence, (layers).</summary>
    protected Tensor Strength { get; init; }

    /// <inheritdoc/>
    public virtual Tensor Context(AttentionLayer layer, Tensor text) => text;

    /// <inheritdoc/>
    public Tensor CrossAttention(AttentionLayer layer, Tensor queries, KeysAndValues text, Tensor? bias)
    {
        using var scope = NewDisposeScope();
        var attended = IndexOf(layer) is int i
            ? Meet(i, layer, queries, text, bias)
            : ScaledDotProduct.Attend(queries, text, layer.Heads, bias);
        return attended.to(queries.dtype).MoveToOuterDisposeScope();
    }

    /// <summary>The attention of a layer where the picture is let in, (B, n, d).</summary>
    protected abstract Tensor Meet(int index, AttentionLayer layer, Tensor queries, KeysAndValues text, Tensor? bias);

    protected int? IndexOf(AttentionLayer layer) => _index.TryGetValue(layer.Name, out int i) ? i : null;

    /// <summary>alpha of a layer for every sample.</summary>
    protected Tensor Alpha(int index) => Strength[index] * Meeting.Influence;

    /// <summary>K^I and V^I of a layer, scaled as the config says; (B, n, d) or (1, n, d). Where padding is among the n tokens, (B, n, 1) says which are valid.</summary>
    protected KeysAndValues OfPicture(int index, KeysAndValues raw, Tensor? valid = null) => Meeting.Normalisation?[index].Apply(raw, Meeting.Level, valid) ?? raw;
}

/// <summary>
/// Eq. 5-6. K^I and V^I are averaged to the text's valid tokens and blended with K^M and V^M; padding keeps K^M and V^M. Where alpha is 0,
/// this gives K^M and V^M to the last bit.
/// </summary>
internal sealed class PoolTap : SynapseTap
{
    private readonly IReadOnlyList<KeysAndValues> _picture; // (B, s, d); without a mask (B, n, d), as s is not known yet
    private readonly Tensor? _valid; // (B, s, 1)

    public PoolTap(Meeting meeting) : base(meeting)
    {
        var raw = meeting.Layers.Select(layer => meeting.Picture.KeyValues[layer.Name]);
        _valid = meeting.TextMask?.to(ScalarType.Float32).unsqueeze(2);
        if (meeting.TextMask is null || meeting.Picture.IsPooled)
        {
            _picture = [.. raw];
            return;
        }

        using var pooling = new TokenPooling(meeting.TextMask);
        _picture = [.. raw.Select(layer => layer.Select(pooling.Pool))];
    }

    protected override Tensor Meet(int index, AttentionLayer layer, Tensor queries, KeysAndValues text, Tensor? bias)
    {
        var picture = OfPicture(index, _picture[index].Select(x => _valid is null ? ToTokens(x, text.Keys.shape[1]) : x), _valid);
        var alpha = _valid is null ? Alpha(index) : Alpha(index) * _valid;
        var keys = alpha * picture.Keys + (1 - alpha) * text.Keys; // Eq. 5
        var values = alpha * picture.Values + (1 - alpha) * text.Values; // Eq. 6
        return ScaledDotProduct.Attend(queries, new KeysAndValues(keys, values).Select(x => x.to(queries.dtype)), layer.Heads, bias);
    }

    private static Tensor ToTokens(Tensor x, long s) => x.shape[1] == s ? x : matmul(TokenPooling.Averages(x.shape[1], s, x.device).to(x.dtype), x);
}

/// <summary>O = (1 - alpha) Attention(Q, K^M, V^M) + alpha Attention(Q, K^I, V^I): every token of the picture can be found.</summary>
internal sealed class ParallelTap(Meeting meeting) : SynapseTap(meeting)
{
    protected override Tensor Meet(int index, AttentionLayer layer, Tensor queries, KeysAndValues text, Tensor? bias)
    {
        var picture = OfPicture(index, Meeting.Picture.KeyValues[layer.Name]).Select(x => x.to(queries.dtype));
        var alpha = Alpha(index);
        var toText = ScaledDotProduct.Attend(queries, text, layer.Heads, bias);
        var toPicture = ScaledDotProduct.Attend(queries, picture, layer.Heads);
        return (1 - alpha) * toText + alpha * toPicture;
    }
}

/// <summary>
/// One attention to [K^M; K^I]. The scores get log(1 - alpha) - log(s) on the text and log(alpha) - log(n) on the picture, so that alpha is
/// the picture's share of the attention where all scores are equal.
/// </summary>
internal sealed class ConcatTap(Meeting meeting) : SynapseTap(meeting)
{
    private const double Smallest = 1e-12;

    // A sample of influence 0 is not mixed at all: log 0, and another order of summation, would change it.
    private readonly bool _everySample = meeting.EverySample
        || (meeting.Influence.device_type != DeviceType.META && meeting.Influence.ne(0).all().item<bool>());

    protected override Tensor Meet(int index, AttentionLayer layer, Tensor queries, KeysAndValues text, Tensor? bias)
    {
        var (b, d) = (queries.shape[0], queries.shape[2]);
        var picture = OfPicture(index, Meeting.Picture.KeyValues[layer.Name]).Select(x => x.to(queries.dtype));
        var keys = cat([text.Keys.expand(b, -1, d), picture.Keys.expand(b, -1, d)], 1); // (B, s + n, d)
        var values = cat([text.Values.expand(b, -1, d), picture.Values.expand(b, -1, d)], 1);
        var shares = Shares(index, b, text.Keys.shape[1], picture.Keys.shape[1], bias).to(queries.dtype);
        var mixed = ScaledDotProduct.Attend(queries, new(keys, values), layer.Heads, shares);
        return _everySample
            ? mixed
            : torch.where(Meeting.Influence.ne(0), mixed, ScaledDotProduct.Attend(queries, text, layer.Heads, bias));
    }

    // (B, 1, 1, s + n).
    private Tensor Shares(int index, long b, long s, long n, Tensor? bias)
    {
        var alpha = Alpha(index).unsqueeze(1); // (B, 1, 1, 1)
        var count = Meeting.TextMask is null
            ? torch.full([1, 1, 1, 1], s, ScalarType.Float32, alpha.device)
            : Meeting.TextMask.sum(1, type: ScalarType.Float32).clamp_min(1).view(-1, 1, 1, 1);
        var onText = (1 - alpha).clamp_min(Smallest).log() - count.log();
        var onPicture = alpha.clamp_min(Smallest).log() - Math.Log(n);
        return cat([(bias is null ? onText : onText + bias).expand(b, 1, 1, s), onPicture.expand(b, 1, 1, n)], 3);
    }
}

/// <summary>
/// The published code's way: F, the picture's cross-attention output, averaged over both axes to the text's (s, c), goes into the text's
/// states before the music's to_k and to_v: (1 - f) text + f F, f = (2 sigmoid(a) - 1) / 5.
/// </summary>
internal sealed class CodeTap : SynapseTap
{
    public CodeTap(Meeting meeting) : base(meeting) => Strength = (2 * meeting.Logits.sigmoid() - 1) / 5;

    public override Tensor Context(AttentionLayer layer, Tensor text)
    {
        if (IndexOf(layer) is not int i)
        {
            return text;
        }

        using var scope = NewDisposeScope();
        var output = Meeting.Picture.Outputs[layer.Name].to(ScalarType.Float32); // (B, n, d)
        var overTokens = TokenPooling.Averages(output.shape[1], text.shape[1], text.device); // (s, n); s counts padding
        var overWidth = TokenPooling.Averages(output.shape[2], text.shape[2], text.device); // (c, d)
        var f = Alpha(i);
        var states = (1 - f) * text + f * matmul(matmul(overTokens, output), overWidth.t());
        return states.to(text.dtype).MoveToOuterDisposeScope();
    }

    protected override Tensor Meet(int index, AttentionLayer layer, Tensor queries, KeysAndValues text, Tensor? bias) =>
        ScaledDotProduct.Attend(queries, text, layer.Heads, bias);
}
