using System.Diagnostics;
using MelFusion.Wave;
using Shouldly;
using Xunit;

namespace MelFusion.Tests.Wave;

public sealed class AudioFileTests : IDisposable
{
    private const int Rate = 32000;

    private readonly string _folder = Directory.CreateTempSubdirectory("melfusion-audio").FullName;

    public void Dispose() => Directory.Delete(_folder, true);

    [Theory]
    [InlineData("a.flac", "flac", 1e-4)]
    [InlineData("a.ogg", "libvorbis", 0.1)]
    [InlineData("a.mp3", "libmp3lame", 0.1)]
    [InlineData("a.m4a", "aac", 0.1)]
    [InlineData("a.mka", "flac", 1e-4)]
    [InlineData("a.aiff", "pcm_s16be", 1e-4)]
    [InlineData("-it's a \"file\": $(x).flac", "flac", 1e-4)]
    public void A_file_that_ffmpeg_made_is_decoded(string name, string codec, double tolerance)
    {
        string path = Encode(name, "-c:a", codec);

        var sound = AudioFile.Read(path);

        sound.SampleRate.ShouldBe(Rate);
        sound.Channels.Count.ShouldBe(2);
        sound.Frames.ShouldBeInRange(Rate - 200, Rate + 4000); // lossy formats round to their blocks
        if (tolerance < 1e-3)
        {
            sound.Channels[1].Zip(Sine()).ShouldAllBe(pair => Math.Abs(pair.First - pair.Second) <= tolerance);
        }

        Rms(sound.Channels[1]).ShouldBe(Rms(Sine()), tolerance * Rms(Sine()) + 1e-4);
    }

    [Fact]
    public void Channels_are_averaged_while_reading_where_that_is_asked_for()
    {
        string path = Encode("a.flac", "-c:a", "flac");
        var stereo = AudioFile.Read(path);

        var mono = AudioFile.Read(path, new AudioLimits { Mono = true });

        mono.Channels.Single().Zip(stereo.ToMono()).ShouldAllBe(pair => Math.Abs(pair.First - pair.Second) < 1e-6);
    }

    [Theory]
    [InlineData("a.flac")]
    [InlineData("a.wav")]
    public void A_sound_beyond_a_limit_is_refused_or_cut(string name)
    {
        string path = Encode(name);
        var half = new AudioLimits { Duration = TimeSpan.FromSeconds(0.5) };

        Should.Throw<MelFusionException>(() => AudioFile.Read(path, half)).Message.ShouldContain("longer than the 0.5 s");
        AudioFile.Read(path, half with { Cut = true }).Frames.ShouldBe(Rate / 2);
        Should.Throw<MelFusionException>(() => AudioFile.Read(path, new AudioLimits { Channels = 1 })).Message.ShouldContain("2 channels");
    }

    [Fact]
    public void A_list_that_names_other_files_is_not_followed()
    {
        string target = Encode("secret.wav");
        string list = Path.Combine(_folder, "list.m3u8");
        File.WriteAllText(list, $"#EXTM3U\n#EXTINF:1,\nfile:{target}\n");
        string concat = Path.Combine(_folder, "list.flac");
        File.WriteAllText(concat, $"ffconcat version 1.0\nfile '{target}'\n");

        Should.Throw<MelFusionException>(() => AudioFile.Read(list)).Message.ShouldContain("no sound file of a known format");
        Should.Throw<MelFusionException>(() => AudioFile.Read(concat)).Message.ShouldContain("no sound file of a known format");
    }

    [Fact]
    public void Damaged_empty_and_missing_files_are_said_in_one_sentence()
    {
        string damaged = Path.Combine(_folder, "damaged.ogg"), empty = Path.Combine(_folder, "empty.mp3"), missing = Path.Combine(_folder, "no.mp3");
        File.WriteAllBytes(damaged, [.. "OggS"u8, .. new byte[2000]]);
        File.WriteAllBytes(empty, []);

        Should.Throw<MelFusionException>(() => AudioFile.Read(damaged)).Message.ShouldStartWith($"{damaged}: ffmpeg cannot decode it: ");
        Should.Throw<MelFusionException>(() => AudioFile.Read(empty)).Message.ShouldBe($"{empty}: the file is empty.");
        Should.Throw<MelFusionException>(() => AudioFile.Read(missing)).Message.ShouldBe($"{missing}: there is no such file.");
    }

    [Fact]
    public void Cancelling_stops_the_decoder()
    {
        string path = Encode("a.flac");
        using var cancelled = new CancellationTokenSource();
        cancelled.Cancel();

        Should.Throw<OperationCanceledException>(() => AudioFile.Read(path, cancellation: cancelled.Token));
    }

    /// <summary>A second of sound by ffmpeg: left silent, right a sine at 440 Hz.</summary>
    private string Encode(string name, params string[] codec)
    {
        string path = Path.Combine(_folder, name), source = Path.Combine(_folder, "source-sine.wav");
        WavFile.Write(source, Sine(), Rate);
        string[] arguments = ["-v", "error", "-i", source, "-af", "pan=stereo|c0=0*c0|c1=c0", .. codec, "-y", "file:" + path];
        using var process = Process.Start(new ProcessStartInfo("ffmpeg", arguments) { RedirectStandardError = true })!;
        string complaint = process.StandardError.ReadToEnd();
        process.WaitForExit();
        process.ExitCode.ShouldBe(0, complaint);
        return path;
    }

    private static float[] Sine() => [.. Enumerable.Range(0, Rate).Select(i => 0.5f * (float)Math.Sin(2 * Math.PI * 440 * i / Rate))];

    private static double Rms(float[] samples) => Math.Sqrt(samples.Sum(x => (double)x * x) / Rate);
}
