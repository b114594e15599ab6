using MelFusion.Wave;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion;

/// <summary>From a mel to a waveform: vocoder or Griffin-Lim, then refinement.</summary>
/// <param name="model">The model.</param>
internal sealed class MelToWave(MelFusionModel model)
{
    private const int GriffinLimRounds = 32;

    /// <summary>Log-mel (1, M, T) to the waveform (1, samples).</summary>
    /// <param name="mel">The mel.</param>
    /// <param name="vocoder">What makes the waveform.</param>
    /// <param name="refine">Rounds of refinement after it.</param>
    /// <param name="seed">Griffin-Lim's first phases are drawn with this clip's seed.</param>
    /// <param name="cancellation">Looked at before every chunk and round.</param>
    public Tensor Forward(Tensor mel, VocoderKind vocoder, int refine, long seed, CancellationToken cancellation)
    {
        using var scope = NewDisposeScope();
        var waveform = vocoder == VocoderKind.HifiGan
            ? model.Vocoder.Forward(mel, cancellation: cancellation)
            : WithoutNetwork(mel, seed, cancellation);
        if (refine > 0)
        {
            long samples = Math.Min(waveform.shape[1], mel.shape[2] * model.Mel.Config.HopLength);
            using var refinement = new SpectralRefinement(model.Mel);
            waveform = refinement.Refine(waveform.narrow(1, 0, samples), mel, refine, cancellation: cancellation);
        }

        return waveform.MoveToOuterDisposeScope();
    }

    private Tensor WithoutNetwork(Tensor mel, long seed, CancellationToken cancellation)
    {
        using var generator = new Generator((ulong)seed, CPU);
        return GriffinLim.FromMel(model.Mel, mel, generator, GriffinLimRounds, cancellation: cancellation);
    }
}
