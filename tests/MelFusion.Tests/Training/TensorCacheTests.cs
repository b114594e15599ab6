using MelFusion.Tests.Support;
using MelFusion.Training.Data;
using MelFusion.Training.Engine;
using Shouldly;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace MelFusion.Tests.Training;

/// <summary>What long preparations keep when they are stopped.</summary>
[Collection(nameof(TrainsAlone))]
public sealed class TensorCacheTests : IDisposable
{
    private const int Count = 10, Part = 3;

    private readonly TemporaryFolder _folder = new();
    private readonly List<int> _computed = [];

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void A_stopped_preparation_goes_on_after_the_parts_it_kept_and_leaves_one_file()
    {
        Should.Throw<OperationCanceledException>(() => Get("data", stopAt: 7));
        Directory.GetFiles(_folder.File("cache")).Length.ShouldBe(2, "two whole parts");

        _computed.Clear();
        var told = new List<int>();
        using var whole = Get("data", report: told.Add);

        _computed.Order().ShouldBe([6, 7, 8, 9]);
        told.Order().ShouldBe([7, 8, 9, 10]);
        whole.shape.ShouldBe([Count, 2]);
        whole.select(1, 1).to(ScalarType.Float32).data<float>().ShouldBe(Enumerable.Range(0, Count).Select(i => i + 0.5f));
        Directory.GetFiles(_folder.File("cache")).Select(Path.GetFileName).ShouldBe(["items.safetensors"]);
    }

    [Fact]
    public void What_was_kept_of_other_data_is_not_taken()
    {
        Should.Throw<OperationCanceledException>(() => Get("old", stopAt: 7));
        _computed.Clear();
        Get("new").Dispose();
        _computed.Order().ShouldBe(Enumerable.Range(0, Count));

        _computed.Clear();
        Get("new").Dispose();
        _computed.ShouldBeEmpty();
    }

    private Tensor Get(string from, int stopAt = Count, Action<int>? report = null)
    {
        using var pool = new WorkerPool(2, 1);
        return TensorCache.GetItems(_folder.File("cache/items.safetensors"), from, Count, Part, i =>
        {
            if (i >= stopAt)
            {
                throw new OperationCanceledException();
            }

            lock (_computed)
            {
                _computed.Add(i);
                return tensor(new[] { i, i + 0.5f });
            }
        }, pool, (done, _) =>
        {
            lock (_computed)
            {
                report?.Invoke(done);
            }
        });
    }
}
