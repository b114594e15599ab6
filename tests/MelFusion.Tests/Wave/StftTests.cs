using MelFusion.Tests.Support;
using MelFusion.Wave;
using Shouldly;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace MelFusion.Tests.Wave;

[Trait("Category", "Parity")]
public class StftTests
{
    [Fact]
    public void The_transform_is_met_and_its_inverse_gives_the_signal_back()
    {
        using var scope = NewDisposeScope();
        using var fixture = Fixture.Open("front-end");
        var signal = fixture["stft.input"].unsqueeze(0);
        var stft = Stft.Centred(256, 64);

        var spectrogram = stft.Forward(signal);
        var back = stft.Inverse(spectrogram);

        spectrogram[0].real.ShouldMatch(fixture["stft.real"]);
        spectrogram[0].imag.ShouldMatch(fixture["stft.imag"]);
        back.ShouldMatch(signal.narrow(1, 0, back.shape[1]));
        stft.FramesOf(signal.shape[1]).ShouldBe(spectrogram.shape[2]);
    }

    [Fact]
    public void A_window_shorter_than_the_transform_lies_in_its_middle()
    {
        using var scope = NewDisposeScope();
        using var fixture = Fixture.Open("front-end");
        var signal = fixture["stft.input"].narrow(0, 0, 2000).unsqueeze(0);

        var spectrogram = new Stft(256, 50, 200, 128).Forward(signal);

        spectrogram[0].real.ShouldMatch(fixture["stft.win200.real"]);
        spectrogram[0].imag.ShouldMatch(fixture["stft.win200.imag"]);
    }

    [Fact]
    public void The_inverse_of_a_spectrogram_of_no_signal_is_met()
    {
        using var scope = NewDisposeScope();
        using var fixture = Fixture.Open("front-end");
        var parts = fixture["istft.input"];

        var signal = Stft.Centred(256, 64).Inverse(torch.complex(parts[0], parts[1]).unsqueeze(0));

        signal[0].ShouldMatch(fixture["istft.output"]);
    }

    [Fact]
    public void The_uncentred_framing_of_the_vocoder_is_inverted_too()
    {
        using var scope = NewDisposeScope();
        using var fixture = Fixture.Open("hifigan-universal-22k");
        var stft = MelConfig.HifiGanUniversal.Stft;
        var signal = fixture["vocoder.waveform"];

        var back = stft.Inverse(stft.Forward(signal));

        back.ShouldMatch(signal, 1e-4);
    }

    [Fact]
    public void Samples_become_16_bit_numbers_as_TANGO_does_it_but_clamped()
    {
        using var fixture = Fixture.Open("front-end");
        float[] samples = fixture["pcm16.input"].to(ScalarType.Float32).data<float>().ToArray();
        long[] expected = fixture["pcm16.output"].to(ScalarType.Int64).data<long>().ToArray();

        samples.Select(sample => (long)Pcm16.FromSample(sample)).ShouldBe(expected);
    }
}
