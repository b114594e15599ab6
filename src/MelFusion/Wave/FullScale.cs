namespace MelFusion.Wave;

/// <summary>Keeps a piece of music from being cut off where a file's numbers end.</summary>
internal static class FullScale
{
    /// <summary>
    /// Makes samples louder than <paramref name="loudest"/> quieter as a whole, in place. Any others stay as they are, bit for bit, and so do samples of which
    /// one is not finite.
    /// </summary>
    /// <param name="samples">The piece.</param>
    /// <param name="loudest">The largest magnitude that is left as it is.</param>
    /// <param name="peak">The magnitude that a larger one becomes: by default -0.09 dBFS.</param>
    /// <returns>The same samples.</returns>
    public static float[] Fit(float[] samples, float loudest = 1, float peak = 0.99f)
    {
        float found = samples.Aggregate(0f, (most, sample) => Math.Max(most, Math.Abs(sample)));
        if (found > loudest && float.IsFinite(found))
        {
            float factor = peak / found;
            foreach (ref float sample in samples.AsSpan())
            {
                sample *= factor;
            }
        }

        return samples;
    }
}
