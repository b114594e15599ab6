using MelFusion.Tests.Support;
using MelFusion.Wave;
using Shouldly;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace MelFusion.Tests.Wave;

[Trait("Category", "Parity")]
public class MelSpectrogramTests
{
    [Theory]
    [InlineData("long", "signal16k.wav", 1024)]
    [InlineData("cut", "signal16k.wav", 100)]
    [InlineData("loud", "signal16k-float.wav", 100)]
    public void The_mel_of_TANGO_is_met(string name, string file, int frames)
    {
        using var scope = NewDisposeScope();
        using var fixture = Fixture.Open("front-end");
        using var front = new MelSpectrogram(MelConfig.Tango);
        var sound = WavFile.Read(fixture.File(file)).ToTensor();
        var expected = fixture[$"tango.{name}.mel"]; // (T, M)

        var waveform = TangoWaveform.Normalise(sound, frames * MelConfig.Tango.HopLength);
        var mel = front.Forward(waveform)[0].T;

        mel.shape[0].ShouldBe(frames);
        mel[..(int)expected.shape[0]].ShouldMatch(expected);
        mel[(int)expected.shape[0]..].flatten().data<float>().ShouldAllBe(value => Math.Abs(value - Math.Log(1e-5)) < 1e-5);
        if (fixture.Io.Contains($"tango.{name}.waveform"))
        {
            waveform[0].ShouldMatch(fixture[$"tango.{name}.waveform"]);
        }
    }

    [Fact]
    public void The_filters_of_TANGO_are_met()
    {
        using var fixture = Fixture.Open("front-end");
        using var filters = MelFilters.Create(MelConfig.Tango);

        filters.ShouldMatch(fixture["tango.mel_basis"]);
    }

    [Fact]
    public void The_filters_and_the_mel_of_the_universal_vocoder_are_met()
    {
        using var scope = NewDisposeScope();
        using var fixture = Fixture.Open("hifigan-universal-22k");
        using var front = new MelSpectrogram(MelConfig.HifiGanUniversal);

        ShouldBeWithin(front.Filters, fixture["filters"], 1e-6);
        ShouldBeWithin(front.Forward(fixture["audio"].unsqueeze(0))[0], fixture["mel"], 2e-4);
        ShouldBeWithin(front.Forward(fixture["vocoder.waveform"])[0], fixture["vocoder.mel_of_waveform"], 1e-3);
    }

    [Fact]
    public void A_batch_gives_what_its_parts_give()
    {
        using var scope = NewDisposeScope();
        using var fixture = Fixture.Open("hifigan-universal-22k");
        using var front = new MelSpectrogram(MelConfig.HifiGanUniversal);
        var audio = fixture["audio"].unsqueeze(0);

        var both = front.Forward(torch.cat([audio, audio * 0.1]));

        both[0].ShouldMatch(front.Forward(audio)[0], 1e-6);
        both[1].ShouldMatch(front.Forward(audio * 0.1)[0], 1e-6);
    }

    private static void ShouldBeWithin(Tensor actual, Tensor expected, double tolerance)
    {
        actual.shape.ShouldBe(expected.shape);
        (actual - expected).abs().max().item<float>().ShouldBeLessThanOrEqualTo((float)tolerance);
    }
}
