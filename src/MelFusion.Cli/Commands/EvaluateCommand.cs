using System.CommandLine;
using MelFusion.Cli.Output;
using MelFusion.Evaluation;
using MelFusion.Evaluation.Embeddings;
using MelFusion.Evaluation.Reports;
using MelFusion.Weights;
using Spectre.Console;

namespace MelFusion.Cli.Commands;

/// <summary>Compare a folder of generated sounds with a folder of references: distances with intervals, controls and a passport.</summary>
internal sealed class EvaluateCommand : Command
{
    private readonly Session _session;
    private readonly Option<string?> _reference = Setting.Path<EvaluateSettings>(nameof(EvaluateSettings.Reference), "folder");
    private readonly Option<string?> _generated = Setting.Path<EvaluateSettings>(nameof(EvaluateSettings.Generated), "folder");
    private readonly Option<string?> _images = Setting.Path<EvaluateSettings>(nameof(EvaluateSettings.Images), "folder");
    private readonly Option<string?> _captions = Setting.Path<EvaluateSettings>(nameof(EvaluateSettings.Captions));
    private readonly Option<string?> _weights = Setting.Path<EvaluateSettings>(nameof(EvaluateSettings.Weights), "folder");
    private readonly Option<string?> _model = Setting.Path<EvaluateSettings>(nameof(EvaluateSettings.Model), "folder");
    private readonly Option<string?> _metrics = Setting.Text<EvaluateSettings>(nameof(EvaluateSettings.Metrics), 1000);
    private readonly Option<EvaluatorKind?> _evaluator = Setting.Choice<EvaluateSettings, EvaluatorKind>(nameof(EvaluateSettings.Evaluator));
    private readonly Option<string?> _report = Setting.Path<EvaluateSettings>(nameof(EvaluateSettings.Report), "folder");
    private readonly Option<long?> _bestOf = Setting.Whole<EvaluateSettings>(nameof(EvaluateSettings.BestOf), 1, 1_000_000);
    private readonly Option<long?> _seed = Setting.Whole<EvaluateSettings>(nameof(EvaluateSettings.Seed), 0, int.MaxValue);
    private readonly Option<long?> _rounds = Setting.Whole<EvaluateSettings>(nameof(EvaluateSettings.Rounds), 0, 100_000);
    private readonly Option<double?> _longest = Setting.Number<EvaluateSettings>(nameof(EvaluateSettings.Longest), 0.1, 3600, "seconds");
    private readonly Option<long?> _workers = Setting.Whole<EvaluateSettings>(nameof(EvaluateSettings.Workers), 1, 256);
    private readonly Option<string?> _cache = Setting.Path<EvaluateSettings>(nameof(EvaluateSettings.Cache), "folder");
    private readonly Option<bool> _noControls = Setting.Flag<EvaluateSettings>(nameof(EvaluateSettings.NoControls));
    private readonly Option<bool> _json = Setting.Flag<EvaluateSettings>(nameof(EvaluateSettings.Json));

    /// <summary>The command with its options and its subcommand.</summary>
    public EvaluateCommand(Session session) : base("evaluate", Documentation.Id<EvaluateCommand>())
    {
        _session = session;
        Option[] options =
        [
            _reference, _generated, _images, _captions, _weights, _model, _metrics, _evaluator, _report, _bestOf, _seed, _rounds, _longest, _workers, _cache,
            _noControls, _json,
        ];
        Array.ForEach(options, Add);
        Add(new EvaluateCompareCommand(session));
        SetAction(result => Run(Read(result)));
    }

    private EvaluateSettings Read(ParseResult result) => new()
    {
        Reference = result.GetValue(_reference) ?? throw new UsageException("There is no --reference: name the folder of sounds to compare with."),
        Generated = result.GetValue(_generated) ?? throw new UsageException("There is no --generated: name the folder of sounds to judge."),
        Images = result.GetValue(_images),
        Captions = result.GetValue(_captions),
        Weights = result.GetValue(_weights),
        Model = result.GetValue(_model),
        Metrics = Known(Setting.Items(result.GetValue(_metrics))),
        Evaluator = result.GetValue(_evaluator) ?? EvaluatorKind.Musicnn,
        Report = result.GetValue(_report),
        BestOf = (int?)result.GetValue(_bestOf) ?? 1,
        Seed = (int?)result.GetValue(_seed) ?? 0,
        Rounds = (int?)result.GetValue(_rounds) ?? 200,
        Longest = result.GetValue(_longest) ?? 60,
        Workers = (int?)result.GetValue(_workers),
        Cache = result.GetValue(_cache),
        NoControls = result.GetValue(_noControls),
        Json = result.GetValue(_json),
    };

    private static string[]? Known(string[]? names) => names?.FirstOrDefault(name => !EvaluationRequest.AllMetrics.Contains(name)) is { } unknown
        ? throw new UsageException($"--metrics knows no '{unknown}'; there are {string.Join(", ", EvaluationRequest.AllMetrics)}.")
        : names;

    private int Run(EvaluateSettings settings)
    {
        foreach (var (folder, option) in new[] { (settings.Report, _report), (settings.Cache, _cache) }.Where(pair => pair.Item1 is not null))
        {
            OutputFiles.PrepareFolder(folder!, option.Name);
        }

        using var model = settings.Model is null ? null : MelFusionModel.Load(ModelFolder.Open(settings.Model));
        var request = Request(settings, model);
        var console = _session.ForPeople(settings.Json);
        (var evaluator, string reason) = EvaluatorFolder.Open(Setting.Word(settings.Evaluator), settings.Weights);
        using (evaluator)
        {
            (EvaluationReport report, EvaluationDetails? details) = CountView.ShowCount<EvaluationProgress, (EvaluationReport, EvaluationDetails?)>(
                console, "files heard", value => (value.Stage, value.Done, value.Count),
                progress => evaluator is null
                    ? (FolderEvaluation.RunWithout(request, Setting.Word(settings.Evaluator), reason, progress, _session.Cancellation), null)
                    : FolderEvaluation.Run(request, evaluator, progress, _session.Cancellation));
            if (settings.Report is not null)
            {
                ReportWriter.Write(settings.Report, report, request, details);
            }

            Render(console, report);
            if (settings.Json)
            {
                _session.WriteJson(report.ToLine());
            }
        }

        return ExitCode.Done;
    }

    private static EvaluationRequest Request(EvaluateSettings settings, MelFusionModel? model)
    {
        var request = new EvaluationRequest
        {
            Reference = settings.Reference, Generated = settings.Generated, BestOfN = settings.BestOf, Seed = settings.Seed, BootstrapRounds = settings.Rounds,
            LongestSeconds = settings.Longest, CacheFolder = settings.Cache ?? EmbeddingCache.DefaultFolder, Controls = !settings.NoControls,
            Captions = settings.Captions, Images = settings.Images, Weights = settings.Weights,
            Reconstruct = model is null ? null : new ModelReconstruction(model).Forward,
        };
        request = settings.Metrics is null ? request : request with { Metrics = settings.Metrics };
        return settings.Workers is { } workers ? request with { Workers = workers } : request;
    }

    private static void Render(IAnsiConsole console, EvaluationReport report)
    {
        string[] controls = [.. report.Controls.Where(control => control.Value is { Count: > 0 }).Select(control => control.Key)];
        var table = new Table().AddColumns(["metric", "value", "low", "high", "bias", .. controls]);
        foreach (var (name, metric) in report.Metrics)
        {
            table.AddRow([
                new Spectre.Console.Text(name), .. new[] { metric.Value, metric.Low, metric.High, metric.Bias }
                    .Concat(controls.Select(control => report.Controls[control]!.GetValueOrDefault(name))).Select(value => new Spectre.Console.Text(ReportWriter.Shown(value)))]);
        }

        console.Write(table);
        foreach (var (name, metric) in report.Metrics.Where(metric => ReportWriter.Note(metric.Value).Length > 0))
        {
            console.Say($"{name}: {ReportWriter.Note(metric)}");
        }

        foreach (var file in report.Skipped)
        {
            console.Say($"skipped {file.File}: {file.Reason}");
        }
    }
}

/// <summary>Set two reports side by side; refused where their passports say that the figures cannot be compared.</summary>
internal sealed class EvaluateCompareCommand : Command
{
    private static readonly MetricValue NotMeasured = MetricValue.None("it was not asked for");

    private readonly Session _session;
    private readonly Argument<string> _first = Setting.File<EvaluateCompareSettings>(nameof(EvaluateCompareSettings.First));
    private readonly Argument<string> _second = Setting.File<EvaluateCompareSettings>(nameof(EvaluateCompareSettings.Second));

    /// <summary>The command with its arguments.</summary>
    public EvaluateCompareCommand(Session session) : base("compare", Documentation.Id<EvaluateCompareCommand>())
    {
        _session = session;
        Add(_first);
        Add(_second);
        SetAction(result => Run(new() { First = result.GetValue(_first)!, Second = result.GetValue(_second)! }));
    }

    private int Run(EvaluateCompareSettings settings)
    {
        (var first, var second) = (EvaluationReport.Read(settings.First), EvaluationReport.Read(settings.Second));
        var differences = EvaluationReport.Differences(first.Passport, second.Passport);
        if (differences.Count > 0)
        {
            throw new MelFusionException($"These reports cannot be compared, as their passports differ in {string.Join("; ", differences)}.");
        }

        var table = new Table().AddColumns("metric", "first", "second", "second - first", "intervals");
        foreach (string name in first.Metrics.Keys.Union(second.Metrics.Keys))
        {
            var (a, b) = (first.Metrics.GetValueOrDefault(name) ?? NotMeasured, second.Metrics.GetValueOrDefault(name) ?? NotMeasured);
            table.AddRow(
                name, ReportWriter.Shown(a.Value), ReportWriter.Shown(b.Value), ReportWriter.Shown(b.Value - a.Value),
                a.Low > b.High || b.Low > a.High ? "apart" : a.Low is null || b.Low is null ? "-" : "overlap");
        }

        _session.Output.Write(table);
        return ExitCode.Done;
    }
}
