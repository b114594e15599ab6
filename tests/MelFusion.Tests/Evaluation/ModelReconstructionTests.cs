using MelFusion.Evaluation;
using MelFusion.Tests.Support;
using MelFusion.Wave;
using MelFusion.Weights;
using Shouldly;
using Xunit;

namespace MelFusion.Tests.Evaluation;

public sealed class ModelReconstructionTests
{
    [Theory]
    [InlineData(1, 4000, 1)]
    [InlineData(1500, 4000, 1)]
    [InlineData(9000, 16000, 2)]
    public void A_sound_comes_back_at_the_models_rate_as_long_as_whole_latent_cells(int samples, int rate, int channels)
    {
        using var tiny = new TinyModel();
        using var model = tiny.Load();
        var random = new Random(1);
        float[][] sound = [.. Enumerable.Range(0, channels).Select(_ => Enumerable.Range(0, samples).Select(_ => (float)(random.NextDouble() - 0.5)).ToArray())];
        var reconstruction = new ModelReconstruction(model);

        var back = reconstruction.Forward(new Waveform(sound, rate));

        int cell = model.Mel.Config.HopLength * model.Vae.Config.Factor;
        int atModelRate = (int)Math.Ceiling((double)samples * model.Mel.Config.SampleRate / rate);
        back.SampleRate.ShouldBe(model.Mel.Config.SampleRate);
        back.Channels.Count.ShouldBe(1);
        back.Frames.ShouldBe((atModelRate + cell - 1) / cell * cell);
        back.Channels[0].ShouldAllBe(sample => float.IsFinite(sample));
        reconstruction.Forward(new Waveform(sound, rate)).Channels[0].ShouldBe(back.Channels[0]);
    }

    [Fact]
    public void It_is_the_vae_and_the_vocoder_of_that_folder_that_are_heard()
    {
        using var one = new TinyModel();
        using var other = new TemporaryFolder();
        TinyModel.Write(other.Path, seed: 2);
        using var first = one.Load();
        using var second = MelFusionModel.Load(ModelFolder.Open(other.Path));
        float[] tone = [.. Enumerable.Range(0, 2000).Select(i => (float)Math.Sin(i * 0.3))];

        float[] a = new ModelReconstruction(first).Forward(new Waveform([tone], 4000)).Channels[0];
        float[] b = new ModelReconstruction(second).Forward(new Waveform([tone], 4000)).Channels[0];

        a.ShouldNotBe(b);
    }
}
