using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using MelFusion.Image;
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

namespace MelFusion.Benchmarks;

/// <summary>
/// The paper's system at its published sizes, with random weights: Stable Diffusion 2.1's UNet and VAE, TANGO's UNet, AudioLDM's VAE,
/// HiFi-GAN, FLAN-T5-large. Makes the folder once (9.1 GB), then loads it and generates, and prints one JSON line.
/// </summary>
internal static class FullSize
{
    private static readonly JsonSerializerOptions Json = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };

    public static Command Command()
    {
        var folder = new Option<string>("--folder") { Description = "The model folder; made where it is missing.", DefaultValueFactory = _ => "models/full-size-random" };
        var pieces = new Option<string>("--spiece") { Description = "A SentencePiece model for the tokenizer; its ids must lie below 32128.", DefaultValueFactory = _ => "tests/fixtures/end-to-end/tango/text-encoder/spiece.model" };
        var precision = new Option<Precision>("--precision") { Description = "fp32 or bf16 UNets.", DefaultValueFactory = _ => Precision.Auto };
        var steps = new Option<int>("--steps") { Description = "Denoising steps.", DefaultValueFactory = _ => 3 };
        var threads = new Option<int>("--threads") { Description = "Threads of every operator.", DefaultValueFactory = _ => Environment.ProcessorCount };
        var textOnly = new Option<bool>("--text-only") { Description = "Without a picture." };
        var command = new Command("full-size", "Loads the paper's system at its published sizes with random weights and generates for a few steps.") { folder, pieces, precision, steps, threads, textOnly };
        command.SetAction(result =>
        {
            string path = result.GetValue(folder)!;
            if (!Directory.Exists(path))
            {
                Make(path, result.GetValue(pieces)!);
            }

            set_num_threads(result.GetValue(threads));
            Console.WriteLine(JsonSerializer.Serialize(Measure(path, result.GetValue(precision), result.GetValue(steps), !result.GetValue(textOnly)), Json));
        });
        return command;
    }

    private static void Make(string path, string pieces)
    {
        string beside = path + ".part";
        using var generator = new Generator(1);
        Network("unet", UNetConfig.Tango, place => new ConditionalUNet(UNetConfig.Tango, place));
        Network("image_unet", UNetConfig.StableDiffusion21, place => new ConditionalUNet(UNetConfig.StableDiffusion21, place));
        Network("vae", AutoencoderKlConfig.AudioLdm, place => new AutoencoderKl(AutoencoderKlConfig.AudioLdm, place));
        Network("image_vae", AutoencoderKlConfig.StableDiffusion, place => new AutoencoderKl(AutoencoderKlConfig.StableDiffusion, place));
        Network("vocoder", HifiGanConfig.AudioLdm, place => new HifiGan(HifiGanConfig.AudioLdm, place));
        Network("text_encoder", T5EncoderConfig.FlanLarge, place => new T5Encoder(T5EncoderConfig.FlanLarge, place));
        Network("synapse", new SynapseConfig(), place => new VisualSynapse(new(), UNetConfig.Tango, place));
        foreach (string part in new[] { "scheduler", "image_scheduler" })
        {
            ConfigFile.Write(Path.Combine(Directory.CreateDirectory(Path.Combine(beside, part)).FullName, "scheduler_config.json"), new NoiseScheduleConfig());
        }

        ConfigFile.Write(Path.Combine(Directory.CreateDirectory(Path.Combine(beside, "mel")).FullName, "config.json"), MelConfig.Tango);
        File.Copy(pieces, Path.Combine(Directory.CreateDirectory(Path.Combine(beside, "tokenizer")).FullName, "spiece.model"), true);
        using (var scope = NewDisposeScope())
        {
            string folder = Directory.CreateDirectory(Path.Combine(beside, "image_null_text")).FullName;
            Safetensors.Write(Path.Combine(folder, "model.safetensors"), new Dictionary<string, Tensor> { ["states"] = torch.randn([1, 77, UNetConfig.StableDiffusion21.CrossAttentionDim], generator: generator) });
        }

        ConfigFile.Write(Path.Combine(beside, "melfusion.json"), new ModelDefaults { Name = "full-size-random", MelFrames = 1024, Guidance = 3, KeyValueSource = KeyValueSource.Recorded });
        File.WriteAllText(Path.Combine(beside, "model_index.json"), "{}\n");
        Directory.Move(beside, path);

        void Network<TConfig>(string part, TConfig config, Func<Placement, nn.Module> network) where TConfig : class
        {
            Console.Error.WriteLine($"making {part}");
            using var scope = NewDisposeScope();
            string folder = Directory.CreateDirectory(Path.Combine(beside, part)).FullName;
            ConfigFile.Write(Path.Combine(folder, "config.json"), config);
            using var module = network(Placement.Cpu);
            Initialiser.Initialise(module, generator);
            Safetensors.Write(Path.Combine(folder, part.Contains("unet", StringComparison.Ordinal) || part.EndsWith("vae", StringComparison.Ordinal) ? "diffusion_pytorch_model.safetensors" : "model.safetensors"), module.state_dict());
        }
    }

    private static object Measure(string path, Precision precision, int steps, bool withPicture)
    {
        using var memory = new PeakMemory();
        var watch = Stopwatch.StartNew();
        using var model = MelFusionModel.Load(ModelFolder.Open(path), precision: precision);
        if (withPicture)
        {
            _ = model.Picture;
        }

        double load = watch.Elapsed.TotalSeconds;
        double loaded = memory.Peak;
        var times = new StageTimes(watch);
        watch.Restart();
        var request = new MusicRequest { Image = withPicture ? Picture() : null, Prompt = "calm acoustic guitar by the sea", Seed = 1, Steps = steps, Sampler = SamplerKind.Ddim };
        _ = new MusicGenerator(model).Generate(request, times);
        return new
        {
            Case = "full-size",
            Precision = model.Place.Dtype == ScalarType.BFloat16 ? "bf16" : "fp32",
            Threads = get_num_threads(),
            Picture = withPicture,
            Steps = steps,
            LoadS = Math.Round(load, 2),
            Stages = times.Seconds(),
            GenerateS = Math.Round(watch.Elapsed.TotalSeconds, 2),
            LoadedAnonymousGb = Math.Round(loaded, 2),
            PeakAnonymousGb = Math.Round(memory.Peak, 2),
            Load = double.Parse(File.ReadAllText("/proc/loadavg").Split(' ')[0], CultureInfo.InvariantCulture),
        };
    }

    /// <summary>A picture of 512 x 512 in Windows' bitmap form: bands of grey.</summary>
    private static byte[] Picture()
    {
        const int Side = 512, Header = 54;
        byte[] file = new byte[Header + (Side * Side * 3)];
        "BM"u8.CopyTo(file);
        BitConverter.TryWriteBytes(file.AsSpan(2), file.Length);
        BitConverter.TryWriteBytes(file.AsSpan(10), Header);
        BitConverter.TryWriteBytes(file.AsSpan(14), 40);
        BitConverter.TryWriteBytes(file.AsSpan(18), Side);
        BitConverter.TryWriteBytes(file.AsSpan(22), Side);
        file[26] = 1;
        file[28] = 24;
        for (int i = Header; i < file.Length; i++)
        {
            file[i] = (byte)((i / (Side * 3 * 8)) * 4);
        }

        return file;
    }

    /// <summary>Seconds of each stage, and of the last step of those that have several: the first one also warms up.</summary>
    private sealed class StageTimes(Stopwatch watch) : IProgress<GenerationProgress>
    {
        private readonly List<(GenerationStage Stage, int Step, double At)> _seen = [];

        public void Report(GenerationProgress value) => _seen.Add((value.Stage, value.Step, watch.Elapsed.TotalSeconds));

        public Dictionary<string, object> Seconds() => _seen.GroupBy(seen => seen.Stage).ToDictionary(
            stage => JsonNamingPolicy.SnakeCaseLower.ConvertName(stage.Key.ToString()),
            stage => (object)Steps([.. stage]));

        private static double[] Steps(List<(GenerationStage Stage, int Step, double At)> seen) =>
            [.. seen.Zip(seen.Skip(1)).Where(pair => pair.Second.Step > pair.First.Step).Select(pair => Math.Round(pair.Second.At - pair.First.At, 3))];
    }

    /// <summary>The most anonymous memory of this process, looked at ten times a second; mapped files are not counted.</summary>
    private sealed class PeakMemory : IDisposable
    {
        private readonly Timer _timer;
        private double _peak;

        public PeakMemory() => _timer = new(_ => Look(), null, 0, 100);

        /// <summary>In GB.</summary>
        public double Peak
        {
            get
            {
                Look();
                return _peak;
            }
        }

        public void Dispose() => _timer.Dispose();

        private void Look()
        {
            string line = File.ReadLines("/proc/self/status").First(line => line.StartsWith("RssAnon:", StringComparison.Ordinal));
            _peak = Math.Max(_peak, long.Parse(line["RssAnon:".Length..].Replace("kB", string.Empty, StringComparison.Ordinal), CultureInfo.InvariantCulture) * 1024 / 1e9);
        }
    }
}
