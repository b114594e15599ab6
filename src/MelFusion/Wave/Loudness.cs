namespace MelFusion.Wave;

/// <summary>Integrated loudness after ITU-R BS.1770-4.</summary>
public static class Loudness
{
    private const double AbsoluteGate = -70, RelativeGate = -10, Offset = -0.691;

    /// <summary>
    /// Loudness in LUFS; negative infinity where no block of 0.4 s is above the gate of -70 LUFS, or none is whole. Channels weigh 1, the surrounds of
    /// five or more channels 1.41, and the low-frequency channel of six nothing.
    /// </summary>
    public static double Integrated(Waveform sound)
    {
        double[] powers = BlockPowers(sound);
        double[] loud = [.. powers.Where(power => InUnits(power) > AbsoluteGate)];
        if (loud.Length == 0)
        {
            return double.NegativeInfinity;
        }

        double gate = InUnits(loud.Average()) + RelativeGate;
        return InUnits(loud.Where(power => InUnits(power) > gate).Average());
    }

    private static double InUnits(double power) => Offset + (10 * Math.Log10(power));

    /// <summary>Weighted mean power of every whole block: 0.4 s, every 0.1 s.</summary>
    private static double[] BlockPowers(Waveform sound)
    {
        double step = sound.SampleRate * 0.1;
        int length = (int)Math.Round(4 * step);
        int count = sound.Frames < length ? 0 : (int)Math.Round((sound.Frames - length) / step) + 1;
        while (count > 0 && (int)Math.Round((count - 1) * step) + length > sound.Frames)
        {
            count--;
        }

        var powers = new double[count];
        for (int c = 0; c < sound.Channels.Count; c++)
        {
            AddPowers(powers, Weighted(sound.Channels[c], sound.SampleRate), ChannelWeight(c, sound.Channels.Count), step, length);
        }

        return powers;
    }

    private static void AddPowers(double[] powers, double[] samples, double weight, double step, int length)
    {
        var sums = new double[samples.Length + 1];
        for (int i = 0; i < samples.Length; i++)
        {
            sums[i + 1] = sums[i] + (samples[i] * samples[i]);
        }

        for (int block = 0; block < powers.Length; block++)
        {
            int start = (int)Math.Round(block * step);
            powers[block] += weight * (sums[start + length] - sums[start]) / length;
        }
    }

    private static double ChannelWeight(int channel, int count) => (count, channel) switch
    {
        (6, 3) => 0,
        (5, >= 3) or (6, >= 4) => 1.41,
        _ => 1,
    };

    /// <summary>The K-weighting: a shelf for the head, then a high pass, in double and unclipped.</summary>
    private static double[] Weighted(float[] samples, int rate)
    {
        (Biquad shelf, Biquad highPass) = (Biquad.HeadShelf(rate), Biquad.HighPass(rate));
        var weighted = new double[samples.Length];
        for (int i = 0; i < samples.Length; i++)
        {
            weighted[i] = highPass.Next(shelf.Next(samples[i]));
        }

        return weighted;
    }

    /// <summary>A second-order section; the standard's table at 48 kHz, the same analogue prototypes at other rates.</summary>
    private sealed class Biquad(double b0, double b1, double b2, double a1, double a2)
    {
        private double _first, _second;

        public static Biquad HeadShelf(int rate)
        {
            (double frequency, double gain, double q) = (1681.974450955533, 3.999843853973347, 0.7071752369554196);
            double k = Math.Tan(Math.PI * frequency / rate), high = Math.Pow(10, gain / 20), band = Math.Pow(high, 0.4996667741545416);
            double a0 = 1 + (k / q) + (k * k);
            return new Biquad(
                (high + (band * k / q) + (k * k)) / a0, 2 * ((k * k) - high) / a0, (high - (band * k / q) + (k * k)) / a0,
                2 * ((k * k) - 1) / a0, (1 - (k / q) + (k * k)) / a0);
        }

        public static Biquad HighPass(int rate)
        {
            (double frequency, double q) = (38.13547087602444, 0.5003270373238773);
            double k = Math.Tan(Math.PI * frequency / rate), a0 = 1 + (k / q) + (k * k);
            return new Biquad(1, -2, 1, 2 * ((k * k) - 1) / a0, (1 - (k / q) + (k * k)) / a0);
        }

        public double Next(double x)
        {
            double y = (b0 * x) + _first;
            _first = (b1 * x) - (a1 * y) + _second;
            _second = (b2 * x) - (a2 * y);
            return y;
        }
    }
}
