using MelFusion.Noise;
using MelFusion.UNet;
using MelFusion.Vae;
using MelFusion.Wave;
using MelFusion.Weights.Assembly;

namespace MelFusion.Weights;

/// <summary>A part of a model as a check found it.</summary>
/// <param name="Name">The folder.</param>
/// <param name="Parameters">Numbers in its weights.</param>
/// <param name="Bytes">What they take in memory in the chosen precision.</param>
/// <param name="Problem">What is wrong with it; null: nothing.</param>
public sealed record PartCheckup(string Name, long Parameters, long Bytes, string? Problem);

/// <summary>What a generation with a model needs, worked out from configs and the lists of keys; no weights are read.</summary>
/// <param name="Parts">Every part that is there or must be.</param>
/// <param name="WeightBytes">All weights in memory.</param>
/// <param name="WorkBytes">An estimate of what the largest stage takes beside them.</param>
/// <param name="OperationsPerStep">Floating-point operations of one denoising step under guidance with a picture; null where a config cannot be read.</param>
/// <param name="OperationsInAll">Of a whole generation at the model's defaults.</param>
/// <param name="Steps">Denoising steps at the model's defaults.</param>
/// <param name="Licences">Where the parts are from, under which terms.</param>
public sealed record ModelCheckup(
    IReadOnlyList<PartCheckup> Parts, long WeightBytes, long WorkBytes, double? OperationsPerStep, double? OperationsInAll, int Steps, IReadOnlyList<PartLicence> Licences)
{
    private static readonly string[] PartsOfNetworks = ["unet", "image_unet"];
    private static readonly string[] PartsWithoutWeights = ["scheduler", "image_scheduler", "tokenizer", "mel"];

    /// <summary>Whether work made with the model may be sold: no where one part forbids it, unclear where one does not say.</summary>
    public CommercialUse Commercial =>
        Licences.Any(part => part.Commercial == CommercialUse.No) ? CommercialUse.No
        : Licences.Count == 0 || Licences.Any(part => part.Commercial == CommercialUse.Unclear) ? CommercialUse.Unclear
        : CommercialUse.Yes;

    /// <summary>The memory a generation needs.</summary>
    public long NeededBytes => WeightBytes + WorkBytes;

    /// <summary>What is wrong or missing, a sentence each.</summary>
    public IEnumerable<string> Problems => Parts.Where(part => part.Problem is not null).Select(part => part.Problem!);

    /// <summary>Looks at a model folder; a part that is missing or damaged is reported, not thrown.</summary>
    /// <param name="path">The folder.</param>
    /// <param name="bytesPerNumber">4 for fp32 UNets, 2 for bf16.</param>
    /// <exception cref="MelFusionException">It is no model folder at all.</exception>
    public static ModelCheckup Of(string path, int bytesPerNumber)
    {
        if (!File.Exists(Path.Combine(path, "model_index.json")))
        {
            throw new MelFusionException($"{path}: not a model folder, as model_index.json is missing; name the folder that holds unet, vae and the other parts.");
        }

        var folder = ModelFolder.OpenParts(path);
        bool hasDefaults = File.Exists(Path.Combine(path, "melfusion.json"));
        var defaults = hasDefaults ? ConfigFile.Read<ModelDefaults>(Path.Combine(path, "melfusion.json")) : new();
        var parts = folder.Parts.Select(part => Look(folder, part, bytesPerNumber)).ToList();
        var work = Try(() => WorkEstimate.Of(folder, defaults));
        return new(
            parts, parts.Sum(part => part.Bytes), work?.Bytes ?? 0, work?.PerStep, work?.InAll, defaults.Steps, Try(() => PartLicence.Read(folder, defaults)) ?? []);
    }

    private static PartCheckup Look(ModelFolder folder, string part, int bytesPerNumber)
    {
        try
        {
            if (PartsWithoutWeights.Contains(part))
            {
                return new(part, 0, 0, Directory.Exists(Path.Combine(folder.Path, part)) ? null : $"The part '{part}' is missing in {folder.Path}.");
            }

            using var weights = folder.Weights(part);
            long numbers = weights.Tensors.Sum(tensor => tensor.Count);
            return new(part, numbers, numbers * (PartsOfNetworks.Contains(part) ? bytesPerNumber : sizeof(float)), null);
        }
        catch (MelFusionException e)
        {
            return new(part, 0, 0, e.Message);
        }
    }

    private static T? Try<T>(Func<T> look) where T : class
    {
        try
        {
            return look();
        }
        catch (MelFusionException)
        {
            return null; // reported with its part
        }
    }
}

/// <summary>
/// Operations and memory of a generation. A convolution or matrix of N weights takes 2 N operations at every cell or token it is applied
/// to, attention 4 n^2 d more; what level a weight lies on, its key says.
/// </summary>
internal sealed record WorkEstimate(double PerStep, double InAll, long Bytes)
{
    private const int TextTokens = 64;
    private const int PlanesAtOnce = 8; // of the finest level, alive together in a residual block

    public static WorkEstimate Of(ModelFolder folder, ModelDefaults defaults)
    {
        var (vae, mel) = (AutoencoderKlConfig.Read(folder.FileOf("vae", "config.json")), folder.Config<MelConfig>("mel"));
        var latent = (Height: defaults.MelFrames / vae.Factor, Width: mel.NMels / vae.Factor);
        double music = UNetOperations(folder, "unet", latent, TextTokens) * (defaults.Guidance > 1 ? 2 : 1);
        double once = DecoderOperations(folder, "vae", defaults.MelFrames, mel.NMels);
        long bytes = PlaneBytes(vae, defaults.MelFrames, mel.NMels);
        double picture = 0;
        if (folder.TakesPictures)
        {
            var imageVae = AutoencoderKlConfig.Read(folder.FileOf("image_vae", "config.json"));
            picture = UNetOperations(folder, "image_unet", (defaults.PictureHeight / imageVae.Factor, defaults.PictureWidth / imageVae.Factor), 77);
            once += DecoderOperations(folder, "image_vae", defaults.PictureHeight, defaults.PictureWidth) + (picture * defaults.InversionDepth * (defaults.InversionSteps ?? defaults.Steps));
            bytes = Math.Max(bytes, PlaneBytes(imageVae, defaults.PictureHeight, defaults.PictureWidth));
        }

        double step = music + (defaults.KeyValueSource == KeyValueSource.Recorded ? 0 : picture * defaults.InversionDepth);
        return new(step, (step * defaults.Steps) + once, bytes);
    }

    private static long PlaneBytes(AutoencoderKlConfig vae, int height, int width) => (long)PlanesAtOnce * vae.BlockOutChannels[0] * height * width * sizeof(float);

    private static double UNetOperations(ModelFolder folder, string part, (int Height, int Width) latent, int tokens)
    {
        var config = folder.Config<UNetConfig>(part);
        config.Validate();
        using var weights = folder.Weights(part);
        double matrices = weights.Tensors.Where(tensor => tensor.Shape.Count > 1).Sum(tensor => 2.0 * tensor.Count * Places(tensor.Key));
        double attention = config.EncoderLayers.Concat(config.DecoderLayers).Sum(layer => 4.0 * layer.Width * Cells(Level(layer.Name)) * (Cells(Level(layer.Name)) + tokens));
        return matrices + attention;

        double Places(string key) => key.Contains("time_emb", StringComparison.Ordinal) ? 1
            : key.Contains("attn2.to_k", StringComparison.Ordinal) || key.Contains("attn2.to_v", StringComparison.Ordinal) ? 0 // once for all steps
            : Cells(Level(key) + (key.Contains("downsamplers", StringComparison.Ordinal) ? 1 : key.Contains("upsamplers", StringComparison.Ordinal) ? -1 : 0));

        int Level(string key) => key.Split('.') switch
        {
            ["down_blocks", var i, ..] when int.TryParse(i, out int level) => level,
            ["up_blocks", var i, ..] when int.TryParse(i, out int block) => config.Levels - 1 - block,
            ["mid_block", ..] => config.Levels - 1,
            _ => 0,
        };

        double Cells(int level) => Math.Ceiling(latent.Height / (double)(1 << Math.Max(level, 0))) * Math.Ceiling(latent.Width / (double)(1 << Math.Max(level, 0)));
    }

    /// <summary>One half of an autoencoder over a plane: the decoder, whose cost the encoder does not exceed.</summary>
    private static double DecoderOperations(ModelFolder folder, string part, int height, int width)
    {
        var config = AutoencoderKlConfig.Read(folder.FileOf(part, "config.json"));
        using var file = folder.Weights(part);
        var weights = KeyRenames.ForAutoencoder(file);
        return weights.Tensors.Where(tensor => tensor.Shape.Count > 1 && tensor.Key.StartsWith("decoder.", StringComparison.Ordinal))
            .Sum(tensor => 2.0 * tensor.Count * Cells(tensor.Key));

        double Cells(string key)
        {
            int levels = config.BlockOutChannels.Count;
            int level = key.Split('.') switch
            {
                [_, "up_blocks", var i, ..] when int.TryParse(i, out int block) => levels - 1 - block - (key.Contains("upsamplers", StringComparison.Ordinal) ? 1 : 0),
                [_, "conv_in" or "mid_block", ..] => levels - 1,
                _ => 0,
            };
            return (double)height * width / (1 << (2 * level));
        }
    }
}
