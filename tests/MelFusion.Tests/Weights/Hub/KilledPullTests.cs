using System.Diagnostics;
using System.Security.Cryptography;
using MelFusion.Tests.Support;
using MelFusion.Weights.Hub;
using Shouldly;
using Xunit;

namespace MelFusion.Tests.Weights.Hub;

public sealed class KilledPullTests
{
    private const int Size = 200_000_000;

    [Fact]
    public async Task A_pull_of_200_MB_that_is_killed_goes_on_where_it_was_and_leaves_no_orphan()
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "kill -9 is of Unix.");
        using var home = new TemporaryFolder();
        await using var hub = await FakeHub.StartAsync();
        byte[] content = RandomNumberGenerator.GetBytes(Size);
        string etag = hub.AddLargeFile("weights.bin", content);
        hub.Fault = async (seen, context) =>
        {
            // The first answer comes slowly enough to be killed in the middle.
            if (seen.To != "storage" || seen.Range is not null || !seen.Path.Contains(etag))
            {
                return false;
            }

            context.Response.ContentLength = Size;
            for (int at = 0; at < Size && !context.RequestAborted.IsCancellationRequested; at += 1 << 20)
            {
                await context.Response.Body.WriteAsync(content.AsMemory(at, Math.Min(1 << 20, Size - at)), context.RequestAborted);
                await Task.Delay(10, context.RequestAborted);
            }

            return true;
        };
        string partial = home.File($"hub/models--melfusion-tests--tiny/blobs/{etag}.incomplete");

        using (var first = Pull(hub, home))
        {
            var patience = Stopwatch.StartNew();
            while (!(File.Exists(partial) && new FileInfo(partial).Length > Size / 8))
            {
                first.HasExited.ShouldBeFalse();
                patience.Elapsed.ShouldBeLessThan(TimeSpan.FromMinutes(2));
                await Task.Delay(20, TestContext.Current.CancellationToken);
            }

            first.Kill(); // SIGKILL
            await first.WaitForExitAsync(TestContext.Current.CancellationToken);
        }

        long kept = new FileInfo(partial).Length;
        kept.ShouldBeInRange(Size / 8, Size - 1);
        using (var second = Pull(hub, home))
        {
            await second.WaitForExitAsync(TestContext.Current.CancellationToken);
            second.ExitCode.ShouldBe(0);
        }

        hub.Requests.Last(request => request.To == "storage" && request.Path.Contains(etag)).Range.ShouldBe($"bytes={kept}-");
        var cache = new HubCache(home.File("hub"));
        cache.Verify("melfusion-tests/tiny", TestContext.Current.CancellationToken).ShouldBeEmpty();
        Directory.GetFiles(home.Path, "*.incomplete", SearchOption.AllDirectories).ShouldBeEmpty();
        var blobs = Directory.GetFiles(Path.GetDirectoryName(partial)!).Select(Path.GetFullPath).ToHashSet();
        var linked = Directory.GetFiles(home.File("hub/models--melfusion-tests--tiny/snapshots"), "*", SearchOption.AllDirectories)
            .Select(file => File.ResolveLinkTarget(file, true)!.FullName).ToHashSet();
        blobs.SetEquals(linked).ShouldBeTrue();
    }

    [Fact]
    public async Task The_commands_list_verify_and_remove_see_what_pull_has_fetched()
    {
        using var home = new TemporaryFolder();
        await using var hub = await FakeHub.StartAsync();
        (await Run("pull", "melfusion-tests/tiny", "--include", "*.json", "--include", "unet/", "--json")).Output.ShouldContain("unet/config.json");
        (await Run("list")).Output.ShouldContain("melfusion-tests/tiny");
        (await Run("verify", "melfusion-tests/tiny")).Code.ShouldBe(0);

        foreach (string blob in Directory.GetFiles(home.File("hub/models--melfusion-tests--tiny/blobs")))
        {
            await File.AppendAllTextAsync(blob, "x", TestContext.Current.CancellationToken);
        }

        (await Run("verify", "melfusion-tests/tiny")).Code.ShouldBe(1);
        (await Run("remove", "melfusion-tests/tiny")).Code.ShouldBe(0);
        (await Run("verify", "melfusion-tests/tiny")).Code.ShouldBe(1);
        (await Run("pull", "a--b")).Code.ShouldBe(1);

        async Task<(int Code, string Output)> Run(params string[] args)
        {
            using var process = Start(hub, home, ["models", .. args]);
            string output = await process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
            await process.WaitForExitAsync(TestContext.Current.CancellationToken);
            return (process.ExitCode, output);
        }
    }

    private static Process Pull(FakeHub hub, TemporaryFolder home) => Start(hub, home, ["models", "pull", "melfusion-tests/tiny"]);

    private static Process Start(FakeHub hub, TemporaryFolder home, string[] args)
    {
        string built = Path.Combine(Repository.Root, "artifacts", "bin", "MelFusion.Cli", Path.GetFileName(AppContext.BaseDirectory.TrimEnd(Path.DirectorySeparatorChar)), "MelFusion.Cli");
        return Process.Start(new ProcessStartInfo(built, args)
        {
            Environment = { ["HF_ENDPOINT"] = hub.Endpoint, ["HF_HOME"] = home.Path, ["HF_HUB_CACHE"] = home.File("hub"), ["HF_TOKEN"] = string.Empty },
            RedirectStandardOutput = true,
        })!;
    }
}
