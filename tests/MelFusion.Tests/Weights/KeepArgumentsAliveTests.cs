using Shouldly;
using Xunit;
using static TorchSharp.torch;

namespace MelFusion.Tests.Weights;

/// <summary>TorchSharp as eng/KeepArgumentsAlive.cs leaves it, with collections all the while.</summary>
public sealed class KeepArgumentsAliveTests
{
    private const int Rounds = 100_000; // TorchSharp as it comes gets some ten of them wrong, or fails

    [Fact]
    public void A_number_lives_until_libtorch_has_read_it()
    {
        using var done = new CancellationTokenSource();
        var collector = new Thread(() =>
        {
            while (!done.IsCancellationRequested)
            {
                GC.Collect(0);
                GC.WaitForPendingFinalizers();
                Thread.SpinWait(20_000);
            }
        });
        collector.Start();
        try
        {
            using var x = ones(4);
            for (int i = 0; i < Rounds; i++)
            {
                using var scope = NewDisposeScope();
                (x * 0.5 + 3)[0].item<float>().ShouldBe(3.5f);
            }
        }
        finally
        {
            done.Cancel();
            collector.Join();
        }
    }
}
