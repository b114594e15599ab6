using System.Net;
using System.Net.Http.Headers;
using System.Text.Json;

namespace MelFusion.Weights.Hub;

/// <summary>What a hub says of a file before it is fetched.</summary>
/// <param name="Commit">The commit it belongs to.</param>
/// <param name="Etag">The hash of its content.</param>
/// <param name="Size">Bytes.</param>
/// <param name="Location">Where the content is.</param>
internal sealed record HubFile(string Commit, string Etag, long Size, Uri Location);

/// <summary>The requests of the protocol. The token goes to the hub's own address and nowhere else; redirects are followed here, not below.</summary>
internal sealed class HubTransfer : IDisposable
{
    private const int MostRedirects = 5;
    private const int LongestListing = 64 << 20;
    private static readonly HttpStatusCode[] Passing =
    [
        HttpStatusCode.InternalServerError, HttpStatusCode.BadGateway, HttpStatusCode.ServiceUnavailable, HttpStatusCode.GatewayTimeout,
        HttpStatusCode.TooManyRequests, HttpStatusCode.RequestTimeout,
    ];

    private readonly HubSettings _settings;
    private readonly TimeProvider _time;
    private readonly Uri _hub;
    private readonly HttpClient _client;

    public HubTransfer(HubSettings settings, TimeProvider time)
    {
        (_settings, _time) = (settings, time);
        _hub = Uri.TryCreate(settings.Endpoint, UriKind.Absolute, out var hub) && hub.Scheme is "http" or "https"
            ? hub!
            : throw new HubException(HubError.Http, $"HF_ENDPOINT is '{TorchPickle.Shown(settings.Endpoint)}', which is no http address.");
        _client = new HttpClient(new SocketsHttpHandler
        {
            AllowAutoRedirect = false, AutomaticDecompression = DecompressionMethods.None, UseCookies = false,
            ConnectTimeout = TimeSpan.FromSeconds(10), PooledConnectionLifetime = TimeSpan.FromMinutes(5),
        })
        {
            Timeout = Timeout.InfiniteTimeSpan,
        };
        _client.DefaultRequestHeaders.UserAgent.Add(new ProductInfoHeaderValue("melfusion", typeof(HubTransfer).Assembly.GetName().Version?.ToString(2)));
        _client.DefaultRequestHeaders.AcceptEncoding.Add(new StringWithQualityHeaderValue("identity"));
    }

    public void Dispose() => _client.Dispose();

    /// <summary>The commit of a revision and the files it has.</summary>
    public async Task<(string Commit, IReadOnlyList<string> Files)> ListAsync(
        string repository, string revision, int retries, CancellationToken cancellation)
    {
        var address = new Uri($"{_settings.Endpoint}/api/models/{repository}/revision/{Uri.EscapeDataString(revision)}");
        using var response = await SendAsync(HttpMethod.Get, address, null, _ => true, retries, cancellation);
        CheckStatus(response, repository, revision, null);
        if (response.Content.Headers.ContentLength > LongestListing)
        {
            throw NotAHub();
        }

        using var patience = Patience(cancellation);
        try
        {
            await response.Content.LoadIntoBufferAsync(LongestListing, patience.Token);
            using var json = JsonDocument.Parse(await response.Content.ReadAsStringAsync(patience.Token));
            string commit = json.RootElement.GetProperty("sha").GetString()!;
            var files = json.RootElement.GetProperty("siblings").EnumerateArray().Select(file => file.GetProperty("rfilename").GetString()!).ToList();
            files.ForEach(HubNames.CheckPath);
            return HubNames.IsPlain(commit) ? (commit, files) : throw NotAHub();
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException or HttpRequestException)
        {
            throw NotAHub(e);
        }
    }

    /// <summary>Commit, etag, size and place of a file.</summary>
    public async Task<HubFile> HeadAsync(string repository, string revision, string path, int retries, CancellationToken cancellation)
    {
        var address = new Uri($"{_settings.Endpoint}/{repository}/resolve/{Uri.EscapeDataString(revision)}/{HubNames.EscapePath(path)}");
        using var response = await SendAsync(HttpMethod.Head, address, null, location => !location.IsAbsoluteUri, retries, cancellation);
        if ((int)response.StatusCode is < 300 or >= 400)
        {
            CheckStatus(response, repository, revision, path);
        }

        string? commit = Header(response, "X-Repo-Commit"), etag = Header(response, "X-Linked-ETag") ?? Header(response, "ETag");
        etag = etag?.StartsWith("W/", StringComparison.Ordinal) == true ? etag[2..] : etag;
        etag = etag?.Trim('"');
        long? size = long.TryParse(Header(response, "X-Linked-Size"), out long linked) ? linked : response.Content.Headers.ContentLength;
        if (commit is null || etag is null || size is null or < 0 || !HubNames.IsPlain(commit) || !HubNames.IsPlain(etag))
        {
            throw NotAHub();
        }

        var last = response.RequestMessage!.RequestUri!;
        return new HubFile(commit, etag, size.Value, response.Headers.Location is { } location ? new Uri(last, location) : last);
    }

    /// <summary>Asks for a file's content from a byte on.</summary>
    public Task<HttpResponseMessage> GetAsync(Uri location, long from, CancellationToken cancellation) =>
        SendAsync(HttpMethod.Get, location, from > 0 ? new RangeHeaderValue(from, null) : null, _ => true, 0, cancellation);

    /// <summary>Whether a failure may pass by itself.</summary>
    public static bool MayPass(Exception e) => e switch
    {
        HubException { InnerException: HttpRequestException or TimeoutException } => true,
        HttpRequestException http => http.StatusCode is not { } status || Passing.Contains(status),
        IOException or TimeoutException => true,
        _ => false,
    };

    /// <summary>The wait before repetition number <paramref name="attempt"/>, counted from 0.</summary>
    public Task WaitAsync(int attempt, CancellationToken cancellation) =>
        Task.Delay(TimeSpan.FromTicks(Math.Min(_settings.FirstDelay.Ticks << Math.Min(attempt, 16), _settings.LongestDelay.Ticks)), _time, cancellation);

    /// <summary>A source that is cancelled when nothing came for too long.</summary>
    public CancellationTokenSource Patience(CancellationToken cancellation)
    {
        var source = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        source.CancelAfter(_settings.Patience);
        return source;
    }

    /// <summary>Turns a refusal into its sentence.</summary>
    public void CheckStatus(HttpResponseMessage response, string repository, string revision, string? path)
    {
        if (response.IsSuccessStatusCode)
        {
            return;
        }

        string code = Header(response, "X-Error-Code") ?? string.Empty, said = TorchPickle.Shown(Header(response, "X-Error-Message") ?? string.Empty);
        int status = (int)response.StatusCode;
        throw (code, status) switch
        {
            ("EntryNotFound", _) => new HubException(HubError.EntryNotFound, $"'{repository}' has no file '{path}' in the revision '{revision}'.")
            {
                Commit = Header(response, "X-Repo-Commit"),
            },
            ("RevisionNotFound", _) => new HubException(HubError.RevisionNotFound, $"'{repository}' has no revision '{revision}'; give an existing branch, tag or commit."),
            ("GatedRepo", _) => new HubException(
                HubError.Gated,
                $"'{repository}' wants its conditions accepted: do that on its page at {_settings.Endpoint}/{repository}, then set HF_TOKEN to a token of that account ({(_settings.Token is null ? "none is set" : "the one that is set has no access")})."),
            ("RepoNotFound", _) => new HubException(
                HubError.RepositoryNotFound,
                $"there is no repository '{repository}' at {_settings.Endpoint}, or it is private and {(_settings.Token is null ? "no token is set (HF_TOKEN)" : "the token has no access")}."),
            (_, 401) => new HubException(HubError.Http, $"{_settings.Endpoint} does not accept the token: {said}; set HF_TOKEN to a valid one or to nothing."),
            (_, 404) => new HubException(HubError.RepositoryNotFound, $"{_settings.Endpoint} has no '{repository}'; check the name."),
            _ => new HubException(
                HubError.Http, $"{_settings.Endpoint} answered {status} for '{repository}'{(said.Length > 0 ? $": {said}" : string.Empty)}; try again later.",
                new HttpRequestException(said, null, response.StatusCode)),
        };
    }

    public static string? Header(HttpResponseMessage response, string name) =>
        response.Headers.TryGetValues(name, out var values) || response.Content.Headers.TryGetValues(name, out values) ? values.First() : null;

    /// <summary>Sends a request, follows the redirects that <paramref name="follow"/> takes, and repeats what may pass by itself.</summary>
    private async Task<HttpResponseMessage> SendAsync(
        HttpMethod method, Uri address, RangeHeaderValue? range, Func<Uri, bool> follow, int retries, CancellationToken cancellation)
    {
        for (int attempt = 0; ; attempt++)
        {
            HttpResponseMessage? response = null;
            try
            {
                response = await FollowAsync(method, address, range, follow, cancellation);
                if (attempt >= retries || !Passing.Contains(response.StatusCode))
                {
                    return response;
                }
            }
            catch (Exception e) when (e is HttpRequestException or TimeoutException && attempt < retries)
            {
                // Repeated below.
            }
            catch (Exception e) when (e is HttpRequestException or TimeoutException)
            {
                throw new HubException(HubError.Http, $"{address.GetLeftPart(UriPartial.Authority)} cannot be reached ({e.Message.TrimEnd('.')}); check the connection.", e);
            }

            response?.Dispose();
            await WaitAsync(attempt, cancellation);
        }
    }

    private async Task<HttpResponseMessage> FollowAsync(
        HttpMethod method, Uri address, RangeHeaderValue? range, Func<Uri, bool> follow, CancellationToken cancellation)
    {
        for (int redirects = 0; ; redirects++)
        {
            var response = await OneAsync(method, address, range, cancellation);
            if ((int)response.StatusCode is not (301 or 302 or 303 or 307 or 308) || response.Headers.Location is not { } location || !follow(location))
            {
                return response;
            }

            response.Dispose();
            address = redirects < MostRedirects ? new Uri(address, location) : throw new HttpRequestException("it redirects without end", null, HttpStatusCode.LoopDetected);
            if (address.Scheme is not ("http" or "https"))
            {
                throw new HttpRequestException($"it redirects to '{TorchPickle.Shown(address.Scheme)}:'", null, HttpStatusCode.LoopDetected);
            }
        }
    }

    private async Task<HttpResponseMessage> OneAsync(HttpMethod method, Uri address, RangeHeaderValue? range, CancellationToken cancellation)
    {
        using var request = new HttpRequestMessage(method, address);
        request.Headers.Range = range;
        if (_settings.Token is { } token && (address.Scheme, address.Authority) == (_hub.Scheme, _hub.Authority))
        {
            request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", token);
        }

        using var patience = Patience(cancellation);
        try
        {
            return await _client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, patience.Token);
        }
        catch (OperationCanceledException e) when (!cancellation.IsCancellationRequested)
        {
            throw new TimeoutException($"no answer within {_settings.Patience.TotalSeconds:0} s", e);
        }
    }

    private HubException NotAHub(Exception? cause = null)
    {
        string message = $"{_settings.Endpoint} does not answer as a model hub does; check HF_ENDPOINT.";
        return cause is null ? new HubException(HubError.Http, message) : new HubException(HubError.Http, message, cause);
    }
}
