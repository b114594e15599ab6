using System.Collections.Concurrent;
using MelFusion.Wave;
using TorchSharp;

namespace MelFusion.Evaluation.Embeddings;

/// <summary>A sound file that was embedded.</summary>
/// <param name="Id">Its name without folder and ending: what pairs it with its reference, picture and caption.</param>
/// <param name="File">Its name without folder.</param>
/// <param name="Sha256">Of its contents.</param>
/// <param name="Seconds">How long it is, at most the limit.</param>
/// <param name="Embedding">What the evaluator heard.</param>
public sealed record EmbeddedClip(string Id, string File, string Sha256, double Seconds, ClipEmbedding Embedding);

/// <summary>A file that does not count.</summary>
/// <param name="File">Its name, with its folder's role in front.</param>
/// <param name="Reason">Why, in one sentence.</param>
public sealed record SkippedFile(string File, string Reason);

/// <summary>How far the embedding is.</summary>
/// <param name="Stage">What is being embedded.</param>
/// <param name="Done">Files that are done.</param>
/// <param name="Count">Files in all.</param>
public sealed record EvaluationProgress(string Stage, int Done, int Count);

/// <summary>Reads and embeds the sounds of a folder on several threads; memory does not grow with their number but by their embeddings.</summary>
public sealed class EmbeddingPipeline(IEvaluator evaluator, EmbeddingCache cache, double longestSeconds, int workers)
{
    /// <summary>
    /// Sound files of a folder in ordinal order of their names; other files are not looked at. Of a split of a data set, which has table.jsonl and audio,
    /// the sounds are those of audio.
    /// </summary>
    /// <exception cref="MelFusionException">There is no such folder, or two sounds have the same name but for the ending.</exception>
    public static IReadOnlyList<string> SoundsOf(string folder)
    {
        if (!Directory.Exists(folder))
        {
            throw new MelFusionException($"{folder}: there is no such folder.");
        }

        string[] files = [.. Directory.EnumerateFiles(FolderOf(folder)).Where(file => AudioFile.Extensions.Contains(Path.GetExtension(file)))
            .Order(StringComparer.Ordinal)];
        var twice = files.GroupBy(Path.GetFileNameWithoutExtension).FirstOrDefault(group => group.Count() > 1);
        return twice is null ? files : throw new MelFusionException(
            $"{folder}: there are {twice.Count()} sounds named '{twice.Key}'; a clip's name must be its own, whatever its ending.");
    }

    /// <summary>Where the sounds of a folder lie.</summary>
    internal static string FolderOf(string folder) =>
        TableOf(folder) is not null && Directory.Exists(Path.Combine(folder, "audio")) ? Path.Combine(folder, "audio") : folder;

    /// <summary>The table of a split of a data set, or null.</summary>
    internal static string? TableOf(string folder) => Path.Combine(folder, "table.jsonl") is var table && File.Exists(table) ? table : null;

    /// <summary>Embeds files; those that cannot be used are told with the reason. Results keep the order of the files.</summary>
    public (IReadOnlyList<EmbeddedClip> Clips, IReadOnlyList<SkippedFile> Skipped) Run(
        string role, IReadOnlyList<string> files, Func<Waveform, Waveform>? change = null, IProgress<EvaluationProgress>? progress = null,
        CancellationToken cancellation = default)
    {
        var results = new object[files.Count];
        int next = -1, done = 0;
        OnWorkers(() =>
        {
            for (int i; (i = Interlocked.Increment(ref next)) < files.Count && !cancellation.IsCancellationRequested;)
            {
                results[i] = Embed(role, files[i], change, cancellation);
                progress?.Report(new EvaluationProgress(role, Interlocked.Increment(ref done), files.Count));
            }
        });
        cancellation.ThrowIfCancellationRequested();
        return ([.. results.OfType<EmbeddedClip>()], [.. results.OfType<SkippedFile>()]);
    }

    /// <summary>Embeds sounds that are no files: the controls.</summary>
    public IReadOnlyList<ClipEmbedding> Run(IReadOnlyList<Func<float[]>> sounds, CancellationToken cancellation = default)
    {
        var results = new ClipEmbedding[sounds.Count];
        int next = -1;
        OnWorkers(() =>
        {
            for (int i; (i = Interlocked.Increment(ref next)) < sounds.Count && !cancellation.IsCancellationRequested;)
            {
                results[i] = evaluator.Embed(sounds[i]());
            }
        });
        cancellation.ThrowIfCancellationRequested();
        return results;
    }

    private object Embed(string role, string path, Func<Waveform, Waveform>? change, CancellationToken cancellation)
    {
        string name = Path.GetFileName(path);
        try
        {
            string hash = EmbeddingCache.HashOf(path);
            var known = change is null ? cache.Find(hash, evaluator, longestSeconds) : null;
            (var embedding, double seconds) = known ?? Embed(path, change, cancellation);
            if (known is null && change is null)
            {
                cache.Keep(hash, evaluator, longestSeconds, embedding, seconds);
            }

            return embedding.IsEmpty
                ? new SkippedFile($"{role}/{name}", FormattableString.Invariant($"it lasts {seconds:0.#####} s, which is too short: {evaluator.Rule}"))
                : new EmbeddedClip(Path.GetFileNameWithoutExtension(path), name, hash, seconds, embedding);
        }
        catch (Exception e) when (e is MelFusionException or IOException or UnauthorizedAccessException)
        {
            return new SkippedFile($"{role}/{name}", e.Message.Replace(path, name, StringComparison.Ordinal).ReplaceLineEndings(" "));
        }
    }

    private (ClipEmbedding Embedding, double Seconds) Embed(string path, Func<Waveform, Waveform>? change, CancellationToken cancellation)
    {
        var sound = AudioFile.Read(path, new AudioLimits { Duration = TimeSpan.FromSeconds(longestSeconds), Cut = true, Mono = true }, cancellation);
        double seconds = sound.Duration.TotalSeconds;
        sound = change is null ? sound : change(sound);
        return (evaluator.Embed(Resampler.Resample(sound, evaluator.SampleRate).ToMono()), seconds);
    }

    /// <summary>Threads of their own with one torch thread each: clips are many, so that none needs more.</summary>
    private void OnWorkers(Action work)
    {
        var faults = new ConcurrentQueue<Exception>();
        int before = torch.get_num_threads();
        torch.set_num_threads(1);
        Thread[] threads = [.. Enumerable.Range(0, workers).Select(_ => new Thread(() =>
        {
            try
            {
                torch.set_num_threads(1); // the number is each thread's own
                work();
            }
            catch (Exception e)
            {
                faults.Enqueue(e);
            }
        }))];
        Array.ForEach(threads, thread => thread.Start());
        Array.ForEach(threads, thread => thread.Join());
        torch.set_num_threads(before);
        if (faults.TryDequeue(out var fault))
        {
            System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(fault);
        }
    }
}
