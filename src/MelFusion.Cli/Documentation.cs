using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;
using System.Xml.Linq;

namespace MelFusion.Cli;

/// <summary>
/// The sentences of <c>--help</c> are those of the API documentation: a symbol's description is the documentation id of its setting, and
/// the sentence is looked up in the compiler's XML file when help is asked for.
/// </summary>
internal static class Documentation
{
    /// <summary>The id of a setting.</summary>
    public static string Id<TSettings>(string property) => $"P:{typeof(TSettings).FullName}.{property}";

    /// <summary>The id of a type.</summary>
    public static string Id<TType>() => $"T:{typeof(TType).FullName}";

    /// <summary>Replaces the ids below a command by their sentences.</summary>
    public static void Fill(Command command)
    {
        var sentences = Read();
        foreach (var symbol in command.Subcommands.Concat<Symbol>(command.Options).Concat(command.Arguments).Append(command))
        {
            if (symbol.Description is { } id && (id.StartsWith("P:", StringComparison.Ordinal) || id.StartsWith("T:", StringComparison.Ordinal)))
            {
                symbol.Description = sentences.GetValueOrDefault(id);
            }
        }
    }

    /// <summary>Every summary of this assembly and of the library, on one line each.</summary>
    public static IReadOnlyDictionary<string, string> Read() => new[] { typeof(Documentation), typeof(MusicRequest) }
        .Select(type => Path.Combine(AppContext.BaseDirectory, type.Assembly.GetName().Name + ".xml")).Where(File.Exists)
        .SelectMany(path => XDocument.Load(path).Descendants("member"))
        .Where(member => member.Element("summary") is not null)
        .ToDictionary(member => (string)member.Attribute("name")!, member => OneLine(member.Element("summary")!));

    private static string OneLine(XElement summary) => string.Join(' ', summary.Value.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries));
}

/// <summary>Help with the sentences filled in.</summary>
/// <param name="help">What prints.</param>
internal sealed class DocumentedHelp(HelpAction help) : SynchronousCommandLineAction
{
    /// <inheritdoc/>
    public override bool ClearsParseErrors => true;

    /// <inheritdoc/>
    public override int Invoke(ParseResult parseResult)
    {
        Documentation.Fill(parseResult.CommandResult.Command);
        var output = parseResult.InvocationConfiguration.Output;
        using var text = new StringWriter();
        parseResult.InvocationConfiguration.Output = text;
        int exitCode = help.Invoke(parseResult);
        // The program is named as the person calls it, not as its file.
        output.Write(text.ToString().Replace(RootCommand.ExecutableName, "melfusion", StringComparison.Ordinal));
        return exitCode;
    }
}
