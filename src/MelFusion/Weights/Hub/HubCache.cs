using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace MelFusion.Weights.Hub;

/// <summary>A repository in the cache.</summary>
/// <param name="Name">"owner/name".</param>
/// <param name="Folder">Its folder.</param>
/// <param name="Bytes">The size of its blobs.</param>
/// <param name="Revisions">Branches and tags with their commits.</param>
/// <param name="Snapshots">The commits of which files are there.</param>
public sealed record CachedRepository(
    string Name, string Folder, long Bytes, IReadOnlyDictionary<string, string> Revisions, IReadOnlyList<string> Snapshots);

/// <summary>A file of a cached repository whose content is not what its name promises, or is not there.</summary>
/// <param name="Path">The file in the snapshot, with the commit.</param>
/// <param name="Problem">What is wrong, in a few words.</param>
public sealed record CacheProblem(string Path, string Problem);

/// <summary>
/// The folder that Python's tools keep downloads in, and we with them: blobs by their etag, refs from names to commits, snapshots of
/// links to blobs.
/// </summary>
public sealed class HubCache
{
    private const string Incomplete = ".incomplete";

    /// <summary>Over a folder, which need not exist.</summary>
    public HubCache(string folder) => Folder = Path.GetFullPath(folder);

    /// <summary>The folder.</summary>
    public string Folder { get; }

    /// <summary>Every repository that is there.</summary>
    public IReadOnlyList<CachedRepository> List() => !Directory.Exists(Folder)
        ? []
        : [.. Directory.GetDirectories(Folder, "models--*").Order(StringComparer.Ordinal).Select(Describe)];

    /// <summary>Reads every file of a repository again and compares it with the hash in its name.</summary>
    /// <returns>What is wrong; nothing where all is right.</returns>
    /// <exception cref="HubException">The repository is not in the cache.</exception>
    public IReadOnlyList<CacheProblem> Verify(string repository, CancellationToken cancellation = default)
    {
        string folder = Existing(repository);
        var problems = new List<CacheProblem>();
        var wrong = new Dictionary<string, string?>();
        foreach (string file in SnapshotFiles(folder))
        {
            cancellation.ThrowIfCancellationRequested();
            string shown = Path.GetRelativePath(Path.Combine(folder, "snapshots"), file);
            if (!IsPresent(file))
            {
                problems.Add(new(shown, "its content is missing"));
                continue;
            }

            string blob = File.ResolveLinkTarget(file, true)?.FullName ?? file;
            if (!wrong.TryGetValue(blob, out string? problem))
            {
                wrong[blob] = problem = Path.GetDirectoryName(blob) == Path.Combine(folder, "blobs") ? CheckBlob(blob) : null;
            }

            if (problem is not null)
            {
                problems.Add(new(shown, problem));
            }
        }

        return problems;
    }

    /// <summary>Takes a repository out of the cache.</summary>
    /// <returns>The bytes it took.</returns>
    /// <exception cref="HubException">It is not there.</exception>
    public long Remove(string repository)
    {
        string folder = Existing(repository);
        long bytes = Describe(folder).Bytes;
        Directory.Delete(folder, true);
        string locks = Path.Combine(Folder, ".locks", HubNames.Folder(repository));
        if (Directory.Exists(locks))
        {
            Directory.Delete(locks, true);
        }

        return bytes;
    }

    /// <summary>The folder of a cached snapshot of a repository, or null.</summary>
    public string? FindSnapshot(string repository, string revision = "main")
    {
        HubNames.CheckRepository(repository);
        HubNames.CheckRevision(revision);
        return Commit(repository, revision) is { } commit && SnapshotFolder(repository, commit) is var folder && Directory.Exists(folder) ? folder : null;
    }

    internal string Blob(string repository, string etag) => Path.Combine(Root(repository), "blobs", etag);

    internal string Partial(string repository, string etag) => Blob(repository, etag) + Incomplete;

    internal string SnapshotFolder(string repository, string commit) => Path.Combine(Root(repository), "snapshots", commit);

    internal string SnapshotFile(string repository, string commit, string path) => InnerPath.In(SnapshotFolder(repository, commit), path)
        ?? throw new HubException(HubError.MalformedName, $"the path '{TorchPickle.Shown(path)}' leads out of its repository; it is refused.");

    /// <summary>The commit of a revision as far as the cache knows.</summary>
    internal string? Commit(string repository, string revision)
    {
        if (HubNames.IsCommit(revision))
        {
            return revision;
        }

        string file = RefFile(repository, revision);
        return File.Exists(file) && File.ReadAllText(file).Trim() is var commit && HubNames.IsPlain(commit) ? commit : null;
    }

    internal void WriteRef(string repository, string revision, string commit)
    {
        string file = RefFile(repository, revision);
        if (revision != commit && !(File.Exists(file) && File.ReadAllText(file) == commit))
        {
            Directory.CreateDirectory(Path.GetDirectoryName(file)!);
            File.WriteAllText(file, commit);
        }
    }

    internal void MarkAbsent(string repository, string commit, string path)
    {
        string folder = Path.Combine(Root(repository), ".no_exist", commit);
        if (InnerPath.In(folder, path) is { } file)
        {
            Directory.CreateDirectory(Path.GetDirectoryName(file)!);
            File.WriteAllBytes(file, []);
        }
    }

    /// <summary>Holds the lock of a blob, that of Python's tools included, until disposed.</summary>
    internal async Task<IDisposable> LockAsync(string repository, string etag, TimeProvider time, CancellationToken cancellation)
    {
        string folder = Path.Combine(Folder, ".locks", HubNames.Folder(repository));
        Directory.CreateDirectory(folder);
        while (true)
        {
            try
            {
                return new FileStream(Path.Combine(folder, etag + ".lock"), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
            }
            catch (IOException e) when (e is not DirectoryNotFoundException)
            {
                await Task.Delay(TimeSpan.FromMilliseconds(100), time, cancellation);
            }
        }
    }

    /// <summary>Puts a blob into a snapshot: a relative link, or the file itself where links are impossible.</summary>
    internal void Link(string repository, string commit, string path, string etag, bool isNew)
    {
        string file = SnapshotFile(repository, commit, path), blob = Blob(repository, etag);
        Directory.CreateDirectory(Path.GetDirectoryName(file)!);
        string target = Path.GetRelativePath(Path.GetDirectoryName(file)!, blob);
        if (IsPresent(file) && new FileInfo(file).LinkTarget is var present && (present is null || present == target))
        {
            return;
        }

        try
        {
            File.Delete(file); // a link to a blob that is gone, or to another one
            File.CreateSymbolicLink(file, target);
        }
        catch (IOException) when (IsPresent(file))
        {
            // Another process made the same link in the meantime.
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or PlatformNotSupportedException)
        {
            if (isNew)
            {
                File.Move(blob, file, true);
            }
            else
            {
                File.Copy(blob, file, true);
            }
        }
    }

    /// <summary>Room on the disk of the cache, in bytes.</summary>
    internal long FreeSpace()
    {
        string folder = Folder;
        while (!Directory.Exists(folder))
        {
            folder = Path.GetDirectoryName(folder)!;
        }

        return new DriveInfo(folder).AvailableFreeSpace;
    }

    /// <summary>The hash an etag is made of: SHA-256 of a large file, git's SHA-1 of a small one; null: none that is known.</summary>
    internal static (IncrementalHash Hash, byte[] Prefix)? HashOf(string etag, long size) => etag.Length switch
    {
        64 => (IncrementalHash.CreateHash(HashAlgorithmName.SHA256), []),
        40 => (IncrementalHash.CreateHash(HashAlgorithmName.SHA1), Encoding.ASCII.GetBytes($"blob {size.ToString(CultureInfo.InvariantCulture)}\0")),
        _ => null,
    };

    /// <summary>What is wrong with a file that should have this etag, or null.</summary>
    internal static string? CheckContent(string file, string etag, long size)
    {
        using var stream = new FileStream(file, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete, 1 << 20);
        if (stream.Length != size)
        {
            return $"it has {stream.Length} bytes where {size} were announced";
        }

        if (HashOf(etag, size) is not var (hash, prefix))
        {
            return null;
        }

        using (hash)
        {
            hash.AppendData(prefix);
            byte[] buffer = new byte[1 << 20];
            for (int read = stream.Read(buffer); read > 0; read = stream.Read(buffer))
            {
                hash.AppendData(buffer, 0, read);
            }

            return Convert.ToHexStringLower(hash.GetHashAndReset()) == etag ? null : "its content has another hash than its name promises";
        }
    }

    /// <summary>Whether a file of a snapshot has its content: a link may lead nowhere.</summary>
    internal static bool IsPresent(string file) => File.Exists(file) && File.ResolveLinkTarget(file, true)?.Exists != false;

    private string Root(string repository) => Path.Combine(Folder, HubNames.Folder(repository));

    private string RefFile(string repository, string revision) => Path.Combine(Root(repository), "refs", revision.Replace('/', Path.DirectorySeparatorChar));

    private string Existing(string repository)
    {
        HubNames.CheckRepository(repository);
        string folder = Root(repository);
        return Directory.Exists(folder)
            ? folder
            : throw new HubException(HubError.NotCached, $"'{repository}' is not in the cache {Folder}; 'melfusion models list' shows what is.");
    }

    private static string? CheckBlob(string blob) => CheckContent(blob, Path.GetFileName(blob), new FileInfo(blob).Length);

    private static IEnumerable<string> SnapshotFiles(string folder)
    {
        string snapshots = Path.Combine(folder, "snapshots");
        return Directory.Exists(snapshots) ? Directory.EnumerateFiles(snapshots, "*", SearchOption.AllDirectories).Order(StringComparer.Ordinal) : [];
    }

    private static CachedRepository Describe(string folder)
    {
        string refs = Path.Combine(folder, "refs"), blobs = Path.Combine(folder, "blobs"), snapshots = Path.Combine(folder, "snapshots");
        var revisions = Directory.Exists(refs)
            ? Directory.GetFiles(refs, "*", SearchOption.AllDirectories).ToDictionary(
                file => Path.GetRelativePath(refs, file).Replace(Path.DirectorySeparatorChar, '/'), file => File.ReadAllText(file).Trim())
            : [];
        long bytes = Directory.Exists(blobs) ? new DirectoryInfo(blobs).EnumerateFiles().Sum(file => file.Length) : 0;
        bytes += SnapshotFiles(folder).Select(file => new FileInfo(file)).Where(file => file.LinkTarget is null).Sum(file => file.Length);
        return new CachedRepository(
            Path.GetFileName(folder)["models--".Length..].Replace("--", "/", StringComparison.Ordinal), folder, bytes, revisions,
            Directory.Exists(snapshots) ? [.. Directory.GetDirectories(snapshots).Select(path => Path.GetFileName(path)!)] : []);
    }
}
