using static TorchSharp.torch;

namespace MelFusion.Vocoder;

/// <summary>A network that makes a waveform of log-mels.</summary>
public interface IVocoder : IDisposable
{
    /// <summary>The waveform (B, samples) of natural-log mels (B, M, T).</summary>
    /// <param name="mel">The mels.</param>
    /// <param name="framesPerChunk">Frames computed at a time; null: the network's default, 0: all at once.</param>
    /// <param name="cancellation">Looked at before every chunk.</param>
    public Tensor Forward(Tensor mel, int? framesPerChunk = null, CancellationToken cancellation = default);
}
