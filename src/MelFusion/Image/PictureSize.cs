using System.Globalization;

namespace MelFusion.Image;

/// <summary>The size at which a picture is read, in pixels.</summary>
/// <param name="Width">From left to right.</param>
/// <param name="Height">From top to bottom.</param>
public readonly record struct PictureSize(int Width, int Height)
{
    /// <summary>The shortest side.</summary>
    public const int Least = 8;

    /// <summary>The longest side.</summary>
    public const int Most = 4096;

    /// <summary>Whether both sides are usable.</summary>
    internal bool IsUsable => Width is >= Least and <= Most && Height is >= Least and <= Most;

    /// <summary>Reads WIDTHxHEIGHT.</summary>
    public static bool TryParse(string text, out PictureSize size)
    {
        ArgumentNullException.ThrowIfNull(text);
        string[] sides = text.Split('x', 'X');
        size = sides.Length == 2 && int.TryParse(sides[0], NumberStyles.None, CultureInfo.InvariantCulture, out int width)
            && int.TryParse(sides[1], NumberStyles.None, CultureInfo.InvariantCulture, out int height) ? new(width, height) : default;
        return size.IsUsable;
    }

    /// <summary>Such as 512x512.</summary>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Width}x{Height}");
}
