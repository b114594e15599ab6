using System.Text.Json;
using MelFusion.Evaluation;
using MelFusion.Evaluation.Embeddings;
using MelFusion.Evaluation.Reports;
using MelFusion.Tests.Support;
using MelFusion.Wave;
using Shouldly;
using Xunit;

namespace MelFusion.Tests.Evaluation;

public sealed class FolderEvaluationTests : IDisposable
{
    private const int Rate = 16000;

    private readonly string _folder = Directory.CreateTempSubdirectory("melfusion-evaluation").FullName;
    private readonly LevelEvaluator _levels = new();

    public void Dispose()
    {
        _levels.Dispose();
        Directory.Delete(_folder, true);
    }

    [Fact]
    public void Musicnn_finds_a_folder_at_no_distance_from_itself_and_further_away_with_more_noise()
    {
        using var musicnn = new MusicnnEvaluator(Path.Combine(Repository.Root, "models", "musicnn", "mtt"));
        Make("reference", 4, noise: 0);
        double previous = 0;

        foreach (double decibels in (double[])[double.PositiveInfinity, 40, 30, 20, 10])
        {
            string folder = Make($"noise{decibels}", 4, noise: 0.2 * Math.Pow(10, -decibels / 20));
            var (report, _) = FolderEvaluation.Run(
                Request("reference", Path.GetFileName(folder)) with
                {
                    BootstrapRounds = 0,
                    Metrics = ["fad", "kl"],
                    Controls = double.IsInfinity(decibels),
                    CacheFolder = Path.Combine(_folder, "cache"),
                },
                musicnn);
            double fad = report.Metrics["fad"].Value!.Value;

            if (double.IsInfinity(decibels))
            {
                fad.ShouldBe(0, 1e-6);
                report.Metrics["kl"].Value!.Value.ShouldBe(0, 1e-6);
                double floor = report.Controls["halves"]!["fad"]!.Value;
                report.Controls["silence"]!["fad"]!.Value.ShouldBeGreaterThan(2 * floor);
                report.Controls["noise"]!["fad"]!.Value.ShouldBeGreaterThan(2 * floor);
            }
            else
            {
                fad.ShouldBeGreaterThan(previous);
            }

            report.Metrics["fad"].Warning!.ShouldContain("N = 8 reference and 8 generated vectors in D = 200 dimensions");
            previous = fad;
        }
    }

    [Fact]
    public void The_report_has_the_agreed_layout()
    {
        Make("reference", 8, 0);
        Make("generated", 8, 0.05);

        var (report, _) = FolderEvaluation.Run(Request("reference", "generated") with
        {
            Metrics = [.. EvaluationRequest.AllMetrics.Except(NoteEvaluator.Figures)],
            Weights = _folder,
        }, _levels);

        using var json = JsonDocument.Parse(report.ToJson());
        json.RootElement.EnumerateObject().Select(part => part.Name).ShouldBe(["passport", "metrics", "controls", "skipped"]);
        var fad = json.RootElement.GetProperty("metrics").GetProperty("fad");
        fad.GetProperty("low").GetDouble().ShouldBeLessThan(fad.GetProperty("high").GetDouble());
        json.RootElement.GetProperty("controls").EnumerateObject().Select(control => control.Name)
            .ShouldBe(["silence", "noise", "shuffled", "halves", "reconstruction"]);
        json.RootElement.GetProperty("controls").GetProperty("silence").GetProperty("fad").GetDouble().ShouldBeGreaterThan(0);
        json.RootElement.GetProperty("controls").GetProperty("reconstruction").ValueKind.ShouldBe(JsonValueKind.Null);
        json.RootElement.GetProperty("passport").GetProperty("pair_count").GetInt32().ShouldBe(8);
        json.RootElement.GetProperty("metrics").GetProperty("imsm").GetProperty("value").ValueKind.ShouldBe(JsonValueKind.Null);
        json.RootElement.GetProperty("metrics").GetProperty("is").GetProperty("reason").GetString()!.ShouldContain("levels does not give");

        string path = Path.Combine(_folder, "report.json");
        File.WriteAllText(path, report.ToJson());
        EvaluationReport.Read(path).ToJson().ShouldBe(report.ToJson());
    }

    [Fact]
    public void Reports_are_written_for_people_tables_and_browsers()
    {
        Make("reference", 4, 0);
        string generated = Make("generated", 4, 0.05);
        File.WriteAllBytes(Path.Combine(generated, "<b>.wav"), []);
        string folder = Path.Combine(_folder, "report");
        var request = Request("reference", "generated") with { Metrics = ["fad", "kl", "clap"], Weights = _folder };
        var (report, details) = FolderEvaluation.Run(request, _levels);

        ReportWriter.Write(folder, report, request, details);

        Directory.GetFiles(folder).Select(Path.GetFileName).Order().ShouldBe(
            ["intervals.png", "map.png", "report.csv", "report.html", "report.json", "report.md", "spectrograms.png"]);
        File.ReadAllLines(Path.Combine(folder, "report.csv"))[..2].ShouldBe(["metric,of,value,low,high,bias,note", ReportWriter.ToCsv(report).Split('\n')[1]]);
        File.ReadAllText(Path.Combine(folder, "report.md")).ShouldContain("| silence |");
        File.ReadAllText(Path.Combine(folder, "report.html")).ShouldContain("generated/&lt;b&gt;.wav");
        File.ReadAllText(Path.Combine(folder, "report.html")).ShouldContain("the weights of clap are missing");
        new FileInfo(Path.Combine(folder, "spectrograms.png")).Length.ShouldBeGreaterThan(2000);
    }

    [Fact]
    public void An_evaluator_that_is_not_here_leaves_figures_null_with_the_reason()
    {
        Make("reference", 1, 0);
        var (evaluator, reason) = EvaluatorFolder.Open("vggish", _folder);

        var report = FolderEvaluation.RunWithout(Request("reference", "reference"), "vggish", reason);

        evaluator.ShouldBeNull();
        report.Metrics["fad"].ShouldBe(new MetricValue(null, Reason: reason));
        reason.ShouldContain("weights of vggish are missing");
        Should.Throw<MelFusionException>(() => FolderEvaluation.RunWithout(Request("reference", "nowhere"), "vggish", reason)).Message.ShouldContain("there is no such folder");
    }

    [Fact]
    public void Odd_files_are_named_or_handled_and_never_dropped_in_silence()
    {
        string reference = Make("reference", 3, 0), generated = Make("generated", 3, 0);
        File.WriteAllBytes(Path.Combine(generated, "empty.wav"), []);
        File.WriteAllText(Path.Combine(generated, "corrupt.mp3"), "this is no sound");
        File.WriteAllText(Path.Combine(generated, "notes.txt"), "no sound file and no candidate for one");
        WavFile.Write(Path.Combine(generated, "one-sample.wav"), [0.5f], Rate);
        WavFile.Write(Path.Combine(generated, "half-hour.wav"), new float[30 * 60 * 1000], 1000);
        WavFile.Write(Path.Combine(generated, "low.wav"), Tone(8000, 1, 0), 8000);
        WriteStereo(Path.Combine(generated, "stereo.wav"), Tone(Rate, 2, 0), Rate);
        WavFile.Write(Path.Combine(generated, "high.wav"), Tone(96000, 1, 0), 96000);
        WavFile.Write(Path.Combine(generated, "long.wav"), Tone(Rate, 9, 0), Rate);

        var (report, details) = FolderEvaluation.Run(Request("reference", "generated") with { LongestSeconds = 4 }, _levels);

        report.Skipped.Select(file => file.File).ShouldBe(["generated/corrupt.mp3", "generated/empty.wav", "generated/one-sample.wav"]);
        report.Skipped.ShouldAllBe(file => file.Reason.Length > 10 && !file.Reason.Contains(_folder));
        details.Generated.Select(clip => clip.Id).ShouldBe(["clip-0", "clip-1", "clip-2", "half-hour", "high", "long", "low", "stereo"]);
        report.Passport.UnpairedIds.ShouldBe(["half-hour", "high", "long", "low", "stereo"]);
        report.Passport.GeneratedSeconds.ShouldBe([1, 4]);
        float[] left = details.Generated.Single(clip => clip.Id == "long").Embedding.Patches[0], both = details.Generated.Single(clip => clip.Id == "stereo").Embedding.Patches[0];
        both.Zip(left).ShouldAllBe(pair => Math.Abs((pair.First * 4) - pair.Second) < 1e-4, "the right channel is silent, so that the mean is half the left");
        Should.Throw<MelFusionException>(() => FolderEvaluation.Run(Request("reference", "nowhere"), _levels)).Message.ShouldContain("there is no such folder");
        Directory.CreateDirectory(Path.Combine(_folder, "bare"));
        Should.Throw<MelFusionException>(() => FolderEvaluation.Run(Request("reference", "bare"), _levels)).Message.ShouldContain("there is no sound file in it");
        Directory.GetFiles(reference).Length.ShouldBe(3);
    }

    [Fact]
    public void A_split_of_a_data_set_is_a_folder_of_its_sounds()
    {
        string split = Path.GetDirectoryName(Make("split/audio", 3, 0))!;
        File.WriteAllText(Path.Combine(split, "table.jsonl"), "{\"id\":\"clip-0\",\"captions\":[\"a\"]}\n");
        Make("generated", 3, 0.05);

        var (report, details) = FolderEvaluation.Run(Request("split", "generated"), _levels);
        ReportWriter.Write(Path.Combine(_folder, "report"), report, Request("split", "generated"), details);

        report.Passport.PairCount.ShouldBe(3);
        File.Exists(Path.Combine(_folder, "report", "spectrograms.png")).ShouldBeTrue();
    }

    [Fact]
    public void The_reconstruction_control_hears_the_references_through_the_models_codec()
    {
        Make("reference", 4, 0);
        Make("generated", 4, 0.05);
        var request = Request("reference", "generated") with { Metrics = ["fad", "kl"] };

        var (same, _) = FolderEvaluation.Run(request with { Reconstruct = sound => sound }, _levels);
        var (quieter, _) = FolderEvaluation.Run(request with { Reconstruct = sound => sound with { Channels = [[.. sound.ToMono().Select(x => x / 2)]] } }, _levels);

        same.Controls["reconstruction"]!["fad"]!.Value.ShouldBe(0, 1e-6);
        same.Controls["reconstruction"]!["kl"]!.Value.ShouldBe(0, 1e-6);
        quieter.Controls["reconstruction"]!["fad"]!.Value.ShouldBeGreaterThan(1e-6);
    }

    [Fact]
    public void A_second_run_embeds_nothing_twice_and_gives_the_same_report()
    {
        Make("reference", 4, 0);
        Make("generated", 4, 0.05);
        var request = Request("reference", "generated") with { CacheFolder = Path.Combine(_folder, "cache") };

        var (first, _) = FolderEvaluation.Run(request, _levels);
        int files = _levels.Calls;
        var (second, _) = FolderEvaluation.Run(request, _levels);

        second.ToJson().ShouldBe(first.ToJson());
        (_levels.Calls - files).ShouldBe(files - 8, "the controls alone are heard again");
    }

    [Fact]
    public void Unlike_passports_are_told_apart_by_field()
    {
        Make("reference", 4, 0);
        Make("generated", 4, 0.05);
        Make("fewer", 3, 0.05);
        var (a, _) = FolderEvaluation.Run(Request("reference", "generated"), _levels);
        var (b, _) = FolderEvaluation.Run(Request("reference", "fewer"), _levels);

        EvaluationReport.Differences(a.Passport, a.Passport).ShouldBeEmpty();
        EvaluationReport.Differences(a.Passport, b.Passport).Select(difference => difference.Split(':')[0])
            .ShouldBe(["generated_count", "pair_count", "missing_ids"]);
        EvaluationReport.Differences(a.Passport, a.Passport with { TripletsSha256 = "1", Networks = new Dictionary<string, string> { ["clip"] = "2" } })
            .ShouldBe(["networks:  and [clip, 2]", "triplets_sha256:  and 1"]);
        EvaluationReport.Differences(a.Passport, a.Passport with { Evaluator = "vggish" }).ShouldBe(["evaluator: levels and vggish"]);
    }

    private EvaluationRequest Request(string reference, string generated) => new()
    {
        Reference = Path.Combine(_folder, reference), Generated = Path.Combine(_folder, generated), CacheFolder = null, BootstrapRounds = 20, Workers = 2,
    };

    /// <summary>Clips of 7 s, each of other tones.</summary>
    private string Make(string name, int count, double noise)
    {
        string folder = Directory.CreateDirectory(Path.Combine(_folder, name)).FullName;
        for (int i = 0; i < count; i++)
        {
            WavFile.Write(Path.Combine(folder, $"clip-{i}.wav"), Tone(Rate, 7, noise, i), Rate);
        }

        return folder;
    }

    /// <summary>16-bit samples on the left, silence on the right.</summary>
    private static void WriteStereo(string path, float[] left, int rate)
    {
        using var writer = new BinaryWriter(File.Create(path));
        int bytes = left.Length * 4;
        writer.Write("RIFF"u8);
        writer.Write(36 + bytes);
        writer.Write("WAVEfmt "u8);
        writer.Write(16);
        writer.Write((short)1);
        writer.Write((short)2);
        writer.Write(rate);
        writer.Write(rate * 4);
        writer.Write((short)4);
        writer.Write((short)16);
        writer.Write("data"u8);
        writer.Write(bytes);
        foreach (float sample in left)
        {
            writer.Write((short)Math.Round(sample * 32767));
            writer.Write((short)0);
        }
    }

    private static float[] Tone(int rate, double seconds, double noise, int seed = 0)
    {
        var random = new Random(seed);
        double hz = 200 * Math.Pow(1.3, seed), beat = 1 + (seed * 0.7);
        return [.. Enumerable.Range(0, (int)(rate * seconds)).Select(i => (float)((0.2 * Math.Sin(2 * Math.PI * hz * i / rate)
            * (1 + Math.Sin(2 * Math.PI * beat * i / rate))) + (0.1 * Math.Sin(2 * Math.PI * hz * 2.5 * i / rate)) + (noise * ((2 * random.NextDouble()) - 1))))];
    }

    /// <summary>An evaluator that needs no network: levels of quarters of each second.</summary>
    private sealed class LevelEvaluator : IEvaluator
    {
        private int _calls;

        public int Calls => _calls;

        public string Name => "levels";

        public string WeightsSha256 { get; } = new('0', 64);

        public int SampleRate => Rate;

        public bool HasPatches => true;

        public bool HasClips => true;

        public ClassKind Classes => ClassKind.Tags;

        public string Rule => "whole seconds count";

        public ClipEmbedding Embed(float[] samples)
        {
            Interlocked.Increment(ref _calls);
            float[][] patches = [.. samples.Chunk(Rate).Where(second => second.Length == Rate)
                .Select(second => second.Chunk(Rate / 4).Select(quarter => quarter.Sum(x => x * x) / quarter.Length).ToArray())];
            float[] mean = patches.Length == 0 ? [] : [.. Enumerable.Range(0, 4).Select(j => patches.Average(patch => patch[j]))];
            return new ClipEmbedding(patches, mean, [.. mean.Select(value => Math.Clamp(value, 0, 1))]);
        }

        public void Dispose()
        {
        }
    }
}
