using SkiaSharp;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Training.Stages;

/// <summary>Draws mels as pictures: time to the right, low bands below, one strip under the other.</summary>
internal static class Planes
{
    private const int Gap = 4;

    /// <summary>The values (T, M) of a tensor.</summary>
    public static float[,] ToArray(Tensor plane)
    {
        long rows = plane.shape[0], columns = plane.shape[1];
        float[] flat = plane.contiguous().data<float>().ToArray();
        var values = new float[rows, columns];
        Buffer.BlockCopy(flat, 0, values, 0, flat.Length * sizeof(float));
        return values;
    }

    /// <summary>Writes a PNG.</summary>
    public static void Draw(string path, IEnumerable<float[,]> strips)
    {
        var list = strips.ToList();
        if (list.Count == 0)
        {
            return;
        }

        int width = list.Max(strip => strip.GetLength(0)), height = list.Sum(strip => strip.GetLength(1) + Gap);
        using var bitmap = new SKBitmap(width, height, SKColorType.Rgba8888, SKAlphaType.Opaque);
        int top = 0;
        foreach (float[,] strip in list)
        {
            Paint(bitmap, strip, top);
            top += strip.GetLength(1) + Gap;
        }

        Save(bitmap, path);
    }

    /// <summary>A picture (3, H, W) in [-1, 1] as RGBA bytes.</summary>
    public static byte[] Pixels(Tensor picture)
    {
        using var scope = NewDisposeScope();
        var alpha = full([1, picture.shape[1], picture.shape[2]], 255f);
        var bytes = cat([((picture + 1) * 127.5).clamp(0, 255), alpha], 0).permute(1, 2, 0).to(ScalarType.Byte).contiguous();
        return bytes.data<byte>().ToArray();
    }

    /// <summary>Writes square pictures side by side, row by row.</summary>
    public static void DrawGrid(string path, IReadOnlyList<byte[]?> pictures, int side, int perRow)
    {
        int rows = (pictures.Count + perRow - 1) / perRow;
        using var bitmap = new SKBitmap(perRow * (side + Gap), rows * (side + Gap), SKColorType.Rgba8888, SKAlphaType.Opaque);
        using (var canvas = new SKCanvas(bitmap))
        {
            for (int i = 0; i < pictures.Count; i++)
            {
                if (pictures[i] is { } pixels)
                {
                    using var image = SKImage.FromPixelCopy(new SKImageInfo(side, side, SKColorType.Rgba8888, SKAlphaType.Opaque), pixels);
                    canvas.DrawImage(image, i % perRow * (side + Gap), i / perRow * (side + Gap));
                }
            }
        }

        Save(bitmap, path);
    }

    private static void Save(SKBitmap bitmap, string path)
    {
        using var data = bitmap.Encode(SKEncodedImageFormat.Png, 100);
        using var stream = File.Create(path);
        data.SaveTo(stream);
    }

    private static void Paint(SKBitmap bitmap, float[,] strip, int top)
    {
        int bands = strip.GetLength(1);
        for (int t = 0; t < strip.GetLength(0); t++)
        {
            for (int band = 0; band < bands; band++)
            {
                bitmap.SetPixel(t, top + bands - 1 - band, Colour(strip[t, band]));
            }
        }
    }

    // -2.5 .. 2.5 from black over violet and orange to pale yellow.
    private static SKColor Colour(float value)
    {
        float x = Math.Clamp((value + 2.5f) / 5, 0, 1);
        return new(Channel(3 * x - 0.4f), Channel(2 * x - 0.9f), Channel(x < 0.5f ? 1.4f * x : 3 * x - 2.1f + Math.Max(0, 0.7f - 2 * (x - 0.5f)) * 1.4f));
    }

    private static byte Channel(float value) => (byte)(255 * Math.Clamp(value, 0, 1));
}
