using MelFusion.Evaluation.Embeddings;
using MelFusion.Evaluation.Metrics;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Evaluation;

/// <summary>Every figure of one set of clips against a reference, with intervals and controls.</summary>
internal sealed class SetComparison
{
    private const int FadInfinitySizes = 15, MostInfinityRounds = 40, NeighbourCount = 5, InceptionSplits = 10, PublishedSubsets = 100, LargestSubset = 1000;
    private const uint PublishedSeed = 2020;

    private readonly IEvaluator _evaluator;
    private readonly EvaluationRequest _request;
    private readonly CancellationToken _cancellation;
    private readonly IReadOnlyList<EmbeddedClip> _generated;
    private readonly (EmbeddedClip Reference, EmbeddedClip Generated)[] _pairs;

    public SetComparison(
        IEvaluator evaluator, IReadOnlyList<EmbeddedClip> reference, IReadOnlyList<EmbeddedClip> generated, EvaluationRequest request,
        CancellationToken cancellation)
    {
        (_evaluator, Reference, _generated, _request, _cancellation) = (evaluator, reference, generated, request, cancellation);
        var byId = generated.ToDictionary(clip => clip.Id);
        _pairs = [.. reference.Where(clip => byId.ContainsKey(clip.Id)).Select(clip => (clip, byId[clip.Id]))];
    }

    public IReadOnlyList<EmbeddedClip> Reference { get; }

    public int PairCount => _pairs.Length;

    /// <summary>How long a control clip is: the median reference, 10 s where there is none.</summary>
    public int ControlSamples
    {
        get
        {
            double[] seconds = [.. Reference.Select(clip => clip.Seconds).Order()];
            return (int)(_evaluator.SampleRate * (seconds.Length == 0 ? 10 : seconds[seconds.Length / 2]));
        }
    }

    /// <summary>A figure by name.</summary>
    public MetricValue Measure(string name)
    {
        using var scope = NewDisposeScope();
        return Lacking(name) is { } reason ? MetricValue.None(reason) : name switch
        {
            "fad" => Distance(FeatureSet.OfPatches(Heard(Reference)), FeatureSet.OfPatches(Heard(_generated)), FrechetDistance.Between, singular: true),
            "fad-infinity" => Infinity(FeatureSet.OfPatches(Heard(Reference)), FeatureSet.OfPatches(Heard(_generated))),
            "fd" => Distance(FeatureSet.OfClips(Heard(Reference)), FeatureSet.OfClips(Heard(_generated)), FrechetDistance.Between, singular: true),
            "kid" => Kernel(),
            "coverage" => Neighbours(coverage => coverage.CoverageOfReal),
            "density" => Neighbours(coverage => coverage.Density),
            "kl" => Divergence(_evaluator.Classes == ClassKind.Tags ? KlDivergence.Bernoulli : KlDivergence.Softmax),
            "kl-sigmoid" => Divergence(KlDivergence.Sigmoid),
            _ => Inception(),
        };
    }

    /// <summary>The figures of other clips in the place of the generated ones; the i-th stands against the i-th reference, and again from the first.</summary>
    public IReadOnlyDictionary<string, double?> MeasureControl(IReadOnlyList<ClipEmbedding> clips)
    {
        var stand = Reference.Select((clip, i) => clip with { Embedding = clips[i % clips.Count] }).Take(Math.Max(clips.Count, Reference.Count)).ToList();
        return Plain(Reference, [.. clips.Select((clip, i) => new EmbeddedClip($"{i}", $"{i}", string.Empty, 0, clip)).Where(clip => !clip.Embedding.IsEmpty)],
            [.. Reference.Zip(stand)]);
    }

    /// <summary>Each reference against the next one's clip in a shuffled order: what pairing is worth.</summary>
    public IReadOnlyDictionary<string, double?> MeasureShuffled()
    {
        var order = Shuffled(_pairs);
        return Plain(null, null, [.. order.Select((pair, i) => (pair.Reference, order[(i + 1) % order.Length].Generated))]);
    }

    /// <summary>One half of the reference against the other: the floor of every distance between sets.</summary>
    public IReadOnlyDictionary<string, double?> MeasureHalves()
    {
        var order = Shuffled([.. Reference]);
        return Plain([.. order.Take(order.Length / 2)], [.. order.Skip(order.Length / 2)], null);
    }

    /// <summary>The references after a model's codec.</summary>
    public IReadOnlyDictionary<string, double?> MeasureReconstruction(IReadOnlyList<EmbeddedClip> clips)
    {
        var byId = clips.ToDictionary(clip => clip.Id);
        return Plain(Reference, clips, [.. Reference.Where(clip => byId.ContainsKey(clip.Id)).Select(clip => (clip, byId[clip.Id]))]);
    }

    private Dictionary<string, double?> Plain(
        IReadOnlyList<EmbeddedClip>? reference, IReadOnlyList<EmbeddedClip>? other, (EmbeddedClip Reference, EmbeddedClip Generated)[]? pairs)
    {
        var figures = new Dictionary<string, double?>();
        foreach (string name in _request.Metrics.Distinct())
        {
            bool ofSets = name is "fad" or "fd" or "kid" or "coverage" or "density", ofPairs = name is "kl" or "kl-sigmoid";
            if (Offers(name) && ((ofSets && reference is not null) || (ofPairs && pairs is not null)))
            {
                var part = new SetComparison(_evaluator, reference ?? [], other ?? [], _request with { BootstrapRounds = 0 }, _cancellation);
                figures[name] = ofPairs ? (pairs!.Length == 0 ? null : Rows(name, pairs).Average()) : part.Measure(name).Value;
            }
        }

        return figures;
    }

    private T[] Shuffled<T>(T[] items)
    {
        var copy = items.ToArray();
        new Random(_request.Seed).Shuffle(copy);
        return copy;
    }

    private bool Offers(string name) => name switch
    {
        "fad" or "fad-infinity" => _evaluator.HasPatches,
        "fd" or "kid" or "coverage" or "density" => _evaluator.HasClips,
        "kl" => _evaluator.Classes != ClassKind.None,
        "kl-sigmoid" or "is" => _evaluator.Classes == ClassKind.Logits,
        _ => false,
    };

    /// <summary>Why there can be no figure, or null.</summary>
    private string? Lacking(string name)
    {
        if (!Offers(name))
        {
            return $"{_evaluator.Name} does not give {Needs(name)}";
        }

        bool ofPairs = name is "kl" or "kl-sigmoid";
        return ofPairs && _pairs.Length == 0 ? "no generated clip has the name of a reference clip"
            : !ofPairs && (Reference.Count == 0 || _generated.Count == 0) ? "one side has no clip that counts"
            : null;
    }

    /// <summary>What a figure is computed on, and which evaluators give it.</summary>
    private static string Needs(string name) => name switch
    {
        "fad" or "fad-infinity" => "vectors of patches; --evaluator musicnn and vggish do",
        "fd" or "kid" or "coverage" or "density" => "a vector a clip; --evaluator musicnn, cnn14 and clap do",
        "kl" => "classes; --evaluator musicnn and cnn14 do",
        _ => "logits of classes; --evaluator cnn14 does",
    };

    private static IEnumerable<ClipEmbedding> Heard(IEnumerable<EmbeddedClip> clips) => clips.Select(clip => clip.Embedding);

    private MetricValue Distance(FeatureSet x, FeatureSet y, Func<Tensor, Tensor, double> distance, bool singular)
    {
        using (x)
        using (y)
        {
            if (x.Rows.shape[0] < 2 || y.Rows.shape[0] < 2)
            {
                return MetricValue.None($"it needs two vectors on either side, and there are {x.Rows.shape[0]} and {y.Rows.shape[0]}");
            }

            double value = distance(x.Rows, y.Rows);
            var figure = WithInterval(value, random =>
            {
                var (a, b) = (x.Of(Bootstrap.Draw(x.Clips, random)), y.Of(Bootstrap.Draw(y.Clips, random)));
                return a.shape[0] < 2 || b.shape[0] < 2 ? value : distance(a, b);
            });
            return figure with { Warning = singular ? FewVectors(x, y) : null };
        }
    }

    private static string? FewVectors(FeatureSet x, FeatureSet y)
    {
        (long n, long m, long d) = (x.Rows.shape[0], y.Rows.shape[0], x.Rows.shape[1]);
        return Math.Min(n, m) > d ? null
            : $"N = {n} reference and {m} generated vectors in D = {d} dimensions: the covariances are singular, so compare figures of equal N only";
    }

    private MetricValue Infinity(FeatureSet x, FeatureSet y)
    {
        using (x)
        using (y)
        {
            if (x.Rows.shape[0] < 2 || y.Rows.shape[0] < 4)
            {
                return MetricValue.None("it needs two reference vectors and four generated ones");
            }

            double value = Infinity(x.Rows, y.Rows, new Random(_request.Seed));
            var figure = WithInterval(value, random =>
            {
                var (a, b) = (x.Of(Bootstrap.Draw(x.Clips, random)), y.Of(Bootstrap.Draw(y.Clips, random)));
                return a.shape[0] < 2 || b.shape[0] < 4 ? value : Infinity(a, b, random);
            }, MostInfinityRounds);
            return figure with { Warning = FewVectors(x, y) };
        }
    }

    private static double Infinity(Tensor x, Tensor y, Random random) =>
        FrechetDistance.Infinity(x, y, FrechetDistance.DrawSamples((int)y.shape[0], FadInfinitySizes, random)).Value;

    private MetricValue Kernel()
    {
        using var x = FeatureSet.OfClips(Heard(Reference));
        using var y = FeatureSet.OfClips(Heard(_generated));
        long least = Math.Min(x.Rows.shape[0], y.Rows.shape[0]);
        if (least < 2)
        {
            return MetricValue.None($"it needs two clips on either side, and there are {x.Clips} and {y.Clips}");
        }

        int subsets = x.Clips == y.Clips && least <= LargestSubset ? 1 : PublishedSubsets; // every subset would hold all clips
        var all = KernelDistance.Of(x.Rows, y.Rows, KernelDistance.DrawSubsets(x.Clips, y.Clips, subsets, LargestSubset));
        return WithInterval(all.Mean, random =>
        {
            var (a, b) = (x.Of(Bootstrap.Draw(x.Clips, random)), y.Of(Bootstrap.Draw(y.Clips, random)));
            return KernelDistance.Of(a, b, KernelDistance.DrawSubsets(a.shape[0], b.shape[0], subsets: 1)).Mean;
        });
    }

    private MetricValue Neighbours(Func<Coverage, double> figure)
    {
        using var x = FeatureSet.OfClips(Heard(Reference));
        using var y = FeatureSet.OfClips(Heard(_generated));
        return Coverage.Of(x.Rows, y.Rows, NeighbourCount) is { } coverage
            ? WithInterval(figure(coverage), random =>
                figure(Coverage.Of(x.Of(Bootstrap.Draw(x.Clips, random)), y.Of(Bootstrap.Draw(y.Clips, random)), NeighbourCount)!))
            : MetricValue.None($"it looks at {NeighbourCount} neighbours, and there are {x.Clips} and {y.Clips} clips");
    }

    private MetricValue Divergence(Func<Tensor, Tensor, double[]> divergence)
    {
        double[] rows = Rows(divergence, _pairs);
        return WithInterval(rows.Average(), random => Bootstrap.Draw(rows.Length, random).Average(i => rows[i])) with
        {
            Warning = rows.Length == _generated.Count ? null : $"{rows.Length} pairs: the other {_generated.Count - rows.Length} generated clips have no reference of their name",
        };
    }

    private double[] Rows(string name, (EmbeddedClip Reference, EmbeddedClip Generated)[] pairs) => Rows(
        name == "kl-sigmoid" ? KlDivergence.Sigmoid : _evaluator.Classes == ClassKind.Tags ? KlDivergence.Bernoulli : KlDivergence.Softmax, pairs);

    private static double[] Rows(Func<Tensor, Tensor, double[]> divergence, (EmbeddedClip Reference, EmbeddedClip Generated)[] pairs)
    {
        using var reference = FeatureSet.OfClasses(pairs.Select(pair => pair.Reference.Embedding));
        using var generated = FeatureSet.OfClasses(pairs.Select(pair => pair.Generated.Embedding));
        return divergence(reference.Rows, generated.Rows);
    }

    private MetricValue Inception()
    {
        using var classes = FeatureSet.OfClasses(Heard(_generated));
        long[] order = new NumpyRandom(PublishedSeed).Permutation(classes.Clips);
        int splits = Math.Min(InceptionSplits, classes.Clips / 2);
        if (splits < 1 || InceptionScore.Of(classes.Rows, order, splits) is not { } score)
        {
            return MetricValue.None($"it needs two clips, and there are {classes.Clips}");
        }

        return WithInterval(score.Mean, random =>
            InceptionScore.Of(classes.Of(Bootstrap.Draw(classes.Clips, random)), order, splits)!.Mean) with
        {
            Warning = splits < InceptionSplits ? $"{classes.Clips} clips are too few for {InceptionSplits} splits; {splits} were made" : null,
        };
    }

    private MetricValue WithInterval(double value, Func<Random, double> round, int mostRounds = int.MaxValue)
    {
        if (_request.BootstrapRounds == 0)
        {
            return new MetricValue(value);
        }

        var random = new Random(_request.Seed);
        var values = new double[Math.Min(_request.BootstrapRounds, mostRounds)];
        for (int i = 0; i < values.Length; i++)
        {
            _cancellation.ThrowIfCancellationRequested();
            using var scope = NewDisposeScope();
            values[i] = round(random);
        }

        var interval = Bootstrap.Of(value, values);
        return new MetricValue(value, interval.Low, interval.High, interval.Bias);
    }
}
