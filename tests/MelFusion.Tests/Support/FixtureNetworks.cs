using MelFusion.UNet;
using MelFusion.Weights;

namespace MelFusion.Tests.Support;

/// <summary>Networks of fixtures, with their weights.</summary>
public static class FixtureNetworks
{
    /// <summary>The UNet of a fixture such as "unet-image".</summary>
    public static ConditionalUNet OpenUNet(string name)
    {
        using var fixture = Fixture.Open(name);
        return fixture.OpenUNet();
    }

    /// <summary>The UNet of this fixture.</summary>
    public static ConditionalUNet OpenUNet(this Fixture fixture)
    {
        var unet = new ConditionalUNet(ConfigFile.Read<UNetConfig>(fixture.File("config.json")), Placement.Cpu);
        using var weights = Safetensors.Open(fixture.File("model.safetensors"));
        unet.LoadFrom(weights);
        return unet;
    }
}
