using System.CommandLine;
using System.CommandLine.Parsing;
using System.Diagnostics;
using System.Text.Json.Nodes;
using MelFusion.Cli.Output;
using MelFusion.Image;
using MelFusion.Training.Data;
using MelFusion.Weights;
using Spectre.Console;

namespace MelFusion.Cli.Commands;

/// <summary>Make music from a picture, a text, or both; or for every row of a data set.</summary>
internal sealed class GenerateCommand : Command
{
    private readonly Session _session;
    private readonly Option<string?> _image = Setting.Path<GenerateSettings>(nameof(GenerateSettings.Image));
    private readonly Option<string?> _text = Setting.Text<MusicRequest>(nameof(MusicRequest.Prompt), MusicRequest.LongestText, "--text");
    private readonly Option<string?> _data = Setting.Path<GenerateSettings>(nameof(GenerateSettings.Data), "folder");
    private readonly Option<string?> _split = Setting.Path<GenerateSettings>(nameof(GenerateSettings.Split), "name");
    private readonly Option<CaptionKind?> _captions = Setting.Choice<GenerateSettings, CaptionKind>(nameof(GenerateSettings.Captions));
    private readonly Option<long?> _limit = Setting.Whole<GenerateSettings>(nameof(GenerateSettings.Limit), 1, int.MaxValue);
    private readonly Option<string?> _output = Setting.Path<GenerateSettings>(nameof(GenerateSettings.Output));
    private readonly Option<string?> _negative = Setting.Text<MusicRequest>(nameof(MusicRequest.NegativePrompt), MusicRequest.LongestText, "--negative");
    private readonly Option<double?> _imageInfluence = Setting.Number<MusicRequest>(nameof(MusicRequest.ImageInfluence), 0, 1);
    private readonly Option<PictureSize?> _imageSize = Setting.Size<MusicRequest>(nameof(MusicRequest.PictureSize), "--image-size");
    private readonly Option<ImageGuidance?> _imageGuidance = Setting.Choice<MusicRequest, ImageGuidance>(
        nameof(MusicRequest.ImageGuidance), ("both", ImageGuidance.Both), ("cond", ImageGuidance.Cond));

    private readonly Option<KeyValueSource?> _keyValueSource = Setting.Choice<MusicRequest, KeyValueSource>(
        nameof(MusicRequest.KeyValueSource), ("replay", KeyValueSource.Replay), ("recorded", KeyValueSource.Recorded), ("trajectory", KeyValueSource.Trajectory));

    private readonly Option<long?> _seed = Setting.Whole<MusicRequest>(nameof(MusicRequest.Seed), 0, MusicRequest.LargestSeed - MusicRequest.MostCandidates);
    private readonly Option<long?> _steps = Setting.Whole<MusicRequest>(nameof(MusicRequest.Steps), 1, 1000);
    private readonly Option<double?> _guidance = Setting.Number<MusicRequest>(nameof(MusicRequest.Guidance), 0, 100);
    private readonly Option<SamplerKind?> _sampler = Setting.Choice<MusicRequest, SamplerKind>(
        nameof(MusicRequest.Sampler), ("ddim", SamplerKind.Ddim), ("ddpm", SamplerKind.Ddpm), ("dpm++", SamplerKind.DpmSolver));

    private readonly Option<long?> _inversionSteps = Setting.Whole<MusicRequest>(nameof(MusicRequest.InversionSteps), 1, 1000);
    private readonly Option<double?> _inversionDepth = Setting.Number<MusicRequest>(nameof(MusicRequest.InversionDepth), ModelDefaults.LeastInversionDepth, 1);
    private readonly Option<long?> _candidates = Setting.Whole<MusicRequest>(nameof(MusicRequest.Candidates), 1, MusicRequest.MostCandidates);
    private readonly Option<double?> _duration = Setting.Number<MusicRequest>(nameof(MusicRequest.Duration), 0.1, 3600, "seconds");
    private readonly Option<VocoderKind?> _vocoder = Setting.Choice<MusicRequest, VocoderKind>(
        nameof(MusicRequest.Vocoder), ("hifigan", VocoderKind.HifiGan), ("griffin-lim", VocoderKind.GriffinLim));

    private readonly Option<long?> _refine = Setting.Whole<MusicRequest>(nameof(MusicRequest.Refine), 0, 100);
    private readonly Option<Precision?> _precision = Setting.Choice<GenerateSettings, Precision>(nameof(GenerateSettings.Precision));
    private readonly Option<ComputeDevice?> _device = Setting.Choice<GenerateSettings, ComputeDevice>(nameof(GenerateSettings.Device));
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
            _image, _text, _data, _split, _captions, _limit, _output, _negative, _imageInfluence, _imageSize, _imageGuidance, _keyValueSource, _seed, _steps, _guidance,
            _sampler, _inversionSteps, _inversionDepth, _candidates, _duration, _vocoder, _refine, _precision, _device, _threads, _model, _json, _overwrite,
        ];
        Array.ForEach(options, Add);
        Validators.Add(Check);
        SetAction(result => Run(Read(result)));
    }

    private void Check(CommandResult result)
    {
        bool hasData = result.GetResult(_data) is not null, isWav = IsWav(result);
        string? wrong =
            !hasData && result.GetResult(_image) is null && result.GetResult(_text) is null ? "A picture or a text is needed: give --image, --text or both"
            : hasData && Given(result, _image, _text, _candidates) is { } own ? $"{own} does not go with --data, whose rows have a picture, a text and a clip each; leave one of the two out"
            : !hasData && Given(result, _split, _captions, _limit) is { } ofData ? $"{ofData} goes with --data only"
            : result.GetResult(_output) is null ? $"There is no --output: name the {(hasData ? "folder" : "WAV file")} to write"
            : !hasData && !isWav ? "--output must end with .wav, as WAV is what is written"
            : hasData && isWav ? "--output must be a folder where --data is given, as there is a file for every row"
            : null;
        if (wrong is not null)
        {
            result.AddError(wrong);
        }
    }

    private static string? Given(CommandResult result, params Option[] options) => options.FirstOrDefault(option => result.GetResult(option) is not null)?.Name;

    // An output that is empty has its own error.
    private bool IsWav(CommandResult result) =>
        result.GetResult(_output)?.Tokens is [{ Value: { Length: > 0 } output }] && Path.GetExtension(output).Equals(".wav", StringComparison.OrdinalIgnoreCase);

    private GenerateSettings Read(ParseResult result) => new()
    {
        Request = ReadRequest(result),
        Image = result.GetValue(_image),
        Data = result.GetValue(_data),
        Split = result.GetValue(_split) ?? "test",
        Captions = result.GetValue(_captions) ?? CaptionKind.Heard,
        Limit = (int?)result.GetValue(_limit),
        SeedIsDrawn = result.GetValue(_seed) is null && result.GetValue(_data) is null,
        Precision = result.GetValue(_precision) ?? Precision.Auto,
        Device = result.GetValue(_device) ?? ComputeDevice.Cpu,
        Threads = (int?)result.GetValue(_threads),
        Model = result.GetValue(_model),
        Output = result.GetValue(_output)!,
        Json = result.GetValue(_json),
        Overwrite = result.GetValue(_overwrite),
    };

    private MusicRequest ReadRequest(ParseResult result) => new()
    {
        ImageName = Path.GetFileName(result.GetValue(_image)),
        PictureSize = result.GetValue(_imageSize),
        Prompt = result.GetValue(_text),
        NegativePrompt = result.GetValue(_negative),
        Duration = result.GetValue(_duration),
        Steps = (int?)result.GetValue(_steps),
        Guidance = result.GetValue(_guidance),
        Sampler = result.GetValue(_sampler),
        InversionSteps = (int?)result.GetValue(_inversionSteps),
        InversionDepth = result.GetValue(_inversionDepth),
        ImageInfluence = result.GetValue(_imageInfluence) ?? 1,
        ImageGuidance = result.GetValue(_imageGuidance),
        KeyValueSource = result.GetValue(_keyValueSource),
        // A set that is made in several runs keeps its seed without being told.
        Seed = result.GetValue(_seed) ?? (result.GetValue(_data) is null ? Random.Shared.NextInt64(1L << 31) : 0),
        Candidates = (int?)result.GetValue(_candidates) ?? 1,
        Vocoder = result.GetValue(_vocoder) ?? VocoderKind.HifiGan,
        Refine = (int?)result.GetValue(_refine),
    };

    private int Run(GenerateSettings settings)
    {
        long start = Stopwatch.GetTimestamp();
        var console = _session.ForPeople(settings.Json);
        return settings.Data is null ? RunOne(settings, console, start) : RunSet(settings, console, start);
    }

    private int RunOne(GenerateSettings settings, IAnsiConsole console, long start)
    {
        var files = OutputFiles.Prepare(settings.Output, settings.Request.Candidates, settings.Overwrite);
        var request = settings.Image is null ? settings.Request : settings.Request with { Image = PictureFile.Read(settings.Image) };
        var folder = ModelFolder.Open(ModelPlace.Find(settings.Model));
        if (settings.SeedIsDrawn)
        {
            console.Say(Words.Text($"Seed {request.Seed} (drawn; --seed {request.Seed} makes this again)"));
        }

        var clips = GenerationView.Show(console, progress =>
        {
            using var model = Load(folder, settings);
            return new MusicGenerator(model).Generate(request, progress, _session.Cancellation);
        });
        ClipFile.Write(files, clips, _session.Cancellation);
        Render(settings, console, files, clips, Stopwatch.GetElapsedTime(start));
        return ExitCode.Done;
    }

    private int RunSet(GenerateSettings settings, IAnsiConsole console, long start)
    {
        string split = Path.Combine(settings.Data!, settings.Split);
        var rows = TrainingRow.ReadTable(settings.Data!, settings.Split).Select(row => row.ToSetRow(split, settings.Captions)).ToList();
        var request = new SetRequest
        {
            Rows = Evenly.Some(rows, settings.Limit ?? rows.Count), Output = settings.Output, Settings = settings.Request, Overwrite = settings.Overwrite,
        };
        var folder = ModelFolder.Open(ModelPlace.Find(settings.Model));
        var outcome = SetView.Show(console, progress =>
        {
            using var model = Load(folder, settings);
            return new SetGenerator(model).Run(request, progress, _session.Cancellation);
        });
        Render(settings, console, outcome, Stopwatch.GetElapsedTime(start));
        return ExitCode.Done;
    }

    private static MelFusionModel Load(ModelFolder folder, GenerateSettings settings)
    {
        Computing.UseThreads(settings.Threads);
        return MelFusionModel.Load(folder, Computing.Open(settings.Device), settings.Precision);
    }

    private void Render(GenerateSettings settings, IAnsiConsole console, SetOutcome outcome, TimeSpan elapsed)
    {
        foreach (string remark in outcome.Remarks)
        {
            console.Say(remark);
        }

        console.Say(Words.Text($"{settings.Output}: {outcome.Made} clips made, {outcome.Kept} kept from before, seed {settings.Request.Seed}"));
        if (settings.Json)
        {
            _session.WriteJson(new JsonObject
            {
                ["output"] = settings.Output,
                ["made"] = outcome.Made,
                ["kept"] = outcome.Kept,
                ["seed"] = settings.Request.Seed,
                ["elapsed_seconds"] = Math.Round(elapsed.TotalSeconds, 3),
            }.ToJsonString());
        }
    }

    private void Render(GenerateSettings settings, IAnsiConsole console, IReadOnlyList<string> files, IReadOnlyList<MusicClip> clips, TimeSpan elapsed)
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
                ["seed"] = settings.Request.Seed,
                ["seconds"] = Math.Round(clips[0].Duration.TotalSeconds, 3),
                ["sample_rate"] = clips[0].SampleRate,
                ["elapsed_seconds"] = Math.Round(elapsed.TotalSeconds, 3),
                ["recipe"] = JsonNode.Parse(clips[0].Recipe.ToJson()),
            }.ToJsonString());
        }
    }
}
