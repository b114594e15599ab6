using System.Globalization;
using System.Text.Json;
using MelFusion.Cli;
using MelFusion.Evaluation.Embeddings;
using MelFusion.Evaluation.Reproduction;
using MelFusion.Tests.Cli;
using MelFusion.Tests.Generation;
using MelFusion.Tests.Support;
using MelFusion.Tests.Training;
using MelFusion.Training;
using MelFusion.UNet;
using MelFusion.Wave;
using MelFusion.Weights;
using Shouldly;
using Xunit;

namespace MelFusion.Tests.Evaluation;

[Collection(nameof(TrainsAlone))]
public sealed class ReproductionTests(TinyModelInMemory tiny) : IClassFixture<TinyModelInMemory>, IDisposable
{
    private const string Heard = "calm guitar";

    private static readonly string Configs = Path.Combine(Repository.Root, "configs");

    private readonly TemporaryFolder _folder = new();
    private readonly Ear _ear = new();

    public void Dispose()
    {
        _ear.Dispose();
        _folder.Dispose();
    }

    [Fact]
    public void Each_of_the_papers_tables_is_there_with_the_rows_of_the_paper_and_its_figures()
    {
        var tables = Enumerable.Range(1, 7).Select(i => TableConfig.Read(Path.Combine(Configs, $"table{i}.json"))).ToList();

        tables.Select(table => table.Rows.Count(row => row.Paper.Count > 0)).ShouldBe([10, 6, 4, 3, 9, 4, 3]);
        foreach (int i in new[] { 1, 2, 3, 4, 7 })
        {
            tables[i - 1].Rows.Count(row => row.Paper.GetValueOrDefault("MC")?.GetValueOrDefault("fad") == 1.12 && row.Paper["MB"]["fad"] == 1.05).ShouldBe(1, $"MELFUSION in table {i}");
        }

        var steps = tables[4].Rows[1];
        (steps.Settings.Steps, steps.Settings.Guidance, steps.Paper["MC"]["fd"]).ShouldBe((200, 7, 25.22));
        (tables[3].Rows[1].Text, tables[3].Rows[0].Picture).ShouldBe((false, PictureUse.None));
    }

    [Fact]
    public void A_variant_that_must_be_trained_has_its_config_and_a_model_folder_of_its_own()
    {
        var configs = Directory.GetFiles(Configs, "table*.json").SelectMany(path => TableConfig.Read(path).Rows).Where(row => row.Training is not null)
            .Select(row => row.Training!).Distinct().Select(training => TrainingConfig.Read(Path.Combine(Configs, training))).ToList();

        configs.Count.ShouldBe(10);
        configs.Select(config => config.Model).Distinct().Count().ShouldBe(10);
        configs.ShouldAllBe(config => config.PartsFrom == "models/melfusion-mini" && config.Stage == TrainingStage.MusicLdm);
        configs.ShouldAllBe(config => config.Steps == TrainingConfig.Read(Path.Combine(Configs, "mini", "music-ldm-start.json")).Steps);
    }

    [Theory]
    [InlineData(1, 9)]
    [InlineData(2, 6)]
    [InlineData(3, 4)]
    [InlineData(4, 0)]
    [InlineData(5, 0)]
    [InlineData(6, 0)]
    [InlineData(7, 3)]
    public void Every_row_of_the_papers_tables_is_made_or_says_what_it_lacks(int number, int lacking)
    {
        string[] captions = [.. new[] { 22, 16, 9, 3 }.Select(words => string.Join(' ', Enumerable.Repeat("calm", words)))];
        var table = TableConfig.Read(Path.Combine(Configs, $"table{number}.json"));
        table = table with
        {
            Metrics = ["fad", "kl", "fd"],
            Quick = table.Quick with { Clips = 2, Steps = 2, StepsDivisor = 400 },
            Rows = [.. table.Rows.Select(row => row with { Model = row.Training is null ? null : _folder.File("absent") })],
        };

        var result = Run(table, quick: true, captions);

        result.Rows.Count(row => row.Missing is not null).ShouldBe(lacking);
        result.Rows.Where(row => row.Missing is not null).ShouldAllBe(row => row.Missing!.Contains(" is not here") || row.Missing.Contains(" are not here"));
        result.Rows.Where(row => row.Missing is null).ShouldAllBe(row => row.Clips == 2 && row.Figures["fad"].Value >= 0 && row.Figures["kl"].Value >= 0);
        result.Cells(measuredOnly: true).ShouldAllBe(row => row.Count == result.Cells(true)[0].Count);
        result.Cells()[0].ShouldContain(number is 5 ? "fd MC" : "kl MB");
        string?[] texts = [.. Directory.GetFiles(_folder.File("out"), "*.wav", SearchOption.AllDirectories).Select(file => ClipFile.ReadRecipe(file).Prompt).Distinct()];
        texts.Contains(Heard).ShouldBe(number != 6);
        texts.Any(captions.Contains).ShouldBe(number == 6, "rows that ask for a number of words, and only they, take other captions than those of what is heard");
    }

    [Theory]
    [InlineData("0.5e-6")]
    [InlineData("1e-6")]
    [InlineData("0.5e-4")]
    public void The_alphas_rates_of_table_3_have_the_papers_proportions_to_the_models_own(string rate) =>
        (RateOf($"table3/{rate}") / RateOf("mini/music-ldm-start")).ShouldBe(double.Parse(rate, CultureInfo.InvariantCulture) / 1e-5, 1e-6);

    private static double RateOf(string config) => TrainingConfig.Read(Path.Combine(Configs, config + ".json")).MusicLdm.AlphaLearningRate;

    [Fact]
    public void A_variants_folder_takes_the_parts_that_its_training_does_not_make()
    {
        var written = TrainingConfig.Read(Write("v.json", """{ "stage": "music-ldm", "output": "x", "model": "M", "parts_from": "F" }"""));
        var config = written with { Model = _folder.File("variant"), PartsFrom = tiny.Path };

        VariantFolder.Fill(config);

        File.ReadAllBytes(_folder.File("variant/vae/config.json")).ShouldBe(File.ReadAllBytes(Path.Combine(tiny.Path, "vae", "config.json")));
        Directory.GetDirectories(_folder.File("variant")).Select(Path.GetFileName).ShouldBe(
            Directory.GetDirectories(tiny.Path).Select(Path.GetFileName).Except(["unet", "scheduler", "synapse"]), ignoreOrder: true);
        Should.Throw<MelFusionException>(() => VariantFolder.Fill(config with { Model = tiny.Path })).Message.ShouldContain("folder of its own");
        Should.Throw<MelFusionException>(() => VariantFolder.Fill(config with { PartsFrom = _folder.File("absent") })).Message.ShouldContain("absent");
    }

    [Theory]
    [InlineData("""{ "title": "t", "settings": { "seed": 1 }, "rows": [] }""", "no rows")]
    [InlineData("""{ "title": "t", "settings": { "seed": 1 } }""", "rows")]
    [InlineData("""{ "title": "t", "settings": { "seed": 1 }, "rows": [ { "name": "a" }, { "name": "A!" } ] }""", "two rows")]
    [InlineData("""{ "title": "t", "settings": { "seed": 1 }, "rows": [ { "name": "..." } ] }""", "no letter")]
    [InlineData("""{ "title": "t", "settings": { "seed": 1 }, "rows": [ { "name": "a", "sounds": "../b" } ] }""", "bare name")]
    [InlineData("""{ "title": "t", "settings": { "seed": 1 }, "rows": [ { "name": "a", "settings": { "stepps": 1 } } ] }""", "stepps")]
    [InlineData("""{ "title": "t", "settings": { "seed": 1 }, "rows": [ { "name": "a", "settings": { "steps": 0 } } ] }""", "steps")]
    [InlineData("""{ "title": "t", "settings": { "seed": 1 }, "metrics": ["taste"], "rows": [ { "name": "a" } ] }""", "taste")]
    [InlineData("""{ "title": "t", "settings": { "seed": 1 }, "rows": [ { "name": "a", "text": false, "picture": "none" } ] }""", "neither")]
    [InlineData("""{ "title": "t", "settings": { "seed": 1 }, "rows": [ { "name": "a", "caption_words": [9, 3] } ] }""", "caption_words")]
    [InlineData("""{ "base": 3 }""", "base")]
    [InlineData("""{ "base": "wrong.json" }""", "without end")]
    [InlineData("[1]", "one JSON object")]
    [InlineData("{", "JSON")]
    public void A_wrong_table_is_refused_in_one_sentence(string json, string says)
    {
        string message = Should.Throw<MelFusionException>(() => TableConfig.Read(Write("wrong.json", json))).Message;

        message.ShouldContain(says);
        message.ShouldNotContain("\n");
    }

    [Fact]
    public void Rows_are_made_measured_and_set_beside_the_paper_and_what_cannot_be_made_says_why()
    {
        var result = Run(Table);

        result.Rows.Select(row => (row.Row, row.Missing is null)).ShouldBe(
            [("both", true), ("text", true), ("picture", true), ("other picture", true), ("fewer steps", true), ("long text", false), ("system", false), ("variant", false)]);
        result.Rows.Take(5).ShouldAllBe(row => row.Clips == 3 && row.Figures["fad"].Value >= 0 && row.Figures["kl"].Value >= 0);
        result.Rows[5].Missing!.ShouldContain("pictures and captions");
        result.Rows[6].Missing!.ShouldContain(Path.Combine(_folder.File("systems"), "riffusion"));
        result.Rows[7].Missing!.ShouldContain("melfusion train variant.json");
        result.Controls["halves"]["fad"].ShouldNotBeNull();

        RecipeOf("both", "one").ImageSha256.ShouldNotBeNull();
        RecipeOf("text", "one").ImageSha256.ShouldBeNull();
        RecipeOf("picture", "one").Prompt.ShouldBeNull();
        RecipeOf("other-picture", "one").ImageSha256.ShouldNotBe(RecipeOf("both", "one").ImageSha256);
        RecipeOf("fewer-steps", "one").Steps.ShouldBe(2);

        string text = result.ToMarkdown();
        text.ShouldContain("| both | 3 |");
        text.ShouldContain("| 1.12 |");
        text.ShouldContain("| system | - |");
        text.ShouldContain(TableResult.Caution);
        result.ToCsv().ShouldContain("both,MC,fad,1.12");
        JsonDocument.Parse(result.ToJson()).RootElement.GetProperty("rows").GetArrayLength().ShouldBe(8);
        result.Agreement.Single(agreement => agreement.Set == "MC").Rows.ShouldBe(3);
    }

    [Fact]
    public void A_second_run_keeps_the_clips_and_another_systems_folder_is_measured_once_it_is_there()
    {
        Run(Table);
        var written = Directory.GetFiles(_folder.File("out"), "*.wav", SearchOption.AllDirectories).ToDictionary(file => file, File.GetLastWriteTimeUtc);
        Directory.CreateDirectory(_folder.File("systems/riffusion"));
        foreach (string id in new[] { "one", "two" })
        {
            File.Copy(_folder.File($"test/audio/{id}.wav"), _folder.File($"systems/riffusion/{id}.wav"));
        }

        var result = Run(Table);

        (result.Rows[6].Clips, result.Rows[6].Figures["kl"].Value).ShouldBe((2, 0));
        written.ShouldAllBe(file => File.GetLastWriteTimeUtc(file.Key) == file.Value);
    }

    [Fact]
    public void A_quick_run_divides_the_steps_and_makes_few_clips()
    {
        var result = Run(Table with { Quick = new() { Clips = 2, Steps = 3, StepsDivisor = 2 } }, quick: true);

        result.Rows[0].Clips.ShouldBe(2);
        (RecipeOf("both", "one").Steps, RecipeOf("fewer-steps", "one").Steps).ShouldBe((3, 2));
        result.Remarks().ShouldContain(remark => remark.Contains("quick run", StringComparison.Ordinal));
    }

    [Fact]
    public void The_command_makes_a_table_of_a_file_and_writes_it()
    {
        Write("variant.json", """{ "stage": "music-ldm", "output": "x", "model": "absent" }""");
        string table = Write("own.json", """
            { "title": "Own", "settings": { "seed": 1 }, "quick": { "clips": 2, "steps": 2 },
              "rows": [ { "name": "both" }, { "name": "variant", "training": "variant.json" } ] }
            """);
        Data();
        string[] line = ["reproduce", table, "--data", _folder.Path, "--model", tiny.Path, "--output", _folder.File("out"), "--quick"];

        var ended = Melfusion.Here([.. line, "--json"]);

        ended.ExitCode.ShouldBe(ExitCode.Done, ended.Error);
        JsonDocument.Parse(ended.Output).RootElement.GetProperty("title").GetString().ShouldBe("Own");
        ended.Error.ShouldContain("the trained variant absent is not here");
        File.ReadAllText(_folder.File("out/table.md")).ShouldContain("variant.json` makes it");
        Melfusion.Here("reproduce", "table8", "--data", _folder.Path).ShouldFailWith(ExitCode.Failed, "table8", "table1 to table7");
        Melfusion.Here([.. line, "--data", _folder.File("no")]).ShouldFailWith(ExitCode.Usage, "--data");
        Melfusion.Here("reproduce", table, "--data", _folder.File("no"), "--model", tiny.Path).ShouldFailWith(ExitCode.Failed, "table.jsonl");
        Melfusion.Here("reproduce", table, "--data", _folder.Path, "--model", _folder.File("no")).ShouldFailWith(ExitCode.Failed, "no such model folder");
    }

    [Fact]
    public void Variants_that_are_missing_are_trained_on_the_tables_data_beside_its_model_and_then_measured()
    {
        Data();
        WriteSplit("train", 4);
        WriteSplit("validation", 3);
        string variant = _folder.File("variant");
        File.WriteAllText(_folder.File("variant.json"), new TrainingConfig
        {
            Stage = TrainingStage.MusicLdm, Data = "elsewhere", PartsFrom = "models/another", Model = variant, Output = _folder.File("run"), Steps = 2, Batch = 2,
            ValidateEvery = 10, CheckpointEvery = 10, Optimiser = new() { WarmupSteps = 1 },
            MusicLdm = new() { Network = UNetConfig.Tiny with { CrossAttentionDim = 12 }, InversionSteps = 4, Samples = 1, ValidationTimesteps = [500] },
        }.ToJson());
        string table = Write("own.json", """
            { "title": "Own", "settings": { "seed": 1 }, "quick": { "clips": 2, "steps": 2 }, "metrics": ["note-density"],
              "rows": [ { "name": "variant", "training": "variant.json", "paper": { "MC": { "fad": 2.03 } } } ] }
            """);
        string[] line = ["reproduce", table, "--data", _folder.Path, "--model", tiny.Path, "--output", _folder.File("out"), "--quick"];

        Melfusion.Here(line).ShouldFailWith(ExitCode.Failed, "No row of the table could be made");
        var ended = Melfusion.Here([.. line, "--train"]);
        var learned = File.GetLastWriteTimeUtc(Path.Combine(variant, "unet", "diffusion_pytorch_model.safetensors"));
        var again = Melfusion.Here([.. line, "--train"]);

        ended.ExitCode.ShouldBe(ExitCode.Done, ended.Error + ended.Output);
        ended.Output.ShouldContain("Training variant");
        RecipeOf("variant", "one").WeightsSha256.ShouldNotBe(WeightsOf(tiny.Path));
        File.ReadAllText(_folder.File("out/table.md")).ShouldContain("note-density here");
        again.ExitCode.ShouldBe(ExitCode.Done, again.Error);
        again.Output.ShouldNotContain("Training variant");
        File.GetLastWriteTimeUtc(Path.Combine(variant, "unet", "diffusion_pytorch_model.safetensors")).ShouldBe(learned);
    }

    [Fact]
    public void Clips_that_an_earlier_run_of_another_number_left_do_not_count()
    {
        Run(Table with { Rows = [Table.Rows[0]] });
        var result = Run(Table with { Rows = [Table.Rows[0]], Clips = 2 });

        result.Rows[0].Clips.ShouldBe(2);
        Directory.GetFiles(_folder.File("out/both/clips"), "*.wav").Length.ShouldBe(3);
        result.ToCsv().ShouldContain("\n(halves),here,fad,");
    }

    [Fact]
    public void An_output_that_cannot_be_written_is_said_before_anything_is_made()
    {
        string table = Write("own.json", """{ "title": "Own", "settings": { "seed": 1 }, "rows": [ { "name": "both" } ] }""");
        Data();

        Melfusion.Here("reproduce", table, "--data", _folder.Path, "--model", tiny.Path, "--output", Path.Combine(table, "in-a-file"))
            .ShouldFailWith(ExitCode.Failed, "cannot be written", "choose another --output");
    }

    private static string WeightsOf(string folder)
    {
        using var model = MelFusionModel.Load(ModelFolder.Open(folder));
        return model.WeightsSha256;
    }

    private void WriteSplit(string split, int count)
    {
        string folder = _folder.File(split);
        Directory.CreateDirectory(folder);
        File.WriteAllBytes(Path.Combine(folder, "a.bmp"), TinyModel.Picture(1));
        File.WriteAllBytes(Path.Combine(folder, "b.bmp"), TinyModel.Picture(2));
        var random = new Random(2);
        for (int i = 0; i < count; i++)
        {
            WavFile.Write(Path.Combine(folder, $"{i}.wav"), [.. Enumerable.Range(0, 1024).Select(_ => (float)random.NextDouble() - 0.5f)], Ear.Rate);
        }

        File.WriteAllLines(Path.Combine(folder, "table.jsonl"), Enumerable.Range(0, count).Select(i => JsonSerializer.Serialize(
            new { id = $"{split}-{i}", audio = $"{i}.wav", images = new[] { i % 2 == 0 ? "a.bmp" : "b.bmp" }, captions = new[] { i % 2 == 0 ? "calm guitar" : "loud drums" }, words = "sea" })));
    }

    private static Dictionary<string, IReadOnlyDictionary<string, double>> Paper(double fad) => new() { ["MC"] = new Dictionary<string, double> { ["fad"] = fad } };

    private static TableConfig Table
    {
        get
        {
            var settings = new MusicRequest { Seed = 1 };
            return new()
            {
                Title = "A table", Settings = settings, Metrics = ["fad", "kl"], Clips = 3, Rounds = 3,
                Rows =
                [
                    new() { Name = "both", Settings = settings, Paper = Paper(1.12) },
                    new() { Name = "text", Settings = settings, Picture = PictureUse.None, Paper = Paper(3.07) },
                    new() { Name = "picture", Settings = settings, Text = false, Paper = Paper(5.62) },
                    new() { Name = "other picture", Settings = settings, Picture = PictureUse.Other },
                    new() { Name = "fewer steps", Settings = settings with { Steps = 2 } },
                    new() { Name = "long text", Settings = settings, CaptionWords = [20, 30] },
                    new() { Name = "system", Settings = settings, Sounds = "riffusion", Paper = Paper(13.4) },
                    new() { Name = "variant", Settings = settings, Model = "absent", Training = "variant.json" },
                ],
            };
        }
    }

    /// <summary>A test split of three clips, as long as the tiny model's, and two pictures.</summary>
    private DataClip[] Data(IReadOnlyList<string>? captions = null)
    {
        string[] guitar = [Heard], drums = ["loud drums"];
        Directory.CreateDirectory(_folder.File("test/audio"));
        Directory.CreateDirectory(_folder.File("test/images"));
        DataClip[] clips =
        [
            new("one", ["images/a.bmp"], captions ?? guitar, guitar), new("two", ["images/a.bmp"], captions ?? guitar, guitar), new("three", ["images/b.bmp"], captions ?? drums, drums),
        ];
        var random = new Random(1);
        foreach (var clip in clips)
        {
            WavFile.Write(_folder.File($"test/audio/{clip.Id}.wav"), [.. Enumerable.Range(0, 1024).Select(_ => (float)random.NextDouble() - 0.5f)], Ear.Rate);
        }

        File.WriteAllBytes(_folder.File("test/images/a.bmp"), TinyModel.Picture(1));
        File.WriteAllBytes(_folder.File("test/images/b.bmp"), TinyModel.Picture(2));
        File.WriteAllLines(_folder.File("test/table.jsonl"), clips.Select(clip => JsonSerializer.Serialize(
            new { id = clip.Id, audio = $"audio/{clip.Id}.wav", images = clip.Images, captions = clip.Captions })));
        return clips;
    }

    private TableResult Run(TableConfig table, bool quick = false, IReadOnlyList<string>? captions = null)
    {
        using var run = new TableRun(
            new()
            {
                Table = table, Clips = Data(captions), Reference = _folder.File("test"), Model = tiny.Path, Load = folder => MelFusionModel.Load(folder), Output = _folder.File("out"),
                Systems = _folder.File("systems"), Quick = quick, CacheFolder = null,
            },
            _ear);
        return run.Run();
    }

    private Recipe RecipeOf(string row, string id) => ClipFile.ReadRecipe(_folder.File(Path.Combine("out", row, "clips", id + ".wav")));

    private string Write(string name, string text)
    {
        File.WriteAllText(_folder.File(name), text);
        return _folder.File(name);
    }

    /// <summary>An evaluator that needs no network: levels of four parts of each patch.</summary>
    private sealed class Ear : IEvaluator
    {
        public const int Rate = 4000;

        private const int Patch = 100;

        public string Name => "ear";

        public string WeightsSha256 { get; } = new('0', 64);

        public int SampleRate => Rate;

        public bool HasPatches => true;

        public bool HasClips => true;

        public ClassKind Classes => ClassKind.Tags;

        public string Rule => "whole patches count";

        public ClipEmbedding Embed(float[] samples)
        {
            float[][] patches = [.. samples.Chunk(Patch).Where(patch => patch.Length == Patch)
                .Select(patch => patch.Chunk(Patch / 4).Select(part => part.Sum(x => x * x) / part.Length).ToArray())];
            float[] mean = [.. Enumerable.Range(0, 4).Select(j => patches.Average(patch => patch[j]))];
            return new(patches, mean, [.. mean.Select(value => Math.Clamp(value, 0, 1))]);
        }

        public void Dispose()
        {
        }
    }
}
