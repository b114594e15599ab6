using System.Text.Json;
using System.Text.Json.Nodes;
using MelFusion.Evaluation;
using MelFusion.Image;
using MelFusion.Synapse;
using MelFusion.Tests.Support;
using MelFusion.Training;
using MelFusion.UNet;
using MelFusion.Wave;
using MelFusion.Weights;
using MelFusion.Weights.Assembly;
using MelFusion.Weights.Hub;
using Shouldly;
using Xunit;

namespace MelFusion.Tests.Training;

/// <summary>What is done with melfusion-mini is done with a model that was put together of published files: it trains, generates and is evaluated.</summary>
[Collection(nameof(TrainsAlone))]
public sealed class AssembledModelTests : IDisposable
{
    private const int Frames = 32;

    private readonly TemporaryFolder _temporary = new();
    private readonly Fixture _fixture = Fixture.Open("end-to-end");

    public void Dispose()
    {
        _fixture.Dispose();
        _temporary.Dispose();
    }

    [Fact]
    public void It_trains_from_a_config_that_names_the_folder_alone_and_then_generates()
    {
        string model = Assemble();
        TinyData.Write(_temporary.File("data"), _temporary.File("unused"));
        byte[] alphas = File.ReadAllBytes(Path.Combine(model, "synapse", "model.safetensors"));
        byte[] weights = File.ReadAllBytes(Path.Combine(model, "unet", "diffusion_pytorch_model.safetensors"));
        var config = TrainingConfig.Read(Write("train.json", new()
        {
            ["stage"] = "music-ldm", ["start_from"] = model, ["model"] = model, ["data"] = _temporary.File("data"), ["output"] = _temporary.File("run"),
            ["steps"] = 2, ["batch"] = 2, ["optimiser"] = new JsonObject { ["warmup_steps"] = 1 },
            ["music_ldm"] = new JsonObject { ["inversion_steps"] = 3, ["samples"] = 1, ["validation_timesteps"] = new JsonArray(300, 700) },
        }));

        var result = TrainingRun.Run(config);

        result.Figures.ShouldAllBe(figure => double.IsFinite(figure.Value));
        File.ReadAllBytes(Path.Combine(model, "synapse", "model.safetensors")).ShouldNotBe(alphas);
        File.ReadAllBytes(Path.Combine(model, "unet", "diffusion_pytorch_model.safetensors")).ShouldNotBe(weights);
        using var loaded = MelFusionModel.Load(ModelFolder.Open(model), precision: Precision.Fp32);
        var clip = new MusicGenerator(loaded).Generate(
            new() { Prompt = "calm", Image = File.ReadAllBytes(_fixture.File("picture.png")), Seed = 1, Steps = 2 }).Single();
        clip.SampleRate.ShouldBe(loaded.Mel.Config.SampleRate);
        clip.Samples.ShouldAllBe(sample => float.IsFinite(sample));
    }

    [Fact]
    public void A_config_takes_from_the_folder_what_it_does_not_state_itself()
    {
        string model = Assemble();
        var folder = ModelFolder.Open(model);
        JsonObject Base() => new() { ["stage"] = "music-ldm", ["start_from"] = model, ["output"] = _temporary.File("run") };
        var stated = Base();
        stated["music_ldm"] = new JsonObject { ["schedule"] = new JsonObject { ["prediction_type"] = "epsilon" }, ["synapse"] = new JsonObject { ["where"] = "both" } };

        var taken = TrainingConfig.Read(Write("taken.json", Base()));
        var overridden = TrainingConfig.Read(Write("overridden.json", stated));

        taken.MusicLdm.Network.ShouldBeEquivalentTo(folder.Config<UNetConfig>("unet"));
        taken.MusicLdm.Schedule.ShouldBe(folder.Config<MelFusion.Noise.NoiseScheduleConfig>("scheduler"));
        taken.ImageLdm.Network.ShouldBeEquivalentTo(folder.Config<UNetConfig>("image_unet"));
        (taken.MelVae.Mel, taken.MelVae.MelFrames).ShouldBe((folder.Config<MelConfig>("mel"), Frames));
        overridden.MusicLdm.Schedule.ShouldBe(taken.MusicLdm.Schedule with { PredictionType = MelFusion.Noise.PredictionType.Epsilon });
        overridden.MusicLdm.Synapse.ShouldBeEquivalentTo(taken.MusicLdm.Synapse with { Where = SynapsePlace.Both });
        Should.Throw<MelFusionException>(() => TrainingConfig.Read(Write("lost.json", new() { ["stage"] = "music-ldm", ["output"] = "x", ["start_from"] = _temporary.File("nowhere") })))
            .Message.ShouldContain("no such folder to start from");
    }

    [Fact]
    public void A_sound_goes_through_its_autoencoder_and_vocoder_for_the_evaluation()
    {
        using var loaded = MelFusionModel.Load(ModelFolder.Open(Assemble()), precision: Precision.Fp32);
        var sound = new Waveform([[.. Enumerable.Range(0, 22050).Select(i => 0.3f * MathF.Sin(i * 0.1f))]], 22050);

        var back = new ModelReconstruction(loaded).Forward(sound);

        back.SampleRate.ShouldBe(loaded.Mel.Config.SampleRate);
        back.Duration.TotalSeconds.ShouldBe(1, 0.1);
        back.Channels.Single().ShouldAllBe(sample => float.IsFinite(sample));
    }

    private string Assemble()
    {
        string output = _temporary.File("model");
        ModelAssembler.Assemble(
            new() { Image = _fixture.File("stable-diffusion"), Music = _fixture.File("tango"), PictureSize = new PictureSize(128, 64), Output = output },
            new HubCache(_temporary.File("cache")), cancellation: TestContext.Current.CancellationToken);
        string defaults = Path.Combine(output, "melfusion.json");
        ConfigFile.Write(defaults, ConfigFile.Read<ModelDefaults>(defaults) with { MelFrames = Frames });
        return output;
    }

    private string Write(string name, JsonObject config)
    {
        string path = _temporary.File(name);
        File.WriteAllText(path, config.ToJsonString());
        return path;
    }
}
