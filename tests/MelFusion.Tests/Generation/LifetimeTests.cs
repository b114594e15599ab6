using MelFusion.Tests.Support;
using Shouldly;
using Xunit;

namespace MelFusion.Tests.Generation;

/// <summary>These count what is alive in the process, so no other test runs beside them.</summary>
[CollectionDefinition(nameof(Alone), DisableParallelization = true)]
public sealed class Alone;

[Collection(nameof(Alone))]
[Trait("Category", "Memory")] // test.sh runs it in a process of its own: what other tests left behind is no part of it
public sealed class LifetimeTests
{
    [Fact]
    public void Fifty_generations_leave_as_many_live_tensors_as_one_and_no_more_memory()
    {
        using var folder = new TinyModel();
        using var model = folder.Load();
        var generator = new MusicGenerator(model);
        byte[] picture = TinyModel.Picture(1);
        long[] tensors = new long[50];
        long memoryAfterTen = Tensors.ResidentBytes();
        for (int i = 0; i < tensors.Length; i++)
        {
            generator.Generate(new MusicRequest { Image = picture, Prompt = "calm guitar", Seed = 7, KeyValueSource = (KeyValueSource)(i % 3), Sampler = (SamplerKind)(i % 3) });
            tensors[i] = Tensors.Live;
            if (i == 9)
            {
                memoryAfterTen = Tensors.ResidentBytes();
            }
        }

        tensors[3..].Distinct().Count().ShouldBe(1, string.Join(' ', tensors));
        ((double)Tensors.ResidentBytes()).ShouldBeLessThan(1.05 * memoryAfterTen);
    }
}
