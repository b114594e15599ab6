using MelFusion.Evaluation.Embeddings;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Evaluation.Metrics;

/// <summary>Figures about the notes that <see cref="BasicPitch"/> hears in one sound. Only frames that are loud enough count; NaN where nothing does.</summary>
/// <param name="PitchClassEntropy">Entropy of the histogram of pitch classes over sounding notes, in bits: 0 one class, 3.58 all twelve alike.</param>
/// <param name="Consonance">Part of the pairs of different pitch classes sounding together that are thirds, fourths, fifths or sixths: 0.55 by chance.</param>
/// <param name="NoteDensity">Onsets of notes a second.</param>
/// <param name="OnsetStrength">Mean over frames of the strongest onset of any key, 0 to 1.</param>
public sealed record NoteFigures(double PitchClassEntropy, double Consonance, double NoteDensity, double OnsetStrength)
{
    private const double NoteThreshold = 0.3, OnsetThreshold = 0.5, QuietestDbfs = -60;
    private const int PitchClasses = 12;

    private static readonly int[] Consonant = [3, 4, 5, 7, 8, 9]; // semitones apart

    /// <summary>Listens to a mono sound.</summary>
    /// <param name="network">The network of notes.</param>
    /// <param name="samples">The sound at the network's rate.</param>
    public static NoteFigures Of(BasicPitch network, float[] samples)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var config = network.Config;
        var activations = network.Transcribe(samples, config.SamplingRate);
        return Of(Table(activations.Note), Table(activations.Onset), Loud(samples, activations.Note.shape[0], config), config.FramesPerSecond, config.LowestMidiNote);
    }

    /// <summary>The figures of activations.</summary>
    /// <param name="notes">How strongly each key sounds (frames, keys), 0 to 1.</param>
    /// <param name="onsets">How strongly each key begins (frames, keys), 0 to 1.</param>
    /// <param name="loud">Whether a frame counts (frames).</param>
    /// <param name="framesPerSecond">Frames a second.</param>
    /// <param name="lowestMidiNote">MIDI number of key 0.</param>
    public static NoteFigures Of(float[,] notes, float[,] onsets, bool[] loud, double framesPerSecond, int lowestMidiNote)
    {
        var histogram = new double[PitchClasses];
        (long pairs, long consonant, int begun, int counted) = (0, 0, 0, 0);
        double strength = 0;
        for (int t = 0; t < loud.Length; t++)
        {
            if (!loud[t])
            {
                continue;
            }

            counted++;
            int[] keys = [.. Enumerable.Range(0, notes.GetLength(1)).Where(key => notes[t, key] >= NoteThreshold)];
            int[] classes = [.. keys.Select(key => (key + lowestMidiNote) % PitchClasses)];
            Array.ForEach(classes, one => histogram[one]++);
            var apart = classes.SelectMany((a, i) => classes.Skip(i + 1).Select(b => Math.Abs(a - b))).Where(semitones => semitones != 0).ToList();
            pairs += apart.Count;
            consonant += apart.Count(Consonant.Contains);
            begun += Enumerable.Range(0, onsets.GetLength(1)).Count(key => IsPeak(onsets, t, key));
            strength += Enumerable.Range(0, onsets.GetLength(1)).Max(key => onsets[t, key]);
        }

        return new NoteFigures(
            Entropy(histogram), pairs == 0 ? double.NaN : (double)consonant / pairs, counted == 0 ? double.NaN : begun * framesPerSecond / counted,
            counted == 0 ? double.NaN : strength / counted);
    }

    /// <summary>An onset is a frame above the threshold and its neighbours; of equal ones the first.</summary>
    private static bool IsPeak(float[,] onsets, int t, int key)
    {
        float value = onsets[t, key];
        return value >= OnsetThreshold && (t == 0 || value > onsets[t - 1, key]) && (t + 1 == onsets.GetLength(0) || value >= onsets[t + 1, key]);
    }

    private static double Entropy(double[] histogram)
    {
        double sum = histogram.Sum();
        return sum == 0 ? double.NaN : -histogram.Where(count => count > 0).Sum(count => count / sum * Math.Log2(count / sum));
    }

    /// <summary>Whether the sound around each frame is above -60 dBFS: the network brings every window to full strength, silence too.</summary>
    private static bool[] Loud(float[] samples, long frames, BasicPitchConfig config)
    {
        double least = Math.Pow(10, QuietestDbfs / 10);
        double hop = (double)config.SamplingRate / config.FramesPerSecond;
        return [.. Enumerable.Range(0, (int)frames).Select(t =>
        {
            int from = Math.Max(0, (int)((t - 2) * hop)), to = Math.Min(samples.Length, (int)((t + 3) * hop));
            double power = 0;
            for (int i = from; i < to; i++)
            {
                power += samples[i] * samples[i];
            }

            return power >= least * (to - from) && to > from;
        })];
    }

    private static float[,] Table(Tensor x)
    {
        var table = new float[x.shape[0], x.shape[1]];
        float[] values = x.contiguous().data<float>().ToArray();
        Buffer.BlockCopy(values, 0, table, 0, values.Length * sizeof(float));
        return table;
    }
}
