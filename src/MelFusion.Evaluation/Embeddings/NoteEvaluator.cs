using MelFusion.Evaluation.Metrics;
using MelFusion.Weights;

namespace MelFusion.Evaluation.Embeddings;

/// <summary>Basic Pitch in the form of an evaluator, so that its figures are computed beside the others and kept: a clip is four numbers.</summary>
internal sealed class NoteEvaluator(string folder) : IEvaluator
{
    private readonly BasicPitch _network = BasicPitch.Open(folder, Placement.Cpu);

    /// <summary>The figures by the names of the command line, in the order of a clip's numbers.</summary>
    public static IReadOnlyList<string> Figures { get; } = ["pitch-class-entropy", "consonance", "note-density", "onset-strength"];

    public string Name => "basic-pitch";

    public string WeightsSha256 { get; } = NetworkFolder.HashOf(folder);

    public int SampleRate => _network.Config.SamplingRate;

    public bool HasPatches => false;

    public bool HasClips => true;

    public ClassKind Classes => ClassKind.None;

    public string Rule => "a clip below one frame counts not, and of a clip only what is above -60 dBFS";

    public ClipEmbedding Embed(float[] samples)
    {
        if (samples.Length < _network.Config.SamplingRate / _network.Config.FramesPerSecond)
        {
            return new ClipEmbedding([], [], []);
        }

        var figures = NoteFigures.Of(_network, samples);
        return new ClipEmbedding(
            [], [(float)figures.PitchClassEntropy, (float)figures.Consonance, (float)figures.NoteDensity, (float)figures.OnsetStrength], []);
    }

    public void Dispose() => _network.Dispose();
}
