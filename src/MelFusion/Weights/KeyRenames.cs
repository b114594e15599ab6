using System.Text.RegularExpressions;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Weights;

/// <summary>One rule from a file's key to the network's.</summary>
/// <param name="Pattern">A regular expression; every match in the key is replaced.</param>
/// <param name="Replacement">What takes its place, with $1, $2 for groups; null: a key that matches is left out.</param>
/// <param name="IsMatrix">The tensor is a 1x1 convolution there, (O, I, 1, 1), and a matrix (O, I) here.</param>
public sealed record KeyRename(string Pattern, string? Replacement, bool IsMatrix = false);

/// <summary>The names under which published files keep what our networks name as diffusers and transformers do today.</summary>
public static partial class KeyRenames
{
    /// <summary>The attention of older autoencoder files.</summary>
    public static IReadOnlyList<KeyRename> OldAttention { get; } =
    [
        new(@"(attentions\.\d+)\.query\.", "$1.to_q."),
        new(@"(attentions\.\d+)\.key\.", "$1.to_k."),
        new(@"(attentions\.\d+)\.value\.", "$1.to_v."),
        new(@"(attentions\.\d+)\.proj_attn\.", "$1.to_out.0."),
    ];

    /// <summary>HiFi-GAN as its authors, AudioLDM and TANGO name it, to transformers' names; mean and scale are not used (normalize_before false).</summary>
    public static IReadOnlyList<KeyRename> OriginalVocoder { get; } = [new(@"^ups\.", "upsampler."), new("^(mean|scale)$", null)];

    /// <summary>The autoencoder of latent diffusion's, AudioLDM's and TANGO's own files.</summary>
    /// <param name="levels">Levels of resolution: the original counts the decoder's from the finest, diffusers from the coarsest.</param>
    public static IReadOnlyList<KeyRename> OriginalAutoencoder(int levels) =>
    [
        new(@"^(vocoder|loss)\.", null),
        new(@"^encoder\.down\.(\d+)\.block\.", "encoder.down_blocks.$1.resnets."),
        new(@"^encoder\.down\.(\d+)\.downsample\.", "encoder.down_blocks.$1.downsamplers.0."),
        .. Enumerable.Range(0, levels).SelectMany(level => new KeyRename[]
        {
            new($@"^decoder\.up\.{level}\.block\.", $"decoder.up_blocks.{levels - 1 - level}.resnets."),
            new($@"^decoder\.up\.{level}\.upsample\.", $"decoder.up_blocks.{levels - 1 - level}.upsamplers.0."),
        }),
        new(@"\.mid\.block_1\.", ".mid_block.resnets.0."),
        new(@"\.mid\.block_2\.", ".mid_block.resnets.1."),
        new(@"\.mid\.attn_1\.norm\.", ".mid_block.attentions.0.group_norm."),
        new(@"\.mid\.attn_1\.([qkv])\.weight", ".mid_block.attentions.0.to_$1.weight", IsMatrix: true),
        new(@"\.mid\.attn_1\.([qkv])\.bias", ".mid_block.attentions.0.to_$1.bias"),
        new(@"\.mid\.attn_1\.proj_out\.weight", ".mid_block.attentions.0.to_out.0.weight", IsMatrix: true),
        new(@"\.mid\.attn_1\.proj_out\.bias", ".mid_block.attentions.0.to_out.0.bias"),
        new(@"\.nin_shortcut\.", ".conv_shortcut."),
        new(@"\.norm_out\.", ".conv_norm_out."),
    ];

    /// <summary>An autoencoder's file under diffusers' present names, whichever of the three layouts it has.</summary>
    /// <param name="file">The file; disposing of the result disposes of it.</param>
    public static WeightsFile ForAutoencoder(WeightsFile file)
    {
        file = StripPrefix(file, "first_stage_model.");
        int levels = file.Tensors.Select(entry => OriginalLevel().Match(entry.Key)).Where(match => match.Success)
            .Select(match => int.Parse(match.Groups[1].ValueSpan, System.Globalization.CultureInfo.InvariantCulture) + 1).DefaultIfEmpty(0).Max();
        return file.Renamed(levels > 0 ? OriginalAutoencoder(levels) : OldAttention);
    }

    /// <summary>A HiFi-GAN's file under transformers' names with weight norm folded, whichever layout it has.</summary>
    /// <param name="file">The file; disposing of the result disposes of it.</param>
    public static WeightsFile ForVocoder(WeightsFile file) =>
        new FoldedWeightNorm(StripPrefix(StripPrefix(file, "first_stage_model."), "vocoder.").Renamed(OriginalVocoder));

    /// <summary>
    /// The music's UNet in a file of TANGO or of MELFUSION's authors, under diffusers' names; the latter's alphas, which sit in the attention
    /// layers there, belong to the synapse and are left out.
    /// </summary>
    /// <param name="file">The file; disposing of the result disposes of it.</param>
    public static WeightsFile ForMusicUNet(WeightsFile file) => StripPrefix(StripPrefix(file, "unet."), "model.diffusion_model.").Renamed([new(@"\.alpha$", null)]);

    /// <summary>The part of a file under a prefix, without it; the whole file where no key has the prefix.</summary>
    /// <param name="file">The file; disposing of the result disposes of it.</param>
    /// <param name="prefix">Such as "vocoder.".</param>
    public static WeightsFile StripPrefix(WeightsFile file, string prefix) =>
        file.Tensors.Any(entry => entry.Key.StartsWith(prefix, StringComparison.Ordinal))
            ? file.Renamed([new($"^(?!{Regex.Escape(prefix)})", null), new($"^{Regex.Escape(prefix)}", string.Empty)])
            : file;

    /// <summary>A file seen under other names.</summary>
    /// <param name="file">The file; disposing of the result disposes of it.</param>
    /// <param name="rules">Applied one after another to each key.</param>
    public static WeightsFile Renamed(this WeightsFile file, IReadOnlyList<KeyRename> rules) => new RenamedWeights(file, rules);

    [GeneratedRegex(@"^decoder\.up\.(\d+)\.block\.")]
    private static partial Regex OriginalLevel();
}

/// <summary>A weights file seen through <see cref="KeyRename"/> rules.</summary>
internal sealed class RenamedWeights : WeightsFile
{
    private readonly WeightsFile _file;
    private readonly Dictionary<string, TensorEntry> _original = [];

    [System.Diagnostics.CodeAnalysis.SetsRequiredMembers]
    public RenamedWeights(WeightsFile file, IReadOnlyList<KeyRename> rules)
    {
        (_file, Path) = (file, file.Path);
        var compiled = rules.Select(rule => (new Regex(rule.Pattern, RegexOptions.CultureInvariant), rule)).ToList();
        var tensors = new List<TensorEntry>();
        foreach (var entry in file.Tensors)
        {
            if (Apply(compiled, entry) is { } renamed)
            {
                tensors.Add(renamed);
                if (!_original.TryAdd(renamed.Key, entry))
                {
                    throw new WeightsException($"{Path}: both '{entry.Key}' and '{_original[renamed.Key].Key}' stand for '{renamed.Key}'.");
                }
            }
        }

        Tensors = tensors;
    }

    public override IReadOnlyList<TensorEntry> Tensors { get; }

    public override IReadOnlyDictionary<string, string> Metadata => _file.Metadata;

    public override void ReadInto(string key, Tensor target)
    {
        var entry = _original.GetValueOrDefault(key) ?? throw new WeightsException($"{Path}: there is no tensor '{key}'.");
        if (target.shape.SequenceEqual(entry.Shape))
        {
            _file.ReadInto(entry.Key, target);
            return;
        }

        using var reshaped = target.detach().view([.. entry.Shape]);
        _file.ReadInto(entry.Key, reshaped);
    }

    protected override void Dispose(bool disposing) => _file.Dispose();

    private static TensorEntry? Apply(List<(Regex Pattern, KeyRename Rule)> rules, TensorEntry entry)
    {
        foreach (var (pattern, rule) in rules)
        {
            if (!pattern.IsMatch(entry.Key))
            {
                continue;
            }

            if (rule.Replacement is null)
            {
                return null;
            }

            bool flatten = rule.IsMatrix && entry.Shape is [_, _, 1, 1] or [_, _, 1];
            entry = entry with { Key = pattern.Replace(entry.Key, rule.Replacement), Shape = flatten ? [.. entry.Shape.Take(2)] : entry.Shape };
        }

        return entry;
    }
}

/// <summary>
/// A file whose pairs of magnitude g and direction v (both spellings that PyTorch has used) are seen as one weight g v / |v|, the norm
/// taken over every axis but the first.
/// </summary>
internal sealed class FoldedWeightNorm : WeightsFile
{
    private static readonly (string Magnitude, string Direction)[] Spellings =
        [(".weight_g", ".weight_v"), (".parametrizations.weight.original0", ".parametrizations.weight.original1")];

    private readonly WeightsFile _file;
    private readonly Dictionary<string, (string Magnitude, string Direction)> _pairs = [];

    [System.Diagnostics.CodeAnalysis.SetsRequiredMembers]
    public FoldedWeightNorm(WeightsFile file)
    {
        (_file, Path) = (file, file.Path);
        Tensors = [.. file.Tensors.Select(Fold).OfType<TensorEntry>()];
    }

    public override IReadOnlyList<TensorEntry> Tensors { get; }

    public override IReadOnlyDictionary<string, string> Metadata => _file.Metadata;

    public override void ReadInto(string key, Tensor target)
    {
        if (!_pairs.TryGetValue(key, out var pair))
        {
            _file.ReadInto(key, target);
            return;
        }

        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var (g, v) = (_file.Read(pair.Magnitude, ScalarType.Float32), _file.Read(pair.Direction, ScalarType.Float32));
        var norm = v.reshape(v.shape[0], -1).norm(1).reshape([v.shape[0], .. Enumerable.Repeat(1L, v.shape.Length - 1)]);
        target.detach().copy_(v * (g.reshape(norm.shape) / norm));
    }

    protected override void Dispose(bool disposing) => _file.Dispose();

    private TensorEntry? Fold(TensorEntry entry)
    {
        foreach (var (magnitude, direction) in Spellings)
        {
            if (entry.Key.EndsWith(magnitude, StringComparison.Ordinal) && _file.Contains(entry.Key[..^magnitude.Length] + direction))
            {
                return null;
            }

            string stem = entry.Key.EndsWith(direction, StringComparison.Ordinal) ? entry.Key[..^direction.Length] : string.Empty;
            if (stem.Length > 0 && _file.Find(stem + magnitude) is { } g && g.Count == entry.Shape[0])
            {
                _pairs[stem + ".weight"] = (g.Key, entry.Key);
                return entry with { Key = stem + ".weight" };
            }
        }

        return entry;
    }
}
