using System.Buffers.Binary;
using MelFusion.Noise;
using MelFusion.Synapse;
using MelFusion.Text;
using MelFusion.UNet;
using MelFusion.Vae;
using MelFusion.Vocoder;
using MelFusion.Wave;
using MelFusion.Weights;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Tests.Support;

/// <summary>
/// A real model folder with every part, tiny and of random weights: the whole pipeline runs on it in a fraction of a second. It makes
/// 1,024 samples of noise at 4 kHz.
/// </summary>
public sealed class TinyModel : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    /// <summary>Writes the folder.</summary>
    public TinyModel() => Write(_folder.Path);

    /// <summary>Where it lies.</summary>
    public string Path => _folder.Path;

    /// <summary>Loads it.</summary>
    public MelFusionModel Load(Precision precision = Precision.Fp32, Device? device = null) =>
        MelFusionModel.Load(ModelFolder.Open(Path), device, precision);

    /// <inheritdoc/>
    public void Dispose() => _folder.Dispose();

    /// <summary>Writes a whole model folder into an empty folder.</summary>
    public static void Write(string path, ulong seed = 1)
    {
        using var scope = NewDisposeScope();
        using var generator = new Generator(seed);
        var unet = UNetConfig.Tiny with { CrossAttentionDim = 12 };
        var vae = AutoencoderKlConfig.Tiny with { InChannels = 1, OutChannels = 1, LatentChannels = 8, ScalingFactor = 0.9 };
        var mel = new MelConfig
        {
            SampleRate = 4000, NFft = 64, WinLength = 64, HopLength = 16, Padding = 24, NMels = 16, FMax = 2000, Mean = -5, Deviation = 2,
        };
        var vocoder = new HifiGanConfig
        {
            NumMels = 16, SamplingRate = 4000, UpsampleInitialChannel = 16, UpsampleRates = [4, 4], UpsampleKernelSizes = [8, 8],
            ResblockKernelSizes = [3], ResblockDilationSizes = [[1, 3]],
        };
        string[] vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", .. Letters(string.Empty), .. Letters("##")];
        var text = new MiniLmConfig
        {
            VocabSize = vocabulary.Length, HiddenSize = 12, NumHiddenLayers = 1, NumAttentionHeads = 2, IntermediateSize = 24, MaxPositionEmbeddings = 256,
        };

        Part("unet", unet, new ConditionalUNet(unet, Placement.Cpu));
        Part("vae", vae, new AutoencoderKl(vae, Placement.Cpu));
        Part("vocoder", vocoder, new HifiGan(vocoder, Placement.Cpu));
        Part("text_encoder", text, new MiniLm(text, Placement.Cpu), "model.safetensors");
        Part("mel", mel);
        Part("scheduler", new NoiseScheduleConfig { PredictionType = PredictionType.VPrediction });
        Part("tokenizer", new { });
        File.WriteAllLines(System.IO.Path.Combine(path, "tokenizer", "vocab.txt"), vocabulary);

        var imageUNet = unet with { InChannels = 4, OutChannels = 4 };
        var imageVae = AutoencoderKlConfig.Tiny;
        var synapse = new SynapseConfig();
        Part("image_unet", imageUNet, new ConditionalUNet(imageUNet, Placement.Cpu));
        Part("image_vae", imageVae, new AutoencoderKl(imageVae, Placement.Cpu));
        Part("image_scheduler", new NoiseScheduleConfig());
        Part("synapse", synapse, new VisualSynapse(synapse, unet, Placement.Cpu), "model.safetensors");
        Part("image_null_text", new { });
        Safetensors.Write(
            System.IO.Path.Combine(path, "image_null_text", "model.safetensors"),
            new Dictionary<string, Tensor> { ["states"] = randn([1, 2, 12], generator: generator) });

        ConfigFile.Write(System.IO.Path.Combine(path, "melfusion.json"), new ModelDefaults
        {
            Name = "tiny", Steps = 4, MelFrames = 64, PictureWidth = 32, PictureHeight = 32, Refine = 1,
        });
        File.WriteAllText(System.IO.Path.Combine(path, "model_index.json"), "{}\n");

        void Part<T>(string name, T config, nn.Module? network = null, string weights = "diffusion_pytorch_model.safetensors") where T : class
        {
            string folder = Directory.CreateDirectory(System.IO.Path.Combine(path, name)).FullName;
            string file = name.EndsWith("scheduler", StringComparison.Ordinal) ? "scheduler_config.json" : "config.json";
            ConfigFile.Write(System.IO.Path.Combine(folder, file), config);
            if (network is not null)
            {
                Initialiser.Initialise(network, generator);
                Safetensors.Write(System.IO.Path.Combine(folder, weights), network.state_dict());
                network.Dispose();
            }
        }
    }

    /// <summary>A picture's file (24-bit BMP) whose colours depend on the seed.</summary>
    public static byte[] Picture(int seed, int width = 32, int height = 32)
    {
        int row = ((width * 3) + 3) / 4 * 4;
        byte[] file = new byte[54 + (row * height)];
        new Random(seed).NextBytes(file.AsSpan(54));
        var header = file.AsSpan();
        header[0] = (byte)'B';
        header[1] = (byte)'M';
        BinaryPrimitives.WriteInt32LittleEndian(header[2..], file.Length);
        BinaryPrimitives.WriteInt32LittleEndian(header[10..], 54);
        BinaryPrimitives.WriteInt32LittleEndian(header[14..], 40);
        BinaryPrimitives.WriteInt32LittleEndian(header[18..], width);
        BinaryPrimitives.WriteInt32LittleEndian(header[22..], height);
        BinaryPrimitives.WriteInt16LittleEndian(header[26..], 1);
        BinaryPrimitives.WriteInt16LittleEndian(header[28..], 24);
        return file;
    }

    private static IEnumerable<string> Letters(string prefix) => Enumerable.Range('a', 26).Select(letter => prefix + (char)letter);
}
