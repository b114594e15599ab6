using MelFusion.KeyValue;
using MelFusion.UNet;
using MelFusion.Weights;
using TorchSharp;
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace MelFusion.Synapse;

/// <summary>
/// Where the picture meets the music. One learned alpha per layer of the music's UNet says how much of the picture's K^I and V^I takes the
/// place of the text's K^M and V^M (Eq. 5-6):
/// <code>
/// K = alpha K^I + (1 - alpha) K^M,   V = alpha V^I + (1 - alpha) V^M,   alpha = sigmoid(a)
/// </code>
/// The mixing itself stands in <see cref="SynapseTap"/>, one class per <see cref="SynapseMode"/>.
/// </summary>
/// <remarks>
/// <para>Sampling, once per step: <c>music.Forward(z, t, text, mask, synapse.Tap(picture, influence, mask), projectedText)</c>.</para>
/// <para>Training (Algorithm 1): <c>picture</c> holds K^I and V^I of each sample, (B, n, d) per layer and without gradient (or pooled to
/// (B, s, d) by <see cref="TokenPooling"/>); <c>influence</c> (B) is 1 where a sample has its picture and 0 where it has none or it was
/// dropped, in which case the rows of K^I and V^I may be any finite numbers, zeros for instance; then
/// <c>music.Forward(z, t, text, mask, synapse.Tap(picture, influence, mask))</c>. Gradients reach the music's weights and the alphas: give
/// <c>synapse.parameters()</c> a group of its own in the optimizer, with its own rate and no weight decay.</para>
/// <para>Guidance: a batch [unconditional; conditional] whose first half has influence 0 shows the picture to the conditional half only. A
/// sample of influence 0 gets, in the same batch, exactly what it would get without a picture.</para>
/// </remarks>
public sealed class VisualSynapse : nn.Module
{
    [ComponentName(Name = "alpha_logit")] private readonly AlphaLogits _logits;
    [ComponentName(Name = "normalisation")] private readonly ModuleList<KeyValueScale>? _normalisation;

    /// <summary>A synapse for a music UNet, its alphas at the config's start.</summary>
    /// <exception cref="MelFusionException">The config states what cannot be.</exception>
    public VisualSynapse(SynapseConfig config, UNetConfig music, Placement place) : base(nameof(VisualSynapse))
    {
        config.Validate();
        Config = config;
        Layers = LayersOf(config, music);
        _logits = new(config, music, place);
        _normalisation = config.KeyValueNormalisation == KeyValueNormalisation.None
            ? null
            : new([.. Layers.Select(layer => new KeyValueScale(layer.Width, config.NoiseLevels.Count, config.KeyValueNormalisation == KeyValueNormalisation.StandardiseByPart, place))]);
        RegisterComponents();
    }

    /// <summary>What it was made with.</summary>
    public SynapseConfig Config { get; }

    /// <summary>The layers where music meets a picture, in the order in which they run.</summary>
    public IReadOnlyList<AttentionLayer> Layers { get; }

    /// <summary>Numbers that <see cref="Perturb"/> takes for a sample: one for every channel of every layer's keys and values.</summary>
    internal long NoiseWidth => Layers.Sum(layer => 2L * layer.Width);

    /// <summary>Records from the picture's UNet what <see cref="Tap(CapturedKeyValues?, double, Tensor?)"/> needs.</summary>
    public KeyValueRecorder NewRecorder() => new(Layers, needsOutputs: Config.Mode == SynapseMode.Code);

    /// <summary>Every layer's alpha as it stands, by name, for people and plots.</summary>
    public IReadOnlyDictionary<string, double> Alphas()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var alphas = _logits.PerLayer().sigmoid().to(CPU).data<float>().ToArray();
        return Layers.Zip(alphas).ToDictionary(pair => pair.First.Name, pair => (double)pair.Second);
    }

    /// <summary>The tap that lets one picture into one call of the music's UNet; null where there is nothing to let in.</summary>
    /// <param name="picture">What the picture's UNet gave at this noise level, for one picture (1) or one per sample (B); null: no picture.</param>
    /// <param name="influence">Multiplies every alpha, 0 to 1; 0 is text-to-music.</param>
    /// <param name="textMask">The text's mask as the UNet gets it, (B, s) of bool; null: all tokens are valid.</param>
    /// <remarks>It belongs to the dispose scope in which it is made: make it in the scope of the step.</remarks>
    public IKeyValueTap? Tap(CapturedKeyValues? picture, double influence, Tensor? textMask) => picture is null || influence == 0
        ? null
        : NewTap(picture, torch.full([1], influence, ScalarType.Float32, picture.Tensors.Values.First().device), textMask, everySample: true);

    /// <inheritdoc cref="Tap(CapturedKeyValues?, double, Tensor?)"/>
    /// <param name="picture">What the picture's UNet gave at this noise level, for one picture (1) or one per sample (B); null: no picture.</param>
    /// <param name="influence">(B) of fp32: what multiplies every alpha, sample by sample.</param>
    /// <param name="textMask">The text's mask as the UNet gets it, (B, s) of bool; null: all tokens are valid.</param>
    public IKeyValueTap? Tap(CapturedKeyValues? picture, Tensor influence, Tensor? textMask) =>
        picture is null ? null : NewTap(picture, influence, textMask, everySample: false);

    /// <summary>Sets what every <see cref="KeyValueNormalisation"/> but none needs, from training data.</summary>
    /// <param name="pictures">Statistics of K^I and V^I as they are mixed (in mode Pool: pooled): those of every one of the config's noise levels, or the only ones.</param>
    /// <param name="music">Statistics of K^M and V^M over valid text tokens.</param>
    /// <exception cref="InvalidOperationException">The config does not standardise.</exception>
    public void SetStatistics(IReadOnlyList<KeyValueStatistics> pictures, KeyValueStatistics music)
    {
        var scales = _normalisation ?? throw new InvalidOperationException("The synapse's config says key_value_normalisation: none.");
        if (pictures.Count != Math.Max(1, Config.NoiseLevels.Count))
        {
            throw new ArgumentException($"{pictures.Count} statistics of pictures are given for {Config.NoiseLevels.Count} noise levels.", nameof(pictures));
        }

        foreach (var (layer, scale) in Layers.Zip(scales))
        {
            scale.Set(pictures, music, layer.Name);
        }
    }

    /// <summary>K^I and V^I with noise, for training.</summary>
    /// <param name="picture">(B, n, d) per layer, not pooled.</param>
    /// <param name="noise">What is done to them.</param>
    /// <exception cref="InvalidOperationException">The config does not standardise, so that no deviations are known.</exception>
    internal CapturedKeyValues Perturb(CapturedKeyValues picture, KeyValueNoise noise)
    {
        var scales = _normalisation ?? throw new InvalidOperationException("The synapse's config says key_value_normalisation: none.");
        using var scope = NewDisposeScope();
        var level = LevelOf(picture);
        long at = 0;
        var perturbed = new Dictionary<string, KeysAndValues>();
        foreach (var (layer, scale) in Layers.Zip(scales))
        {
            KeysAndValues? ofChannels = noise.OfChannels is null ? null : new(Next(noise.OfChannels, layer.Width), Next(noise.OfChannels, layer.Width));
            perturbed[layer.Name] = scale.Perturb(picture.KeyValues[layer.Name], level, noise, ofChannels);
        }

        return new(perturbed, pooled: picture.IsPooled, timestep: picture.Timestep?.alias());

        Tensor Next(Tensor ofAll, long width)
        {
            at += width;
            return ofAll.narrow(1, at - width, width).unsqueeze(1); // (B, 1, d)
        }
    }

    /// <summary>Compares the two UNets layer by layer: the picture's keys and values must be as wide as the music's.</summary>
    /// <exception cref="MelFusionException">They are not; the sentence names the layer.</exception>
    /// <remarks>The heads may differ (Stable Diffusion 1.5 has 8 everywhere): the music's heads then split the picture's channels otherwise.</remarks>
    public static void RequireMatch(SynapseConfig config, UNetConfig image, UNetConfig music)
    {
        var theirs = image.EncoderLayers.Concat(image.DecoderLayers).ToDictionary(layer => layer.Name);
        foreach (var layer in LayersOf(config, music))
        {
            if (!theirs.TryGetValue(layer.Name, out var partner) || (config.Mode != SynapseMode.Code && partner.Width != layer.Width))
            {
                throw new MelFusionException(
                    $"The picture's and the music's UNet do not fit together: {layer.Name} is {layer.Width} wide in the music's and "
                    + $"{(partner is null ? "missing" : partner.Width + " wide")} in the picture's; take two whose block_out_channels and block types agree.");
            }
        }
    }

    private static IReadOnlyList<AttentionLayer> LayersOf(SynapseConfig config, UNetConfig music) => config.Where switch
    {
        SynapsePlace.Encoder => music.EncoderLayers,
        SynapsePlace.Decoder => music.DecoderLayers,
        _ => [.. music.EncoderLayers, .. music.DecoderLayers],
    };

    /// <summary>The row of the statistics for every sample, (B) or (1): the nearest noise level, the lower on a tie; null: one for all.</summary>
    private Tensor? LevelOf(CapturedKeyValues picture)
    {
        if (Config.NoiseLevels.Count == 0)
        {
            return null;
        }

        var timestep = picture.Timestep ?? throw new InvalidOperationException("The picture's keys and values do not say their noise level, which the synapse's statistics go by.");
        using var scope = NewDisposeScope();
        var distance = (timestep.reshape(-1, 1) - tensor(Config.NoiseLevels.ToArray(), device: timestep.device)).abs(); // (B, levels)
        return distance.argmin(1).MoveToOuterDisposeScope();
    }

    private SynapseTap NewTap(CapturedKeyValues picture, Tensor influence, Tensor? textMask, bool everySample)
    {
        var meeting = new Meeting(
            Layers, picture, _logits.PerLayer(), influence.view(-1, 1, 1), everySample, textMask, _normalisation?.ToList(), LevelOf(picture));
        return Config.Mode switch
        {
            SynapseMode.Pool => new PoolTap(meeting),
            SynapseMode.Parallel => new ParallelTap(meeting),
            SynapseMode.Concat => new ConcatTap(meeting),
            _ => new CodeTap(meeting),
        };
    }
}

/// <summary>The learned numbers: "decoder" and "encoder", one logit per layer, or "same", one for all.</summary>
internal sealed class AlphaLogits : nn.Module
{
    [ComponentName(Name = "encoder")] private readonly Parameter? _encoder;
    [ComponentName(Name = "decoder")] private readonly Parameter? _decoder;
    [ComponentName(Name = "same")] private readonly Parameter? _same;
    private readonly int _layers;

    public AlphaLogits(SynapseConfig config, UNetConfig music, Placement place) : base(nameof(AlphaLogits))
    {
        int encoder = config.Where == SynapsePlace.Decoder ? 0 : music.EncoderLayers.Count;
        int decoder = config.Where == SynapsePlace.Encoder ? 0 : music.DecoderLayers.Count;
        bool same = config.Alpha == AlphaSharing.Same;
        double alpha = config.Mode == SynapseMode.Code ? (1 + 5 * config.InitialAlpha) / 2 : config.InitialAlpha; // f = (2 sigmoid - 1) / 5
        _encoder = same || encoder == 0 ? null : Start(encoder, alpha, place);
        _decoder = same || decoder == 0 ? null : Start(decoder, alpha, place);
        _same = same ? Start(1, alpha, place) : null;
        _layers = encoder + decoder;
        RegisterComponents();
    }

    /// <summary>a of every layer in the order in which they run, (layers), seen by autograd.</summary>
    public Tensor PerLayer() => _same is not null
        ? _same.expand(_layers)
        : _encoder is null ? _decoder! : _decoder is null ? _encoder : cat([_encoder, _decoder]);

    private static Parameter Start(int count, double alpha, Placement place)
    {
        var logits = new Parameter(torch.full([count], Math.Log(alpha / (1 - alpha)), ScalarType.Float32, place.Device));
        logits.DetachFromDisposeScope();
        return logits;
    }
}
