using System.Net;

namespace MelFusion.Weights.Hub;

/// <summary>How far a download is.</summary>
/// <param name="FilesDone">Files that are there.</param>
/// <param name="FileCount">Files in all.</param>
/// <param name="BytesDone">Bytes that are there, parts of files included.</param>
/// <param name="ByteCount">Bytes in all.</param>
/// <param name="Remaining">The time left at the rate so far; null while there is none.</param>
public sealed record HubProgress(int FilesDone, int FileCount, long BytesDone, long ByteCount, TimeSpan? Remaining);

/// <summary>A repository as it lies in the cache.</summary>
/// <param name="Folder">The folder of the snapshot.</param>
/// <param name="Commit">Its commit.</param>
/// <param name="Files">The paths of what was asked for.</param>
/// <param name="IsFromCache">Whether the hub was not asked or not reached.</param>
public sealed record HubSnapshot(string Folder, string Commit, IReadOnlyList<string> Files, bool IsFromCache);

/// <summary>
/// Fetches repositories from a model hub into the cache that Python's tools use. What was fetched is kept: a broken download goes on where
/// it broke off, in the same run or a later one, and every file is compared with its hash before it gets its name.
/// </summary>
public sealed class HubClient : IDisposable
{
    private readonly HubSettings _settings;
    private readonly HubTransfer _transfer;
    private readonly TimeProvider _time;
    private readonly Func<long> _freeSpace;

    /// <summary>With settings, usually <see cref="HubSettings.FromEnvironment"/>.</summary>
    public HubClient(HubSettings settings, TimeProvider? time = null) : this(settings, time, null)
    {
    }

    internal HubClient(HubSettings settings, TimeProvider? time, Func<long>? freeSpace)
    {
        (_settings, _time, Cache) = (settings, time ?? TimeProvider.System, new HubCache(settings.CacheFolder));
        _freeSpace = freeSpace ?? Cache.FreeSpace;
        _transfer = new HubTransfer(settings, _time);
    }

    /// <summary>The cache.</summary>
    public HubCache Cache { get; }

    /// <inheritdoc/>
    public void Dispose() => _transfer.Dispose();

    /// <summary>Fetches one file and gives its path.</summary>
    /// <exception cref="HubException">It cannot be had; the sentence says why.</exception>
    public async Task<string> PullFileAsync(string repository, string path, string revision = "main", CancellationToken cancellation = default)
    {
        HubNames.CheckRepository(repository);
        HubNames.CheckRevision(revision);
        HubNames.CheckPath(path);
        string? cached = Cache.Commit(repository, revision) is { } known && Cache.SnapshotFile(repository, known, path) is var present && HubCache.IsPresent(present)
            ? present
            : null;
        if (cached is not null && HubNames.IsCommit(revision))
        {
            return cached;
        }

        if (_settings.IsOffline)
        {
            return cached ?? throw NotCached($"the file '{path}' of '{repository}'", null);
        }

        HubFile file;
        try
        {
            file = await HeadAsync(repository, revision, path, cached is null ? _settings.Retries : 1, cancellation);
        }
        catch (HubException e) when (e.Error is HubError.Http or HubError.Gated or HubError.RepositoryNotFound && cached is not null)
        {
            return cached;
        }

        Cache.WriteRef(repository, revision, file.Commit);
        string target = Cache.SnapshotFile(repository, file.Commit, path);
        if (!HubCache.IsPresent(target))
        {
            CheckSpace(repository, [file]);
            await FetchAsync(repository, revision, path, file, _ => { }, cancellation);
        }

        return target;
    }

    /// <summary>Fetches a repository, or those files of it that patterns name.</summary>
    /// <param name="repository">"owner/name".</param>
    /// <param name="revision">A branch, a tag or a commit.</param>
    /// <param name="include">
    /// Shell patterns of the paths to fetch; none: all, without weights as .bin where the same are there as .safetensors.
    /// </param>
    /// <param name="exclude">Shell patterns of the paths to leave.</param>
    /// <param name="progress">Told at most some times a second.</param>
    /// <param name="cancellation">Ends the download; what has come is kept for the next time.</param>
    /// <exception cref="HubException">It cannot be had; the sentence says why.</exception>
    public async Task<HubSnapshot> PullAsync(
        string repository, string revision = "main", IReadOnlyList<string>? include = null, IReadOnlyList<string>? exclude = null,
        IProgress<HubProgress>? progress = null, CancellationToken cancellation = default)
    {
        HubNames.CheckRepository(repository);
        HubNames.CheckRevision(revision);
        string? cached = Cache.FindSnapshot(repository, revision);
        if (_settings.IsOffline)
        {
            return FromCache(cached ?? throw NotCached($"'{repository}'", null));
        }

        string commit;
        IReadOnlyList<string> listed;
        try
        {
            (commit, listed) = await _transfer.ListAsync(repository, revision, cached is null ? _settings.Retries : 1, cancellation);
        }
        catch (HubException e) when (e.Error is HubError.Http or HubError.Gated or HubError.RepositoryNotFound && cached is not null)
        {
            return FromCache(cached);
        }

        Cache.WriteRef(repository, revision, commit);
        var wanted = Choose(listed, include, exclude);
        await FetchManyAsync(repository, commit, wanted, progress, cancellation);
        return new HubSnapshot(Cache.SnapshotFolder(repository, commit), commit, wanted, false);
    }

    /// <summary>Which of a repository's files are fetched.</summary>
    internal static List<string> Choose(IReadOnlyList<string> files, IReadOnlyList<string>? include, IReadOnlyList<string>? exclude)
    {
        var all = files.ToHashSet(StringComparer.Ordinal);
        return [.. files.Where(file => include is { Count: > 0 }
            ? include.Any(pattern => ShellPattern.Matches(file, pattern))
            : !HasSafetensors(file, all)).Where(file => exclude?.Any(pattern => ShellPattern.Matches(file, pattern)) != true)];
    }

    /// <summary>Whether a PyTorch file has a twin as safetensors: X.bin beside X.safetensors, pytorch_model.bin beside model.safetensors.</summary>
    private static bool HasSafetensors(string file, HashSet<string> all)
    {
        const string Index = ".bin.index.json";
        string stem = file.EndsWith(".bin", StringComparison.Ordinal) ? file[..^4] : file.EndsWith(Index, StringComparison.Ordinal) ? file[..^Index.Length] : string.Empty;
        int slash = stem.LastIndexOf('/') + 1;
        string other = stem[slash..].StartsWith("pytorch_model", StringComparison.Ordinal) ? stem[..slash] + stem[(slash + "pytorch_".Length)..] : stem;
        int shard = other.LastIndexOf("-of-", StringComparison.Ordinal);
        string whole = shard > "-00000".Length ? other[..(shard - "-00000".Length)] : other;
        return stem.Length > slash && new[] { stem, other, whole }.Any(name =>
            all.Contains(name + ".safetensors") || all.Contains(name + ".safetensors.index.json"));
    }

    private static HubSnapshot FromCache(string folder) => new(
        folder, Path.GetFileName(folder),
        [.. Directory.EnumerateFiles(folder, "*", SearchOption.AllDirectories)
            .Select(file => Path.GetRelativePath(folder, file).Replace(Path.DirectorySeparatorChar, '/')).Order(StringComparer.Ordinal)],
        true);

    private async Task<HubFile> HeadAsync(string repository, string revision, string path, int retries, CancellationToken cancellation)
    {
        try
        {
            return await _transfer.HeadAsync(repository, revision, path, retries, cancellation);
        }
        catch (HubException e) when (e is { Error: HubError.EntryNotFound, Commit: { } commit } && HubNames.IsPlain(commit))
        {
            Cache.WriteRef(repository, revision, commit);
            Cache.MarkAbsent(repository, commit, path);
            throw;
        }
    }

    private async Task FetchManyAsync(
        string repository, string commit, List<string> paths, IProgress<HubProgress>? progress, CancellationToken cancellation)
    {
        var missing = paths.Where(path => !HubCache.IsPresent(Cache.SnapshotFile(repository, commit, path))).ToList();
        var options = new ParallelOptions { MaxDegreeOfParallelism = _settings.Parallel, CancellationToken = cancellation };
        var files = new HubFile[missing.Count];
        await Parallel.ForAsync(0, missing.Count, options, async (i, token) =>
            files[i] = await HeadAsync(repository, commit, missing[i], _settings.Retries, token));
        CheckSpace(repository, files);
        var meter = new Meter(progress, _time, paths.Count, missing.Count, files.Sum(file => file.Size));
        await Parallel.ForAsync(0, missing.Count, options, async (i, token) =>
        {
            await FetchAsync(repository, commit, missing[i], files[i], meter.Add, token);
            meter.FileDone();
        });
    }

    private void CheckSpace(string repository, IReadOnlyCollection<HubFile> files)
    {
        long needed = files.DistinctBy(file => file.Etag).Where(file => !File.Exists(Cache.Blob(repository, file.Etag)))
            .Sum(file => file.Size - (new FileInfo(Cache.Partial(repository, file.Etag)) is { Exists: true } part ? Math.Min(part.Length, file.Size) : 0));
        if (needed > 0 && _freeSpace() is var free && free < needed)
        {
            throw new HubException(
                HubError.DiskFull,
                $"'{repository}' needs {needed / 1e9:0.0} GB more and the disk of {Cache.Folder} has {free / 1e9:0.0} GB left; make room or set HF_HUB_CACHE to another disk.");
        }
    }

    private async Task FetchAsync(string repository, string revision, string path, HubFile file, Action<long> count, CancellationToken cancellation)
    {
        string blob = Cache.Blob(repository, file.Etag);
        Directory.CreateDirectory(Path.GetDirectoryName(blob)!);
        using var held = await Cache.LockAsync(repository, file.Etag, _time, cancellation);
        bool isNew = !File.Exists(blob);
        if (isNew)
        {
            await FillAsync(repository, revision, path, file, count, cancellation);
            File.Move(Cache.Partial(repository, file.Etag), blob, true);
        }
        else
        {
            count(file.Size);
        }

        Cache.Link(repository, file.Commit, path, file.Etag, isNew);
    }

    /// <summary>Fills the partial blob to its size, going on after every break, and compares its hash; what was there from before and is wrong is fetched anew.</summary>
    private async Task FillAsync(string repository, string revision, string path, HubFile file, Action<long> count, CancellationToken cancellation)
    {
        string partial = Cache.Partial(repository, file.Etag);
        bool hasOldPart = File.Exists(partial) && new FileInfo(partial).Length > 0;
        await ReceiveAsync(repository, revision, path, file, count, cancellation);
        string? wrong = HubCache.CheckContent(partial, file.Etag, file.Size);
        if (wrong is not null && hasOldPart)
        {
            File.Delete(partial);
            count(-file.Size);
            await ReceiveAsync(repository, revision, path, file, count, cancellation);
            wrong = HubCache.CheckContent(partial, file.Etag, file.Size);
        }

        if (wrong is not null)
        {
            File.Delete(partial);
            throw new HubException(HubError.Damaged, $"'{path}' of '{repository}' arrived damaged: {wrong}; it was not kept, try again.");
        }
    }

    private async Task ReceiveAsync(string repository, string revision, string path, HubFile file, Action<long> count, CancellationToken cancellation)
    {
        using var stream = new FileStream(Cache.Partial(repository, file.Etag), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.Read, 1);
        if (stream.Length > file.Size)
        {
            stream.SetLength(0);
        }

        count(stream.Length);
        long furthest = stream.Length;
        for (int attempt = 0; stream.Length < file.Size;)
        {
            try
            {
                await ReceiveOnceAsync(repository, path, file, stream, count, cancellation);
            }
            catch (Exception e) when (HubTransfer.MayPass(e) || e is HttpRequestException { StatusCode: HttpStatusCode.Forbidden or HttpStatusCode.Unauthorized })
            {
                attempt = stream.Length > furthest ? 0 : attempt;
                furthest = Math.Max(furthest, stream.Length);
                if (attempt >= _settings.Retries)
                {
                    throw new HubException(
                        HubError.Http, $"'{path}' of '{repository}' broke off after {stream.Length} of {file.Size} bytes ({e.Message.TrimEnd('.')}); the same command goes on from there.", e);
                }

                await _transfer.WaitAsync(attempt++, cancellation);
                if (e is HttpRequestException { StatusCode: HttpStatusCode.Forbidden or HttpStatusCode.Unauthorized })
                {
                    // A signed address ends after a while: the hub gives a new one.
                    file = await _transfer.HeadAsync(repository, revision, path, _settings.Retries, cancellation) is var again && again.Etag == file.Etag
                        ? again
                        : throw new HubException(HubError.Damaged, $"'{path}' of '{repository}' changed while it was fetched; try again.", e);
                }
            }
        }

        stream.Flush(true);
    }

    private async Task ReceiveOnceAsync(string repository, string path, HubFile file, FileStream stream, Action<long> count, CancellationToken cancellation)
    {
        using var response = await _transfer.GetAsync(file.Location, stream.Length, cancellation);
        if (stream.Length > 0 && !GoesOn(response, stream.Length)
            && response.StatusCode is HttpStatusCode.OK or HttpStatusCode.PartialContent or HttpStatusCode.RequestedRangeNotSatisfiable)
        {
            count(-stream.Length); // the storage does not go on where we are: from the beginning
            stream.SetLength(0);
        }

        if (response.StatusCode != HttpStatusCode.OK && !GoesOn(response, stream.Length))
        {
            throw new HttpRequestException($"the answer was {(int)response.StatusCode}", null, Retryable(response.StatusCode));
        }

        stream.Position = stream.Length;
        using var body = await response.Content.ReadAsStreamAsync(cancellation);
        byte[] buffer = new byte[1 << 18];
        while (true)
        {
            int read = await ReadAsync(body, buffer, cancellation);
            if (read == 0)
            {
                break;
            }

            if (stream.Position + read > file.Size)
            {
                stream.SetLength(0);
                throw new HubException(HubError.Damaged, $"'{path}' of '{repository}' is longer than the {file.Size} bytes that were announced; it was not kept.");
            }

            await stream.WriteAsync(buffer.AsMemory(0, read), cancellation);
            count(read);
        }

        if (stream.Length < file.Size)
        {
            throw new IOException("the connection ended early");
        }
    }

    private async Task<int> ReadAsync(Stream body, byte[] buffer, CancellationToken cancellation)
    {
        using var patience = _transfer.Patience(cancellation);
        try
        {
            return await body.ReadAsync(buffer, patience.Token);
        }
        catch (OperationCanceledException e) when (!cancellation.IsCancellationRequested)
        {
            throw new TimeoutException($"nothing came for {_settings.Patience.TotalSeconds:0} s", e);
        }
    }

    private static bool GoesOn(HttpResponseMessage response, long from) =>
        response.StatusCode == HttpStatusCode.PartialContent && response.Content.Headers.ContentRange?.From == from;

    /// <summary>A range that was refused, or another than was asked for: it is asked for again from the beginning.</summary>
    private static HttpStatusCode Retryable(HttpStatusCode status) =>
        status is HttpStatusCode.RequestedRangeNotSatisfiable or HttpStatusCode.PartialContent ? HttpStatusCode.ServiceUnavailable : status;

    private HubException NotCached(string what, Exception? cause)
    {
        string message = $"{what} is not in the cache {Cache.Folder}, and the hub may not be asked (offline mode is on); fetch it once while online.";
        return cause is null ? new HubException(HubError.NotCached, message) : new HubException(HubError.NotCached, message, cause);
    }

    /// <summary>Counts bytes and files of several downloads and reports them.</summary>
    private sealed class Meter(IProgress<HubProgress>? progress, TimeProvider time, int fileCount, int missingCount, long byteCount)
    {
        private readonly Lock _lock = new();
        private readonly long _start = time.GetTimestamp();
        private long _bytes, _reported;
        private int _files = fileCount - missingCount;

        public void Add(long bytes)
        {
            lock (_lock)
            {
                _bytes += bytes;
                if (time.GetElapsedTime(_reported == 0 ? _start : _reported) > TimeSpan.FromMilliseconds(200))
                {
                    Report();
                }
            }
        }

        public void FileDone()
        {
            lock (_lock)
            {
                _files++;
                Report();
            }
        }

        private void Report()
        {
            _reported = time.GetTimestamp();
            var elapsed = time.GetElapsedTime(_start);
            TimeSpan? remaining = _bytes > 0 && elapsed > TimeSpan.FromSeconds(1) ? elapsed * ((byteCount - _bytes) / (double)_bytes) : null;
            progress?.Report(new HubProgress(_files, fileCount, _bytes, byteCount, remaining));
        }
    }
}
