using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Training.Engine;

/// <summary>
/// Adam with decoupled weight decay, as PyTorch computes it, state in fp32. A parameter whose gradient is null keeps its value, its
/// moments and its own count of steps; nothing decays for it either. Parameters are independent, so different threads may step
/// different ones.
/// </summary>
internal sealed class AdamW : IDisposable
{
    private readonly double _beta1, _beta2, _epsilon;
    private readonly List<Slot> _slots = [];

    /// <summary>An optimiser with empty moments.</summary>
    /// <param name="groups">What is trained; the index of a parameter counts through the groups in order.</param>
    /// <param name="beta1">Decay of the first moment.</param>
    /// <param name="beta2">Decay of the second moment.</param>
    /// <param name="epsilon">Added to the root of the second moment.</param>
    public AdamW(IReadOnlyList<ParameterGroup> groups, double beta1 = 0.9, double beta2 = 0.999, double epsilon = 1e-8)
    {
        (_beta1, _beta2, _epsilon) = (beta1, beta2, epsilon);
        foreach (var group in groups)
        {
            foreach (var parameter in group.Parameters)
            {
                _slots.Add(new(parameter, group, Zeros(parameter.Value), Zeros(parameter.Value)));
            }
        }
    }

    /// <summary>Number of parameters over all groups.</summary>
    public int Count => _slots.Count;

    /// <summary>The parameters in order.</summary>
    public IEnumerable<NamedParameter> Parameters => _slots.Select(slot => slot.Parameter);

    /// <summary>One step of one parameter.</summary>
    /// <param name="index">Which, 0 to <see cref="Count"/> - 1.</param>
    /// <param name="gradient">Its gradient of the same shape; null leaves parameter and state alone.</param>
    /// <param name="rateFactor">Factor of the schedule on the group's learning rate.</param>
    public void Step(int index, Tensor? gradient, double rateFactor = 1)
    {
        if (gradient is null)
        {
            return;
        }

        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var slot = _slots[index];
        long k = ++slot.Steps;
        double rate = slot.Group.LearningRate * rateFactor;
        Tensor p = slot.Parameter.Value;
        var g = gradient.dtype == ScalarType.Float32 ? gradient : gradient.to(ScalarType.Float32);
        p.mul_(1 - rate * slot.Group.WeightDecay);
        slot.First.mul_(_beta1).add_(g, alpha: 1 - _beta1);
        slot.Second.mul_(_beta2).addcmul_(g, g, 1 - _beta2);
        double firstBias = 1 - Math.Pow(_beta1, k), secondBias = 1 - Math.Pow(_beta2, k);
        var denominator = slot.Second.sqrt().div_(Math.Sqrt(secondBias)).add_(_epsilon);
        p.addcdiv_(slot.First, denominator, -rate / firstBias);
    }

    /// <summary>The moments by name, to be written to a checkpoint or filled from one.</summary>
    public IEnumerable<(string Name, Tensor Value)> State =>
        _slots.SelectMany(slot => new[] { ($"first.{slot.Parameter.Name}", slot.First), ($"second.{slot.Parameter.Name}", slot.Second) });

    /// <summary>Every parameter's own count of steps, in order.</summary>
    public IReadOnlyList<long> StepCounts
    {
        get => [.. _slots.Select(slot => slot.Steps)];
        set
        {
            for (int i = 0; i < _slots.Count; i++)
            {
                _slots[i].Steps = value[i];
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var slot in _slots)
        {
            slot.First.Dispose();
            slot.Second.Dispose();
        }
    }

    private static Tensor Zeros(Tensor parameter) =>
        torch.zeros(parameter.shape, ScalarType.Float32, parameter.device).DetachFromDisposeScope();

    private sealed class Slot(NamedParameter parameter, ParameterGroup group, Tensor first, Tensor second)
    {
        public NamedParameter Parameter => parameter;

        public ParameterGroup Group => group;

        public Tensor First => first;

        public Tensor Second => second;

        public long Steps { get; set; }
    }
}
