using System.Security.Cryptography;
using SkiaSharp;

namespace MelFusion.Training.Data.Build;

/// <summary>A picture, read and made small, with what is needed to find its likes.</summary>
/// <param name="Hash">SHA-256 of the files it was painted from, in hex.</param>
/// <param name="Thumbnail">A grey picture of 16 x 16.</param>
/// <param name="Width">Width of the original in pixels.</param>
/// <param name="Height">Height of the original in pixels.</param>
/// <param name="Jpeg">The picture as JPEG.</param>
internal sealed record PictureFile(string Hash, byte[] Thumbnail, int Width, int Height, byte[] Jpeg)
{
    private const int ThumbnailSide = 16;
    private const int LargestSide = 8192;
    private const int Quality = 92;

    /// <summary>Reads a picture; null where it cannot be read, is smaller than allowed, or is no picture of anything (mostly transparent, or one colour).</summary>
    /// <param name="picture">The files.</param>
    /// <param name="smallestSide">The short side must have so many pixels.</param>
    /// <param name="shortSide">The short side is made so long where it is longer.</param>
    /// <param name="square">Whether the middle is cut out as a square of that side.</param>
    public static PictureFile? Read(ScenePicture picture, int smallestSide, int shortSide, bool square)
    {
        var files = picture.Layers.Select(File.ReadAllBytes).ToList();
        if (files.Count == 1 && !IsLargeEnough(files[0], smallestSide))
        {
            return null;
        }

        using var canvas = Paint(files, shortSide);
        if (canvas is null || Math.Min(canvas.Width, canvas.Height) < smallestSide || Math.Max(canvas.Width, canvas.Height) > 5 * Math.Min(canvas.Width, canvas.Height))
        {
            return null;
        }

        using var small = Fit(canvas, shortSide, square);
        var thumbnail = Shrink(small);
        if (Spread(thumbnail) < 3)
        {
            return null;
        }

        using var data = small.Encode(SKEncodedImageFormat.Jpeg, Quality);
        return data is null ? null : new PictureFile(Digest(files), thumbnail, canvas.Width, canvas.Height, data.ToArray());
    }

    /// <summary>Whether two pictures look alike: the mean difference of their thumbnails is a few grey levels.</summary>
    /// <param name="other">The other picture.</param>
    public bool LooksLike(PictureFile other)
    {
        var sum = 0;
        for (var i = 0; i < Thumbnail.Length; i++)
        {
            sum += Math.Abs(Thumbnail[i] - other.Thumbnail[i]);
            if (sum > 4 * Thumbnail.Length)
            {
                return false;
            }
        }

        return true;
    }

    private static SKBitmap? Paint(List<byte[]> files, int shortSide)
    {
        var layers = files.Select(file => files.Count == 1 ? Trim(Decode(file, shortSide)) : Decode(file, LargestSide)).ToList();
        try
        {
            if (layers.Contains(null) || IsHollow(layers[0]!))
            {
                return null;
            }

            // A sky may be a narrow strip that the game repeats: it is stretched over the widest layer.
            var width = layers.Max(layer => layer!.Width);
            var height = layers.Count == 1 ? layers[0]!.Height : Math.Min(layers.Max(layer => layer!.Height), width);
            var canvas = new SKBitmap(new SKImageInfo(width, height, SKColorType.Rgba8888, SKAlphaType.Opaque));
            using var surface = new SKCanvas(canvas);
            surface.Clear(layers.Count > 1 ? new SKColor(150, 190, 220) : SKColors.White);
            for (var i = 0; i < layers.Count; i++)
            {
                var layer = layers[i]!;
                var place = i == 0 && layers.Count > 1 ? new SKRect(0, 0, width, height) : new SKRect(0, height - (layer.Height * (float)width / layer.Width), width, height);
                using var image = SKImage.FromBitmap(layer);
                surface.DrawImage(image, place, new SKSamplingOptions(SKCubicResampler.Mitchell));
            }

            return canvas;
        }
        finally
        {
            layers.ForEach(layer => layer?.Dispose());
        }
    }

    // The head of a file says its size: most pictures of a game are small and need not be decoded.
    private static bool IsLargeEnough(byte[] bytes, int smallestSide)
    {
        using var stream = new SKMemoryStream(bytes);
        using var codec = SKCodec.Create(stream);
        return codec is not null && Math.Min(codec.Info.Width, codec.Info.Height) >= smallestSide && Math.Max(codec.Info.Width, codec.Info.Height) <= LargestSide;
    }

    // A JPEG is decoded at a half, a quarter or an eighth of its size where that is still twice as large as needed.
    private static SKBitmap? Decode(byte[] bytes, int shortSide)
    {
        using var stream = new SKMemoryStream(bytes);
        using var codec = SKCodec.Create(stream);
        if (codec is null || codec.Info.Width > LargestSide || codec.Info.Height > LargestSide)
        {
            return null;
        }

        var size = codec.GetScaledDimensions(Math.Min(1f, 2f * shortSide / Math.Min(codec.Info.Width, codec.Info.Height)));
        var info = codec.EncodedFormat == SKEncodedImageFormat.Jpeg ? codec.Info.WithSize(size) : codec.Info;
        return SKBitmap.Decode(codec, info);
    }

    // Textures whose sides are powers of two hold a picture in one corner and nothing beside it.
    private static SKBitmap? Trim(SKBitmap? bitmap)
    {
        if (bitmap is null || bitmap.AlphaType == SKAlphaType.Opaque)
        {
            return bitmap;
        }

        var rows = Enumerable.Range(0, bitmap.Height).Where(y => Enumerable.Range(0, 16).Any(i => bitmap.GetPixel(((2 * i) + 1) * bitmap.Width / 32, y).Alpha > 128)).ToList();
        var columns = Enumerable.Range(0, bitmap.Width).Where(x => Enumerable.Range(0, 16).Any(i => bitmap.GetPixel(x, ((2 * i) + 1) * bitmap.Height / 32).Alpha > 128)).ToList();
        var part = new SKBitmap();
        if (rows.Count == 0 || columns.Count == 0 || !bitmap.ExtractSubset(part, new SKRectI(columns[0], rows[0], columns[^1] + 1, rows[^1] + 1)))
        {
            part.Dispose();
            return bitmap;
        }

        using (bitmap)
        {
            return part;
        }
    }

    // A sprite on nothing is no picture of a scene.
    private static bool IsHollow(SKBitmap bitmap)
    {
        if (bitmap.AlphaType == SKAlphaType.Opaque)
        {
            return false;
        }

        var hollow = 0;
        for (var i = 0; i < 400; i++)
        {
            hollow += bitmap.GetPixel((i % 20 * bitmap.Width / 20) + (bitmap.Width / 40), (i / 20 * bitmap.Height / 20) + (bitmap.Height / 40)).Alpha < 128 ? 1 : 0;
        }

        return hollow > 200;
    }

    private static SKImage Fit(SKBitmap canvas, int shortSide, bool square)
    {
        var scale = Math.Min(1f, (float)shortSide / Math.Min(canvas.Width, canvas.Height));
        if (square)
        {
            scale = (float)shortSide / Math.Min(canvas.Width, canvas.Height);
        }

        var width = square ? shortSide : Math.Max(1, (int)MathF.Round(canvas.Width * scale));
        var height = square ? shortSide : Math.Max(1, (int)MathF.Round(canvas.Height * scale));
        using var surface = SKSurface.Create(new SKImageInfo(width, height, SKColorType.Rgba8888, SKAlphaType.Opaque));
        var (w, h) = (canvas.Width * scale, canvas.Height * scale);
        using var image = SKImage.FromBitmap(canvas);
        var sampling = scale < 1 ? new SKSamplingOptions(SKFilterMode.Linear, SKMipmapMode.Linear) : new SKSamplingOptions(SKCubicResampler.Mitchell);
        surface.Canvas.DrawImage(image, new SKRect((width - w) / 2, (height - h) / 2, (width + w) / 2, (height + h) / 2), sampling);
        return surface.Snapshot();
    }

    private static byte[] Shrink(SKImage image)
    {
        using var surface = SKSurface.Create(new SKImageInfo(ThumbnailSide, ThumbnailSide, SKColorType.Gray8, SKAlphaType.Opaque));
        surface.Canvas.DrawImage(image, new SKRect(0, 0, ThumbnailSide, ThumbnailSide), new SKSamplingOptions(SKFilterMode.Linear, SKMipmapMode.Linear));
        using var pixels = surface.PeekPixels();
        return pixels.GetPixelSpan().ToArray();
    }

    private static double Spread(byte[] thumbnail)
    {
        var mean = thumbnail.Average(value => (double)value);
        return Math.Sqrt(thumbnail.Average(value => (value - mean) * (value - mean)));
    }

    private static string Digest(List<byte[]> files)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        files.ForEach(hash.AppendData);
        return Convert.ToHexString(hash.GetHashAndReset());
    }
}
