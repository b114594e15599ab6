using MelFusion.Evaluation.Embeddings;
using MelFusion.Tests.Support;
using MelFusion.Wave;
using MelFusion.Weights;
using Shouldly;
using Xunit;
using static TorchSharp.torch;

namespace MelFusion.Tests.Evaluation;

[Trait("Category", "Parity")]
public sealed class MusicnnTests
{
    private static readonly string[] Sounds = ["laboratory.wav", "song.wav", "beat.wav"];

    [Fact]
    public void Patches_of_the_three_sounds_match()
    {
        using var scope = NewDisposeScope();
        using var fixture = Fixture.Open("musicnn");
        using var network = Open("mtt");
        var expected = fixture["patches"];
        var made = cat([.. Sounds.Select(name => WavFile.Read(fixture.File(name))).Select(wave => network.Patches(wave.ToMono(), wave.SampleRate))]);
        made.shape.ShouldBe(expected.shape);
        (made - expected).abs().max().item<float>().ShouldBeLessThanOrEqualTo(1e-4f);
    }

    [Theory]
    [InlineData("mtt")]
    [InlineData("msd")]
    public void Every_layer_and_every_tag_matches(string name)
    {
        using var scope = NewDisposeScope();
        using var fixture = Fixture.Open("musicnn");
        using var network = Open(name);
        var output = network.Forward(fixture["patches"]);
        Slice(output.Timbral).ShouldMatch(fixture[name + ".timbral"], what: "timbral");
        Slice(output.Temporal).ShouldMatch(fixture[name + ".temporal"], what: "temporal");
        Enumerable.Range(0, 3).ToList().ForEach(k => Slice(output.Middle[k]).ShouldMatch(fixture[$"{name}.cnn{k + 1}"], what: $"cnn{k + 1}"));
        output.MaxPool.ShouldMatch(fixture[name + ".max_pool"], what: "max_pool");
        output.MeanPool.ShouldMatch(fixture[name + ".mean_pool"], what: "mean_pool");
        output.Penultimate.ShouldMatch(fixture[name + ".penultimate"], what: "penultimate");
        output.Tags.ShouldMatch(fixture[name + ".tags"], what: "tags");
        network.Config.Tags.Count.ShouldBe((int)output.Tags.shape[1]);
    }

    [Fact]
    public void A_sound_shorter_than_a_patch_has_no_tags()
    {
        using var network = Open("mtt");
        network.TagProbabilities(new float[1000], 22050).ShouldAllBe(value => value == 0);
    }

    // The fixture keeps every 16th channel and the first 24 frames.
    private static Tensor Slice(Tensor map) => map[TensorIndex.Colon, TensorIndex.Slice(step: 16), TensorIndex.Slice(stop: 24)];

    private static Musicnn Open(string name) => Musicnn.Open(Path.Combine(Repository.Root, "models", "musicnn", name), Placement.Cpu);
}
