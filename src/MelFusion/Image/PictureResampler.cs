namespace MelFusion.Image;

/// <summary>The weights with which neighbouring pixels are mixed.</summary>
public enum ResampleFilter
{
    /// <summary>Cubic with a = -0.5, two pixels to each side.</summary>
    Bicubic,

    /// <summary>A windowed sinc, three pixels to each side.</summary>
    Lanczos,
}

/// <summary>
/// Resizing in two passes of whole-number arithmetic, as Pillow does it: between the passes the picture is 8-bit, and the filters'
/// overshoot is cut there, which shows at hard edges. The public networks were trained on pictures resized so.
/// </summary>
internal static class PictureResampler
{
    private const int Channels = 3;
    private const int FractionBits = 22;

    /// <summary>Taps of each output pixel: the first input pixel, and the whole-number weights from there.</summary>
    private readonly record struct Taps(int First, int[] Weights);

    public static byte[] Resize(byte[] pixels, int width, int height, int newWidth, int newHeight, ResampleFilter filter)
    {
        bool verticalFirst = height > newHeight && height - newHeight > 2L * (width - newWidth);
        if (verticalFirst)
        {
            pixels = Vertical(pixels, width, height, newHeight, filter);
            return Horizontal(pixels, width, newHeight, newWidth, filter);
        }

        pixels = Horizontal(pixels, width, height, newWidth, filter);
        return Vertical(pixels, newWidth, height, newHeight, filter);
    }

    private static byte[] Horizontal(byte[] pixels, int width, int height, int newWidth, ResampleFilter filter)
    {
        if (width == newWidth)
        {
            return pixels;
        }

        var taps = Weigh(width, newWidth, filter);
        var result = new byte[checked(newWidth * height * Channels)];
        Parallel.For(0, height, y =>
        {
            var row = pixels.AsSpan(y * width * Channels, width * Channels);
            var output = result.AsSpan(y * newWidth * Channels, newWidth * Channels);
            for (int x = 0; x < newWidth; x++)
            {
                Mix(row[(taps[x].First * Channels)..], Channels, taps[x].Weights, output.Slice(x * Channels, Channels));
            }
        });
        return result;
    }

    private static byte[] Vertical(byte[] pixels, int width, int height, int newHeight, ResampleFilter filter)
    {
        if (height == newHeight)
        {
            return pixels;
        }

        int stride = width * Channels;
        var taps = Weigh(height, newHeight, filter);
        var result = new byte[checked(newHeight * stride)];
        Parallel.For(0, newHeight, y =>
        {
            for (int x = 0; x < stride; x += Channels)
            {
                Mix(pixels.AsSpan((taps[y].First * stride) + x), stride, taps[y].Weights, result.AsSpan((y * stride) + x, Channels));
            }
        });
        return result;
    }

    private static void Mix(ReadOnlySpan<byte> input, int stride, int[] weights, Span<byte> output)
    {
        int r = 1 << (FractionBits - 1), g = r, b = r; // one half, as the shift rounds down
        for (int i = 0, at = 0; i < weights.Length; i++, at += stride)
        {
            int weight = weights[i];
            r += input[at] * weight;
            g += input[at + 1] * weight;
            b += input[at + 2] * weight;
        }

        output[0] = (byte)Math.Clamp(r >> FractionBits, 0, 255);
        output[1] = (byte)Math.Clamp(g >> FractionBits, 0, 255);
        output[2] = (byte)Math.Clamp(b >> FractionBits, 0, 255);
    }

    private static Taps[] Weigh(int size, int newSize, ResampleFilter filter)
    {
        double scale = (double)size / newSize, stretch = Math.Max(scale, 1), reach = Support(filter) * stretch;
        var taps = new Taps[newSize];
        for (int i = 0; i < newSize; i++)
        {
            double centre = (i + 0.5) * scale;
            int first = Math.Max(0, (int)(centre - reach + 0.5)), end = Math.Min(size, (int)(centre + reach + 0.5));
            double[] weights = [.. Enumerable.Range(first, end - first).Select(x => Value(filter, (x - centre + 0.5) / stretch))];
            double sum = weights.Sum();
            taps[i] = new(first, [.. weights.Select(weight => Whole(sum == 0 ? weight : weight / sum))]);
        }

        return taps;
    }

    private static int Whole(double weight) => (int)((weight * (1 << FractionBits)) + (weight < 0 ? -0.5 : 0.5));

    private static double Support(ResampleFilter filter) => filter == ResampleFilter.Bicubic ? 2 : 3;

    private static double Value(ResampleFilter filter, double x)
    {
        if (filter == ResampleFilter.Lanczos)
        {
            return x is >= -3 and < 3 ? Sinc(x) * Sinc(x / 3) : 0;
        }

        const double a = -0.5;
        x = Math.Abs(x);
        return x < 1 ? (((((a + 2) * x) - (a + 3)) * x * x) + 1)
            : x < 2 ? ((((((x - 5) * x) + 8) * x) - 4) * a)
            : 0;
    }

    private static double Sinc(double x) => x == 0 ? 1 : Math.Sin(Math.PI * x) / (Math.PI * x);
}
