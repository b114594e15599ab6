using MelFusion.Evaluation.Embeddings;
using MelFusion.Evaluation.Reports;
using MelFusion.Weights;

namespace MelFusion.Evaluation.Reproduction;

/// <summary>A clip of the data: what a row of its table states.</summary>
/// <param name="Id">Its name.</param>
/// <param name="Images">Its pictures, relative to the split's folder.</param>
/// <param name="Captions">Its captions, from rich to poor: rows that ask for a number of words take the first that has it.</param>
/// <param name="HeardCaptions">Captions of what is heard alone, or the same where there are none: all other rows take the first.</param>
public sealed record DataClip(string Id, IReadOnlyList<string> Images, IReadOnlyList<string> Captions, IReadOnlyList<string> HeardCaptions);

/// <summary>A table to make.</summary>
public sealed record TableRequest
{
    /// <summary>The table.</summary>
    public required TableConfig Table { get; init; }

    /// <summary>The clips of the split.</summary>
    public required IReadOnlyList<DataClip> Clips { get; init; }

    /// <summary>The split's folder, whose sounds are the reference.</summary>
    public required string Reference { get; init; }

    /// <summary>The model folder.</summary>
    public required string Model { get; init; }

    /// <summary>Loads a model folder.</summary>
    public required Func<ModelFolder, MelFusionModel> Load { get; init; }

    /// <summary>The folder of the table's clips and reports.</summary>
    public required string Output { get; init; }

    /// <summary>The folder of other systems' clips, each system in a folder of its own.</summary>
    public string Systems { get; init; } = "systems";

    /// <summary>The folder of networks whose weights do not come with the program; null: models, and the hub's cache.</summary>
    public string? Weights { get; init; }

    /// <summary>Few clips and few steps.</summary>
    public bool Quick { get; init; }

    /// <summary>At most so many clips a row; null: as the table states.</summary>
    public int? Limit { get; init; }

    /// <summary>Whether clips that were made otherwise are replaced.</summary>
    public bool Overwrite { get; init; }

    /// <summary>Where embeddings are kept; null keeps none.</summary>
    public string? CacheFolder { get; init; } = EmbeddingCache.DefaultFolder;
}

/// <summary>How far a table is.</summary>
/// <param name="Row">The row's name.</param>
/// <param name="Number">Its number, from 1.</param>
/// <param name="Count">Rows in all.</param>
/// <param name="Making">The clips being made; null while they are heard.</param>
/// <param name="Hearing">The files being heard; null while clips are made.</param>
public sealed record TableProgress(string Row, int Number, int Count, SetProgress? Making, EvaluationProgress? Hearing);

/// <summary>Makes a table of the paper: each row's clips, then its figures. What cannot be made says why, and the others are made.</summary>
/// <param name="request">The table.</param>
/// <param name="evaluator">The network that hears.</param>
/// <param name="progress">Told about every clip.</param>
/// <param name="cancellation">Honoured within a step; finished clips stay, and the same call goes on.</param>
public sealed class TableRun(TableRequest request, IEvaluator evaluator, IProgress<TableProgress>? progress = null, CancellationToken cancellation = default) : IDisposable
{
    private readonly Dictionary<string, IReadOnlyDictionary<string, double?>> _controls = [];
    private MelFusionModel? _model;
    private string? _loaded;

    /// <summary>Makes the table.</summary>
    /// <exception cref="OperationCanceledException">It was cancelled.</exception>
    /// <exception cref="MelFusionException">The data or the model cannot be used at all.</exception>
    public TableResult Run()
    {
        var table = request.Table;
        var name = ModelFolder.Open(request.Model).Defaults.Name;
        var rows = table.Rows.Select((row, i) => Make(row, i + 1)).ToList();
        return new()
        {
            Title = table.Title, Quick = request.Quick, Evaluator = evaluator.Name, Model = name, Metrics = table.Metrics, Rows = rows, Controls = _controls,
        };
    }

    /// <inheritdoc/>
    public void Dispose() => _model?.Dispose();

    private RowResult Make(PaperRow row, int number)
    {
        cancellation.ThrowIfCancellationRequested();
        try
        {
            if (Missing(row) is { } missing)
            {
                return Without(row, missing);
            }

            var (clips, names) = row.Sounds is { } system ? (Path.Combine(request.Systems, system), null) : Generate(row, number);
            return Measure(row, clips, names, number);
        }
        catch (MelFusionException e)
        {
            // One row's fault is no reason to lose the others.
            return Without(row, e.Message);
        }
    }

    /// <summary>What a row needs that is not here, and what to do.</summary>
    private string? Missing(PaperRow row) =>
        row.Sounds is { } sounds && !Directory.Exists(Path.Combine(request.Systems, sounds))
            ? $"its clips are not here; put them, named like the clips of the data, into {Path.Combine(request.Systems, sounds)}"
        : row.Model is { } model && !IsModel(model)
            ? $"the trained variant {model} is not here{(row.Training is { } training ? $"; `melfusion train {training}` makes it" : string.Empty)}"
        : null;

    private static bool IsModel(string folder) => File.Exists(Path.Combine(folder, "model_index.json")) && Directory.Exists(Path.Combine(folder, "unet"));

    private static RowResult Without(PaperRow row, string missing) => new(row.Name, 0, new Dictionary<string, MetricValue>(), row.Paper, missing, row.Note);

    /// <summary>The folder of the row's clips, and their names: a run of another number of clips may have left more there.</summary>
    private (string Clips, IReadOnlySet<string>? Names) Generate(PaperRow row, int number)
    {
        var rows = RowsOf(row);
        string output = Path.Combine(request.Output, row.FolderName, "clips");
        var told = new Relay<SetProgress>(value => progress?.Report(new(row.Name, number, request.Table.Rows.Count, value, null)));
        new SetGenerator(Load(row.Model ?? request.Model)).Run(
            new() { Rows = rows, Output = output, Settings = request.Quick ? request.Table.Quick.Of(row.Settings) : row.Settings, Overwrite = request.Overwrite }, told, cancellation);
        return (output, rows.Select(made => made.Id).ToHashSet());
    }

    private RowResult Measure(PaperRow row, string generated, IReadOnlySet<string>? names, int number)
    {
        var told = new Relay<EvaluationProgress>(value => progress?.Report(new(row.Name, number, request.Table.Rows.Count, null, value)));
        var evaluation = new EvaluationRequest
        {
            Reference = request.Reference, Generated = generated, Only = names, Metrics = request.Table.Metrics, BootstrapRounds = request.Quick ? 0 : request.Table.Rounds,
            CacheFolder = request.CacheFolder, Weights = request.Weights, Controls = _controls.Count == 0,
        };
        var (report, _) = FolderEvaluation.Run(evaluation, evaluator, told, cancellation);
        ReportWriter.Write(Path.Combine(request.Output, row.FolderName), report, evaluation, null);
        foreach (var (control, figures) in report.Controls.Where(control => control.Key is "noise" or "halves" && control.Value is not null))
        {
            _controls[control] = figures!;
        }

        return new(row.Name, report.Passport.GeneratedCount, report.Metrics, row.Paper, null, row.Note);
    }

    /// <summary>What the row's clips are made of; the same clips for every row, as far as they have what the row needs.</summary>
    private IReadOnlyList<SetRow> RowsOf(PaperRow row)
    {
        int most = request.Limit ?? (request.Quick ? request.Table.Quick.Clips : request.Table.Clips);
        var usable = request.Clips.Where(clip => (row.Picture == PictureUse.None || clip.Images.Count > 0) && (!row.Text || CaptionOf(row, clip) is not null)).ToList();
        return usable.Count < 2
            ? throw new MelFusionException($"only {usable.Count} clips of {request.Reference} have the pictures and captions that it needs")
            : [.. Evenly.Some(usable, most).Select(clip => SetRow.FromTable(request.Reference, clip.Id, PictureOf(row, clip, usable), row.Text ? CaptionOf(row, clip) : null))];
    }

    private static string? CaptionOf(PaperRow row, DataClip clip) => row.CaptionWords is not { } words
        ? clip.HeardCaptions is [var heard, ..] ? heard : null
        : clip.Captions.FirstOrDefault(caption => caption.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries).Length is var count && count >= words[0] && count <= words[1]);

    private static string? PictureOf(PaperRow row, DataClip clip, List<DataClip> clips) => row.Picture switch
    {
        PictureUse.None => null,
        PictureUse.Own => clip.Images[0],
        // From half the table away on: the next clip that does not share the picture.
        _ => Enumerable.Range(0, clips.Count).Select(i => clips[(clips.IndexOf(clip) + (clips.Count / 2) + i) % clips.Count]).FirstOrDefault(other => !clip.Images.Contains(other.Images[0]))?.Images[0]
            ?? throw new MelFusionException("every clip has the same picture"),
    };

    private MelFusionModel Load(string folder)
    {
        if (_loaded != folder)
        {
            _model?.Dispose();
            (_model, _loaded) = (null, null);
            _model = request.Load(ModelFolder.Open(folder));
            _loaded = folder;
        }

        return _model!;
    }
}
