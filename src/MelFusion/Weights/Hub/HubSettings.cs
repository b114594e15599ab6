namespace MelFusion.Weights.Hub;

/// <summary>Where a model hub is, who asks, and where its files are kept: the variables that Python's tools read, with their meaning.</summary>
public sealed record HubSettings
{
    private static readonly HashSet<string> True = new(["1", "ON", "YES", "TRUE"], StringComparer.OrdinalIgnoreCase);

    /// <summary>The hub's address without a slash at its end (HF_ENDPOINT).</summary>
    public string Endpoint { get; init; } = "https://huggingface.co";

    /// <summary>The folder of the cache (HF_HUB_CACHE, else HF_HOME/hub).</summary>
    public required string CacheFolder { get; init; }

    /// <summary>The token sent to the hub, and to no other host; null: none (HF_TOKEN, else the file HF_HOME/token).</summary>
    public string? Token { get; init; }

    /// <summary>Whether the network may not be used at all (HF_HUB_OFFLINE).</summary>
    public bool IsOffline { get; init; }

    /// <summary>How many files are fetched at a time.</summary>
    public int Parallel { get; init; } = 4;

    /// <summary>How often a failed request is repeated.</summary>
    public int Retries { get; init; } = 5;

    /// <summary>The wait before the first repetition; each later one is twice as long.</summary>
    public TimeSpan FirstDelay { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>The longest wait before a repetition.</summary>
    public TimeSpan LongestDelay { get; init; } = TimeSpan.FromSeconds(8);

    /// <summary>After how long without a byte a connection counts as broken.</summary>
    public TimeSpan Patience { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>Reads the environment.</summary>
    /// <param name="variable">Where a variable's value comes from; null: the process.</param>
    public static HubSettings FromEnvironment(Func<string, string?>? variable = null)
    {
        variable ??= Environment.GetEnvironmentVariable;
        string home = Environment.GetFolderPath(Environment.SpecialFolder.UserProfile);
        string folder = Given("HF_HOME") ?? Path.Combine(Given("XDG_CACHE_HOME") ?? Path.Combine(home, ".cache"), "huggingface");
        return new HubSettings
        {
            Endpoint = (Given("HF_ENDPOINT") ?? "https://huggingface.co").TrimEnd('/'),
            CacheFolder = Given("HF_HUB_CACHE") ?? Path.Combine(folder, "hub"),
            Token = Is("HF_HUB_DISABLE_IMPLICIT_TOKEN") ? null : ReadToken(Given("HF_TOKEN_PATH") ?? Path.Combine(folder, "token")),
            IsOffline = Is("HF_HUB_OFFLINE") || Is("TRANSFORMERS_OFFLINE"),
        };

        string? Given(string name) => variable(name) is { Length: > 0 } value
            ? value == "~" || value.StartsWith("~/", StringComparison.Ordinal) ? home + value[1..] : value
            : null;

        bool Is(string name) => variable(name) is { } value && True.Contains(value.Trim());

        string? ReadToken(string file) => Clean(variable("HF_TOKEN")) ?? Clean(variable("HUGGING_FACE_HUB_TOKEN")) ?? FromFile(file);
    }

    private static string? FromFile(string file)
    {
        try
        {
            return File.Exists(file) ? Clean(File.ReadAllText(file)) : null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    private static string? Clean(string? token)
    {
        string trimmed = (token ?? string.Empty).Trim();
        return trimmed.Length > 0 && !trimmed.Any(c => c is < '!' or > '~') ? trimmed : null;
    }

    /// <summary>The settings without the token.</summary>
    public override string ToString() => $"{Endpoint}, cache {CacheFolder}, {(Token is null ? "no token" : "with a token")}{(IsOffline ? ", offline" : string.Empty)}";
}
