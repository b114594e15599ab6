using static TorchSharp.torch;

namespace MelFusion.Synapse;

/// <summary>
/// What training does to K^I and V^I of a batch, so that single pictures are not learned by heart; all of it counts in deviations of the synapse's
/// statistics. A picture's mean over its tokens and its details, what its tokens differ from that mean, are touched apart.
/// </summary>
/// <param name="OfChannels">
/// Noise on the means, (B, <see cref="VisualSynapse.NoiseWidth"/>): keys and values of the first layer, of the second, and so on; null: none. Every
/// channel has its own, so that it drowns what few channels say and leaves what many say together.
/// </param>
/// <param name="Blend">
/// Noise on the means that differs as pictures do, (B, B): how much of what every picture of the batch differs from their average is added; null: none.
/// The weights are the same in all channels and layers, so that it drowns one picture in others.
/// </param>
/// <param name="DetailsOf">Whose details a picture has, (B) of int64; null: its own.</param>
internal sealed record KeyValueNoise(Tensor? OfChannels = null, Tensor? Blend = null, Tensor? DetailsOf = null);
