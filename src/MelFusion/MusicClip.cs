namespace MelFusion;

/// <summary>A piece of music, and how to make it again.</summary>
/// <param name="Samples">Mono, -1 to 1: a piece that came out louder than that is made quieter as a whole, so that nothing of it is cut off.</param>
/// <param name="SampleRate">Samples a second, in Hz.</param>
/// <param name="Recipe">Everything that decided these samples.</param>
public sealed record MusicClip(float[] Samples, int SampleRate, Recipe Recipe)
{
    /// <summary>Sentences for a person, such as that the text was too long and its end left out.</summary>
    public IReadOnlyList<string> Remarks { get; init; } = [];

    /// <summary>How long it is.</summary>
    public TimeSpan Duration => TimeSpan.FromSeconds(Samples.Length / (double)SampleRate);
}
