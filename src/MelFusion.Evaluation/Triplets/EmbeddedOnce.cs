using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Evaluation.Triplets;

/// <summary>Rows of what was embedded: references and generated sounds share captions and pictures, of which none is embedded twice.</summary>
internal sealed class EmbeddedOnce : IDisposable
{
    private readonly Dictionary<(string Space, string Key), Tensor> _rows = []; // (1, C) each

    /// <summary>A row for each key, (N, C), in their order.</summary>
    /// <param name="space">Who embeds what.</param>
    /// <param name="keys">What is wanted; the same key stands for the same thing.</param>
    /// <param name="embed">Gives rows of distinct keys that are not known yet.</param>
    public Tensor Of(string space, IReadOnlyList<string> keys, Func<IReadOnlyList<string>, Tensor> embed)
    {
        using var scope = NewDisposeScope();
        string[] unknown = [.. keys.Distinct().Where(key => !_rows.ContainsKey((space, key)))];
        if (unknown.Length > 0)
        {
            var rows = embed(unknown);
            for (int i = 0; i < unknown.Length; i++)
            {
                _rows[(space, unknown[i])] = rows.narrow(0, i, 1).clone().DetachFromDisposeScope();
            }
        }

        return torch.cat([.. keys.Select(key => _rows[(space, key)])], 0).MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var row in _rows.Values)
        {
            row.Dispose();
        }
    }
}
