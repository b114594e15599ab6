using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Training.Engine;

/// <summary>
/// The exponential moving average of the weights: average = decay x average + (1 - decay) x weights after every step. What takes the weights' place in the
/// end may have a share of the weights that the run started from.
/// </summary>
internal sealed class WeightAverage : IDisposable
{
    private readonly IReadOnlyList<NamedParameter> _parameters;
    private readonly Tensor[] _averages, _start; // no start where it has no share
    private readonly double _startShare;

    /// <summary>Starts at the weights as they are.</summary>
    /// <param name="parameters">The weights.</param>
    /// <param name="startShare">Share of these first weights in the result, at least 0 and below 1.</param>
    public WeightAverage(IReadOnlyList<NamedParameter> parameters, double startShare = 0)
    {
        (_parameters, _startShare) = (parameters, startShare);
        _averages = [.. parameters.Select(Copy)];
        _start = startShare > 0 ? [.. parameters.Select(Copy)] : [];
    }

    /// <summary>The averages, and the start where it has a share, by the parameters' names.</summary>
    public IEnumerable<(string Name, Tensor Value)> State =>
        _parameters.Zip(_averages, (p, average) => ("average." + p.Name, average)).Concat(_parameters.Zip(_start, (p, start) => ("start." + p.Name, start)));

    /// <summary>
    /// The decay after a number of steps: <paramref name="decay"/>, less at the beginning, (1 + k) / (10 + k), so that the first weights are
    /// soon forgotten.
    /// </summary>
    public static double WarmDecay(double decay, long step) => Math.Min(decay, (1.0 + step) / (10.0 + step));

    /// <summary>Moves one average towards its parameter.</summary>
    public void Update(int index, double decay)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        Tensor weights = _parameters[index].Value;
        _averages[index].mul_(decay).add_(weights, alpha: 1 - decay);
    }

    /// <summary>Puts the averages, with their share of the start, in the weights' place until the result is disposed.</summary>
    public IDisposable InPlaceOfWeights() => new Exchange(this);

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var tensor in _averages.Concat(_start))
        {
            tensor.Dispose();
        }
    }

    private static Tensor Copy(NamedParameter parameter)
    {
        using var noGrad = no_grad();
        return parameter.Value.detach().to(ScalarType.Float32, copy: true).DetachFromDisposeScope();
    }

    private Tensor Result(int index) => _startShare > 0 ? _averages[index].lerp(_start[index], _startShare) : _averages[index];

    private sealed class Exchange : IDisposable
    {
        private readonly WeightAverage _owner;
        private readonly Tensor[] _kept;

        public Exchange(WeightAverage owner)
        {
            using var noGrad = no_grad();
            _owner = owner;
            _kept = [.. owner._parameters.Select(p => p.Value.detach().clone().DetachFromDisposeScope())];
            Set(owner.Result);
        }

        public void Dispose()
        {
            Set(i => _kept[i]);
            Array.ForEach(_kept, tensor => tensor.Dispose());
        }

        private void Set(Func<int, Tensor> value)
        {
            using var scope = NewDisposeScope();
            using var noGrad = no_grad();
            for (int i = 0; i < _owner._parameters.Count; i++)
            {
                _owner._parameters[i].Value.copy_(value(i));
            }
        }
    }
}
