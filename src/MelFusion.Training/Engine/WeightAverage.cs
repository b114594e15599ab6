using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Training.Engine;

/// <summary>The exponential moving average of the weights: average = decay x average + (1 - decay) x weights after every step.</summary>
internal sealed class WeightAverage : IDisposable
{
    private readonly IReadOnlyList<NamedParameter> _parameters;
    private readonly Tensor[] _averages;

    /// <summary>Starts at the weights as they are.</summary>
    public WeightAverage(IReadOnlyList<NamedParameter> parameters)
    {
        using var noGrad = no_grad();
        _parameters = parameters;
        _averages = [.. parameters.Select(p => p.Value.detach().to(ScalarType.Float32, copy: true).DetachFromDisposeScope())];
    }

    /// <summary>The averages by the parameters' names.</summary>
    public IEnumerable<(string Name, Tensor Value)> State => _parameters.Zip(_averages, (p, average) => (p.Name, average));

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

    /// <summary>Puts the averages in the weights' place until the result is disposed.</summary>
    public IDisposable InPlaceOfWeights() => new Exchange(this);

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var average in _averages)
        {
            average.Dispose();
        }
    }

    private sealed class Exchange : IDisposable
    {
        private readonly WeightAverage _owner;
        private readonly Tensor[] _kept;

        public Exchange(WeightAverage owner)
        {
            using var noGrad = no_grad();
            _owner = owner;
            _kept = [.. owner._parameters.Select(p => p.Value.detach().clone().DetachFromDisposeScope())];
            Set(owner._averages);
        }

        public void Dispose()
        {
            Set(_kept);
            Array.ForEach(_kept, tensor => tensor.Dispose());
        }

        private void Set(Tensor[] values)
        {
            using var scope = NewDisposeScope();
            using var noGrad = no_grad();
            for (int i = 0; i < values.Length; i++)
            {
                _owner._parameters[i].Value.copy_(values[i]);
            }
        }
    }
}
