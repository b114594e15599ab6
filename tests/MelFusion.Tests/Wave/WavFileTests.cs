using System.Text.Json;
using MelFusion.Tests.Support;
using MelFusion.Wave;
using MelFusion.Weights;
using Shouldly;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace MelFusion.Tests.Wave;

public sealed class WavFileTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("melfusion-wav").FullName;

    public void Dispose() => Directory.Delete(_folder, true);

    public static TheoryData<string> GoodFiles()
    {
        using var fixture = Fixture.Open("wav");
        using var good = fixture.Json("good.json");
        return [.. good.RootElement.EnumerateObject().Select(file => file.Name)];
    }

    public static TheoryData<string> BrokenFiles()
    {
        using var fixture = Fixture.Open("wav");
        using var broken = fixture.Json("broken.json");
        return [.. broken.RootElement.EnumerateArray().Select(file => file.GetProperty("file").GetString()!)];
    }

    [Theory, MemberData(nameof(GoodFiles))]
    [Trait("Category", "Parity")]
    public void A_valid_file_gives_its_samples(string name)
    {
        using var fixture = Fixture.Open("wav");
        using var good = fixture.Json("good.json");
        var stated = good.RootElement.GetProperty(name);

        var sound = WavFile.Read(fixture.File($"good/{name}"));

        sound.SampleRate.ShouldBe(stated.GetProperty("rate").GetInt32());
        sound.Channels.Count.ShouldBe(stated.GetProperty("channels").GetInt32());
        sound.Frames.ShouldBe(stated.GetProperty("frames").GetInt32());
        ShouldBeTheSamples(sound, fixture, Path.GetFileNameWithoutExtension(name));
    }

    [Theory, MemberData(nameof(BrokenFiles))]
    [Trait("Category", "Parity")]
    public void A_broken_file_ends_as_stated(string name)
    {
        using var fixture = Fixture.Open("wav");
        using var broken = fixture.Json("broken.json");
        var stated = broken.RootElement.EnumerateArray().First(file => file.GetProperty("file").GetString() == name);
        string expected = stated.GetProperty("expected").GetString()!;
        string path = fixture.File($"broken/{name}");
        long before = GC.GetAllocatedBytesForCurrentThread();

        Waveform? sound = null;
        var fault = Record.Exception(() => sound = WavFile.Read(path));

        (GC.GetAllocatedBytesForCurrentThread() - before).ShouldBeLessThan(1 << 20, "nothing large is allocated");
        if (fault is not null)
        {
            expected.ShouldContain("error", customMessage: fault.Message);
            fault.ShouldBeOfType<MelFusionException>().Message.ShouldStartWith(path);
            return;
        }

        expected.ShouldContain("reads what is there");
        sound!.Channels.Count.ShouldBe(stated.GetProperty("channels").GetInt32());
        sound.Frames.ShouldBe(stated.GetProperty("frames").GetInt32());
        sound.Channels.ShouldAllBe(channel => channel.All(float.IsFinite));
        ShouldBeTheSamples(sound, fixture, "broken." + Path.GetFileNameWithoutExtension(name));
    }

    [Fact]
    public void A_part_of_a_file_is_that_part_of_the_whole()
    {
        using var fixture = Fixture.Open("wav");
        string path = fixture.File("good/pcm24-2ch.wav");
        var whole = WavFile.Read(path);

        var part = WavFile.Read(path, 7, 20);

        part.Channels[1].ShouldBe(whole.Channels[1].Skip(7).Take(20));
        WavFile.Read(path, whole.Frames + 1).Frames.ShouldBe(0);
    }

    [Fact]
    public void What_is_written_is_read_back_with_its_comment()
    {
        string path = Path.Combine(_folder, "a.wav");
        float[] samples = [0, 0.5f, -0.25f, 1f / 32768, -1];

        WavFile.Write(path, samples, 22050, "{\"prompt\":\"café ♫\"}");

        var sound = WavFile.Read(path);
        sound.Channels.Single().ShouldBe(samples);
        sound.SampleRate.ShouldBe(22050);
        WavFile.ReadInfo(path).Comment.ShouldBe("{\"prompt\":\"café ♫\"}");
    }

    [Fact]
    public void Samples_beyond_full_scale_are_clamped_and_do_not_wrap()
    {
        string path = Path.Combine(_folder, "loud.wav");

        WavFile.Write(path, [1, 1.5f, -1.5f, float.NaN, float.PositiveInfinity, float.NegativeInfinity], 16000);

        WavFile.Read(path).Channels[0].ShouldBe([32767f / 32768, 32767f / 32768, -1, 0, 32767f / 32768, -1]);
    }

    [Fact]
    public void A_cancelled_write_leaves_nothing_and_keeps_what_was_there()
    {
        string path = Path.Combine(_folder, "kept.wav");
        WavFile.Write(path, [0.5f], 16000);
        using var cancelled = new CancellationTokenSource();
        cancelled.Cancel();

        Should.Throw<OperationCanceledException>(() => WavFile.Write(path, new float[1 << 16], 16000, cancellation: cancelled.Token));

        Directory.GetFiles(_folder).ShouldBe([path]);
        WavFile.Read(path).Channels[0].ShouldBe([0.5f]);
    }

    [Fact]
    public void A_target_that_cannot_be_written_is_said_in_one_sentence()
    {
        string path = Path.Combine(_folder, "no", "such", "folder.wav");

        Should.Throw<MelFusionException>(() => WavFile.Write(path, [0], 16000)).Message.ShouldStartWith(path);
        Should.Throw<MelFusionException>(() => WavFile.Read(path)).Message.ShouldBe($"{path}: there is no such file.");
        Should.Throw<MelFusionException>(() => WavFile.Read(_folder)).Message.ShouldStartWith(_folder);
    }

    private static void ShouldBeTheSamples(Waveform sound, Fixture fixture, string key)
    {
        using var scope = NewDisposeScope();
        using var expected = Safetensors.Open(fixture.File("expected.safetensors"));
        if (expected.Contains(key))
        {
            (sound.ToTensor() - expected.Read(key)).abs().flatten().to(ScalarType.Float64).data<double>().ShouldAllBe(difference => difference <= 1e-7);
        }
    }
}
