using MelFusion.Wave;
using Shouldly;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace MelFusion.Tests.Wave;

public class WaveStatisticsTests
{
    [Fact]
    public void A_sine_is_loud_and_not_flat()
    {
        float[] sine = [.. Enumerable.Range(0, 22050).Select(i => (float)Math.Sin(2 * Math.PI * 440 * i / 22050))];

        var figures = WaveStatistics.Of(sine);

        figures.RmsDbfs.ShouldBe(-3.01, 0.05);
        figures.Peak.ShouldBe(1, 1e-3);
        figures.SilenceFraction.ShouldBe(0);
        figures.SpectralFlatness.ShouldBeLessThan(0.01);
    }

    [Fact]
    public void White_noise_is_flat_and_what_is_clipped_is_counted()
    {
        using var scope = NewDisposeScope();
        float[] noise = torch.randn([40960], generator: new Generator(1)).mul(0.1).data<float>().ToArray();
        noise[100] = 1;
        noise[200] = -1;

        var figures = WaveStatistics.Of(noise);

        figures.SpectralFlatness.ShouldBe(0.56, 0.03);
        figures.ClippedFraction.ShouldBe(2.0 / 40960, 1e-9);
    }

    [Fact]
    public void Silence_is_all_silent()
    {
        WaveStatistics.Of(new float[4096]).ShouldBe(new WaveStatistics(double.NegativeInfinity, 0, 0, 1, 0));
        WaveStatistics.Of([]).SilenceFraction.ShouldBe(1);
        WaveStatistics.Of([.. Enumerable.Repeat(0f, 40960), .. Enumerable.Repeat(0.5f, 40960)]).SilenceFraction.ShouldBe(0.5, 0.03);
    }

    [Fact]
    public void A_waveform_is_at_no_distance_from_itself_and_further_from_a_louder_change()
    {
        using var scope = NewDisposeScope();
        var a = torch.randn([1, 22050], generator: new Generator(1)) * 0.1;
        var noise = torch.randn([1, 22050], generator: new Generator(2)) * 0.1;

        WaveDistance.MultiResolutionStft(a, a).ShouldBe(0);
        double little = WaveDistance.MultiResolutionStft(a, a + (noise * 0.1));
        double much = WaveDistance.MultiResolutionStft(a, a + (noise * 0.5));
        little.ShouldBeGreaterThan(0);
        much.ShouldBeGreaterThan(little);
    }
}
