namespace MelFusion.KeyValue;

/// <summary>One transformer layer of a UNet, as taps and synapses name it.</summary>
/// <param name="Name">Its place, as the checkpoint keys spell it: "up_blocks.1.attentions.0".</param>
/// <param name="Width">d, the width of its keys and values over all heads.</param>
/// <param name="Heads">The number of heads the width is split into.</param>
public sealed record AttentionLayer(string Name, int Width, int Heads);
