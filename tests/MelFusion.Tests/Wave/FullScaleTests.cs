using MelFusion.Wave;
using Shouldly;
using Xunit;

namespace MelFusion.Tests.Wave;

public class FullScaleTests
{
    [Fact]
    public void A_piece_louder_than_full_scale_is_made_quieter_as_a_whole()
    {
        float[] fitted = FullScale.Fit([0.5f, -2f, 1f]);

        fitted.ShouldBe([0.2475f, -0.99f, 0.495f], 1e-6);
        WaveStatistics.Of(fitted).ClippedFraction.ShouldBe(0);
    }

    [Theory]
    [InlineData(1f)]
    [InlineData(0.25f)]
    [InlineData(0f)]
    [InlineData(float.PositiveInfinity)]
    [InlineData(float.NaN)]
    public void Any_other_stays_as_it_is(float peak)
    {
        FullScale.Fit([0.1f, peak]).ShouldBe([0.1f, peak]);
    }
}
