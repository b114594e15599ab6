using MelFusion.KeyValue;
using MelFusion.Noise;
using static TorchSharp.torch;

namespace MelFusion.Inversion;

/// <summary>
/// K^I and V^I of a picture at every noise level the music passes (Algorithm 2). Where the music's timesteps are not those of the
/// inversion, the nearest one is taken, the lower on a tie; so where the inversion stops short of the noise, all noisier steps of the music read the picture
/// at the deepest level it reached.
/// </summary>
public abstract class PictureKeyValues : IDisposable
{
    /// <summary>Inverts a picture's latent and makes ready for the music's loop.</summary>
    /// <param name="source">Where K^I and V^I come from.</param>
    /// <param name="network">The picture's network.</param>
    /// <param name="recorder">Keeps the layers that the synapse wants.</param>
    /// <param name="latent">The picture's clean, scaled latent (B, C, H, W).</param>
    /// <param name="steps">Steps of a whole inversion.</param>
    /// <param name="musicTimesteps">The timesteps that will be asked for, falling.</param>
    /// <param name="depth">How far the picture is inverted, as a share of its schedule, above 0 to 1: 1 is to the noise.</param>
    /// <param name="stepDone">Told the number of inversion steps done, after each.</param>
    /// <param name="cancellation">Looked at before every call of the network, also later.</param>
    public static PictureKeyValues Invert(
        KeyValueSource source, PictureNetwork network, KeyValueRecorder recorder, Tensor latent, int steps,
        IReadOnlyList<long> musicTimesteps, double depth = 1, Action<int>? stepDone = null, CancellationToken cancellation = default)
    {
        if (source == KeyValueSource.Recorded)
        {
            return new RecordedKeyValues(network, recorder, latent, steps, depth, musicTimesteps, stepDone, cancellation);
        }

        var trajectory = new DdimInverter(network.Schedule, (z, t) => network.Predict(z, t)).Invert(latent, steps, depth, stepDone, cancellation);
        return source == KeyValueSource.Trajectory
            ? new TrajectoryKeyValues(network, recorder, trajectory)
            : new ReplayedKeyValues(network, recorder, trajectory, steps, cancellation);
    }

    /// <summary>K^I and V^I for the music's timestep <paramref name="t"/>; asked in falling order. They live until the next is asked for.</summary>
    public abstract CapturedKeyValues At(long t);

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Frees what is kept.</summary>
    protected abstract void Dispose(bool disposing);
}

/// <summary>Kept from the inversion's own calls: no further call, and a latent one step less noisy than at the timestep.</summary>
internal sealed class RecordedKeyValues : PictureKeyValues
{
    private readonly Dictionary<long, CapturedKeyValues> _captured = [];
    private readonly IReadOnlyList<long> _rising;

    public RecordedKeyValues(
        PictureNetwork network, KeyValueRecorder recorder, Tensor latent, int steps, double depth,
        IReadOnlyList<long> musicTimesteps, Action<int>? stepDone, CancellationToken cancellation)
    {
        _rising = DdimInverter.Timesteps(network.Schedule, steps, depth);
        var wanted = musicTimesteps.Select(Nearest).ToHashSet();
        try
        {
            new DdimInverter(network.Schedule, Record).Invert(latent, steps, depth, stepDone, cancellation).Dispose();
        }
        catch
        {
            Dispose(true);
            throw;
        }

        Tensor Record(Tensor z, long t)
        {
            if (!wanted.Contains(t))
            {
                return network.Predict(z, t);
            }

            var prediction = network.Predict(z, t, recorder);
            _captured[t] = recorder.Take();
            return prediction;
        }
    }

    public override CapturedKeyValues At(long t) => _captured[Nearest(t)];

    protected override void Dispose(bool disposing)
    {
        foreach (var captured in _captured.Values)
        {
            captured.Dispose();
        }

        _captured.Clear();
    }

    private long Nearest(long t) => _rising[NearestTimestep.IndexIn(_rising, t)];
}

/// <summary>The network is called on the inversion's latent at that noise level.</summary>
internal sealed class TrajectoryKeyValues(PictureNetwork network, KeyValueRecorder recorder, InversionTrajectory trajectory) : PictureKeyValues
{
    private long _timestep = -1;
    private CapturedKeyValues? _captured;

    public override CapturedKeyValues At(long t)
    {
        var (timestep, latent) = trajectory.Nearest(t);
        if (_captured is null || timestep != _timestep)
        {
            _captured?.Dispose();
            _captured = network.Capture(latent, timestep, recorder);
            _timestep = timestep;
        }

        return _captured;
    }

    protected override void Dispose(bool disposing)
    {
        _captured?.Dispose();
        trajectory.Dispose();
    }
}

/// <summary>The picture is denoised alongside the music, by DDIM from where its inversion ended: its own z_T (Algorithm 2 as printed), or less deep.</summary>
internal sealed class ReplayedKeyValues : PictureKeyValues
{
    private readonly PictureNetwork _network;
    private readonly KeyValueRecorder _recorder;
    private readonly DdimStep _ddim;
    private readonly long[] _falling;
    private readonly CancellationToken _cancellation;
    private Tensor _latent;
    private Tensor? _prediction;
    private CapturedKeyValues? _captured;
    private int _index = -1;

    public ReplayedKeyValues(
        PictureNetwork network, KeyValueRecorder recorder, InversionTrajectory trajectory, int steps, CancellationToken cancellation)
    {
        (_network, _recorder, _cancellation) = (network, recorder, cancellation);
        _ddim = new(network.Schedule, steps);
        _falling = [.. trajectory.Timesteps.Reverse()];
        _latent = trajectory.Deepest.alias().DetachFromDisposeScope();
        trajectory.Dispose();
    }

    /// <summary>z_t^I, the picture's latent now.</summary>
    public Tensor Latent => _latent;

    public override CapturedKeyValues At(long t)
    {
        int wanted = NearestTimestep.IndexIn(_falling, t);
        while (_index < wanted)
        {
            _cancellation.ThrowIfCancellationRequested();
            Advance();
        }

        return _captured!;
    }

    /// <summary>The reverse step from the present timestep, where there is one, and the call of the network at the next.</summary>
    private void Advance()
    {
        using var scope = NewDisposeScope();
        if (_prediction is not null)
        {
            Replace(ref _latent!, _ddim.Down(_prediction, _latent, _falling[_index]).Latent);
        }

        _index++;
        Replace(ref _prediction, _network.Predict(_latent, _falling[_index], _recorder));
        _captured?.Dispose();
        _captured = _recorder.Take();
    }

    protected override void Dispose(bool disposing)
    {
        _captured?.Dispose();
        _prediction?.Dispose();
        _latent.Dispose();
    }

    private static void Replace(ref Tensor? field, Tensor value)
    {
        field?.Dispose();
        field = value.DetachFromDisposeScope();
    }
}
