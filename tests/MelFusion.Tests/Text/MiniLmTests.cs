using System.Text.Json;
using MelFusion.Tests.Support;
using MelFusion.Text;
using MelFusion.Weights;
using Shouldly;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace MelFusion.Tests.Text;

public class MiniLmTests
{
    private static readonly string Model = Path.Combine(Repository.Root, "models", "melfusion-mini");

    [Fact, Trait("Category", "Parity")]
    public void Every_layer_and_the_sentence_embedding_match_the_reference()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var fixture = Fixture.Open("minilm");
        var network = Load(fixture.File("config.json"), fixture.File("model.safetensors"));
        var embedded = network.named_children().Single(child => child.name == "embeddings").module.ShouldBeAssignableTo<nn.Module<Tensor, Tensor, Tensor>>();
        var mask = fixture["attention_mask"].to(ScalarType.Bool);

        var states = network.call(fixture["input_ids"], mask);

        int layers = fixture.Io.Tensors.Count(entry => entry.Key.StartsWith("hidden_states.", StringComparison.Ordinal)) - 1;
        embedded!.call(fixture["input_ids"], mask).ShouldMatch(fixture["hidden_states.0"], 2e-5, "hidden_states.0");
        states.ShouldMatch(fixture[$"hidden_states.{layers}"], 2e-5, "last");
        network.Pool(states).ShouldMatch(fixture["pooler_output"], 2e-5, "pooler_output");
        MiniLm.SentenceEmbedding(states, mask).ShouldMatch(fixture["sentence_embedding"], 2e-5, "sentence_embedding");
    }

    [Fact, Trait("Category", "Parity")]
    public void The_real_weights_give_the_reference_ids_and_embeddings()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var fixture = Fixture.Open("minilm");
        using var cases = fixture.Json("real-io.json");
        using var encoder = Encoder();
        var tokenizer = WordPieceTokenizer.Open(Path.Combine(Model, "tokenizer", "vocab.txt"));

        foreach (var one in cases.RootElement.EnumerateArray())
        {
            using var step = NewDisposeScope();
            string text = one.GetProperty("text").GetString()!;
            tokenizer.Encode(text).Ids.ShouldBe(one.GetProperty("ids").EnumerateArray().Select(id => id.GetInt32()), text);

            var states = encoder.Encode([text]);

            int[] rows = [.. one.GetProperty("rows").EnumerateArray().Select(row => row.GetInt32())];
            var hidden = one.GetProperty("hidden").EnumerateArray().Select(Numbers).ToList();
            for (int i = 0; i < rows.Length; i++)
            {
                Difference(states.States[0, rows[i], ..hidden[i].Length], hidden[i]).ShouldBeLessThan(2e-4, text);
            }

            Difference(MiniLm.SentenceEmbedding(states.States, states.Mask)[0], Numbers(one.GetProperty("embedding"))).ShouldBeLessThan(2e-5, text);
        }
    }

    [Fact]
    public void A_text_has_the_same_states_alone_and_beside_a_longer_one()
    {
        using var scope = NewDisposeScope();
        using var encoder = Encoder();

        var alone = encoder.Encode(["calm guitar"]);
        var both = encoder.Encode(["calm guitar", "a long and winding song about the sea and its harbours"]);

        long tokens = alone.States.shape[1];
        both.States[0, ..(int)tokens].ShouldMatch(alone.States[0], 1e-5);
        both.Mask[0].sum().item<long>().ShouldBe(tokens);
        both.Cut.ShouldBe([false, false]);
    }

    private static TextEncoder Encoder() => new(
        WordPieceTokenizer.Open(Path.Combine(Model, "tokenizer", "vocab.txt")),
        Load(Path.Combine(Model, "text_encoder", "config.json"), Path.Combine(Model, "text_encoder", "model.safetensors")), 384, torch.CPU);

    private static MiniLm Load(string config, string weights)
    {
        var network = new MiniLm(ConfigFile.Read<MiniLmConfig>(config), Placement.Cpu);
        using var file = Safetensors.Open(weights);
        network.LoadFrom(file);
        return network;
    }

    private static double[] Numbers(JsonElement list) => [.. list.EnumerateArray().Select(number => number.GetDouble())];

    private static double Difference(Tensor actual, double[] expected) => (actual.to(ScalarType.Float64) - torch.tensor(expected)).abs().max().item<double>();
}
