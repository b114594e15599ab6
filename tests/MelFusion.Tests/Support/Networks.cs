using MelFusion.Weights;
using static TorchSharp.torch;

namespace MelFusion.Tests.Support;

/// <summary>Networks whose weights are numbers of no meaning, the same every time.</summary>
public static class Networks
{
    /// <summary>The network itself, its weights and biases drawn by one seed.</summary>
    public static TNetwork Filled<TNetwork>(TNetwork network) where TNetwork : nn.Module
    {
        Initialiser.Initialise(network, new Generator(1));
        return network;
    }
}
