using System.Text.Json;
using MelFusion.Image;
using MelFusion.Inversion;
using MelFusion.Noise;
using MelFusion.Tests.Support;
using MelFusion.Weights;
using MelFusion.Weights.Assembly;
using MelFusion.Weights.Hub;
using Shouldly;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace MelFusion.Tests.Weights.Assembly;

/// <summary>From folders of public files to a waveform.</summary>
[Trait("Category", "Parity")]
public sealed class EndToEndTests : IDisposable
{
    private const double BeforeTheLoop = 1e-4, AfterTheLoop = 1e-3;
    private readonly TemporaryFolder _temporary = new();
    private readonly Fixture _fixture = Fixture.Open("end-to-end");
    private readonly Safetensors _expected;
    private readonly JsonElement _request;

    public EndToEndTests()
    {
        _expected = Safetensors.Open(_fixture.File("expected.safetensors"));
        _request = _fixture.Json("request.json").RootElement.Clone();
    }

    public void Dispose()
    {
        _expected.Dispose();
        _fixture.Dispose();
        _temporary.Dispose();
    }

    [Fact]
    public void Picture_and_text_take_the_reference_s_way_up_to_the_loop()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var model = Load();
        var pixels = Pixels(model);
        pixels.ShouldMatch(Expected("pixels"), BeforeTheLoop);

        var latent = model.Picture.Vae.Encode(pixels).Mean * model.Picture.Vae.Config.ScalingFactor;
        latent.ShouldMatch(Expected("image.latent"), BeforeTheLoop, "image.latent");
        using (var nullText = model.Folder.Weights("image_null_text"))
        {
            nullText.Read("states").ShouldMatch(Expected("image.null_states"), BeforeTheLoop, "image.null_states");
        }

        var network = model.Picture.Network;
        using var trajectory = new DdimInverter(network.Schedule, (z, t) => network.Predict(z, t)).Invert(latent, Steps);
        trajectory.Deepest.ShouldMatch(Expected("image.inverted"), BeforeTheLoop, "image.inverted");

        using var text = Text(model);
        text.Mask[1].unsqueeze(0).Equals(Expected("text.mask")).ShouldBeTrue();
        text.Mask[0].unsqueeze(0).Equals(Expected("null.mask")).ShouldBeTrue();
        text.States[1].unsqueeze(0).ShouldMatch(Expected("text.states"), BeforeTheLoop, "text.states");
        text.States[0, 0].ShouldMatch(Expected("null.states")[0, 0], BeforeTheLoop, "null.states");
        Sampler(model).Timesteps.ShouldBe(Expected("timesteps").data<long>().ToArray());
    }

    [Theory]
    [InlineData("replay")]
    [InlineData("recorded")]
    [InlineData("text_only")]
    public void Folders_of_public_files_give_the_reference_s_latent_mel_and_waveform(string way)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var model = Load();

        var latent = Denoise(model, way, influence: way == "text_only" ? 0 : _request.GetProperty("influence").GetDouble());

        latent.ShouldMatch(Expected($"{way}.latent"), AfterTheLoop, $"{way}.latent");
        var mel = model.Vae.Decode(latent / model.Vae.Config.ScalingFactor); // (1, 1, T, M)
        mel.ShouldMatch(Expected($"{way}.mel"), AfterTheLoop, $"{way}.mel");
        model.Vocoder.Forward(mel.squeeze(1).transpose(1, 2).contiguous()).ShouldMatch(Expected($"{way}.waveform"), AfterTheLoop, $"{way}.waveform");
    }

    [Fact]
    public void Alpha_of_zero_reproduces_tango_bit_for_bit()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var model = Load();

        Denoise(model, "replay", influence: 0).Equals(Denoise(model, "text_only", influence: 0)).ShouldBeTrue();
    }

    [Fact]
    public void The_generator_makes_music_of_an_assembled_folder()
    {
        using var model = Load();
        var request = new MusicRequest
        {
            Image = File.ReadAllBytes(_fixture.File("picture.png")), Prompt = _request.GetProperty("prompt").GetString(), Seed = 1, Steps = 2,
            Duration = _request.GetProperty("mel_frames").GetInt32() * model.Mel.Config.HopLength / (double)model.Mel.Config.SampleRate,
        };

        var clip = new MusicGenerator(model).Generate(request).Single();

        clip.SampleRate.ShouldBe(model.Mel.Config.SampleRate);
        clip.Samples.ShouldAllBe(sample => float.IsFinite(sample));
    }

    private int Steps => _request.GetProperty("steps").GetInt32();

    private Tensor Expected(string name) => _expected.Read(name);

    private Tensor Pixels(MelFusionModel model) =>
        ImageReader.Read(File.ReadAllBytes(_fixture.File("picture.png")), model.Folder.Defaults.PictureWidth, model.Folder.Defaults.PictureHeight);

    private MelFusion.Text.TextStates Text(MelFusionModel model) =>
        model.Text.Encode([_request.GetProperty("negative").GetString()!, _request.GetProperty("prompt").GetString()!]);

    private ISampler Sampler(MelFusionModel model) => Samplers.Create(SamplerKind.Ddim, model.Schedule, Steps);

    private MelFusionModel Load()
    {
        using var scope = NewDisposeScope();
        string alphas = _temporary.File("alphas.safetensors");
        Safetensors.Write(alphas, new Dictionary<string, Tensor> { ["alpha_logit.decoder"] = Expected("alpha_logit") });
        long[] size = [.. _expected.Find("pixels")!.Shape];
        var report = ModelAssembler.Assemble(
            new()
            {
                Image = _fixture.File("stable-diffusion"), Music = _fixture.File("tango"), Synapse = alphas,
                PictureSize = new((int)size[3], (int)size[2]), Output = _temporary.File("model"), Overwrite = true,
            },
            new HubCache(_temporary.File("cache")), cancellation: TestContext.Current.CancellationToken);
        return MelFusionModel.Load(report.Folder, precision: Precision.Fp32);
    }

    private Tensor Denoise(MelFusionModel model, string way, double influence)
    {
        using var scope = NewDisposeScope();
        var sampler = Sampler(model);
        PicturePart? part = null;
        if (way != "text_only")
        {
            var latent = model.Picture.Vae.Encode(Pixels(model)).Mean * model.Picture.Vae.Config.ScalingFactor;
            var source = way == "recorded" ? KeyValueSource.Recorded : KeyValueSource.Replay;
            var keyValues = PictureKeyValues.Invert(source, model.Picture.Network, model.Picture.Synapse.NewRecorder(), latent, Steps, sampler.Timesteps);
            part = new(keyValues, model.Picture.Synapse, influence, ImageGuidance.Both);
        }

        using var keep = part?.KeyValues;
        var text = Text(model);
        return new JointDenoising(model.UNet, sampler, model.Place) { Guidance = _request.GetProperty("guidance").GetDouble() }
            .Run(Expected("noise"), new(text.States, text.Mask), part).MoveToOuterDisposeScope();
    }
}
