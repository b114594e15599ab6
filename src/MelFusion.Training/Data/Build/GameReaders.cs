using MelFusion.Training.Data.Build.Readers;

namespace MelFusion.Training.Data.Build;

/// <summary>The games that are known.</summary>
public static class GameReaders
{
    /// <summary>All readers, in a fixed order.</summary>
    public static IReadOnlyList<IGameReader> All { get; } =
    [
        new SuperTuxKartReader(),
        new HedgewarsReader(),
        new MegaGlestReader(),
        new WesnothReader(),
        new SuperTuxReader(),
        new NaevReader(),
        new PekkaKanaReader(),
        new ExtremeTuxRacerReader(),
        new ZeroAdReader(),
        new WarmuxReader(),
        new NexuizReader(),
        .. RuleReader.BuiltIn(),
    ];
}
