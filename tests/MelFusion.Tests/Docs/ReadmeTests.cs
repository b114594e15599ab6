using MelFusion.Cli.Commands;
using MelFusion.Tests.Cli;
using MelFusion.Tests.Support;
using MelFusion.Weights;
using Shouldly;
using Xunit;

namespace MelFusion.Tests.Docs;

public sealed class ReadmeTests
{
    private static readonly string Readme = File.ReadAllText(Path.Combine(Repository.Root, "README.md"));

    /// <summary>The README's snippet, compiled. It needs the real model and takes as long as the main job, so it is not run here.</summary>
    internal static void Snippet()
    {
        // <snippet>
        using var model = MelFusionModel.Load(ModelFolder.Open("models/melfusion-mini"));
        var request = new MusicRequest
        {
            Image = File.ReadAllBytes("samples/harbour.jpg"),
            Prompt = "calm acoustic guitar by the sea",
            Seed = 1,
        };
        var clips = new MusicGenerator(model).Generate(request);
        ClipFile.Write(["harbour.wav"], clips);
        // </snippet>
    }

    [Fact]
    public void Its_snippet_is_the_one_that_is_compiled_here()
    {
        string source = File.ReadAllText(Path.Combine(Repository.Root, "tests", "MelFusion.Tests", "Docs", "ReadmeTests.cs"));
        string compiled = source.Split("// <snippet>\n")[1].Split("        // </snippet>")[0];

        Readme.Split("```csharp\n")[1].Split("```")[0].ShouldBe(string.Concat(compiled.Split('\n').Select(line => line.Length > 8 ? line[8..] + "\n" : string.Empty)));
    }

    [Fact]
    public void It_names_every_option_of_generate_and_every_file_it_points_to_is_there()
    {
        foreach (string option in new GenerateCommand(Melfusion.SessionOf(TextWriter.Null, TextWriter.Null)).Options.Select(option => option.Name))
        {
            Readme.ShouldContain($"`{option}", Case.Sensitive);
        }

        foreach (string target in Readme.Split("](").Skip(1).Select(rest => rest.Split(')')[0]))
        {
            File.Exists(Path.Combine(Repository.Root, target)).ShouldBeTrue(target);
        }

        Readme.Split('\n').Length.ShouldBeLessThan(100, "two screens");
    }
}
