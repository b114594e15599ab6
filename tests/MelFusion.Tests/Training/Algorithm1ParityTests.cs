using System.Text.Json;
using MelFusion.Inversion;
using MelFusion.Noise;
using MelFusion.Synapse;
using MelFusion.Tests.Support;
using MelFusion.Training.Engine;
using MelFusion.Training.Stages;
using MelFusion.UNet;
using MelFusion.Weights;
using Shouldly;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;
using AdamW = MelFusion.Training.Engine.AdamW;

namespace MelFusion.Tests.Training;

/// <summary>One batch of the paper's Algorithm 1 against the reference: prediction, losses, gradients, three AdamW steps and their average.</summary>
[Trait("Category", "Parity")]
public sealed class Algorithm1ParityTests : IDisposable
{
    private static readonly string[] Losses = ["epsilon", "epsilon.snr", "v_prediction", "v_prediction.snr", "v_prediction.snr_tango"];

    private readonly DisposeScope _scope = NewDisposeScope();
    private readonly Fixture _fixture = Fixture.Open("algorithm-1");
    private readonly JsonElement _settings;
    private readonly ConditionalUNet _image = FixtureNetworks.OpenUNet("unet-image"), _music = FixtureNetworks.OpenUNet("unet-music");
    private readonly VisualSynapse _synapse;
    private readonly List<NamedParameter> _logits, _theta;

    public Algorithm1ParityTests()
    {
        _settings = _fixture.Json("settings.json").RootElement;
        _synapse = new(new(), _music.Config, Placement.Cpu);
        _logits = [.. _synapse.named_parameters().Select(p => new NamedParameter("alpha_logit", p.parameter))];
        _theta = [.. _music.named_parameters().Select(p => new NamedParameter(p.name, p.parameter))];
        using var noGrad = no_grad();
        _logits.ShouldHaveSingleItem().Value.copy_(_fixture["alpha_logit"]);
    }

    public void Dispose()
    {
        _image.Dispose();
        _music.Dispose();
        _synapse.Dispose();
        _fixture.Dispose();
        _scope.Dispose();
    }

    [Fact]
    public void Each_sample_takes_the_nearest_latent_of_its_pictures_trajectory()
    {
        long[] timesteps = Numbers<long>("trajectory.timesteps"), t = Numbers<long>("timestep");
        var trajectory = new InversionTrajectory(timesteps, [.. Enumerable.Range(0, timesteps.Length).Select(i => _fixture["trajectory.latents"][i])]);
        for (int b = 0; b < t.Length; b++)
        {
            var (timestep, latent) = trajectory.Nearest(t[b]);
            timestep.ShouldBe(Numbers<long>("image.timestep")[b]);
            latent[b].ShouldMatch(_fixture["image.noisy"][b], 0);
        }
    }

    [Fact]
    public void Prediction_targets_losses_and_gradients_are_the_references()
    {
        foreach (string name in Losses)
        {
            var loss = Loss(name);
            var prediction = Predict(loss);
            prediction.detach().ShouldMatch(_fixture["prediction"], what: "prediction");
            loss.Diffuse(_fixture["music.latent"], _fixture["noise"], _fixture["timestep"]).ShouldMatch(_fixture["music.noisy"], what: "music.noisy");
            loss.Target(_fixture["music.latent"], _fixture["noise"], _fixture["timestep"]).ShouldMatch(_fixture[name[0] == 'e' ? "target.epsilon" : "target.v_prediction"], what: "target");

            var value = Mean(loss, prediction);
            value.detach().reshape(1).ShouldMatch(_fixture["loss." + name], what: name);
            var gradients = autograd.grad([value], [.. Everything.Select(p => (Tensor)p.Value)], allow_unused: true);
            foreach (var (parameter, gradient) in Everything.Zip(gradients).Where(pair => _fixture.Io.Contains($"gradient.{name}.{pair.First.Name}")))
            {
                gradient.ShouldMatch(_fixture[$"gradient.{name}.{parameter.Name}"], what: $"gradient.{name}.{parameter.Name}");
            }

            double norm = Math.Sqrt(gradients.Skip(_logits.Count).Where(g => !g.IsInvalid).Sum(g => Math.Pow(g.norm().item<float>(), 2)));
            tensor([(float)norm]).ShouldMatch(_fixture["gradient_norm." + name], what: "norm");
        }
    }

    [Theory]
    [InlineData("epsilon")]
    [InlineData("v_prediction.snr")]
    public void Three_steps_of_AdamW_and_their_average_are_the_references(string name)
    {
        var loss = Loss(name);
        var adamw = _settings.GetProperty("adamw");
        var (alphaRate, alphaDecay) = Group(adamw.GetProperty("alpha"));
        var (thetaRate, thetaDecay) = Group(adamw.GetProperty("theta"));
        using var optimiser = new AdamW([new(_logits, alphaRate, alphaDecay), new(_theta, thetaRate, thetaDecay)], adamw.GetProperty("betas")[0].GetDouble(), adamw.GetProperty("betas")[1].GetDouble(), adamw.GetProperty("eps").GetDouble());
        using var average = new WeightAverage(Everything);
        var start = _theta.Select(p => p.Value.detach().clone()).ToList();
        var losses = new List<float>();
        for (int step = 1; step <= 3; step++)
        {
            Step(loss, optimiser, average, losses);
            if (step != 2)
            {
                Compare(name, step, alphaRate, thetaRate);
                double change = Math.Sqrt(_theta.Zip(start).Sum(pair => Math.Pow((pair.First.Value.detach() - pair.Second).norm().item<float>(), 2)));
                tensor([(float)change]).ShouldMatch(_fixture[$"after_{step}.{name}.theta_change_norm"], 1e-3, "theta_change_norm");
            }
        }

        losses.Add(Mean(loss, Predict(loss)).item<float>());
        tensor(losses.ToArray()).ShouldMatch(_fixture["losses." + name], what: "losses");
        foreach (var (parameter, value) in average.State.Where(state => _fixture.Io.Contains($"ema_3.{name}.{state.Name}")))
        {
            (value - _fixture[$"ema_3.{name}.{parameter}"]).abs().max().item<float>().ShouldBeLessThanOrEqualTo(5e-7f, "ema " + parameter);
        }
    }

    private List<NamedParameter> Everything => [.. _logits, .. _theta];

    private void Step(DiffusionLoss loss, AdamW optimiser, WeightAverage average, List<float> losses)
    {
        var value = Mean(loss, Predict(loss));
        losses.Add(value.item<float>());
        var gradients = autograd.grad([value], [.. Everything.Select(p => (Tensor)p.Value)], allow_unused: true);
        for (int i = 0; i < gradients.Count; i++)
        {
            optimiser.Step(i, gradients[i].IsInvalid ? null : gradients[i]);
            average.Update(i, _settings.GetProperty("ema_decay").GetDouble());
        }
    }

    private void Compare(string name, int step, double alphaRate, double thetaRate)
    {
        foreach (var parameter in Everything.Where(p => _fixture.Io.Contains($"after_{step}.{name}.{p.Name}")))
        {
            double rate = parameter.Name == "alpha_logit" ? alphaRate : thetaRate;
            double difference = (parameter.Value.detach() - _fixture[$"after_{step}.{name}.{parameter.Name}"]).square().mean().sqrt().item<float>();
            difference.ShouldBeLessThanOrEqualTo((step == 1 ? 1e-3 : 1e-2) * rate, $"{parameter.Name} after step {step}");
        }
    }

    private Tensor Predict(DiffusionLoss loss)
    {
        var objective = new MusicObjective(_music, _synapse, _image, _fixture["image.null_text"], loss, ScalarType.Float32);
        long[] t = Numbers<long>("image.timestep");
        var pictures = t.Select((timestep, b) => ((Tensor, long)?)(_fixture["image.noisy"][b], timestep)).ToList();
        var noisy = loss.Diffuse(_fixture["music.latent"], _fixture["noise"], _fixture["timestep"]);
        return objective.Predict(noisy, _fixture["timestep"], _fixture["music.text"], _fixture["music.mask"], pictures);
    }

    private Tensor Mean(DiffusionLoss loss, Tensor prediction) => loss.Mean(prediction, _fixture["music.latent"], _fixture["noise"], _fixture["timestep"]);

    private DiffusionLoss Loss(string name)
    {
        var schedule = ConfigFile.Parse<NoiseScheduleConfig>(_settings.GetProperty("schedule").GetRawText(), "schedule");
        var type = name[0] == 'e' ? PredictionType.Epsilon : PredictionType.VPrediction;
        var weighting = name.EndsWith(".snr_tango", StringComparison.Ordinal) ? LossWeighting.MinSnrTango : name.EndsWith(".snr", StringComparison.Ordinal) ? LossWeighting.MinSnr : LossWeighting.None;
        return new(new(schedule with { PredictionType = type }), weighting, _settings.GetProperty("snr_gamma").GetDouble());
    }

    private T[] Numbers<T>(string name) where T : unmanaged => _fixture[name].data<T>().ToArray();

    private static (double Rate, double Decay) Group(JsonElement group) => (group.GetProperty("lr").GetDouble(), group.GetProperty("weight_decay").GetDouble());
}
