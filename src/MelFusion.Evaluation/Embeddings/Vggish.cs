using MelFusion.Wave;
using MelFusion.Weights;
using TorchSharp;
using TorchSharp.Utils;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace MelFusion.Evaluation.Embeddings;

/// <summary>
/// VGGish (Hershey and others, 2017) as FAD uses it: 0.96-second log-mel patches to 128 numbers, without the last ReLU, PCA and quantisation.
/// N = patches.
/// </summary>
public sealed class Vggish : nn.Module, IPublishedLayouts
{
    /// <summary>The rate of its sounds in Hz.</summary>
    public const int SampleRate = 16_000;

    /// <summary>Frames of a patch.</summary>
    public const int PatchFrames = 96;

    /// <summary>Mel bands.</summary>
    public const int Bands = 64;

    private const int Frame = 400, Hop = 160, Fft = 512, FramesAtOnce = 8192;
    private const double LowestHz = 125, HighestHz = 7500, LogOffset = 0.01;
    private static readonly (int Place, int In, int Out)[] Convolutions = [(0, 1, 64), (3, 64, 128), (6, 128, 256), (8, 256, 256), (11, 256, 512), (13, 512, 512)];
    private static readonly int[] PooledAfter = [0, 3, 8, 13];

    [ComponentName(Name = "features")] private readonly NumberedLayers<Conv2d> _features;
    [ComponentName(Name = "embeddings")] private readonly NumberedLayers<Linear> _embeddings;

    /// <summary>A network of uninitialised weights.</summary>
    /// <param name="place">Device and precision.</param>
    public Vggish(Placement place) : base(nameof(Vggish))
    {
        _features = new([.. Convolutions.Select(layer => (layer.Place, new Conv2d(layer.In, layer.Out, 3, place, padding: 1)))]);
        _embeddings = new([(0, new Linear(512 * 6 * 4, 4096, place)), (2, new Linear(4096, 4096, place)), (4, new Linear(4096, 128, place))]);
        RegisterComponents();
    }

    /// <summary>The parameters of PCA, which is not done here, are left out.</summary>
    WeightsFile IPublishedLayouts.InOwnNames(WeightsFile file) => file.Renamed([new("^pproc\\.", null)]);

    /// <summary>Log-mel patches (N, 96, 64) of a mono sound, one after another; the remainder is dropped.</summary>
    /// <param name="samples">The sound, full scale at 1.</param>
    /// <param name="sampleRate">Its rate in Hz; other rates than 16 kHz are resampled.</param>
    public static Tensor Patches(ReadOnlySpan<float> samples, int sampleRate)
    {
        using var scope = NewDisposeScope();
        var mel = LogMel(sampleRate == SampleRate ? samples : new Resampler(sampleRate, SampleRate).Resample(samples));
        long count = mel.shape[0] / PatchFrames;
        return mel.narrow(0, 0, count * PatchFrames).reshape(count, PatchFrames, Bands).MoveToOuterDisposeScope();
    }

    /// <summary>Log-mels (frames, 64) of a mono sound at 16 kHz, computed in 64 bits: no padding, one frame every 10 ms.</summary>
    /// <param name="samples">The sound.</param>
    public static Tensor LogMel(ReadOnlySpan<float> samples)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        int frames = samples.Length < Frame ? 0 : 1 + ((samples.Length - Frame) / Hop);
        var parts = new List<Tensor> { torch.empty(0, Bands) };
        var filters = torch.tensor(MelMatrix());
        for (int start = 0; start < frames; start += FramesAtOnce)
        {
            using var part = NewDisposeScope();
            int count = Math.Min(FramesAtOnce, frames - start);
            var sound = torch.tensor(samples.Slice(start * Hop, ((count - 1) * Hop) + Frame).ToArray()).to(ScalarType.Float64);
            var windowed = sound.unfold(0, Frame, Hop) * torch.hann_window(Frame, dtype: ScalarType.Float64); // (T, 400)
            var energies = torch.matmul(fft.rfft(windowed, Fft).abs(), filters);
            parts.Add((energies + LogOffset).log().to(ScalarType.Float32).MoveToOuterDisposeScope());
        }

        return torch.cat(parts, 0).MoveToOuterDisposeScope();
    }

    /// <summary>The filters (257, 64): triangles on a mel scale and in mel, height 1, nothing of the lowest bin.</summary>
    public static double[,] MelMatrix()
    {
        static double Mel(double hz) => 1127 * Math.Log(1 + (hz / 700));
        var matrix = new double[(Fft / 2) + 1, Bands];
        double lowest = Mel(LowestHz), step = (Mel(HighestHz) - lowest) / (Bands + 1);
        for (int bin = 1; bin <= Fft / 2; bin++)
        {
            double place = (Mel((double)bin * SampleRate / Fft) - lowest) / step;
            for (int band = 0; band < Bands; band++)
            {
                matrix[bin, band] = Math.Max(0, Math.Min(place - band, band + 2 - place));
            }
        }

        return matrix;
    }

    /// <summary>The maps after the last pooling.</summary>
    /// <param name="patches">(N, 96, 64).</param>
    /// <returns>(N, 512, 6, 4).</returns>
    public Tensor Features(Tensor patches)
    {
        using var scope = NewDisposeScope();
        var x = patches.unsqueeze(1); // (N, 1, 96, 64)
        foreach (var (place, convolution) in _features)
        {
            x = convolution.call(x).relu_();
            x = PooledAfter.Contains(place) ? F.max_pool2d(x, 2) : x;
        }

        return x.MoveToOuterDisposeScope();
    }

    /// <summary>The embedding of patches.</summary>
    /// <param name="patches">(N, 96, 64).</param>
    /// <returns>(N, 128).</returns>
    public Tensor Forward(Tensor patches)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var x = Features(patches).permute(0, 2, 3, 1).flatten(1); // time, frequency, channel
        foreach (var (place, linear) in _embeddings)
        {
            x = place == 0 ? linear.call(x) : linear.call(x.relu());
        }

        return x.MoveToOuterDisposeScope();
    }
}

/// <summary>Layers named by numbers with gaps, as a sequence of layers is whose others hold no weights.</summary>
internal sealed class NumberedLayers<T> : nn.Module, IEnumerable<(int Place, T Layer)> where T : nn.Module
{
    private readonly (int Place, T Layer)[] _layers;

    public NumberedLayers(params (int Place, T Layer)[] layers) : base(nameof(NumberedLayers<T>))
    {
        _layers = layers;
        foreach (var (place, layer) in layers)
        {
            register_module(place.ToString(System.Globalization.CultureInfo.InvariantCulture), layer);
        }
    }

    public IEnumerator<(int Place, T Layer)> GetEnumerator() => _layers.AsEnumerable().GetEnumerator();

    System.Collections.IEnumerator System.Collections.IEnumerable.GetEnumerator() => GetEnumerator();
}
