using static TorchSharp.torch;

namespace MelFusion.Training.Engine;

/// <summary>The loss of one part of a batch, and what it is made of.</summary>
/// <param name="Value">A scalar in fp32 that carries its graph.</param>
/// <param name="Terms">Named numbers for the log, the same names at every call.</param>
internal readonly record struct StepLoss(Tensor Value, params (string Name, double Value)[] Terms);

/// <summary>One thing that can be trained: its parameters, its loss, and what is made of it. The engine does the rest.</summary>
internal interface ITrainingStage : IDisposable
{
    /// <summary>What is trained.</summary>
    public IReadOnlyList<ParameterGroup> Groups { get; }

    /// <summary>
    /// The mean loss of samples <paramref name="first"/> to <paramref name="first"/> + <paramref name="count"/> - 1 of a step's batch.
    /// Called on several threads at once; all chance comes from <see cref="StepRandom"/>.
    /// </summary>
    /// <param name="step">The step, from 0.</param>
    /// <param name="first">The first sample's place in the batch.</param>
    /// <param name="count">Samples in this part.</param>
    public StepLoss Loss(long step, int first, int count);

    /// <summary>Figures on held-out data with the averaged weights in place; may write tables and pictures into the folder.</summary>
    /// <param name="pool">Threads to work on.</param>
    /// <param name="step">Steps done.</param>
    /// <param name="folder">The run's folder.</param>
    public IReadOnlyList<(string Name, double Value)> Validate(WorkerPool pool, long step, RunFolder folder);

    /// <summary>Numbers of the network itself that are worth a curve (the alphas), or none.</summary>
    public IReadOnlyList<(string Name, double Value)> Watched() => [];

    /// <summary>Writes the trained part into a model folder; the averaged weights are in place.</summary>
    /// <param name="modelFolder">The folder.</param>
    /// <param name="pool">Threads to work on.</param>
    public void Export(string modelFolder, WorkerPool pool);
}
