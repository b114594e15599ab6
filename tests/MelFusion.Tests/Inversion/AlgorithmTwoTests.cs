using System.Text.Json;
using MelFusion.Inversion;
using MelFusion.KeyValue;
using MelFusion.Noise;
using MelFusion.Synapse;
using MelFusion.Tests.Support;
using MelFusion.UNet;
using MelFusion.Weights;
using Shouldly;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace MelFusion.Tests.Inversion;

/// <summary>The paper's Algorithm 2, `algorithm-2`: both samplers, all three sources of K^I and V^I, both ways of guidance.</summary>
[Trait("Category", "Parity")]
public sealed class AlgorithmTwoTests : IDisposable
{
    private const double Tolerance = 5e-4;
    private readonly DisposeScope _scope = NewDisposeScope();
    private readonly IDisposable _noGrad = no_grad();
    private readonly Fixture _fixture = Fixture.Open("algorithm-2");
    private readonly JsonElement _settings;
    private readonly ConditionalUNet _image = FixtureNetworks.OpenUNet("unet-image"), _music = FixtureNetworks.OpenUNet("unet-music");
    private readonly PictureNetwork _network;

    public AlgorithmTwoTests()
    {
        _settings = _fixture.Json("settings.json").RootElement;
        _network = new(_image, new(Config("image")), _fixture["image.null_text"], Placement.Cpu);
    }

    private int Steps => _settings.GetProperty("steps").GetInt32();

    public void Dispose()
    {
        _network.Dispose();
        _image.Dispose();
        _music.Dispose();
        _fixture.Dispose();
        _noGrad.Dispose();
        _scope.Dispose();
    }

    [Fact]
    public void The_picture_is_inverted_through_the_references_latents()
    {
        using var trajectory = new DdimInverter(_network.Schedule, (z, t) => _network.Predict(z, t)).Invert(_fixture["image.latent"], Steps);

        trajectory.Timesteps.ShouldBe(_fixture["inversion.timesteps"].data<long>().ToArray());
        stack(trajectory.Latents).ShouldMatch(_fixture["inversion.latents"], Tolerance);
    }

    [Fact]
    public void The_replayed_picture_passes_through_the_references_latents()
    {
        var expected = _fixture["image.replay.latents"];
        using var synapse = LoadSynapse();
        var timesteps = _network.Schedule.Timesteps(Steps);
        using var picture = (ReplayedKeyValues)PictureKeyValues.Invert(
            KeyValueSource.Replay, _network, synapse.NewRecorder(), _fixture["image.latent"], Steps, timesteps);

        picture.At(timesteps[0]);
        for (int i = 1; i < timesteps.Count; i++)
        {
            picture.At(timesteps[i]);
            picture.Latent.ShouldMatch(expected[i - 1], Tolerance, $"after step {i}");
        }
    }

    [Theory]
    [InlineData(KeyValueSource.Replay)]
    [InlineData(KeyValueSource.Recorded)]
    [InlineData(KeyValueSource.Trajectory)]
    public void Steps_noisier_than_the_inversion_went_read_the_picture_at_the_deepest_level_it_reached(KeyValueSource source)
    {
        using var synapse = LoadSynapse();
        var timesteps = _network.Schedule.Timesteps(Steps);
        var calls = new List<int>();
        using var whole = PictureKeyValues.Invert(source, _network, synapse.NewRecorder(), _fixture["image.latent"], Steps, timesteps);
        using var half = PictureKeyValues.Invert(source, _network, synapse.NewRecorder(), _fixture["image.latent"], Steps, timesteps, 0.5, calls.Add);
        var reached = timesteps.Where(t => t < _network.Schedule.Length / 2).ToList();
        using var inversion = new DdimInverter(_network.Schedule, (z, t) => _network.Predict(z, t)).Invert(_fixture["image.latent"], Steps, 0.5);
        using var atDeepest = _network.Capture(inversion.Deepest, reached[0], synapse.NewRecorder());

        calls.ShouldBe(Enumerable.Range(1, reached.Count));
        foreach (long t in timesteps)
        {
            var expected = source == KeyValueSource.Replay ? atDeepest : whole.At(Math.Min(t, reached[0]));
            if (source != KeyValueSource.Replay || t >= reached[0])
            {
                Same(half.At(t), expected).ShouldBeTrue($"at {t}");
            }
        }

        static bool Same(CapturedKeyValues one, CapturedKeyValues other) => one.Tensors.All(entry => entry.Value.equal(other.Tensors[entry.Key]).all().item<bool>());
    }

    [Theory]
    [InlineData("ddim", "replay", "both")]
    [InlineData("ddim", "replay", "cond")]
    [InlineData("ddim", "recorded", "both")]
    [InlineData("ddim", "recorded", "cond")]
    [InlineData("ddim", "trajectory", "both")]
    [InlineData("ddim", "trajectory", "cond")]
    [InlineData("ddpm", "replay", "both")]
    [InlineData("ddpm", "replay", "cond")]
    [InlineData("ddpm", "recorded", "both")]
    [InlineData("ddpm", "recorded", "cond")]
    [InlineData("ddpm", "trajectory", "both")]
    [InlineData("ddpm", "trajectory", "cond")]
    public void The_music_ends_where_the_references_ends(string sampler, string source, string guidance)
    {
        string name = $"{sampler}.{source}.{guidance}";
        using var synapse = LoadSynapse();
        // One picture per row: the unconditional rows show the same pictures as the conditional ones.
        var latents = cat([_fixture["image.latent"], _fixture["image.latent"]]);
        var timesteps = Sampler(sampler).Timesteps;
        using var picture = PictureKeyValues.Invert(
            Enum.Parse<KeyValueSource>(source, true), _network, synapse.NewRecorder(), latents, Steps, timesteps);

        var (final, seenLatents, seenGuided) = Run(sampler, new PicturePart(picture, synapse, 1, Enum.Parse<ImageGuidance>(guidance, true)));

        final.ShouldMatch(_fixture[$"{name}.final"], Tolerance, name);
        if (_fixture.Io.Contains($"{name}.latents"))
        {
            seenLatents.ShouldMatch(_fixture[$"{name}.latents"], Tolerance, $"{name}.latents");
            seenGuided.ShouldMatch(_fixture[$"{name}.guided"], Tolerance, $"{name}.guided");
        }
    }

    [Theory]
    [InlineData("ddim")]
    [InlineData("ddpm")]
    public void Without_influence_it_is_text_to_music(string sampler) =>
        Run(sampler, null).Final.ShouldMatch(_fixture[$"{sampler}.text_only.final"], Tolerance);

    private (Tensor Final, Tensor Latents, Tensor Guided) Run(string sampler, PicturePart? picture)
    {
        long prompts = _fixture["music.text"].shape[0];
        var text = new TextRows(
            cat([_fixture["music.null_text"].expand(prompts, -1, -1), _fixture["music.text"]]),
            cat([_fixture["music.null_mask"].expand(prompts, -1), _fixture["music.mask"]]));
        var (guided, latents, fresh) = (new List<Tensor>(), new List<Tensor>(), _fixture["ddpm.noise"]);
        var loop = new JointDenoising(_music, Sampler(sampler), Placement.Cpu)
        {
            Guidance = _settings.GetProperty("guidance").GetDouble(),
            FreshNoise = () => fresh[guided.Count],
            Observer = (_, prediction, latent) =>
            {
                guided.Add(prediction.clone().DetachFromDisposeScope());
                latents.Add(latent.clone().DetachFromDisposeScope());
            },
        };
        return (loop.Run(_fixture["music.noise"], text, picture), stack(latents), stack(guided));
    }

    private ISampler Sampler(string name) =>
        Samplers.Create(name == "ddim" ? SamplerKind.Ddim : SamplerKind.Ddpm, new NoiseSchedule(Config("music")), Steps);

    private VisualSynapse LoadSynapse()
    {
        var synapse = new VisualSynapse(new SynapseConfig(), _music.Config, Placement.Cpu);
        synapse.get_parameter("alpha_logit.decoder")!.copy_(_fixture["alpha_logit"]);
        return synapse;
    }

    private NoiseScheduleConfig Config(string name) =>
        ConfigFile.Parse<NoiseScheduleConfig>(_settings.GetProperty(name).GetRawText(), "settings.json");
}
