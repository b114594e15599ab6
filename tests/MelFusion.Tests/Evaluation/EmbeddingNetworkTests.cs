using MelFusion.Evaluation.Embeddings;
using MelFusion.Image;
using MelFusion.Tests.Support;
using MelFusion.Weights;
using Shouldly;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace MelFusion.Tests.Evaluation;

public class EmbeddingNetworkTests
{
    private const double Fine = 2e-5; // tells the kinds of gelu apart

    [Fact, Trait("Category", "Parity")]
    public void VGGish_gives_the_reference_log_mels_and_embeddings()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var fixture = Fixture.Open("vggish");
        using var weights = new ClosedFormWeights(fixture.File("recipe.json"));
        using var network = new Vggish(Placement.Cpu);
        network.LoadFrom(weights);
        float[] waveform = [.. fixture["waveform"].data<float>()];

        torch.tensor(Vggish.MelMatrix()).to(ScalarType.Float32).ShouldMatch(fixture["mel_matrix"], 1e-6, "mel_matrix");
        Near(Vggish.LogMel(waveform), fixture["log_mel"], 1e-5, "log_mel");
        var patches = Vggish.Patches(waveform, Vggish.SampleRate);
        Near(patches, fixture["patches"].narrow(0, 0, patches.shape[0]), 1e-5, "patches");
        network.Features(fixture["patches"]).ShouldMatch(fixture["features"], what: "features");
        network.Forward(fixture["patches"]).ShouldMatch(fixture["embedding"], what: "embedding");
    }

    [Fact, Trait("Category", "Parity")]
    public void Cnn14_gives_the_reference_blocks_embeddings_and_logits()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var fixture = Fixture.Open("cnn14");
        using var weights = new ClosedFormWeights(fixture.File("recipe.json"));
        using var network = new Cnn14(Placement.Cpu);
        network.LoadFrom(weights);
        var outputs = Outputs.Of(network, Enumerable.Range(1, 6).Select(i => $"conv_block{i}"));

        Cnn14.Filters().transpose(0, 1).ShouldMatch(fixture["mel_matrix"], 1e-6, "mel_matrix");
        Near(Cnn14.LogMel(fixture["waveform"]), fixture["log_mel"], 0.01, "log_mel");
        foreach (string suffix in (string[])["", "_random"])
        {
            var output = network.Forward(fixture[$"log_mel{suffix}"]);

            output.Pooled.ShouldMatch(fixture[$"pooled{suffix}"], what: $"pooled{suffix}");
            output.Embedding.ShouldMatch(fixture[$"embedding{suffix}"], what: $"embedding{suffix}");
            output.Logits.ShouldMatch(fixture[$"logits{suffix}"], what: $"logits{suffix}");
        }

        for (int block = 1; block <= 6; block++)
        {
            var expected = fixture[$"block{block}"];
            TensorIndex[] corner = [.. expected.shape.Select(size => TensorIndex.Slice(0, size))];
            outputs[$"conv_block{block}"][corner].ShouldMatch(expected, what: $"block{block}");
        }
    }

    [Fact, Trait("Category", "Parity")]
    public void CLIP_gives_the_reference_embeddings_of_pictures_and_texts()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var fixture = Fixture.Open("clip");
        using var file = Safetensors.Open(fixture.File("model.safetensors"));
        using var network = new Clip(ConfigFile.Read<ClipConfig>(fixture.File("config.json")), Placement.Cpu);
        network.LoadFrom(file);
        var outputs = Outputs.Of(network, ["vision_model.pre_layrnorm", "vision_model.encoder.layers.0", "vision_model.encoder.layers.1", "vision_model"]);

        var (pictures, texts) = (network.EmbedPictures(fixture["pixel_values"]), network.EmbedTexts(fixture["input_ids"]));

        outputs["vision_model.pre_layrnorm"].ShouldMatch(fixture["vision.hidden_states.0"], Fine, "vision.hidden_states.0");
        outputs["vision_model.encoder.layers.0"].ShouldMatch(fixture["vision.hidden_states.1"], Fine, "vision.hidden_states.1");
        outputs["vision_model.encoder.layers.1"].ShouldMatch(fixture["vision.hidden_states.2"], Fine, "vision.hidden_states.2");
        outputs["vision_model"].ShouldMatch(fixture["vision.pooler_output"], Fine, "vision.pooler_output");
        pictures.ShouldMatch(fixture["image_embeds"], Fine, "image_embeds");
        texts.ShouldMatch(fixture["text_embeds"], Fine, "text_embeds");
        (pictures.matmul(texts.t()) * network.LogitScale).ShouldMatch(fixture["logits_per_image"], Fine, "logits_per_image");
    }

    [Fact, Trait("Category", "Parity")]
    public void CLAP_gives_the_reference_embeddings_of_sounds_and_texts()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var fixture = Fixture.Open("clap");
        using var file = Safetensors.Open(fixture.File("model.safetensors"));
        var config = ConfigFile.Read<ClapConfig>(fixture.File("config.json"));
        using var network = new Clap(config, Placement.Cpu);
        network.LoadFrom(file);
        string[] stages = [.. Enumerable.Range(0, config.AudioConfig.Depths.Count).Select(i => $"audio_model.audio_encoder.layers.{i}")];
        var outputs = Outputs.Of(network, ["audio_model.audio_encoder.patch_embed", .. stages, "audio_model.audio_encoder"]);

        var features = fixture["input_features"];
        for (int i = 0; i < features.shape[0]; i++)
        {
            Near(network.Features([.. fixture[$"waveform.{i}"].data<float>()], Clap.SampleRate), features.narrow(0, i, 1), 0.01, $"input_features {i}");
        }

        var encoder = network.named_modules().Select(pair => pair.module).OfType<ClapAudioEncoder>().Single();
        encoder.Fold(features).ShouldMatchSlice(fixture["audio.folded.0"], Fine, "audio.folded.0");
        var sounds = network.EmbedSounds(features);
        var texts = network.EmbedTexts(fixture["input_ids"], fixture["attention_mask"].to(ScalarType.Bool));

        outputs["audio_model.audio_encoder.patch_embed"].ShouldMatchSlice(fixture["audio.patch_embed.0"], Fine, "audio.patch_embed.0");
        for (int stage = 0; stage < stages.Length; stage++)
        {
            outputs[stages[stage]].ShouldMatchSlice(fixture[$"audio.stage.{stage}"], Fine, $"audio.stage.{stage}");
        }

        outputs["audio_model.audio_encoder"].ShouldMatch(fixture["audio.pooler_output"], Fine, "audio.pooler_output");
        sounds.ShouldMatch(fixture["audio_embeds"], Fine, "audio_embeds");
        texts.ShouldMatch(fixture["text_embeds"], Fine, "text_embeds");
        (sounds.matmul(texts.t()) * network.AudioScale).ShouldMatch(fixture["logits_per_audio"], Fine, "logits_per_audio");
        (texts.matmul(sounds.t()) * network.TextScale).ShouldMatch(fixture["logits_per_text"], Fine, "logits_per_text");
    }

    [Fact, Trait("Category", "Parity")]
    public void The_real_EfficientNet_gives_the_reference_features_and_labels()
    {
        string[] names = ["wide", "tall", "small", "photo-chelsea", "photo-coffee"];
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var fixture = Fixture.Open("efficientnet-lite0");
        using var network = EfficientNetLite.Open(Path.Combine(Repository.Root, "models", "efficientnet-lite0"), Placement.Cpu);
        var pictures = names.Select(name => ImageReader.Decode(ImageReader.ReadFile(fixture.File($"{name}.png")))).ToList();
        foreach (var (picture, name) in pictures.Zip(names).Where(pair => fixture.Io.Contains($"{pair.Second}.resized")))
        {
            var fitted = network.Fit(picture);
            fitted.Pixels.ToArray().ShouldBe(fixture[$"{name}.resized"].data<byte>().ToArray(), name);
        }

        string[] layers = [.. fixture.Io.Tensors.Select(entry => entry.Key).Where(key => key is "stem" or "head" || key.StartsWith("blocks.", StringComparison.Ordinal))];
        var outputs = Outputs.Of(network, layers);

        network.Forward(torch.cat([.. pictures.Skip(3).Select(network.Pixels)], 0));
        var output = network.Forward(torch.cat([.. pictures.Select(network.Pixels)], 0));

        foreach (string layer in layers)
        {
            // After the first and the last convolution the reference has the activation, which is outside the layer here.
            var actual = layer is "stem" or "head" ? outputs[layer].clamp(0, 6) : outputs[layer];
            actual.ShouldMatchSlice(fixture[layer], what: layer);
        }

        // What the stages see, averaged over a grid: coarser grids are averages of finer ones, and the last is what the head looks at.
        var (finer, coarser) = (network.StageMaps(network.Pixels(pictures[0]), 14), network.StageMaps(network.Pixels(pictures[0]), 7));
        (finer.shape[1], coarser.shape[1]).ShouldBe((16 + 24 + 40 + 80 + 112, 16 + 24 + 40 + 80 + 112 + 192 + 320));
        nn.functional.adaptive_avg_pool2d(finer, 7).ShouldMatch(coarser.narrow(1, 0, finer.shape[1]), what: "stages");

        output.Features.ShouldMatch(fixture["features"], what: "features");
        output.Logits.ShouldMatch(fixture["logits"], what: "logits");
        string[] labels = [.. output.Logits.argmax(1).data<long>().Select(label => network.Config.Classes[(int)label].Split(',')[0])];
        labels.ShouldBe(["spotlight", "candle", "ping-pong ball", "tiger cat", "espresso"]);
    }

    [Fact, Trait("Category", "Parity")]
    public void The_real_Basic_Pitch_gives_the_reference_notes()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var fixture = Fixture.Open("basic-pitch");
        using var network = BasicPitch.Open(Path.Combine(Repository.Root, "models", "basic-pitch"), Placement.Cpu);
        float[] audio = [.. fixture["audio"].data<float>()];

        var windows = network.Windows(audio);
        var magnitudes = network.Magnitudes(windows);
        var output = network.Forward(windows);
        var whole = network.Transcribe(audio, network.Config.SamplingRate);

        magnitudes.ShouldMatchSlice(fixture["cqt"], what: "cqt");
        Near(Slice(network.Level(magnitudes), fixture["level"]), fixture["level"], 1e-3, "level");
        Near(Slice(output.Note, fixture["window.note"]), fixture["window.note"], 2e-3, "window.note");
        Near(Slice(output.Onset, fixture["window.onset"]), fixture["window.onset"], 2e-3, "window.onset");
        Near(Slice(output.Contour, fixture["window.contour"]), fixture["window.contour"], 2e-3, "window.contour");
        Near(whole.Note, fixture["note"], 2e-3, "note");
        Near(whole.Onset, fixture["onset"], 2e-3, "onset");
    }

    [Fact]
    public void Sounds_too_short_for_a_frame_give_no_patches()
    {
        using var scope = NewDisposeScope();

        Vggish.Patches([], 16_000).shape.ShouldBe([0, 96, 64]);
        Vggish.Patches(new float[399], 16_000).shape.ShouldBe([0, 96, 64]);
    }

    private static Tensor Slice(Tensor actual, Tensor expected) => Outputs.Slice(actual, expected);

    private static void Near(Tensor actual, Tensor expected, double tolerance, string what)
    {
        actual.shape.ShouldBe(expected.shape, what);
        (actual - expected).abs().max().item<float>().ShouldBeLessThanOrEqualTo((float)tolerance, what);
    }
}
