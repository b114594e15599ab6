namespace MelFusion.Training.Data;

/// <summary>Some of many, spread evenly over them: the first is the first, and none comes twice.</summary>
internal static class Evenly
{
    /// <summary>The place in <paramref name="all"/> of item i of <paramref name="count"/>, which is at most as many.</summary>
    public static int Place(int i, int count, int all) => (int)((long)i * all / count);

    /// <summary>At most so many of a list, in its order.</summary>
    public static IReadOnlyList<T> Some<T>(IReadOnlyList<T> all, int most) =>
        all.Count <= most ? all : [.. Enumerable.Range(0, most).Select(i => all[Place(i, most, all.Count)])];
}
