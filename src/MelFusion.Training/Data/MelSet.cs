using MelFusion.Training.Engine;
using MelFusion.Wave;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Training.Data;

/// <summary>The log-mels of a split in memory, fp16: (rows, frames, bands).</summary>
internal sealed class MelSet : IDisposable
{
    private const int Part = 1024;
    private const int BeyondTheEnd = 64; // samples that resampling sees after the last one it gives

    private readonly Tensor _mels;

    private MelSet(IReadOnlyList<TrainingRow> rows, Tensor mels) => (Rows, _mels) = (rows, mels);

    /// <summary>The rows, in the order of the table.</summary>
    public IReadOnlyList<TrainingRow> Rows { get; }

    /// <summary>Number of clips.</summary>
    public int Count => Rows.Count;

    /// <summary>Frames of every clip.</summary>
    public long Frames => _mels.shape[1];

    /// <summary>Computes the mels of a split, or takes them from the cache.</summary>
    /// <param name="data">The data folder.</param>
    /// <param name="split">train, validation or test.</param>
    /// <param name="cache">The folder of caches.</param>
    /// <param name="config">The front end.</param>
    /// <param name="frames">Frames of a clip; longer clips are cut, shorter ones end in silence.</param>
    /// <param name="most">At most so many clips, evenly chosen.</param>
    /// <param name="pool">Threads to work on.</param>
    /// <param name="report">Told the clips done and their number, from any thread.</param>
    /// <param name="cancel">Looked at before every clip.</param>
    public static MelSet Load(string data, string split, string cache, MelConfig config, int frames, int most, WorkerPool pool, Action<int, int>? report, CancellationToken cancel)
    {
        var rows = Evenly.Some(TrainingRow.ReadTable(data, split).Where(row => row.Audio is not null).ToList(), most);
        string name = rows.Count == most ? $"mel-{split}-{most}.safetensors" : $"mel-{split}.safetensors";
        string[] files = [.. rows.Select(row => Path.Combine(data, split, row.Audio!))];
        string from = string.Join('\n', files.Select(TensorCache.Describe).Prepend($"{Describe(config with { Mean = 0, Deviation = 1 })} {frames}"));
        using var frontEnd = new MelSpectrogram(config);
        return new(rows, TensorCache.GetItems(Path.Combine(cache, name), from, files.Length, Part, i =>
        {
            cancel.ThrowIfCancellationRequested();
            return frontEnd.Forward(frontEnd.Prepare(Samples(files[i], config, frames), frames)).squeeze(0).transpose(0, 1); // (T, M)
        }, pool, report));
    }

    /// <summary>A stretch of a clip: (frames, bands), fp32.</summary>
    public Tensor Get(int row, long firstFrame, long frames) => _mels[row].narrow(0, firstFrame, frames).to(ScalarType.Float32);

    /// <summary>A front end as caches name it. A setting that came later is left out where it is at its default, so that older caches stay good.</summary>
    public static string Describe(MelConfig config) => $"{config}".Replace(", Levelled = False", string.Empty, StringComparison.Ordinal);

    /// <inheritdoc/>
    public void Dispose() => _mels.Dispose();

    /// <summary>The beginning of a clip, (1, n), at the rate of the front end.</summary>
    private static Tensor Samples(string file, MelConfig config, int frames)
    {
        int rate = WavFile.ReadInfo(file).SampleRate;
        long wanted = (long)frames * config.HopLength;
        var sound = WavFile.Read(file, 0, rate == config.SampleRate ? wanted : (wanted * rate / config.SampleRate) + BeyondTheEnd);
        return tensor(Resampler.ToMono(sound, config.SampleRate)).unsqueeze(0);
    }
}
