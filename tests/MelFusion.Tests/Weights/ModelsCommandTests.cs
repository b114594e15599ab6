using System.Diagnostics;
using System.Text.Json;
using MelFusion.Cli;
using MelFusion.Tests.Support;
using MelFusion.Weights;
using Shouldly;
using Xunit;

namespace MelFusion.Tests.Weights;

public class ModelsCommandTests
{
    private static readonly string Built =
        Path.Combine(Repository.Root, "artifacts", "bin", "MelFusion.Cli", Path.GetFileName(AppContext.BaseDirectory.TrimEnd(Path.DirectorySeparatorChar)));

    [Fact]
    public void Inspect_lists_keys_types_shapes_and_metadata_as_json()
    {
        using var fixture = Fixture.Open("torch-files");
        var (code, output, _) = Run("models", "inspect", fixture.File("valid/zip-dtypes.pt"), "--json");

        code.ShouldBe(0);
        using var json = JsonDocument.Parse(output);
        using var weights = WeightsFile.Open(fixture.File("valid/zip-dtypes.pt"));
        json.RootElement.GetProperty("tensors").EnumerateArray().Select(tensor => tensor.GetProperty("key").GetString()).ShouldBe(weights.Tensors.Select(tensor => tensor.Key));
        foreach (var (listed, tensor) in json.RootElement.GetProperty("tensors").EnumerateArray().Zip(weights.Tensors))
        {
            listed.GetProperty("dtype").GetString().ShouldBe(WeightsFile.DtypeName(tensor.Dtype));
            listed.GetProperty("shape").EnumerateArray().Select(axis => axis.GetInt64()).ShouldBe(tensor.Shape);
        }

        json.RootElement.GetProperty("metadata").ValueKind.ShouldBe(JsonValueKind.Object);
    }

    [Fact]
    public void Inspect_refuses_a_hostile_file_in_one_sentence()
    {
        using var fixture = Fixture.Open("torch-files");
        var (code, output, error) = Run("models", "inspect", fixture.File("broken/hostile-os-system.pt"));

        code.ShouldBe(1);
        output.ShouldBeEmpty();
        error.Trim().Split('\n').Length.ShouldBe(1);
        error.ShouldContain("os.system");
    }

    [Fact]
    public void Inspect_needs_no_libtorch()
    {
        using var fixture = Fixture.Open("safetensors");
        using var folder = new TemporaryFolder();
        foreach (string file in Directory.GetFiles(Built, "*.dll").Append(Path.Combine(Built, "MelFusion.Cli.runtimeconfig.json")))
        {
            File.Copy(file, folder.File(Path.GetFileName(file))); // every managed file, and no native one
        }

        using var process = Process.Start(new ProcessStartInfo(Environment.ProcessPath is { } path && Path.GetFileName(path) == "dotnet" ? path : "dotnet")
        {
            ArgumentList = { folder.File("MelFusion.Cli.dll"), "models", "inspect", fixture.File("valid/metadata.safetensors"), "--json" },
            RedirectStandardOutput = true, RedirectStandardError = true,
        })!;
        string output = process.StandardOutput.ReadToEnd(), error = process.StandardError.ReadToEnd();
        process.WaitForExit();

        process.ExitCode.ShouldBe(0, error);
        output.ShouldContain("\"tensors\"");
    }

    [Theory]
    [InlineData("models", "assemble", "--music", "x", "--output", "y")]
    [InlineData("models", "assemble", "--image", "x", "--music", "x", "--output", "y", "--image-size", "512")]
    [InlineData("models", "inspect")]
    [InlineData("models", "pull")]
    public void What_the_command_line_lacks_is_a_usage_error(params string[] args) => Run(args).Code.ShouldBe(2);

    [Fact]
    public void Help_of_the_commands_is_their_documentation()
    {
        var (code, output, _) = Run("models", "pull", "--help");

        code.ShouldBe(0);
        output.ShouldContain("shell pattern");
        output.ShouldNotContain("P:MelFusion");
    }

    internal static (int Code, string Output, string Error) Run(params string[] args)
    {
        using StringWriter output = new(), error = new();
        int code = Application.Run(args, new(Session.Open(output), Session.Open(error), () => ExitCode.Interrupted, CancellationToken.None));
        return (code, output.ToString(), error.ToString());
    }
}
