using System.Security.Cryptography;
using System.Text;
using MelFusion.Evaluation.Embeddings;
using MelFusion.Evaluation.Triplets;
using TorchSharp;

namespace MelFusion.Evaluation;

/// <summary>Compares a folder of generated sounds with a folder of references: embeddings, figures with intervals, controls, passport.</summary>
public static class FolderEvaluation
{
    private const int MostControlClips = 32;
    private const double NoiseLevel = 0.1; // -20 dBFS

    private static readonly string[] ControlNames = ["silence", "noise", "shuffled", "halves", "reconstruction"];

    /// <summary>Runs an evaluation.</summary>
    /// <param name="request">What to compare.</param>
    /// <param name="evaluator">The network.</param>
    /// <param name="progress">Told about each file.</param>
    /// <param name="cancellation">Honoured between files and rounds.</param>
    /// <exception cref="MelFusionException">A folder is missing or holds no sound.</exception>
    public static (EvaluationReport Report, EvaluationDetails Details) Run(
        EvaluationRequest request, IEvaluator evaluator, IProgress<EvaluationProgress>? progress = null, CancellationToken cancellation = default)
    {
        using var scope = torch.NewDisposeScope();
        using var noGrad = torch.no_grad();
        var audition = new Audition(request, progress, cancellation);
        using var companions = new CompanionFigures(audition, evaluator);
        var (reference, skippedReferences) = audition.Hear(evaluator, generated: false);
        var (generated, skippedGenerated) = audition.Hear(evaluator, generated: true);

        var comparison = new SetComparison(evaluator, reference, generated, request, cancellation);
        var metrics = Measure(request, companions, comparison.Measure);
        var controls = !request.Controls ? NoControls() : Controls(request, audition.Pipeline(evaluator), comparison, audition.References, progress, cancellation);
        var passport = Write(request, companions, reference, generated) with
        {
            Evaluator = evaluator.Name,
            WeightsSha256 = evaluator.WeightsSha256,
            SampleRate = evaluator.SampleRate,
            Rule = evaluator.Rule,
        };
        return (Report(request, passport, metrics, controls, [.. skippedReferences, .. skippedGenerated, .. companions.Skipped]), new EvaluationDetails(reference, generated));
    }

    /// <summary>Runs an evaluation whose evaluator is not here: its figures are null and say why, those of other networks are computed.</summary>
    /// <param name="request">What to compare.</param>
    /// <param name="evaluator">The evaluator's name.</param>
    /// <param name="reason">Why it is not here.</param>
    /// <param name="progress">Told about each file.</param>
    /// <param name="cancellation">Honoured between files and rounds.</param>
    /// <returns>The report. The clips of its passport, and the skipped files, are those of the first network that heard them.</returns>
    /// <exception cref="MelFusionException">A folder is missing or holds no sound.</exception>
    public static EvaluationReport RunWithout(
        EvaluationRequest request, string evaluator, string reason, IProgress<EvaluationProgress>? progress = null, CancellationToken cancellation = default)
    {
        using var scope = torch.NewDisposeScope();
        using var noGrad = torch.no_grad();
        var audition = new Audition(request, progress, cancellation);
        using var companions = new CompanionFigures(audition, null);
        var metrics = Measure(request, companions, _ => MetricValue.None(reason));
        var (reference, skippedReferences) = audition.First(generated: false);
        var (generated, skippedGenerated) = audition.First(generated: true);
        var passport = Write(request, companions, reference, generated) with { Evaluator = evaluator };
        return Report(request, passport, metrics, NoControls(), [.. skippedReferences, .. skippedGenerated, .. companions.Skipped]);
    }

    private static Dictionary<string, MetricValue> Measure(EvaluationRequest request, CompanionFigures companions, Func<string, MetricValue> ofEvaluator) =>
        request.Metrics.Distinct().ToDictionary(name => name, name => CompanionFigures.Offers(name) ? companions.Measure(name) : ofEvaluator(name));

    private static EvaluationReport Report(
        EvaluationRequest request, Passport passport, Dictionary<string, MetricValue> metrics, Dictionary<string, IReadOnlyDictionary<string, double?>?> controls,
        IReadOnlyList<SkippedFile> skipped)
    {
        foreach (var (name, metric) in metrics.Where(metric => request.Controls && metric.Value.Parts?.ContainsKey("shuffled") == true))
        {
            controls["shuffled"] = new Dictionary<string, double?>(controls["shuffled"] ?? new Dictionary<string, double?>()) { [name] = metric.Parts!["shuffled"] };
        }

        return new() { Passport = passport, Metrics = metrics, Controls = controls, Skipped = skipped };
    }

    private static Dictionary<string, IReadOnlyDictionary<string, double?>?> NoControls() =>
        ControlNames.ToDictionary(name => name, _ => (IReadOnlyDictionary<string, double?>?)null);

    /// <summary>Figures of what is worth nothing (silence, noise, shuffled pairs), of the floor (halves), and of the way through a model's codec.</summary>
    private static Dictionary<string, IReadOnlyDictionary<string, double?>?> Controls(
        EvaluationRequest request, EmbeddingPipeline pipeline, SetComparison comparison, IReadOnlyList<string> references,
        IProgress<EvaluationProgress>? progress, CancellationToken cancellation)
    {
        int count = Math.Clamp(comparison.Reference.Count, 2, MostControlClips);
        int length = comparison.ControlSamples;
        var silence = pipeline.Run([() => new float[length]], cancellation)[0];
        var noise = pipeline.Run([.. Enumerable.Range(0, count).Select(i => (Func<float[]>)(() => Noise(length, request.Seed + i)))], cancellation);
        return new Dictionary<string, IReadOnlyDictionary<string, double?>?>
        {
            ["silence"] = comparison.MeasureControl([.. Enumerable.Repeat(silence, count)]),
            ["noise"] = comparison.MeasureControl(noise),
            ["shuffled"] = comparison.MeasureShuffled(),
            ["halves"] = comparison.MeasureHalves(),
            ["reconstruction"] = request.Reconstruct is not { } reconstruct ? null
                : comparison.MeasureReconstruction(pipeline.Run("reconstruction", references, reconstruct, progress, cancellation).Clips),
        };
    }

    private static float[] Noise(int length, int seed)
    {
        var random = new Random(seed);
        var samples = new float[length];
        for (int i = 0; i < length; i++)
        {
            samples[i] = (float)(NoiseLevel * Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble()));
        }

        return samples;
    }

    private static Passport Write(
        EvaluationRequest request, CompanionFigures companions, IReadOnlyList<EmbeddedClip> reference, IReadOnlyList<EmbeddedClip> generated)
    {
        (var referenceIds, var generatedIds) = (reference.Select(clip => clip.Id).ToHashSet(), generated.Select(clip => clip.Id).ToHashSet());
        return new Passport
        {
            LongestSeconds = request.LongestSeconds, ClipListSha256 = HashOf(reference), ReferenceCount = reference.Count,
            GeneratedCount = generated.Count, PairCount = referenceIds.Count(generatedIds.Contains),
            MissingIds = [.. referenceIds.Except(generatedIds).Order(StringComparer.Ordinal)],
            UnpairedIds = [.. generatedIds.Except(referenceIds).Order(StringComparer.Ordinal)],
            ReferenceSeconds = Range(reference), GeneratedSeconds = Range(generated), BestOfN = request.BestOfN, Seed = request.Seed,
            BootstrapRounds = request.BootstrapRounds, Networks = companions.Hashes, TripletsSha256 = companions.TripletsSha256,
        };
    }

    private static string HashOf(IReadOnlyList<EmbeddedClip> clips) =>
        Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(string.Join('\n', clips.Select(clip => $"{clip.File} {clip.Sha256}")))));

    private static double[] Range(IReadOnlyList<EmbeddedClip> clips) =>
        clips.Count == 0 ? [] : [Math.Round(clips.Min(clip => clip.Seconds), 4), Math.Round(clips.Max(clip => clip.Seconds), 4)];
}

/// <summary>What the reports' pictures are drawn from.</summary>
/// <param name="Reference">The reference clips that count.</param>
/// <param name="Generated">The generated clips that count.</param>
public sealed record EvaluationDetails(IReadOnlyList<EmbeddedClip> Reference, IReadOnlyList<EmbeddedClip> Generated);
