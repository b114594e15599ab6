using MelFusion.Wave;
using Shouldly;
using Xunit;
using static TorchSharp.torch;

namespace MelFusion.Tests.Wave;

public class FullScaleTests
{
    [Fact]
    public void A_piece_louder_than_full_scale_is_made_quieter_as_a_whole()
    {
        using var scope = NewDisposeScope();
        var loud = tensor(new[] { 0.5f, -2f, 1f });

        var fitted = FullScale.Fit(loud);

        fitted.allclose(loud * (FullScale.Ceiling / 2)).ShouldBeTrue();
        WaveStatistics.Of([.. fitted.data<float>()]).ClippedFraction.ShouldBe(0);
    }

    [Theory]
    [InlineData(1f)]
    [InlineData(0.25f)]
    [InlineData(0f)]
    [InlineData(float.PositiveInfinity)]
    [InlineData(float.NaN)]
    public void Any_other_stays_as_it_is(float peak)
    {
        using var scope = NewDisposeScope();
        var samples = tensor(new[] { 0.1f, peak });

        FullScale.Fit(samples).data<float>().ToArray().ShouldBe(samples.data<float>().ToArray());
    }
}
