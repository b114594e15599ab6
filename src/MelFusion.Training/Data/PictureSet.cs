using System.Text.Json;
using MelFusion.Image;
using MelFusion.Training.Engine;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Training.Data;

/// <summary>One picture and its caption.</summary>
/// <param name="File">The file.</param>
/// <param name="Caption">What is seen, in plain words; may be empty.</param>
internal sealed record CaptionedPicture(string File, string Caption);

/// <summary>
/// Pictures as squares in memory, 8 bits a channel: those of a split's scenes, and those of pictures/pictures.jsonl for the image models.
/// </summary>
internal sealed class PictureSet : IDisposable
{
    private readonly Tensor _pixels; // (N, 3, side, side)

    private PictureSet(IReadOnlyList<CaptionedPicture> pictures, Tensor pixels) => (Pictures, _pixels) = (pictures, pixels);

    /// <summary>The pictures, in the order of their files.</summary>
    public IReadOnlyList<CaptionedPicture> Pictures { get; }

    /// <summary>Number of pictures.</summary>
    public int Count => Pictures.Count;

    /// <summary>Side of every picture in pixels.</summary>
    public long Side => _pixels.shape[2];

    /// <summary>The pictures of a split: its scenes' and those collected for the image models.</summary>
    public static IReadOnlyList<CaptionedPicture> List(string data, string split)
    {
        var scenes = TrainingRow.ReadTable(data, split)
            .SelectMany(row => row.Images.Select(image => new CaptionedPicture(Path.Combine(data, split, image), row.Words)));
        return [.. scenes.Concat(Collected(data, split)).DistinctBy(picture => picture.File).OrderBy(picture => picture.File, StringComparer.Ordinal)];
    }

    /// <summary>Reads pictures as squares of one side: the middle of each, scaled.</summary>
    /// <param name="pictures">Which.</param>
    /// <param name="side">Side in pixels.</param>
    /// <param name="pool">Threads to work on.</param>
    /// <param name="report">Told the pictures done and their number, from any thread.</param>
    /// <param name="cancel">Looked at before every picture.</param>
    public static PictureSet Load(IReadOnlyList<CaptionedPicture> pictures, int side, WorkerPool pool, Action<int, int>? report, CancellationToken cancel)
    {
        if (pictures.Count == 0)
        {
            throw new MelFusionException("The data folder has no pictures for this stage: build the data with pictures.");
        }

        var pixels = torch.empty([pictures.Count, 3, side, side], ScalarType.Byte).DetachFromDisposeScope();
        int done = 0;
        pool.ShareInChunks(pictures.Count, 64, i =>
        {
            cancel.ThrowIfCancellationRequested();
            using var scope = NewDisposeScope();
            pixels[i].copy_(((Read(pictures[i].File, new(side, side))[0] + 1) * 127.5).round());
            report?.Invoke(Interlocked.Increment(ref done), pictures.Count);
        });
        return new(pictures, pixels);
    }

    /// <summary>A picture, (3, side, side), in [-1, 1].</summary>
    public Tensor Get(int index) => _pixels[index].to(ScalarType.Float32) / 127.5 - 1;

    /// <summary>A square of a picture, mirrored or not: (3, size, size).</summary>
    public Tensor Crop(int index, long top, long left, long size, bool mirrored)
    {
        var crop = _pixels[index].narrow(1, top, size).narrow(2, left, size);
        return (mirrored ? crop.flip(2) : crop).to(ScalarType.Float32) / 127.5 - 1;
    }

    /// <inheritdoc/>
    public void Dispose() => _pixels.Dispose();

    private static IEnumerable<CaptionedPicture> Collected(string data, string split)
    {
        string folder = Path.Combine(data, "pictures"), table = Path.Combine(folder, "pictures.jsonl");
        if (!File.Exists(table))
        {
            yield break;
        }

        foreach (string line in File.ReadLines(table).Where(line => line.Length > 0))
        {
            using var row = JsonDocument.Parse(line);
            var root = row.RootElement;
            if (root.GetProperty("split").GetString() == split)
            {
                yield return new(Path.Combine(folder, root.GetProperty("file").GetString()!), root.GetProperty("caption").GetString() ?? string.Empty);
            }
        }
    }

    /// <summary>A picture file as training and sampling both see it: (1, 3, height, width) in [-1, 1].</summary>
    public static Tensor Read(string file, PictureSize size) => ImageReader.Read(ImageReader.ReadFile(file), size.Width, size.Height, name: file);

    /// <summary>A picture file at its own size.</summary>
    public static RgbPicture Decode(string file) => ImageReader.Decode(ImageReader.ReadFile(file), file);
}
