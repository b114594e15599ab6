using MelFusion.Tests.Support;
using MelFusion.Training.Engine;
using Shouldly;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;
using AdamW = MelFusion.Training.Engine.AdamW;
using Parameter = TorchSharp.Modules.Parameter;

namespace MelFusion.Tests.Training;

[Trait("Category", "Parity")]
public sealed class OptimiserParityTests
{
    [Fact]
    public void AdamW_alone_takes_the_steps_of_the_reference()
    {
        using var scope = NewDisposeScope();
        using var fixture = Fixture.Open("algorithm-1");
        var parameter = new Parameter(fixture["adamw.start"]);
        using var optimiser = new AdamW([new([new("w", parameter)], 1e-3, 1e-2)]);
        Tensor gradients = fixture["adamw.gradients"], after = fixture["adamw.after"];
        for (int k = 0; k < gradients.shape[0]; k++)
        {
            optimiser.Step(0, gradients[k]);
            (parameter.detach() - after[k]).abs().max().item<float>().ShouldBeLessThanOrEqualTo(4e-6f, $"step {k + 1}");
        }
    }

    [Fact]
    public void A_null_gradient_leaves_value_moments_and_count_alone()
    {
        using var scope = NewDisposeScope();
        var parameter = new Parameter(ones(3));
        using var optimiser = new AdamW([new([new("w", parameter)], 0.1, 0.5)]);
        optimiser.Step(0, null);
        parameter.detach().data<float>().ToArray().ShouldBe([1f, 1f, 1f]);
        optimiser.StepCounts.ShouldBe([0L]);
        optimiser.State.All(state => state.Value.abs().max().item<float>() == 0).ShouldBeTrue();
    }

    [Fact]
    public void The_start_has_its_share_in_what_takes_the_weights_place()
    {
        using var scope = NewDisposeScope();
        var parameter = new Parameter(ones(2));
        using var average = new WeightAverage([new("w", parameter)], startShare: 0.25);
        using (no_grad())
        {
            parameter.fill_(5);
        }

        average.Update(0, 0);
        average.State.Select(state => (state.Name, state.Value[0].item<float>())).ShouldBe([("average.w", 5f), ("start.w", 1f)]);
        using (average.InPlaceOfWeights())
        {
            parameter.detach().data<float>().ToArray().ShouldBe([4f, 4f]);
        }

        parameter.detach().data<float>().ToArray().ShouldBe([5f, 5f]);
    }

    [Fact]
    public void The_average_steps_in_and_out_of_the_weights_place()
    {
        using var scope = NewDisposeScope();
        var parameter = new Parameter(zeros(2));
        using var average = new WeightAverage([new("w", parameter)]);
        using (no_grad())
        {
            parameter.fill_(1);
        }

        average.Update(0, 0.75);
        using (average.InPlaceOfWeights())
        {
            parameter.detach().data<float>().ToArray().ShouldBe([0.25f, 0.25f]);
        }

        parameter.detach().data<float>().ToArray().ShouldBe([1f, 1f]);
    }
}
