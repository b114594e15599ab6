namespace MelFusion;

/// <summary>Some of many, spread evenly over them: the first is the first, and none comes twice.</summary>
public static class Evenly
{
    /// <summary>The place of item i of some in all.</summary>
    /// <param name="i">From 0 to below <paramref name="count"/>.</param>
    /// <param name="count">How many are chosen, at most <paramref name="all"/>.</param>
    /// <param name="all">How many there are.</param>
    public static int Place(int i, int count, int all) => (int)((long)i * all / count);

    /// <summary>At most so many of a list, in its order.</summary>
    /// <param name="all">The list.</param>
    /// <param name="most">How many are chosen at most.</param>
    public static IReadOnlyList<T> Some<T>(IReadOnlyList<T> all, int most)
    {
        ArgumentNullException.ThrowIfNull(all);
        return all.Count <= most ? all : [.. Enumerable.Range(0, most).Select(i => all[Place(i, most, all.Count)])];
    }
}
