using System.Text.Json;
using MelFusion.Tests.Support;
using MelFusion.Text;
using MelFusion.Weights;
using Shouldly;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace MelFusion.Tests.Text;

public class ClipTextTests
{
    private const double Tolerance = 2e-5; // tells the kinds of gelu apart

    [Theory, Trait("Category", "Parity")]
    [InlineData("clip-text/clip-l")]
    [InlineData("clip-text/openclip-h")]
    public void Every_layer_and_the_pooled_output_match_the_reference(string name)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var fixture = Fixture.Open(name);
        var config = ConfigFile.Read<ClipTextConfig>(fixture.File("config.json"));
        var network = new ClipTextEncoder(config, Placement.Cpu);
        using var file = Safetensors.Open(fixture.File("model.safetensors"));
        network.LoadFrom(file);
        var outputs = Outputs.Of(network, ["text_model.embeddings", .. Enumerable.Range(0, config.NumHiddenLayers).Select(i => $"text_model.encoder.layers.{i}")]);

        var ids = fixture["input_ids"];
        var states = network.call(ids, ids.ge(0));

        outputs["text_model.embeddings"].ShouldMatch(fixture["hidden_states.0"], Tolerance, "hidden_states.0");
        for (int layer = 0; layer < config.NumHiddenLayers; layer++)
        {
            outputs[$"text_model.encoder.layers.{layer}"].ShouldMatch(fixture[$"hidden_states.{layer + 1}"], Tolerance, $"hidden_states.{layer + 1}");
        }

        states.ShouldMatch(fixture["last_hidden_state"], Tolerance, "last_hidden_state");
        network.Pool(states, ids).ShouldMatch(fixture["pooler_output"], Tolerance, "pooler_output");
        var shorter = fixture["short.input_ids"];
        network.call(shorter, shorter.ge(0)).ShouldMatch(fixture["short.last_hidden_state"], Tolerance, "short.last_hidden_state");
    }

    [Theory, Trait("Category", "Parity")]
    [InlineData("tokenizers/clip")]
    [InlineData("tokenizers/clip-tiny")]
    public void Every_case_has_the_reference_ids(string name)
    {
        using var fixture = Fixture.Open(name);
        using var cases = fixture.Json("cases.json");
        var tokenizer = Open(fixture, "<|endoftext|>", 100_000);

        TokenizerCases.Failures(cases, text => tokenizer.Encode(text).Ids).ShouldBeEmpty();
    }

    [Fact, Trait("Category", "Parity")]
    public void Both_Stable_Diffusions_pad_as_their_reference()
    {
        using var fixture = Fixture.Open("tokenizers/clip");
        if (!File.Exists(fixture.File("padded.json")))
        {
            return; // only the published vocabulary has it
        }

        using var cases = fixture.Json("padded.json");
        foreach (var (key, padding) in new[] { ("sd1", "<|endoftext|>"), ("sd2", "!") })
        {
            var tokenizer = Open(fixture, padding, 77);
            foreach (var one in cases.RootElement.EnumerateArray())
            {
                var ids = tokenizer.Encode(one.GetProperty("text").GetString()!).Ids;
                int[] padded = [.. ids, .. Enumerable.Repeat(tokenizer.PadId, 77 - ids.Count)];
                padded.ShouldBe(one.GetProperty(key).EnumerateArray().Select(id => id.GetInt32()), $"{key}: {one.GetProperty("text")}");
            }
        }
    }

    [Fact, Trait("Category", "Parity")]
    public void RoBERTa_cases_have_the_reference_ids()
    {
        using var fixture = Fixture.Open("tokenizers/roberta");
        using var cases = fixture.Json("cases.json");
        var tokenizer = RobertaTokenizer.Open(fixture.Folder, 100_000);

        TokenizerCases.Failures(cases, text => tokenizer.Encode(text).Ids).ShouldBeEmpty();
    }

    [Fact]
    public void The_full_sizes_have_the_published_numbers_of_parameters()
    {
        using var scope = NewDisposeScope();

        Count(ClipTextConfig.StableDiffusion2).ShouldBe(340_387_840);
        Count(ClipTextConfig.StableDiffusion15).ShouldBe(123_060_480);
    }

    [Fact]
    public void The_padding_is_read_from_the_tokenizers_settings()
    {
        using var fixture = Fixture.Open("tokenizers/clip-tiny");
        string folder = Directory.CreateTempSubdirectory().FullName;
        try
        {
            File.Copy(fixture.File("vocab.json"), Path.Combine(folder, "vocab.json"));
            File.Copy(fixture.File("merges.txt"), Path.Combine(folder, "merges.txt"));
            int end = ClipTokenizer.Open(folder).PadId;
            File.WriteAllText(Path.Combine(folder, "special_tokens_map.json"), JsonSerializer.Serialize(new { pad_token = new { content = "!" } }));

            ClipTokenizer.Open(folder).PadId.ShouldBe(0);
            end.ShouldNotBe(0);
        }
        finally
        {
            Directory.Delete(folder, true);
        }
    }

    private static long Count(ClipTextConfig config) => new ClipTextEncoder(config, Placement.Meta).parameters().Sum(parameter => parameter.numel());

    private static ClipTokenizer Open(Fixture fixture, string padding, int maxLength)
    {
        string merges = fixture.File("bpe_simple_vocab_16e6.txt.gz");
        return File.Exists(merges) ? ClipTokenizer.OpenMerges(merges, padding, maxLength) : ClipTokenizer.Open(fixture.Folder, maxLength);
    }
}
