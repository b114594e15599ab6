namespace MelFusion.Wave;

/// <summary>Samples as 16-bit numbers.</summary>
public static class Pcm16
{
    /// <summary>
    /// Times 32768, truncated towards zero as TANGO does it, but clamped: upstream wraps a sample of 1.0 round to -32768. No number gives 0.
    /// </summary>
    public static short FromSample(float sample) =>
        float.IsNaN(sample) ? (short)0 : (short)Math.Clamp(sample * 32768f, short.MinValue, short.MaxValue);

    /// <summary>The sample of a 16-bit number, -1 to just under 1.</summary>
    public static float ToSample(short value) => value / 32768f;
}
