using System.Runtime;

namespace MelFusion.Training.Engine;

/// <summary>
/// Keeps the garbage collector from running while several threads compute. TorchSharp makes a finalised Scalar of every number in a
/// formula and does not keep it alive through the native call; a collection that another thread's allocation starts in that instant frees
/// it under the call. One collection before each stretch of work takes the place of those during it.
/// </summary>
internal readonly struct QuietHeap : IDisposable
{
    // A step allocates a few megabytes of small objects; reading clips some large arrays more.
    private const long Budget = 160L << 20, LargeObjects = 128L << 20;

    private readonly bool _begun;

    private QuietHeap(bool begun) => _begun = begun;

    /// <summary>Collects, then holds collections off until it is disposed; inside another such stretch it does nothing.</summary>
    public static QuietHeap Begin()
    {
        try
        {
            return new(GCSettings.LatencyMode != GCLatencyMode.NoGCRegion && GC.TryStartNoGCRegion(Budget, LargeObjects));
        }
        catch (InvalidOperationException)
        {
            return new(false); // somebody else in this process has just begun one
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (!_begun || GCSettings.LatencyMode != GCLatencyMode.NoGCRegion)
        {
            return;
        }

        try
        {
            GC.EndNoGCRegion();
        }
        catch (InvalidOperationException)
        {
            // The budget was used up and it has ended by itself.
        }
    }
}
