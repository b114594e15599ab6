using MelFusion.Tests.Support;
using MelFusion.Vae;
using MelFusion.Weights;
using Shouldly;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace MelFusion.Tests.Vae;

public class AutoencoderKlTests
{
    [Theory, Trait("Category", "Parity")]
    [InlineData("image-vae", "config.json", "model.safetensors")]
    [InlineData("image-vae", "config-old-keys.json", "model-old-keys.safetensors")]
    [InlineData("audio-vae", "config.json", "model.safetensors")]
    [InlineData("audio-vae", "config-original.json", "model-original.safetensors")]
    public void Every_layout_gives_the_reference_latents_and_pictures(string fixtureName, string configName, string weightsName)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var fixture = Fixture.Open(fixtureName);
        var vae = Load(fixture, configName, weightsName);
        var blocks = Watch(vae, fixture);

        var (mean, logVariance) = vae.Encode(fixture["input"]);
        var decoded = vae.Decode(fixture["latent"] / vae.Config.ScalingFactor);

        foreach (var (name, output) in blocks.OrderBy(pair => pair.Key, StringComparer.Ordinal))
        {
            output.ShouldMatch(fixture[name], what: name);
        }

        mean.ShouldMatch(fixture["mean"], what: "mean");
        logVariance.ShouldMatch(fixture["logvar"], what: "logvar");
        (mean * vae.Config.ScalingFactor).ShouldMatch(fixture["latent"], what: "latent");
        decoded.ShouldMatch(fixture["decoded"], what: "decoded");
        if (fixture.Io.Contains("odd.input"))
        {
            vae.Encode(fixture["odd.input"]).Mean.ShouldMatch(fixture["odd.mean"], what: "odd.mean");
        }

        vae.PackForInference();
        vae.Encode(fixture["input"]).Mean.ShouldMatch(fixture["mean"], what: "mean, packed");
        vae.Decode(fixture["latent"] / vae.Config.ScalingFactor).ShouldMatch(fixture["decoded"], what: "decoded, packed");
    }

    [Theory]
    [InlineData(ScalarType.Float32)]
    [InlineData(ScalarType.BFloat16)]
    public void A_gradient_reaches_every_weight_in_32_bits(ScalarType precision)
    {
        using var scope = NewDisposeScope();
        var vae = new AutoencoderKl(AutoencoderKlConfig.Tiny, Placement.Cpu);
        Initialiser.Initialise(vae, new Generator(1));
        var x = torch.rand(2, 3, 16, 24).to(precision);

        var z = vae.Sample(x, torch.randn(2, 4, 4, 6).to(precision));
        var y = vae.Decode(z);
        (y - x).square().mean().backward();

        y.dtype.ShouldBe(precision);
        foreach (var (name, parameter) in vae.named_parameters())
        {
            parameter.grad.ShouldNotBeNull(name);
            parameter.grad.dtype.ShouldBe(ScalarType.Float32, name);
            parameter.grad.isfinite().all().item<bool>().ShouldBeTrue(name);
        }
    }

    [Fact]
    public void Without_attention_and_with_one_level_nothing_is_halved()
    {
        using var scope = NewDisposeScope();
        var config = AutoencoderKlConfig.Tiny with { BlockOutChannels = [8], MidBlockAddAttention = false, DownBlockTypes = null, UpBlockTypes = null };
        var vae = new AutoencoderKl(config, Placement.Meta);

        vae.named_parameters().ShouldNotContain(parameter => parameter.name.Contains("attentions"));
        var (mean, _) = vae.Encode(torch.zeros(1, 3, 10, 6, device: torch.META));
        mean.shape.ShouldBe([1, 4, 10, 6]);
        vae.Decode(mean).shape.ShouldBe([1, 3, 10, 6]);
    }

    [Fact]
    public void A_cancelled_decoding_stops_before_its_levels()
    {
        using var scope = NewDisposeScope();
        var vae = new AutoencoderKl(AutoencoderKlConfig.Tiny, Placement.Cpu);

        Should.Throw<OperationCanceledException>(() => vae.Decode(torch.zeros(1, 4, 2, 2), new CancellationToken(true)));
    }

    [Fact]
    public void Sizes_of_which_no_network_can_be_made_are_refused_by_name()
    {
        Should.Throw<MelFusionException>(() => (AutoencoderKlConfig.Tiny with { NormNumGroups = 5 }).Validate("config.json")).Message.ShouldContain("norm_num_groups");
        Should.Throw<MelFusionException>(() => (AutoencoderKlConfig.Tiny with { BlockOutChannels = [] }).Validate("config.json")).Message.ShouldContain("block_out_channels");
    }

    private static AutoencoderKl Load(Fixture fixture, string configName, string weightsName)
    {
        var vae = new AutoencoderKl(AutoencoderKlConfig.Read(fixture.File(configName)), Placement.Cpu);
        using var file = Safetensors.Open(fixture.File(weightsName));
        vae.LoadFrom(file);
        return vae;
    }

    private static Dictionary<string, Tensor> Watch(AutoencoderKl vae, Fixture fixture)
    {
        var outputs = new Dictionary<string, Tensor>();
        foreach (var (name, module) in vae.named_modules())
        {
            if (fixture.Io.Contains(name) && module is nn.Module<Tensor, Tensor> block)
            {
                block.register_forward_hook((_, _, output) => outputs.TryAdd(name, output.clone().DetachFromDisposeScope()) ? output : output);
            }
        }

        return outputs;
    }
}
