using System.Buffers.Binary;
using System.ComponentModel;
using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text;

namespace MelFusion.Wave;

/// <summary>How much of a sound file is accepted.</summary>
public sealed record AudioLimits
{
    /// <summary>The longest sound.</summary>
    public TimeSpan Duration { get; init; } = TimeSpan.FromHours(1);

    /// <summary>Whether a longer one is cut there; otherwise it is refused.</summary>
    public bool Cut { get; init; }

    /// <summary>The most channels.</summary>
    public int Channels { get; init; } = 8;

    /// <summary>The highest sample rate, in Hz.</summary>
    public int SampleRate { get; init; } = 768_000;

    /// <summary>How long decoding may take.</summary>
    public TimeSpan Time { get; init; } = TimeSpan.FromMinutes(5);

    /// <summary>Whether channels are averaged while reading, so that one alone is kept in memory.</summary>
    public bool Mono { get; init; }
}

/// <summary>
/// Sound files of many formats. WAV is read here; Ogg, FLAC, MP3, AAC, MP4, Matroska, AIFF, AU and CAF are decoded by ffmpeg as a process of its own,
/// started without a shell, allowed to open that file alone and no format but the one its first bytes show.
/// </summary>
public static class AudioFile
{
    private const int SniffedBytes = 16;

    private const string Decoders =
        "vorbis,libvorbis,opus,libopus,flac,mp3,mp3float,mp2,mp2float,mp1,mp1float,aac,aac_fixed,alac,pcm_s8,pcm_u8,pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be," +
        "pcm_s32le,pcm_s32be,pcm_f32le,pcm_f32be,pcm_f64le,pcm_f64be,pcm_mulaw,pcm_alaw";

    /// <summary>Endings of the files that can be read, in lower case.</summary>
    public static IReadOnlySet<string> Extensions { get; } = new HashSet<string>(StringComparer.OrdinalIgnoreCase)
    {
        ".wav", ".ogg", ".oga", ".opus", ".flac", ".mp3", ".aac", ".m4a", ".mp4", ".mka", ".webm", ".aif", ".aiff", ".au", ".caf",
    };

    /// <summary>Reads a sound file, whatever its ending says.</summary>
    /// <exception cref="MelFusionException">It is missing, damaged, of an unknown format or beyond a limit, or ffmpeg is needed and missing.</exception>
    public static Waveform Read(string path, AudioLimits? limits = null, CancellationToken cancellation = default)
    {
        limits ??= new AudioLimits();
        string format = Sniff(path);
        return format == "wav" ? ReadWav(path, limits) : Decode(path, format, limits, cancellation);
    }

    /// <summary>The name ffmpeg gives to the format that the first bytes show.</summary>
    private static string Sniff(string path)
    {
        Span<byte> head = stackalloc byte[SniffedBytes];
        int count;
        using (var file = WavFile.Open(path))
        {
            count = WavFile.ReadAvailable(file, head, 0, path);
        }

        if (count == 0)
        {
            throw new MelFusionException($"{path}: the file is empty.");
        }

        return FormatOf(head) ?? throw new MelFusionException(
            $"{path}: this is no sound file of a known format (WAV, Ogg, FLAC, MP3, AAC, MP4, Matroska, AIFF, AU, CAF); convert it to WAV.");
    }

    private static string? FormatOf(ReadOnlySpan<byte> head) => Encoding.Latin1.GetString(head) switch
    {
        ['R', 'I', 'F', 'F' or 'X', ..] or ['R', 'F', '6', '4', ..] => "wav",
        ['O', 'g', 'g', 'S', ..] => "ogg",
        ['f', 'L', 'a', 'C', ..] => "flac",
        ['I', 'D', '3', ..] => "mp3",
        ['F', 'O', 'R', 'M', _, _, _, _, 'A', 'I', 'F', 'F' or 'C', ..] => "aiff",
        ['.', 's', 'n', 'd', ..] => "au",
        ['c', 'a', 'f', 'f', ..] => "caf",
        [_, _, _, _, 'f', 't', 'y', 'p', ..] => "mov",
        ['\x1A', '\x45', '\xDF', '\xA3', ..] => "matroska",
        ['\xFF', var second, ..] when (second & 0xF6) == 0xF0 => "aac", // sync word with layer 0
        ['\xFF', var second, ..] when (second & 0xE0) == 0xE0 => "mp3", // sync word
        _ => null,
    };

    private static Waveform ReadWav(string path, AudioLimits limits)
    {
        var info = WavFile.ReadInfo(path);
        CheckFormat(path, info.Channels, info.SampleRate, limits);
        long most = MostFrames(limits, info.SampleRate);
        if (info.Frames > most && !limits.Cut)
        {
            throw TooLong(path, limits);
        }

        var sound = WavFile.Read(path, 0, most);
        return limits.Mono ? new Waveform([sound.ToMono()], sound.SampleRate) : sound;
    }

    private static Waveform Decode(string path, string format, AudioLimits limits, CancellationToken cancellation)
    {
        using var process = Start(path, format, limits);
        using var timeout = new CancellationTokenSource(limits.Time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(timeout.Token, cancellation);
        using var stop = either.Token.Register(() => Kill(process));
        var complaint = process.StandardError.ReadToEndAsync(CancellationToken.None);
        try
        {
            var sound = ReadPipe(path, process.StandardOutput.BaseStream, limits);
            Kill(process); // what is beyond the limit is not waited for
            process.WaitForExit();
            cancellation.ThrowIfCancellationRequested();
            return sound ?? throw (timeout.IsCancellationRequested
                ? new MelFusionException($"{path}: decoding took longer than {limits.Time.TotalSeconds:0} s; convert the file to WAV.")
                : new MelFusionException($"{path}: ffmpeg cannot decode it: {FirstLine(complaint)}"));
        }
        finally
        {
            Kill(process);
        }
    }

    private static Process Start(string path, string format, AudioLimits limits)
    {
        string seconds = (limits.Duration + TimeSpan.FromSeconds(1)).TotalSeconds.ToString("0", System.Globalization.CultureInfo.InvariantCulture);
        string[] arguments =
        [
            "-nostdin", "-hide_banner", "-v", "error", "-threads", "1", "-protocol_whitelist", "file,pipe", "-format_whitelist", format,
            "-codec_whitelist", Decoders, "-f", format, "-i", "file:" + Path.GetFullPath(path), "-map", "0:a:0", "-map_metadata", "-1", "-t", seconds,
            "-c:a", "pcm_f32le", "-f", "wav", "-bitexact", "pipe:1",
        ];
        try
        {
            return Process.Start(new ProcessStartInfo("ffmpeg", arguments)
            {
                UseShellExecute = false, RedirectStandardOutput = true, RedirectStandardError = true, CreateNoWindow = true,
            })!;
        }
        catch (Win32Exception e)
        {
            throw new MelFusionException($"{path}: ffmpeg is needed to read this format and cannot be started; install it, or convert the file to WAV.", e);
        }
    }

    /// <summary>The sound that comes through the pipe as WAV of 32-bit floats; null where there is none.</summary>
    private static Waveform? ReadPipe(string path, Stream pipe, AudioLimits limits)
    {
        if (ReadHeader(pipe) is not var (channels, rate))
        {
            return null;
        }

        CheckFormat(path, channels, rate, limits);
        var samples = Enumerable.Range(0, limits.Mono ? 1 : channels).Select(_ => new List<float>()).ToArray();
        long most = MostFrames(limits, rate);
        var buffer = new byte[4 * channels * 4096];
        for (int got; (got = pipe.ReadAtLeast(buffer, buffer.Length, false)) > 0 && samples[0].Count <= most;)
        {
            Append(samples, MemoryMarshal.Cast<byte, float>(buffer.AsSpan(0, got)), channels);
        }

        if (samples[0].Count > most && !limits.Cut)
        {
            throw TooLong(path, limits);
        }

        int frames = (int)Math.Min(samples[0].Count, most);
        return frames == 0 ? null : new Waveform([.. samples.Select(channel => channel.GetRange(0, frames).ToArray())], rate);
    }

    private static (int Channels, int Rate)? ReadHeader(Stream pipe)
    {
        (int Channels, int Rate)? format = null;
        var chunk = new byte[256];
        if (pipe.ReadAtLeast(chunk.AsSpan(0, 12), 12, false) < 12)
        {
            return null;
        }

        while (pipe.ReadAtLeast(chunk.AsSpan(0, 8), 8, false) == 8 && !chunk.AsSpan(0, 4).SequenceEqual("data"u8))
        {
            bool isFormat = chunk.AsSpan(0, 4).SequenceEqual("fmt "u8);
            int size = (int)BinaryPrimitives.ReadUInt32LittleEndian(chunk.AsSpan(4));
            if (size is < 0 or > 256 || pipe.ReadAtLeast(chunk.AsSpan(0, size), size, false) < size)
            {
                return null;
            }

            format = isFormat ? (BinaryPrimitives.ReadUInt16LittleEndian(chunk.AsSpan(2)), BinaryPrimitives.ReadInt32LittleEndian(chunk.AsSpan(4))) : format;
        }

        return format;
    }

    private static void Append(List<float>[] samples, ReadOnlySpan<float> interleaved, int channels)
    {
        for (int i = 0; i + channels <= interleaved.Length; i += channels)
        {
            var frame = interleaved.Slice(i, channels);
            if (samples.Length == 1)
            {
                samples[0].Add(Mean(frame));
                continue;
            }

            for (int c = 0; c < channels; c++)
            {
                samples[c].Add(Sound(frame[c]));
            }
        }
    }

    private static float Mean(ReadOnlySpan<float> frame)
    {
        float sum = 0;
        foreach (float sample in frame)
        {
            sum += Sound(sample) / frame.Length;
        }

        return sum;
    }

    private static float Sound(float sample) => float.IsNaN(sample) ? 0 : Math.Clamp(sample, -WavFile.LoudestSample, WavFile.LoudestSample);

    private static long MostFrames(AudioLimits limits, int rate) => (long)Math.Min(limits.Duration.TotalSeconds * rate, Array.MaxLength);

    private static void CheckFormat(string path, int channels, int rate, AudioLimits limits)
    {
        if (channels < 1 || channels > limits.Channels || rate < 1 || rate > limits.SampleRate)
        {
            throw new MelFusionException(
                $"{path}: it has {channels} channels at {rate} Hz, and 1 to {limits.Channels} at up to {limits.SampleRate} Hz are accepted; convert it first.");
        }
    }

    private static MelFusionException TooLong(string path, AudioLimits limits) =>
        new($"{path}: it is longer than the {limits.Duration.TotalSeconds:0.##} s that are accepted; cut it first.");

    private static string FirstLine(Task<string> complaint)
    {
        string text = complaint.Wait(TimeSpan.FromSeconds(5)) ? complaint.Result : string.Empty;
        string line = text.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries).FirstOrDefault() ?? "it holds no sound";
        return string.Concat(line.Take(200).Where(c => !char.IsControl(c))).TrimEnd('.') + ".";
    }

    private static void Kill(Process process)
    {
        try
        {
            process.Kill(true);
        }
        catch (Exception e) when (e is InvalidOperationException or Win32Exception or NotSupportedException)
        {
            // It has ended already.
        }
    }
}
