using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Image;

/// <summary>How a picture is brought to another shape.</summary>
public enum PictureFit
{
    /// <summary>The sides keep their ratio; what stands over is cut off at both ends.</summary>
    Crop,

    /// <summary>Everything is kept and the sides are stretched.</summary>
    Stretch,
}

/// <summary>An upright picture: 8 bits of red, green and blue per pixel, row by row.</summary>
public sealed class RgbPicture
{
    private readonly byte[] _pixels; // (H, W, 3)

    internal RgbPicture(int width, int height, byte[] pixels) => (Width, Height, _pixels) = (width, height, pixels);

    /// <summary>Pixels in a row.</summary>
    public int Width { get; }

    /// <summary>Rows.</summary>
    public int Height { get; }

    /// <summary>Red, green and blue of each pixel, row by row.</summary>
    public ReadOnlySpan<byte> Pixels => _pixels;

    /// <summary>The picture at another size.</summary>
    public RgbPicture Resize(int width, int height, ResampleFilter filter) =>
        new(width, height, PictureResampler.Resize(_pixels, Width, Height, width, height, filter));

    /// <summary>A part of the picture; what lies outside it is black.</summary>
    public RgbPicture Window(int left, int top, int width, int height)
    {
        var pixels = new byte[checked(width * height * 3)];
        int first = Math.Max(0, -left), last = Math.Min(width, Width - left);
        for (int y = Math.Max(0, -top); y < Math.Min(height, Height - top) && first < last; y++)
        {
            _pixels.AsSpan((((y + top) * Width) + first + left) * 3, (last - first) * 3).CopyTo(pixels.AsSpan(((y * width) + first) * 3));
        }

        return new(width, height, pixels);
    }

    /// <summary>The picture as Stable Diffusion's pipelines prepare it: Lanczos, the ratio kept and the middle taken, or stretched.</summary>
    public RgbPicture FitTo(int width, int height, PictureFit fit = PictureFit.Crop)
    {
        if (fit == PictureFit.Stretch)
        {
            return Resize(width, height, ResampleFilter.Lanczos);
        }

        bool fitsWidth = (long)width * Height > (long)Width * height; // the target is the wider one
        int w = fitsWidth ? width : (int)((long)Width * height / Height), h = fitsWidth ? (int)((long)Height * width / Width) : height;
        return Resize(w, h, ResampleFilter.Lanczos).Window((w / 2) - (width / 2), (h / 2) - (height / 2), width, height);
    }

    /// <summary>The picture as CLIP's image processor prepares it: the shorter side to a size (bicubic), then a square from the middle.</summary>
    public RgbPicture FitShorterSide(int size, int crop)
    {
        int w = Width <= Height ? size : (int)((long)size * Width / Height), h = Width <= Height ? (int)((long)size * Height / Width) : size;
        return Resize(w, h, ResampleFilter.Bicubic).Window((w - crop) / 2, (h - crop) / 2, crop, crop);
    }

    /// <summary>(x / 255 - mean) / deviation per channel.</summary>
    /// <returns>(1, 3, H, W), 32 bits, in processor memory.</returns>
    public Tensor ToTensor(IReadOnlyList<double> mean, IReadOnlyList<double> deviation)
    {
        int plane = Width * Height;
        var values = new float[3 * plane];
        for (int channel = 0; channel < 3; channel++)
        {
            for (int i = 0; i < plane; i++)
            {
                values[(channel * plane) + i] = (float)(((_pixels[(i * 3) + channel] / 255.0) - mean[channel]) / deviation[channel]);
            }
        }

        return torch.tensor(values, [1, 3, Height, Width]);
    }

    /// <summary>2 x / 255 - 1: what Stable Diffusion's autoencoder reads.</summary>
    /// <returns>(1, 3, H, W) in [-1, 1].</returns>
    public Tensor ToTensor() => ToTensor([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]);
}
