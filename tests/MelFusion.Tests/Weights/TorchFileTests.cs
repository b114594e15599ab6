using System.Diagnostics;
using System.Text;
using System.Text.Json;
using MelFusion.Tests.Support;
using MelFusion.Weights;
using Shouldly;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace MelFusion.Tests.Weights;

[Trait("Category", "Parity")]
public class TorchFileTests
{
    private const string FixtureName = "torch-files";
    private const long MostBytes = 100_000_000;
    private static readonly TimeSpan MostTime = TimeSpan.FromSeconds(1);

    public static TheoryData<string> Cases(string expect)
    {
        using var fixture = Fixture.Open(FixtureName);
        using var cases = fixture.Json("cases.json");
        return new(cases.RootElement.EnumerateArray()
            .Where(one => one.GetProperty("expect").GetString() == expect)
            .Select(one => one.GetProperty("file").GetString()!));
    }

    [Theory, MemberData(nameof(Cases), "tensors")]
    public void A_readable_file_gives_its_tensors_bit_for_bit_in_the_order_of_the_file(string file)
    {
        using var scope = NewDisposeScope();
        using var fixture = Fixture.Open(FixtureName);
        var (at, keys) = Expected(fixture, file);

        using var weights = WeightsFile.Open(fixture.File(file), at);

        weights.Tensors.Select(tensor => tensor.Key).ShouldBe(keys);
        ShouldEqualReference(fixture, file, weights);
    }

    [Theory, MemberData(nameof(Cases), "tensors")]
    public void The_dict_that_holds_the_tensors_is_found_without_being_named(string file)
    {
        using var scope = NewDisposeScope();
        using var fixture = Fixture.Open(FixtureName);

        using var weights = WeightsFile.Open(fixture.File(file));

        weights.Tensors.Select(tensor => tensor.Key).ShouldBe(Expected(fixture, file).Keys);
    }

    [Theory, MemberData(nameof(Cases), "error")]
    public void A_hostile_or_broken_file_is_refused_with_a_reason_within_its_bounds(string file)
    {
        using var fixture = Fixture.Open(FixtureName);
        string path = fixture.File(file);
        var watch = Stopwatch.StartNew();
        long before = GC.GetAllocatedBytesForCurrentThread();

        var refused = Should.Throw<WeightsException>(() => WeightsFile.Open(path).Dispose());

        (GC.GetAllocatedBytesForCurrentThread() - before).ShouldBeLessThan(2 * MostBytes);
        watch.Elapsed.ShouldBeLessThan(MostTime);
        refused.Message.ShouldStartWith(Path.GetDirectoryName(path)!);
        refused.Message.Length.ShouldBeInRange(path.Length + 20, path.Length + 400);
    }

    [Theory, MemberData(nameof(Cases), "either")]
    public void A_file_that_may_be_taken_or_refused_ends_soon_either_way(string file)
    {
        using var fixture = Fixture.Open(FixtureName);
        var watch = Stopwatch.StartNew();
        try
        {
            using var scope = NewDisposeScope();
            using var weights = WeightsFile.Open(fixture.File(file));
            weights.Tensors.ToList().ForEach(tensor => weights.Read(tensor.Key));
        }
        catch (WeightsException refused)
        {
            refused.Message.ShouldStartWith(fixture.File(file));
        }

        watch.Elapsed.ShouldBeLessThan(2 * MostTime);
    }

    [Fact]
    public void A_refused_call_is_named_and_nothing_is_run_or_written()
    {
        using var fixture = Fixture.Open(FixtureName);
        string[] before = Directory.GetFileSystemEntries(fixture.Folder, "*", SearchOption.AllDirectories);

        Should.Throw<WeightsException>(() => WeightsFile.Open(fixture.File("broken/hostile-os-system.pt"))).Message.ShouldContain("os.system");
        Should.Throw<WeightsException>(() => WeightsFile.Open(fixture.File("broken/hostile-builtins-eval.pt"))).Message.ShouldContain("builtins.eval");

        Directory.GetFileSystemEntries(fixture.Folder, "*", SearchOption.AllDirectories).ShouldBe(before);
    }

    [Theory]
    [InlineData("broken/file-lfs-pointer.pt", "Git LFS pointer")]
    [InlineData("broken/file-html.pt", "web page")]
    [InlineData("broken/torchscript.pt", "TorchScript")]
    [InlineData("broken/zip-crc.pt", "checksum")]
    public void What_the_file_is_instead_is_called_by_its_name(string file, string name)
    {
        using var fixture = Fixture.Open(FixtureName);
        Should.Throw<WeightsException>(() => WeightsFile.Open(fixture.File(file))).Message.ShouldContain(name);
    }

    [Fact]
    public void A_dict_that_is_not_there_is_refused_with_the_names_of_those_that_are()
    {
        using var fixture = Fixture.Open(FixtureName);
        var (at, _) = Expected(fixture, "valid/named-state.pth");

        Should.Throw<WeightsException>(() => WeightsFile.Open(fixture.File("valid/named-state.pth"), "model")).Message.ShouldContain(at);
    }

    [Theory]
    [InlineData("{\"weight_map\":{\"w\":\"model.safetensors.index.json\"}}", "index itself")]
    [InlineData("{\"weight_map\":{\"w\":\"a\",\"w\":\"b\"}}", "twice")]
    [InlineData("{\"weight_map\":[]}", "weight_map")]
    [InlineData("{\"weight_map\":{\"w\":\"..\\\\secret\"}}", "not a file beside it")]
    [InlineData("{\"weight_map\":{\"w\":\"\"}}", "not a file beside it")]
    [InlineData("{\"weight_map\":{", "not a readable index")]
    public void An_index_that_lies_is_refused(string json, string why)
    {
        using var folder = new TemporaryFolder();
        string path = folder.File("model.safetensors.index.json");
        File.WriteAllText(path, json);

        Should.Throw<WeightsException>(() => WeightsFile.Open(path)).Message.ShouldContain(why);
    }

    [Fact]
    public void A_file_is_opened_by_what_is_in_it_whatever_its_name()
    {
        using var fixture = Fixture.Open(FixtureName);
        using var safetensors = Fixture.Open("safetensors");
        using var folder = new TemporaryFolder();
        File.Copy(fixture.File("valid/zip-dtypes.pt"), folder.File("zip.safetensors"));
        File.Copy(fixture.File("valid/legacy-dtypes.pt"), folder.File("legacy.safetensors"));
        File.Copy(safetensors.File("valid/dtypes.safetensors"), folder.File("safetensors.bin"));

        using WeightsFile zip = WeightsFile.Open(folder.File("zip.safetensors")), legacy = WeightsFile.Open(folder.File("legacy.safetensors")),
            plain = WeightsFile.Open(folder.File("safetensors.bin"));

        (zip is TorchFile, legacy is TorchFile, plain is Safetensors).ShouldBe((true, true, true));
    }

    [Fact]
    public void A_changed_byte_in_a_large_file_is_found_when_its_tensor_is_read()
    {
        using var scope = NewDisposeScope();
        using var folder = new TemporaryFolder();
        string path = folder.File("large.pt");
        var values = torch.rand([5_000_000], generator: new Generator(1));
        TorchFileWriter.Write(path, "w", values);
        using (var weights = WeightsFile.Open(path))
        {
            weights.Read("w").Equals(values).ShouldBeTrue();
            weights.Read("w", ScalarType.Float64).to(ScalarType.Float32).Equals(values).ShouldBeTrue();
        }

        using (var stream = new FileStream(path, FileMode.Open))
        {
            stream.Position = stream.Length / 2;
            int old = stream.ReadByte();
            stream.Position--;
            stream.WriteByte((byte)(old ^ 1));
        }

        using var changed = WeightsFile.Open(path);
        Should.Throw<WeightsException>(() => changed.Read("w")).Message.ShouldContain("checksum");
    }

    private static (string At, List<string> Keys) Expected(Fixture fixture, string file)
    {
        using var cases = fixture.Json("cases.json");
        var one = cases.RootElement.EnumerateArray().Single(one => one.GetProperty("file").GetString() == file);
        return (one.GetProperty("at").GetString()!, [.. one.GetProperty("keys").EnumerateArray().Select(key => key.GetString()!)]);
    }

    private static void ShouldEqualReference(Fixture fixture, string file, WeightsFile weights)
    {
        using var reference = Safetensors.Open(fixture.File("expected.safetensors"));
        string stem = Path.GetFileNameWithoutExtension(file);
        stem = reference.Tensors.Any(tensor => tensor.Key.StartsWith(stem + "/", StringComparison.Ordinal)) ? stem : Path.GetFileName(file);
        foreach (var entry in weights.Tensors)
        {
            var expected = reference.Find($"{stem}/{entry.Key}").ShouldNotBeNull($"{stem}/{entry.Key}");
            entry.Shape.ShouldBe(expected.Shape, entry.Key);
            entry.Dtype.ShouldBe(expected.Dtype, entry.Key);
            weights.Read(entry.Key).reshape(-1).bytes.SequenceEqual(reference.Read(expected.Key).reshape(-1).bytes).ShouldBeTrue(entry.Key);
        }
    }
}

/// <summary>Writes one float tensor as PyTorch's zip format keeps it: stored, with a checksum.</summary>
internal static class TorchFileWriter
{
    public static void Write(string path, string key, Tensor values)
    {
        using var archive = new System.IO.Compression.ZipArchive(File.Create(path), System.IO.Compression.ZipArchiveMode.Create);
        using (var pickle = archive.CreateEntry("archive/data.pkl", System.IO.Compression.CompressionLevel.NoCompression).Open())
        {
            pickle.Write(Pickle(key, values.numel()));
        }

        using var data = archive.CreateEntry("archive/data/0", System.IO.Compression.CompressionLevel.NoCompression).Open();
        data.Write(values.bytes);
    }

    private static byte[] Pickle(string key, long count) => Encoding.Latin1.GetBytes(
        $"\u0080\u0002}}{Text(key)}ctorch._utils\n_rebuild_tensor_v2\n(({Text("storage")}ctorch\nFloatStorage\n{Text("0")}{Text("cpu")}I{count}\ntQI0\n(I{count}\ntI1\n\u0085\u0089}}tRs.");

    private static string Text(string text) => "X" + Encoding.Latin1.GetString(BitConverter.GetBytes(text.Length)) + text;
}
