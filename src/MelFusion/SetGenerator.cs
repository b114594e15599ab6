namespace MelFusion;

/// <summary>A set of clips to make, one a row.</summary>
public sealed record SetRequest
{
    /// <summary>The rows, in the order in which they are made.</summary>
    public required IReadOnlyList<SetRow> Rows { get; init; }

    /// <summary>The folder of the clips, made where it is missing.</summary>
    public required string Output { get; init; }

    /// <summary>How every clip is made: all but pictures, texts, seeds and the number of candidates, which are the rows'.</summary>
    public required MusicRequest Settings { get; init; }

    /// <summary>Whether files that were made otherwise are replaced; else they are an error.</summary>
    public bool Overwrite { get; init; }

    /// <summary>The most clips in one batch; rows of the same picture and text share one.</summary>
    public int Batch { get; init; } = 4;
}

/// <summary>How far a set is.</summary>
/// <param name="Done">Clips that are there, those of earlier runs included.</param>
/// <param name="Count">Clips in all.</param>
/// <param name="Now">What the present batch is doing; null between batches.</param>
/// <param name="Remaining">An estimate of the time left; null until there is one.</param>
public sealed record SetProgress(int Done, int Count, GenerationProgress? Now, TimeSpan? Remaining);

/// <summary>What became of a set.</summary>
/// <param name="Made">Clips made now.</param>
/// <param name="Kept">Clips of earlier runs.</param>
/// <param name="Remarks">Sentences for a person.</param>
public sealed record SetOutcome(int Made, int Kept, IReadOnlyList<string> Remarks);

/// <summary>
/// Makes a clip for every row of a set with one loaded model. Finished files stay whatever happens, each is whole, and the same call
/// goes on where an earlier one was stopped, with the same samples as if it had not been.
/// </summary>
/// <param name="model">The model; it stays its owner's to dispose.</param>
/// <param name="time">Where time comes from; null: the system's clock.</param>
public sealed class SetGenerator(MelFusionModel model, TimeProvider? time = null)
{
    // What may differ between a file of an earlier run and the same row made now.
    private static readonly HashSet<string> NotAsked =
        ["seed", "candidate", "candidates", "threads", "kernels", "processor", "version", "torch_sharp", "libtorch", "image_name"];

    /// <summary>Makes what is missing.</summary>
    /// <param name="request">What to make.</param>
    /// <param name="progress">Told about every step.</param>
    /// <param name="cancellation">Honoured within one step; finished files stay.</param>
    /// <exception cref="MelFusionException">A row, its picture or a setting cannot be used, or a file of another making is in the way; said before anything is made where it can be.</exception>
    /// <exception cref="OperationCanceledException">It was cancelled.</exception>
    public SetOutcome Run(SetRequest request, IProgress<SetProgress>? progress = null, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(request);
        RequireNames(request);
        var missing = Batches(request).Select(batch => (Batch: batch, Places: Missing(batch, request, cancellation))).Where(batch => batch.Places.Count > 0).ToList();
        int toMake = missing.Sum(batch => batch.Places.Count), kept = request.Rows.Count - toMake;
        var clock = new SetClock(progress, request.Rows.Count, toMake, time ?? TimeProvider.System);
        var remarks = new List<string>();
        foreach (var (batch, places) in missing)
        {
            clock.Begin(places.Count);
            var clips = About(batch, () => new MusicGenerator(model, time).Generate(RequestOf(batch, request), clock, cancellation));
            ClipFile.Write([.. places.Select(place => FileOf(batch[place], request))], [.. places.Select(place => clips[place])], cancellation);
            remarks.AddRange(clips[0].Remarks.Select(remark => $"{batch[0].Id}: {remark}"));
            clock.End(places.Count);
        }

        return new(toMake, kept, remarks);
    }

    private static void RequireNames(SetRequest request)
    {
        if (request.Rows.GroupBy(row => row.Id, StringComparer.OrdinalIgnoreCase).FirstOrDefault(rows => rows.Count() > 1) is { } twice)
        {
            throw new MelFusionException($"Two rows are named '{twice.Key}' and would have the same file; give each its own name.");
        }

        try
        {
            Directory.CreateDirectory(request.Output);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or NotSupportedException or ArgumentException)
        {
            throw new MelFusionException($"{request.Output}: the folder cannot be made ({e.Message.ReplaceLineEndings(" ").TrimEnd('.')}); choose another.", e);
        }
    }

    /// <summary>Rows of the same picture and text, a few at a time. Which rows share a batch does not depend on what is there already, so that a run that goes on makes the same bits.</summary>
    private static IEnumerable<SetRow[]> Batches(SetRequest request) =>
        request.Rows.GroupBy(row => (row.Picture, row.Prompt)).SelectMany(rows => rows.Chunk(Math.Clamp(request.Batch, 1, MusicRequest.MostCandidates)));

    private static MusicRequest RequestOf(SetRow[] batch, SetRequest request) => request.Settings with
    {
        // Spelled out, as an array that is null would become an empty picture.
        Image = batch[0].Picture is { } file ? Image.PictureFile.Read(file) : default(ReadOnlyMemory<byte>?),
        ImageName = batch[0].Picture is { } named ? Path.GetFileName(named) : null,
        Prompt = batch[0].Prompt,
        Candidates = batch.Length,
        Seed = batch[0].SeedOf(request.Settings.Seed),
        Seeds = [.. batch.Select(row => row.SeedOf(request.Settings.Seed))],
    };

    /// <summary>The places in a batch whose files are not there yet.</summary>
    private List<int> Missing(SetRow[] batch, SetRequest request, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        var plan = About(batch, () => GenerationPlan.Of(RequestOf(batch, request), model));
        return [.. Enumerable.Range(0, batch.Length).Where(place => !IsThere(FileOf(batch[place], request), plan.RecipeOf(place), request.Overwrite))];
    }

    private static bool IsThere(string file, Recipe wanted, bool overwrite)
    {
        if (Directory.Exists(file))
        {
            throw new MelFusionException($"{file} is a folder, where a clip must go; choose another output folder.");
        }

        if (!File.Exists(file))
        {
            return false;
        }

        string? difference = Difference(file, wanted);
        return difference is null || (overwrite ? false : throw new MelFusionException(
            $"{file} exists already and was made otherwise ({difference}); add --overwrite to replace such files, or choose another --output."));
    }

    private static string? Difference(string file, Recipe wanted)
    {
        try
        {
            var there = ClipFile.ReadRecipe(file);
            var field = there.DifferencesFrom(wanted).FirstOrDefault(field => !NotAsked.Contains(field.Name));
            return field is not null ? $"{field.Name}: {field.Here} there, {field.There} now"
                : there.Seed + there.Candidate != wanted.Seed + wanted.Candidate ? "another seed"
                : null;
        }
        catch (MelFusionException e)
        {
            return e.Message.TrimEnd('.');
        }
    }

    private static string FileOf(SetRow row, SetRequest request) => Path.Combine(request.Output, row.Id + ".wav");

    /// <summary>Says which row an error is about.</summary>
    private static T About<T>(SetRow[] batch, Func<T> work)
    {
        try
        {
            return work();
        }
        catch (MelFusionException e)
        {
            throw new MelFusionException($"Row '{batch[0].Id}': {e.Message}", e);
        }
    }
}

/// <summary>Tells how far a set is, from how long its clips have taken so far.</summary>
/// <param name="progress">Who is told; null: nobody.</param>
/// <param name="count">Clips in all.</param>
/// <param name="toMake">Clips that are to be made.</param>
/// <param name="time">Where time comes from.</param>
internal sealed class SetClock(IProgress<SetProgress>? progress, int count, int toMake, TimeProvider time) : IProgress<GenerationProgress>
{
    private readonly long _start = time.GetTimestamp();
    private long _began;
    private int _made, _making;

    /// <summary>A batch begins.</summary>
    public void Begin(int clips) => (_began, _making) = (time.GetTimestamp(), clips);

    /// <summary>A batch is written.</summary>
    public void End(int clips)
    {
        (_made, _making) = (_made + clips, 0);
        progress?.Report(new(count - toMake + _made, count, null, (toMake - _made) * (time.GetElapsedTime(_start) / _made)));
    }

    /// <summary>A step of the present batch is done.</summary>
    public void Report(GenerationProgress value)
    {
        var spent = time.GetElapsedTime(_began);
        TimeSpan? perClip = _made > 0 ? time.GetElapsedTime(_start, _began) / _made : (spent + value.Remaining) / _making;
        var batch = value.Remaining ?? (_making * perClip - spent);
        progress?.Report(new(count - toMake + _made, count, value, batch + (toMake - _made - _making) * perClip));
    }
}
