using System.Text.Json;
using System.Text.Json.Serialization;
using MelFusion.KeyValue;

namespace MelFusion.UNet;

/// <summary>The sizes of a <see cref="ConditionalUNet"/>: config.json of diffusers' UNet2DConditionModel, with its defaults.</summary>
public sealed record UNetConfig
{
    private const int LargestWidth = 1 << 16;
    private const int MostLevels = 16;

    /// <summary>The name under which diffusers opens the folder.</summary>
    [JsonPropertyName("_class_name")]
    public string ClassName { get; init; } = "UNet2DConditionModel";

    /// <summary>Channels of the latent that comes in.</summary>
    public int InChannels { get; init; } = 4;

    /// <summary>Channels of the prediction.</summary>
    public int OutChannels { get; init; } = 4;

    /// <summary>The width of every level, from the finest to the coarsest.</summary>
    public IReadOnlyList<int> BlockOutChannels { get; init; } = [320, 640, 1280, 1280];

    /// <summary>Residual blocks per level on the way down; one more on the way up.</summary>
    public int LayersPerBlock { get; init; } = 2;

    /// <summary>"CrossAttnDownBlock2D" or "DownBlock2D" per level, in any order.</summary>
    public IReadOnlyList<string> DownBlockTypes { get; init; } = ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"];

    /// <summary>The block between the two ways; there is one kind.</summary>
    public string MidBlockType { get; init; } = "UNetMidBlock2DCrossAttn";

    /// <summary>"CrossAttnUpBlock2D" or "UpBlock2D" per level, from the coarsest to the finest, in any order.</summary>
    public IReadOnlyList<string> UpBlockTypes { get; init; } = ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"];

    /// <summary>c, the width of the text states.</summary>
    public int CrossAttentionDim { get; init; } = 1280;

    /// <summary>
    /// The NUMBER of heads, one for all levels or one per level. The published files have had it under this name from the start.
    /// </summary>
    [JsonConverter(typeof(OneOrManyConverter))]
    public IReadOnlyList<int> AttentionHeadDim { get; init; } = [8];

    /// <summary>The number of heads where a file states it under its right name; wins over <see cref="AttentionHeadDim"/>.</summary>
    [JsonConverter(typeof(OneOrManyConverter))]
    public IReadOnlyList<int>? NumAttentionHeads { get; init; }

    /// <summary>Whether the projections around a transformer are linear (SD 2.x, TANGO) or 1x1 convolutions (SD 1.x).</summary>
    public bool UseLinearProjection { get; init; }

    /// <summary>Transformer blocks per layer; there is one.</summary>
    [JsonConverter(typeof(OneOrManyConverter))]
    public IReadOnlyList<int> TransformerLayersPerBlock { get; init; } = [1];

    /// <summary>Groups of every GroupNorm.</summary>
    public int NormNumGroups { get; init; } = 32;

    /// <summary>Epsilon of the GroupNorms in residual blocks and before conv_out.</summary>
    public double NormEps { get; init; } = 1e-5;

    /// <summary>Whether the timestep's sinusoid is [cos | sin].</summary>
    public bool FlipSinToCos { get; init; } = true;

    /// <summary>Subtracted from the number of frequencies in their exponent.</summary>
    public double FreqShift { get; init; }

    /// <summary>Zeros around the input of a stride-2 convolution.</summary>
    public int DownsamplePadding { get; init; } = 1;

    /// <summary>The activation; there is one.</summary>
    public string ActFn { get; init; } = "silu";

    /// <summary>Conditioning on a class; there is none here.</summary>
    public string? ClassEmbedType { get; init; }

    /// <summary>The picture's UNet of Stable Diffusion 2.1.</summary>
    public static UNetConfig StableDiffusion21 { get; } = new()
    {
        CrossAttentionDim = 1024,
        AttentionHeadDim = [5, 10, 20, 20],
        UseLinearProjection = true,
    };

    /// <summary>The picture's UNet of Stable Diffusion 1.5: its widths agree with TANGO's layer by layer, its heads (8 everywhere) do not.</summary>
    public static UNetConfig StableDiffusion15 { get; } = new() { CrossAttentionDim = 768 };

    /// <summary>The music's UNet of TANGO: Stable Diffusion 2.1's on a latent (B, 8, time, mel).</summary>
    public static UNetConfig Tango { get; } = StableDiffusion21 with { InChannels = 8, OutChannels = 8 };

    /// <summary>The music's UNet of melfusion-mini.</summary>
    public static UNetConfig Mini { get; } = new()
    {
        InChannels = 8,
        OutChannels = 8,
        BlockOutChannels = [64, 128, 192],
        LayersPerBlock = 1,
        DownBlockTypes = ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        UpBlockTypes = ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        CrossAttentionDim = 384,
        AttentionHeadDim = [2, 4, 6],
        UseLinearProjection = true,
    };

    /// <summary>The picture's UNet of melfusion-mini: the music's widths and heads, layer by layer.</summary>
    public static UNetConfig MiniImage { get; } = Mini with { InChannels = 4, OutChannels = 4 };

    /// <summary>A UNet of a few thousand weights with every kind of layer, for tests of the whole pipeline.</summary>
    public static UNetConfig Tiny { get; } = Mini with
    {
        BlockOutChannels = [8, 16, 16],
        LayersPerBlock = 1,
        AttentionHeadDim = [1, 2, 2],
        NormNumGroups = 4,
    };

    /// <summary>The number of levels.</summary>
    [JsonIgnore]
    public int Levels => BlockOutChannels.Count;

    /// <summary>The transformer layers of the way down, in the order in which they run (the encoder of the paper's Table 2).</summary>
    [JsonIgnore]
    public IReadOnlyList<AttentionLayer> EncoderLayers =>
        [.. from level in Enumerable.Range(0, Levels)
            where HasAttention(DownBlockTypes[level])
            from layer in Enumerable.Range(0, LayersPerBlock)
            select Layer($"down_blocks.{level}.attentions.{layer}", level)];

    /// <summary>The transformer layers of the way up, in the order in which they run: where the paper's alphas sit.</summary>
    [JsonIgnore]
    public IReadOnlyList<AttentionLayer> DecoderLayers =>
        [.. from block in Enumerable.Range(0, Levels)
            where HasAttention(UpBlockTypes[block])
            from layer in Enumerable.Range(0, LayersPerBlock + 1)
            select Layer($"up_blocks.{block}.attentions.{layer}", Levels - 1 - block)];

    internal AttentionLayer Layer(string name, int level) => new(name, BlockOutChannels[level], Heads(level));

    internal static bool HasAttention(string blockType) => blockType.StartsWith("CrossAttn", StringComparison.Ordinal);

    private int Heads(int level)
    {
        var heads = NumAttentionHeads ?? AttentionHeadDim;
        return heads[heads.Count == 1 ? 0 : level];
    }

    /// <summary>Checks what a file may have stated wrongly, before any memory is taken.</summary>
    /// <exception cref="MelFusionException">In one sentence: the setting that cannot be, and what can.</exception>
    public void Validate()
    {
        Require(Levels is > 0 and <= MostLevels, "block_out_channels", $"1 to {MostLevels} widths");
        Require(DownBlockTypes.Count == Levels && DownBlockTypes.All(type => type is "CrossAttnDownBlock2D" or "DownBlock2D"), "down_block_types", "CrossAttnDownBlock2D or DownBlock2D, one per width");
        Require(UpBlockTypes.Count == Levels && UpBlockTypes.All(type => type is "CrossAttnUpBlock2D" or "UpBlock2D"), "up_block_types", "CrossAttnUpBlock2D or UpBlock2D, one per width");
        Require(MidBlockType == "UNetMidBlock2DCrossAttn", "mid_block_type", "UNetMidBlock2DCrossAttn");
        Require(ActFn is "silu" or "swish", "act_fn", "silu");
        Require(ClassEmbedType is null, "class_embed_type", "null");
        Require(TransformerLayersPerBlock.All(count => count == 1), "transformer_layers_per_block", "1");
        Require(LayersPerBlock is > 0 and <= 64, "layers_per_block", "1 to 64");
        Require(DownsamplePadding is 0 or 1, "downsample_padding", "0 or 1");
        Require(new[] { InChannels, OutChannels, CrossAttentionDim }.Concat(BlockOutChannels).All(width => width is > 0 and <= LargestWidth), "a width", $"1 to {LargestWidth}");
        Require(NormNumGroups > 0 && BlockOutChannels.All(width => width % NormNumGroups == 0), "norm_num_groups", "a divisor of every width");
        var heads = NumAttentionHeads ?? AttentionHeadDim;
        Require(heads.Count == 1 || heads.Count == Levels, "attention_head_dim", "one number of heads, or one per width");
        Require(Enumerable.Range(0, Levels).All(level => Heads(level) > 0 && BlockOutChannels[level] % Heads(level) == 0), "attention_head_dim", "the number of heads, a divisor of the width");
        Require(BlockOutChannels[0] % 2 == 0, "block_out_channels", "an even first width");
    }

    private static void Require(bool condition, string setting, string what)
    {
        if (!condition)
        {
            throw new MelFusionException($"The UNet's config.json cannot be used: {setting} must be {what}.");
        }
    }
}

/// <summary>A number, or a list of numbers, as diffusers writes what may differ by level.</summary>
internal sealed class OneOrManyConverter : JsonConverter<IReadOnlyList<int>>
{
    public override IReadOnlyList<int>? Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) =>
        reader.TokenType == JsonTokenType.Number ? [reader.GetInt32()] : JsonSerializer.Deserialize<int[]>(ref reader, options);

    public override void Write(Utf8JsonWriter writer, IReadOnlyList<int> value, JsonSerializerOptions options)
    {
        if (value.Count == 1)
        {
            writer.WriteNumberValue(value[0]);
        }
        else
        {
            JsonSerializer.Serialize(writer, value.ToArray(), options);
        }
    }
}
