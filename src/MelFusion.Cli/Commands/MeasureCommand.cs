using System.CommandLine;
using MelFusion.Cli.Output;
using MelFusion.Evaluation;
using MelFusion.Noise;
using MelFusion.Training;
using MelFusion.Training.Data;
using MelFusion.Weights;

namespace MelFusion.Cli.Commands;

/// <summary>Measure a model on held-out data for its model card: what text and picture are worth to it, what its parts keep, whether what it makes is sound.</summary>
internal sealed class MeasureCommand : Command
{
    private const int LastTimestep = 999, MostTimesteps = 100;

    private readonly Session _session;
    private readonly Option<string?> _model = Setting.Path<MeasureSettings>(nameof(MeasureSettings.Model), "folder");
    private readonly Option<string?> _data = Setting.Path<MeasureSettings>(nameof(MeasureSettings.Data), "folder");
    private readonly Option<string?> _split = Setting.Text<MeasureSettings>(nameof(MeasureSettings.Split), 100);
    private readonly Option<CaptionKind?> _captions = Setting.Choice<MeasureSettings, CaptionKind>(nameof(MeasureSettings.Captions));
    private readonly Option<long?> _conditions = Setting.Whole<MeasureSettings>(nameof(MeasureSettings.Conditions), 0, 1_000_000);
    private readonly Option<IReadOnlyList<long>?> _timesteps = Setting.Wholes<MeasureSettings>(nameof(MeasureSettings.Timesteps), 0, LastTimestep, MostTimesteps);
    private readonly Option<long?> _strangers = Setting.Whole<MeasureSettings>(nameof(MeasureSettings.Strangers), 1, 1000);
    private readonly Option<long?> _clips = Setting.Whole<MeasureSettings>(nameof(MeasureSettings.Clips), 0, 1_000_000);
    private readonly Option<long?> _seeds = Setting.Whole<MeasureSettings>(nameof(MeasureSettings.Seeds), 0, 1_000_000);
    private readonly Option<string?> _report = Setting.Path<MeasureSettings>(nameof(MeasureSettings.Report), "folder");
    private readonly Option<string?> _cache = Setting.Path<MeasureSettings>(nameof(MeasureSettings.Cache), "folder");
    private readonly Option<bool> _json = Setting.Flag<MeasureSettings>(nameof(MeasureSettings.Json));

    /// <summary>The command with its options.</summary>
    public MeasureCommand(Session session) : base("measure", Documentation.Id<MeasureCommand>())
    {
        _session = session;
        Option[] options = [_model, _data, _split, _captions, _conditions, _timesteps, _strangers, _clips, _seeds, _report, _cache, _json];
        Array.ForEach(options, Add);
        SetAction(result => Run(Read(result)));
    }

    private MeasureSettings Read(ParseResult result)
    {
        var defaults = new MeasureSettings();
        return new()
        {
            Model = result.GetValue(_model),
            Data = result.GetValue(_data) ?? defaults.Data,
            Split = result.GetValue(_split) ?? defaults.Split,
            Captions = result.GetValue(_captions) ?? defaults.Captions,
            Conditions = (int?)result.GetValue(_conditions) switch
            {
                null => defaults.Conditions,
                1 => throw new UsageException("--conditions 1 compares nothing, as a clip needs another one's picture and text: name 2 or more, or 0."),
                { } count => count,
            },
            Timesteps = result.GetValue(_timesteps) ?? defaults.Timesteps,
            Strangers = (int?)result.GetValue(_strangers) ?? defaults.Strangers,
            Clips = (int?)result.GetValue(_clips) ?? defaults.Clips,
            Seeds = (int?)result.GetValue(_seeds) ?? defaults.Seeds,
            Report = result.GetValue(_report) ?? defaults.Report,
            Cache = result.GetValue(_cache),
            Json = result.GetValue(_json),
        };
    }

    private int Run(MeasureSettings settings)
    {
        string folder = ModelPlace.Find(settings.Model);
        var console = _session.ForPeople(settings.Json);
        OutputFiles.PrepareFolder(settings.Report, _report.Name);
        var conditions = settings.Conditions == 0 ? null : TrainingView.Show(console, progress => ConditionComparison.Measure(
            new()
            {
                Stage = TrainingStage.MusicLdm, Model = folder, Data = settings.Data, Output = settings.Report, Cache = settings.Cache,
                MusicLdm = new() { Weighting = LossWeighting.None, ValidationTimesteps = settings.Timesteps, Captions = settings.Captions },
                Precision = Processor.Resolve(Precision.Auto) == Precision.Bf16 ? ComputePrecision.Bf16 : ComputePrecision.Fp32,
            },
            settings.Split, settings.Conditions, settings.Strangers, progress, _session.Cancellation));
        conditions?.Write(Path.Combine(settings.Report, "conditions.json"), Path.Combine(settings.Report, "conditions.csv"));
        using var model = MelFusionModel.Load(ModelFolder.Open(folder));
        var clips = HeldOut(settings);
        string sounds = Path.Combine(settings.Report, "clips");
        var figures = CountView.ShowCount<(string What, int Done, int Count), MeasuredFigures>(
            console, "clips", value => value,
            progress =>
            {
                var measurement = new ModelMeasurement(model);
                var (kept, made) = (Evenly.Some(clips, settings.Clips), Evenly.Some(clips, settings.Seeds));
                var reconstruction = settings.Clips == 0 ? null : measurement.Reconstruct(kept, done => progress.Report(("autoencoder and vocoders", done, kept.Count)), _session.Cancellation);
                var sound = settings.Seeds == 0 ? [] : measurement.Make(made, sounds, done => progress.Report(("making music", done, made.Count)), _session.Cancellation);
                if (sound.Count > 0)
                {
                    measurement.DrawSheet(Path.Combine(settings.Report, "spectrograms.png"), made, sounds);
                }

                return new(Path.GetFileName(Path.GetFullPath(folder)), model.WeightsSha256, settings.Split, settings.Captions, settings.Strangers, conditions, reconstruction, sound);
            });
        figures.Write(settings.Report);
        console.Write(figures.Table());
        if (settings.Json)
        {
            _session.WriteJson(figures.ToLine());
        }

        return ExitCode.Done;
    }

    private static IReadOnlyList<HeldOutClip> HeldOut(MeasureSettings settings)
    {
        string folder = Path.Combine(settings.Data, settings.Split);
        return [.. TrainingRow.ReadTable(settings.Data, settings.Split)
            .Where(row => row is { Audio: not null, Images.Count: > 0, Captions.Count: > 0 })
            .Select(row => (row.Audio, Made: row.ToSetRow(folder, settings.Captions)))
            .Select(clip => new HeldOutClip(clip.Made.Id, Path.Combine(folder, clip.Audio!), clip.Made.Picture!, clip.Made.Prompt!))];
    }
}
