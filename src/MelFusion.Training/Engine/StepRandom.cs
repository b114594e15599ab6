using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Training.Engine;

/// <summary>
/// All chance of a run is a function of (seed, step, sample): there is no generator whose state must survive a kill, and it does not
/// matter which worker computes which sample.
/// </summary>
internal static class StepRandom
{
    /// <summary>A fresh generator on the processor.</summary>
    /// <param name="seed">The run's seed.</param>
    /// <param name="step">The step, or another purpose as a negative number.</param>
    /// <param name="sample">The sample's place in the step's batch.</param>
    public static Generator Generator(long seed, long step, long sample) => new(unchecked((ulong)Number(seed, step, sample)), torch.CPU);

    /// <summary>A number of 63 bits, well mixed.</summary>
    public static long Number(long seed, long step, long sample) =>
        (long)(Mix(Mix(Mix(unchecked((ulong)seed)) ^ unchecked((ulong)step)) ^ unchecked((ulong)sample)) >> 1);

    /// <summary>A plain .NET source of chance for choices that are no tensors.</summary>
    public static Random Choices(long seed, long step, long sample) => new((int)(Number(seed, step, sample ^ 0x5eed) & int.MaxValue));

    /// <summary>A timestep below <paramref name="count"/>, in proportion to t to the power less one: with 1 all alike.</summary>
    public static long Timestep(Random choices, int count, double power) => power == 1
        ? choices.NextInt64(count)
        : (long)(count * Math.Pow(choices.NextDouble(), 1 / power));

    /// <summary>
    /// Which item of <paramref name="count"/> the sample takes: every pass over the data is a permutation of its own, derived from the seed
    /// and the pass.
    /// </summary>
    /// <param name="seed">The run's seed.</param>
    /// <param name="position">Samples taken before, over the whole run.</param>
    /// <param name="count">Items in the data set.</param>
    public static int Item(long seed, long position, int count)
    {
        long pass = position / count;
        return Order(seed, pass, count)[(int)(position % count)];
    }

    [ThreadStatic] private static (long Seed, long Pass, int Count, int[] Order)? _lastOrder;

    private static int[] Order(long seed, long pass, int count)
    {
        if (_lastOrder is { } last && (last.Seed, last.Pass, last.Count) == (seed, pass, count))
        {
            return last.Order;
        }

        int[] order = [.. Enumerable.Range(0, count)];
        new Random((int)(Number(seed, -1 - pass, count) & int.MaxValue)).Shuffle(order);
        _lastOrder = (seed, pass, count, order);
        return order;
    }

    // SplitMix64's finaliser.
    private static ulong Mix(ulong x)
    {
        x += 0x9E3779B97F4A7C15;
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
        return x ^ (x >> 31);
    }
}
