using System.Text.Json.Nodes;
using MelFusion.Tests.Support;
using MelFusion.Training;
using MelFusion.Training.Engine;
using MelFusion.Weights;
using Shouldly;
using Xunit;

namespace MelFusion.Tests.Training;

public sealed class TrainingConfigTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("melfusion-config-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void A_config_states_only_its_difference_from_its_base()
    {
        Write("base.json", """{ "stage": "mel-vae", "output": "runs/a", "steps": 7, "optimiser": { "learning_rate": 1e-3, "clip_norm": 2 } }""");
        var config = TrainingConfig.Read(Write("own.json", """{ "base": "base.json", "output": "runs/b", "optimiser": { "clip_norm": 0.5 } }"""));
        (config.Output, config.Steps, config.Optimiser.LearningRate, config.Optimiser.ClipNorm).ShouldBe(("runs/b", 7, 1e-3, 0.5));
        TrainingConfig.FromJson(config.ToJson()).ToJson().ShouldBe(config.ToJson());
    }

    [Theory]
    [InlineData("""{ "stage": "mel-vae", "output": "x", "stepps": 3 }""", "stepps")]
    [InlineData("""{ "stage": "dance", "output": "x" }""", "stage")]
    [InlineData("""{ "stage": "mel-vae", "output": "x", "batch": 3 }""", "multiple of parts")]
    [InlineData("""{ "stage": "mel-vae", "output": "x", "optimiser": { "learning_rate": -1 } }""", "learning_rate")]
    [InlineData("""{ "stage": "mel-vae", "output": "x", "parts_from": "y" }""", "parts_from")]
    [InlineData("""{ "stage": "mel-vae", "output": "x", "steps": 9, "optimiser": { "decay_steps": 8 } }""", "decay_steps")]
    [InlineData("""{ "stage": "music-ldm", "output": "x", "music_ldm": { "picture_views": 0 } }""", "picture_views")]
    [InlineData("""{ "stage": "music-ldm", "output": "x", "music_ldm": { "same_game_pictures": 1.5 } }""", "same_game_pictures")]
    [InlineData("""{ "stage": "music-ldm", "output": "x", "start_share": 1 }""", "start_share")]
    [InlineData("""{ "stage": "music-ldm", "output": "x", "start_share": 0.5 }""", "start_from")]
    [InlineData("""{ "stage": "image-ldm", "output": "x", "image_ldm": { "alignment": -1 } }""", "alignment")]
    [InlineData("""{ "stage": "music-ldm", "output": "x", "music_ldm": { "inversion_depth": 0 } }""", "inversion_depth")]
    [InlineData("""{ "stage": "music-ldm", "output": "x", "music_ldm": { "picture_noise": -1 } }""", "picture_noise")]
    [InlineData("""{ "stage": "music-ldm", "output": "x", "music_ldm": { "exchanged_details": 1.5 } }""", "exchanged_details")]
    [InlineData("""{ "stage": "music-ldm", "output": "x", "music_ldm": { "picture_blend": 11 } }""", "picture_blend")]
    [InlineData("""{ "stage": "music-ldm", "output": "x", "music_ldm": { "timestep_power": 0 } }""", "timestep_power")]
    [InlineData("""[]""", "one JSON object")]
    public void A_wrong_config_is_refused_in_one_sentence(string json, string says) =>
        Should.Throw<MelFusionException>(() => TrainingConfig.Read(Write("wrong.json", json))).Message.ShouldContain(says);

    [Fact]
    public void Every_config_of_the_repository_can_be_read()
    {
        // Those in configs itself are the paper's tables.
        string[] files = [.. Directory.GetDirectories(Path.Combine(Repository.Root, "configs")).SelectMany(folder => Directory.GetFiles(folder, "*.json"))];
        files.ShouldNotBeEmpty();
        files.Select(Read).Select(config => config.StageName).Distinct().Order().ShouldBe(["image-ldm", "image-vae", "mel-vae", "music-ldm"]);
    }

    // A model to start from is named from the repository's root.
    private TrainingConfig Read(string path) => LayeredConfig.Read(path)["start_from"] is { } start
        ? TrainingConfig.Read(Write("rooted.json", new JsonObject { ["base"] = path, ["start_from"] = Path.Combine(Repository.Root, (string)start!) }.ToJsonString()))
        : TrainingConfig.Read(path);

    [Fact]
    public void The_learning_rate_rises_then_falls_to_its_final_fraction()
    {
        double At(long step) => LearningRate.Factor(step, 100, 10, LearningRateDecay.Cosine, 0.1);
        (At(0), At(9), At(10)).ShouldBe((0.1, 1, 1));
        At(55).ShouldBe(0.55, 1e-6);
        At(100).ShouldBe(0.1, 1e-9);
    }

    [Theory]
    [InlineData(1, 0.5)]
    [InlineData(2, 2 / 3.0)]
    [InlineData(3, 0.75)]
    public void Timesteps_lie_nearer_to_noise_the_higher_their_power(double power, double mean)
    {
        long[] drawn = [.. Enumerable.Range(0, 4000).Select(sample => StepRandom.Timestep(StepRandom.Choices(3, 1, sample), 1000, power))];
        drawn.ShouldAllBe(t => t >= 0 && t < 1000);
        (drawn.Average() / 1000).ShouldBe(mean, 0.02);
    }

    [Fact]
    public void Every_pass_over_the_data_takes_every_item_once()
    {
        int[] pass = [.. Enumerable.Range(0, 10).Select(i => StepRandom.Item(3, 20 + i, 10))];
        pass.Order().ShouldBe(Enumerable.Range(0, 10));
        pass.ShouldNotBe(Enumerable.Range(0, 10).Select(i => StepRandom.Item(3, 30 + i, 10)));
    }

    private string Write(string name, string text)
    {
        string path = Path.Combine(_folder, name);
        File.WriteAllText(path, text);
        return path;
    }
}
