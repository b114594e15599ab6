using System.Globalization;
using MelFusion.Inversion;
using MelFusion.Training.Engine;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Training.Data;

/// <summary>
/// Every picture's inversion, once: the latents that the picture's UNet sees at each noise level, fp16. Training calls the frozen UNet on
/// them for K^I and V^I, exactly as sampling does; at a quarter of the music's positions and without a backward pass that costs little.
/// </summary>
internal sealed class TrajectorySet : IDisposable
{
    private const int Part = 16;

    private readonly Dictionary<string, int> _places;
    private readonly Tensor _latents; // (pictures, 1 + noise levels, views, C, H, W), the clean one first
    private readonly KeyValueSource _source;
    private readonly IReadOnlyList<long> _timesteps; // rising

    private TrajectorySet(IReadOnlyList<string> pictures, Tensor latents, KeyValueSource source, IReadOnlyList<long> timesteps)
    {
        (_latents, _source, _timesteps) = (latents, source, timesteps);
        _places = pictures.Select((picture, i) => (picture, i)).ToDictionary(pair => pair.picture, pair => pair.i, StringComparer.Ordinal);
    }

    /// <summary>Inverts pictures, or takes the cache's trajectories.</summary>
    /// <param name="path">The cache's file.</param>
    /// <param name="from">All that they depend on beside the pictures' names.</param>
    /// <param name="pictures">The pictures' names.</param>
    /// <param name="network">The picture's UNet.</param>
    /// <param name="latents">The clean scaled latents of a picture's views, (views, C, H, W), for its place in the list.</param>
    /// <param name="steps">Steps of a whole inversion.</param>
    /// <param name="depth">How far it goes, as a share of the schedule, above 0 to 1.</param>
    /// <param name="source">Which of the latents is seen at a noise level.</param>
    /// <param name="pool">Threads to work on.</param>
    /// <param name="report">Told the pictures done and their number.</param>
    /// <param name="cancel">Looked at before every step.</param>
    public static TrajectorySet Load(
        string path, string from, IReadOnlyList<string> pictures, PictureNetwork network, Func<int, Tensor> latents, int steps, double depth,
        KeyValueSource source, WorkerPool pool, Action<int, int>? report, CancellationToken cancel)
    {
        if (source == KeyValueSource.Replay)
        {
            throw new MelFusionException("key_value_source replay is a way of sampling; training takes recorded or trajectory.");
        }

        string far = depth < 1 ? string.Create(CultureInfo.InvariantCulture, $"{steps} to {depth}") : $"{steps}";
        var inverted = TensorCache.GetItems(path, $"{from} {far}\n{string.Join('\n', pictures)}", pictures.Count, Part, i =>
        {
            var clean = latents(i);
            using var trajectory = new DdimInverter(network.Schedule, (z, t) => network.Predict(z, t)).Invert(clean, steps, depth, cancellation: cancel);
            return stack([clean, .. trajectory.Latents], 0);
        }, pool, report);
        return new(pictures, inverted, source, DdimInverter.Timesteps(network.Schedule, steps, depth));
    }

    /// <summary>The latent that the picture's UNet sees for the music's timestep, and the timestep it is given: the nearest, the lower on a tie.</summary>
    /// <param name="picture">The picture.</param>
    /// <param name="t">The music's timestep.</param>
    /// <param name="view">Which of the picture's views.</param>
    /// <param name="otherSource">Whether the source that was not chosen is to be used, for a comparison.</param>
    public (Tensor Latent, long Timestep) At(string picture, long t, int view = 0, bool otherSource = false)
    {
        int index = NearestTimestep.IndexIn(_timesteps, t);
        int seen = _source == KeyValueSource.Recorded != otherSource ? index : index + 1;
        return (_latents[_places[picture], seen, view].to(ScalarType.Float32), _timesteps[index]);
    }

    /// <inheritdoc/>
    public void Dispose() => _latents.Dispose();
}
