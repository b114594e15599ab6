using System.Globalization;
using System.Text.Json;
using MelFusion.Weights;
using Shouldly;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Tests.Support;

/// <summary>Weights of full-size networks that a formula gives instead of a file: recipe.json of some fixtures.</summary>
internal sealed class ClosedFormWeights : WeightsFile
{
    private readonly Dictionary<string, (ulong Seed, double Offset, double Scale, bool Absolute)> _recipes = [];

    [System.Diagnostics.CodeAnalysis.SetsRequiredMembers]
    public ClosedFormWeights(string path)
    {
        Path = path;
        using var json = JsonDocument.Parse(File.ReadAllText(path));
        var tensors = new List<TensorEntry>();
        foreach (var tensor in json.RootElement.GetProperty("tensors").EnumerateArray())
        {
            string key = tensor.GetProperty("key").GetString()!;
            long[] shape = [.. tensor.GetProperty("shape").EnumerateArray().Select(axis => axis.GetInt64())];
            bool isFloat = tensor.GetProperty("dtype").GetString() == "F32";
            tensors.Add(new(key, isFloat ? ScalarType.Float32 : ScalarType.Int64, shape));
            if (isFloat)
            {
                _recipes[key] = (tensor.GetProperty("seed").GetUInt64(), tensor.GetProperty("offset").GetDouble(),
                    tensor.GetProperty("scale").GetDouble(), tensor.GetProperty("absolute").GetBoolean());
                CheckProbe(key, tensors[^1].Count, tensor.GetProperty("probe"));
            }
        }

        Tensors = tensors;
    }

    public override IReadOnlyList<TensorEntry> Tensors { get; }

    public override void ReadInto(string key, Tensor target)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var flat = target.detach().view(-1);
        for (long at = 0; at < flat.numel(); at += 1 << 20)
        {
            long start = at;
            var values = new float[Math.Min(1 << 20, flat.numel() - at)];
            for (int i = 0; i < values.Length; i++)
            {
                values[i] = Value(key, start + i);
            }

            flat.narrow(0, at, values.Length).copy_(torch.tensor(values));
        }
    }

    protected override void Dispose(bool disposing)
    {
    }

    private float Value(string key, long index)
    {
        var (seed, offset, scale, absolute) = _recipes[key];
        ulong z = seed + (ulong)index + 0x9E3779B97F4A7C15;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        z ^= z >> 31;
        double u = ((z >> 40) * (1.0 / (1 << 23))) - 1;
        return (float)(offset + (scale * (absolute ? Math.Abs(u) : u)));
    }

    private void CheckProbe(string key, long count, JsonElement probe)
    {
        long[] places = [0, count / 2, count - 1];
        string[] bits = [.. places.Select(place => BitConverter.SingleToUInt32Bits(Value(key, place)).ToString("x8", CultureInfo.InvariantCulture))];
        bits.ShouldBe(probe.EnumerateArray().Select(value => value.GetString()), key);
    }
}
