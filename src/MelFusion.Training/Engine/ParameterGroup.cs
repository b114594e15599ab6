using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MelFusion.Training.Engine;

/// <summary>One trained tensor and its name in the checkpoint.</summary>
/// <param name="Name">Unique in the run.</param>
/// <param name="Value">The fp32 master weights.</param>
internal readonly record struct NamedParameter(string Name, Parameter Value);

/// <summary>Parameters that share a learning rate and a weight decay.</summary>
/// <param name="Parameters">The trained tensors, in a fixed order.</param>
/// <param name="LearningRate">At the top of the schedule.</param>
/// <param name="WeightDecay">Decoupled: a step multiplies the parameter by 1 - rate x decay.</param>
internal sealed record ParameterGroup(IReadOnlyList<NamedParameter> Parameters, double LearningRate, double WeightDecay)
{
    /// <summary>All parameters of a network.</summary>
    /// <param name="network">The network.</param>
    /// <param name="learningRate">At the top of the schedule.</param>
    /// <param name="weightDecay">Decoupled.</param>
    /// <param name="prefix">What their names begin with, where a run trains several networks.</param>
    public static ParameterGroup Of(nn.Module network, double learningRate, double weightDecay, string prefix = "") =>
        new([.. network.named_parameters().Select(p => new NamedParameter(prefix + p.name, p.parameter))], learningRate, weightDecay);
}
