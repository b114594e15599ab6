using System.Diagnostics;
using System.Security.Cryptography;
using System.Text;
using MelFusion.Evaluation.Embeddings;
using MelFusion.Evaluation.Metrics;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Evaluation.Triplets;

/// <summary>
/// Figures that need networks beside the evaluator, and captions or pictures: clap, imsm, imsm-open, and those of notes. Each is computed for the
/// references too, which says what it can reach.
/// </summary>
internal sealed class CompanionFigures : IDisposable
{
    private static readonly string[] OfTriplets = ["clap", "imsm", "imsm-open"];

    private readonly Audition _audition;
    private readonly IEvaluator? _evaluator;
    private readonly Lazy<TripletTable> _table;
    private readonly Dictionary<string, IEvaluator> _networks = [];
    private readonly SortedDictionary<string, string> _hashes = new(StringComparer.Ordinal);
    private readonly SortedSet<string> _triplets = new(StringComparer.Ordinal);
    private readonly Dictionary<string, string> _pictureHashes = [];
    private readonly Dictionary<string, SkippedFile> _unreadable = [];
    private readonly EmbeddedOnce _rows = new();
    private OpenSpace? _open;
    private ClipSpace? _clip;

    /// <summary>For one evaluation.</summary>
    /// <param name="audition">Its folders.</param>
    /// <param name="evaluator">Its evaluator, which stays its owner's to dispose; null where it is not here.</param>
    public CompanionFigures(Audition audition, IEvaluator? evaluator)
    {
        (_audition, _evaluator) = (audition, evaluator);
        _table = new(() => new TripletTable(audition.Request.Captions ?? EmbeddingPipeline.TableOf(audition.Request.Reference), audition.Request.Images));
        if (audition.Request.Metrics.Any(OfTriplets.Contains))
        {
            _ = _table.Value; // a mistake in it should not show after all sounds were heard
        }
    }

    /// <summary>SHA-256 of the weights of the networks that were used, by name.</summary>
    public IReadOnlyDictionary<string, string> Hashes => _hashes;

    /// <summary>SHA-256 over names, captions and pictures of the triplets that count; empty where none was needed.</summary>
    public string TripletsSha256 => _triplets.Count == 0 ? string.Empty : Hash(string.Join('\n', _triplets));

    /// <summary>Pictures that could not be read.</summary>
    public IReadOnlyList<SkippedFile> Skipped => [.. _unreadable.Values];

    /// <summary>Whether a figure is computed here.</summary>
    public static bool Offers(string name) => OfTriplets.Contains(name) || NoteEvaluator.Figures.Contains(name);

    /// <summary>The figure of the generated sounds.</summary>
    public MetricValue Measure(string name)
    {
        using var scope = NewDisposeScope();
        return name switch
        {
            "clap" => WithReference(Clap),
            "imsm" => WithReference(Paper),
            "imsm-open" => WithReference(Open),
            _ => WithReference(generated => Notes(NoteEvaluator.Figures.ToList().IndexOf(name), generated)),
        };
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _rows.Dispose();
        _open?.Dispose();
        _clip?.Dispose();
        foreach (var network in _networks.Values.Where(network => network != _evaluator))
        {
            network.Dispose();
        }
    }

    private static MetricValue WithReference(Func<bool, MetricValue> measure)
    {
        var figure = measure(true);
        return figure.Value is not null && measure(false).Value is { } reference
            ? figure with { Parts = new Dictionary<string, double>(figure.Parts ?? new Dictionary<string, double>()) { ["reference"] = reference } }
            : figure;
    }

    private MetricValue Clap(bool generated)
    {
        if (Network("clap", out string reason) is not ClapEvaluator clap)
        {
            return MetricValue.None(reason);
        }

        var (clips, warning) = Triplets(clap, generated, withPictures: false);
        if (clips.Length == 0)
        {
            return MetricValue.None(warning!);
        }

        var cosines = CosineScore.Matrix(Rows(clips.Select(triplet => triplet.Clip.Embedding.Clip)), OfCaptions(clips, "clap", clap.EmbedTexts));
        double[] all = cosines.contiguous().data<double>().ToArray();
        double[] right = [.. clips.Select((_, i) => all[(i * clips.Length) + i])];
        double[] wrong = [.. all.Where((_, i) => clips[i / clips.Length].Caption != clips[i % clips.Length].Caption)];
        var interval = _audition.Request.BootstrapRounds == 0 ? null
            : Bootstrap.OfMean(right, _audition.Request.BootstrapRounds, new Random(_audition.Request.Seed));
        var parts = new Dictionary<string, double>();
        if (wrong.Length > 0)
        {
            parts["shuffled"] = wrong.Average();
        }

        return new MetricValue(right.Average(), interval?.Low, interval?.High, interval?.Bias, Warning: warning, Parts: parts);
    }

    private MetricValue Paper(bool generated)
    {
        (string? folder, string noPictures) = EvaluatorFolder.Find("clip", _audition.Request.Weights);
        if (Network("clap", out string noSounds) is not ClapEvaluator clap || folder is null)
        {
            return NoneOf(noSounds, noPictures);
        }

        var (clips, warning) = Triplets(clap, generated, withPictures: true, picture => Embed("clip", picture, Clip(folder).Picture));
        if (clips.Length == 0)
        {
            return MetricValue.None(warning!);
        }

        var pictures = CosineScore.Matrix(OfPictures(clips, "clip"), OfCaptions(clips, "clip", Clip(folder).Captions));
        var sounds = CosineScore.Matrix(Rows(clips.Select(triplet => triplet.Clip.Embedding.Clip)), OfCaptions(clips, "clap", clap.EmbedTexts));
        return Score(clips, pictures, sounds, Clip(folder).Scale, clap.AudioScale, warning);
    }

    private ClipSpace Clip(string folder)
    {
        if (_clip is null)
        {
            _clip = new ClipSpace(folder);
            _hashes["clip"] = NetworkFolder.HashOf(folder);
        }

        return _clip;
    }

    private MetricValue Open(bool generated)
    {
        (string? efficientNet, string noPictures) = EvaluatorFolder.Find("efficientnet-lite0", _audition.Request.Weights);
        (string? miniLm, string noTexts) = EvaluatorFolder.Find("minilm", _audition.Request.Weights);
        if (Network("musicnn", out string noSounds) is not MusicnnEvaluator musicnn || efficientNet is null || miniLm is null)
        {
            return NoneOf(noSounds, noPictures, noTexts);
        }

        OpenSpace Space() => OpenSpaceOf(efficientNet, miniLm, musicnn);
        var (clips, warning) = Triplets(musicnn, generated, withPictures: true, picture => Embed("efficientnet-lite0", picture, Space().Picture));
        if (clips.Length == 0)
        {
            return MetricValue.None(warning!);
        }

        var captions = OfCaptions(clips, "minilm", Space().Captions);
        var pictures = CosineScore.Matrix(OfPictures(clips, "efficientnet-lite0"), captions);
        var sounds = CosineScore.Matrix(Space().Sounds([.. clips.Select(triplet => triplet.Clip.Embedding.Classes)]), captions);
        return Score(clips, pictures, sounds, OpenSpace.Scale, OpenSpace.Scale, warning);
    }

    private OpenSpace OpenSpaceOf(string efficientNet, string miniLm, MusicnnEvaluator musicnn)
    {
        if (_open is null)
        {
            _open = new OpenSpace(efficientNet, miniLm, musicnn.Tags);
            _hashes["efficientnet-lite0"] = NetworkFolder.HashOf(efficientNet);
            _hashes["minilm"] = NetworkFolder.HashOf(miniLm);
        }

        return _open;
    }

    private MetricValue Notes(int figure, bool generated)
    {
        if (Network("basic-pitch", out string reason) is not { } network)
        {
            return MetricValue.None(reason);
        }

        var clips = _audition.Hear(network, generated).Clips;
        int sounds = Sounds(generated);
        double[] values = [.. clips.Select(clip => (double)clip.Embedding.Clip[figure]).Where(double.IsFinite)];
        if (values.Length == 0)
        {
            return MetricValue.None("no sound is loud enough and has what this figure counts");
        }

        var interval = _audition.Request.BootstrapRounds == 0 ? null
            : Bootstrap.OfMean(values, _audition.Request.BootstrapRounds, new Random(_audition.Request.Seed));
        return new MetricValue(values.Average(), interval?.Low, interval?.High, interval?.Bias, Warning: values.Length == sounds ? null
            : $"{sounds - values.Length} of {sounds} sounds do not count: they are skipped, too quiet, or have nothing that this figure counts");
    }

    private MetricValue Score(
        Triplet[] clips, Tensor pictureCosines, Tensor musicCosines, double pictureScale, double musicScale, string? warning)
    {
        var scores = new TripletScores(pictureCosines, musicCosines, pictureScale, musicScale, [.. clips.Select(triplet => triplet.Picture.Hash)]);
        var figure = scores.Measure(_audition.Request.Seed, _audition.Request.BootstrapRounds);
        return figure.Value is null ? figure : figure with { Warning = warning };
    }

    /// <summary>No figure, for every reason there is: whoever brings one of two missing networks should not hear of the other only then.</summary>
    private static MetricValue NoneOf(params string[] reasons) => MetricValue.None(string.Join("; ", reasons.Where(reason => reason.Length > 0)));

    /// <summary>Embeds a picture, an equal one only once, whatever their names; false where it cannot be read.</summary>
    private bool Embed(string network, PictureFile picture, Func<string, Tensor> embed)
    {
        _audition.Cancellation.ThrowIfCancellationRequested();
        if (_unreadable.ContainsKey(picture.Path))
        {
            return false;
        }

        try
        {
            _rows.Of(SpaceOf(network), [picture.Hash], _ => embed(picture.Path)).Dispose();
            return true;
        }
        catch (MelFusionException e)
        {
            string name = Path.GetFileName(picture.Path);
            _unreadable[picture.Path] = new($"picture/{name}", e.Message.Replace(picture.Path, name, StringComparison.Ordinal).ReplaceLineEndings(" "));
            return false;
        }
    }

    private static string SpaceOf(string network) => $"{network} picture";

    /// <summary>A row for each clip's picture, which was embedded before.</summary>
    private Tensor OfPictures(Triplet[] clips, string network) => _rows.Of(SpaceOf(network), [.. clips.Select(triplet => triplet.Picture.Hash)], _ => throw new UnreachableException());

    /// <summary>A row for each clip's caption; equal captions are read once.</summary>
    private Tensor OfCaptions(Triplet[] clips, string network, Func<IReadOnlyList<string>, Tensor> embed) =>
        _rows.Of($"{network} caption", [.. clips.Select(triplet => triplet.Caption)], embed);

    /// <summary>The sounds that have a caption and, where it matters, a picture that can be seen; the warning names how many have not.</summary>
    private (Triplet[] Clips, string? Warning) Triplets(IEvaluator network, bool generated, bool withPictures, Func<PictureFile, bool>? see = null)
    {
        (string what, string options) = withPictures ? ("caption and picture", "--captions and --images") : ("caption", "--captions");
        if (_table.Value.LacksAll(withPictures))
        {
            return ([], $"it needs {what} for each sound; give {options}");
        }

        var clips = _audition.Hear(network, generated).Clips;
        Triplet[] whole = [.. from clip in clips
                              let caption = _table.Value.Caption(clip.Id)
                              let picture = !withPictures ? new(string.Empty, string.Empty) : _table.Value.Picture(clip.Id) is { } path ? Hashed(path) : null
                              where caption is { Length: > 0 } && picture is not null && (see is null || see(picture))
                              select new Triplet(clip, caption, picture)];
        foreach (var triplet in whole)
        {
            _triplets.Add($"{triplet.Clip.Id} {Hash(triplet.Caption)} {triplet.Picture.Hash}");
        }

        int sounds = Sounds(generated);
        return (whole, whole.Length == sounds ? null : whole.Length > 0
            ? $"{sounds - whole.Length} of {sounds} sounds do not count: they are skipped, too short for {network.Name}, or have no {what} that can be read"
            : $"it needs {what} for each sound, and none of {sounds} has them by its name; give {options}");
    }

    private PictureFile? Hashed(string path)
    {
        if (!_pictureHashes.TryGetValue(path, out string? hash))
        {
            try
            {
                hash = EmbeddingCache.HashOf(path);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                string name = Path.GetFileName(path);
                _unreadable[path] = new($"picture/{name}", e.Message.Replace(path, name, StringComparison.Ordinal).ReplaceLineEndings(" "));
                hash = string.Empty;
            }

            _pictureHashes[path] = hash;
        }

        return hash.Length == 0 ? null : new(path, hash);
    }

    private int Sounds(bool generated) => (generated ? _audition.Generated : _audition.References).Count;

    private IEvaluator? Network(string name, out string reason)
    {
        reason = string.Empty;
        if (_evaluator?.Name == name)
        {
            return _evaluator;
        }

        if (!_networks.TryGetValue(name, out var network))
        {
            (string? folder, reason) = EvaluatorFolder.Find(name, _audition.Request.Weights);
            network = folder is null ? null : name == "basic-pitch" ? new NoteEvaluator(folder) : EvaluatorFolder.Open(name, _audition.Request.Weights).Evaluator;
            if (network is null)
            {
                return null;
            }

            _networks[name] = network;
            _hashes[name] = network.WeightsSha256;
        }

        return network;
    }

    private static Tensor Rows(IEnumerable<float[]> rows) => torch.stack([.. rows.Select(row => torch.tensor(row))]);

    private static string Hash(string text) => Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text)));

    private sealed record PictureFile(string Path, string Hash);

    private sealed record Triplet(EmbeddedClip Clip, string Caption, PictureFile Picture);
}
