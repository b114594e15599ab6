using System.Diagnostics;
using System.Security.Cryptography;
using System.Text.Json;
using System.Text.RegularExpressions;
using MelFusion.Tests.Support;
using MelFusion.Weights.Hub;
using Microsoft.AspNetCore.Http;
using Shouldly;
using Xunit;

namespace MelFusion.Tests.Weights.Hub;

public sealed partial class HubClientTests : IAsyncLifetime
{
    private const string Tiny = "melfusion-tests/tiny";
    private readonly TemporaryFolder _home = new();
    private FakeHub _hub = null!;

    public async ValueTask InitializeAsync() => _hub = await FakeHub.StartAsync();

    public async ValueTask DisposeAsync()
    {
        await _hub.DisposeAsync();
        _home.Dispose();
    }

    [Fact, Trait("Category", "Parity")]
    public async Task The_test_hub_answers_as_the_recorded_one()
    {
        using var fixture = Fixture.Open("hub");
        using var exchanges = fixture.Json("exchanges.json");
        using var client = new HttpClient(new HttpClientHandler { AllowAutoRedirect = false });
        foreach (var exchange in exchanges.RootElement.EnumerateArray())
        {
            var (request, expected) = (exchange.GetProperty("request"), exchange.GetProperty("response"));
            string name = exchange.GetProperty("name").GetString()!;
            string to = request.GetProperty("to").GetString() == "hub" ? _hub.Endpoint : _hub.StorageAddress;
            using var message = new HttpRequestMessage(new HttpMethod(request.GetProperty("method").GetString()!), to + request.GetProperty("path").GetString());
            AddHeader("token", "Authorization", "Bearer ");
            AddHeader("range", "Range", string.Empty);

            using var response = await client.SendAsync(message, TestContext.Current.CancellationToken);

            ((int)response.StatusCode).ShouldBe(expected.GetProperty("status").GetInt32(), name);
            foreach (var header in expected.GetProperty("headers").EnumerateObject().Where(header => header.Name is "Location" or "X-Repo-Commit" or "X-Linked-ETag" or "X-Linked-Size" or "X-Error-Code" or "X-Error-Message" or "Content-Range"))
            {
                HubTransfer.Header(response, header.Name).ShouldBe(header.Value.GetString()!.Replace("{storage}", _hub.StorageAddress), name);
            }

            void AddHeader(string field, string header, string prefix)
            {
                if (request.TryGetProperty(field, out var value) && value.ValueKind == JsonValueKind.String)
                {
                    message.Headers.TryAddWithoutValidation(header, prefix + value.GetString());
                }
            }
        }
    }

    [Fact, Trait("Category", "Parity")]
    public async Task Requests_results_and_cache_equal_those_of_the_public_client()
    {
        using var fixture = Fixture.Open("hub");
        using var cases = fixture.Json("client.json");
        bool isShared = true;
        foreach (var one in cases.RootElement.EnumerateArray())
        {
            string name = one.GetProperty("name").GetString()!;
            isShared &= name != "patterns";
            await RunCase(one, name, isShared || name.StartsWith("called again", StringComparison.Ordinal));
        }
    }

    [Fact]
    public async Task A_token_goes_to_the_hub_and_never_to_the_storage()
    {
        using var client = Client(token: _hub.ValidToken);

        await client.PullAsync(Tiny, cancellation: TestContext.Current.CancellationToken);

        _hub.Requests.Where(request => request.To == "storage").ShouldAllBe(request => !request.HasToken);
        _hub.Requests.Where(request => request.To == "hub").ShouldAllBe(request => request.HasToken);
        _hub.Requests.Count(request => request.To == "storage").ShouldBe(2);
    }

    [Fact]
    public async Task A_connection_that_drops_again_and_again_is_taken_up_where_it_broke_off()
    {
        byte[] content = RandomNumberGenerator.GetBytes(300_000);
        _hub.AddLargeFile("weights.bin", content);
        _hub.Fault = Drop(70_000);
        using var client = Client();

        string path = await client.PullFileAsync(Tiny, "weights.bin", cancellation: TestContext.Current.CancellationToken);

        (await File.ReadAllBytesAsync(path, TestContext.Current.CancellationToken)).ShouldBe(content);
        var ranges = _hub.Requests.Where(request => request.To == "storage").Select(request => request.Range).ToList();
        ranges.Count.ShouldBeGreaterThan(3);
        ranges.Skip(1).ShouldAllBe(range => range != null);
        Leftovers().ShouldBeEmpty();
    }

    [Theory]
    [InlineData(429)]
    [InlineData(500)]
    [InlineData(503)]
    public async Task A_busy_hub_is_asked_again(int status)
    {
        int failures = 2;
        _hub.Fault = (_, context) =>
        {
            context.Response.StatusCode = status;
            return Task.FromResult(Interlocked.Decrement(ref failures) >= 0);
        };
        using var client = Client();

        File.Exists(await client.PullFileAsync(Tiny, "big.bin", cancellation: TestContext.Current.CancellationToken)).ShouldBeTrue();
    }

    [Fact]
    public async Task A_storage_that_ignores_the_range_starts_anew_and_the_hash_is_right()
    {
        using var client = Client();
        PutPartial(1000, wrong: false);
        _hub.Fault = async (seen, context) =>
        {
            if (seen.To == "storage")
            {
                byte[] content = _hub.Content(seen.Path);
                context.Response.ContentLength = content.Length;
                await context.Response.Body.WriteAsync(content);
            }

            return seen.To == "storage";
        };

        string path = await client.PullFileAsync(Tiny, "big.bin", cancellation: TestContext.Current.CancellationToken);

        ShouldBeBig(path);
    }

    [Fact]
    public async Task A_partial_file_with_wrong_content_is_found_by_its_hash_and_fetched_anew()
    {
        using var client = Client();
        PutPartial(1000, wrong: true);

        string path = await client.PullFileAsync(Tiny, "big.bin", cancellation: TestContext.Current.CancellationToken);

        ShouldBeBig(path);
        _hub.Requests.Where(request => request.To == "storage").Select(request => request.Range).ShouldBe(["bytes=1000-", null]);
    }

    [Theory]
    [InlineData("wrong bytes", "another hash")]
    [InlineData("too long", "longer than")]
    [InlineData("too short", "broke off")]
    public async Task A_storage_that_lies_is_found_out_and_nothing_is_kept(string how, string why)
    {
        _hub.Fault = async (seen, context) =>
        {
            if (seen.To == "storage")
            {
                await context.Response.Body.WriteAsync(new byte[how == "too long" ? 3001 : how == "too short" ? seen.Range is null ? 2999 : 0 : 3000]);
            }

            return seen.To == "storage";
        };
        using var client = Client();

        var refused = await Should.ThrowAsync<HubException>(client.PullFileAsync(Tiny, "big.bin", cancellation: TestContext.Current.CancellationToken));

        refused.Message.ShouldContain(why);
        Directory.Exists(Path.Combine(client.Cache.Folder, "models--melfusion-tests--tiny", "snapshots")).ShouldBeFalse();
    }

    [Fact]
    public async Task A_hub_that_sends_out_of_the_folder_is_refused()
    {
        _hub.Fault = async (_, context) =>
        {
            await context.Response.WriteAsync("{\"sha\":\"0fcc62d8fdfc4d6d6824eab9ea75e4a7f43ea52a\",\"siblings\":[{\"rfilename\":\"../../../escape\"}]}");
            return true;
        };
        using var client = Client();

        (await Should.ThrowAsync<HubException>(client.PullAsync(Tiny, cancellation: TestContext.Current.CancellationToken))).Error.ShouldBe(HubError.MalformedName);
    }

    [Fact]
    public async Task Something_that_is_no_hub_is_said_to_be_none()
    {
        _hub.Fault = async (_, context) =>
        {
            await context.Response.WriteAsync("<html>a captive portal</html>");
            return true;
        };
        using var client = Client();

        (await Should.ThrowAsync<HubException>(client.PullAsync(Tiny, cancellation: TestContext.Current.CancellationToken))).Message.ShouldContain("HF_ENDPOINT");
        (await Should.ThrowAsync<HubException>(client.PullFileAsync(Tiny, "a.bin", cancellation: TestContext.Current.CancellationToken))).Message.ShouldContain("HF_ENDPOINT");
    }

    [Fact]
    public async Task Too_little_room_on_the_disk_is_said_before_anything_is_fetched()
    {
        using var client = new HubClient(Settings(), null, () => 1000);

        var refused = await Should.ThrowAsync<HubException>(client.PullAsync(Tiny, cancellation: TestContext.Current.CancellationToken));

        refused.Error.ShouldBe(HubError.DiskFull);
        _hub.Requests.ShouldAllBe(request => request.To == "hub");
    }

    [Fact]
    public async Task Two_clients_that_pull_at_once_do_not_harm_each_other()
    {
        byte[] content = RandomNumberGenerator.GetBytes(2_000_000);
        string etag = _hub.AddLargeFile("weights.bin", content);
        using HubClient first = Client(), second = Client();

        var both = await Task.WhenAll(
            first.PullAsync(Tiny, cancellation: TestContext.Current.CancellationToken),
            second.PullAsync(Tiny, cancellation: TestContext.Current.CancellationToken));

        both[0].Folder.ShouldBe(both[1].Folder);
        first.Cache.Verify(Tiny, TestContext.Current.CancellationToken).ShouldBeEmpty();
        _hub.Requests.Count(request => request.To == "storage" && request.Path.Contains(etag)).ShouldBe(1);
        Leftovers().ShouldBeEmpty();
    }

    [Fact]
    public async Task A_cancelled_pull_keeps_its_part_and_the_next_one_goes_on()
    {
        byte[] content = RandomNumberGenerator.GetBytes(400_000);
        _hub.AddLargeFile("weights.bin", content);
        using var cancel = new CancellationTokenSource();
        _hub.Fault = async (seen, context) =>
        {
            if (seen.To == "storage" && seen.Range is null)
            {
                context.Response.ContentLength = content.Length;
                await context.Response.Body.WriteAsync(content.AsMemory(0, 200_000));
                await context.Response.Body.FlushAsync();
                await Task.Delay(300);
                await cancel.CancelAsync();
                await Task.Delay(100);
                return true;
            }

            return false;
        };
        using var client = Client();
        await Should.ThrowAsync<OperationCanceledException>(client.PullFileAsync(Tiny, "weights.bin", cancellation: cancel.Token));

        string path = await client.PullFileAsync(Tiny, "weights.bin", cancellation: TestContext.Current.CancellationToken);

        (await File.ReadAllBytesAsync(path, TestContext.Current.CancellationToken)).ShouldBe(content);
        _hub.Requests.Last(request => request.To == "storage").Range.ShouldBe("bytes=200000-");
    }

    [Fact]
    public async Task Verify_finds_a_changed_file_and_remove_takes_a_repository_away()
    {
        using var client = Client();
        var snapshot = await client.PullAsync(Tiny, cancellation: TestContext.Current.CancellationToken);
        client.Cache.Verify(Tiny, TestContext.Current.CancellationToken).ShouldBeEmpty();
        client.Cache.List().Single().Name.ShouldBe(Tiny);

        string changed = Path.Combine(snapshot.Folder, "big.bin");
        byte[] bytes = await File.ReadAllBytesAsync(changed, TestContext.Current.CancellationToken);
        bytes[17] ^= 1;
        await File.WriteAllBytesAsync(changed, bytes, TestContext.Current.CancellationToken);
        File.Delete(File.ResolveLinkTarget(Path.Combine(snapshot.Folder, "config.json"), true)!.FullName);

        client.Cache.Verify(Tiny, TestContext.Current.CancellationToken).Select(problem => Path.GetFileName(problem.Path)).ShouldBe(["big.bin", "config.json"]);
        client.Cache.Remove(Tiny).ShouldBeGreaterThan(3000);
        client.Cache.List().ShouldBeEmpty();
    }

    [Fact]
    public void Safetensors_are_preferred_to_the_same_weights_as_pickles()
    {
        string[] files =
        [
            "unet/config.json", "unet/diffusion_pytorch_model.bin", "unet/diffusion_pytorch_model.safetensors", "text_encoder/pytorch_model.bin",
            "text_encoder/model.safetensors", "big/pytorch_model-00001-of-00002.bin", "big/pytorch_model.bin.index.json", "big/model.safetensors.index.json",
            "big/model-00001-of-00003.safetensors", "pytorch_model_main.bin",
        ];

        HubClient.Choose(files, null, null).ShouldBe(
        [
            "unet/config.json", "unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors", "big/model.safetensors.index.json",
            "big/model-00001-of-00003.safetensors", "pytorch_model_main.bin",
        ]);
        HubClient.Choose(files, ["*.bin"], ["big/"]).ShouldBe(["unet/diffusion_pytorch_model.bin", "text_encoder/pytorch_model.bin", "pytorch_model_main.bin"]);
    }

    [Theory]
    [InlineData("unet/a.json", "*.json", true)]
    [InlineData("unet/a.json", "unet/", true)]
    [InlineData("unet/a.json", "?net/[a-c].json", true)]
    [InlineData("unet/a.json", "[!u]net/*", false)]
    [InlineData("unet/a.json", "*.jso", false)]
    [InlineData("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", "*a*a*a*a*a*a*a*a*a*c", false)]
    public void Patterns_match_as_a_shell_matches_them(string path, string pattern, bool matches) =>
        ShellPattern.Matches(path, pattern).ShouldBe(matches);

    private static readonly Dictionary<string, HubError> Errors = new()
    {
        ["EntryNotFoundError"] = HubError.EntryNotFound, ["RevisionNotFoundError"] = HubError.RevisionNotFound,
        ["RepositoryNotFoundError"] = HubError.RepositoryNotFound, ["GatedRepoError"] = HubError.Gated,
        ["LocalEntryNotFoundError"] = HubError.NotCached, ["HfHubHTTPError"] = HubError.Http, ["HFValidationError"] = HubError.MalformedName,
    };

    private async Task RunCase(JsonElement one, string name, bool keepsCache)
    {
        if (!keepsCache && Directory.Exists(_home.File("hub")))
        {
            Directory.Delete(_home.File("hub"), true);
        }

        _hub.Requests.Clear();
        _hub.Fault = name.StartsWith("line drops", StringComparison.Ordinal) ? Drop(700) : (_, _) => Task.FromResult(false);
        if (name.StartsWith("resumes a partial", StringComparison.Ordinal))
        {
            PutPartial(1000, wrong: false);
        }

        if (name.StartsWith("token from the file", StringComparison.Ordinal))
        {
            await File.WriteAllTextAsync(_home.File("token"), _hub.ValidToken + "\n");
        }

        var environment = one.GetProperty("environment").EnumerateObject().ToDictionary(v => v.Name, v => v.Value.GetString()!.Replace("{home}", _home.Path));
        environment.TryAdd("HF_HOME", _home.Path);
        environment.TryAdd("HF_ENDPOINT", name.Contains("unreachable") ? "http://127.0.0.1:9" : _hub.Endpoint + "/");
        using var client = new HubClient(HubSettings.FromEnvironment(environment.GetValueOrDefault) with { FirstDelay = TimeSpan.FromMilliseconds(1) });
        bool weDoBetter = name.StartsWith("line drops", StringComparison.Ordinal);
        bool hasIt = name.StartsWith("called again", StringComparison.Ordinal);

        if (one.TryGetProperty("error", out var error) && !weDoBetter)
        {
            (await Should.ThrowAsync<HubException>(Call(client, one), name)).Error.ShouldBe(Errors[error.GetString()!], name);
        }
        else
        {
            string path = await Call(client, one);
            path.ShouldBe(_home.File(one.TryGetProperty("path", out var expected) ? expected.GetString()! : Path.GetRelativePath(_home.Path, path)), name);
        }

        if (!weDoBetter && !hasIt)
        {
            _hub.Requests.Select(Shown).Order().ShouldBe(one.GetProperty("requests").EnumerateArray().Select(Shown).Order(), name);
        }

        if (one.TryGetProperty("cache", out var cache) && !weDoBetter)
        {
            Tree(_home.File("hub")).ShouldBe(cache.EnumerateObject().ToDictionary(file => file.Name, file => file.Value.GetString()!), ignoreOrder: true, name);
        }
    }

    private static async Task<string> Call(HubClient client, JsonElement one)
    {
        string call = one.GetProperty("call").GetString()!;
        var texts = TextPattern().Matches(call[..(call.IndexOf('=') is var equals and > 0 ? call.LastIndexOf(',', equals) : call.Length)]).Select(text => text.Groups[1].Value).ToList();
        string revision = RevisionPattern().Match(call) is { Success: true } match ? match.Groups[1].Value : "main";
        return call.StartsWith("h.hf_hub_download", StringComparison.Ordinal)
            ? await client.PullFileAsync(texts[0], texts[1], revision)
            : (await client.PullAsync(texts[0], revision, Patterns("allow_patterns"), Patterns("ignore_patterns"))).Folder;

        List<string>? Patterns(string name) => call.IndexOf(name, StringComparison.Ordinal) is var at and >= 0
            ? [.. TextPattern().Matches(call[at..call.IndexOf(']', at)]).Select(text => text.Groups[1].Value)]
            : null;
    }

    private static string Shown(SeenRequest request) => $"{request.To} {request.Method} {request.Path} {request.Range} {request.HasToken}";

    private static string Shown(JsonElement request) =>
        $"{request.GetProperty("to").GetString()} {request.GetProperty("method").GetString()} {request.GetProperty("path").GetString()} {(request.TryGetProperty("range", out var range) ? range.GetString() : null)} {request.GetProperty("token").GetBoolean()}";

    private static Dictionary<string, string> Tree(string folder) => !Directory.Exists(folder) ? [] : Directory.GetFiles(folder, "*", SearchOption.AllDirectories)
        .Select(file => (Path: Path.GetRelativePath(folder, file), File: new FileInfo(file)))
        .Where(file => !file.Path.StartsWith(".locks", StringComparison.Ordinal))
        .ToDictionary(file => file.Path, file => file.File.LinkTarget is { } target ? "-> " + target
            : file.Path.Contains("/refs/") ? File.ReadAllText(file.File.FullName)
            : $"{file.File.Length} bytes, sha256 {Convert.ToHexStringLower(SHA256.HashData(File.ReadAllBytes(file.File.FullName)))}");

    private Func<SeenRequest, HttpContext, Task<bool>> Drop(int after) => async (seen, context) =>
    {
        if (seen.To != "storage")
        {
            return false;
        }

        byte[] content = _hub.Content(seen.Path);
        int from = seen.Range is { } range ? int.Parse(range["bytes=".Length..^1], System.Globalization.CultureInfo.InvariantCulture) : 0;
        context.Response.StatusCode = seen.Range is null ? 200 : 206;
        context.Response.ContentLength = content.Length - from;
        if (seen.Range is not null)
        {
            context.Response.Headers.ContentRange = $"bytes {from}-{content.Length - 1}/{content.Length}";
        }

        await context.Response.Body.WriteAsync(content.AsMemory(from, Math.Min(after, content.Length - from)));
        await context.Response.Body.FlushAsync();
        if (content.Length - from > after)
        {
            await Task.Delay(20);
            context.Abort();
        }

        return true;
    };

    private void PutPartial(int length, bool wrong)
    {
        string etag = BigEtag(), folder = _home.File("hub/models--melfusion-tests--tiny/blobs");
        Directory.CreateDirectory(folder);
        byte[] part = _hub.Content($"/{etag[..2]}/{etag}")[..length];
        part[5] ^= (byte)(wrong ? 1 : 0);
        File.WriteAllBytes(Path.Combine(folder, etag + ".incomplete"), part);
    }

    private static string BigEtag()
    {
        using var fixture = Fixture.Open("hub");
        using var table = fixture.Json("repositories.json");
        var tiny = table.RootElement.GetProperty("repositories").GetProperty("tiny");
        return tiny.GetProperty("commits").GetProperty(tiny.GetProperty("refs").GetProperty("main").GetString()!).GetProperty("big.bin").GetProperty("etag").GetString()!;
    }

    private static void ShouldBeBig(string path) => Convert.ToHexStringLower(SHA256.HashData(File.ReadAllBytes(path))).ShouldBe(BigEtag());

    private string[] Leftovers() => Directory.GetFiles(_home.Path, "*.incomplete", SearchOption.AllDirectories);

    private HubClient Client(string? token = null) => new(Settings() with { Token = token });

    private HubSettings Settings() => new() { Endpoint = _hub.Endpoint, CacheFolder = _home.File("hub"), FirstDelay = TimeSpan.FromMilliseconds(1), LongestDelay = TimeSpan.FromMilliseconds(5) };

    [GeneratedRegex("'([^']*)'")]
    private static partial Regex TextPattern();

    [GeneratedRegex("revision='([^']*)'")]
    private static partial Regex RevisionPattern();
}
