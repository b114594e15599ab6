using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;
using MelFusion.Cli.Commands;

namespace MelFusion.Cli;

/// <summary>The command line as a whole: which commands there are, and what becomes of errors.</summary>
internal static class Application
{
    /// <summary>Parses and runs; every error leaves as one sentence on standard error.</summary>
    /// <returns>The exit code, see <see cref="ExitCode"/>.</returns>
    public static int Run(IReadOnlyList<string> args, Session session)
    {
        try
        {
            // Without a replacer, a text that begins with @ stays a text and opens no file.
            var result = Root(session).Parse(args, new ParserConfiguration { ResponseFileTokenReplacer = null });
            if (result.Errors.Count > 0 && result.Action is not { ClearsParseErrors: true })
            {
                string wrong = result.UnmatchedTokens is [var token, ..]
                    ? $"'{token}' is neither a command nor an option of {NameOf(result)}" : result.Errors[0].Message.TrimEnd('.');
                return Fail(session, $"{wrong}; see {NameOf(result)} --help.", ExitCode.Usage);
            }

            return result.Invoke(new InvocationConfiguration
            {
                EnableDefaultExceptionHandler = false,
                ProcessTerminationTimeout = null,
                Output = session.Output.Profile.Out.Writer,
                Error = session.Error.Profile.Out.Writer,
            });
        }
        catch (OperationCanceledException) when (session.Cancellation.IsCancellationRequested)
        {
            return Fail(session, "Stopped.", session.WhenCancelled());
        }
        catch (UsageException e)
        {
            return Fail(session, e.Message, ExitCode.Usage);
        }
        catch (MelFusionException e)
        {
            return Fail(session, e.Message, ExitCode.Failed);
        }
        catch (OutOfMemoryException)
        {
            return Fail(session, "There is not enough memory for this; close other programs, or ask for fewer candidates or a shorter duration.", ExitCode.Failed);
        }
#pragma warning disable CA1031 // A fault of ours must not reach the person as a stack trace either.
        catch (Exception e) when (Environment.GetEnvironmentVariable("MELFUSION_STACK") is null)
        {
            return Fail(
                session, $"Something unexpected went wrong: {FirstLine(e.Message)} (set MELFUSION_STACK=1 for the details to report).", ExitCode.Failed);
        }
#pragma warning restore CA1031
    }

    /// <summary>Every command, one line each.</summary>
    private static RootCommand Root(Session session)
    {
        var root = new RootCommand("Music from a picture and a sentence.")
        {
            new GenerateCommand(session),
            new ReplayCommand(session),
            new TrainCommand(session),
            new DataCommand(session),
            new EvaluateCommand(session),
            new MeasureCommand(session),
            new ReproduceCommand(session),
            new ModelsCommand(session),
            new DoctorCommand(session),
        };
        var help = root.Options.OfType<HelpOption>().Single();
        help.Action = new DocumentedHelp((HelpAction)help.Action!);
        return root;
    }

    private static int Fail(Session session, string sentence, int exitCode)
    {
        session.Error.Say(sentence);
        return exitCode;
    }

    private static string NameOf(ParseResult result)
    {
        var names = new List<string>();
        for (Symbol? symbol = result.CommandResult.Command; symbol is Command and not RootCommand; symbol = symbol.Parents.FirstOrDefault())
        {
            names.Insert(0, symbol.Name);
        }

        return string.Join(' ', names.Prepend("melfusion"));
    }

    // libtorch's messages carry a native stack below their first line.
    private static string FirstLine(string message) => message.Split('\n')[0].Trim().TrimEnd('.');
}

/// <summary>The command line asks for something that makes no sense, seen after parsing; exit code 2.</summary>
internal sealed class UsageException(string message) : MelFusionException(message);
