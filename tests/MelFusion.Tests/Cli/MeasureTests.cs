using System.Text.Json;
using MelFusion.Cli;
using MelFusion.Evaluation;
using MelFusion.Tests.Support;
using MelFusion.Tests.Training;
using MelFusion.Wave;
using MelFusion.Weights;
using Shouldly;
using Xunit;

namespace MelFusion.Tests.Cli;

/// <summary>The figures of a model card, on a tiny model and clips made here.</summary>
[Collection(nameof(TrainsAlone))]
public sealed class MeasureTests(TinyFiles files) : IClassFixture<TinyFiles>, IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void A_model_is_measured_on_a_split_and_the_clips_it_made_are_kept()
    {
        WriteData("captions of nothing");
        var measured = Measure("--clips", "2", "--seeds", "2", "--strangers", "2", "--json");

        measured.ExitCode.ShouldBe(ExitCode.Done, measured.Error);
        using var json = JsonDocument.Parse(measured.Output);
        json.RootElement.GetProperty("conditions").GetProperty("clips").GetInt32().ShouldBe(3);
        json.RootElement.GetProperty("reconstruction").GetProperty("vocoders").GetArrayLength().ShouldBe(4);
        json.RootElement.GetProperty("made").EnumerateArray().Select(made => made.GetProperty("id").GetString()).ShouldBe(["clip-0", "clip-1"]);
        ClipFile.ReadRecipe(_folder.File("report/clips/clip-1.wav")).Prompt.ShouldBe("captions of nothing 1");
        File.ReadAllText(_folder.File("report/measured.md")).ShouldContain("another picture above the right one");
        File.ReadAllText(_folder.File("report/measured.md")).ShouldContain("3 clips (2 strangers each)");
        foreach (string file in new[] { "spectrograms.png", "measured.json", "conditions.csv", "conditions.json" })
        {
            new FileInfo(_folder.File("report/" + file)).Length.ShouldBeGreaterThan(0, file);
        }
    }

    [Theory]
    [InlineData("heard", "drums 1", "captions of what is heard")]
    [InlineData("all", "drums from a game 1", "all captions")]
    public void Clips_are_made_from_the_captions_that_were_asked_for(string captions, string made, string said)
    {
        WriteData("drums from a game", heard: "drums");
        var measured = Measure("--conditions", "0", "--clips", "0", "--seeds", "2", "--captions", captions);

        measured.ExitCode.ShouldBe(ExitCode.Done, measured.Error);
        ClipFile.ReadRecipe(_folder.File("report/clips/clip-1.wav")).Prompt.ShouldBe(made);
        File.ReadAllText(_folder.File("report/measured.md")).ShouldContain(said);
    }

    [Fact]
    public void What_is_measured_on_no_clip_is_left_out()
    {
        WriteData("music");
        var measured = Measure("--conditions", "0", "--clips", "1", "--seeds", "0", "--json");

        measured.ExitCode.ShouldBe(ExitCode.Done, measured.Error);
        using var json = JsonDocument.Parse(measured.Output);
        json.RootElement.GetProperty("conditions").ValueKind.ShouldBe(JsonValueKind.Null);
        json.RootElement.GetProperty("reconstruction").GetProperty("clips").GetInt32().ShouldBe(1);
        json.RootElement.GetProperty("made").GetArrayLength().ShouldBe(0);
        File.ReadAllText(_folder.File("report/measured.md")).ShouldNotContain("dBFS");
        File.Exists(_folder.File("report/spectrograms.png")).ShouldBeFalse();
        Melfusion.Here("measure", "--model", files.Model, "--conditions", "1").ShouldFailWith(ExitCode.Usage, "--conditions 1");
    }

    [Fact]
    public void Conditions_are_compared_at_the_timesteps_that_were_asked_for()
    {
        WriteData("music");
        var measured = Measure("--timesteps", "161, 961", "--clips", "0", "--seeds", "0", "--json");

        measured.ExitCode.ShouldBe(ExitCode.Done, measured.Error);
        using var json = JsonDocument.Parse(File.ReadAllText(_folder.File("report/conditions.json")));
        json.RootElement.GetProperty("by_timestep").EnumerateArray().Select(level => level.GetProperty("timestep").GetInt64()).ShouldBe([161L, 961]);
        File.ReadAllText(_folder.File("report/measured.md")).ShouldContain("at timestep 961");
    }

    [Theory]
    [InlineData("")]
    [InlineData("500,500")]
    [InlineData("500,1000")]
    [InlineData("500;700")]
    [InlineData("-1")]
    public void Timesteps_that_there_are_not_are_refused(string timesteps) =>
        Melfusion.Here("measure", "--model", files.Model, "--timesteps", timesteps).ShouldFailWith(ExitCode.Usage, "--timesteps");

    [Theory]
    [InlineData("--clips")]
    [InlineData("--seeds")]
    public void Data_without_a_clip_are_refused_whatever_else_is_left_out(string other)
    {
        WriteData("music");
        File.WriteAllText(_folder.File("data/test/table.jsonl"), JsonSerializer.Serialize(new { id = "picture", images = new[] { "picture.bmp" }, captions = new[] { "sea" } }));
        Measure("--conditions", "0", other, "0").ShouldFailWith(ExitCode.Failed, "There is no clip to measure the model on");
    }

    [Fact]
    public void Refinement_brings_both_ways_to_a_waveform_nearer_to_the_mel()
    {
        WriteData("music");
        using var model = MelFusionModel.Load(ModelFolder.Open(files.Model));

        var ways = new ModelMeasurement(model).Reconstruct([Clip(0), Clip(1)]).Vocoders;

        foreach (var vocoder in ways.GroupBy(way => way.Vocoder))
        {
            vocoder.Single(way => way.Refine > 0).LogMelL1.ShouldBeLessThan(vocoder.Single(way => way.Refine == 0).LogMelL1, vocoder.Key.ToString());
        }
    }

    [Fact]
    public void A_table_that_names_a_file_outside_its_folder_is_refused()
    {
        WriteData("music", "../../secret.png");
        Measure().ShouldFailWith(ExitCode.Failed, "line 1", "../../secret.png");
    }

    [Fact]
    public void A_report_that_cannot_be_written_is_said_before_anything_is_measured()
    {
        WriteData("music");
        File.WriteAllText(_folder.File("file"), string.Empty);
        Melfusion.Here("measure", "--model", files.Model, "--data", _folder.File("data"), "--report", _folder.File("file/report"))
            .ShouldFailWith(ExitCode.Failed, "cannot be written", "choose another --report");
    }

    [Fact]
    public void A_row_whose_name_would_lead_out_of_the_report_is_refused()
    {
        WriteData("music", prefix: "../clip");
        Measure().ShouldFailWith(ExitCode.Failed, "../clip-0");
    }

    private Ended Measure(params string[] options) =>
        Melfusion.Here(["measure", "--model", files.Model, "--data", _folder.File("data"), "--report", _folder.File("report"), .. options]);

    private HeldOutClip Clip(int i) => new($"clip-{i}", _folder.File($"data/test/{i}.wav"), _folder.File("data/test/picture.bmp"), "music");

    private void WriteData(string caption, string picture = "picture.bmp", string prefix = "clip", string? heard = null)
    {
        Directory.CreateDirectory(_folder.File("data/test"));
        File.WriteAllBytes(_folder.File("data/test/picture.bmp"), TinyModel.Picture(2));
        for (int i = 0; i < 3; i++)
        {
            int pitch = 300 + (200 * i);
            WavFile.Write(
                _folder.File($"data/test/{i}.wav"), [.. Enumerable.Range(0, 1024).Select(n => (float)(0.3 * Math.Sin(2 * Math.PI * pitch * n / 4000)))], 4000);
        }

        File.WriteAllLines(_folder.File("data/test/table.jsonl"), Enumerable.Range(0, 3).Select(i => JsonSerializer.Serialize(
            new { id = $"{prefix}-{i}", audio = $"{i}.wav", images = new[] { picture }, captions = new[] { $"{caption} {i}" }, heard_captions = heard is null ? [] : new[] { $"{heard} {i}" } })));
    }
}
