using MelFusion.Wave;
using MelFusion.Weights;
using TorchSharp;
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;
using Conv2d = MelFusion.Weights.Conv2d;
using F = TorchSharp.torch.nn.functional;

namespace MelFusion.Evaluation.Embeddings;

// Basic Pitch (Bittner and others 2022): how strongly each note, onset and pitch sounds in each frame. Leaves first, the network last.
// B windows, T frames of a window, 88 keys, 264 pitches (three a semitone), 309 bins of the constant-Q transform.

/// <summary>The sizes of a <see cref="BasicPitch"/>: config.json beside its weights.</summary>
public sealed record BasicPitchConfig
{
    /// <summary>The rate of its sounds in Hz.</summary>
    public int SamplingRate { get; init; } = 22_050;

    /// <summary>Samples from frame to frame.</summary>
    public int HopSize { get; init; } = 256;

    /// <summary>Samples of a window.</summary>
    public int WindowSamples { get; init; } = 43_844;

    /// <summary>Octaves of the constant-Q transform.</summary>
    public int Octaves { get; init; } = 9;

    /// <summary>Bins of the transform that are kept.</summary>
    public int CqtBins { get; init; } = 309;

    /// <summary>Bins of an octave.</summary>
    public int BinsPerOctave { get; init; } = 36;

    /// <summary>Length of its kernels in samples.</summary>
    public int CqtKernel { get; init; } = 256;

    /// <summary>Added to a power before its logarithm.</summary>
    public double LogEpsilon { get; init; } = 1e-10;

    /// <summary>By how many bins the map is moved for each harmonic.</summary>
    public IReadOnlyList<int> HarmonicShifts { get; init; } = [-36, 0, 36, 57, 72, 84, 93, 101];

    /// <summary>Pitches.</summary>
    public int ContourBins { get; init; } = 264;

    /// <summary>Keys.</summary>
    public int Notes { get; init; } = 88;

    /// <summary>MIDI number of the lowest key.</summary>
    public int LowestMidiNote { get; init; } = 21;

    /// <summary>Frames that neighbouring windows share.</summary>
    public int OverlapFrames { get; init; } = 30;

    /// <summary>Frames that are counted a second.</summary>
    public int FramesPerSecond { get; init; } = 86;

    internal void Validate()
    {
        bool usable = SamplingRate is > 0 and <= 1_000_000 && HopSize is > 0 and <= 65_536 && Octaves is > 0 and <= 16 && HopSize % (1 << (Octaves - 1)) == 0
            && WindowSamples is > 0 and <= 10_000_000 && OverlapFrames >= 0 && (OverlapFrames + 1L) * HopSize < WindowSamples && BinsPerOctave is > 0 and <= 1024
            && CqtBins > 0 && CqtBins <= Octaves * BinsPerOctave && CqtKernel is > 1 and <= 65_536 && (WindowSamples >> (Octaves - 1)) > CqtKernel / 2
            && ContourBins > 0 && ContourBins == 3 * Notes && HarmonicShifts.Count is > 0 and <= 64 && HarmonicShifts.All(shift => Math.Abs(shift) < CqtBins) && FramesPerSecond > 0;
        if (!usable)
        {
            throw new MelFusionException("Basic Pitch's config.json: a size is not usable.");
        }
    }
}

/// <summary>A constant-Q transform: one set of kernels for the highest octave, the sound halved for each lower one.</summary>
internal sealed class ConstantQ : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "kernel_real")] private readonly Parameter _real; // (36, 256)
    [ComponentName(Name = "kernel_imag")] private readonly Parameter _imaginary;
    [ComponentName(Name = "lowpass")] private readonly Parameter _lowPass; // (256)
    [ComponentName(Name = "scale")] private readonly Parameter _scale; // (bins)
    private readonly BasicPitchConfig _config;

    public ConstantQ(BasicPitchConfig config, Placement place) : base(nameof(ConstantQ))
    {
        _real = LayerParameter.Empty([config.BinsPerOctave, config.CqtKernel], place);
        _imaginary = LayerParameter.Empty([config.BinsPerOctave, config.CqtKernel], place);
        _lowPass = LayerParameter.Empty([config.CqtKernel], place);
        _scale = LayerParameter.Empty([config.CqtBins], place);
        _config = config;
        RegisterComponents();
    }

    /// <summary>Windows (B, samples) to magnitudes (B, T, bins).</summary>
    public override Tensor forward(Tensor windows)
    {
        using var scope = NewDisposeScope();
        var x = windows.unsqueeze(1); // (B, 1, samples)
        var kernels = torch.cat([_real, -_imaginary], 0).unsqueeze(1); // (72, 1, 256)
        var octaves = new List<Tensor>();
        for (int octave = 0; octave < _config.Octaves; octave++)
        {
            x = octave == 0 ? x : Halve(x);
            var mirrored = F.pad(x, [_config.CqtKernel / 2, _config.CqtKernel / 2], PaddingModes.Reflect);
            octaves.Insert(0, F.conv1d(mirrored, kernels, stride: _config.HopSize >> octave)); // the lowest comes first
        }

        var parts = octaves.Select(y => y.chunk(2, 1)).ToList();
        var real = torch.cat([.. parts.Select(part => part[0])], 1);
        var imaginary = torch.cat([.. parts.Select(part => part[1])], 1); // (B, 324, T)
        var magnitude = (real.square() + imaginary.square()).sqrt();
        return (magnitude.narrow(1, magnitude.shape[1] - _config.CqtBins, _config.CqtBins).transpose(1, 2) * _scale).contiguous().MoveToOuterDisposeScope();
    }

    private Tensor Halve(Tensor x)
    {
        int zeros = (_config.CqtKernel / 2) - 1;
        return F.conv1d(F.pad(x, [zeros, zeros]), _lowPass.view(1, 1, -1), stride: 2);
    }
}

/// <summary>A number to multiply by and one to add.</summary>
internal sealed class SingleNorm : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "weight")] private readonly Parameter _weight; // (1)
    [ComponentName(Name = "bias")] private readonly Parameter _bias;

    public SingleNorm(Placement place) : base(nameof(SingleNorm))
    {
        (_weight, _bias) = (LayerParameter.Empty([1], place), LayerParameter.Empty([1], place));
        RegisterComponents();
    }

    public override Tensor forward(Tensor x) => (x * _weight) + _bias;
}

/// <summary>How strongly things sound, each 0 to 1.</summary>
/// <param name="Note">(…, 88 keys).</param>
/// <param name="Onset">(…, 88 keys).</param>
/// <param name="Contour">(…, 264 pitches).</param>
public sealed record NoteActivations(Tensor Note, Tensor Onset, Tensor Contour);

/// <summary>
/// Basic Pitch. Levels are normalised inside each window, so that even silence gives some activation: look at a sound's loudness first, then
/// compare with thresholds (0.5 for onsets, 0.3 for notes).
/// </summary>
public sealed class BasicPitch : nn.Module
{
    private const int WindowsAtOnce = 4;

    [ComponentName(Name = "cqt")] private readonly ConstantQ _transform;
    [ComponentName(Name = "norm")] private readonly SingleNorm _norm;
    [ComponentName(Name = "contour")] private readonly ModuleList<Conv2d> _contour;
    [ComponentName(Name = "note")] private readonly ModuleList<Conv2d> _note;
    [ComponentName(Name = "onset")] private readonly ModuleList<Conv2d> _onset;

    /// <summary>A network of uninitialised weights.</summary>
    /// <param name="config">Its sizes.</param>
    /// <param name="place">Device and precision; 32 bits.</param>
    /// <exception cref="MelFusionException">The sizes cannot be.</exception>
    public BasicPitch(BasicPitchConfig config, Placement place) : base(nameof(BasicPitch))
    {
        config.Validate();
        Config = config;
        _transform = new(config, place);
        _norm = new(place);
        int harmonics = config.HarmonicShifts.Count;
        Conv2d Make(int inChannels, int outChannels, (int, int) kernel, int stride, (int, int) padding) => new(inChannels, outChannels, kernel, place, (1, stride), padding);
        _contour = new(Make(harmonics, 8, (3, 39), 1, (1, 19)), Make(8, 1, (5, 5), 1, (2, 2)));
        _note = new(Make(1, 32, (7, 7), 3, (3, 2)), Make(32, 1, (7, 3), 1, (3, 1)));
        _onset = new(Make(harmonics, 32, (5, 5), 3, (2, 1)), Make(33, 1, (3, 3), 1, (1, 1)));
        RegisterComponents();
    }

    /// <summary>Its sizes.</summary>
    public BasicPitchConfig Config { get; }

    /// <summary>Reads the network from a folder with config.json and model.safetensors.</summary>
    /// <exception cref="MelFusionException">A file is missing or does not fit.</exception>
    public static BasicPitch Open(string folder, Placement place) =>
        NetworkFolder.Open(folder, (BasicPitchConfig config) => new BasicPitch(config, place));

    /// <summary>The windows of a sound: it begins half an overlap into the first, and zeros fill the last.</summary>
    /// <param name="samples">The sound at the network's rate.</param>
    /// <returns>(B, samples of a window).</returns>
    public Tensor Windows(ReadOnlySpan<float> samples)
    {
        int before = Config.OverlapFrames * Config.HopSize / 2, step = Config.WindowSamples - (Config.OverlapFrames * Config.HopSize);
        int count = (samples.Length + before + step - 1) / step;
        var windows = new float[Math.Max(1, count) * (long)Config.WindowSamples];
        for (int i = 0; i < Math.Max(1, count); i++)
        {
            int from = (i * step) - before, first = Math.Max(0, from), last = Math.Min(samples.Length, from + Config.WindowSamples);
            if (last > first)
            {
                samples[first..last].CopyTo(windows.AsSpan((i * Config.WindowSamples) + first - from));
            }
        }

        return torch.tensor(windows, [Math.Max(1, count), Config.WindowSamples]);
    }

    /// <summary>Activations of a whole mono sound.</summary>
    /// <param name="samples">The sound.</param>
    /// <param name="sampleRate">Its rate in Hz; other rates than the network's are resampled.</param>
    /// <returns>(frames, 88), (frames, 88) and (frames, 264).</returns>
    public NoteActivations Transcribe(ReadOnlySpan<float> samples, int sampleRate)
    {
        using var scope = NewDisposeScope();
        var sound = sampleRate == Config.SamplingRate ? samples : new Resampler(sampleRate, Config.SamplingRate).Resample(samples);
        var windows = Windows(sound);
        var parts = new List<NoteActivations>();
        for (long at = 0; at < windows.shape[0]; at += WindowsAtOnce)
        {
            parts.Add(Forward(windows.narrow(0, at, Math.Min(WindowsAtOnce, windows.shape[0] - at))));
        }

        long frames = (long)sound.Length * Config.FramesPerSecond / Config.SamplingRate;
        Tensor Whole(Func<NoteActivations, Tensor> of) => Join([.. parts.Select(of)], frames).MoveToOuterDisposeScope();
        return new(Whole(part => part.Note), Whole(part => part.Onset), Whole(part => part.Contour));
    }

    /// <summary>Activations of windows.</summary>
    /// <param name="windows">(B, samples of a window).</param>
    /// <returns>(B, T, 88), (B, T, 88) and (B, T, 264).</returns>
    public NoteActivations Forward(Tensor windows)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var stack = Harmonics(_norm.call(Level(_transform.call(windows)))); // (B, harmonics, T, 264)
        var contour = _contour[1].call(_contour[0].call(stack).relu()).sigmoid(); // (B, 1, T, 264)
        var note = _note[1].call(_note[0].call(contour).relu()).sigmoid(); // (B, 1, T, 88)
        var onset = _onset[1].call(torch.cat([note, _onset[0].call(stack).relu()], 1)).sigmoid();
        return new(note.squeeze(1).MoveToOuterDisposeScope(), onset.squeeze(1).MoveToOuterDisposeScope(), contour.squeeze(1).MoveToOuterDisposeScope());
    }

    /// <summary>Magnitudes of the constant-Q transform (B, T, 309) of windows.</summary>
    internal Tensor Magnitudes(Tensor windows) => _transform.call(windows);

    /// <summary>Magnitudes in dB, from 0 at a window's weakest to 1 at its strongest.</summary>
    internal Tensor Level(Tensor magnitudes)
    {
        using var scope = NewDisposeScope();
        var level = 10 * (magnitudes.square() + Config.LogEpsilon).log10();
        level = level - level.amin([1, 2], keepdim: true);
        var largest = level.amax([1, 2], keepdim: true);
        return torch.where(largest > 0, level / largest.clamp_min(1e-30), torch.zeros_like(level)).MoveToOuterDisposeScope();
    }

    /// <summary>The map moved by each harmonic's bins, one after another; zeros enter.</summary>
    private Tensor Harmonics(Tensor map)
    {
        using var scope = NewDisposeScope();
        long bins = map.shape[2];
        var moved = Config.HarmonicShifts.Select(shift => shift >= 0
            ? F.pad(map.narrow(2, shift, bins - shift), [0, shift])
            : F.pad(map.narrow(2, 0, bins + shift), [-shift, 0]));
        return torch.stack([.. moved.Select(one => one.narrow(2, 0, Config.ContourBins))], 1).contiguous().MoveToOuterDisposeScope();
    }

    private Tensor Join(List<Tensor> parts, long frames)
    {
        int half = Config.OverlapFrames / 2;
        var whole = torch.cat(parts, 0);
        whole = whole.narrow(1, half, whole.shape[1] - (2 * half)).flatten(0, 1);
        return whole.narrow(0, 0, Math.Min(frames, whole.shape[0])).clone();
    }
}
