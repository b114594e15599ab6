using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Training.Data;

/// <summary>Turns texts into per-token states: (B, s, c) of fp32 and a mask (B, s), true where a token is valid.</summary>
/// <param name="texts">The texts.</param>
internal delegate (Tensor States, Tensor Mask) EncodeTexts(IReadOnlyList<string> texts);

/// <summary>The states of every caption of a data set, encoded once, without padding; and those of the null text.</summary>
internal sealed class TextSet : IDisposable
{
    private const int AtOnce = 32;

    private readonly Dictionary<string, Tensor> _states = new(StringComparer.Ordinal); // (s, c), fp16

    /// <summary>Takes the states from the cache, or encodes the texts.</summary>
    /// <param name="path">The cache's file.</param>
    /// <param name="encoder">What the states depend on beside the texts.</param>
    /// <param name="texts">The captions; the null text is added.</param>
    /// <param name="encode">Encodes a few texts.</param>
    /// <param name="report">Told the texts done and their number.</param>
    public TextSet(string path, string encoder, IEnumerable<string> texts, EncodeTexts encode, Action<int, int>? report)
    {
        List<string> all = [.. texts.Append(string.Empty).Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal)];
        var tensors = TensorCache.Get(path, encoder + "\n" + string.Join('\n', all), () => Compute(all, encode, report));
        for (int i = 0; i < all.Count; i++)
        {
            _states[all[i]] = tensors[Name(i)];
        }
    }

    /// <summary>The null text's states: (1, s, c), fp32.</summary>
    public Tensor Null => _states[string.Empty].to(ScalarType.Float32).unsqueeze(0);

    /// <summary>c.</summary>
    public long Width => _states[string.Empty].shape[1];

    /// <summary>A batch padded to its longest text: states (B, s, c) of fp32, mask (B, s).</summary>
    public (Tensor States, Tensor Mask) Get(IReadOnlyList<string> texts)
    {
        using var scope = NewDisposeScope();
        long longest = texts.Max(text => _states[text].shape[0]);
        var states = zeros([texts.Count, longest, Width]);
        var mask = zeros([texts.Count, longest], ScalarType.Bool);
        for (int i = 0; i < texts.Count; i++)
        {
            var own = _states[texts[i]];
            states[i].narrow(0, 0, own.shape[0]).copy_(own);
            mask[i].narrow(0, 0, own.shape[0]).fill_(true);
        }

        return (states.MoveToOuterDisposeScope(), mask.MoveToOuterDisposeScope());
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var states in _states.Values)
        {
            states.Dispose();
        }
    }

    private static string Name(int index) => $"text.{index:D6}";

    private static Dictionary<string, Tensor> Compute(List<string> texts, EncodeTexts encode, Action<int, int>? report)
    {
        var tensors = new Dictionary<string, Tensor>();
        for (int first = 0; first < texts.Count; first += AtOnce)
        {
            using var scope = NewDisposeScope();
            using var noGrad = no_grad();
            var few = texts.Skip(first).Take(AtOnce).ToList();
            var (states, mask) = encode(few);
            for (int i = 0; i < few.Count; i++)
            {
                long length = mask[i].sum().item<long>();
                tensors[Name(first + i)] = states[i].narrow(0, 0, length).to(ScalarType.Float16).clone().DetachFromDisposeScope();
            }

            report?.Invoke(first + few.Count, texts.Count);
        }

        return tensors;
    }
}
