using SkiaSharp;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Image;

/// <summary>
/// Reads PNG, JPEG, WebP, BMP and GIF (its first picture): upright by EXIF, alpha dropped and not composited, 16 bits to their high
/// byte. Sizes are read from the header and checked before anything is decoded.
/// </summary>
public static class ImageReader
{
    /// <summary>The most bytes a picture file may have.</summary>
    public const long LargestFile = 256L << 20;

    /// <summary>The most pixels a picture may have.</summary>
    public const long MostPixels = 100_000_000;

    private static readonly SKEncodedImageFormat[] Formats =
        [SKEncodedImageFormat.Png, SKEncodedImageFormat.Jpeg, SKEncodedImageFormat.Webp, SKEncodedImageFormat.Bmp, SKEncodedImageFormat.Gif];

    /// <summary>A picture as Stable Diffusion's autoencoder reads it.</summary>
    /// <param name="bytes">The whole file.</param>
    /// <param name="width">Pixels in a row of the result.</param>
    /// <param name="height">Rows of the result.</param>
    /// <param name="fit">How its sides are brought to these.</param>
    /// <param name="name">What to call it in an error.</param>
    /// <returns>(1, 3, H, W) in [-1, 1], 32 bits, in processor memory.</returns>
    /// <exception cref="MelFusionException">It is no such picture, is damaged, or far too large.</exception>
    public static Tensor Read(ReadOnlySpan<byte> bytes, int width, int height, PictureFit fit = PictureFit.Crop, string name = "The picture")
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(width);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(height);
        return Decode(bytes, name).FitTo(width, height, fit).ToTensor();
    }

    /// <summary>The bytes of a picture file, which are not decoded yet.</summary>
    /// <exception cref="MelFusionException">It cannot be read, is empty, or larger than a picture may be.</exception>
    public static byte[] ReadFile(string path)
    {
        try
        {
            using var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read);
            return stream.Length <= LargestFile
                ? ReadAll(stream, path)
                : throw new MelFusionException($"{path}: the picture file has {stream.Length >> 20} MB, and {LargestFile >> 20} MB are the most that are read; make it smaller first.");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or NotSupportedException)
        {
            throw new MelFusionException($"{path}: the picture cannot be read ({e.Message.TrimEnd('.')}).", e);
        }
    }

    /// <summary>Decodes a picture at its own size.</summary>
    /// <param name="bytes">The whole file.</param>
    /// <param name="name">What to call it in an error.</param>
    /// <exception cref="MelFusionException">It is no such picture, is damaged, or far too large.</exception>
    public static RgbPicture Decode(ReadOnlySpan<byte> bytes, string name = "The picture")
    {
        if (bytes.IsEmpty)
        {
            throw new MelFusionException($"{name}: the file is empty; choose a picture.");
        }

        using var data = SKData.CreateCopy(bytes);
        using var codec = SKCodec.Create(data);
        if (codec is null || !Formats.Contains(codec.EncodedFormat))
        {
            throw new MelFusionException($"{name}: this is no picture that can be read; PNG, JPEG, WebP, BMP and GIF can, whatever the file is called.");
        }

        var (width, height) = (codec.Info.Width, codec.Info.Height);
        return (long)width * height <= MostPixels
            ? Upright(Pixels(codec, width, height, name), width, height, codec.EncodedOrigin)
            : throw new MelFusionException($"{name}: the picture is {width} x {height} pixels, and {MostPixels / 1_000_000} million are the most that are read; make it smaller first.");
    }

    private static byte[] ReadAll(FileStream stream, string path)
    {
        using var memory = new MemoryStream();
        var buffer = new byte[1 << 16];
        for (int count; (count = stream.Read(buffer)) > 0;)
        {
            // A pipe or device states no length.
            if (memory.Length + count > LargestFile)
            {
                throw new MelFusionException($"{path}: the picture file has more than {LargestFile >> 20} MB; make it smaller first.");
            }

            memory.Write(buffer, 0, count);
        }

        return memory.ToArray();
    }

    /// <summary>Red, green, blue and alpha as stored; no colour profile is applied.</summary>
    private static byte[] Pixels(SKCodec codec, int width, int height, string name)
    {
        var info = new SKImageInfo(width, height, SKColorType.Rgba8888, SKAlphaType.Unpremul);
        var pixels = new byte[checked(width * height * 4)];
        SKCodecResult result;
        unsafe
        {
            fixed (byte* address = pixels)
            {
                result = codec.GetPixels(info, (nint)address);
            }
        }

        return result switch
        {
            SKCodecResult.Success => pixels,
            SKCodecResult.IncompleteInput or SKCodecResult.ErrorInInput => throw new MelFusionException(
                $"{name}: the picture is damaged or was cut off; copy or download it again."),
            _ => throw new MelFusionException($"{name}: the picture cannot be decoded ({result}); save it anew as PNG or JPEG."),
        };
    }

    /// <summary>Turns the picture as its camera was held, and drops alpha.</summary>
    private static RgbPicture Upright(byte[] rgba, int width, int height, SKEncodedOrigin origin)
    {
        bool sideways = origin is SKEncodedOrigin.LeftTop or SKEncodedOrigin.RightTop or SKEncodedOrigin.RightBottom or SKEncodedOrigin.LeftBottom;
        bool right = origin is SKEncodedOrigin.TopRight or SKEncodedOrigin.BottomRight or SKEncodedOrigin.RightBottom or SKEncodedOrigin.LeftBottom;
        bool bottom = origin is SKEncodedOrigin.BottomRight or SKEncodedOrigin.BottomLeft or SKEncodedOrigin.RightTop or SKEncodedOrigin.RightBottom;
        var (w, h) = sideways ? (height, width) : (width, height);
        var rgb = new byte[checked(w * h * 3)];
        for (int y = 0, to = 0; y < h; y++)
        {
            for (int x = 0; x < w; x++, to += 3)
            {
                var (column, row) = sideways ? (y, x) : (x, y);
                column = right ? width - 1 - column : column;
                row = bottom ? height - 1 - row : row;
                rgba.AsSpan(((row * width) + column) * 4, 3).CopyTo(rgb.AsSpan(to));
            }
        }

        return new(w, h, rgb);
    }
}
