using System.Text.Json;
using MelFusion.Noise;
using MelFusion.Tests.Support;
using MelFusion.Weights;
using Shouldly;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace MelFusion.Tests.Noise;

/// <summary>Against the schedulers of diffusers, `schedules`.</summary>
[Trait("Category", "Parity")]
public sealed class NoiseParityTests : IDisposable
{
    private const double Tables = 1e-5, Trajectories = 1e-4;
    private readonly DisposeScope _scope = NewDisposeScope();
    private readonly Fixture _fixture = Fixture.Open("schedules");
    private readonly JsonElement _settings;

    public NoiseParityTests() =>
        _settings = JsonDocument.Parse(ConfigFile.StandardNumbers(File.ReadAllText(_fixture.File("settings.json")))).RootElement;

    public void Dispose()
    {
        _fixture.Dispose();
        _scope.Dispose();
    }

    [Theory]
    [InlineData("sd", "schedule")]
    [InlineData("audioldm", "audioldm")]
    public void Beta_and_abar_are_the_published_tables(string name, string setting)
    {
        var schedule = new NoiseSchedule(Config(_settings.GetProperty(setting)));

        tensor(schedule.Beta.ToArray()).ShouldMatch(_fixture[$"{name}.betas"], Tables);
        tensor(schedule.AlphaBar.ToArray()).ShouldMatch(_fixture[$"{name}.alphas_cumprod"], Tables);
    }

    [Fact]
    public void Min_snr_weights_fit_what_is_predicted()
    {
        var schedule = Schedule(PredictionType.Epsilon);
        var t = arange(schedule.Length);

        schedule.SignalToNoise(t).ShouldMatch(_fixture["sd.snr"], Tables);
        new DiffusionLoss(schedule, LossWeighting.MinSnr).Weight(t).ShouldMatch(_fixture["sd.weight.epsilon"], Tables);
        new DiffusionLoss(Schedule(PredictionType.VPrediction), LossWeighting.MinSnr).Weight(t).ShouldMatch(_fixture["sd.weight.v_prediction"], Tables);
    }

    [Fact]
    public void Timesteps_are_exact_under_every_rule_and_count()
    {
        var lists = _fixture.Io.Tensors.Where(entry => entry.Key.StartsWith("timesteps.", StringComparison.Ordinal)).Select(entry => entry.Key).ToList();
        lists.ShouldNotBeEmpty();
        foreach (string key in lists)
        {
            string[] parts = key.Split('.');
            var schedule = new NoiseSchedule(Rule(parts[1]));
            int steps = int.Parse(parts[2], System.Globalization.CultureInfo.InvariantCulture);
            var timesteps = parts[1].StartsWith("dpm_", StringComparison.Ordinal) ? schedule.SolverTimesteps(steps) : schedule.Timesteps(steps);

            timesteps.ShouldBe(_fixture[key].data<long>().ToArray(), key);
        }
    }

    [Fact]
    public void Every_single_step_is_that_of_the_reference()
    {
        var cases = _settings.GetProperty("steps").EnumerateObject().ToList();
        cases.ShouldNotBeEmpty();
        foreach (var step in cases)
        {
            using var scope = NewDisposeScope();
            string[] parts = step.Name.Split('.');
            var (steps, t) = (step.Value.GetProperty("N").GetInt32(), step.Value.GetProperty("t").GetInt64());
            double eta = step.Value.TryGetProperty("eta", out var value) ? value.GetDouble() : 0;

            var result = OneStep(parts[0], Prediction(parts[1]), steps, t, eta);

            result.Latent.ShouldMatch(_fixture[$"{step.Name}.prev"], Tables, step.Name);
            result.Clean.ShouldMatch(_fixture[$"{step.Name}.x0"], Tables, step.Name);
        }
    }

    [Fact]
    public void Dpm_solver_walks_the_reference_trajectories()
    {
        var runs = _settings.GetProperty("schedulers").EnumerateObject().ToList();
        runs.ShouldNotBeEmpty();
        foreach (var run in runs)
        {
            using var scope = NewDisposeScope();
            var timesteps = _fixture[$"{run.Name}.timesteps"];
            var sampler = new DpmSolverStep(new NoiseSchedule(Config(run.Value)), (int)timesteps.numel());
            sampler.Timesteps.ShouldBe(timesteps.data<long>().ToArray(), run.Name);
            tensor(sampler.Ratios.Select(ratio => (float)ratio).ToArray()).ShouldMatch(_fixture[$"{run.Name}.sigmas"], Tables, run.Name);

            var states = new List<Tensor> { _fixture["x"] };
            Tensor? clean = null;
            for (int i = 0; i < sampler.Timesteps.Count; i++)
            {
                var prediction = ((0.2 + (0.6 * sampler.Timesteps[i] / 1000)) * states[^1]) + 0.05;
                (var next, clean) = sampler.Denoise(prediction, states[^1], i, clean);
                states.Add(next);
            }

            stack(states).ShouldMatch(_fixture[$"{run.Name}.states"], Trajectories, run.Name);
        }
    }

    [Fact]
    public void Noise_is_mixed_in_after_equation_4_and_the_velocity_goes_with_it()
    {
        var (clean, noise, t) = (_fixture["q.clean"], _fixture["q.noise"], _fixture["q.timestep"]);
        var loss = new DiffusionLoss(Schedule(PredictionType.VPrediction));

        loss.Diffuse(clean, noise, t).ShouldMatch(_fixture["q.noisy"], Tables);
        loss.Target(clean, noise, t).ShouldMatch(_fixture["q.velocity"], Tables);
    }

    [Fact]
    public void Guidance_scales_and_rescales()
    {
        var (u, c) = (_fixture["guidance.uncond"], _fixture["guidance.cond"]);
        foreach (var entry in _fixture.Io.Tensors.Where(entry => entry.Key.StartsWith("guidance.scale_", StringComparison.Ordinal)))
        {
            string[] parts = entry.Key["guidance.scale_".Length..].Split(".rescale_");
            double rescale = parts.Length > 1 ? Number(parts[1]) : 0;
            Guidance.Combine(u, c, Number(parts[0]), rescale).ShouldMatch(_fixture[entry.Key], Tables, entry.Key);
        }
    }

    private Denoised OneStep(string sampler, PredictionType prediction, int steps, long t, double eta)
    {
        var (model, x, noise) = (_fixture["model"], _fixture["x"], _fixture["noise"]);
        var config = sampler switch
        {
            "ddpm" => Rule("ddpm_leading_0"),
            "ddpm_trailing" => Rule("trailing"),
            _ => Config(_settings.GetProperty("ddim")),
        };
        var schedule = new NoiseSchedule(config with { PredictionType = prediction });
        if (sampler.StartsWith("ddpm", StringComparison.Ordinal))
        {
            var ddpm = new DdpmStep(schedule, steps);
            return ddpm.Denoise(model, x, ddpm.Timesteps.ToList().IndexOf(t), noise: noise);
        }

        var ddim = new DdimStep(schedule, steps, eta);
        return sampler == "inverse" ? ddim.Up(model, x, t) : ddim.Down(model, x, t, noise);
    }

    private NoiseSchedule Schedule(PredictionType prediction) =>
        new(Config(_settings.GetProperty("schedule")) with { PredictionType = prediction });

    private NoiseScheduleConfig Rule(string name) => Config(_settings.GetProperty("schedule")) with
    {
        TimestepSpacing = name.Contains("leading", StringComparison.Ordinal) ? TimestepSpacing.Leading
            : name.Contains("trailing", StringComparison.Ordinal) ? TimestepSpacing.Trailing : TimestepSpacing.Linspace,
        StepsOffset = name.EndsWith("_1", StringComparison.Ordinal) ? 1 : 0,
        UseKarrasSigmas = name.EndsWith("karras", StringComparison.Ordinal),
    };

    private static NoiseScheduleConfig Config(JsonElement json) => ConfigFile.Parse<NoiseScheduleConfig>(json.GetRawText(), "settings.json");

    private static PredictionType Prediction(string name) => name == "epsilon" ? PredictionType.Epsilon : PredictionType.VPrediction;

    private static double Number(string text) => double.Parse(text, System.Globalization.CultureInfo.InvariantCulture);
}
