using System.Collections.Concurrent;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using MelFusion.Tests.Support;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.Logging;

namespace MelFusion.Tests.Weights.Hub;

/// <summary>A request as a server saw it.</summary>
public sealed record SeenRequest(string To, string Method, string Path, string? Range, bool HasToken, string? AcceptEncoding);

/// <summary>A hub and a storage on two ports of this machine, with the repositories of the fixture.</summary>
public sealed class FakeHub : IAsyncDisposable
{
    private readonly WebApplication _hub, _storage;
    private readonly Fixture _fixture;
    private readonly JsonElement _table;
    private readonly Dictionary<string, byte[]> _added = [];

    private FakeHub()
    {
        _fixture = Fixture.Open("hub");
        _table = _fixture.Json("repositories.json").RootElement.Clone();
        (_hub, _storage) = (Server("hub", AnswerHub), Server("storage", AnswerStorage));
    }

    /// <summary>The hub's address.</summary>
    public string Endpoint => _hub.Urls.Single();

    /// <summary>The storage's address.</summary>
    public string StorageAddress => _storage.Urls.Single();

    /// <summary>Every request so far.</summary>
    public ConcurrentQueue<SeenRequest> Requests { get; } = [];

    /// <summary>Answers before the hub or the storage does; true where it has answered.</summary>
    public Func<SeenRequest, HttpContext, Task<bool>> Fault { get; set; } = (_, _) => Task.FromResult(false);

    public string ValidToken => _table.GetProperty("tokens").GetProperty("valid").GetString()!;

    public static async Task<FakeHub> StartAsync()
    {
        var hub = new FakeHub();
        await hub._hub.StartAsync();
        await hub._storage.StartAsync();
        return hub;
    }

    /// <summary>Adds a large file to the main branch of "tiny".</summary>
    public string AddLargeFile(string path, byte[] content)
    {
        _added[path] = content;
        return Convert.ToHexStringLower(SHA256.HashData(content));
    }

    public async ValueTask DisposeAsync()
    {
        await _hub.DisposeAsync();
        await _storage.DisposeAsync();
    }

    private WebApplication Server(string name, Func<SeenRequest, HttpContext, Task> answer)
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseUrls("http://127.0.0.1:0").UseKestrel(options => options.AddServerHeader = false);
        var app = builder.Build();
        app.Run(async context =>
        {
            var headers = context.Request.Headers;
            var seen = new SeenRequest(
                name, context.Request.Method, context.Features.Get<IHttpRequestFeature>()!.RawTarget, (string?)headers.Range,
                headers.ContainsKey("Authorization"), (string?)headers.AcceptEncoding);
            Requests.Enqueue(seen);
            if (!await Fault(seen, context))
            {
                await answer(seen, context);
            }
        });
        return app;
    }

    private async Task AnswerHub(SeenRequest seen, HttpContext context)
    {
        string token = ((string?)context.Request.Headers.Authorization)?["Bearer ".Length..] ?? string.Empty;
        string valid = ValidToken, weak = _table.GetProperty("tokens").GetProperty("without access").GetString()!;
        string[] parts = seen.Path.TrimStart('/').Split('/');
        bool isListing = parts is ["api", "models", ..], isCached = parts is ["api", "resolve-cache", ..];
        var (owner, name, rest) = (isListing, isCached) switch
        {
            (true, _) => (parts[2], parts[3], parts.Length > 5 ? parts[5..] : ["main"]),
            (_, true) => (parts[3], parts[4], parts[5..]),
            _ => (parts[0], parts[1], parts[3..]),
        };
        if (token.Length > 0 && token != valid && token != weak)
        {
            await Refuse(context, 401, null, "Invalid credentials in Authorization header");
            return;
        }

        if (owner == _table.GetProperty("owner").GetString() && _table.GetProperty("moved").TryGetProperty(name, out var now))
        {
            context.Response.StatusCode = 307;
            context.Response.Headers.Location = seen.Path.Replace($"{owner}/{name}", $"{owner}/{now.GetString()}", StringComparison.Ordinal);
            context.Response.ContentLength = 0;
            return;
        }

        if (!_table.GetProperty("repositories").TryGetProperty(name, out var repository) || (repository.GetProperty("private").GetBoolean() && token != valid))
        {
            await Refuse(context, token.Length > 0 ? 404 : 401, "RepoNotFound", "Repository not found");
            return;
        }

        string revision = Uri.UnescapeDataString(rest[0]);
        string? commit = repository.GetProperty("commits").TryGetProperty(revision, out _) ? revision
            : repository.GetProperty("refs").TryGetProperty(revision, out var reference) ? reference.GetString() : null;
        if (commit is null)
        {
            await Refuse(context, 404, "RevisionNotFound", $"Invalid rev id: {revision}");
            return;
        }

        if (isListing)
        {
            await List(context, $"{owner}/{name}", repository, commit);
            return;
        }

        if (repository.GetProperty("gated").ValueKind == JsonValueKind.String && token != valid)
        {
            string why = token.Length > 0 ? "You are not in the authorized list." : "You must be authenticated to access it.";
            await Refuse(context, token.Length > 0 ? 403 : 401, "GatedRepo", $"Access to model {owner}/{name} is restricted. {why}");
            return;
        }

        await Resolve(context, seen, $"{owner}/{name}", repository, commit, Uri.UnescapeDataString(string.Join('/', rest[1..])), isCached);
    }

    private async Task List(HttpContext context, string id, JsonElement repository, string commit)
    {
        var files = repository.GetProperty("commits").GetProperty(commit).EnumerateObject().Select(file => file.Name).Concat(_added.Keys).Order(StringComparer.Ordinal);
        byte[] body = JsonSerializer.SerializeToUtf8Bytes(new
        {
            id, sha = commit, @private = repository.GetProperty("private"), gated = repository.GetProperty("gated"),
            siblings = files.Select(rfilename => new { rfilename }),
        });
        context.Response.ContentType = "application/json; charset=utf-8";
        await Send(context, 200, body);
    }

    private async Task Resolve(HttpContext context, SeenRequest seen, string id, JsonElement repository, string commit, string path, bool isCached)
    {
        var response = context.Response;
        response.Headers["X-Repo-Commit"] = commit;
        bool isAdded = _added.TryGetValue(path, out byte[]? content);
        if (!repository.GetProperty("commits").GetProperty(commit).TryGetProperty(path, out var file) && !isAdded)
        {
            await Refuse(context, 404, "EntryNotFound", "Entry not found");
            return;
        }

        string etag = isAdded ? Convert.ToHexStringLower(SHA256.HashData(content!)) : file.GetProperty("etag").GetString()!;
        if (isAdded || file.GetProperty("stored").GetBoolean())
        {
            response.StatusCode = 302;
            response.Headers.Location = $"{StorageAddress}/{etag[..2]}/{etag}?signature=abc";
            response.Headers["X-Linked-ETag"] = $"\"{etag}\"";
            response.Headers["X-Linked-Size"] = $"{(isAdded ? content!.Length : file.GetProperty("size").GetInt64())}";
            response.Headers.AcceptRanges = "bytes";
            response.ContentLength = 0;
        }
        else if (path == "README.md" && !isCached)
        {
            response.StatusCode = 307;
            response.Headers.Location = $"/api/resolve-cache/models/{id}/{commit}/{path}";
            response.ContentLength = 0;
        }
        else
        {
            response.Headers.ETag = isCached ? $"W/\"{etag}\"" : $"\"{etag}\"";
            response.Headers.AcceptRanges = "bytes";
            response.ContentType = "text/plain; charset=utf-8";
            await Send(context, 200, await File.ReadAllBytesAsync(_fixture.File($"files/{etag}")));
        }
    }

    private async Task AnswerStorage(SeenRequest seen, HttpContext context)
    {
        if (seen.HasToken)
        {
            await Send(context, 400, "a signed address wants no Authorization header"u8.ToArray());
            return;
        }

        byte[] content = Content(seen.Path);
        context.Response.Headers.AcceptRanges = "bytes";
        context.Response.ContentType = "application/octet-stream";
        long from = 0, to = content.Length - 1;
        if (seen.Range is { } range)
        {
            string[] ends = range["bytes=".Length..].Split('-');
            (from, to) = (long.Parse(ends[0], System.Globalization.CultureInfo.InvariantCulture), ends[1].Length > 0 ? long.Parse(ends[1], System.Globalization.CultureInfo.InvariantCulture) : to);
            if (from >= content.Length)
            {
                context.Response.Headers.ContentRange = $"bytes */{content.Length}";
                await Send(context, 416, []);
                return;
            }

            context.Response.Headers.ContentRange = $"bytes {from}-{to}/{content.Length}";
        }

        await Send(context, seen.Range is null ? 200 : 206, content[(int)from..(int)(to + 1)]);
    }

    /// <summary>The content behind an address of the storage.</summary>
    public byte[] Content(string path)
    {
        string etag = path.Split('/')[2].Split('?')[0];
        return _added.Values.FirstOrDefault(content => Convert.ToHexStringLower(SHA256.HashData(content)) == etag) ?? File.ReadAllBytes(_fixture.File($"files/{etag}"));
    }

    private static async Task Refuse(HttpContext context, int status, string? code, string message)
    {
        if (code is not null)
        {
            context.Response.Headers["X-Error-Code"] = code;
        }

        context.Response.Headers["X-Error-Message"] = message;
        context.Response.ContentType = "application/json; charset=utf-8";
        await Send(context, status, Encoding.UTF8.GetBytes($"{{\"error\": \"{message}\"}}"));
    }

    private static async Task Send(HttpContext context, int status, byte[] body)
    {
        context.Response.StatusCode = status;
        context.Response.ContentLength = body.Length;
        if (context.Request.Method != "HEAD")
        {
            await context.Response.Body.WriteAsync(body);
        }
    }
}
