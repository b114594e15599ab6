using MelFusion.Image;
using MelFusion.Training.Engine;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Training.Data;

/// <summary>
/// One way to look at a picture. A few hundred pictures are soon known by heart; parts of them, mirrored or not, say the same of a scene
/// with other keys and values.
/// </summary>
/// <param name="Share">Side of the part, 1: as large as the picture allows.</param>
/// <param name="Left">Where the part lies in what is left of the width, 0 to 1.</param>
/// <param name="Top">The same of the height.</param>
/// <param name="Mirrored">Whether left and right are exchanged.</param>
internal readonly record struct PictureView(double Share, double Left, double Top, bool Mirrored)
{
    private const double SmallestShare = 0.6;

    // Numbers that no step has, as chance is counted by step.
    private const long Purpose = -5;

    /// <summary>A picture's views in order: as sampling sees it, that mirrored, then parts drawn by chance, the same for the same numbers.</summary>
    /// <param name="picture">The picture's place in its list.</param>
    /// <param name="view">The view's place, from 0.</param>
    public static PictureView Of(int picture, int view)
    {
        if (view < 2)
        {
            return new(1, 0.5, 0.5, view == 1);
        }

        var choices = StepRandom.Choices(picture, Purpose, view);
        return new(SmallestShare + (1 - SmallestShare) * choices.NextDouble(), choices.NextDouble(), choices.NextDouble(), choices.Next(2) == 1);
    }

    /// <summary>What is seen of a picture: (1, 3, height, width) in [-1, 1].</summary>
    public Tensor Of(RgbPicture picture, PictureSize size)
    {
        var part = Share < 1 ? Part(picture, (double)size.Width / size.Height) : picture;
        var pixels = part.FitTo(size.Width, size.Height).ToTensor();
        return Mirrored ? pixels.flip(3) : pixels;
    }

    private RgbPicture Part(RgbPicture picture, double ratio)
    {
        double widest = Math.Min(picture.Width, picture.Height * ratio);
        int width = Math.Max(1, (int)(widest * Share)), height = Math.Max(1, (int)(widest / ratio * Share));
        return picture.Window((int)((picture.Width - width) * Left), (int)((picture.Height - height) * Top), width, height);
    }
}
