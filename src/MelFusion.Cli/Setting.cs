using System.CommandLine;
using System.CommandLine.Parsing;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Text.Json;
using MelFusion.Image;

namespace MelFusion.Cli;

/// <summary>
/// Options of settings types: a property's name in kebab case (or a shorter one), its documentation as help, and a check whose sentence says what is
/// allowed. Numbers are read the same in every country.
/// </summary>
internal static class Setting
{
    /// <summary>A path; must not be empty.</summary>
    public static Option<string?> Path<TSettings>(string property, string helpName = "file") =>
        Make<TSettings, string?>(property, helpName, text => string.IsNullOrWhiteSpace(text) ? new(null, "is empty; name a " + helpName) : new(text));

    /// <summary>A text of a person; must not be empty, nor longer than a model takes.</summary>
    public static Option<string?> Text<TSettings>(string property, int longest, string? name = null) =>
        Make<TSettings, string?>(property, "text", name: name, parse: text =>
            string.IsNullOrWhiteSpace(text) ? new(null, "is empty; write something, or leave it out")
            : text.Length > longest ? new(null, $"has {text.Length} characters; {longest} are the most")
            : new(text));

    /// <summary>A whole number of a range.</summary>
    public static Option<long?> Whole<TSettings>(string property, long least, long most) =>
        Make<TSettings, long?>(property, "n", text =>
            ToWhole(text, NumberStyles.AllowLeadingSign, least, most) is { } value
                ? new(value)
                : new(null, $"must be a whole number from {least} to {most}, not '{Shown(text)}'"));

    /// <summary>Some different whole numbers of a range, with commas between them.</summary>
    public static Option<IReadOnlyList<long>?> Wholes<TSettings>(string property, long least, long most, int longest) =>
        Make<TSettings, IReadOnlyList<long>?>(property, "n,n,...", text =>
        {
            var words = Items(text);
            var numbers = words.Select(word => ToWhole(word, NumberStyles.None, least, most)).OfType<long>().Distinct().ToList();
            return numbers.Count == words.Length && numbers.Count > 0 && numbers.Count <= longest
                ? new(numbers)
                : new(null, $"must be up to {longest} different whole numbers from {least} to {most} with commas between them, not '{Shown(text)}'");
        });

    /// <summary>A number of a range; no number (NaN) is none.</summary>
    public static Option<double?> Number<TSettings>(string property, double least, double most, string helpName = "x") =>
        Make<TSettings, double?>(property, helpName, text =>
            double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out double value) && value >= least && value <= most
                ? new(value)
                : new(null, string.Create(CultureInfo.InvariantCulture, $"must be a number from {least} to {most}, not '{Shown(text)}'")));

    /// <summary>The size of a picture.</summary>
    public static Option<PictureSize?> Size<TSettings>(string property, string? name = null) => Make<TSettings, PictureSize?>(property, "WxH", name: name, parse: text =>
        PictureSize.TryParse(text, out var size)
            ? new(size)
            : new(null, $"must be WIDTHxHEIGHT of {PictureSize.Least} to {PictureSize.Most} pixels each, such as 512x512, not '{Shown(text)}'"));

    /// <summary>One of some words.</summary>
    public static Option<TChoice?> Choice<TSettings, TChoice>(string property, params (string Word, TChoice Value)[] choices) where TChoice : struct
    {
        string words = string.Join('|', choices.Select(choice => choice.Word));
        return Make<TSettings, TChoice?>(property, words, text =>
        {
            int at = Array.FindIndex(choices, choice => choice.Word.Equals(text, StringComparison.OrdinalIgnoreCase));
            return at >= 0 ? new(choices[at].Value) : new(null, $"must be one of {words.Replace("|", ", ", StringComparison.Ordinal)}, not '{Shown(text)}'");
        });
    }

    /// <summary>One of an enumeration's names, in lower case.</summary>
    public static Option<TChoice?> Choice<TSettings, TChoice>(string property) where TChoice : struct, Enum =>
        Choice<TSettings, TChoice>(property, [.. Enum.GetValues<TChoice>().Select(choice => (Word(choice), choice))]);

    /// <summary>The word of a choice that is called by its name.</summary>
    public static string Word<TChoice>(TChoice choice) where TChoice : struct, Enum => Enum.GetName(choice)!.ToLowerInvariant();

    /// <summary>A switch.</summary>
    public static Option<bool> Flag<TSettings>(string property) => new(NameOf(property)) { Description = Documentation.Id<TSettings>(property), Arity = ArgumentArity.Zero };

    /// <summary>The items of a list with commas between them, without the empty ones; null: of no list.</summary>
    [return: NotNullIfNotNull(nameof(list))]
    public static string[]? Items(string? list) => list?.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);

    /// <summary>A file that must be named.</summary>
    public static Argument<string> File<TSettings>(string property)
    {
        var argument = new Argument<string>(property.ToUpperInvariant()) { Description = Documentation.Id<TSettings>(property) };
        argument.Validators.Add(result =>
        {
            if (result.Tokens is [{ Value: var value }] && string.IsNullOrWhiteSpace(value))
            {
                result.AddError($"{argument.Name} is empty; name a file");
            }
        });
        return argument;
    }

    private static Option<T> Make<TSettings, T>(string property, string helpName, Func<string, Parsed<T>> parse, string? name = null)
    {
        name ??= NameOf(property);
        return new Option<T>(name)
        {
            HelpName = helpName,
            Description = Documentation.Id<TSettings>(property),
            Arity = ArgumentArity.ExactlyOne,
            CustomParser = result => Value(result, name, parse(result.Tokens[0].Value)),
        };
    }

    private static T Value<T>(ArgumentResult result, string name, Parsed<T> parsed)
    {
        if (parsed.Wrong is not null)
        {
            result.AddError($"{name} {parsed.Wrong}");
        }

        return parsed.Value!;
    }

    private static long? ToWhole(string text, NumberStyles style, long least, long most) =>
        long.TryParse(text, style, CultureInfo.InvariantCulture, out long value) && value >= least && value <= most ? value : null;

    private static string NameOf(string property) => "--" + JsonNamingPolicy.KebabCaseLower.ConvertName(property);

    private static string Shown(string text) => text.Length <= 40 ? text : text[..40] + "...";

    private readonly record struct Parsed<T>(T? Value, string? Wrong = null);
}
