using System.CommandLine;
using System.Text.Json.Nodes;
using MelFusion.Cli.Output;
using MelFusion.Weights;
using Spectre.Console;

namespace MelFusion.Cli.Commands;

/// <summary>Make a file again from the recipe inside it, and say whether it is equal bit for bit.</summary>
internal sealed class ReplayCommand : Command
{
    private readonly Session _session;
    private readonly Argument<string> _file = Setting.File<ReplaySettings>(nameof(ReplaySettings.File));
    private readonly Option<string?> _image = Setting.Path<ReplaySettings>(nameof(ReplaySettings.Image));
    private readonly Option<string?> _model = Setting.Path<ReplaySettings>(nameof(ReplaySettings.Model), "folder");
    private readonly Option<string?> _output = Setting.Path<ReplaySettings>(nameof(ReplaySettings.Output));
    private readonly Option<bool> _json = Setting.Flag<ReplaySettings>(nameof(ReplaySettings.Json));
    private readonly Option<bool> _overwrite = Setting.Flag<ReplaySettings>(nameof(ReplaySettings.Overwrite));

    /// <summary>The command with its options.</summary>
    public ReplayCommand(Session session) : base("replay", Documentation.Id<ReplayCommand>())
    {
        _session = session;
        Add(_file);
        Option[] options = [_image, _model, _output, _json, _overwrite];
        Array.ForEach(options, Add);
        SetAction(result => Run(new()
        {
            File = result.GetValue(_file)!,
            Image = result.GetValue(_image),
            Model = result.GetValue(_model),
            Output = result.GetValue(_output),
            Json = result.GetValue(_json),
            Overwrite = result.GetValue(_overwrite),
        }));
    }

    private int Run(ReplaySettings settings)
    {
        var console = _session.ForPeople(settings.Json);
        var files = settings.Output is null ? [] : OutputFiles.Prepare(settings.Output, 1, settings.Overwrite);
        var replay = Replay.Open(settings.File, settings.Image);
        var folder = ModelFolder.Open(ModelPlace.Find(settings.Model));
        var outcome = GenerationView.Show(console, progress => replay.Run(folder, progress, _session.Cancellation));
        ClipFile.Write(files, [outcome.Clip], _session.Cancellation);
        Render(settings, console, outcome);
        return outcome.IsEqual ? ExitCode.Done : ExitCode.Failed;
    }

    private void Render(ReplaySettings settings, IAnsiConsole console, ReplayOutcome outcome)
    {
        console.Say(settings.File + (outcome.IsEqual ? ": made again, equal bit for bit." : ": made again, and it differs."));
        foreach (var field in outcome.Fields)
        {
            console.Say($"  {field.Name}: {field.Here} in the recipe, {field.There} here");
        }

        if (outcome.SamplesBefore != outcome.SamplesNow)
        {
            console.Say(Words.Text($"  samples: {outcome.SamplesBefore} in the file, {outcome.SamplesNow} here"));
        }

        if (outcome.FirstDifference is { } first)
        {
            console.Say(Words.Text($"  first sample that differs: {first}; largest difference: {outcome.LargestDifference} of 32768"));
        }

        if (settings.Json)
        {
            _session.WriteJson(new JsonObject
            {
                ["equal"] = outcome.IsEqual,
                ["samples_before"] = outcome.SamplesBefore,
                ["samples_now"] = outcome.SamplesNow,
                ["first_difference"] = outcome.FirstDifference,
                ["largest_difference"] = outcome.LargestDifference,
                ["fields"] = new JsonArray([.. outcome.Fields.Select(field =>
                    (JsonNode)new JsonObject { ["name"] = field.Name, ["recipe"] = field.Here, ["here"] = field.There })]),
            }.ToJsonString());
        }
    }
}
