using MelFusion.Tests.Support;
using MelFusion.Vocoder;
using MelFusion.Weights;
using Shouldly;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace MelFusion.Tests.Vocoder;

public class HifiGanTests
{
    [Theory, Trait("Category", "Parity")]
    [InlineData("model.safetensors")]
    [InlineData("model-original.safetensors")]
    [InlineData("model-weight-norm.safetensors")]
    public void Every_layout_gives_the_reference_waveform(string weightsName)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var fixture = Fixture.Open("hifigan");
        using var file = Safetensors.Open(fixture.File(weightsName));
        var vocoder = new HifiGan(ConfigFile.Read<HifiGanConfig>(fixture.File("config.json")), Placement.Cpu);
        vocoder.LoadFrom(file);
        var outputs = Outputs.Of(vocoder, ["conv_pre", "upsampler.0", "upsampler.1", "conv_post"]);

        var waveform = vocoder.Forward(fixture["mel"].transpose(1, 2));

        outputs["conv_pre"].ShouldMatch(fixture["conv_pre"], what: "conv_pre");
        outputs["upsampler.0"].ShouldMatch(fixture["stage.0"], what: "stage.0");
        outputs["upsampler.1"].ShouldMatch(fixture["stage.1"], what: "stage.1");
        outputs["conv_post"].ShouldMatch(fixture["before_tanh"], what: "before_tanh");
        waveform.ShouldMatch(fixture["waveform"], what: "waveform");
    }

    [Fact, Trait("Category", "Parity")]
    public void The_real_universal_vocoder_gives_the_reference_waveform_and_the_same_in_chunks()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var fixture = Fixture.Open("hifigan-universal-22k");
        var vocoder = Universal();
        var outputs = Outputs.Of(vocoder, ["conv_pre", "upsampler.0", "upsampler.1", "upsampler.2", "upsampler.3"]);

        var whole = vocoder.Forward(fixture["vocoder.mel"], framesPerChunk: 0);

        outputs["conv_pre"].ShouldMatchSlice(fixture["vocoder.conv_pre"], what: "conv_pre");
        for (int stage = 0; stage < 4; stage++)
        {
            outputs[$"upsampler.{stage}"].ShouldMatchSlice(fixture[$"vocoder.ups.{stage}"], what: $"ups.{stage}");
        }

        whole.ShouldMatch(fixture["vocoder.waveform"], what: "waveform");
        var chunked = vocoder.Forward(fixture["vocoder.mel"], framesPerChunk: 7);
        chunked.ShouldMatch(whole, 1e-5, "in chunks");
        vocoder.PackForInference().Forward(fixture["vocoder.mel"]).ShouldMatch(fixture["vocoder.waveform"], what: "packed");
    }

    [Theory]
    [InlineData(1)]
    [InlineData(30)]
    [InlineData(77)]
    public void Chunks_join_without_a_seam_where_the_first_stage_adds_samples(int framesPerChunk)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var config = HifiGanConfig.AudioLdm with { ModelInDim = 8, UpsampleInitialChannel = 32 };
        var vocoder = new HifiGan(config, Placement.Cpu);
        Initialiser.Initialise(vocoder, new Generator(3));
        var mel = torch.randn([2, 8, 100], generator: new Generator(4));

        var whole = vocoder.Forward(mel, 0);

        whole.shape.ShouldBe([2, (100 * 160) + 32]);
        vocoder.Forward(mel, framesPerChunk).ShouldMatch(whole, 1e-5);
    }

    [Fact]
    public void A_cancelled_forward_throws()
    {
        using var scope = NewDisposeScope();
        var vocoder = new HifiGan(HifiGanConfig.Tiny, Placement.Cpu);

        Should.Throw<OperationCanceledException>(() => vocoder.Forward(torch.zeros(1, 80, 4), cancellation: new CancellationToken(true)));
    }

    [Fact]
    public void A_gradient_reaches_every_weight()
    {
        using var scope = NewDisposeScope();
        var vocoder = new HifiGan(HifiGanConfig.Tiny, Placement.Cpu);
        Initialiser.Initialise(vocoder, new Generator(1));

        vocoder.Forward(torch.randn(1, 80, 6)).square().mean().backward();

        vocoder.named_parameters().ShouldAllBe(parameter => parameter.parameter.grad!.isfinite().all().item<bool>());
    }

    [Fact]
    public void A_speech_vocoder_that_wants_normalised_mels_is_refused() =>
        Should.Throw<MelFusionException>(() => (HifiGanConfig.Tiny with { NormalizeBefore = true }).Validate()).Message.ShouldContain("normalize_before");

    private static HifiGan Universal()
    {
        string folder = Path.Combine(Repository.Root, "models", "melfusion-mini", "vocoder");
        using var file = Safetensors.Open(Path.Combine(folder, "model.safetensors"));
        var vocoder = new HifiGan(ConfigFile.Read<HifiGanConfig>(Path.Combine(folder, "config.json")), Placement.Cpu);
        vocoder.LoadFrom(file);
        return vocoder;
    }
}
