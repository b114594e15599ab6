using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Weights;

/// <summary>A network whose weights were published under several names: its files are seen through its own ones when it is loaded.</summary>
public interface IPublishedLayouts
{
    /// <summary>The file under the network's own names, whichever of the published layouts it has; what is no weight is left out.</summary>
    public WeightsFile InOwnNames(WeightsFile file);
}

/// <summary>Moves weights between a network and files: names and shapes are compared before anything is set.</summary>
public static class ModuleWeights
{
    /// <summary>
    /// Makes a network faster where only predictions are wanted: linear layers and convolutions bring their weights into the layout
    /// that the processor multiplies fastest, and give up the memory of the other one. No gradient reaches such a layer, and its weights can be
    /// neither read nor changed any more. One thread at a time may use the network. Nothing happens on a device or processor without such layouts.
    /// </summary>
    /// <returns>The network itself.</returns>
    public static TNetwork PackForInference<TNetwork>(this TNetwork network) where TNetwork : nn.Module
    {
        foreach (var layer in LibTorchC.HasPackedWeights ? network.modules().Prepend(network) : [])
        {
            switch (layer)
            {
                case Linear linear when linear.Weight.device_type == DeviceType.CPU:
                    linear.Pack();
                    break;
                case Conv1d convolution when convolution.Weight.device_type == DeviceType.CPU:
                    convolution.Pack();
                    break;
                case ConvTranspose1d convolution when convolution.Weight.device_type == DeviceType.CPU:
                    convolution.Pack();
                    break;
                case Conv2d convolution when convolution.Weight.device_type == DeviceType.CPU:
                    convolution.Pack();
                    break;
            }
        }

        return network;
    }

    /// <summary>Reads every parameter and buffer of a network from a file.</summary>
    /// <param name="module">The network; its memory is filled in place.</param>
    /// <param name="file">The file.</param>
    /// <param name="key">From the network's key to the file's, where they differ.</param>
    /// <param name="ignore">Keys of the file that may be left over; null: none.</param>
    /// <exception cref="WeightsException">A key is missing, left over, or has another shape.</exception>
    public static void LoadFrom(this nn.Module module, WeightsFile file, Func<string, string>? key = null, Func<string, bool>? ignore = null)
    {
        key ??= name => name;
        file = module is IPublishedLayouts layouts ? layouts.InOwnNames(file) : file; // only a view: the caller's file stays open
        using var noGrad = no_grad();
        var state = module.state_dict();
        var wanted = state.Keys.ToDictionary(name => name, key);
        Compare(file, state.Select(pair => (wanted[pair.Key], pair.Value.shape)).ToList(), ignore ?? (_ => false));
        foreach (var (name, tensor) in state)
        {
            file.ReadInto(wanted[name], tensor);
        }
    }

    /// <summary>
    /// Writes a published file as safetensors under the network's own names, one tensor after another: at no time is more than one of them
    /// in memory.
    /// </summary>
    /// <param name="module">The network the file is for; on the meta device it takes no memory.</param>
    /// <param name="file">The file, in any layout the network knows.</param>
    /// <param name="path">The file to write.</param>
    /// <exception cref="WeightsException">A key is missing, left over, or has another shape.</exception>
    public static void Convert(this nn.Module module, WeightsFile file, string path)
    {
        file = module is IPublishedLayouts layouts ? layouts.InOwnNames(file) : file;
        var state = module.state_dict();
        Compare(file, [.. state.Select(pair => (pair.Key, pair.Value.shape))], _ => false);
        Safetensors.Write(path, file);
    }

    private static void Compare(WeightsFile file, List<(string Key, long[] Shape)> wanted, Func<string, bool> ignore)
    {
        foreach (var (key, shape) in wanted)
        {
            var entry = file.Find(key) ?? throw new WeightsException(
                $"{file.Path}: the tensor '{key}' is missing; these weights belong to another network or another size of it.");
            if (!entry.Shape.SequenceEqual(shape))
            {
                throw new WeightsException(
                    $"{file.Path}: '{key}' has the shape ({string.Join(", ", entry.Shape)}) where the network has ({string.Join(", ", shape)}); "
                    + "config.json and the weights do not belong together.");
            }
        }

        var known = wanted.Select(pair => pair.Key).ToHashSet();
        if (file.Tensors.FirstOrDefault(entry => !known.Contains(entry.Key) && !ignore(entry.Key)) is { } extra)
        {
            throw new WeightsException($"{file.Path}: the network has no tensor '{extra.Key}'; these weights belong to another network or another size of it.");
        }
    }
}
