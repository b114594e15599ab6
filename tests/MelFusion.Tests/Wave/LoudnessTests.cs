using MelFusion.Tests.Support;
using MelFusion.Wave;
using Shouldly;
using Xunit;

namespace MelFusion.Tests.Wave;

public class LoudnessTests
{
    [Fact]
    [Trait("Category", "Parity")]
    public void Integrated_loudness_after_the_standard_is_met()
    {
        using var fixture = Fixture.Open("front-end");
        using var stated = fixture.Json("loudness.json");

        foreach (var file in stated.RootElement.GetProperty("files").EnumerateObject())
        {
            Loudness.Integrated(WavFile.Read(fixture.File(file.Name))).ShouldBe(file.Value.GetProperty("itu").GetDouble(), 0.01, file.Name);
        }
    }

    [Fact]
    [Trait("Category", "Parity")]
    public void A_sine_at_full_scale_has_the_loudness_of_the_standard()
    {
        using var fixture = Fixture.Open("front-end");
        using var stated = fixture.Json("loudness.json");
        float[] sine = [.. Enumerable.Range(0, 3 * 48000).Select(i => (float)Math.Sin(2 * Math.PI * 997 * i / 48000))];

        Loudness.Integrated(new Waveform([sine], 48000))
            .ShouldBe(stated.RootElement.GetProperty("full_scale_997_hz_sine_mono_48000_hz_3_s").GetDouble(), 0.01);
    }

    [Fact]
    public void Silence_and_sounds_shorter_than_a_block_have_no_loudness()
    {
        Loudness.Integrated(new Waveform([new float[48000]], 48000)).ShouldBe(double.NegativeInfinity);
        Loudness.Integrated(new Waveform([[1f]], 48000)).ShouldBe(double.NegativeInfinity);
    }
}
