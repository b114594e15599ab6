using MelFusion.KeyValue;
using MelFusion.Training.Data;
using MelFusion.Training.Stages;
using MelFusion.UNet;
using MelFusion.Weights;
using Shouldly;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace MelFusion.Tests.Training;

/// <summary>A decoder layer of 12 channels on 8 x 8 tokens, and pictures in which another network sees 3 channels.</summary>
public sealed class KeyValueAlignmentTests : IDisposable
{
    private const int Pictures = 40, Channels = 3, Width = 12, Cells = KeyValueAlignment.Cells;

    private static readonly AttentionLayer Layer = new("up_blocks.0.attentions.0", Width, 2);

    private readonly DisposeScope _scope = NewDisposeScope();
    private readonly Generator _chance = new(5);
    private readonly Tensor _maps;
    private readonly PictureFeatureSet _features;
    private readonly KeyValueAlignment _alignment;

    public KeyValueAlignmentTests()
    {
        // What is common to a picture and what is in its places, of different sizes in every channel.
        var sizes = tensor(new[] { 0.1f, 1, 30 }).view(1, Channels, 1, 1);
        _maps = 7 + (sizes * (randn([Pictures, Channels, 1, 1], generator: _chance) + randn([Pictures, Channels, Cells, Cells], generator: _chance)));
        _features = new(_maps.clone());
        _alignment = new([Layer], _features, _chance);
    }

    public void Dispose()
    {
        _alignment.Dispose();
        _features.Dispose();
        _chance.Dispose();
        _scope.Dispose();
    }

    [Fact]
    public void Where_nothing_is_known_places_and_pictures_count_one_each()
    {
        using (no_grad())
        {
            _alignment.parameters().ToList().ForEach(parameter => parameter.zero_());
        }

        using var seen = Seen(randn([Pictures, Cells * Cells, 2 * Width], generator: _chance));

        _alignment.Loss(seen, _maps).item<float>().ShouldBe(2, 1e-3f);
    }

    [Fact]
    public void What_lies_in_keys_and_values_in_the_same_place_is_read_and_in_another_place_is_not()
    {
        using var scale = _features.Scale();
        var told = ((_maps - scale.Mean.view(1, -1, 1, 1)) / scale.Deviation.view(1, -1, 1, 1)).flatten(2).transpose(1, 2);
        var mixed = told.matmul(randn([Channels, 2 * Width], generator: _chance));
        var elsewhere = mixed.roll(Cells * Cells / 2, 1);

        Learned(mixed).ShouldBeLessThan(0.01);
        Learned(elsewhere).ShouldBeInRange(0.1, 1.5, "of a picture as a whole the same is told");
    }

    [Fact]
    public void The_picture_networks_own_projections_learn_from_it()
    {
        var config = UNetConfig.Tiny with { InChannels = 4, OutChannels = 4, CrossAttentionDim = 16 };
        using var network = new ConditionalUNet(config, Placement.Cpu);
        Initialiser.Initialise(network, _chance);
        using var alignment = new KeyValueAlignment(config.DecoderLayers, _features, _chance);
        using var seen = new KeyValueAlignment.Seen();
        network.Forward(randn([2, 4, 8, 8], generator: _chance), tensor(new[] { 100L, 700 }), randn([2, 3, 16], generator: _chance), null, seen);

        alignment.Loss(seen, _maps.narrow(0, 0, 2)).backward();

        var learning = network.named_parameters().Where(p => p.parameter.grad is { } grad && grad.abs().sum().item<float>() > 0).Select(p => p.name).ToList();
        learning.Count(name => name.StartsWith("up_blocks", StringComparison.Ordinal) && name.EndsWith("attn1.to_k.weight", StringComparison.Ordinal)).ShouldBe(config.DecoderLayers.Count);
        learning.Count(name => name.StartsWith("up_blocks", StringComparison.Ordinal) && name.EndsWith("attn1.to_v.weight", StringComparison.Ordinal)).ShouldBe(config.DecoderLayers.Count);
        learning.ShouldContain("conv_in.weight");
        learning.ShouldNotContain("conv_out.weight");
    }

    private static KeyValueAlignment.Seen Seen(Tensor keysAndValues)
    {
        var seen = new KeyValueAlignment.Seen();
        seen.SelfAttention(Layer, new(keysAndValues.narrow(2, 0, Width), keysAndValues.narrow(2, Width, Width)));
        return seen;
    }

    private double Learned(Tensor keysAndValues)
    {
        using var optimiser = optim.Adam(_alignment.parameters(), 0.05);
        float last = 0;
        for (int i = 0; i < 200; i++)
        {
            using var scope = NewDisposeScope();
            using var seen = Seen(keysAndValues);
            var loss = _alignment.Loss(seen, _maps);
            optimiser.zero_grad();
            loss.backward();
            optimiser.step();
            last = loss.item<float>();
        }

        return last;
    }
}
