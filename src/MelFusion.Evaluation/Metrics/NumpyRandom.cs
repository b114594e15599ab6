namespace MelFusion.Evaluation.Metrics;

/// <summary>
/// The permutations of numpy's RandomState (Mersenne Twister 19937, 32 bits, bounded by masking and trying again): published figures that depend on a
/// shuffle are met only with the same shuffle.
/// </summary>
public sealed class NumpyRandom
{
    private const int Length = 624, Shift = 397;

    private readonly uint[] _state = new uint[Length];
    private int _next = Length;

    /// <summary>With a seed.</summary>
    public NumpyRandom(uint seed)
    {
        _state[0] = seed;
        for (uint i = 1; i < Length; i++)
        {
            _state[i] = (1812433253u * (_state[i - 1] ^ (_state[i - 1] >> 30))) + i;
        }
    }

    /// <summary>0 to n - 1 in shuffled order.</summary>
    public long[] Permutation(int n)
    {
        long[] order = [.. Enumerable.Range(0, n).Select(i => (long)i)];
        for (int i = n - 1; i > 0; i--)
        {
            int j = (int)UpTo((uint)i);
            (order[i], order[j]) = (order[j], order[i]);
        }

        return order;
    }

    private uint UpTo(uint largest)
    {
        uint mask = uint.MaxValue >> System.Numerics.BitOperations.LeadingZeroCount(largest);
        uint value;
        do
        {
            value = Next() & mask;
        }
        while (value > largest);
        return value;
    }

    private uint Next()
    {
        if (_next == Length)
        {
            Twist();
            _next = 0;
        }

        uint y = _state[_next++];
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c5680u;
        y ^= (y << 15) & 0xefc60000u;
        return y ^ (y >> 18);
    }

    private void Twist()
    {
        for (int i = 0; i < Length; i++)
        {
            uint y = (_state[i] & 0x80000000u) | (_state[(i + 1) % Length] & 0x7fffffffu);
            _state[i] = _state[(i + Shift) % Length] ^ (y >> 1) ^ ((y & 1) * 0x9908b0dfu);
        }
    }
}
