using MelFusion.Image;
using MelFusion.Training.Data;
using MelFusion.Weights;
using Shouldly;
using SkiaSharp;
using TorchSharp;
using Xunit;

namespace MelFusion.Tests.Training;

/// <summary>What training sees of a picture beside what sampling sees.</summary>
public sealed class PictureViewTests
{
    private static readonly PictureSize Size = new(32, 32);

    [Fact]
    public void The_first_view_is_what_sampling_sees_and_the_second_is_its_mirror_image()
    {
        var picture = Gradient(90, 60);
        using var shown = picture.FitTo(32, 32).ToTensor();

        PictureView.Of(7, 0).Of(picture, Size).equal(shown).all().item<bool>().ShouldBeTrue();
        PictureView.Of(7, 1).Of(picture, Size).equal(shown.flip(3)).all().item<bool>().ShouldBeTrue();
    }

    [Theory]
    [InlineData(90, 60)]
    [InlineData(60, 90)]
    [InlineData(3, 2)]
    public void Every_further_view_is_a_part_of_the_picture_with_nothing_from_outside_it(int width, int height)
    {
        var picture = Gradient(width, height, blue: 255);

        foreach (int view in Enumerable.Range(2, 10))
        {
            using var pixels = PictureView.Of(3, view).Of(picture, Size);
            pixels.shape.ShouldBe([1, 3, 32, 32]);
            pixels[0, 2].min().item<float>().ShouldBe(1, "a part that stood over would have black edges");
        }
    }

    [Fact]
    public void Views_differ_from_one_another_and_are_the_same_every_time()
    {
        var views = Enumerable.Range(0, 12).Select(view => PictureView.Of(5, view)).ToList();

        views.Distinct().Count().ShouldBe(12);
        views.ShouldBe(Enumerable.Range(0, 12).Select(view => PictureView.Of(5, view)));
        PictureView.Of(6, 2).ShouldNotBe(views[2], "every picture is cut at its own places");
        views.ShouldAllBe(view => view.Share >= 0.6 && view.Share <= 1);
    }

    private static RgbPicture Gradient(int width, int height, byte blue = 0)
    {
        using var bitmap = new SKBitmap(width, height);
        for (int y = 0; y < height; y++)
        {
            for (int x = 0; x < width; x++)
            {
                bitmap.SetPixel(x, y, new((byte)(255 * x / width), (byte)(255 * y / height), blue));
            }
        }

        using var png = bitmap.Encode(SKEncodedImageFormat.Png, 100);
        return ImageReader.Decode(png.ToArray());
    }
}
