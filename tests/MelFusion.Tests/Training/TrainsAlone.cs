using Xunit;

namespace MelFusion.Tests.Training;

/// <summary>Tests that train with several threads run alone: while they compute, nobody else in the process may start a garbage collection.</summary>
[CollectionDefinition(nameof(TrainsAlone), DisableParallelization = true)]
public sealed class TrainsAlone;
