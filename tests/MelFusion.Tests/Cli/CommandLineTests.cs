using MelFusion.Cli;
using MelFusion.Cli.Commands;
using MelFusion.Tests.Support;
using Shouldly;
using Xunit;

namespace MelFusion.Tests.Cli;

public sealed class CommandLineTests
{
    [Theory]
    [InlineData("text", "generate --output a.wav")]
    [InlineData("--text", "generate --output a.wav --text ")]
    [InlineData("--text", "generate --output a.wav --text \t")]
    [InlineData("--image", "generate --output a.wav --image ")]
    [InlineData("--negative", "generate --output a.wav --text x --negative ")]
    [InlineData("--output", "generate --text x")]
    [InlineData("--output", "generate --text x --output ")]
    [InlineData(".wav", "generate --text x --output a.mp3")]
    [InlineData("--steps", "generate --text x --output a.wav --steps 0")]
    [InlineData("--steps", "generate --text x --output a.wav --steps 1001")]
    [InlineData("--steps", "generate --text x --output a.wav --steps 2.5")]
    [InlineData("--steps", "generate --text x --output a.wav --steps 99999999999999999999")]
    [InlineData("--steps", "generate --text x --output a.wav --steps")]
    [InlineData("--steps", "generate --text x --output a.wav --steps 1 --steps 2")]
    [InlineData("--guidance", "generate --text x --output a.wav --guidance NaN")]
    [InlineData("--guidance", "generate --text x --output a.wav --guidance -1")]
    [InlineData("--guidance", "generate --text x --output a.wav --guidance Infinity")]
    [InlineData("--guidance", "generate --text x --output a.wav --guidance 1,5")]
    [InlineData("--image-influence", "generate --text x --output a.wav --image-influence nan")]
    [InlineData("--image-influence", "generate --text x --output a.wav --image-influence 1.01")]
    [InlineData("--image-guidance", "generate --text x --output a.wav --image-guidance neither")]
    [InlineData("--inversion-steps", "generate --text x --output a.wav --inversion-steps -3")]
    [InlineData("--inversion-depth", "generate --text x --output a.wav --inversion-depth 0")]
    [InlineData("--candidates", "generate --text x --output a.wav --candidates 0")]
    [InlineData("--candidates", "generate --text x --output a.wav --candidates 65")]
    [InlineData("--duration", "generate --text x --output a.wav --duration 0")]
    [InlineData("--duration", "generate --text x --output a.wav --duration NaN")]
    [InlineData("--seed", "generate --text x --output a.wav --seed -1")]
    [InlineData("--seed", "generate --text x --output a.wav --seed 1e3")]
    [InlineData("--sampler", "generate --text x --output a.wav --sampler euler")]
    [InlineData("--vocoder", "generate --text x --output a.wav --vocoder world")]
    [InlineData("--refine", "generate --text x --output a.wav --refine 101")]
    [InlineData("--precision", "generate --text x --output a.wav --precision fp8")]
    [InlineData("--device", "generate --text x --output a.wav --device tpu")]
    [InlineData("--threads", "generate --text x --output a.wav --threads 0")]
    [InlineData("--threads", "generate --text x --output a.wav --threads 1000")]
    [InlineData("--stepz", "generate --text x --output a.wav --stepz 3")]
    [InlineData("--data", "generate --data d --image a.png --output a")]
    [InlineData("--text", "generate --data d --text x --output a")]
    [InlineData("--candidates", "generate --data d --candidates 2 --output a")]
    [InlineData("--split", "generate --text x --split test --output a.wav")]
    [InlineData("--captions", "generate --text x --captions all --output a.wav")]
    [InlineData("--limit", "generate --text x --limit 2 --output a.wav")]
    [InlineData("--limit", "generate --data d --limit 0 --output a")]
    [InlineData("folder", "generate --data d --output a.wav")]
    [InlineData("folder", "generate --data d")]
    [InlineData("--key-value-source", "generate --text x --output a.wav --key-value-source memory")]
    [InlineData("Required", "")]
    [InlineData("sing", "sing")]
    [InlineData("FILE", "replay ")]
    [InlineData("replay", "replay")]
    [InlineData("CONFIG", "train ")]
    public void A_command_line_that_makes_no_sense_ends_with_2_and_one_sentence(string word, string line)
    {
        var ended = Melfusion.Here(line.Length == 0 ? [] : line.Split(' '));

        ended.ShouldFailWith(ExitCode.Usage, word);
        ended.Error.TrimEnd().ShouldNotContain("\n");
        ended.Output.ShouldBeEmpty();
    }

    [Fact]
    public void A_text_of_more_than_2000_characters_is_refused_and_one_that_begins_with_an_at_sign_is_a_text()
    {
        Melfusion.Here("generate", "--output", "a.wav", "--text", new string('a', 2001)).ShouldFailWith(ExitCode.Usage, "2001", "2000");
        Melfusion.Here("generate", "--output", "absent/a.wav", "--text", "@/etc/hostname").ShouldFailWith(ExitCode.Failed, "absent");
    }

    [Fact]
    public void Output_that_cannot_be_written_is_noticed_before_the_work()
    {
        using var folder = new TemporaryFolder();
        File.WriteAllText(folder.File("there.wav"), "music");
        File.WriteAllText(folder.File("there-2.wav"), "music");
        Directory.CreateDirectory(folder.File("folder.wav"));

        Generate(folder.File("there.wav")).ShouldFailWith(ExitCode.Failed, "exists", "--overwrite");
        Generate(folder.File("there.wav"), "--candidates", "2").ShouldFailWith(ExitCode.Failed, "there-2.wav", "--overwrite");
        Generate(folder.File("folder.wav"), "--overwrite").ShouldFailWith(ExitCode.Failed, "is a folder");
        Generate(folder.File("absent/a.wav")).ShouldFailWith(ExitCode.Failed, "does not exist", "create");
        Generate(folder.File("there.wav/a.wav")).ShouldFailWith(ExitCode.Failed, "does not exist");
        Generate(folder.File(new string('n', 300) + ".wav")).ShouldFailWith(ExitCode.Failed, "cannot be written");
        if (OperatingSystem.IsLinux())
        {
            Generate("/proc/a.wav").ShouldFailWith(ExitCode.Failed, "cannot be written");
        }

        File.ReadAllText(folder.File("there.wav")).ShouldBe("music");
        Directory.GetFiles(folder.Path).Length.ShouldBe(2, "a trial file was left behind");
    }

    [Fact]
    public void A_picture_that_is_not_there_is_said_before_a_model_is_opened()
    {
        using var folder = new TemporaryFolder();
        File.WriteAllBytes(folder.File("empty.png"), []);
        string output = folder.File("a.wav");

        Melfusion.Here("generate", "--output", output, "--image", folder.File("no.jpg")).ShouldFailWith(ExitCode.Failed, "no.jpg", "no such picture");
        Melfusion.Here("generate", "--output", output, "--image", folder.Path).ShouldFailWith(ExitCode.Failed, "is a folder");
        Melfusion.Here("generate", "--output", output, "--image", folder.File("empty.png")).ShouldFailWith(ExitCode.Failed, "empty.png", "empty");
        if (OperatingSystem.IsLinux())
        {
            Melfusion.Here("generate", "--output", output, "--image", "/dev/zero").ShouldFailWith(ExitCode.Failed, "256 MB");
        }
    }

    [Fact]
    public void A_model_folder_that_is_none_is_said()
    {
        using var folder = new TemporaryFolder();

        Generate(folder.File("a.wav"), "--model", folder.File("absent")).ShouldFailWith(ExitCode.Failed, "absent", "no such model folder");
        Generate(folder.File("a.wav"), "--model", folder.Path).ShouldFailWith(ExitCode.Failed, "model_index.json");
        Directory.GetFiles(folder.Path).ShouldBeEmpty();
    }

    [Fact]
    public void Help_says_of_every_option_what_the_documentation_says()
    {
        string help = Melfusion.Here("generate", "--help").Output;

        foreach (var option in new GenerateCommand(Melfusion.SessionOf(TextWriter.Null, TextWriter.Null)).Options)
        {
            Words(help).ShouldContain(option.Name);
            Words(help).ShouldContain(Words(Documentation.Read()[option.Description!]), Case.Sensitive, option.Name);
        }

        help.ShouldNotContain("P:MelFusion");
        Melfusion.Here("--help").Output.ShouldContain("replay");
        Melfusion.Here("--help").Output.ShouldNotContain("T:MelFusion");
        Melfusion.Here("--version").Output.Trim().ShouldBe(Recipe.LibraryVersion);

        static string Words(string text) => string.Join(' ', text.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries));
    }

    [Fact]
    public void The_built_program_refuses_bad_usage_within_a_second()
    {
        // Processor time, as a second on the clock says little on a busy machine.
        var ended = Melfusion.RunTimed(out var processorTime, "generate", "--output", "a.wav");

        ended.ShouldFailWith(ExitCode.Usage, "--image", "--text");
        ended.Output.ShouldBeEmpty();
        processorTime.TotalSeconds.ShouldBeLessThan(1);
    }

    private static Ended Generate(string output, params string[] more) => Melfusion.Here(["generate", "--text", "x", "--output", output, .. more]);
}
