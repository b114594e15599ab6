using System.Text;
using System.Text.RegularExpressions;

namespace MelFusion.Training.Data.Build;

/// <summary>Turns names of files and levels into words and into safe names.</summary>
internal static partial class PlainWords
{
    private const int LongestSlug = 48;

    /// <summary>Words of a file or level name: <c>02_The-DarkForest.ogg</c> gives <c>the dark forest</c>.</summary>
    /// <param name="name">A name, with or without folders and extension.</param>
    public static string FromName(string name)
    {
        var bare = MediaExtension().Replace(name.Replace('\\', '/').Split('/')[^1], "");
        var spaced = CamelCase().Replace(bare, " ");
        var letters = NotWord().Replace(spaced, " ");
        return Spaces().Replace(LoneNumber().Replace(letters, " "), " ").Trim().ToLowerInvariant();
    }

    /// <summary>A name that is safe as part of a file name: lower case letters, digits and single dashes, never empty.</summary>
    /// <param name="text">Any text.</param>
    public static string Slug(string text)
    {
        var slug = new StringBuilder();
        foreach (var c in text.Normalize(NormalizationForm.FormD).ToLowerInvariant())
        {
            if (char.IsAsciiLetterOrDigit(c))
            {
                slug.Append(c);
            }
            else if (slug.Length > 0 && slug[^1] != '-' && !char.IsAsciiLetterOrDigit(c) && c < 0x300)
            {
                slug.Append('-');
            }
        }

        var cut = slug.ToString(0, Math.Min(slug.Length, LongestSlug)).Trim('-');
        return cut.Length > 0 ? cut : "x";
    }

    [GeneratedRegex(@"\.(ogg|mp3|opus|flac|wav|xm|it|mod|s3m|png|jpe?g|webp|bmp|gif|tga|cfg|xml|stl|txt)$", RegexOptions.IgnoreCase)]
    private static partial Regex MediaExtension();

    [GeneratedRegex(@"(?<=[a-z])(?=[A-Z])|(?<=[a-zA-Z])(?=\d)|(?<=\d)(?=[A-Za-z])")]
    private static partial Regex CamelCase();

    [GeneratedRegex(@"[^\p{L}\p{N}']+")]
    private static partial Regex NotWord();

    [GeneratedRegex(@"(?<![\p{L}\p{N}])\d+(?![\p{L}\p{N}])")]
    private static partial Regex LoneNumber();

    [GeneratedRegex(@"\s+")]
    private static partial Regex Spaces();
}
