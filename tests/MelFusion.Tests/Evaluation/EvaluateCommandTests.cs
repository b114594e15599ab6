using System.Text.Json;
using MelFusion.Cli;
using MelFusion.Evaluation;
using MelFusion.Evaluation.Embeddings;
using MelFusion.Wave;
using Shouldly;
using Xunit;

namespace MelFusion.Tests.Evaluation;

public sealed class EvaluateCommandTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("melfusion-evaluate").FullName;

    public void Dispose() => Directory.Delete(_folder, true);

    [Theory]
    [InlineData("--reference", "evaluate")]
    [InlineData("--generated", "evaluate --reference a")]
    [InlineData("--metrics", "evaluate --reference a --generated b --metrics fad,frechet")]
    [InlineData("--evaluator", "evaluate --reference a --generated b --evaluator mert")]
    [InlineData("--longest", "evaluate --reference a --generated b --longest NaN")]
    [InlineData("SECOND", "evaluate compare a.json")]
    public void A_command_line_that_makes_no_sense_ends_with_2_and_one_sentence(string word, string line)
    {
        var (code, _, error) = Run(line.Split(' '));

        code.ShouldBe(ExitCode.Usage);
        error.ShouldContain(word, Case.Insensitive);
        error.TrimEnd().ShouldNotContain("\n");
    }

    [Fact]
    public void A_missing_folder_is_said_in_one_sentence()
    {
        var (code, _, error) = Run("evaluate", "--reference", Path.Combine(_folder, "absent"), "--generated", _folder);

        code.ShouldBe(ExitCode.Failed);
        error.Trim().ShouldBe($"{Path.Combine(_folder, "absent")}: there is no such folder.");
    }

    [Fact]
    public void Figures_whose_weights_are_missing_are_null_with_the_reason_and_the_exit_code_is_0()
    {
        string sounds = Directory.CreateDirectory(Path.Combine(_folder, "sounds")).FullName;
        WavFile.Write(Path.Combine(sounds, "a.wav"), new float[1000], 16_000);

        var (code, output, _) = Run("evaluate", "--reference", sounds, "--generated", sounds, "--evaluator", "cnn14", "--weights", _folder, "--json", "--report", _folder);

        code.ShouldBe(ExitCode.Done);
        using var json = JsonDocument.Parse(output);
        json.RootElement.GetProperty("metrics").GetProperty("fd").GetProperty("value").ValueKind.ShouldBe(JsonValueKind.Null);
        json.RootElement.GetProperty("metrics").GetProperty("fd").GetProperty("reason").GetString()!.ShouldContain("the weights of cnn14 are missing");
        File.Exists(Path.Combine(_folder, "report.json")).ShouldBeTrue();
    }

    [Theory]
    [InlineData("--report")]
    [InlineData("--cache")]
    public void A_folder_that_cannot_be_written_is_said_before_anything_is_heard(string option)
    {
        string file = Path.Combine(_folder, "file");
        File.WriteAllText(file, string.Empty);

        var (code, _, error) = Run("evaluate", "--reference", _folder, "--generated", _folder, option, Path.Combine(file, "x"));

        code.ShouldBe(ExitCode.Failed);
        error.ShouldContain("cannot be written");
        error.ShouldContain($"choose another {option}.");
    }

    [Fact]
    public void Reports_are_compared_where_their_passports_agree()
    {
        string a = Save("a.json", new Passport { Evaluator = "musicnn", ReferenceCount = 5 }, 3);
        string b = Save("b.json", new Passport { Evaluator = "musicnn", ReferenceCount = 5 }, 4.5);
        string other = Save("c.json", new Passport { Evaluator = "vggish", ReferenceCount = 5 }, 1);

        var (code, output, _) = Run("evaluate", "compare", a, b);
        var (refused, _, error) = Run("evaluate", "compare", a, other);

        code.ShouldBe(ExitCode.Done);
        output.ShouldContain("1.5");
        output.ShouldContain("apart");
        refused.ShouldBe(ExitCode.Failed);
        error.ShouldContain("evaluator: musicnn and vggish");
    }

    private string Save(string name, Passport passport, double fad)
    {
        string path = Path.Combine(_folder, name);
        File.WriteAllText(path, new EvaluationReport
        {
            Passport = passport,
            Metrics = new Dictionary<string, MetricValue> { ["fad"] = new(fad, fad - 0.5, fad + 0.5) },
            Controls = new Dictionary<string, IReadOnlyDictionary<string, double?>?>(),
            Skipped = Array.Empty<SkippedFile>(),
        }.ToJson());
        return path;
    }

    private static (int Code, string Output, string Error) Run(params string[] args)
    {
        using var output = new StringWriter();
        using var error = new StringWriter();
        int code = Application.Run(args, new Session(Session.Open(output), Session.Open(error), () => ExitCode.Interrupted, CancellationToken.None));
        return (code, output.ToString(), error.ToString());
    }
}
