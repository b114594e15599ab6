namespace MelFusion.Weights.Hub;

/// <summary>Why a hub or its cache did not give what was asked for.</summary>
public enum HubError
{
    /// <summary>The name cannot be that of a repository, revision or file.</summary>
    MalformedName,

    /// <summary>The repository is absent, or private and not open to this token: a hub tells both alike.</summary>
    RepositoryNotFound,

    /// <summary>The repository has no such branch, tag or commit.</summary>
    RevisionNotFound,

    /// <summary>The revision has no such file.</summary>
    EntryNotFound,

    /// <summary>The repository's conditions must be accepted first.</summary>
    Gated,

    /// <summary>The hub was not asked or not reached, and the cache does not have it.</summary>
    NotCached,

    /// <summary>The hub refused or failed in another way.</summary>
    Http,

    /// <summary>What arrived is not what was announced.</summary>
    Damaged,

    /// <summary>The disk has too little room.</summary>
    DiskFull,
}

/// <summary>A hub or its cache did not give what was asked for, in one sentence.</summary>
public sealed class HubException : MelFusionException
{
    /// <summary>With the kind and the sentence.</summary>
    public HubException(HubError error, string message) : base(message) => Error = error;

    /// <summary>With the kind, the sentence and the cause.</summary>
    public HubException(HubError error, string message, Exception cause) : base(message, cause) => Error = error;

    /// <summary>What went wrong.</summary>
    public HubError Error { get; }

    /// <summary>The commit in which a file is known to be absent.</summary>
    internal string? Commit { get; init; }
}
