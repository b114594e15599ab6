using System.Text.Json.Nodes;
using MelFusion.Tests.Support;
using MelFusion.Wave;
using Shouldly;
using Xunit;

namespace MelFusion.Tests.Recipes;

public sealed class RecipeTests
{
    private static Recipe Example => new()
    {
        Prompt = "calm “guitar”\n<by the sea>",
        NegativePrompt = "drums",
        ImageName = "harbour picture.jpg",
        ImageSha256 = new string('a', 64),
        PictureSize = new(512, 256),
        Model = "tiny",
        WeightsSha256 = new string('0', 64),
        Seed = 12,
        Candidate = 1,
        Candidates = 3,
        Duration = 2.5,
        Sampler = SamplerKind.DpmSolver,
        Steps = 25,
        Guidance = 3.1,
        GuidanceRescale = 0.1,
        InversionSteps = 20,
        InversionDepth = 0.5,
        ImageInfluence = 0.7,
        ImageGuidance = ImageGuidance.Cond,
        KeyValueSource = KeyValueSource.Trajectory,
        Vocoder = VocoderKind.GriffinLim,
        Refine = 4,
        Precision = "fp32",
        Device = "cpu",
        Threads = 2,
        Kernels = Recipe.KernelRule,
        Processor = "avx2",
        Version = "0.1.0",
        TorchSharp = "0.107.0",
        Libtorch = "2.10.0",
    };

    [Fact]
    public void A_recipe_survives_its_wav_file()
    {
        using var folder = new TemporaryFolder();
        string path = folder.File("a.wav");
        ClipFile.Write([path], [new MusicClip([0, 0.5f, -1], 22050, Example)]);

        ClipFile.ReadRecipe(path).ShouldBe(Example);
        WavFile.Read(path).Channels[0].ShouldBe([0, 0.5f, -1]);
        Example.ToJson().ShouldNotContain("\n");
    }

    [Fact]
    public void A_recipe_that_says_no_depth_of_inversion_went_to_the_noise() =>
        Recipe.FromJson(Example.ToJson().Replace("\"inversion_depth\":0.5,", string.Empty, StringComparison.Ordinal)).ShouldBe(Example with { InversionDepth = 1 });

    [Fact]
    public void A_recipe_without_a_picture_asks_for_none()
    {
        var recipe = Recipe.FromJson((Example with { ImageName = null, ImageSha256 = null, ImageInfluence = 0 }).ToJson());

        recipe.ToRequest(null).Image.ShouldBeNull();
    }

    [Fact]
    public void A_request_of_a_recipe_states_every_default()
    {
        var request = Example.ToRequest([1]);

        request.Prompt.ShouldBe(Example.Prompt);
        request.Seed.ShouldBe(12);
        request.Candidates.ShouldBe(3);
        foreach (var property in typeof(MusicRequest).GetProperties())
        {
            property.GetValue(request).ShouldNotBeNull(property.Name);
        }
    }

    [Fact]
    public void Differences_name_the_field_and_both_values()
    {
        Example.DifferencesFrom(Example).ShouldBeEmpty();
        Example.DifferencesFrom(Example with { Threads = 1, ImageName = null }).ShouldBe(
        [
            new RecipeDifference("image_name", "\"harbour picture.jpg\"", "nothing"),
            new RecipeDifference("threads", "2", "1"),
        ]);
    }

    [Theory]
    [InlineData("format", "2", "format")]
    [InlineData("steps", "1001", "steps")]
    [InlineData("steps", "2.5", "steps")]
    [InlineData("steps", "99999999999999", "steps")]
    [InlineData("steps", "\"many\"", "steps")]
    [InlineData("steps", "null", "steps")]
    [InlineData("guidance", "1e999", "guidance")]
    [InlineData("guidance", "-1", "guidance")]
    [InlineData("image_influence", "1.5", "influence")]
    [InlineData("inversion_steps", "0", "inversion")]
    [InlineData("inversion_depth", "0", "depth")]
    [InlineData("inversion_depth", "1.01", "depth")]
    [InlineData("refine", "1000000", "refinement")]
    [InlineData("candidates", "1000000", "candidates")]
    [InlineData("candidate", "3", "candidate")]
    [InlineData("seed", "-1", "seed")]
    [InlineData("threads", "100000", "threads")]
    [InlineData("threads", "0", "threads")]
    [InlineData("duration", "0", "duration")]
    [InlineData("sampler", "\"euler\"", "sampler")]
    [InlineData("sampler", "1", "sampler")]
    [InlineData("precision", "\"int4\"", "precision")]
    [InlineData("device", "\"cuda:0\"", "device")]
    [InlineData("image_name", "\"../../etc/passwd\"", "image_name")]
    [InlineData("image_name", "\"/etc/passwd\"", "image_name")]
    [InlineData("image_name", "\"..\\\\secret\"", "image_name")]
    [InlineData("image_name", "\"..\"", "image_name")]
    [InlineData("image_name", "\"a\\u001b[2J\"", "image_name")]
    [InlineData("image_sha256", "\"xyz\"", "image_sha256")]
    [InlineData("weights_sha256", "null", "weights_sha256")]
    [InlineData("processor", "\"\\u001b[2J\"", "control")]
    [InlineData("prompt", "\"  \"", "empty")]
    [InlineData("prompt", "[[[[[[[[[[[[[]]]]]]]]]]]]]", "prompt")]
    public void A_hostile_recipe_is_refused_in_one_sentence(string field, string value, string expected)
    {
        string text = Replaced(field, value);

        string message = Should.Throw<MelFusionException>(() => Recipe.FromJson(text, "song.wav")).Message;

        message.ShouldStartWith("song.wav: ");
        message.ShouldContain(expected, Case.Insensitive);
        message.ShouldNotContain("\n");
        message.ShouldEndWith(".");
    }

    [Theory]
    [InlineData("")]
    [InlineData("null")]
    [InlineData("{}")]
    [InlineData("[]")]
    [InlineData("{\"steps\": 3")]
    [InlineData("a song I like")]
    public void What_is_no_recipe_is_refused_in_one_sentence(string text) =>
        Should.Throw<MelFusionException>(() => Recipe.FromJson(text)).Message.ShouldNotContain("\n");

    [Fact]
    public void A_text_longer_than_a_request_takes_and_an_endless_recipe_are_refused()
    {
        Should.Throw<MelFusionException>(() => Recipe.FromJson((Example with { Prompt = new string('a', 2001) }).ToJson()));
        Should.Throw<MelFusionException>(() => Recipe.FromJson(new string(' ', 1 << 20) + Example.ToJson()));
    }

    [Fact]
    public void A_file_without_a_recipe_says_so()
    {
        using var folder = new TemporaryFolder();
        WavFile.Write(folder.File("plain.wav"), [0f], 22050);
        WavFile.Write(folder.File("song.wav"), [0f], 22050, "a song I like");

        Should.Throw<MelFusionException>(() => ClipFile.ReadRecipe(folder.File("plain.wav"))).Message.ShouldContain("no recipe");
        Should.Throw<MelFusionException>(() => ClipFile.ReadRecipe(folder.File("song.wav"))).Message.ShouldContain("no recipe");
        Should.Throw<MelFusionException>(() => ClipFile.ReadRecipe(folder.File("absent.wav")));
    }

    private static string Replaced(string field, string value)
    {
        var json = JsonNode.Parse(Example.ToJson())!.AsObject();
        json[field] = "PLACE";
        return json.ToJsonString().Replace("\"PLACE\"", value, StringComparison.Ordinal);
    }
}
