using System.Buffers.Binary;
using System.Globalization;
using System.Runtime.InteropServices;
using MelFusion.Wave;

namespace MelFusion.Training.Data.Build;

/// <summary>A clip cut from a track.</summary>
/// <param name="Offset">Where it begins, in samples of the clip's rate.</param>
internal sealed record CutClip(int Offset);

/// <summary>A decoded track and the clips it gives.</summary>
/// <param name="SourceRate">Its own sample rate in Hz.</param>
/// <param name="Samples">Mono samples at <see cref="ClipCutter.SampleRate"/>.</param>
/// <param name="Clips">The clips, in order.</param>
internal sealed record CutTrack(int SourceRate, float[] Samples, IReadOnlyList<CutClip> Clips);

/// <summary>Decodes tracks with ffmpeg and cuts them into clips of one length; silence is dropped.</summary>
internal static class ClipCutter
{
    /// <summary>Sample rate of the clips in Hz.</summary>
    public const int SampleRate = 22050;

    /// <summary>Samples of a clip: 896 frames of 256, 10.40 s.</summary>
    public const int ClipSamples = 229_376;

    /// <summary>At most so many clips are cut from one track.</summary>
    public const int MostClips = 60;

    // Quieter than this (-50 dBFS) is silence.
    private const float Silence = 0.00316f;

    // A clip of which more than this share is silent is dropped.
    private const double MostSilent = 0.35;

    private const int FrameSamples = 1024;

    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);

    /// <summary>Decodes a track.</summary>
    /// <param name="file">Path of the file.</param>
    /// <param name="cancellationToken">Stops ffmpeg.</param>
    /// <exception cref="MelFusionException">ffmpeg is missing or cannot read the file.</exception>
    public static async Task<CutTrack> CutAsync(string file, CancellationToken cancellationToken)
    {
        var rate = await SourceRateAsync(file, cancellationToken).ConfigureAwait(false);
        var longest = ClipSamples * (long)(MostClips + 1) / SampleRate;
        string[] arguments = ["-nostdin", "-v", "error", "-protocol_whitelist", "file,pipe", "-threads", "1", "-t", longest.ToString(CultureInfo.InvariantCulture),
            "-i", "file:" + file, "-map", "0:a:0", "-ac", "1", "-ar", SampleRate.ToString(CultureInfo.InvariantCulture), "-f", "f32le", "-"];
        var bytes = await ToolProcess.RunAsync("ffmpeg", arguments, null, (longest + 2) * SampleRate * sizeof(float), Patience, cancellationToken).ConfigureAwait(false);
        float[] samples = Array.ConvertAll(MemoryMarshal.Cast<byte, float>(bytes.AsSpan(0, bytes.Length & ~3)).ToArray(), sample => float.IsFinite(sample) ? sample : 0);
        FullScale.Fit(samples, loudest: 0.999f, peak: 0.999f); // lossy formats overshoot
        return new CutTrack(rate, samples, Cut(samples));
    }

    /// <summary>Where the clips of a track begin: one after the other from its first sound on, without those that are silent.</summary>
    /// <param name="samples">The whole track.</param>
    public static IReadOnlyList<CutClip> Cut(ReadOnlySpan<float> samples)
    {
        var clips = new List<CutClip>();
        for (var start = FirstSound(samples); start + ClipSamples <= samples.Length && clips.Count < MostClips; start += ClipSamples)
        {
            if (!IsSilent(samples.Slice(start, ClipSamples)))
            {
                clips.Add(new CutClip(start));
            }
        }

        return clips;
    }

    /// <summary>Writes a clip as a 16-bit wav file, beside and renamed.</summary>
    /// <param name="path">The file.</param>
    /// <param name="samples">The samples, -1 to 1.</param>
    public static void WriteWav(string path, ReadOnlySpan<float> samples)
    {
        var bytes = new byte[44 + (2 * samples.Length)];
        "RIFF"u8.CopyTo(bytes);
        BinaryPrimitives.WriteInt32LittleEndian(bytes.AsSpan(4), bytes.Length - 8);
        "WAVEfmt "u8.CopyTo(bytes.AsSpan(8));
        BinaryPrimitives.WriteInt32LittleEndian(bytes.AsSpan(16), 16);
        BinaryPrimitives.WriteInt16LittleEndian(bytes.AsSpan(20), 1);
        BinaryPrimitives.WriteInt16LittleEndian(bytes.AsSpan(22), 1);
        BinaryPrimitives.WriteInt32LittleEndian(bytes.AsSpan(24), SampleRate);
        BinaryPrimitives.WriteInt32LittleEndian(bytes.AsSpan(28), 2 * SampleRate);
        BinaryPrimitives.WriteInt16LittleEndian(bytes.AsSpan(32), 2);
        BinaryPrimitives.WriteInt16LittleEndian(bytes.AsSpan(34), 16);
        "data"u8.CopyTo(bytes.AsSpan(36));
        BinaryPrimitives.WriteInt32LittleEndian(bytes.AsSpan(40), 2 * samples.Length);
        for (var i = 0; i < samples.Length; i++)
        {
            BinaryPrimitives.WriteInt16LittleEndian(bytes.AsSpan(44 + (2 * i)), (short)Math.Clamp(MathF.Round(samples[i] * 32767f), -32768f, 32767f));
        }

        File.WriteAllBytes(path + ".part", bytes);
        File.Move(path + ".part", path, overwrite: true);
    }

    private static async Task<int> SourceRateAsync(string file, CancellationToken cancellationToken)
    {
        string[] arguments = ["-v", "error", "-protocol_whitelist", "file,pipe", "-select_streams", "a:0", "-show_entries", "stream=sample_rate", "-of", "csv=p=0", "file:" + file];
        var bytes = await ToolProcess.RunAsync("ffprobe", arguments, null, 1 << 16, Patience, cancellationToken).ConfigureAwait(false);
        var line = System.Text.Encoding.ASCII.GetString(bytes).Split('\n')[0].Trim(' ', '\r', ',');
        return int.TryParse(line, NumberStyles.None, CultureInfo.InvariantCulture, out var rate) ? rate : throw new MelFusionException($"{Path.GetFileName(file)} holds no sound.");
    }

    private static int FirstSound(ReadOnlySpan<float> samples)
    {
        for (var start = 0; start + FrameSamples <= samples.Length; start += FrameSamples)
        {
            if (Rms(samples.Slice(start, FrameSamples)) > Silence)
            {
                return start;
            }
        }

        return samples.Length;
    }

    private static bool IsSilent(ReadOnlySpan<float> clip)
    {
        var silent = 0;
        for (var start = 0; start < clip.Length; start += FrameSamples)
        {
            silent += Rms(clip.Slice(start, FrameSamples)) < Silence ? 1 : 0;
        }

        return silent * FrameSamples > MostSilent * clip.Length;
    }

    private static float Rms(ReadOnlySpan<float> frame)
    {
        var sum = 0.0;
        foreach (var sample in frame)
        {
            sum += (double)sample * sample;
        }

        return (float)Math.Sqrt(sum / frame.Length);
    }
}
