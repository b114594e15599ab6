using System.Text.Json;
using MelFusion.Evaluation.Embeddings;
using MelFusion.Wave;
using MelFusion.Weights;
using static TorchSharp.torch;

namespace MelFusion.Training.Data.Build;

/// <summary>
/// Lets the real musicnn tagger hear the clips and writes their captions anew. Of a track a few clips are heard, each for three seconds in its
/// middle; a clip's tags are those of the nearest one heard, and the mean over the track has the same say: one patch alone is unsure.
/// </summary>
public static class OpenMelTagger
{
    private const double Surely = 0.15;
    private const int FewestTags = 2;
    private const int MostTags = 6;
    private const int HeardSeconds = 4;
    private const int HeardClips = 5;

    /// <summary>Tags every clip of a data folder that has none in its cache, and rewrites the tables.</summary>
    /// <param name="output">The data folder.</param>
    /// <param name="tagger">Folder of the tagger's weights, <c>models/musicnn/mtt</c>.</param>
    /// <param name="progress">Hears how far it is, or null.</param>
    /// <param name="cancellationToken">Stops it; what was heard is kept.</param>
    /// <exception cref="MelFusionException">The tagger or a table is missing.</exception>
    public static void Tag(string output, string tagger, IProgress<OpenMelProgress>? progress, CancellationToken cancellationToken)
    {
        using var network = Musicnn.Open(tagger, Placement.Cpu);
        var splits = Enum.GetValues<DataSplit>().Select(split => Path.Combine(output, split.ToString().ToLowerInvariant())).ToDictionary(folder => folder, OpenMelRow.ReadTable, StringComparer.Ordinal);
        var total = splits.Values.Sum(rows => rows.Count);
        var done = 0;
        foreach (var (folder, rows) in splits)
        {
            var tagged = new List<OpenMelRow>();
            foreach (var track in rows.GroupBy(row => (row.Package, row.Path)))
            {
                cancellationToken.ThrowIfCancellationRequested();
                tagged.AddRange(TagTrack(network, folder, Path.Combine(output, ".build"), [.. track]));
                done += track.Count();
                progress?.Report(new OpenMelProgress("hearing clips", done, total));
            }

            OpenMelRow.WriteTable(folder, tagged);
        }
    }

    /// <summary>The tags of a row: those the tagger is sure of, the surest first, at least two and at most six.</summary>
    /// <param name="names">Names of the tags.</param>
    /// <param name="probabilities">Their probabilities.</param>
    internal static IReadOnlyList<string> Choose(IReadOnlyList<string> names, IReadOnlyList<float> probabilities)
    {
        var ranked = probabilities.Select((value, i) => (Value: value, Name: names[i])).OrderByDescending(item => item.Value).ToList();
        return [.. ranked.Take(MostTags).Where((item, rank) => rank < FewestTags || item.Value >= Surely).Select(item => item.Name)];
    }

    private static IEnumerable<OpenMelRow> TagTrack(Musicnn network, string folder, string cache, List<OpenMelRow> rows)
    {
        var heard = Cached(cache, rows) ?? Hear(network, folder, cache, rows);
        var mean = Enumerable.Range(0, heard[0].Length).Select(i => heard.Average(tags => tags[i])).ToArray();
        return rows.Select((row, i) =>
        {
            var own = heard[i * heard.Count / rows.Count];
            return CaptionWriter.Caption(row with { Tags = Choose(network.Config.Tags, [.. own.Zip(mean, (a, b) => (a + b) / 2)]) });
        });
    }

    private static string CacheFile(string cache, List<OpenMelRow> rows) => Path.Combine(cache, rows[0].Id + ".tags.json");

    private static List<float[]>? Cached(string cache, List<OpenMelRow> rows)
    {
        var file = CacheFile(cache, rows);
        var heard = File.Exists(file) ? JsonSerializer.Deserialize<List<float[]>>(File.ReadAllText(file)) : null;
        return heard?.Count >= Math.Min(rows.Count, HeardClips) ? heard : null;
    }

    private static List<float[]> Hear(Musicnn network, string folder, string cache, List<OpenMelRow> rows)
    {
        using var scope = NewDisposeScope();
        var count = Math.Min(rows.Count, HeardClips);
        var patches = cat([.. Enumerable.Range(0, count).Select(k => Middle(network, Path.Combine(folder, rows[((2 * k) + 1) * rows.Count / (2 * count)].Audio)))]);
        var tags = network.Forward(patches).Tags;
        var heard = Enumerable.Range(0, count).Select(k => tags[k].data<float>().ToArray()).ToList();
        Directory.CreateDirectory(cache);
        var file = CacheFile(cache, rows);
        File.WriteAllText(file + ".part", JsonSerializer.Serialize(heard));
        File.Move(file + ".part", file, overwrite: true);
        return heard;
    }

    /// <summary>One patch (1, T, M) from the middle of a clip.</summary>
    private static Tensor Middle(Musicnn network, string path)
    {
        var wave = WavFile.Read(path);
        var samples = wave.ToMono();
        var length = Math.Min(samples.Length, HeardSeconds * wave.SampleRate);
        return network.Patches(samples.AsSpan((samples.Length - length) / 2, length), wave.SampleRate).narrow(0, 0, 1);
    }
}
