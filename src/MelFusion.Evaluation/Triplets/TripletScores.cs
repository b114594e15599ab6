using MelFusion.Evaluation.Metrics;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Evaluation.Triplets;

/// <summary>
/// IMSM of a set of triplets in blocks of a fixed number of captions, with its chance level and its control: the same with each picture moved to every
/// other sound of its block. A sound with an equal picture is no wrong one.
/// </summary>
/// <param name="PictureCosines">Picture i and caption k (N, N), float64.</param>
/// <param name="MusicCosines">Sound i and caption k (N, N), float64.</param>
/// <param name="PictureScale">By what the first are multiplied before their softmax.</param>
/// <param name="MusicScale">By what the second are.</param>
/// <param name="Pictures">Which picture each triplet has: equal names are equal pictures.</param>
internal sealed record TripletScores(
    Tensor PictureCosines, Tensor MusicCosines, double PictureScale, double MusicScale, IReadOnlyList<string> Pictures)
{
    private const int Captions = 16, Partitions = 32;

    /// <summary>The figure with its parts, or the reason why there is none.</summary>
    /// <param name="seed">Of partitions and redraws.</param>
    /// <param name="rounds">Of the bootstrap, which draws whole pictures with all their clips; 0: no interval.</param>
    public MetricValue Measure(int seed, int rounds)
    {
        int size = Math.Min(Captions, Pictures.Count), distinct = Pictures.Distinct().Count();
        if (distinct < 2)
        {
            return MetricValue.None($"it needs triplets of two different pictures, and there are {Pictures.Count} triplets of {distinct}");
        }

        var clips = Enumerable.Range(0, Pictures.Count).Select(_ => new Tally()).ToArray();
        (double equation8, double script) = (0, 0);
        int blocks = 0;
        var random = new Random(seed);
        for (int i = 0; i < Partitions; i++)
        {
            foreach (long[] block in Deal(size, random))
            {
                using var scope = NewDisposeScope();
                var (p, r) = (Imsm.Block(PictureCosines, block), Imsm.Block(MusicCosines, block));
                var agreement = Imsm.Agreement(p, r, PictureScale, MusicScale);
                equation8 += Imsm.Score(Imsm.Equation8(p, r));
                script += Imsm.Score(Imsm.PublishedScript(agreement));
                blocks++;
                Count(clips, block, agreement.contiguous().data<double>().ToArray());
            }
        }

        return Describe(clips, size, distinct, seed, rounds, equation8 / blocks, script / blocks);
    }

    private MetricValue Describe(Tally[] clips, int size, int distinct, int seed, int rounds, double equation8, double script)
    {
        int[] counted = [.. Enumerable.Range(0, clips.Length).Where(i => clips[i].Wrong > 0)];
        int[][] groups = [.. counted.GroupBy(i => Pictures[i]).Select(group => group.ToArray())];
        double Mean(Func<Tally, double> of, IEnumerable<int> which) => which.Average(i => of(clips[i]));
        Interval? Between(Func<Tally, double> of) => rounds == 0 ? null : Bootstrap.Of(Mean(of, counted), Redraw(of));
        double[] Redraw(Func<Tally, double> of)
        {
            var random = new Random(seed);
            return [.. Enumerable.Range(0, rounds).Select(_ => Mean(of, Bootstrap.Draw(groups.Length, random).SelectMany(group => groups[group])))];
        }

        var (value, lift, separation) = (Between(clip => clip.Agreement), Between(clip => clip.Lift), Between(clip => clip.Separation));
        var parts = new Dictionary<string, double>
        {
            ["chance"] = 1.0 / size,
            ["shuffled"] = Mean(clip => clip.Agreement - clip.Lift, counted),
            ["lift"] = Mean(clip => clip.Lift, counted),
            ["separation"] = Mean(clip => clip.Separation, counted),
            ["picture_to_caption"] = OwnCaptionFirst(PictureCosines),
            ["music_to_caption"] = OwnCaptionFirst(MusicCosines),
            ["equation8"] = equation8,
            ["published_script"] = script,
            ["triplets"] = counted.Length,
            ["pictures"] = distinct,
        };
        foreach (var (name, interval) in new[] { ("lift", lift), ("separation", separation) }.Where(pair => pair.Item2 is not null))
        {
            (parts[name + "_low"], parts[name + "_high"]) = (interval!.Low, interval.High);
        }

        return new MetricValue(Mean(clip => clip.Agreement, counted), value?.Low, value?.High, value?.Bias, Parts: parts);
    }

    /// <summary>How often the own caption lies nearer than the caption of another picture's triplet: what either side alone is worth.</summary>
    private double OwnCaptionFirst(Tensor cosines)
    {
        int n = Pictures.Count;
        double[] values = cosines.contiguous().data<double>().ToArray();
        (double above, long pairs) = (0, 0);
        for (int i = 0; i < n; i++)
        {
            double own = values[(i * n) + i];
            for (int k = 0; k < n; k++)
            {
                if (Pictures[i] != Pictures[k])
                {
                    double other = values[(i * n) + k];
                    above += own > other ? 1 : own == other ? 0.5 : 0;
                    pairs++;
                }
            }
        }

        return above / pairs;
    }

    /// <summary>Whole blocks of the triplets in shuffled order, those of one picture dealt to different blocks as far as that goes.</summary>
    private IEnumerable<long[]> Deal(int size, Random random)
    {
        int blocks = Pictures.Count / size;
        var order = Enumerable.Range(0, Pictures.Count).ToArray();
        random.Shuffle(order);
        int[] dealt = [.. order.Take(blocks * size).GroupBy(i => Pictures[i]).SelectMany(group => group)];
        return Enumerable.Range(0, blocks).Select(block => dealt.Where((_, i) => i % blocks == block).Select(i => (long)i).ToArray());
    }

    private void Count(Tally[] clips, long[] block, double[] agreement)
    {
        for (int j = 0; j < block.Length; j++)
        {
            double right = agreement[(j * block.Length) + j];
            for (int i = 0; i < block.Length; i++)
            {
                if (Pictures[(int)block[i]] != Pictures[(int)block[j]])
                {
                    clips[block[j]].Add(right, agreement[(i * block.Length) + j]); // picture i with music j
                }
            }
        }
    }

    /// <summary>What one sound's own picture and the wrong ones gave.</summary>
    private sealed class Tally
    {
        private double _right, _wrong, _above;

        /// <summary>How many wrong pictures it met.</summary>
        public int Wrong { get; private set; }

        /// <summary>Its agreement with its own picture.</summary>
        public double Agreement => _right / Wrong;

        /// <summary>The same minus its agreement with wrong pictures.</summary>
        public double Lift => (_right - _wrong) / Wrong;

        /// <summary>How often its own picture agrees better than a wrong one; a draw counts half.</summary>
        public double Separation => _above / Wrong;

        public void Add(double right, double wrong)
        {
            (_right, _wrong, Wrong) = (_right + right, _wrong + wrong, Wrong + 1);
            _above += right > wrong ? 1 : right == wrong ? 0.5 : 0;
        }
    }
}
