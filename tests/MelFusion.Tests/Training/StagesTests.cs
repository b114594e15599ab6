using System.Text.Json;
using MelFusion.Noise;
using MelFusion.Synapse;
using MelFusion.Tests.Support;
using MelFusion.Training;
using MelFusion.Training.Engine;
using MelFusion.UNet;
using MelFusion.Vae;
using MelFusion.Weights;
using Shouldly;
using Xunit;

namespace MelFusion.Tests.Training;

/// <summary>The four stages one after the other, on networks of a few thousand weights and a data set made here.</summary>
[Collection(nameof(TrainsAlone))]
public sealed class StagesTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("melfusion-stages-").FullName;

    public StagesTests() => TinyData.Write(In("data"), In("model"));

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void Four_stages_make_a_model_and_a_killed_music_stage_ends_bit_for_bit_the_same()
    {
        TrainingRun.Run(MelVae()).Steps.ShouldBe(3);
        TrainingRun.Run(ImageVae()).Figures.ShouldContain(figure => figure.Name == "colour_kept");
        TrainingRun.Run(ImageLdm()).Figures.ShouldAllBe(figure => double.IsFinite(figure.Value));
        var whole = TrainingRun.Run(Music("music"));

        ConfigFile.Read<AutoencoderKlConfig>(In("model/vae/config.json")).ScalingFactor.ShouldNotBe(0.18215);
        ConfigFile.Read<NoiseScheduleConfig>(In("model/scheduler/scheduler_config.json")).PredictionType.ShouldBe(PredictionType.VPrediction);
        ConfigFile.Read<SynapseConfig>(In("model/synapse/config.json")).KeyValueNormalisation.ShouldBe(KeyValueNormalisation.StandardiseByPart);
        using (var written = Safetensors.Open(In("model/synapse/model.safetensors")))
        {
            written.Contains("alpha_logit.decoder").ShouldBeTrue();
        }

        using var report = JsonDocument.Parse(File.ReadAllText(In("music/conditions.json")));
        report.RootElement.GetProperty("difference").GetProperty("shuffled_picture").GetProperty("half_interval").GetDouble().ShouldBeGreaterThanOrEqualTo(0);
        Table.Read(In("music/watched.csv"))["up_blocks.0.attentions.0"].Length.ShouldBe(3);
        whole.Figures.ShouldContain(figure => figure.Name == "shuffled_text_difference");

        var onTrain = ConditionComparison.Measure(Music("music"), "train", 2);
        (onTrain.Clips, onTrain.Loss.Count, onTrain.Difference.Count).ShouldBe((2, 10, 8));
        onTrain.ByTimestep.Select(level => level.Timestep).ShouldBe([300L, 700]);
        onTrain.ByTimestep.Average(level => level.Difference["shuffled_text"].Mean).ShouldBe(onTrain.Difference["shuffled_text"].Mean, 1e-9);
        var onlyStranger = ConditionComparison.Measure(Music("music"), "train", 2, strangers: 3);
        foreach (var (condition, loss) in onTrain.Loss)
        {
            onlyStranger.Loss[condition].ShouldBe(loss, 1e-9, $"{condition}: of two clips each has one stranger, met three times");
        }

        onTrain.Write(In("on-train.json"), In("on-train.csv"));
        File.ReadAllLines(In("on-train.csv")).Select(line => line.Split(',')[1]).ShouldBe(["timestep", "300", "700", "300", "700"]);

        byte[] expected = File.ReadAllBytes(In("model/unet/diffusion_pytorch_model.safetensors"));
        Should.Throw<OperationCanceledException>(() => Killed(Music("killed"), afterStep: 1));
        TrainingRun.Export(Music("killed")).Steps.ShouldBe(1);
        File.ReadAllBytes(In("model/unet/diffusion_pytorch_model.safetensors")).ShouldNotBe(expected);
        TrainingRun.Run(Music("killed"));
        File.ReadAllBytes(In("model/unet/diffusion_pytorch_model.safetensors")).ShouldBe(expected);

        string cache = In("cache/trajectories-train-3-views.safetensors");
        var computed = File.GetLastWriteTimeUtc(cache);
        File.SetLastWriteTimeUtc(In("model/image_unet/diffusion_pytorch_model.safetensors"), DateTime.UtcNow.AddDays(1));
        TrainingRun.Run(Music("variant") with { Model = In("variant-model"), PartsFrom = In("model") });
        File.ReadAllBytes(In("variant-model/unet/diffusion_pytorch_model.safetensors")).ShouldBe(expected, "the same config beside the same parts learns the same");
        File.GetLastWriteTimeUtc(cache).ShouldBe(computed, "weights are known by their contents, not by their time");
    }

    [Fact]
    public void A_music_stage_on_short_samples_is_a_start_for_one_on_whole_clips()
    {
        Array.ForEach([MelVae(), ImageVae(), ImageLdm()], config => TrainingRun.Run(config));
        var whole = Music("whole");
        var shorter = whole with { Output = In("short"), MusicLdm = whole.MusicLdm with { CropFrames = 4 } };

        shorter.Continues(whole).ShouldBeFalse("it is another run");
        double first = TrainingRun.Run(shorter).Loss;
        TrainingRun.Run(whole with { StartFrom = In("model") }).Loss.ShouldNotBe(first);

        var half = whole with { Output = In("half"), StartFrom = In("model"), StartShare = 0.5, Model = In("half-model"), PartsFrom = In("model") };
        TrainingRun.Run(half);
        byte[] expected = File.ReadAllBytes(In("half-model/unet/diffusion_pytorch_model.safetensors"));
        Should.Throw<OperationCanceledException>(() => Killed(half with { Output = In("killed") }, afterStep: 1));
        TrainingRun.Run(half with { Output = In("killed") });
        File.ReadAllBytes(In("half-model/unet/diffusion_pytorch_model.safetensors")).ShouldBe(expected, "the start's share outlives a kill");
        File.ReadAllBytes(In("model/unet/diffusion_pytorch_model.safetensors")).ShouldNotBe(expected);

        Should.Throw<MelFusionException>(() => TrainingRun.Run(whole with { Output = In("odd"), MusicLdm = whole.MusicLdm with { CropFrames = 3 } }))
            .Message.ShouldContain("crop_frames");
        Should.Throw<MelFusionException>(() => TrainingRun.Run(whole with { Output = In("plain"), MusicLdm = whole.MusicLdm with { Synapse = new() } }))
            .Message.ShouldContain("picture_noise");
        Should.Throw<MelFusionException>(() => TrainingRun.Run(whole with { Output = In("plain"), MusicLdm = whole.MusicLdm with { PictureNoise = 0, PictureBlend = 0, Synapse = new() } }))
            .Message.ShouldContain("exchanged_details");
    }

    [Fact]
    public void A_start_under_another_picture_network_keeps_its_alphas_and_takes_statistics_anew()
    {
        Array.ForEach([MelVae(), ImageVae(), ImageLdm(), Music("music") with { MusicLdm = Music("music").MusicLdm with { AlphaLearningRate = 0.5 } }], config => TrainingRun.Run(config));
        var further = Music("further") with { StartFrom = In("model"), Model = In("other"), PartsFrom = In("model"), Optimiser = new() { LearningRate = 1e-12, WarmupSteps = 1 } };
        further = further with { MusicLdm = further.MusicLdm with { AlphaLearningRate = 1e-12 } };
        var (start, same) = (Synapse("model"), Statistics(further));
        TrainingRun.Run(ImageLdm() with { Output = In("other-picture"), Model = In("other"), Seed = 2, Optimiser = new() { LearningRate = 0.05, WarmupSteps = 1 } });
        var another = Statistics(further with { Output = In("again") });

        same.Mean.ShouldBe(start.Mean);
        another.Mean.ShouldNotBe(start.Mean);
        another.Alphas.ShouldBe(start.Alphas, 1e-5);

        (float[] Alphas, float[] Mean) Statistics(TrainingConfig config)
        {
            TrainingRun.Run(config);
            return Synapse("other");
        }

        (float[] Alphas, float[] Mean) Synapse(string model)
        {
            using var file = Safetensors.Open(In(model + "/synapse/model.safetensors"));
            using var scope = TorchSharp.torch.NewDisposeScope();
            return ([.. file.Read("alpha_logit.decoder").data<float>()], [.. file.Read("normalisation.0.image.value_mean").reshape(-1).data<float>()]);
        }
    }

    [Fact]
    public void A_music_that_learns_of_pictures_inverted_half_way_is_measured_and_made_so()
    {
        Array.ForEach([MelVae(), ImageVae(), ImageLdm()], config => TrainingRun.Run(config));
        var half = Music("half") with { MusicLdm = Music("half").MusicLdm with { InversionSteps = 4, InversionDepth = 0.5 } };
        var whole = half with { Output = In("whole"), Model = In("whole-model"), PartsFrom = In("model"), MusicLdm = half.MusicLdm with { InversionDepth = 1 } };
        TrainingRun.Run(half);
        TrainingRun.Run(whole);

        ConfigFile.Read<ModelDefaults>(In("model/melfusion.json")).InversionDepth.ShouldBe(0.5);
        ConfigFile.Read<SynapseConfig>(In("model/synapse/config.json")).NoiseLevels.ShouldBe([1L, 251]);
        ConfigFile.Read<SynapseConfig>(In("whole-model/synapse/config.json")).NoiseLevels.ShouldBe([1L, 251, 501, 751]);
        ConditionComparison.Measure(whole with { Model = In("model"), PartsFrom = null }, "train", 2).Loss.ShouldBe(ConditionComparison.Measure(half, "train", 2).Loss, "the model's depth counts, not the config's");
    }

    [Fact]
    public void A_picture_network_that_also_learns_to_say_what_is_shown_ends_bit_for_bit_the_same_after_a_kill()
    {
        Array.ForEach([MelVae(), ImageVae()], config => TrainingRun.Run(config));
        var plain = ImageLdm();
        var aligned = plain with { Output = In("aligned"), ImageLdm = plain.ImageLdm with { Alignment = 1, AlignmentModel = Path.Combine(Repository.Root, "models", "efficientnet-lite0") } };
        TrainingRun.Run(plain).Figures.ShouldNotContain(figure => figure.Name == "alignment");
        byte[] withoutIt = File.ReadAllBytes(In("model/image_unet/diffusion_pytorch_model.safetensors"));
        var whole = TrainingRun.Run(aligned);
        byte[] expected = File.ReadAllBytes(In("model/image_unet/diffusion_pytorch_model.safetensors"));
        Should.Throw<OperationCanceledException>(() => Killed(aligned with { Output = In("killed") }, afterStep: 1));
        TrainingRun.Run(aligned with { Output = In("killed") });

        whole.Figures.Single(figure => figure.Name == "alignment").Value.ShouldBeGreaterThan(0);
        Table.Read(In("aligned/loss.csv"))["alignment"].ShouldAllBe(loss => loss > 0);
        expected.ShouldNotBe(withoutIt);
        File.ReadAllBytes(In("model/image_unet/diffusion_pytorch_model.safetensors")).ShouldBe(expected);
        Should.Throw<MelFusionException>(() => TrainingRun.Run(aligned with { Output = In("blind"), ImageLdm = aligned.ImageLdm with { AlignmentModel = In("nowhere") } }))
            .Message.ShouldContain("nowhere");
    }

    [Fact]
    public void A_missing_stage_is_named() =>
        Should.Throw<MelFusionException>(() => TrainingRun.Run(ImageLdm())).Message.ShouldContain("train the stage that makes 'image_vae' first");

    [Fact]
    public void A_missing_data_folder_is_named() =>
        Should.Throw<MelFusionException>(() => TrainingRun.Run(MelVae() with { Data = In("nowhere") })).Message.ShouldContain("melfusion data build");

    private static void Killed(TrainingConfig config, long afterStep)
    {
        using var cancel = new CancellationTokenSource();
        TrainingRun.Run(config, new AtOnce(progress =>
        {
            if (progress.Activity == "training" && progress.Step == afterStep)
            {
                cancel.Cancel();
            }
        }), cancel.Token);
    }

    private string In(string name) => Path.Combine(_folder, name);

    private TrainingConfig Base(TrainingStage stage, string output) => new()
    {
        Stage = stage, Output = In(output), Data = In("data"), Model = In("model"), Cache = In("cache"), Steps = 3, Batch = 2, CheckpointEvery = 10, ValidateEvery = 10,
        Optimiser = new() { WarmupSteps = 1 },
    };

    private TrainingConfig MelVae() => Base(TrainingStage.MelVae, "mel") with
    {
        MelVae = new()
        {
            CropFrames = 16, MelFrames = TinyData.Frames,
            Network = new() { InChannels = 1, OutChannels = 1, BlockOutChannels = [4, 8, 8], LatentChannels = 8, NormNumGroups = 4, MidBlockAddAttention = false },
        },
    };

    private TrainingConfig ImageVae() => Base(TrainingStage.ImageVae, "picture") with
    {
        ImageVae = new() { Side = 64, CropSide = 32, Network = new() { BlockOutChannels = [8, 8, 8, 8], NormNumGroups = 4, MidBlockAddAttention = false } },
    };

    private TrainingConfig ImageLdm() => Base(TrainingStage.ImageLdm, "image-ldm") with
    {
        ImageLdm = new() { Side = 64, Samples = 1, ValidationTimesteps = [300, 700], Network = UNetConfig.Tiny with { InChannels = 4, OutChannels = 4, CrossAttentionDim = 16 } },
    };

    private TrainingConfig Music(string output) => Base(TrainingStage.MusicLdm, output) with
    {
        MusicLdm = new()
        {
            Network = UNetConfig.Tiny with { CrossAttentionDim = 16 }, InversionSteps = 5, PictureViews = 3, SameGamePictures = 0.5, Samples = 1, ValidationTimesteps = [300, 700],
            PictureNoise = 0.5, PictureBlend = 0.5, ExchangedDetails = 0.5, TimestepPower = 2, Synapse = new() { KeyValueNormalisation = KeyValueNormalisation.StandardiseByPart },
        },
    };

    private sealed class AtOnce(Action<TrainingProgress> report) : IProgress<TrainingProgress>
    {
        public void Report(TrainingProgress value) => report(value);
    }
}
