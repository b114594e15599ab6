using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Wave;

/// <summary>Sound as samples: one array a channel, all of one length, full scale at 1.</summary>
/// <param name="Channels">The channels in the order of the file.</param>
/// <param name="SampleRate">Samples a second, in Hz.</param>
public sealed record Waveform(IReadOnlyList<float[]> Channels, int SampleRate)
{
    /// <summary>Samples of each channel.</summary>
    public int Frames => Channels.Count == 0 ? 0 : Channels[0].Length;

    /// <summary>Length in time.</summary>
    public TimeSpan Duration => TimeSpan.FromSeconds((double)Frames / SampleRate);

    /// <summary>The mean of all channels; the channel itself where there is one.</summary>
    public float[] ToMono()
    {
        if (Channels.Count == 1)
        {
            return Channels[0];
        }

        var mono = new float[Frames];
        foreach (var channel in Channels)
        {
            for (int i = 0; i < mono.Length; i++)
            {
                mono[i] += channel[i] / Channels.Count;
            }
        }

        return mono;
    }

    /// <summary>A new tensor (channels, frames), fp32, in processor memory.</summary>
    public Tensor ToTensor()
    {
        using var scope = NewDisposeScope();
        return torch.stack(Channels.Select(channel => torch.tensor(channel)).ToArray()).MoveToOuterDisposeScope();
    }
}
