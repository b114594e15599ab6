using System.CommandLine;
using System.CommandLine.Parsing;
using System.Diagnostics;
using System.Text.Json.Nodes;
using MelFusion.Cli.Output;
using MelFusion.Image;
using MelFusion.Weights;

namespace MelFusion.Cli.Commands;

/// <summary>Make music from a picture, a text, or both.</summary>
internal sealed class GenerateCommand : Command
{
    private readonly Session _session;
    private readonly Option<string?> _image = Setting.Path<GenerateSettings>(nameof(GenerateSettings.Image));
    private readonly Option<string?> _text = Setting.Text<GenerateSettings>(nameof(GenerateSettings.Text), MusicRequest.LongestText);
    private readonly Option<string?> _negative = Setting.Text<GenerateSettings>(nameof(GenerateSettings.Negative), MusicRequest.LongestText);
    private readonly Option<string?> _output = Setting.Path<GenerateSettings>(nameof(GenerateSettings.Output));
    private readonly Option<double?> _imageInfluence = Setting.Number<GenerateSettings>(nameof(GenerateSettings.ImageInfluence), 0, 1);
    private readonly Option<PictureSize?> _imageSize = Setting.Size<GenerateSettings>(nameof(GenerateSettings.ImageSize));
    private readonly Option<ImageGuidance?> _imageGuidance = Setting.Choice<GenerateSettings, ImageGuidance>(
        nameof(GenerateSettings.ImageGuidance), ("both", ImageGuidance.Both), ("cond", ImageGuidance.Cond));

    private readonly Option<long?> _seed = Setting.Whole<GenerateSettings>(nameof(GenerateSettings.Seed), 0, MusicRequest.LargestSeed - MusicRequest.MostCandidates);
    private readonly Option<long?> _steps = Setting.Whole<GenerateSettings>(nameof(GenerateSettings.Steps), 1, 1000);
    private readonly Option<double?> _guidance = Setting.Number<GenerateSettings>(nameof(GenerateSettings.Guidance), 0, 100);
    private readonly Option<SamplerKind?> _sampler = Setting.Choice<GenerateSettings, SamplerKind>(
        nameof(GenerateSettings.Sampler), ("ddim", SamplerKind.Ddim), ("ddpm", SamplerKind.Ddpm), ("dpm++", SamplerKind.DpmSolver));

    private readonly Option<long?> _inversionSteps = Setting.Whole<GenerateSettings>(nameof(GenerateSettings.InversionSteps), 1, 1000);
    private readonly Option<long?> _candidates = Setting.Whole<GenerateSettings>(nameof(GenerateSettings.Candidates), 1, MusicRequest.MostCandidates);
    private readonly Option<double?> _duration = Setting.Number<GenerateSettings>(nameof(GenerateSettings.Duration), 0.1, 3600, "seconds");
    private readonly Option<VocoderKind?> _vocoder = Setting.Choice<GenerateSettings, VocoderKind>(
        nameof(GenerateSettings.Vocoder), ("hifigan", VocoderKind.HifiGan), ("griffin-lim", VocoderKind.GriffinLim));

    private readonly Option<long?> _refine = Setting.Whole<GenerateSettings>(nameof(GenerateSettings.Refine), 0, 100);
    private readonly Option<Precision?> _precision = Setting.Choice<GenerateSettings, Precision>(
        nameof(GenerateSettings.Precision), ("auto", Precision.Auto), ("fp32", Precision.Fp32), ("bf16", Precision.Bf16));

    private readonly Option<ComputeDevice?> _device = Setting.Choice<GenerateSettings, ComputeDevice>(
        nameof(GenerateSettings.Device), ("cpu", ComputeDevice.Cpu), ("cuda", ComputeDevice.Cuda));

    private readonly Option<long?> _threads = Setting.Whole<GenerateSettings>(nameof(GenerateSettings.Threads), 1, Recipe.MostThreads);
    private readonly Option<string?> _model = Setting.Path<GenerateSettings>(nameof(GenerateSettings.Model), "folder");
    private readonly Option<bool> _json = Setting.Flag<GenerateSettings>(nameof(GenerateSettings.Json));
    private readonly Option<bool> _overwrite = Setting.Flag<GenerateSettings>(nameof(GenerateSettings.Overwrite));

    /// <summary>The command with its options.</summary>
    public GenerateCommand(Session session) : base("generate", Documentation.Id<GenerateCommand>())
    {
        _session = session;
        Option[] options =
        [
            _image, _text, _output, _negative, _imageInfluence, _imageSize, _imageGuidance, _seed, _steps, _guidance, _sampler, _inversionSteps, _candidates,
            _duration, _vocoder, _refine, _precision, _device, _threads, _model, _json, _overwrite,
        ];
        Array.ForEach(options, Add);
        Validators.Add(Check);
        SetAction(result => Run(Read(result)));
    }

    private void Check(CommandResult result)
    {
        if (result.GetResult(_image) is null && result.GetResult(_text) is null)
        {
            result.AddError("A picture or a text is needed: give --image, --text or both");
        }

        if (result.GetResult(_output) is null)
        {
            result.AddError("There is no --output: name the WAV file to write");
        }
        else if (result.GetResult(_output)!.Tokens is [{ Value: var output }] && output.Length > 0 && !Path.GetExtension(output).Equals(".wav", StringComparison.OrdinalIgnoreCase))
        {
            result.AddError("--output must end with .wav, as WAV is what is written");
        }
    }

    private GenerateSettings Read(ParseResult result) => new()
    {
        Image = result.GetValue(_image),
        Text = result.GetValue(_text),
        Negative = result.GetValue(_negative),
        ImageInfluence = result.GetValue(_imageInfluence) ?? 1,
        ImageSize = result.GetValue(_imageSize),
        ImageGuidance = result.GetValue(_imageGuidance),
        Seed = result.GetValue(_seed) ?? Random.Shared.NextInt64(1L << 31),
        SeedIsDrawn = result.GetValue(_seed) is null,
        Steps = (int?)result.GetValue(_steps),
        Guidance = result.GetValue(_guidance),
        Sampler = result.GetValue(_sampler),
        InversionSteps = (int?)result.GetValue(_inversionSteps),
        Candidates = (int?)result.GetValue(_candidates) ?? 1,
        Duration = result.GetValue(_duration),
        Vocoder = result.GetValue(_vocoder) ?? VocoderKind.HifiGan,
        Refine = (int?)result.GetValue(_refine),
        Precision = result.GetValue(_precision) ?? Precision.Auto,
        Device = result.GetValue(_device) ?? ComputeDevice.Cpu,
        Threads = (int?)result.GetValue(_threads),
        Model = result.GetValue(_model),
        Output = result.GetValue(_output)!,
        Json = result.GetValue(_json),
        Overwrite = result.GetValue(_overwrite),
    };

    private int Run(GenerateSettings settings)
    {
        long start = Stopwatch.GetTimestamp();
        var console = _session.ForPeople(settings.Json);
        var files = OutputFiles.Prepare(settings.Output, settings.Candidates, settings.Overwrite);
        var request = settings.ToRequest(settings.Image is null ? null : PictureFile.Read(settings.Image));
        var folder = ModelFolder.Open(ModelPlace.Find(settings.Model));
        if (settings.SeedIsDrawn)
        {
            console.Say(Words.Text($"Seed {settings.Seed} (drawn; --seed {settings.Seed} makes this again)"));
        }

        var clips = GenerationView.Show(console, progress =>
        {
            Computing.UseThreads(settings.Threads);
            using var model = MelFusionModel.Load(folder, Computing.Open(settings.Device), settings.Precision);
            return new MusicGenerator(model).Generate(request, progress, _session.Cancellation);
        });
        ClipFile.Write(files, clips, _session.Cancellation);
        Render(settings, console, files, clips, Stopwatch.GetElapsedTime(start));
        return ExitCode.Done;
    }

    private void Render(GenerateSettings settings, Spectre.Console.IAnsiConsole console, IReadOnlyList<string> files, IReadOnlyList<MusicClip> clips, TimeSpan elapsed)
    {
        foreach (string remark in clips.SelectMany(clip => clip.Remarks).Distinct())
        {
            console.Say(remark);
        }

        foreach (var (file, clip) in files.Zip(clips))
        {
            console.Say(Words.Text($"{file}: {clip.Duration.TotalSeconds:0.0} s of music, seed {clip.Recipe.Seed + clip.Recipe.Candidate}"));
        }

        if (settings.Json)
        {
            _session.WriteJson(new JsonObject
            {
                ["files"] = new JsonArray([.. files.Select(file => (JsonNode)file)]),
                ["seed"] = settings.Seed,
                ["seconds"] = Math.Round(clips[0].Duration.TotalSeconds, 3),
                ["sample_rate"] = clips[0].SampleRate,
                ["elapsed_seconds"] = Math.Round(elapsed.TotalSeconds, 3),
                ["recipe"] = JsonNode.Parse(clips[0].Recipe.ToJson()),
            }.ToJsonString());
        }
    }
}
