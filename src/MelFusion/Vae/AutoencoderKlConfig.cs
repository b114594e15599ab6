using System.Text.Json.Serialization;
using MelFusion.Weights;

namespace MelFusion.Vae;

/// <summary>The sizes of an <see cref="AutoencoderKl"/>: config.json of diffusers' AutoencoderKL, with its defaults.</summary>
public sealed record AutoencoderKlConfig
{
    private const int MostLevels = 16;
    private const int LargestWidth = 1 << 16;

    /// <summary>The name under which diffusers opens the folder.</summary>
    [JsonPropertyName("_class_name")]
    public string ClassName { get; init; } = "AutoencoderKL";

    /// <summary>Channels that come in: 3 for pictures, 1 for mels.</summary>
    public int InChannels { get; init; } = 3;

    /// <summary>Channels that come out.</summary>
    public int OutChannels { get; init; } = 3;

    /// <summary>The width of every level, from the finest to the coarsest; each level but the first halves both axes.</summary>
    public IReadOnlyList<int> BlockOutChannels { get; init; } = [64];

    /// <summary>Residual blocks per level of the encoder; one more in the decoder.</summary>
    public int LayersPerBlock { get; init; } = 1;

    /// <summary>Channels of the latent.</summary>
    public int LatentChannels { get; init; } = 4;

    /// <summary>Groups of every group norm.</summary>
    public int NormNumGroups { get; init; } = 32;

    /// <summary>The activation; only "silu" was ever published.</summary>
    public string ActFn { get; init; } = "silu";

    /// <summary>The side of the pictures it was trained on; nothing is computed from it.</summary>
    public int SampleSize { get; init; } = 32;

    /// <summary>What a latent is multiplied by before diffusion and divided by after it; 1 / deviation of the training latents.</summary>
    public double ScalingFactor { get; init; } = 0.18215;

    /// <summary>Whether the middle has an attention layer.</summary>
    public bool MidBlockAddAttention { get; init; } = true;

    /// <summary>Whether a 1x1 convolution follows the encoder.</summary>
    public bool UseQuantConv { get; init; } = true;

    /// <summary>Whether a 1x1 convolution precedes the decoder.</summary>
    public bool UsePostQuantConv { get; init; } = true;

    /// <summary>One name per level, which diffusers wants to see.</summary>
    public IReadOnlyList<string>? DownBlockTypes { get; init; }

    /// <summary>One name per level, which diffusers wants to see.</summary>
    public IReadOnlyList<string>? UpBlockTypes { get; init; }

    /// <summary>Latent cells per input cell along each axis: 1 in this many.</summary>
    [JsonIgnore]
    public int Factor => 1 << (BlockOutChannels.Count - 1);

    /// <summary>The picture autoencoder of Stable Diffusion 1.x and 2.x: 8 times smaller, 4 channels.</summary>
    public static AutoencoderKlConfig StableDiffusion { get; } = new AutoencoderKlConfig
    {
        BlockOutChannels = [128, 256, 512, 512],
        LayersPerBlock = 2,
        SampleSize = 512,
    }.WithBlockTypes();

    /// <summary>The mel autoencoder of audioldm-s-full and TANGO: 4 times smaller, 8 channels.</summary>
    public static AutoencoderKlConfig AudioLdm { get; } = new AutoencoderKlConfig
    {
        InChannels = 1,
        OutChannels = 1,
        BlockOutChannels = [128, 256, 512],
        LayersPerBlock = 2,
        LatentChannels = 8,
        SampleSize = 512,
        ScalingFactor = 0.9227914214134216,
    }.WithBlockTypes();

    /// <summary>A few thousand parameters, for tests: pictures, 4 times smaller.</summary>
    public static AutoencoderKlConfig Tiny { get; } = new AutoencoderKlConfig
    {
        BlockOutChannels = [8, 12, 16],
        NormNumGroups = 4,
    }.WithBlockTypes();

    /// <summary>Reads a config in diffusers' form or in that of AudioLDM and TANGO (vae_config.json).</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="MelFusionException">It cannot be read or describes no such network.</exception>
    public static AutoencoderKlConfig Read(string path)
    {
        var original = ConfigFile.Read<OriginalConfig>(path);
        var config = original.Ddconfig is null ? ConfigFile.Read<AutoencoderKlConfig>(path) : original.Convert(path);
        config.Validate(path);
        return config;
    }

    /// <summary>The same sizes with the names of levels that diffusers wants in its config.json.</summary>
    public AutoencoderKlConfig WithBlockTypes() => this with
    {
        DownBlockTypes = [.. Enumerable.Repeat("DownEncoderBlock2D", BlockOutChannels.Count)],
        UpBlockTypes = [.. Enumerable.Repeat("UpDecoderBlock2D", BlockOutChannels.Count)],
    };

    /// <summary>Refuses sizes of which no network can be made.</summary>
    /// <param name="name">What to call the config in the sentence.</param>
    /// <exception cref="MelFusionException">With the reason.</exception>
    public void Validate(string name)
    {
        string? wrong =
            BlockOutChannels is not { Count: > 0 and <= MostLevels } ? $"block_out_channels must list 1 to {MostLevels} widths"
            : BlockOutChannels.Any(width => width is < 1 or > LargestWidth) ? $"block_out_channels must be 1 to {LargestWidth}"
            : InChannels is < 1 or > 1024 || OutChannels is < 1 or > 1024 || LatentChannels is < 1 or > 1024 ? "in_channels, out_channels and latent_channels must be 1 to 1024"
            : LayersPerBlock is < 1 or > 64 ? "layers_per_block must be 1 to 64"
            : NormNumGroups < 1 || BlockOutChannels.Any(width => width % NormNumGroups != 0) ? "every width of block_out_channels must be a multiple of norm_num_groups"
            : !(ScalingFactor > 0 && double.IsFinite(ScalingFactor)) ? "scaling_factor must be above 0"
            : ActFn is not ("silu" or "swish") ? $"the activation '{ActFn}' is not known; published autoencoders have silu"
            : !KnownTypes(DownBlockTypes, "DownEncoderBlock2D") || !KnownTypes(UpBlockTypes, "UpDecoderBlock2D")
                ? "down_block_types must be DownEncoderBlock2D and up_block_types UpDecoderBlock2D, one per level"
            : null;
        if (wrong is not null)
        {
            throw new MelFusionException($"{name}: {wrong}.");
        }
    }

    private bool KnownTypes(IReadOnlyList<string>? types, string known) =>
        types is null || (types.Count == BlockOutChannels.Count && types.All(type => type == known));

    private sealed record OriginalConfig
    {
        public int EmbedDim { get; init; } = 8;

        public double ScaleFactor { get; init; } = 1;

        public OriginalSizes? Ddconfig { get; init; }

        public AutoencoderKlConfig Convert(string path) => this switch
        {
            { Ddconfig: not { Ch: > 0 and <= LargestWidth, ChMult.Count: > 0 and <= MostLevels } } => throw new MelFusionException($"{path}: ddconfig lacks usable ch and ch_mult."),
            { Ddconfig.AttnResolutions: { Count: > 0 } } => throw new MelFusionException($"{path}: attention inside the levels (attn_resolutions) is not supported; no published audio autoencoder has it."),
            { Ddconfig: { DownsampleTime: true } or { DoubleZ: false } } => throw new MelFusionException($"{path}: downsample_time and single z are not supported; no published audio autoencoder has them."),
            _ when Ddconfig.ZChannels != EmbedDim => throw new MelFusionException($"{path}: z_channels and embed_dim differ, which no published audio autoencoder has."),
            _ => new AutoencoderKlConfig
            {
                InChannels = Ddconfig.InChannels,
                OutChannels = Ddconfig.OutCh,
                BlockOutChannels = [.. Ddconfig.ChMult.Select(times => (int)Math.Clamp((long)Ddconfig.Ch * times, 0, int.MaxValue))],
                LayersPerBlock = Ddconfig.NumResBlocks,
                LatentChannels = EmbedDim,
                NormNumGroups = Ddconfig.NormNumGroups,
                SampleSize = Ddconfig.Resolution,
                ScalingFactor = ScaleFactor,
            }.WithBlockTypes(),
        };
    }

    private sealed record OriginalSizes
    {
        public int Ch { get; init; }

        public IReadOnlyList<int> ChMult { get; init; } = [];

        public IReadOnlyList<int>? AttnResolutions { get; init; }

        public int NumResBlocks { get; init; } = 2;

        public int InChannels { get; init; } = 1;

        public int OutCh { get; init; } = 1;

        public int ZChannels { get; init; } = 8;

        public bool DoubleZ { get; init; } = true;

        public bool DownsampleTime { get; init; }

        public int Resolution { get; init; } = 256;

        public int NormNumGroups { get; init; } = 32;
    }
}
