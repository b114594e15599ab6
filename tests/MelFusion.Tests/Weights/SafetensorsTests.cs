using System.Text.Json;
using MelFusion.Tests.Support;
using MelFusion.Weights;
using Shouldly;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace MelFusion.Tests.Weights;

[Trait("Category", "Parity")]
public class SafetensorsTests
{
    private const string FixtureName = "safetensors";

    public static TheoryData<string> Cases(string expect)
    {
        using var fixture = Fixture.Open(FixtureName);
        using var cases = fixture.Json("cases.json");
        return new(cases.RootElement.EnumerateArray()
            .Where(one => one.GetProperty("expect").GetString() == expect)
            .Select(one => one.GetProperty("file").GetString()!));
    }

    [Theory, MemberData(nameof(Cases), "accept")]
    public void A_valid_file_gives_its_tensors_bit_for_bit(string file)
    {
        using var scope = NewDisposeScope();
        using var fixture = Fixture.Open(FixtureName);
        using var cases = fixture.Json("cases.json");
        var expected = cases.RootElement.EnumerateArray().Single(one => one.GetProperty("file").GetString() == file);

        using var weights = Safetensors.Open(fixture.File(file));

        var tensors = expected.GetProperty("tensors").EnumerateObject().ToDictionary(tensor => tensor.Name, tensor => tensor.Value);
        weights.Tensors.Select(tensor => tensor.Key).ShouldBe(tensors.Keys, ignoreOrder: true);
        foreach (var (key, tensor) in tensors)
        {
            weights.Find(key)!.Shape.ShouldBe(tensor.GetProperty("shape").EnumerateArray().Select(axis => axis.GetInt64()));
            WeightsFile.DtypeName(weights.Find(key)!.Dtype).ShouldBe(tensor.GetProperty("dtype").GetString());
            Convert.ToHexStringLower(weights.Read(key).reshape(-1).bytes).ShouldBe(tensor.GetProperty("hex").GetString());
        }

        var metadata = expected.GetProperty("metadata");
        weights.Metadata.Count.ShouldBe(metadata.ValueKind == JsonValueKind.Object ? metadata.EnumerateObject().Count() : 0);
        weights.Metadata.ShouldAllBe(pair => metadata.GetProperty(pair.Key).GetString() == pair.Value);
    }

    [Theory, MemberData(nameof(Cases), "reject")]
    public void A_malformed_file_is_refused_with_a_reason_and_nothing_is_allocated(string file)
    {
        using var fixture = Fixture.Open(FixtureName);
        string path = fixture.File(file);
        long before = GC.GetAllocatedBytesForCurrentThread();

        var refused = Should.Throw<WeightsException>(() => Safetensors.Open(path).Dispose());

        refused.Message.ShouldStartWith(path);
        refused.Message.Length.ShouldBeInRange(path.Length + 20, path.Length + 400);
        (GC.GetAllocatedBytesForCurrentThread() - before).ShouldBeLessThan(2_000_000);
    }

    [Theory, MemberData(nameof(Cases), "either")]
    public void What_the_library_takes_by_accident_ends_at_once_either_way(string file)
    {
        using var fixture = Fixture.Open(FixtureName);
        try
        {
            using var scope = NewDisposeScope();
            using var weights = Safetensors.Open(fixture.File(file));
            weights.Tensors.ToList().ForEach(tensor => weights.Read(tensor.Key));
        }
        catch (WeightsException refused)
        {
            refused.Message.ShouldStartWith(fixture.File(file));
        }
    }

    [Theory]
    [InlineData("malformed/lfs-pointer.safetensors", "Git LFS pointer")]
    [InlineData("malformed/html.safetensors", "web page")]
    [InlineData("malformed/other-format.safetensors", "zip archive")]
    public void What_a_failed_download_leaves_is_called_by_its_name(string file, string name)
    {
        using var fixture = Fixture.Open(FixtureName);
        Should.Throw<WeightsException>(() => Safetensors.Open(fixture.File(file))).Message.ShouldContain(name);
    }

    [Fact]
    public void What_is_written_is_read_again_with_every_type_and_shape()
    {
        using var scope = NewDisposeScope();
        using var folder = new TemporaryFolder();
        var generator = new Generator(1);
        ScalarType[] types =
        [
            ScalarType.Bool, ScalarType.Byte, ScalarType.Int8, ScalarType.Int16, ScalarType.Int32, ScalarType.Int64,
            ScalarType.Float16, ScalarType.BFloat16, ScalarType.Float32, ScalarType.Float64,
        ];
        var tensors = types.ToDictionary(type => $"of.{type}", type => (torch.rand([3, 5], generator: generator) * 100).to(type));
        tensors["scalar"] = torch.tensor(4.5f);
        tensors["empty"] = torch.empty([0, 7]);
        tensors["transposed"] = torch.rand([4, 6], generator: generator).t();
        string path = folder.File("all.safetensors");

        Safetensors.Write(path, tensors, new Dictionary<string, string> { ["format"] = "pt", ["\"text\""] = "σ\n" });

        using var again = Safetensors.Open(path);
        again.Metadata["\"text\""].ShouldBe("σ\n");
        again.Tensors.Select(tensor => tensor.Key).ShouldBe(tensors.Keys.Order(StringComparer.Ordinal));
        foreach (var (key, value) in tensors)
        {
            again.Find(key)!.Dtype.ShouldBe(value.dtype);
            again.Read(key).Equals(value).ShouldBeTrue(key);
        }

        Directory.GetFiles(folder.Path).ShouldBe([path]);
    }

    [Fact]
    public void Floating_point_tensors_are_written_in_the_precision_that_is_asked_for()
    {
        using var scope = NewDisposeScope();
        using var folder = new TemporaryFolder();
        var (weight, steps) = (torch.tensor(new[] { 1f, 2.5f }), torch.tensor(3L));

        Safetensors.Write(folder.File("half.safetensors"), new Dictionary<string, Tensor> { ["w"] = weight, ["steps"] = steps }, dtype: ScalarType.Float16);

        using var again = Safetensors.Open(folder.File("half.safetensors"));
        again.Find("w")!.Dtype.ShouldBe(ScalarType.Float16);
        again.Find("steps")!.Dtype.ShouldBe(ScalarType.Int64);
        again.Read("w", ScalarType.Float32).Equals(weight).ShouldBeTrue();
    }

    [Fact]
    public void A_target_of_another_shape_is_refused_before_anything_is_read()
    {
        using var scope = NewDisposeScope();
        using var fixture = Fixture.Open(FixtureName);
        using var weights = Safetensors.Open(fixture.File("valid/padded.safetensors"));
        var first = weights.Tensors[0];

        Should.Throw<WeightsException>(() => weights.ReadInto(first.Key, torch.empty([first.Count + 1]))).Message.ShouldContain(first.Key);
    }

    [Theory]
    [InlineData(' ')]
    [InlineData('{')]
    public void A_header_whose_length_reads_like_text_is_still_a_header(char first)
    {
        using var scope = NewDisposeScope();
        using var folder = new TemporaryFolder();
        string path = folder.File("x.safetensors");
        Safetensors.Write(path, new Dictionary<string, Tensor> { ["x"] = arange(3) });
        byte[] bytes = File.ReadAllBytes(path);
        int header = (int)BitConverter.ToInt64(bytes), longer = 256 + first;
        byte[] padded = [.. BitConverter.GetBytes((long)longer), .. bytes[8..(8 + header)], .. Enumerable.Repeat((byte)' ', longer - header), .. bytes[(8 + header)..]];
        File.WriteAllBytes(path, padded);

        using var weights = WeightsFile.Open(path);

        weights.Read("x").data<long>().ToArray().ShouldBe([0, 1, 2]);
    }
}
