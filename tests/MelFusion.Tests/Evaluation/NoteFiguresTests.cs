using MelFusion.Evaluation;
using MelFusion.Evaluation.Embeddings;
using MelFusion.Evaluation.Metrics;
using MelFusion.Tests.Support;
using MelFusion.Wave;
using MelFusion.Weights;
using Shouldly;
using Xunit;

namespace MelFusion.Tests.Evaluation;

public sealed class NoteFiguresTests
{
    private const int Rate = 22_050;

    [Fact]
    public void Notes_are_counted_by_pitch_class_interval_and_onset_in_loud_frames_only()
    {
        var notes = new float[8, 88];
        var onsets = new float[8, 88];
        for (int t = 0; t < 4; t++)
        {
            (notes[t, 0], notes[t, 4], notes[t, 12]) = (0.9f, 0.9f, 0.3f); // A, C sharp, and A an octave higher
            (notes[t + 4, 0], notes[t + 4, 1]) = (0.9f, 0.9f); // A and B flat, in frames that do not count
        }

        (onsets[0, 0], onsets[1, 4], onsets[2, 4], onsets[5, 1]) = (0.8f, 0.6f, 0.6f, 0.9f);
        bool[] loud = [true, true, true, true, false, false, false, false];

        var figures = NoteFigures.Of(notes, onsets, loud, framesPerSecond: 2, lowestMidiNote: 21);
        var silence = NoteFigures.Of(notes, onsets, new bool[8], 2, 21);

        figures.PitchClassEntropy.ShouldBe(-((2.0 / 3 * Math.Log2(2.0 / 3)) + (1.0 / 3 * Math.Log2(1.0 / 3))), 1e-12);
        figures.Consonance.ShouldBe(1, "a third, twice a frame; the octave is no pair");
        figures.NoteDensity.ShouldBe(1, "two onsets in two seconds, a held one counts once");
        figures.OnsetStrength.ShouldBe((0.8 + 0.6 + 0.6) / 4, 1e-6);
        (silence.PitchClassEntropy, silence.Consonance, silence.NoteDensity, silence.OnsetStrength).ShouldBe((double.NaN, double.NaN, double.NaN, double.NaN));
    }

    [Fact]
    public void A_chord_is_consonant_a_cluster_is_not_and_silence_has_no_notes()
    {
        using var network = BasicPitch.Open(Path.Combine(Repository.Root, "models", "basic-pitch"), Placement.Cpu);

        var chord = NoteFigures.Of(network, Struck(60, 64, 67));
        var cluster = NoteFigures.Of(network, Struck(60, 61, 66));
        var silence = NoteFigures.Of(network, new float[Rate]);

        chord.Consonance.ShouldBeGreaterThan(cluster.Consonance + 0.2);
        chord.PitchClassEntropy.ShouldBeInRange(1.2, 2.6, "three classes, and some overtones");
        chord.NoteDensity.ShouldBeInRange(2, 20, "three keys, twice a second, and some overtones");
        chord.OnsetStrength.ShouldBeInRange(0.01, 1);
        double.IsNaN(silence.PitchClassEntropy).ShouldBeTrue();
        double.IsNaN(silence.OnsetStrength).ShouldBeTrue();
    }

    [Fact]
    public void Note_figures_stand_in_a_report_with_those_of_the_references()
    {
        using var folder = new TemporaryFolder();
        (string reference, string generated) = (Directory.CreateDirectory(folder.File("a")).FullName, Directory.CreateDirectory(folder.File("b")).FullName);
        WavFile.Write(Path.Combine(reference, "x.wav"), Struck(60, 64, 67), Rate);
        WavFile.Write(Path.Combine(generated, "x.wav"), Struck(60, 61, 66), Rate);
        WavFile.Write(Path.Combine(generated, "y.wav"), new float[2 * Rate], Rate);
        using var musicnn = new MusicnnEvaluator(Path.Combine(Repository.Root, "models", "musicnn", "mtt"));

        var (report, _) = FolderEvaluation.Run(
            new EvaluationRequest { Reference = reference, Generated = generated, Metrics = ["consonance", "note-density"], CacheFolder = null, BootstrapRounds = 10, Controls = false },
            musicnn);

        var consonance = report.Metrics["consonance"];
        consonance.Value!.Value.ShouldBeLessThan(consonance.Parts!["reference"]);
        consonance.Warning.ShouldBe("1 of 2 sounds do not count: they are skipped, too quiet, or have nothing that this figure counts");
        report.Passport.Networks.Keys.ShouldBe(["basic-pitch"]);
    }

    /// <summary>Two seconds of keys struck together every half second.</summary>
    private static float[] Struck(params int[] keys) => [.. Enumerable.Range(0, 2 * Rate).Select(i =>
    {
        double time = i / (double)Rate, since = time % 0.5;
        double envelope = Math.Min(1, since * 200) * Math.Exp(-4 * since);
        return (float)(0.15 * envelope * keys.Sum(key =>
        {
            double hz = 440 * Math.Pow(2, (key - 69) / 12.0);
            return Math.Sin(2 * Math.PI * hz * time) + (0.3 * Math.Sin(4 * Math.PI * hz * time));
        }));
    })];
}
