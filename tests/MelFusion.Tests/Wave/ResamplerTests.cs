using MelFusion.Tests.Support;
using MelFusion.Wave;
using Shouldly;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace MelFusion.Tests.Wave;

public class ResamplerTests
{
    [Theory]
    [Trait("Category", "Parity")]
    [InlineData("stereo44k.wav", 0, 44100)]
    [InlineData("stereo48k.wav", 1, 48000)]
    public void A_channel_of_a_file_at_16_kHz_is_met(string file, int channel, int rate)
    {
        using var fixture = Fixture.Open("front-end");
        var sound = WavFile.Read(fixture.File(file));
        sound.SampleRate.ShouldBe(rate);

        ShouldBeResampled(sound.Channels[channel], rate, 16000, fixture[$"resample.{rate}"]);
    }

    [Theory]
    [Trait("Category", "Parity")]
    [InlineData(32000)]
    [InlineData(22050)]
    public void A_signal_at_16_kHz_is_met(int rate)
    {
        using var fixture = Fixture.Open("front-end");

        ShouldBeResampled(Samples(fixture[$"resample.{rate}.input"]), rate, 16000, fixture[$"resample.{rate}"]);
    }

    [Fact]
    [Trait("Category", "Parity")]
    public void Going_up_is_met()
    {
        using var fixture = Fixture.Open("front-end");
        var signal = WavFile.Read(fixture.File("signal16k.wav"), 3000, 4001).Channels[0];

        ShouldBeResampled(signal, 16000, 48000, fixture["resample.up.48000"]);
    }

    [Fact]
    public void Rates_without_a_common_divisor_cost_no_more_memory_than_the_samples()
    {
        float[] tone = [.. Enumerable.Range(0, 96000 / 4).Select(i => (float)Math.Sin(2 * Math.PI * 440 * i / 95999))];
        long before = GC.GetAllocatedBytesForCurrentThread();
        var resampler = new Resampler(95999, 44101);
        (GC.GetAllocatedBytesForCurrentThread() - before).ShouldBeLessThan(1 << 20);

        var output = resampler.Resample(tone);

        output.Length.ShouldBe((int)Math.Ceiling(tone.Length * 44101.0 / 95999));
        for (int i = 100; i < output.Length - 100; i++)
        {
            output[i].ShouldBe((float)Math.Sin(2 * Math.PI * 440 * i / 44101), 2e-3f);
        }
    }

    [Fact]
    public void One_sample_and_none_are_no_fault()
    {
        new Resampler(44100, 16000).Resample([]).ShouldBeEmpty();
        new Resampler(44100, 16000).Resample([0.5f]).Length.ShouldBe(1);
        new Resampler(8000, 8000).Resample([0.5f, 0.25f]).ShouldBe([0.5f, 0.25f]);
    }

    private static void ShouldBeResampled(float[] samples, int from, int to, Tensor expected)
    {
        var output = torch.tensor(new Resampler(from, to).Resample(samples));

        output.shape[0].ShouldBeInRange(expected.shape[0], expected.shape[0] + 1); // torchaudio rounds a float32 length
        output.narrow(0, 0, expected.shape[0]).ShouldMatch(expected);
    }

    private static float[] Samples(Tensor tensor) => tensor.to(ScalarType.Float32).data<float>().ToArray();
}
