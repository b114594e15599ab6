using MelFusion.Noise;
using MelFusion.Weights;
using Shouldly;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace MelFusion.Tests.Noise;

public class NoiseTests
{
    [Fact]
    public void Stable_diffusions_abar_has_its_known_values()
    {
        var schedule = new NoiseSchedule(new());

        schedule.AlphaBar[499].ShouldBe(0.27767f, 1e-5f); // numpy: cumprod(1 - linspace(b0**.5, b1**.5, 1000)**2)[499]
        schedule.AlphaBar[999].ShouldBe(0.0046601f, 1e-7f);
    }

    [Theory]
    [InlineData(PredictionType.Epsilon)]
    [InlineData(PredictionType.VPrediction)]
    public void A_true_prediction_gives_back_the_clean_latent_and_the_noise(PredictionType type)
    {
        using var scope = NewDisposeScope();
        var (clean, noise) = (randn(2, 3, 4, 5), randn(2, 3, 4, 5));
        var level = NoiseLevel.Of(0.3);
        var (noisy, target) = (level.Diffuse(clean, noise), level.Target(type, clean, noise));

        (level.Clean(type, target, noisy) - clean).abs().max().item<float>().ShouldBeLessThan(1e-5f);
        (level.Noise(type, target, noisy) - noise).abs().max().item<float>().ShouldBeLessThan(1e-5f);
    }

    [Theory]
    [InlineData(PredictionType.Epsilon)]
    [InlineData(PredictionType.VPrediction)]
    public void A_step_up_and_the_same_step_down_cancel(PredictionType type)
    {
        using var scope = NewDisposeScope();
        var schedule = new NoiseSchedule(new() { PredictionType = type });
        var ddim = new DdimStep(schedule, 50);
        var (latent, noise) = (randn(1, 4, 8, 8), randn(1, 4, 8, 8));
        Tensor TruePrediction(double abar) => NoiseLevel.Of(abar).Target(type, latent, noise);
        var before = NoiseLevel.Of(schedule.AlphaBar[181]).Diffuse(latent, noise);

        var up = ddim.Up(TruePrediction(schedule.AlphaBar[181]), before, 201).Latent;
        var down = ddim.Down(TruePrediction(schedule.AlphaBar[201]), up, 201).Latent;

        (down - before).abs().max().item<float>().ShouldBeLessThan(1e-5f);
    }

    [Fact]
    public void As_many_steps_as_the_schedule_has_stay_inside_it()
    {
        var schedule = new NoiseSchedule(new() { StepsOffset = 1 });

        schedule.Timesteps(1000).ShouldBe(Enumerable.Range(0, 1000).Select(i => (long)(999 - i)));
        schedule.Timesteps(999)[0].ShouldBe(999);
        schedule.SolverTimesteps(999).Max().ShouldBe(999);
        schedule.SolverTimesteps(999).Distinct().Count().ShouldBe(999);
    }

    [Fact]
    public void The_loss_is_a_mean_over_samples_not_a_loss_of_means()
    {
        using var scope = NewDisposeScope();
        var loss = new DiffusionLoss(new NoiseSchedule(new()));
        var noise = cat([ones(1, 1, 2, 2), -ones(1, 1, 2, 2)]);

        loss.Mean(zeros_like(noise), zeros_like(noise), noise, tensor(new long[] { 1, 2 })).item<float>().ShouldBe(1f);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(-5)]
    [InlineData(1001)]
    public void Impossible_step_counts_are_refused_in_a_sentence(int steps) =>
        Should.Throw<MelFusionException>(() => new DdimStep(new NoiseSchedule(new()), steps)).Message.ShouldContain("1 to 1000");

    [Fact]
    public void A_schedulers_own_minus_infinity_is_read()
    {
        var config = ConfigFile.Parse<NoiseScheduleConfig>("""{"lambda_min_clipped": -Infinity, "name": "NaN", "prediction_type": "v_prediction"}""", "x");

        config.PredictionType.ShouldBe(PredictionType.VPrediction);
    }

    [Theory]
    [InlineData("""{"beta_schedule": "squaredcos_cap_v2"}""", "beta_schedule")]
    [InlineData("""{"beta_start": """, "JSON")]
    public void Unusable_configs_say_where(string json, string named) =>
        Should.Throw<MelFusionException>(() => ConfigFile.Parse<NoiseScheduleConfig>(json, "scheduler_config.json")).Message.ShouldContain(named);
}
