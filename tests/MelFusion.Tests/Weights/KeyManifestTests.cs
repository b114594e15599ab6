using System.Globalization;
using System.IO.Compression;
using MelFusion.Evaluation.Embeddings;
using MelFusion.Tests.Support;
using MelFusion.Text;
using MelFusion.UNet;
using MelFusion.Vae;
using MelFusion.Vocoder;
using MelFusion.Wave;
using MelFusion.Weights;
using Shouldly;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace MelFusion.Tests.Weights;

/// <summary>Every key and shape of the published checkpoints against our networks at full size, on the meta device: no weights needed.</summary>
[Trait("Category", "Parity")]
public class KeyManifestTests
{
    public static TheoryData<string, string> Checkpoints => new()
    {
        { "sd21-unet", "unet-sd21" },
        { "sd15-unet", "unet-sd15" },
        { "tango-main", "unet-tango" },
        { "melfusion-main", "unet-tango" },
        { "sd-vae", "vae-sd" },
        { "sd-vae-old-names", "vae-sd" },
        { "tango-vae", "vae-audioldm" },
        { "audioldm-diffusers-vae", "vae-audioldm" },
        { "audioldm-diffusers-vae-old-names", "vae-audioldm" },
        { "audioldm-s-full-ckpt", "vae-audioldm" },
        { "audioldm-diffusers-vocoder", "vocoder" },
        { "tango-vae", "vocoder" },
        { "audioldm-s-full-ckpt", "vocoder" },
        { "flan-t5-large-encoder", "t5-flan-large" },
        { "tango-main", "t5-flan-large-in-tango" },
        { "melfusion-main", "t5-flan-large-in-tango" },
        { "t5-base-encoder", "t5-base" },
        { "sd2-text-openclip-h", "clip-h" },
        { "sd15-text-clip-l", "clip-l" },
        { "vggish", "vggish" },
        { "cnn14-16k", "cnn14" },
        { "clap-htsat-unfused", "clap" },
        { "clip-vit-base-patch32", "clip" },
    };

    [Theory, MemberData(nameof(Checkpoints))]
    public void A_published_checkpoint_fills_our_network_and_nothing_is_missing_or_left_over(string manifest, string network)
    {
        using var scope = NewDisposeScope();
        var file = new ManifestWeights(manifest);
        var (module, prefix) = Network(network);

        module.LoadFrom(Part(file, prefix), ignore: key => file.IsOptional(prefix + key));
    }

    [Theory, MemberData(nameof(Checkpoints))]
    public void A_checkpoint_that_lacks_one_key_or_has_one_too_many_is_refused_by_that_key(string manifest, string network)
    {
        using var scope = NewDisposeScope();
        var (module, prefix) = Network(network);
        string some = module.state_dict().Keys.Last();
        var names = Part(new ManifestWeights(manifest), prefix);
        names = module is IPublishedLayouts layouts ? layouts.InOwnNames(names) : names;

        var lacking = names.Renamed([new("^" + System.Text.RegularExpressions.Regex.Escape(some) + "$", null)]);
        Should.Throw<WeightsException>(() => module.LoadFrom(lacking, ignore: _ => true)).Message.ShouldContain(some);
        var renamed = names.Renamed([new("^" + System.Text.RegularExpressions.Regex.Escape(some) + "$", some + ".other")]);
        Should.Throw<WeightsException>(() => module.LoadFrom(renamed)).Message.ShouldContain(some);
    }

    [Fact]
    public void Nothing_in_tango_s_file_of_its_front_end_is_needed_and_its_sizes_are_ours()
    {
        var file = new ManifestWeights("tango-stft");
        var mel = MelConfig.Tango;

        file.Tensors.ShouldAllBe(tensor => file.IsOptional(tensor.Key));
        file.Find("mel_basis")!.Shape.ShouldBe([mel.NMels, (mel.NFft / 2) + 1]);
    }

    [Fact]
    public void The_published_checkpoint_of_the_paper_gives_the_nine_alphas_of_the_decoder()
    {
        var file = new ManifestWeights("melfusion-main");

        var layers = UNetConfig.Tango.DecoderLayers.Select(layer => $"unet.{layer.Name}.transformer_blocks.0.attn2.alpha").ToList();

        layers.Count.ShouldBe(9);
        layers.ShouldAllBe(key => file.Find(key)!.Count == 1);
    }

    private static WeightsFile Part(WeightsFile file, string prefix) => prefix == "unet." ? KeyRenames.ForMusicUNet(file) : KeyRenames.StripPrefix(file, prefix);

    private static (nn.Module Module, string Prefix) Network(string name) => name switch
    {
        "unet-sd21" => (new ConditionalUNet(UNetConfig.StableDiffusion21, Placement.Meta), string.Empty),
        "unet-sd15" => (new ConditionalUNet(UNetConfig.StableDiffusion15, Placement.Meta), string.Empty),
        "unet-tango" => (new ConditionalUNet(UNetConfig.Tango, Placement.Meta), "unet."),
        "vae-sd" => (new AutoencoderKl(AutoencoderKlConfig.StableDiffusion, Placement.Meta), string.Empty),
        "vae-audioldm" => (new AutoencoderKl(AutoencoderKlConfig.AudioLdm, Placement.Meta), string.Empty),
        "t5-flan-large" => (new T5Encoder(T5EncoderConfig.FlanLarge, Placement.Meta), string.Empty),
        "t5-flan-large-in-tango" => (new T5Encoder(T5EncoderConfig.FlanLarge, Placement.Meta), "text_encoder."),
        "t5-base" => (new T5Encoder(T5EncoderConfig.Base, Placement.Meta), string.Empty),
        "clip-h" => (new ClipTextEncoder(ClipTextConfig.StableDiffusion2, Placement.Meta), string.Empty),
        "clip-l" => (new ClipTextEncoder(ClipTextConfig.StableDiffusion15, Placement.Meta), string.Empty),
        "vocoder" => (new HifiGan(HifiGanConfig.AudioLdm, Placement.Meta), string.Empty),
        "vggish" => (new Vggish(Placement.Meta), string.Empty),
        "cnn14" => (new Cnn14(Placement.Meta), string.Empty),
        "clap" => (new Clap(new ClapConfig(), Placement.Meta), string.Empty),
        "clip" => (new Clip(new ClipConfig(), Placement.Meta), string.Empty),
        _ => throw new ArgumentOutOfRangeException(nameof(name), name, null),
    };
}

/// <summary>The list of keys of a published checkpoint as a file without values.</summary>
internal sealed class ManifestWeights : WeightsFile
{
    private static readonly Dictionary<string, ScalarType> Types =
        Enum.GetValues<ScalarType>().Where(type => type is not (ScalarType.ComplexFloat32 or ScalarType.ComplexFloat64) && Enum.GetName(type) is not null)
            .Where(type => (int)type is < 8 or 11 or 15).ToDictionary(DtypeName);

    private readonly HashSet<string> _optional;

    [System.Diagnostics.CodeAnalysis.SetsRequiredMembers]
    public ManifestWeights(string name)
    {
        using var fixture = Fixture.Open("keys");
        Path = fixture.File(name + ".tsv.gz");
        using var reader = new StreamReader(new GZipStream(File.OpenRead(Path), CompressionMode.Decompress));
        var rows = reader.ReadToEnd().Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => line.Split('\t')).ToList();
        Tensors = [.. rows.Select(row => new TensorEntry(row[0], Types[row[1]], Shape(row[2])))];
        _optional = [.. rows.Where(row => row[3].Length > 0).Select(row => row[0])];
    }

    public override IReadOnlyList<TensorEntry> Tensors { get; }

    /// <summary>Whether a key need not be read: a tied copy, a buffer, something of another network.</summary>
    public bool IsOptional(string key) => _optional.Contains(key);

    public override void ReadInto(string key, Tensor target) => FindFor(key, target);

    protected override void Dispose(bool disposing)
    {
    }

    private static long[] Shape(string text) =>
        [.. text.Trim('[', ']').Split(',', StringSplitOptions.RemoveEmptyEntries).Select(axis => long.Parse(axis, CultureInfo.InvariantCulture))];
}
