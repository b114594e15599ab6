using System.Text.Json.Serialization;

namespace MelFusion.Wave;

/// <summary>Which formula places the mel bands.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<MelScale>))]
public enum MelScale
{
    /// <summary>Linear to 1 kHz, logarithmic above.</summary>
    [JsonStringEnumMemberName("slaney")] Slaney,

    /// <summary>2595 log10(1 + f / 700).</summary>
    [JsonStringEnumMemberName("htk")] Htk,
}

/// <summary>How a waveform becomes a log-mel spectrogram: mel/config.json of a model folder.</summary>
public sealed record MelConfig
{
    /// <summary>Samples a second, in Hz.</summary>
    public int SampleRate { get; init; } = 22050;

    /// <summary>Length of the Fourier transform in samples.</summary>
    public int NFft { get; init; } = 1024;

    /// <summary>Samples from frame to frame.</summary>
    public int HopLength { get; init; } = 256;

    /// <summary>Length of the window (periodic Hann) in samples.</summary>
    public int WinLength { get; init; } = 1024;

    /// <summary>Mel bands.</summary>
    public int NMels { get; init; } = 80;

    /// <summary>Lower edge of the lowest band, in Hz.</summary>
    public double FMin { get; init; }

    /// <summary>Upper edge of the highest band, in Hz.</summary>
    public double FMax { get; init; } = 8000;

    /// <summary>Samples mirrored at both ends: half the transform centres the frames, (n_fft - hop) / 2 gives exactly one frame a hop.</summary>
    public int Padding { get; init; } = 384;

    /// <summary>Exponent of the magnitude before the filters: 1 magnitude, 2 power.</summary>
    public double Power { get; init; } = 1;

    /// <summary>Added to the squared magnitude before its root.</summary>
    public double MagnitudeEpsilon { get; init; } = 1e-9;

    /// <summary>Band energies below this are raised to it before the natural logarithm.</summary>
    public double LogFloor { get; init; } = 1e-5;

    /// <summary>Which formula places the bands.</summary>
    public MelScale MelScale { get; init; } = MelScale.Slaney;

    /// <summary>Whether each triangle has the area 1 over frequency (Slaney) instead of the height 1.</summary>
    public bool AreaNorm { get; init; } = true;

    /// <summary>Subtracted from a log-mel before the model's VAE, and added after it; 0 for TANGO.</summary>
    public double Mean { get; init; }

    /// <summary>What a log-mel less its mean is divided by before the model's VAE, and multiplied by after it; 1 for TANGO.</summary>
    public double Deviation { get; init; } = 1;

    /// <summary>Whether a waveform is levelled before its mel where it is learned from or rebuilt, as AudioLDM and TANGO do (<see cref="TangoWaveform"/>).</summary>
    public bool Levelled { get; init; }

    /// <summary>The front end of HiFi-GAN's universal model at 22.05 kHz, and of melfusion-mini: the defaults.</summary>
    [JsonIgnore]
    public static MelConfig HifiGanUniversal { get; } = new();

    /// <summary>The front end of AudioLDM and TANGO: 16 kHz, hop 160, 64 bands.</summary>
    [JsonIgnore]
    public static MelConfig Tango { get; } = new()
    {
        SampleRate = 16000, HopLength = 160, NMels = 64, Padding = 512, MagnitudeEpsilon = 0, Levelled = true,
    };

    /// <summary>The transform underneath.</summary>
    [JsonIgnore]
    public Stft Stft => new(NFft, HopLength, WinLength, Padding);
}
