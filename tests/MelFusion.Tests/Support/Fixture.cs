using System.Text.Json;
using MelFusion.Weights;
using Shouldly;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Tests.Support;

/// <summary>
/// One folder of reference inputs and outputs: from MELFUSION_FIXTURES where that is set and has it, else the repository's own copy.
/// </summary>
public sealed class Fixture : IDisposable
{
    private readonly Lazy<Safetensors> _io;
    private readonly string _own; // the repository's copy

    private Fixture(string name, string? folder = null)
    {
        _own = Path.Combine(Repository.Root, "tests", "fixtures", name);
        Folder = folder ?? _own;
        _io = new(() => Safetensors.Open(File("io.safetensors")));
    }

    /// <summary>The folder.</summary>
    public string Folder { get; }

    /// <summary>The reference tensors, io.safetensors.</summary>
    public Safetensors Io => _io.Value;

    /// <summary>Opens the fixture of a name such as "unet-image" or "clip-text/clip-l".</summary>
    public static Fixture Open(string name)
    {
        string? set = Environment.GetEnvironmentVariable("MELFUSION_FIXTURES");
        string given = Path.Combine(set ?? string.Empty, name);
        return !string.IsNullOrEmpty(set) && Directory.Exists(given) ? new(name, given) : OpenOwn(name);
    }

    /// <summary>The repository's own copy, for tests that change its files and so depend on what they are.</summary>
    public static Fixture OpenOwn(string name) => new(name);

    /// <summary>The path of a file in the folder; what another set lacks there is taken from the repository's own copy.</summary>
    public string File(string name)
    {
        string given = Path.Combine(Folder, name), own = Path.Combine(_own, name);
        return Path.Exists(given) || !Path.Exists(own) ? given : own;
    }

    /// <summary>A JSON file of the folder, config.json by default.</summary>
    public JsonDocument Json(string name = "config.json") => JsonDocument.Parse(System.IO.File.ReadAllText(File(name)));

    /// <summary>A reference tensor by name.</summary>
    public Tensor this[string name] => Io.Read(name);

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_io.IsValueCreated)
        {
            _io.Value.Dispose();
        }
    }
}

/// <summary>Comparing tensors with references.</summary>
public static class TensorAssertions
{
    /// <summary>max |actual - expected| is at most <paramref name="tolerance"/> x max |expected|.</summary>
    public static void ShouldMatch(this Tensor actual, Tensor expected, double tolerance = 1e-4, string? what = null)
    {
        actual.shape.ShouldBe(expected.shape, what);
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var (a, e) = (actual.detach().to(ScalarType.Float64), expected.detach().to(ScalarType.Float64));
        double largest = e.numel() == 0 ? 0 : e.abs().max().item<double>();
        double difference = e.numel() == 0 ? 0 : (a - e).abs().max().item<double>();
        (difference <= tolerance * largest).ShouldBeTrue($"{what}: differs by {difference:g3} where the largest expected value is {largest:g3} and {tolerance:g2} of it is allowed");
    }
}

/// <summary>Where this repository lies.</summary>
public static class Repository
{
    /// <summary>The folder of MelFusion.slnx.</summary>
    public static string Root { get; } = Find();

    private static string Find()
    {
        string? folder = AppContext.BaseDirectory;
        while (folder is not null && !File.Exists(Path.Combine(folder, "MelFusion.slnx")))
        {
            folder = Path.GetDirectoryName(folder);
        }

        return folder ?? throw new InvalidOperationException("The tests run from inside the repository.");
    }
}
