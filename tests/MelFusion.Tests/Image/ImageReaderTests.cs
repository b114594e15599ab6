using System.Buffers.Binary;
using System.IO.Compression;
using System.Text.Json;
using MelFusion.Image;
using MelFusion.Tests.Support;
using Shouldly;
using SkiaSharp;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace MelFusion.Tests.Image;

public class ImageReaderTests
{
    [Fact, Trait("Category", "Parity")]
    public void Every_file_decodes_and_resizes_as_the_reference()
    {
        using var scope = NewDisposeScope();
        using var fixture = Fixture.Open("images");
        using var config = fixture.Json();
        var clip = config.RootElement.GetProperty("clip");
        var (mean, deviation) = (Numbers(clip.GetProperty("mean")), Numbers(clip.GetProperty("std")));
        int clipSize = clip.GetProperty("shortest_edge").GetInt32(), clipCrop = clip.GetProperty("crop").GetInt32();
        foreach (var entry in config.RootElement.GetProperty("files").EnumerateArray())
        {
            string name = entry.GetString()!;
            byte[] bytes = ImageReader.ReadFile(fixture.File(name));
            bool exact = name.EndsWith(".png", StringComparison.Ordinal);

            var picture = ImageReader.Decode(bytes, name);

            ShouldBeNear(picture, fixture[$"{name}.rgb"], exact, name);
            if (fixture.Io.Contains($"{name}.clip"))
            {
                Compare(picture.FitShorterSide(clipSize, clipCrop).ToTensor(mean, deviation), fixture[$"{name}.clip"], exact ? 1e-6 : 3 * 0.031, $"{name}.clip");
            }

            foreach (var (suffix, fit) in new[] { (".sd", PictureFit.Crop), (".sd.oblong", PictureFit.Crop), (".sd.stretch", PictureFit.Stretch) })
            {
                if (fixture.Io.Find(name + suffix) is { } expected)
                {
                    var actual = ImageReader.Read(bytes, (int)expected.Shape[3], (int)expected.Shape[2], fit, name);
                    Compare(actual, fixture[name + suffix], exact ? 1e-6 : 3 * 0.016, name + suffix);
                }
            }
        }
    }

    [Fact]
    public void Every_orientation_is_turned_upright()
    {
        // Red to the upper left, green to the upper right, blue to the lower left, as seen by a person.
        for (int orientation = 1; orientation <= 8; orientation++)
        {
            var picture = ImageReader.Decode(JpegWithOrientation(orientation));

            (picture.Width, picture.Height).ShouldBe((48, 32), $"orientation {orientation}");
            Strongest(picture, 4, 4).ShouldBe(0, $"orientation {orientation}");
            Strongest(picture, 43, 4).ShouldBe(1, $"orientation {orientation}");
            Strongest(picture, 4, 27).ShouldBe(2, $"orientation {orientation}");
        }
    }

    [Theory]
    [InlineData(SKEncodedImageFormat.Png)]
    [InlineData(SKEncodedImageFormat.Jpeg)]
    [InlineData(SKEncodedImageFormat.Webp)]
    public void A_picture_that_was_cut_off_is_refused(SKEncodedImageFormat format)
    {
        using var bitmap = Corners();
        using var encoded = bitmap.Encode(format, 90);
        byte[] bytes = encoded.ToArray();

        ImageReader.Decode(bytes).Width.ShouldBe(48);
        Should.Throw<MelFusionException>(() => ImageReader.Decode(bytes.AsSpan(0, bytes.Length * 3 / 4)));
    }

    [Fact]
    public void Bmp_and_gif_are_read()
    {
        byte[] gif = Convert.FromBase64String("R0lGODlhAQABAIAAAP8AAAAAACwAAAAAAQABAAACAkQBADs=");
        byte[] bmp = Convert.FromBase64String("Qk06AAAAAAAAADYAAAAoAAAAAQAAAAEAAAABABgAAAAAAAQAAAATCwAAEwsAAAAAAAAAAAAAAAD/AA==");

        ImageReader.Decode(gif).Pixels.ToArray().ShouldBe([255, 0, 0]);
        ImageReader.Decode(bmp).Pixels.ToArray().ShouldBe([255, 0, 0]);
    }

    [Fact]
    public void A_header_of_a_hundred_thousand_squared_is_refused_before_decoding()
    {
        long before = GC.GetAllocatedBytesForCurrentThread();

        Should.Throw<MelFusionException>(() => ImageReader.Decode(PngHeader(100_000, 100_000))).Message.ShouldContain("100000 x 100000");

        (GC.GetAllocatedBytesForCurrentThread() - before).ShouldBeLessThan(10 << 20);
    }

    [Fact]
    public void Empty_text_and_missing_files_give_one_sentence_each()
    {
        Should.Throw<MelFusionException>(() => ImageReader.Decode([])).Message.ShouldContain("empty");
        Should.Throw<MelFusionException>(() => ImageReader.Decode("this is no picture\n"u8, "notes.png")).Message.ShouldStartWith("notes.png: this is no picture");
        Should.Throw<MelFusionException>(() => ImageReader.ReadFile(Path.Combine(Path.GetTempPath(), "there-is-no-such-file.png"))).Message.ShouldContain("cannot be read");
        Should.Throw<MelFusionException>(() => ImageReader.ReadFile(Path.GetTempPath()));
    }

    private static SKBitmap Corners()
    {
        var bitmap = new SKBitmap(new SKImageInfo(48, 32, SKColorType.Rgba8888, SKAlphaType.Opaque));
        for (int y = 0; y < 32; y++)
        {
            for (int x = 0; x < 48; x++)
            {
                bitmap.SetPixel(x, y, (x < 24, y < 16) switch { (true, true) => SKColors.Red, (false, true) => new(0, 255, 0), (true, false) => SKColors.Blue, _ => SKColors.White });
            }
        }

        return bitmap;
    }

    /// <summary>The corners as a camera stores them that was held so, with the tag that says how.</summary>
    private static byte[] JpegWithOrientation(int orientation)
    {
        using var upright = Corners();
        bool sideways = orientation >= 5;
        using var stored = new SKBitmap(new SKImageInfo(sideways ? 32 : 48, sideways ? 48 : 32, SKColorType.Rgba8888, SKAlphaType.Opaque));
        for (int y = 0; y < upright.Height; y++)
        {
            for (int x = 0; x < upright.Width; x++)
            {
                var (w, h) = (upright.Width - 1, upright.Height - 1);
                var (column, row) = orientation switch // where EXIF says the upright pixel lies
                {
                    1 => (x, y),
                    2 => (w - x, y),
                    3 => (w - x, h - y),
                    4 => (x, h - y),
                    5 => (y, x),
                    6 => (y, w - x),
                    7 => (h - y, w - x),
                    _ => (h - y, x),
                };
                stored.SetPixel(column, row, upright.GetPixel(x, y));
            }
        }

        using var encoded = stored.Encode(SKEncodedImageFormat.Jpeg, 95);
        byte[] exif =
        [
            0xFF, 0xE1, 0, 34, .. "Exif\0\0"u8, .. "MM\0*"u8, 0, 0, 0, 8, 0, 1, 0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, (byte)orientation, 0, 0, 0, 0, 0, 0,
        ];
        byte[] jpeg = encoded.ToArray();
        return [.. jpeg[..2], .. exif, .. jpeg[2..]];
    }

    private static byte[] PngHeader(int width, int height)
    {
        var header = new byte[17];
        "IHDR"u8.CopyTo(header);
        BinaryPrimitives.WriteInt32BigEndian(header.AsSpan(4), width);
        BinaryPrimitives.WriteInt32BigEndian(header.AsSpan(8), height);
        (header[12], header[13]) = (8, 2);
        using var packed = new MemoryStream();
        using (var zip = new ZLibStream(packed, CompressionLevel.Optimal))
        {
            zip.Write(new byte[1000]);
        }

        return [0x89, .. "PNG\r\n\x1a\n"u8, .. Chunk(header), .. Chunk([.. "IDAT"u8, .. packed.ToArray()]), .. Chunk([.. "IEND"u8])];
    }

    private static byte[] Chunk(byte[] nameAndData)
    {
        var length = new byte[4];
        BinaryPrimitives.WriteInt32BigEndian(length, nameAndData.Length - 4);
        uint crc = 0xFFFFFFFF;
        foreach (byte value in nameAndData)
        {
            crc ^= value;
            for (int bit = 0; bit < 8; bit++)
            {
                crc = (crc >> 1) ^ ((crc & 1) * 0xEDB88320);
            }
        }

        var check = new byte[4];
        BinaryPrimitives.WriteUInt32BigEndian(check, ~crc);
        return [.. length, .. nameAndData, .. check];
    }

    private static int Strongest(RgbPicture picture, int x, int y)
    {
        var pixel = picture.Pixels.Slice(((y * picture.Width) + x) * 3, 3).ToArray();
        return Array.IndexOf(pixel, pixel.Max());
    }

    private static void ShouldBeNear(RgbPicture picture, Tensor expected, bool exact, string name)
    {
        var actual = torch.tensor(picture.Pixels.ToArray(), [picture.Height, picture.Width, 3]);
        actual.shape.ShouldBe(expected.shape, name);
        var difference = (actual.to(ScalarType.Float32) - expected.to(ScalarType.Float32)).abs();
        difference.max().item<float>().ShouldBeLessThanOrEqualTo(exact ? 0 : 8, name);
        difference.mean().item<float>().ShouldBeLessThanOrEqualTo(exact ? 0 : 1, name);
    }

    private static void Compare(Tensor actual, Tensor expected, double tolerance, string name)
    {
        actual.shape.ShouldBe(expected.shape, name);
        (actual - expected).abs().max().item<float>().ShouldBeLessThanOrEqualTo((float)tolerance, name);
    }

    private static double[] Numbers(JsonElement list) => [.. list.EnumerateArray().Select(number => number.GetDouble())];
}
