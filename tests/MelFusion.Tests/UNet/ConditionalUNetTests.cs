using MelFusion.KeyValue;
using MelFusion.Tests.Support;
using MelFusion.UNet;
using MelFusion.Weights;
using Shouldly;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace MelFusion.Tests.UNet;

public class ConditionalUNetTests
{
    private const double OutputTolerance = 3e-5, IntermediateTolerance = 1e-4;

    [Theory]
    [InlineData("unet-image")]
    [InlineData("unet-image-sd15")]
    [InlineData("unet-music")]
    [Trait("Category", "Parity")]
    public void It_predicts_what_the_reference_predicts(string name)
    {
        using var scope = NewDisposeScope();
        using var fixture = Fixture.Open(name);
        using var noGrad = no_grad();
        var unet = Load(fixture);
        var (sample, timestep, text) = (fixture["sample"], fixture["timestep"], fixture["text"]);

        unet.Forward(sample, timestep, text).ShouldMatch(fixture["output"], OutputTolerance, "output");
        unet.Forward(sample, timestep, text, fixture["text_mask"]).ShouldMatch(fixture["output.masked"], OutputTolerance, "output.masked");
        unet.Forward(fixture["odd.sample"], fixture["odd.timestep"], fixture["odd.text"]).ShouldMatch(fixture["odd.output"], OutputTolerance, "odd.output");
    }

    [Theory]
    [InlineData("unet-image", false)]
    [InlineData("unet-image-sd15", false)]
    [InlineData("unet-music", true)]
    [Trait("Category", "Parity")]
    public void Every_part_of_it_gives_what_the_reference_gives(string name, bool masked)
    {
        using var scope = NewDisposeScope();
        using var fixture = Fixture.Open(name);
        using var noGrad = no_grad();
        var unet = Load(fixture);
        var seen = new Seen();
        unet.Observer = seen.See;

        unet.Forward(fixture["sample"], fixture["timestep"], fixture["text"], masked ? fixture["text_mask"] : null, seen);

        var expected = fixture.Io.Tensors.Select(entry => entry.Key)
            .Where(key => key.Contains("block", StringComparison.Ordinal) || key is "time_embedding" or "conv_in")
            .Where(key => !key.EndsWith(".hidden", StringComparison.Ordinal)).ToList();
        expected.Count.ShouldBeGreaterThan(10);
        foreach (string key in expected)
        {
            seen.Tensors.ShouldContainKey(key);
            seen.Tensors[key].ShouldMatch(fixture[key], IntermediateTolerance, key);
        }
    }

    [Fact]
    public void Gradients_and_dispose_scopes_do_not_change_the_prediction()
    {
        using var scope = NewDisposeScope();
        var unet = Tiny();
        var (sample, timestep, text, mask) = Inputs(unet.Config);

        var trained = unet.Forward(sample, timestep, text, mask);
        trained.square().mean().backward();
        using var noGrad = no_grad();
        var inferred = unet.Forward(sample, timestep, text, mask);

        inferred.ShouldMatch(trained, 1e-6);
        foreach (var (name, parameter) in unet.named_parameters())
        {
            parameter.grad.ShouldNotBeNull(name);
            parameter.grad.isfinite().all().item<bool>().ShouldBeTrue(name);
        }
    }

    [Fact]
    public void A_call_leaves_no_tensor_behind_but_its_result()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var unet = Tiny();
        var (sample, timestep, text, mask) = Inputs(unet.Config);
        using var first = unet.Forward(sample, timestep, text, mask);
        long before = DisposeScopeManager.Statistics.ThreadTotalLiveCount;

        using (unet.Forward(sample, timestep, text, mask))
        {
            DisposeScopeManager.Statistics.ThreadTotalLiveCount.ShouldBe(before + 1);
        }
    }

    [Fact]
    public void The_sample_decides_the_precision()
    {
        using var scope = NewDisposeScope();
        var unet = Tiny();
        var (sample, timestep, text, mask) = Inputs(unet.Config);

        var y = unet.Forward(sample.bfloat16(), timestep, text, mask);
        y.to(ScalarType.Float32).square().mean().backward();

        y.dtype.ShouldBe(ScalarType.BFloat16);
        y.to(ScalarType.Float32).ShouldMatch(unet.Forward(sample, timestep, text, mask), 0.05);
        unet.named_parameters().All(p => p.parameter.grad!.dtype == ScalarType.Float32).ShouldBeTrue();
    }

    [Fact]
    public void Text_that_was_projected_before_gives_the_same_prediction()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var unet = Tiny();
        var (sample, timestep, text, mask) = Inputs(unet.Config);
        using var projected = unet.ProjectText(text);

        var y = unet.Forward(sample, timestep, text, mask, textKeyValues: projected);

        y.Equals(unet.Forward(sample, timestep, text, mask)).ShouldBeTrue();
    }

    [Fact]
    public void Packed_weights_change_nothing_but_rounding()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var unet = Tiny();
        var (sample, timestep, text, mask) = Inputs(unet.Config);
        var plain = unet.Forward(sample, timestep, text, mask);

        unet.PackForInference().Forward(sample, timestep, text, mask).ShouldMatch(plain, 1e-5);
    }

    [Fact]
    public void One_text_serves_every_sample_of_a_batch()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var unet = Tiny();
        var (sample, timestep, text, mask) = Inputs(unet.Config);

        var y = unet.Forward(sample, timestep, text[..1], mask[..1]);

        y.ShouldMatch(unet.Forward(sample, timestep, text[..1].expand(2, -1, -1), mask[..1].expand(2, -1)), 1e-6);
    }

    [Fact]
    public void Capturing_stops_early_and_gives_the_keys_and_values_of_a_whole_call()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var unet = Tiny();
        var (sample, timestep, text, mask) = Inputs(unet.Config);
        foreach (var layers in new[] { unet.Config.DecoderLayers, unet.Config.EncoderLayers })
        {
            var recorder = new KeyValueRecorder(layers);
            unet.Forward(sample, timestep, text, mask, recorder);
            using var whole = recorder.Take();
            using var captured = unet.Capture(sample, timestep, text, recorder, mask);

            captured.KeyValues.Keys.ShouldBe(layers.Select(layer => layer.Name), ignoreOrder: true);
            foreach (var (layer, kept) in captured.KeyValues)
            {
                kept.Keys.Equals(whole.KeyValues[layer].Keys).ShouldBeTrue(layer);
                kept.Values.Equals(whole.KeyValues[layer].Values).ShouldBeTrue(layer);
            }
        }
    }

    [Fact]
    public void The_published_sizes_have_the_published_numbers_of_weights()
    {
        Count(UNetConfig.StableDiffusion21).ShouldBe(865_910_724);
        Count(UNetConfig.StableDiffusion15).ShouldBe(859_520_964);
    }

    [Fact]
    public void A_forward_on_the_meta_device_makes_every_tensor_there()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var unet = new ConditionalUNet(UNetConfig.Tango, Placement.Meta);

        var y = unet.Forward(
            torch.empty([2, 8, 256, 16], device: torch.META), torch.empty([2], ScalarType.Int64, torch.META),
            torch.empty([2, 64, 1024], device: torch.META), torch.empty([2, 64], ScalarType.Bool, torch.META));

        y.shape.ShouldBe([2L, 8, 256, 16]);
    }

    [Theory]
    [InlineData("""{"block_out_channels": [8, 0]}""", "block")]
    [InlineData("""{"act_fn": "relu"}""", "act_fn")]
    [InlineData("""{"class_embed_type": "simple_projection"}""", "class_embed_type")]
    [InlineData("""{"attention_head_dim": [7]}""", "attention_head_dim")]
    [InlineData("""{"norm_num_groups": 7}""", "norm_num_groups")]
    [InlineData("""{"transformer_layers_per_block": 2}""", "transformer_layers_per_block")]
    public void A_config_that_cannot_be_is_refused_in_one_sentence(string json, string setting) =>
        Should.Throw<MelFusionException>(() => new ConditionalUNet(ConfigFile.Parse<UNetConfig>(json, "config.json"), Placement.Meta))
            .Message.ShouldContain(setting);

    private static long Count(UNetConfig config) => new ConditionalUNet(config, Placement.Meta).parameters().Sum(parameter => parameter.numel());

    private static ConditionalUNet Load(Fixture fixture)
    {
        var unet = new ConditionalUNet(ConfigFile.Read<UNetConfig>(fixture.File("config.json")), Placement.Cpu);
        using var weights = Safetensors.Open(fixture.File("model.safetensors"));
        unet.LoadFrom(weights);
        return unet;
    }

    private static ConditionalUNet Tiny()
    {
        var unet = new ConditionalUNet(UNetConfig.Tiny, Placement.Cpu);
        Initialiser.Initialise(unet, new Generator(1));
        return unet;
    }

    private static (Tensor Sample, Tensor Timestep, Tensor Text, Tensor Mask) Inputs(UNetConfig config)
    {
        var generator = new Generator(2);
        return (torch.randn([2, config.InChannels, 12, 6], generator: generator), torch.tensor([3L, 700L]),
            torch.randn([2, 5, config.CrossAttentionDim], generator: generator), torch.tensor(new[] { true, true, true, true, true, true, true, false, false, false }).reshape(2, 5));
    }

    /// <summary>Keeps what passes, by the reference's names.</summary>
    private sealed class Seen : IKeyValueTap
    {
        public Dictionary<string, Tensor> Tensors { get; } = [];

        public void See(string name, Tensor x) => Tensors[name] = x.clone().DetachFromDisposeScope();

        public KeysAndValues SelfAttention(AttentionLayer layer, KeysAndValues own)
        {
            See($"{layer.Name}.attn1.key", own.Keys);
            See($"{layer.Name}.attn1.value", own.Values);
            return own;
        }

        public Tensor CrossAttention(AttentionLayer layer, Tensor queries, KeysAndValues text, Tensor? bias)
        {
            See($"{layer.Name}.attn2.key", text.Keys);
            See($"{layer.Name}.attn2.value", text.Values);
            return ScaledDotProduct.Attend(queries, text, layer.Heads, bias);
        }

        public void CrossAttentionOutput(AttentionLayer layer, Tensor output) => See($"{layer.Name}.attn2.output", output);
    }
}
