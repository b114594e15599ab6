namespace MelFusion.Wave;

/// <summary>
/// From one sample rate to another by a sinc under a squared-cosine window, as torchaudio's resample does it by default (6 zero crossings, cut off at
/// 0.99 of the lower Nyquist frequency), computed in double. Only the taps under the window are visited, so any pair of rates is cheap.
/// </summary>
public sealed class Resampler
{
    private const double ZeroCrossings = 6, Rolloff = 0.99;

    /// <summary>More phases than this are not kept but computed where they are needed: rates without a common divisor.</summary>
    private const int MostKeptWeights = 1 << 18;

    private readonly int _from, _to; // without their common divisor
    private readonly double _cutOff; // in units of the greatest common divisor
    private readonly int _reach; // input samples on either side of an output sample that its window covers
    private readonly double[]? _weights; // (_to phases, taps)

    /// <summary>Between two rates in Hz.</summary>
    public Resampler(int fromRate, int toRate)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(fromRate);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(toRate);
        int divisor = (int)System.Numerics.BigInteger.GreatestCommonDivisor(fromRate, toRate);
        (_from, _to) = (fromRate / divisor, toRate / divisor);
        _cutOff = Math.Min(_from, _to) * Rolloff;
        _reach = (int)Math.Ceiling(ZeroCrossings * _from / _cutOff);
        _weights = (long)_to * Taps <= MostKeptWeights ? [.. Enumerable.Range(0, _to).SelectMany(Weights)] : null;
    }

    private int Taps => (2 * _reach) + 2;

    /// <summary>Output samples of so many input samples: to x n / from, rounded up.</summary>
    public long LengthOf(long samples) => checked((samples * _to) + _from - 1) / _from;

    /// <summary>The samples at the other rate; silence is assumed beyond both ends.</summary>
    public float[] Resample(ReadOnlySpan<float> samples)
    {
        if (_from == _to)
        {
            return samples.ToArray();
        }

        long length = LengthOf(samples.Length);
        if (length > Array.MaxLength)
        {
            throw new MelFusionException($"Resampling {samples.Length} samples would give {length}, too many at once; cut the sound into parts.");
        }

        var output = new float[length];
        for (int j = 0; j < output.Length; j++)
        {
            output[j] = At(samples, j);
        }

        return output;
    }

    /// <summary>The mean of a sound's channels at another rate.</summary>
    public static float[] ToMono(Waveform sound, int toRate) => Resample(new Waveform([sound.ToMono()], sound.SampleRate), toRate).Channels[0];

    /// <summary>All channels of a sound at another rate.</summary>
    public static Waveform Resample(Waveform sound, int toRate)
    {
        if (sound.SampleRate == toRate)
        {
            return sound;
        }

        var resampler = new Resampler(sound.SampleRate, toRate);
        return new Waveform([.. sound.Channels.Select(channel => resampler.Resample(channel))], toRate);
    }

    private float At(ReadOnlySpan<float> samples, int j)
    {
        int phase = j % _to;
        long first = ((long)j * _from / _to) - _reach;
        var weights = _weights is null ? Weights(phase) : _weights.AsSpan(phase * Taps, Taps);
        int begin = (int)Math.Max(0, -first), end = (int)Math.Min(Taps, samples.Length - first);
        double sum = 0;
        for (int i = begin; i < end; i++)
        {
            sum += weights[i] * samples[(int)(first + i)];
        }

        return (float)sum;
    }

    /// <summary>The windowed sinc around an output sample that lies phase / to of an output period behind an input sample.</summary>
    private double[] Weights(int phase)
    {
        var weights = new double[Taps];
        double behind = (double)((long)phase * _from % _to) / _to; // in input samples, 0 to 1
        for (int i = 0; i < weights.Length; i++)
        {
            double t = Math.Clamp((i - _reach - behind) / _from * _cutOff, -ZeroCrossings, ZeroCrossings);
            double window = Math.Pow(Math.Cos(t * Math.PI / ZeroCrossings / 2), 2);
            weights[i] = (t == 0 ? 1 : Math.Sin(t * Math.PI) / (t * Math.PI)) * window * _cutOff / _from;
        }

        return weights;
    }
}
