using MelFusion.Tests.Support;
using MelFusion.Wave;
using Shouldly;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace MelFusion.Tests.Wave;

public class GriffinLimTests
{
    [Theory]
    [Trait("Category", "Parity")]
    [InlineData(0, 0.001)]
    [InlineData(0.99, 0.005)]
    public void Thirty_two_rounds_from_given_phases_are_met(double momentum, double tolerance)
    {
        using var scope = NewDisposeScope();
        using var fixture = Fixture.Open("front-end");
        var magnitude = torch.complex(fixture["stft.real"], fixture["stft.imag"]).abs().unsqueeze(0);
        var phase = fixture["griffin_lim.phase"].unsqueeze(0);

        var waveform = GriffinLim.FromMagnitude(Stft.Centred(256, 64), magnitude, torch.complex(phase.cos(), phase.sin()), 32, momentum);

        waveform[0].ShouldMatch(fixture[FormattableString.Invariant($"griffin_lim.{momentum}")], tolerance);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_mel_becomes_a_waveform_of_that_mel_and_refinement_brings_it_nearer(bool tango)
    {
        using var scope = NewDisposeScope();
        using var front = new MelSpectrogram(tango ? MelConfig.Tango : MelConfig.HifiGanUniversal);
        using var refinement = new SpectralRefinement(front);
        var mel = front.Forward(Chords(front.Config.SampleRate));

        var plain = GriffinLim.FromMel(front, mel, new Generator(1));
        var refined = refinement.Refine(plain, mel, 3);

        plain.shape[1].ShouldBe(mel.shape[2] * front.Config.HopLength);
        refined.shape.ShouldBe(plain.shape);
        double plainDistance = Distance(front, plain, mel), refinedDistance = Distance(front, refined, mel);
        plainDistance.ShouldBeLessThan(0.3);
        refinedDistance.ShouldBeLessThan(0.75 * plainDistance);
    }

    [Fact]
    public void No_round_of_refinement_leaves_the_waveform_and_each_is_reported()
    {
        using var scope = NewDisposeScope();
        using var front = new MelSpectrogram(MelConfig.HifiGanUniversal);
        using var refinement = new SpectralRefinement(front);
        var waveform = Chords(22050).narrow(1, 0, 8192);
        var mel = front.Forward(waveform);
        var told = new List<int>();

        refinement.Refine(waveform, mel, 0).ShouldMatch(waveform, 0);
        refinement.Refine(waveform, mel, 2, new Told(told));

        told.ShouldBe([1, 2]);
        using var cancelled = new CancellationTokenSource();
        cancelled.Cancel();
        Should.Throw<OperationCanceledException>(() => refinement.Refine(waveform, mel, 1, cancellation: cancelled.Token));
    }

    private static double Distance(MelSpectrogram front, Tensor waveform, Tensor mel) => (front.Forward(waveform) - mel).abs().mean().item<float>();

    /// <summary>A second of decaying chords with some noise, (1, n).</summary>
    private static Tensor Chords(int rate)
    {
        var time = torch.arange(rate, dtype: ScalarType.Float32) / rate;
        var sound = torch.randn([rate], generator: new Generator(7)) * 0.01;
        foreach (double hz in (double[])[220, 277.2, 329.6, 880, 2500])
        {
            sound += torch.sin(time * (2 * Math.PI * hz)) * torch.exp(-6 * torch.fmod(time, 0.25)) * 0.15;
        }

        return sound.unsqueeze(0);
    }

    private sealed class Told(List<int> list) : IProgress<int>
    {
        public void Report(int value) => list.Add(value);
    }
}
