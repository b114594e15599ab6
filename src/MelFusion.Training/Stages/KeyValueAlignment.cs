using MelFusion.KeyValue;
using MelFusion.Training.Data;
using MelFusion.Weights;
using TorchSharp;
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace MelFusion.Training.Stages;

/// <summary>
/// Representation alignment (Yu et al., REPA, 2024) of what the music will read of a picture: from a decoder layer's K^I and V^I at a token, a linear layer must
/// tell what another network sees in that place; on average over the tokens, what it sees in the picture. A diffusion model that has learned for minutes knows
/// colours and edges; so its keys and values also learn what is shown. The linear layers serve the training alone.
/// </summary>
internal sealed class KeyValueAlignment : nn.Module
{
    /// <summary>Cells along each side of a picture in which places are compared.</summary>
    public const int Cells = 8;

    [ComponentName(Name = "readers")] private readonly ModuleList<Weights.Linear> _readers;
    private readonly IReadOnlyList<AttentionLayer> _layers;
    private readonly PictureFeatureScale _scale;

    /// <summary>Readers of first weights.</summary>
    /// <param name="layers">The layers whose K^I and V^I are read.</param>
    /// <param name="features">What the other network sees in all training pictures: its means and deviations are the scale.</param>
    /// <param name="generator">Draws the weights.</param>
    public KeyValueAlignment(IReadOnlyList<AttentionLayer> layers, PictureFeatureSet features, Generator generator) : base(nameof(KeyValueAlignment))
    {
        (_layers, _scale) = (layers, features.Scale());
        _readers = new([.. layers.Select(layer => new Weights.Linear(2 * layer.Width, features.Channels, Placement.Cpu))]);
        RegisterComponents();
        Initialiser.Initialise(this, generator);
    }

    /// <summary>
    /// Mean squared error of what is read, over layers, channels and pictures: of places and, beside it, of whole pictures. Each counts in its own deviations,
    /// so that either is 1 where nothing is known.
    /// </summary>
    /// <param name="seen">K^I and V^I of a call of the picture's UNet, on square latents.</param>
    /// <param name="maps">What the other network sees in the same pictures, (B, channels, cells, cells).</param>
    public Tensor Loss(Seen seen, Tensor maps)
    {
        var target = (maps.flatten(2).transpose(1, 2) - _scale.Mean) / _scale.Deviation; // (B, cells, channels)
        var relative = _scale.Deviation / _scale.DeviationOfPictures;
        return stack(_layers.Select((layer, i) =>
        {
            var read = _readers[i].forward(OnGrid(seen.Of(layer)));
            return F.mse_loss(read, target) + F.mse_loss(read.mean([1]) * relative, target.mean([1]) * relative);
        })).mean();
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _scale.Dispose();
        }

        base.Dispose(disposing);
    }

    // (B, n, 2 d), the tokens row by row, to (B, cells, 2 d).
    private static Tensor OnGrid(Tensor tokens)
    {
        long side = (long)Math.Round(Math.Sqrt(tokens.shape[1]));
        return F.adaptive_avg_pool2d(tokens.transpose(1, 2).unflatten(2, [side, side]), Cells).flatten(2).transpose(1, 2);
    }

    /// <summary>Keeps K^I and V^I during a call of the picture's UNet, with their gradients.</summary>
    public sealed class Seen : IKeyValueTap, IDisposable
    {
        private readonly Dictionary<string, Tensor> _keyValues = [];

        /// <inheritdoc/>
        public KeysAndValues SelfAttention(AttentionLayer layer, KeysAndValues own)
        {
            _keyValues[layer.Name] = cat([own.Keys, own.Values], 2).to(ScalarType.Float32).DetachFromDisposeScope();
            return own;
        }

        /// <summary>A layer's, (B, n, 2 d).</summary>
        public Tensor Of(AttentionLayer layer) => _keyValues[layer.Name];

        /// <inheritdoc/>
        public void Dispose()
        {
            foreach (var both in _keyValues.Values)
            {
                both.Dispose();
            }
        }
    }
}
