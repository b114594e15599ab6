using System.CommandLine;
using MelFusion.Cli.Output;
using MelFusion.Training;

namespace MelFusion.Cli.Commands;

/// <summary>Train one stage of a model; the same command goes on where an earlier run stopped.</summary>
internal sealed class TrainCommand : Command
{
    private readonly Session _session;
    private readonly Argument<string> _config = Setting.File<TrainSettings>(nameof(TrainSettings.Config));

    /// <summary>The command with its options.</summary>
    public TrainCommand(Session session) : base("train", Documentation.Id<TrainCommand>())
    {
        _session = session;
        Add(_config);
        SetAction(result => Run(new() { Config = result.GetValue(_config)! }));
    }

    private int Run(TrainSettings settings)
    {
        var config = TrainingConfig.Read(settings.Config);
        var result = Train(config);
        _session.Output.Say(Words.Text($"{config.StageName}: {result.Steps} steps{LossOf(result)}; the model lies in {result.Model}"));
        return ExitCode.Done;
    }

    private static string LossOf(TrainingResult result) => double.IsNaN(result.Loss) ? string.Empty : Words.Text($", loss {result.Loss:0.0000}");

    private TrainingResult Train(TrainingConfig config)
    {
        try
        {
            return TrainingView.Show(_session.Output, progress => TrainingRun.Run(config, progress, _session.Cancellation));
        }
        catch (OperationCanceledException)
        {
            _session.Output.Say("The same command goes on where this run was stopped.");
            throw;
        }
    }
}
