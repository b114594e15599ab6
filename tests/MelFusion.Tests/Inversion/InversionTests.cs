using MelFusion.Inversion;
using MelFusion.Noise;
using Shouldly;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace MelFusion.Tests.Inversion;

public class InversionTests
{
    [Theory]
    [InlineData(0, 1)]
    [InlineData(100, 1)] // a tie between 1 and 201 goes to the lower
    [InlineData(101, 1)]
    [InlineData(102, 201)]
    [InlineData(999, 401)]
    public void The_nearest_timestep_is_taken_and_the_lower_on_a_tie(long t, long expected)
    {
        long[] rising = [1, 201, 401], falling = [401, 201, 1];

        rising[NearestTimestep.IndexIn(rising, t)].ShouldBe(expected);
        falling[NearestTimestep.IndexIn(falling, t)].ShouldBe(expected);
    }

    [Fact]
    public void A_smooth_denoiser_is_inverted_the_better_the_more_steps_there_are()
    {
        using var scope = NewDisposeScope();
        var schedule = new NoiseSchedule(new());
        var latent = randn([1, 2, 4, 4], generator: new Generator(3));
        double[] errors = [.. new[] { 10, 50, 250 }.Select(steps => RoundTrip(schedule, latent, steps))];

        errors[1].ShouldBeLessThan(errors[0] / 2);
        errors[2].ShouldBeLessThan(errors[1] / 2);
    }

    [Fact]
    public void An_inversion_is_left_at_once_when_it_is_cancelled()
    {
        using var scope = NewDisposeScope();
        using var source = new CancellationTokenSource();
        int calls = 0;
        var inverter = new DdimInverter(new NoiseSchedule(new()), (z, _) => ++calls < 3 ? zeros_like(z) : Cancel(z));

        Should.Throw<OperationCanceledException>(() => inverter.Invert(zeros(1, 1, 2, 2), 50, cancellation: source.Token));
        calls.ShouldBe(3);

        Tensor Cancel(Tensor z)
        {
            source.Cancel();
            return zeros_like(z);
        }
    }

    [Theory]
    [InlineData(25, 1, 25, 961)]
    [InlineData(25, 0.5, 13, 481)]
    [InlineData(50, 0.5, 25, 481)]
    [InlineData(25, 0.961, 24, 921)]
    [InlineData(25, 0.962, 25, 961)]
    [InlineData(25, 0.001, 1, 1)]
    public void An_inversion_passes_the_timesteps_below_its_depth_and_always_the_first(int steps, double depth, int count, long deepest)
    {
        var timesteps = DdimInverter.Timesteps(new(new()), steps, depth);

        (timesteps.Count, timesteps[0], timesteps[^1]).ShouldBe((count, 1, deepest));
        timesteps.ShouldBeInOrder();
    }

    private static double RoundTrip(NoiseSchedule schedule, Tensor latent, int steps)
    {
        using var scope = NewDisposeScope();
        Tensor Predict(Tensor z, long t) => (0.2 + (0.3 * t / 1000)) * z;
        using var trajectory = new DdimInverter(schedule, Predict).Invert(latent, steps);
        var (ddim, z) = (new DdimStep(schedule, steps), trajectory.Deepest);
        foreach (long t in ddim.Timesteps)
        {
            z = ddim.Down(Predict(z, t), z, t).Latent;
        }

        return (z - latent).abs().mean().item<float>() / latent.abs().mean().item<float>();
    }
}
