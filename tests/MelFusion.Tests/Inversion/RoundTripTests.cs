using MelFusion.Inversion;
using MelFusion.Noise;
using MelFusion.Tests.Support;
using MelFusion.UNet;
using MelFusion.Weights;
using Shouldly;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace MelFusion.Tests.Inversion;

/// <summary>The round trip of `schedules`: a latent inverted and generated again by the network of `unet-image`.</summary>
[Trait("Category", "Parity")]
public sealed class RoundTripTests : IDisposable
{
    private const double Tolerance = 1e-4;
    private readonly DisposeScope _scope = NewDisposeScope();
    private readonly IDisposable _noGrad = no_grad();
    private readonly Fixture _fixture = Fixture.Open("schedules"), _image = Fixture.Open("unet-image");

    public void Dispose()
    {
        _fixture.Dispose();
        _image.Dispose();
        _noGrad.Dispose();
        _scope.Dispose();
    }

    [Fact]
    public void A_latent_goes_to_noise_and_back_as_in_the_reference()
    {
        using var unet = _image.OpenUNet();
        var (inverted, regenerated) = RoundTrip(unet, 50);

        inverted.ShouldMatch(_fixture["round_trip.inverted"], Tolerance);
        regenerated.ShouldMatch(_fixture["round_trip.regenerated"], Tolerance);
        ErrorOf(regenerated).ShouldBe(Expected("50"), 0.01 * Expected("50"));
    }

    [Fact]
    public void The_round_trip_of_a_smoother_network_has_the_references_error_at_every_number_of_steps()
    {
        using var unet = _image.OpenUNet();
        unet.get_parameter("conv_out.weight")!.mul_(0.1);
        unet.get_parameter("conv_out.bias")!.mul_(0.1);
        var expected = Errors().GetProperty("damped").EnumerateObject().ToList();
        expected.ShouldNotBeEmpty();
        foreach (var error in expected)
        {
            int steps = int.Parse(error.Name, System.Globalization.CultureInfo.InvariantCulture);
            ErrorOf(RoundTrip(unet, steps).Regenerated).ShouldBe(error.Value.GetDouble(), 0.01 * error.Value.GetDouble(), error.Name);
        }
    }

    private (Tensor Inverted, Tensor Regenerated) RoundTrip(ConditionalUNet unet, int steps)
    {
        var config = ConfigFile.Parse<NoiseScheduleConfig>(Settings().GetProperty("schedule").GetRawText(), "settings.json");
        using var network = new PictureNetwork(unet, new(config), _fixture["round_trip.null_text"], Placement.Cpu);
        using var trajectory = new DdimInverter(network.Schedule, (z, t) => network.Predict(z, t)).Invert(_fixture["round_trip.latent"], steps);
        var (ddim, z) = (new DdimStep(network.Schedule, steps), trajectory.Deepest);
        foreach (long t in ddim.Timesteps)
        {
            z = ddim.Down(network.Predict(z, t), z, t).Latent;
        }

        return (trajectory.Deepest.alias(), z);
    }

    private double ErrorOf(Tensor regenerated)
    {
        var latent = _fixture["round_trip.latent"];
        return (regenerated - latent).abs().mean().item<float>() / latent.abs().mean().item<float>();
    }

    private double Expected(string steps) => Errors().GetProperty(steps).GetDouble();

    private System.Text.Json.JsonElement Errors() => Settings().GetProperty("round_trip_relative_error");

    private System.Text.Json.JsonElement Settings() =>
        System.Text.Json.JsonDocument.Parse(ConfigFile.StandardNumbers(File.ReadAllText(_fixture.File("settings.json")))).RootElement;
}
