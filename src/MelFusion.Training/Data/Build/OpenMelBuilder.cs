using System.Collections.Concurrent;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using MelFusion.Training.Data.Build.Readers;

namespace MelFusion.Training.Data.Build;

/// <summary>What <c>melfusion data build</c> was asked to do.</summary>
public sealed record OpenMelOptions
{
    /// <summary>The folder that is filled.</summary>
    public required string Output { get; init; }

    /// <summary>Where archives and unpacked packages are kept, or null for <c>.cache</c> in the output folder.</summary>
    public string? Cache { get; init; }

    /// <summary>Only games whose packages are all among these are read; null for all games.</summary>
    public IReadOnlyList<string>? Packages { get; init; }

    /// <summary>Whether the pictures for the image models are collected, too.</summary>
    public bool WithPictures { get; init; } = true;

    /// <summary>Folder of the tagger that hears the clips for their captions, or null: captions then say what the games say.</summary>
    public string? Tagger { get; init; }

    /// <summary>How many tools run at the same time.</summary>
    public int Workers { get; init; } = 2;
}

/// <summary>How far the builder is.</summary>
/// <param name="Stage">What is being done, in plain words.</param>
/// <param name="Done">How many items of the stage are done.</param>
/// <param name="Total">How many there are.</param>
public sealed record OpenMelProgress(string Stage, int Done, int Total);

/// <summary>What was built.</summary>
/// <param name="Rows">All rows, by split.</param>
/// <param name="Pictures">How many pictures the image models get.</param>
/// <param name="Skipped">Files that could not be read, with the reason.</param>
public sealed record OpenMelReport(IReadOnlyDictionary<DataSplit, IReadOnlyList<OpenMelRow>> Rows, int Pictures, IReadOnlyList<string> Skipped);

/// <summary>Builds OpenMeL: clips of free game music, each with the pictures that the game's makers paired it with.</summary>
public sealed class OpenMelBuilder
{
    private const int PreferredShortSide = 512;
    private const int SmallestShortSide = 200;

    private static readonly string[] MediaFolders = ["audio", "images"];

    private readonly OpenMelOptions _options;
    private readonly IReadOnlyList<IGameReader> _readers;
    private readonly IProgress<OpenMelProgress>? _progress;
    private readonly ConcurrentBag<string> _skipped = [];
    private readonly string _staging;

    /// <summary>A builder.</summary>
    /// <param name="options">What to do.</param>
    /// <param name="progress">Hears how far it is, or null.</param>
    /// <param name="readers">The games, or null for all that are known.</param>
    public OpenMelBuilder(OpenMelOptions options, IProgress<OpenMelProgress>? progress = null, IReadOnlyList<IGameReader>? readers = null)
    {
        _options = options;
        _progress = progress;
        _readers = [.. (readers ?? GameReaders.All).Where(reader => options.Packages is null || reader.Packages.All(options.Packages.Contains))];
        _staging = Path.Combine(options.Output, ".build");
    }

    /// <summary>Fetches, pairs, cuts, splits and writes. A run that was stopped goes on where it was.</summary>
    /// <param name="cancellationToken">Stops it.</param>
    /// <exception cref="MelFusionException">A tool is missing, or no game is left to read.</exception>
    public async Task<OpenMelReport> BuildAsync(CancellationToken cancellationToken)
    {
        if (_readers.Count == 0)
        {
            throw new MelFusionException("No known game is made of the packages named by --packages; name all packages of at least one game, or leave the option out.");
        }

        Directory.CreateDirectory(_staging);
        var packages = new DebianPackages(_options.Cache ?? Path.Combine(_options.Output, ".cache"));
        var art = _options.WithPictures && _options.Packages is null ? PictureSet.Packages : [];
        var trees = await FetchAsync(packages, [.. _readers.SelectMany(reader => reader.Packages).Concat(art).Distinct(StringComparer.Ordinal)], cancellationToken).ConfigureAwait(false);
        var scenes = _readers.SelectMany(reader => ReadGame(reader, trees)).ToList();
        var pictures = ReadPictures(scenes, cancellationToken);
        var source = new GameTrees(trees);
        var tracks = await CutTracksAsync(scenes, source, cancellationToken).ConfigureAwait(false);
        var split = Split(scenes, pictures, tracks, source);
        var rows = Publish(scenes, pictures, tracks, split, source, cancellationToken);
        var held = scenes.SelectMany(scene => scene.Pictures).Where(picture => pictures.TryGetValue(Identity(picture), out var known) && split.Pictures.TryGetValue(known.Key, out var place) && place != DataSplit.Train)
            .SelectMany(picture => picture.Layers).ToHashSet(StringComparer.Ordinal);
        var count = _options.WithPictures ? PictureSet.Write(_options.Output, trees, held, _options.Workers, _progress, cancellationToken) : 0;
        rows = Tag(rows, cancellationToken);
        return new OpenMelReport(rows, count, [.. _skipped.Order(StringComparer.Ordinal)]);
    }

    private Dictionary<DataSplit, IReadOnlyList<OpenMelRow>> Tag(Dictionary<DataSplit, IReadOnlyList<OpenMelRow>> rows, CancellationToken cancellationToken)
    {
        if (_options.Tagger is not { } tagger)
        {
            return rows;
        }

        OpenMelTagger.Tag(_options.Output, tagger, _progress, cancellationToken);
        return rows.Keys.ToDictionary(split => split, split => OpenMelRow.ReadTable(SplitFolder(split)));
    }

    private async Task<Dictionary<string, string>> FetchAsync(DebianPackages packages, List<string> names, CancellationToken cancellationToken)
    {
        var folders = new ConcurrentDictionary<string, string>(StringComparer.Ordinal);
        await ForEachAsync("fetching packages", names, async name => folders[name] = await packages.FetchAsync(name, cancellationToken).ConfigureAwait(false), cancellationToken).ConfigureAwait(false);
        return new Dictionary<string, string>(folders, StringComparer.Ordinal);
    }

    private static IEnumerable<GameScene> ReadGame(IGameReader reader, Dictionary<string, string> trees) =>
        reader.Read(new GameTrees(reader.Packages.ToDictionary(package => package, package => trees[package], StringComparer.Ordinal)));

    /// <summary>A picture of a scene under its key: pictures that look alike have the same key.</summary>
    private sealed record KnownPicture(string Key, string Name, PictureFile File);

    private static string Identity(ScenePicture picture) => string.Join('|', picture.Layers);

    private Dictionary<string, KnownPicture> ReadPictures(List<GameScene> scenes, CancellationToken cancellationToken)
    {
        var wanted = scenes.SelectMany(scene => scene.Pictures.Select(picture => (scene.Game, Picture: picture))).DistinctBy(item => Identity(item.Picture)).ToList();
        var read = new PictureFile?[wanted.Count];
        var done = 0;
        Parallel.For(0, wanted.Count, new ParallelOptions { MaxDegreeOfParallelism = _options.Workers, CancellationToken = cancellationToken }, i =>
        {
            read[i] = PictureFile.Read(wanted[i].Picture, SmallestShortSide, PreferredShortSide, square: false);
            _progress?.Report(new OpenMelProgress("reading pictures", Interlocked.Increment(ref done), wanted.Count));
        });

        var known = new Dictionary<string, KnownPicture>(StringComparer.Ordinal);
        var leaders = new List<KnownPicture>();
        for (var i = 0; i < wanted.Count; i++)
        {
            if (read[i] is { } file)
            {
                var leader = leaders.Find(other => other.File.Hash == file.Hash || other.File.LooksLike(file));
                var path = wanted[i].Picture.Layers[0].Split('/');
                var name = $"{PlainWords.Slug(wanted[i].Game)}-{PlainWords.Slug(string.Join('-', path.TakeLast(2)))}-{file.Hash[..6].ToLowerInvariant()}";
                var picture = leader ?? new KnownPicture(file.Hash, name, file);
                known[Identity(wanted[i].Picture)] = picture;
                if (leader is null)
                {
                    leaders.Add(picture);
                }
            }
        }

        return known;
    }

    /// <summary>A track whose clips lie ready.</summary>
    private sealed record ReadyTrack(string Id, string Game, string Title, string Package, string Path, string Licence, int SourceRate, IReadOnlyList<int> Offsets);

    private async Task<Dictionary<string, ReadyTrack>> CutTracksAsync(List<GameScene> scenes, GameTrees source, CancellationToken cancellationToken)
    {
        var wanted = scenes.SelectMany(scene => scene.Tracks.Select(track => (scene.Game, Track: track))).DistinctBy(item => item.Track.File).ToList();
        var ready = new ConcurrentDictionary<string, ReadyTrack>(StringComparer.Ordinal);
        await ForEachAsync("cutting tracks", wanted, async item =>
        {
            try
            {
                ready[item.Track.File] = await CutTrackAsync(item.Game, item.Track, source, cancellationToken).ConfigureAwait(false);
            }
            catch (MelFusionException problem)
            {
                _skipped.Add($"{item.Track.File}: {problem.Message}");
            }
        }, cancellationToken).ConfigureAwait(false);
        return new Dictionary<string, ReadyTrack>(ready, StringComparer.Ordinal);
    }

    private async Task<ReadyTrack> CutTrackAsync(string game, SceneTrack track, GameTrees source, CancellationToken cancellationToken)
    {
        var (package, path) = source.Source(track.File);
        var id = $"{PlainWords.Slug(game)}-{PlainWords.Slug(track.Title)}-{Convert.ToHexString(SHA256.HashData(Encoding.UTF8.GetBytes(package + "/" + path)))[..4].ToLowerInvariant()}";
        var note = Path.Combine(_staging, id + ".json");
        if (File.Exists(note) && JsonSerializer.Deserialize<ReadyTrack>(await File.ReadAllTextAsync(note, cancellationToken).ConfigureAwait(false)) is { } before && before.Offsets.Select((_, i) => ClipName(id, i)).All(IsWritten))
        {
            return before;
        }

        var cut = await ClipCutter.CutAsync(track.File, cancellationToken).ConfigureAwait(false);
        for (var i = 0; i < cut.Clips.Count; i++)
        {
            ClipCutter.WriteWav(Path.Combine(_staging, ClipName(id, i)), cut.Samples.AsSpan(cut.Clips[i].Offset, ClipCutter.ClipSamples));
        }

        var made = new ReadyTrack(id, game, track.Title, package, path, Licences.Of(source.Folders[package], package), cut.SourceRate, [.. cut.Clips.Select(clip => clip.Offset)]);
        await File.WriteAllTextAsync(note + ".part", JsonSerializer.Serialize(made), cancellationToken).ConfigureAwait(false);
        File.Move(note + ".part", note, overwrite: true);
        return made;
    }

    private static string ClipName(string track, int index) => string.Create(CultureInfo.InvariantCulture, $"{track}-{index:000}.wav");

    private bool IsWritten(string clip) => File.Exists(Path.Combine(_staging, clip)) || Enum.GetValues<DataSplit>().Any(split => File.Exists(Path.Combine(AudioFolder(split), clip)));

    private string SplitFolder(DataSplit split) => Path.Combine(_options.Output, split.ToString().ToLowerInvariant());

    private string AudioFolder(DataSplit split) => Path.Combine(SplitFolder(split), "audio");

    // The same tune in two games (they share music) has the same long title; short titles such as "intro" say nothing.
    // A file is known by its place in its package: where packages are unpacked must not decide what is held out.
    internal static string TuneKey(GameScene scene, SceneTrack track, GameTrees source)
    {
        if (track.Title.Split(' ').Length >= 3)
        {
            return PlainWords.Slug(track.Title);
        }

        if (track.Tune != track.File)
        {
            return $"{scene.Game}/{track.Tune}";
        }

        var (package, path) = source.Source(track.File);
        return $"{scene.Game}/{package}/{path}";
    }

    private static IEnumerable<(SceneTrack Track, ScenePicture Picture, ScenePair Pair)> Pairs(
        GameScene scene, Dictionary<string, KnownPicture> pictures, GameTrees source) =>
        from track in scene.Tracks
        let tune = TuneKey(scene, track, source)
        from picture in scene.Pictures
        where pictures.ContainsKey(Identity(picture))
        select (track, picture, new ScenePair(scene.Game, tune, pictures[Identity(picture)].Key));

    private static SceneSplit Split(List<GameScene> scenes, Dictionary<string, KnownPicture> pictures, Dictionary<string, ReadyTrack> tracks, GameTrees source)
    {
        var clips = scenes.SelectMany(scene => scene.Tracks.Select(track => (Key: TuneKey(scene, track, source), track.File, track.MostClips))).Distinct()
            .GroupBy(item => item.Key, StringComparer.Ordinal)
            .ToDictionary(group => group.Key, group => group.Sum(item => tracks.TryGetValue(item.File, out var ready) ? Math.Min(ready.Offsets.Count, item.MostClips) : 0), StringComparer.Ordinal);
        return SceneSplit.Part(scenes.SelectMany(scene => Pairs(scene, pictures, source)).Select(item => item.Pair), clips, HeldOutList.BuiltIn());
    }

    private Dictionary<DataSplit, IReadOnlyList<OpenMelRow>> Publish(
        List<GameScene> scenes, Dictionary<string, KnownPicture> pictures, Dictionary<string, ReadyTrack> tracks, SceneSplit split, GameTrees source, CancellationToken cancellationToken)
    {
        var kept = scenes.SelectMany(scene => Pairs(scene, pictures, source).Where(item => split.Keeps(item.Pair)).Select(item => (Scene: scene, item.Track, Picture: pictures[Identity(item.Picture)], item.Pair)))
            .Where(item => tracks.ContainsKey(item.Track.File))
            .GroupBy(item => item.Track.File, StringComparer.Ordinal).OrderBy(group => tracks[group.Key].Id, StringComparer.Ordinal).ToList();
        var rows = Enum.GetValues<DataSplit>().ToDictionary(place => place, _ => new List<OpenMelRow>());
        foreach (var group in kept)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var items = group.ToList();
            var place = split.Tunes[items[0].Pair.Tune];
            var seen = items.Select(item => item.Picture).DistinctBy(picture => picture.Name).ToList();
            Directory.CreateDirectory(AudioFolder(place));
            seen.ForEach(picture => WriteOnce(Path.Combine(SplitFolder(place), "images", picture.Name + ".jpg"), picture.File.Jpeg));
            var track = tracks[group.Key];
            foreach (var i in Spread(track.Offsets.Count, items[0].Track.MostClips))
            {
                rows[place].Add(Row(track, i, track.Offsets[i], items[0].Scene, [.. items.Select(item => item.Scene.Name).Distinct(StringComparer.Ordinal)], seen));
                MoveClip(ClipName(track.Id, i), place);
            }
        }

        foreach (var place in rows.Keys)
        {
            Directory.CreateDirectory(SplitFolder(place));
            OpenMelRow.WriteTable(SplitFolder(place), rows[place]);
            RemoveStrays(place, rows[place]);
        }

        return rows.ToDictionary(pair => pair.Key, pair => (IReadOnlyList<OpenMelRow>)pair.Value);
    }

    private static IEnumerable<int> Spread(int count, int most) => Enumerable.Range(0, Math.Min(count, most)).Select(k => k * count / Math.Min(count, most));

    private static OpenMelRow Row(ReadyTrack track, int index, int offset, GameScene scene, IReadOnlyList<string> names, List<KnownPicture> pictures)
    {
        var id = Path.GetFileNameWithoutExtension(ClipName(track.Id, index));
        var row = new OpenMelRow
        {
            Id = id,
            Audio = $"audio/{id}.wav",
            Images = [.. pictures.Select(picture => $"images/{picture.Name}.jpg")],
            Captions = [],
            Game = track.Game,
            Album = scene.Album,
            Scenes = names,
            Words = scene.Words,
            Title = track.Title,
            Licence = track.Licence,
            Package = track.Package,
            Path = track.Path,
            Offset = Math.Round((double)offset / ClipCutter.SampleRate, 3),
            SourceRate = track.SourceRate,
            LowRate = track.SourceRate < ClipCutter.SampleRate,
        };
        return CaptionWriter.Caption(row);
    }

    // An earlier run may have split otherwise (with fewer games): a clip moves to where it now belongs.
    private void MoveClip(string clip, DataSplit place)
    {
        var target = Path.Combine(AudioFolder(place), clip);
        var found = Enum.GetValues<DataSplit>().Select(split => Path.Combine(AudioFolder(split), clip)).Prepend(Path.Combine(_staging, clip)).First(File.Exists);
        if (found != target)
        {
            File.Move(found, target, overwrite: true);
        }
    }

    private void RemoveStrays(DataSplit place, List<OpenMelRow> rows)
    {
        var wanted = rows.SelectMany(row => row.Images.Append(row.Audio)).ToHashSet(StringComparer.Ordinal);
        foreach (var folder in MediaFolders.Where(folder => Directory.Exists(Path.Combine(SplitFolder(place), folder))))
        {
            foreach (var file in Directory.EnumerateFiles(Path.Combine(SplitFolder(place), folder)).Where(file => !wanted.Contains($"{folder}/{Path.GetFileName(file)}")).ToList())
            {
                Discard(file);
            }
        }
    }

    // A clip that this run does not use may be used by the next.
    private void Discard(string file)
    {
        if (Path.GetExtension(file) == ".wav")
        {
            File.Move(file, Path.Combine(_staging, Path.GetFileName(file)), overwrite: true);
        }
        else
        {
            File.Delete(file);
        }
    }

    private static void WriteOnce(string path, byte[] bytes)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        if (!File.Exists(path) || new FileInfo(path).Length != bytes.Length)
        {
            File.WriteAllBytes(path + ".part", bytes);
            File.Move(path + ".part", path, overwrite: true);
        }
    }

    private async Task ForEachAsync<T>(string stage, List<T> items, Func<T, Task> body, CancellationToken cancellationToken)
    {
        var done = 0;
        await Parallel.ForEachAsync(items, new ParallelOptions { MaxDegreeOfParallelism = _options.Workers, CancellationToken = cancellationToken }, async (item, _) =>
        {
            await body(item).ConfigureAwait(false);
            _progress?.Report(new OpenMelProgress(stage, Interlocked.Increment(ref done), items.Count));
        }).ConfigureAwait(false);
    }
}
