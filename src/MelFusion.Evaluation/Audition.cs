using MelFusion.Evaluation.Embeddings;

namespace MelFusion.Evaluation;

/// <summary>The two folders of an evaluation, heard by as many networks as its figures need; no network hears a folder twice.</summary>
internal sealed class Audition(EvaluationRequest request, IProgress<EvaluationProgress>? progress, CancellationToken cancellation)
{
    private readonly Dictionary<(string Network, string Role), (IReadOnlyList<EmbeddedClip> Clips, IReadOnlyList<SkippedFile> Skipped)> _heard = [];

    /// <summary>The request.</summary>
    public EvaluationRequest Request => request;

    /// <summary>Honoured between files and rounds.</summary>
    public CancellationToken Cancellation => cancellation;

    /// <summary>Reference sounds.</summary>
    public IReadOnlyList<string> References { get; } = Sounds(request.Reference);

    /// <summary>Generated sounds.</summary>
    public IReadOnlyList<string> Generated { get; } =
        [.. Sounds(request.Generated).Where(file => request.Only?.Contains(Path.GetFileNameWithoutExtension(file)) ?? true)];

    /// <summary>A pipeline of a network.</summary>
    public EmbeddingPipeline Pipeline(IEvaluator network) =>
        new(network, new EmbeddingCache(request.CacheFolder), request.LongestSeconds, request.Workers);

    /// <summary>What a network hears in the references or in the generated sounds.</summary>
    public (IReadOnlyList<EmbeddedClip> Clips, IReadOnlyList<SkippedFile> Skipped) Hear(IEvaluator network, bool generated)
    {
        string role = RoleOf(generated);
        return _heard.TryGetValue((network.Name, role), out var heard)
            ? heard
            : _heard[(network.Name, role)] = Pipeline(network).Run(role, generated ? Generated : References, null, progress, cancellation);
    }

    /// <summary>What the first network that heard a folder heard; nothing where none did.</summary>
    public (IReadOnlyList<EmbeddedClip> Clips, IReadOnlyList<SkippedFile> Skipped) First(bool generated)
    {
        string? network = _heard.Keys.Where(heard => heard.Role == RoleOf(generated)).Select(heard => heard.Network).FirstOrDefault();
        return network is null ? ([], []) : _heard[(network, RoleOf(generated))];
    }

    private static string RoleOf(bool generated) => generated ? "generated" : "reference";

    private static IReadOnlyList<string> Sounds(string folder) => EmbeddingPipeline.SoundsOf(folder) is { Count: > 0 } files
        ? files
        : throw new MelFusionException($"{folder}: there is no sound file in it; files must end in {string.Join(", ", Wave.AudioFile.Extensions)}.");
}
