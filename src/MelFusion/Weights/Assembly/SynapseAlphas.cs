using System.Text.RegularExpressions;
using MelFusion.Synapse;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Weights.Assembly;

/// <summary>Trained alphas in files: our synapse's, or those that MELFUSION's authors keep inside the attention layers of the music's UNet.</summary>
internal static partial class SynapseAlphas
{
    /// <summary>Whether a file has alphas.</summary>
    public static bool AreIn(string file)
    {
        using var weights = WeightsFile.Open(file);
        return IsOurs(weights) || weights.Tensors.Any(entry => AuthorsKey().IsMatch(entry.Key));
    }

    /// <summary>How the alphas of a file are meant: the authors' by their code's rule; without any, as the paper's training starts.</summary>
    public static SynapseConfig ConfigOf(string file)
    {
        string beside = Path.Combine(Path.GetDirectoryName(Path.GetFullPath(file))!, "config.json");
        using var weights = WeightsFile.Open(file);
        return weights.Tensors.Any(entry => AuthorsKey().IsMatch(entry.Key)) ? new() { Mode = SynapseMode.Code }
            : IsOurs(weights) && File.Exists(beside) ? ConfigFile.Read<SynapseConfig>(beside)
            : new();
    }

    /// <summary>Sets a synapse's alphas to those of a file, where it has some.</summary>
    public static void Load(VisualSynapse synapse, string file)
    {
        using var weights = WeightsFile.Open(file);
        if (IsOurs(weights))
        {
            synapse.LoadFrom(weights);
            return;
        }

        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        foreach (var (index, layer) in synapse.Layers.Index())
        {
            var key = weights.Tensors.Select(entry => entry.Key).FirstOrDefault(key =>
                AuthorsKey().IsMatch(key) && key.Contains(layer.Name + ".", StringComparison.Ordinal));
            if (key is not null)
            {
                synapse.state_dict()["alpha_logit.decoder"][index].copy_(weights.Read(key, ScalarType.Float32).reshape([]));
            }
        }
    }

    private static bool IsOurs(WeightsFile weights) => weights.Tensors.Any(entry => entry.Key.StartsWith("alpha_logit.", StringComparison.Ordinal));

    [GeneratedRegex(@"up_blocks\.\d+\.attentions\.\d+\.transformer_blocks\.0\.attn2\.alpha$")]
    private static partial Regex AuthorsKey();
}
