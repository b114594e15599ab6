using MelFusion.Tests.Support;
using MelFusion.Text;
using MelFusion.Weights;
using Shouldly;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace MelFusion.Tests.Text;

public class T5EncoderTests
{
    private const double Tolerance = 2e-5; // tells the two kinds of gelu apart

    [Theory, Trait("Category", "Parity")]
    [InlineData("t5-encoder", "model.safetensors")]
    [InlineData("t5-encoder", "tango.safetensors")]
    [InlineData("t5-encoder-relu", "model.safetensors")]
    public void Short_and_long_texts_match_the_reference(string name, string weights)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var fixture = Fixture.Open(name);
        var config = ConfigFile.Read<T5EncoderConfig>(fixture.File("config.json"));
        using var file = Safetensors.Open(fixture.File(weights));
        var network = new T5Encoder(config, Placement.Cpu);
        network.LoadFrom(file);

        foreach (string length in (string[])["short", "long"])
        {
            var states = network.call(fixture[$"{length}.input_ids"], fixture[$"{length}.attention_mask"].to(ScalarType.Bool));

            states.ShouldMatch(fixture[$"{length}.last_hidden_state"], Tolerance, $"{length}.last_hidden_state");
        }

        long[] buckets = [.. fixture["distance"].data<long>().Select(d => T5SelfAttention.Bucket(d, config.RelativeAttentionNumBuckets, config.RelativeAttentionMaxDistance))];
        buckets.ShouldBe(fixture["bucket"].data<long>().ToArray());
    }

    [Fact, Trait("Category", "Parity")]
    public void Prompts_and_the_null_prompt_are_as_TANGO_has_them()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var fixture = Fixture.Open("text-conditioning");
        using var both = fixture.Json();
        var network = new T5Encoder(ConfigFile.Parse<T5EncoderConfig>(both.RootElement.GetProperty("text_encoder").GetRawText(), "config.json"), Placement.Cpu);
        using var file = Safetensors.Open(fixture.File("model.safetensors"));
        network.LoadFrom(file);

        var states = network.call(fixture["input_ids"], fixture["attention_mask"].to(ScalarType.Bool));
        var nullStates = network.call(fixture["null_input_ids"], fixture["null_attention_mask"].to(ScalarType.Bool));

        states.ShouldMatch(fixture["text_states"], what: "text_states");
        nullStates.ShouldMatch(fixture["null_states"], what: "null_states");
        fixture["null_attention_mask"].sum().item<long>().ShouldBe(fixture["null_attention_mask"].shape[0]);
    }

    [Fact]
    public void The_full_size_has_the_published_number_of_parameters()
    {
        using var scope = NewDisposeScope();

        new T5Encoder(T5EncoderConfig.FlanLarge, Placement.Meta).parameters().Sum(parameter => parameter.numel()).ShouldBe(341_231_104);
        new T5Encoder(T5EncoderConfig.Base, Placement.Meta).parameters().Sum(parameter => parameter.numel()).ShouldBe(109_628_544);
    }
}
