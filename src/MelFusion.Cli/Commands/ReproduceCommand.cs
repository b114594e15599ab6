using System.CommandLine;
using MelFusion.Cli.Output;
using MelFusion.Evaluation.Embeddings;
using MelFusion.Evaluation.Reproduction;
using MelFusion.Training;
using MelFusion.Training.Data;
using MelFusion.Weights;
using Spectre.Console;

namespace MelFusion.Cli.Commands;

/// <summary>Make a table of the paper with a model and data of one's own: music for every row, figures, and the paper's beside them.</summary>
internal sealed class ReproduceCommand : Command
{
    private const string GoesOn = "Finished clips, and what a training has learned, are kept; the same command goes on from there.";

    private readonly Session _session;
    private readonly Argument<string> _table = Setting.File<ReproduceSettings>(nameof(ReproduceSettings.Table));
    private readonly Option<string?> _data = Setting.Path<ReproduceSettings>(nameof(ReproduceSettings.Data), "folder");
    private readonly Option<string?> _model = Setting.Path<ReproduceSettings>(nameof(ReproduceSettings.Model), "folder");
    private readonly Option<bool> _quick = Setting.Flag<ReproduceSettings>(nameof(ReproduceSettings.Quick));
    private readonly Option<long?> _limit = Setting.Whole<ReproduceSettings>(nameof(ReproduceSettings.Limit), 2, int.MaxValue);
    private readonly Option<EvaluatorKind?> _evaluator = Setting.Choice<ReproduceSettings, EvaluatorKind>(nameof(ReproduceSettings.Evaluator));
    private readonly Option<string?> _weights = Setting.Path<ReproduceSettings>(nameof(ReproduceSettings.Weights), "folder");
    private readonly Option<string?> _systems = Setting.Path<ReproduceSettings>(nameof(ReproduceSettings.Systems), "folder");
    private readonly Option<bool> _train = Setting.Flag<ReproduceSettings>(nameof(ReproduceSettings.Train));
    private readonly Option<string?> _output = Setting.Path<ReproduceSettings>(nameof(ReproduceSettings.Output), "folder");
    private readonly Option<Precision?> _precision = Setting.Choice<ReproduceSettings, Precision>(nameof(ReproduceSettings.Precision));
    private readonly Option<ComputeDevice?> _device = Setting.Choice<ReproduceSettings, ComputeDevice>(nameof(ReproduceSettings.Device));
    private readonly Option<long?> _threads = Setting.Whole<ReproduceSettings>(nameof(ReproduceSettings.Threads), 1, Recipe.MostThreads);
    private readonly Option<bool> _json = Setting.Flag<ReproduceSettings>(nameof(ReproduceSettings.Json));
    private readonly Option<bool> _overwrite = Setting.Flag<ReproduceSettings>(nameof(ReproduceSettings.Overwrite));

    /// <summary>The command with its options.</summary>
    public ReproduceCommand(Session session) : base("reproduce", Documentation.Id<ReproduceCommand>())
    {
        _session = session;
        Add(_table);
        Option[] options = [_data, _model, _quick, _limit, _evaluator, _weights, _systems, _train, _output, _precision, _device, _threads, _json, _overwrite];
        Array.ForEach(options, Add);
        SetAction(result => Run(Read(result)));
    }

    private ReproduceSettings Read(ParseResult result)
    {
        string table = result.GetValue(_table)!;
        bool quick = result.GetValue(_quick);
        return new()
        {
            Table = table,
            Data = result.GetValue(_data) ?? "openmel",
            Model = result.GetValue(_model),
            Quick = quick,
            Limit = (int?)result.GetValue(_limit),
            Evaluator = result.GetValue(_evaluator) ?? EvaluatorKind.Musicnn,
            Weights = result.GetValue(_weights),
            Systems = result.GetValue(_systems) ?? "systems",
            Train = result.GetValue(_train),
            Output = result.GetValue(_output) ?? Path.Combine("runs", "reproduce", Path.GetFileNameWithoutExtension(table) + (quick ? "-quick" : string.Empty)),
            Precision = result.GetValue(_precision) ?? Precision.Auto,
            Device = result.GetValue(_device) ?? ComputeDevice.Cpu,
            Threads = (int?)result.GetValue(_threads),
            Json = result.GetValue(_json),
            Overwrite = result.GetValue(_overwrite),
        };
    }

    private int Run(ReproduceSettings settings)
    {
        var console = _session.ForPeople(settings.Json);
        var table = WithVariants(TablePlace.Find(settings.Table));
        string data = Directory.Exists(settings.Data) ? settings.Data : Path.Combine("data", settings.Data);
        var clips = TrainingRow.ReadTable(data, table.Split).Select(row => new DataClip(row.Id, row.Images, row.Captions, row.CaptionsOf(CaptionKind.Heard))).ToList();
        string model = ModelPlace.Find(settings.Model);
        _ = ModelFolder.Open(model);
        OutputFiles.PrepareFolder(settings.Output, _output.Name);
        (var evaluator, string reason) = EvaluatorFolder.Open(Setting.Word(settings.Evaluator), settings.Weights);
        using (evaluator ?? throw new MelFusionException($"{Setting.Word(settings.Evaluator)} cannot hear: {reason}."))
        {
            if (settings.Train)
            {
                Train(console, table, data, model);
            }

            var request = new TableRequest
            {
                Table = table, Clips = clips, Reference = Path.Combine(data, table.Split), Model = model, Output = settings.Output,
                Systems = settings.Systems, Weights = settings.Weights, Quick = settings.Quick, Limit = settings.Limit, Overwrite = settings.Overwrite,
                Load = folder =>
                {
                    Computing.UseThreads(settings.Threads);
                    return MelFusionModel.Load(folder, Computing.Open(settings.Device), settings.Precision);
                },
            };
            var result = Make(console, request, evaluator);
            result.Write(settings.Output);
            Render(settings, console, result);
            return result.Rows.Any(row => row.Missing is null) ? ExitCode.Done : throw new MelFusionException("No row of the table could be made; what each needs stands below the table.");
        }
    }

    private TableResult Make(IAnsiConsole console, TableRequest request, IEvaluator evaluator)
    {
        try
        {
            return CountView.Show<TableProgress, TableResult>(console, value => (value.Row, Line(value)), progress =>
            {
                using var run = new TableRun(request, evaluator, progress, _session.Cancellation);
                return run.Run();
            });
        }
        catch (OperationCanceledException)
        {
            console.Say(GoesOn);
            throw;
        }
    }

    /// <summary>A variant's model folder is where its training writes it.</summary>
    private static TableConfig WithVariants((string Path, TableConfig Table) found)
    {
        return found.Table with { Rows = [.. found.Table.Rows.Select(WithModel)] };

        PaperRow WithModel(PaperRow row)
        {
            if (row.Training is not { } training)
            {
                return row;
            }

            string config = Path.Combine(Path.GetDirectoryName(found.Path) ?? string.Empty, training);
            return row with { Training = config, Model = row.Model ?? TrainingConfig.Read(config).Model };
        }
    }

    /// <summary>Trains the variants that are missing, on the data and with the shared parts of the model that the table is made with.</summary>
    private void Train(IAnsiConsole console, TableConfig table, string data, string model)
    {
        foreach (var row in table.Rows.Where(row => row.Training is not null && !Directory.Exists(Path.Combine(row.Model!, "unet"))).DistinctBy(row => row.Model))
        {
            var config = TrainingConfig.Read(row.Training!) with { Data = data, Model = row.Model! };
            console.Say($"Training {row.Name} ({row.Training})");
            try
            {
                TrainingView.Show(console, progress => TrainingRun.Run(config with { PartsFrom = config.PartsFrom is null ? null : model }, progress, _session.Cancellation));
            }
            catch (OperationCanceledException)
            {
                console.Say(GoesOn);
                throw;
            }
        }
    }

    private static string Line(TableProgress value) => Words.Text($"Row {value.Number} of {value.Count}, {value.Row}: ")
        + (value.Making is { } making ? SetView.Line(making) : value.Hearing is { } hearing ? Words.Text($"{hearing.Stage}, {hearing.Done} of {hearing.Count} files heard") : string.Empty);

    private void Render(ReproduceSettings settings, IAnsiConsole console, TableResult result)
    {
        var cells = result.Cells(measuredOnly: true);
        var shown = new Table { Title = new TableTitle(Markup.Escape(result.Title)) }.AddColumns([.. cells[0].Select(Markup.Escape)]);
        foreach (var row in cells.Skip(1))
        {
            shown.AddRow([.. row.Select(cell => new Spectre.Console.Text(ConsoleExtensions.Printable(cell)))]);
        }

        console.Write(shown);
        foreach (string remark in result.Remarks())
        {
            console.Say(remark);
        }

        console.Say($"{settings.Output}: table.md, table.csv and table.json with all of the paper's figures, and a folder for each row");
        if (settings.Json)
        {
            _session.WriteJson(result.ToLine());
        }
    }
}

/// <summary>Where the paper's tables lie.</summary>
internal static class TablePlace
{
    /// <summary>A table by its name in configs, of the nearest folder above the program that has it, then of the working directory; or by its file.</summary>
    /// <exception cref="MelFusionException">There is none.</exception>
    public static (string Path, TableConfig Table) Find(string table)
    {
        string? path = File.Exists(table) ? table : ModelPlace.Above(Path.Combine("configs", Path.GetFileName(table) + ".json"));
        return path is not null ? (path, TableConfig.Read(path)) : throw new MelFusionException(
            $"There is no table '{table}': there are table1 to table7 in configs, above the program or in this folder, and a JSON file of the same form will do.");
    }
}
