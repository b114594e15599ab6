using MelFusion.Training;
using MelFusion.Training.Engine;
using Shouldly;
using Xunit;

namespace MelFusion.Tests.Training;

[Collection(nameof(TrainsAlone))]
public sealed class TrainerTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("melfusion-training-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void A_run_that_was_killed_ends_with_the_same_weights_bit_for_bit()
    {
        var whole = Train(Config("whole"));
        Should.Throw<OperationCanceledException>(() => Train(Config("killed"), cancelAt: 7));
        Directory.Delete(Newest("killed"), recursive: true); // as if it had been killed before it could write: step 6 is what is left
        Path.GetFileName(Newest("killed")).ShouldBe("step-00000006");

        Train(Config("killed")).ShouldBe(whole);
        File.ReadAllLines(Path.Combine(_folder, "killed", "loss.csv")).Length.ShouldBe(1 + 12);
    }

    [Fact]
    public void A_run_that_ends_early_under_a_longer_ones_curve_goes_on_to_the_same_weights()
    {
        var whole = Train(Config("whole"));
        var early = Config("early") with { Steps = 6, Optimiser = new() { WarmupSteps = 2, DecaySteps = 12 } };
        Train(early).ShouldNotBe(whole);
        Train(early with { Steps = 12 }).ShouldBe(whole);
    }

    [Fact]
    public void Cancelling_leaves_within_one_step_and_keeps_what_was_learned()
    {
        Should.Throw<OperationCanceledException>(() => Train(Config("run"), cancelAt: 4));
        Path.GetFileName(Newest("run")).ShouldBe("step-00000005");
    }

    [Fact]
    public void The_number_of_workers_does_not_change_a_bit() =>
        Train(Config("two")).ShouldBe(Train(Config("one") with { Workers = 1 }));

    [Fact]
    public void Two_parts_are_the_mean_of_the_whole_batch()
    {
        float[] one = Train(Config("one") with { Parts = 1 }), two = Train(Config("two") with { Parts = 2 });
        one.Zip(two).Max(pair => Math.Abs(pair.First - pair.Second)).ShouldBeLessThan(1e-4f);
        one.ShouldNotBe(Train(Config("other") with { Batch = 4 }));
    }

    [Fact]
    public void A_parameter_without_gradient_is_left_alone()
    {
        using var before = new TinyStage();
        Train(Config("run"))[^6..].ShouldBe(before.Weights[^6..]);
    }

    [Fact]
    public void Other_settings_do_not_go_on_with_an_old_run()
    {
        Train(Config("run"));
        Should.Throw<MelFusionException>(() => Train(Config("run") with { Seed = 2 })).Message.ShouldContain("other settings");
    }

    [Fact]
    public void The_loss_falls_and_is_drawn()
    {
        Train(Config("run") with { Steps = 60 });
        double[] losses = Table.Read(Path.Combine(_folder, "run", "loss.csv"))["loss"];
        losses[^10..].Average().ShouldBeLessThan(losses[..10].Average() / 2);
        new FileInfo(Path.Combine(_folder, "run", "loss.png")).Length.ShouldBeGreaterThan(2000);
    }

    private TrainingConfig Config(string name) => new()
    {
        Stage = TrainingStage.MelVae,
        Output = Path.Combine(_folder, name),
        Steps = 12,
        CheckpointEvery = 3,
        ValidateEvery = 6,
        Optimiser = new() { WarmupSteps = 2 },
    };

    private string Newest(string name) => Directory.GetDirectories(Path.Combine(_folder, name, "checkpoints")).Order(StringComparer.Ordinal).Last();

    private static float[] Train(TrainingConfig config, long cancelAt = -1)
    {
        using var cancel = new CancellationTokenSource();
        using var stage = new TinyStage { OnStep = step => { if (step == cancelAt) { cancel.Cancel(); } } };
        using var pool = new WorkerPool(config.Workers, config.ThreadsPerWorker);
        using var trainer = new Trainer(config, stage, new(config.Output), pool, null);
        trainer.Run(cancel.Token);
        stage.Exported.ShouldBe(config.Model);
        return stage.Weights;
    }
}
