using System.Buffers.Binary;
using System.Diagnostics;
using System.Globalization;
using System.IO.Compression;
using System.Text.Json;
using System.Text.Json.Nodes;
using MelFusion.Cli;
using MelFusion.Tests.Support;
using MelFusion.Wave;
using MelFusion.Weights;
using Shouldly;
using Xunit;

namespace MelFusion.Tests.Cli;

/// <summary>A tiny model and a picture that the tests of a class share.</summary>
public sealed class TinyFiles : IDisposable
{
    private readonly TinyModel _model = new();
    private readonly TemporaryFolder _folder = new();

    public TinyFiles() => File.WriteAllBytes(Picture, TinyModel.Picture(1));

    public string Model => _model.Path;

    public string Picture => _folder.File("picture.bmp");

    public void Dispose()
    {
        _model.Dispose();
        _folder.Dispose();
    }
}

public sealed class GenerateTests(TinyFiles files) : IClassFixture<TinyFiles>, IDisposable
{
    private readonly TemporaryFolder _folder = new();

    private string Output => _folder.File("a.wav");

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void The_built_program_makes_music_of_a_picture_and_a_text_tells_how_far_it_is_and_makes_it_again_bit_for_bit()
    {
        File.Copy(files.Picture, _folder.File("picture.bmp"));
        var made = Melfusion.Run(
            "generate", "--image", _folder.File("picture.bmp"), "--text", "calm guitar", "--output", Output, "--model", files.Model, "--seed", "5", "--json");

        made.ExitCode.ShouldBe(ExitCode.Done, made.Error);
        made.Output.TrimEnd().ShouldNotContain("\n", Case.Sensitive, "standard output has one line for scripts");
        using var json = JsonDocument.Parse(made.Output);
        json.RootElement.GetProperty("files")[0].GetString().ShouldBe(Output);
        json.RootElement.GetProperty("seed").GetInt64().ShouldBe(5);
        json.RootElement.GetProperty("sample_rate").GetInt32().ShouldBe(4000);
        json.RootElement.GetProperty("recipe").GetProperty("prompt").GetString().ShouldBe("calm guitar");
        foreach (string stage in new[] { "Reading the picture", "Inverting the picture, step 1 of 4", "Denoising, step 1 of 4", "Decoding" })
        {
            made.Error.ShouldContain(stage);
        }

        made.Error.ShouldNotContain("NNPACK", Case.Sensitive, "libtorch's own warnings are not for people who watch the progress");

        var recipe = ClipFile.ReadRecipe(Output);
        recipe.ImageName.ShouldBe("picture.bmp");
        recipe.Seed.ShouldBe(5);
        WavFile.ReadInfo(Output).Frames.ShouldBeGreaterThan(0);

        var again = Melfusion.Run("replay", Output, "--model", files.Model, "--output", _folder.File("again.wav"));
        again.ExitCode.ShouldBe(ExitCode.Done, again.Error);
        again.Output.ShouldContain("equal bit for bit");
        File.ReadAllBytes(_folder.File("again.wav")).ShouldBe(File.ReadAllBytes(Output));
    }

    [Theory]
    [InlineData("INT", ExitCode.Interrupted)]
    [InlineData("TERM", ExitCode.Terminated)]
    public void A_signal_ends_it_soon_and_leaves_nothing(string signal, int exitCode)
    {
        Assert.SkipUnless(OperatingSystem.IsLinux() || OperatingSystem.IsMacOS(), "Signals are sent with kill.");
        using var process = Melfusion.Start("generate", "--text", "x", "--output", Output, "--model", files.Model, "--steps", "1000", "--candidates", "8");
        for (string? line = string.Empty; line is not null && !line.StartsWith("Denoising", StringComparison.Ordinal); line = process.StandardOutput.ReadLine())
        {
        }

        process.HasExited.ShouldBeFalse();
        long sent = Stopwatch.GetTimestamp();
        using (var kill = Process.Start("kill", ["-" + signal, process.Id.ToString(CultureInfo.InvariantCulture)]))
        {
            kill.WaitForExit();
        }

        var ended = Melfusion.End(process, sent);
        ended.ExitCode.ShouldBe(exitCode, ended.Error);
        ended.Error.Trim().ShouldBe("Stopped.");
        ended.Elapsed.TotalSeconds.ShouldBeLessThan(30, "a step of the tiny model takes milliseconds, a busy machine included");
        Directory.GetFiles(_folder.Path).ShouldBeEmpty();
    }

    [Fact]
    public void A_terminal_sees_a_bar_of_every_stage_and_is_left_clean()
    {
        var made = Melfusion.RunOnTerminal(
            "generate", "--image", files.Picture, "--text", "it's calm", "--output", Output, "--model", files.Model, "--seed", "5");

        made.ExitCode.ShouldBe(ExitCode.Done, made.Output);
        File.Exists(Output).ShouldBeTrue();
        foreach (string shown in new[] { "Reading the picture", "Inverting the picture", "Denoising, step 1 of 4", "Decoding", "100%", "left)", "\x1b[" })
        {
            made.Output.ShouldContain(shown);
        }

        made.Output.LastIndexOf("\x1b[?25h", StringComparison.Ordinal)
            .ShouldBeGreaterThan(made.Output.LastIndexOf("\x1b[?25l", StringComparison.Ordinal), "the cursor is shown again");
    }

    [Fact]
    public void Candidates_have_numbers_and_seeds_that_follow_one_another_and_each_is_made_again_from_its_own_file()
    {
        Generate("--candidates", "3", "--seed", "7").ExitCode.ShouldBe(ExitCode.Done);

        Directory.GetFiles(_folder.Path).Select(Path.GetFileName).Order().ShouldBe(["a-1.wav", "a-2.wav", "a-3.wav"]);
        var recipe = ClipFile.ReadRecipe(_folder.File("a-2.wav"));
        (recipe.Seed, recipe.Candidate, recipe.Candidates).ShouldBe((7, 1, 3));
        Melfusion.Here("replay", _folder.File("a-2.wav"), "--model", files.Model).Output.ShouldContain("equal bit for bit");
    }

    [Fact]
    public void An_existing_file_is_replaced_only_when_that_is_asked_for_and_a_drawn_seed_is_said()
    {
        var first = Generate();
        first.ExitCode.ShouldBe(ExitCode.Done, first.Error);
        byte[] bytes = File.ReadAllBytes(Output);
        first.Output.ShouldContain($"Seed {ClipFile.ReadRecipe(Output).Seed} ");

        Generate("--seed", "1").ShouldFailWith(ExitCode.Failed, "exists already", "--overwrite");
        File.ReadAllBytes(Output).ShouldBe(bytes);

        Generate("--seed", "1", "--overwrite").ExitCode.ShouldBe(ExitCode.Done);
        File.ReadAllBytes(Output).ShouldNotBe(bytes);
    }

    [Fact]
    public void A_data_sets_split_is_made_row_by_row_kept_when_asked_again_and_refused_where_a_row_escapes()
    {
        Directory.CreateDirectory(_folder.File("data/test/images"));
        File.Copy(files.Picture, _folder.File("data/test/images/p.bmp"));
        string Row(string id, string picture) => $$"""{"id":"{{id}}","audio":"audio/{{id}}.wav","images":["{{picture}}"],"captions":["calm guitar","music"],"more":1}""";
        string table = _folder.File("data/test/table.jsonl"), output = _folder.File("out");
        File.WriteAllLines(table, [Row("one", "images/p.bmp"), Row("two", "images/p.bmp"), Row("three", "images/p.bmp"), """{"id":"four","captions":["loud drums of a game"],"heard_captions":["loud drums"]}"""]);

        var some = Melfusion.Here("generate", "--data", _folder.File("data"), "--output", output, "--model", files.Model, "--limit", "2", "--json");
        some.ExitCode.ShouldBe(ExitCode.Done, some.Error);
        JsonNode.Parse(some.Output)!["made"]!.GetValue<int>().ShouldBe(2);
        Directory.GetFiles(output).Select(Path.GetFileName).ShouldBe(["one.wav", "three.wav"], ignoreOrder: true);
        some.Error.ShouldContain("Clip 1 of 2");
        var all = Generate("--split", "test", "--key-value-source", "replay");
        all.ShouldFailWith(ExitCode.Failed, "key_value_source", "--overwrite");
        all = Generate();
        all.ExitCode.ShouldBe(ExitCode.Done, all.Error);
        all.Output.ShouldContain("2 clips made, 2 kept from before, seed 0");
        ClipFile.ReadRecipe(Path.Combine(output, "four.wav")).Prompt.ShouldBe("loud drums");
        ClipFile.ReadRecipe(Path.Combine(output, "one.wav")).Prompt.ShouldBe("calm guitar");
        Generate("--captions", "all").ShouldFailWith(ExitCode.Failed, "four.wav", "prompt", "--overwrite");

        foreach (string wrong in new[] { Row("../five", "images/p.bmp"), Row("five", "../../picture.bmp"), Row("five", "images/no.bmp"), "{\"id\":null}", "{\"id\":\"five\",\"images\":null,\"captions\":null}", "no row" })
        {
            File.WriteAllLines(table, [wrong]);
            Generate().ShouldFailWith(ExitCode.Failed);
        }

        Generate("--split", "absent").ShouldFailWith(ExitCode.Failed, "absent");
        Directory.GetFiles(_folder.Path).ShouldBeEmpty();

        Ended Generate(params string[] more) => Melfusion.Here(["generate", "--data", _folder.File("data"), "--output", output, "--model", files.Model, .. more]);
    }

    [Fact]
    public void A_text_beyond_the_encoders_tokens_is_cut_and_that_is_said()
    {
        var ended = Melfusion.Here("generate", "--text", string.Join(' ', Enumerable.Repeat("a", 600)), "--output", Output, "--model", files.Model);

        ended.ExitCode.ShouldBe(ExitCode.Done, ended.Error);
        ended.Output.ShouldContain("left out");
    }

    [Fact]
    public void A_duration_beyond_the_training_is_refused_with_the_limit_and_a_device_that_is_not_there_in_one_sentence()
    {
        Generate("--duration", "100").ShouldFailWith(ExitCode.Failed, "100", "at most");
        Generate("--device", "cuda").ShouldFailWith(ExitCode.Failed, "CUDA", "--device cpu");
        Directory.GetFiles(_folder.Path).ShouldBeEmpty();
        Generate("--duration", "0.1").ExitCode.ShouldBe(ExitCode.Done);
        WavFile.ReadInfo(Output).Frames.ShouldBe(400);
    }

    [Fact]
    public void A_picture_that_is_none_is_refused_in_one_sentence()
    {
        byte[] real = File.ReadAllBytes(Path.Combine(Repository.Root, "samples", "harbour.jpg"));
        Picture("text.png", "This is a text."u8.ToArray());
        Picture("cut.jpg", real[..200]);
        Picture("cut.bmp", TinyModel.Picture(1)[..40]);
        Picture("magic.png", [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]);
        Directory.GetFiles(_folder.Path, "*.wav").ShouldBeEmpty();

        void Picture(string name, byte[] bytes)
        {
            File.WriteAllBytes(_folder.File(name), bytes);
            Melfusion.Here("generate", "--image", _folder.File(name), "--output", Output, "--model", files.Model).ShouldFailWith(ExitCode.Failed, "picture");
        }
    }

    [Fact]
    public void A_picture_of_100000_by_100000_pixels_takes_no_memory()
    {
        File.WriteAllBytes(_folder.File("huge.png"), Png(100_000, 100_000));
        using var process = Melfusion.Start("generate", "--image", _folder.File("huge.png"), "--output", Output, "--model", files.Model);

        long most = 0;
        while (!process.WaitForExit(2))
        {
            most = Math.Max(most, Resident(process));
        }

        Melfusion.End(process, Stopwatch.GetTimestamp()).ShouldFailWith(ExitCode.Failed, "picture");
        most.ShouldBeLessThan(1L << 30);
    }

    // The process may end between the question and the answer.
    private static long Resident(Process process)
    {
        try
        {
            process.Refresh();
            return process.WorkingSet64;
        }
        catch (InvalidOperationException)
        {
            return 0;
        }
    }

    [Fact]
    public void A_model_folder_with_a_fault_is_refused_with_the_fault()
    {
        Fault(folder => File.Delete(Path.Combine(folder, "vae", "config.json")), "vae", "config.json", "missing");
        Fault(folder => File.Delete(Path.Combine(folder, "unet", "diffusion_pytorch_model.safetensors")), "unet", "no weights");
        Fault(folder => Directory.Delete(Path.Combine(folder, "vocoder"), true), "vocoder");
        Fault(folder => File.WriteAllText(Path.Combine(folder, "unet", "config.json"), "{"), "unet", "config.json");
        Fault(folder => File.WriteAllText(Path.Combine(folder, "melfusion.json"), "{\"steps\": 1000000}"), "steps");
        Fault(folder => Reweigh(folder, (name, tensor) => name.EndsWith("conv_in.weight", StringComparison.Ordinal) ? (name, tensor[..1]) : (name, tensor)), "conv_in.weight");
        Fault(folder => Reweigh(folder, (name, tensor) => (name.Replace("conv_in.weight", "conv_on.weight", StringComparison.Ordinal), tensor)), "conv_in.weight", "missing");
        Directory.GetFiles(_folder.Path).ShouldBeEmpty();

        void Fault(Action<string> make, params string[] words)
        {
            using var folder = new TemporaryFolder();
            Copy(files.Model, folder.Path);
            make(folder.Path);
            Melfusion.Here("generate", "--text", "x", "--output", Output, "--model", folder.Path).ShouldFailWith(ExitCode.Failed, words);
        }

        static void Reweigh(string folder, Func<string, TorchSharp.torch.Tensor, (string, TorchSharp.torch.Tensor)> change)
        {
            using var scope = TorchSharp.torch.NewDisposeScope();
            string path = Path.Combine(folder, "unet", "diffusion_pytorch_model.safetensors");
            Dictionary<string, TorchSharp.torch.Tensor> tensors;
            using (var file = Safetensors.Open(path))
            {
                tensors = file.Tensors.Select(entry => change(entry.Key, file.Read(entry.Key))).ToDictionary(pair => pair.Item1, pair => pair.Item2);
            }

            Safetensors.Write(path, tensors);
        }
    }

    [Fact]
    public void Replay_says_exactly_what_differs()
    {
        string picture = _folder.File("p.bmp");
        File.Copy(files.Picture, picture);
        Melfusion.Here("generate", "--image", picture, "--output", Output, "--model", files.Model, "--seed", "3").ExitCode.ShouldBe(ExitCode.Done);
        byte[] original = File.ReadAllBytes(Output);

        byte[] touched = [.. original];
        touched[^20] ^= 4;
        File.WriteAllBytes(Output, touched);
        var ended = Replay();
        ended.ExitCode.ShouldBe(ExitCode.Failed);
        long frames = WavFile.ReadInfo(Output).Frames;
        ended.Output.ShouldContain(Text($"first sample that differs: {frames - 10}; largest difference: 4 of 32768"));

        Rewrite(recipe => recipe with { Steps = 3, Processor = "abacus", Version = "0.0.1" });
        ended = Replay("--json");
        ended.ExitCode.ShouldBe(ExitCode.Failed);
        ended.Error.ShouldContain("processor: \"abacus\" in the recipe");
        var json = JsonNode.Parse(ended.Output)!;
        json["equal"]!.GetValue<bool>().ShouldBeFalse();
        json["fields"]!.AsArray().Select(field => (string)field!["name"]!).ShouldBe(["processor", "version"], ignoreOrder: true);
        json["largest_difference"]!.GetValue<int>().ShouldBeGreaterThan(0);

        File.WriteAllBytes(Output, original);
        File.Move(picture, _folder.File("q.bmp"));
        Replay().ShouldFailWith(ExitCode.Failed, "p.bmp", "--image");
        Replay("--image", _folder.File("q.bmp")).Output.ShouldContain("equal bit for bit");
        File.WriteAllBytes(picture, TinyModel.Picture(2));
        Replay().ShouldFailWith(ExitCode.Failed, "not the picture", "--image");

        Ended Replay(params string[] more) => Melfusion.Here(["replay", Output, "--model", files.Model, .. more]);

        void Rewrite(Func<Recipe, Recipe> change) =>
            WavFile.Write(Output, WavFile.Read(Output).Channels[0], 4000, change(ClipFile.ReadRecipe(Output)).ToJson());

        static string Text(FormattableString text) => FormattableString.Invariant(text);
    }

    [Fact]
    public void A_hostile_recipe_is_refused_and_no_path_in_it_is_followed()
    {
        foreach (string recipe in new[] { "{}", "[]", "{\"steps\":1e99}", new string('[', 10_000), "{\"format\":1,\"image_name\":\"../../etc/passwd\"}", "no recipe" })
        {
            WavFile.Write(Output, [0f, 0.5f], 4000, recipe);
            Melfusion.Here("replay", Output, "--model", files.Model).ShouldFailWith(ExitCode.Failed, "recipe");
        }

        File.WriteAllText(Output, "no wav");
        Melfusion.Here("replay", Output).ShouldFailWith(ExitCode.Failed, "WAV");
        Melfusion.Here("replay", _folder.File("absent.wav")).ShouldFailWith(ExitCode.Failed, "absent.wav");
    }

    private Ended Generate(params string[] more) => Melfusion.Here(["generate", "--text", "x", "--output", Output, "--model", files.Model, .. more]);

    private static void Copy(string from, string to)
    {
        foreach (string file in Directory.EnumerateFiles(from, "*", SearchOption.AllDirectories))
        {
            string target = Path.Combine(to, Path.GetRelativePath(from, file));
            Directory.CreateDirectory(Path.GetDirectoryName(target)!);
            File.Copy(file, target);
        }
    }

    /// <summary>A valid PNG head of any size with the first of its rows.</summary>
    private static byte[] Png(int width, int height)
    {
        using var file = new MemoryStream();
        file.Write([0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]);
        byte[] header = new byte[13];
        BinaryPrimitives.WriteInt32BigEndian(header, width);
        BinaryPrimitives.WriteInt32BigEndian(header.AsSpan(4), height);
        (header[8], header[9]) = (8, 2);
        Chunk("IHDR"u8, header);
        using (var rows = new MemoryStream())
        {
            using (var packed = new ZLibStream(rows, CompressionLevel.Optimal, true))
            {
                packed.Write(new byte[1 + (3 * width)]);
            }

            Chunk("IDAT"u8, rows.ToArray());
        }

        Chunk("IEND"u8, []);
        return file.ToArray();

        void Chunk(ReadOnlySpan<byte> type, byte[] body)
        {
            byte[] number = new byte[4];
            BinaryPrimitives.WriteInt32BigEndian(number, body.Length);
            file.Write(number);
            byte[] whole = [.. type, .. body];
            file.Write(whole);
            BinaryPrimitives.WriteUInt32BigEndian(number, Crc(whole));
            file.Write(number);
        }

        static uint Crc(byte[] bytes)
        {
            uint crc = uint.MaxValue;
            foreach (byte value in bytes)
            {
                crc ^= value;
                for (int bit = 0; bit < 8; bit++)
                {
                    crc = (crc & 1) != 0 ? (crc >> 1) ^ 0xEDB88320 : crc >> 1;
                }
            }

            return ~crc;
        }
    }
}
