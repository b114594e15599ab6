using System.CommandLine;
using System.CommandLine.Parsing;
using MelFusion.Cli.Output;
using MelFusion.Training.Data.Build;

namespace MelFusion.Cli.Commands;

/// <summary>The data that models are trained on.</summary>
internal sealed class DataCommand : Command
{
    /// <summary>The command with its subcommands.</summary>
    public DataCommand(Session session) : base("data", Documentation.Id<DataCommand>()) => Add(new DataBuildCommand(session));
}

/// <summary>Build OpenMeL: clips of free game music from Debian's packages, each with the pictures its makers paired it with.</summary>
internal sealed class DataBuildCommand : Command
{
    private readonly Session _session;
    private readonly Option<string?> _output = Setting.Path<DataBuildSettings>(nameof(DataBuildSettings.Output), "folder");
    private readonly Option<string?> _cache = Setting.Path<DataBuildSettings>(nameof(DataBuildSettings.Cache), "folder");
    private readonly Option<string?> _packages = Setting.Text<DataBuildSettings>(nameof(DataBuildSettings.Packages), 10_000);
    private readonly Option<bool> _noPictures = Setting.Flag<DataBuildSettings>(nameof(DataBuildSettings.NoPictures));
    private readonly Option<string?> _tagger = Setting.Path<DataBuildSettings>(nameof(DataBuildSettings.Tagger), "folder");
    private readonly Option<long?> _workers = Setting.Whole<DataBuildSettings>(nameof(DataBuildSettings.Workers), 1, 256);

    /// <summary>The command with its options.</summary>
    public DataBuildCommand(Session session) : base("build", Documentation.Id<DataBuildCommand>())
    {
        _session = session;
        Option[] options = [_output, _cache, _packages, _noPictures, _tagger, _workers];
        Array.ForEach(options, Add);
        Validators.Add(Check);
        SetAction(result => Run(new()
        {
            Output = result.GetValue(_output)!,
            Cache = result.GetValue(_cache),
            Packages = Setting.Items(result.GetValue(_packages)),
            NoPictures = result.GetValue(_noPictures),
            Tagger = result.GetValue(_tagger),
            Workers = (int?)result.GetValue(_workers) ?? 2,
        }));
    }

    private void Check(CommandResult result)
    {
        if (result.GetResult(_output) is null)
        {
            result.AddError("There is no --output: name the folder to fill");
        }
    }

    private int Run(DataBuildSettings settings)
    {
        var options = new OpenMelOptions
        {
            Output = settings.Output,
            Cache = settings.Cache,
            Packages = settings.Packages,
            WithPictures = !settings.NoPictures,
            Tagger = settings.Tagger,
            Workers = settings.Workers,
        };
        var report = CountView.ShowCount<OpenMelProgress, OpenMelReport>(
            _session.Output, string.Empty, value => (value.Stage, value.Done, value.Total),
            show => new OpenMelBuilder(options, show).BuildAsync(_session.Cancellation).GetAwaiter().GetResult());
        foreach (var (split, rows) in report.Rows)
        {
            _session.Output.Say(Words.Text($"{split}: {rows.Count} clips"));
        }

        _session.Output.Say(Words.Text($"{report.Pictures} pictures; {report.Skipped.Count} files could not be read"));
        foreach (string file in report.Skipped)
        {
            _session.Output.Say($"  {file}");
        }

        return ExitCode.Done;
    }
}
