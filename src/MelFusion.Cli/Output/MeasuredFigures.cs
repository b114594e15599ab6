using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;
using MelFusion.Evaluation;
using MelFusion.Evaluation.Reports;
using MelFusion.Training;
using MelFusion.Training.Data;
using Spectre.Console;

namespace MelFusion.Cli.Output;

/// <summary>The figures of a model card, as a table, as Markdown and as JSON.</summary>
/// <param name="Model">The model's name.</param>
/// <param name="WeightsSha256">Hash of its weights.</param>
/// <param name="Split">Which clips.</param>
/// <param name="Captions">Which of their captions.</param>
/// <param name="Strangers">Other clips whose picture or text each clip got.</param>
/// <param name="Conditions">What text and picture are worth; null: not measured.</param>
/// <param name="Reconstruction">What autoencoder and vocoders keep; null: not measured.</param>
/// <param name="Made">The clips that were made.</param>
internal sealed record MeasuredFigures(
    string Model, string WeightsSha256, string Split, CaptionKind Captions, int Strangers, ConditionComparison? Conditions, ReconstructionFigures? Reconstruction,
    IReadOnlyList<MadeClip> Made)
{
    // What is shown of every noise level: the picture is heard at some more than at others.
    private static readonly string[] Pictures = ["shuffled_picture", "shuffled_picture_no_text"];

    private static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.KebabCaseLower) },
    };

    /// <summary>One line of JSON.</summary>
    public string ToLine() => JsonSerializer.Serialize(this, Json);

    /// <summary>Writes measured.json and measured.md.</summary>
    public void Write(string folder)
    {
        ReportWriter.WriteWhole(Path.Combine(folder, "measured.json"), ToLine() + "\n");
        var text = new StringBuilder($"# {Model}, {Split} split, {Said(Captions)}\n\n| what | figure |\n| --- | --- |\n");
        foreach (var (what, figure) in Rows())
        {
            text.Append(CultureInfo.InvariantCulture, $"| {what} | {figure} |\n");
        }

        ReportWriter.WriteWhole(Path.Combine(folder, "measured.md"), text.ToString());
    }

    /// <summary>The figures for a terminal.</summary>
    public Table Table()
    {
        var table = new Table().AddColumns("what", "figure");
        foreach (var (what, figure) in Rows())
        {
            table.AddRow(new Spectre.Console.Text(what), new Spectre.Console.Text(figure));
        }

        return table;
    }

    private IEnumerable<(string What, string Figure)> Rows() =>
    [
        .. Conditions is null ? [] : RowsOf(Conditions, Strangers),
        .. Reconstruction is null ? [] : RowsOf(Reconstruction),
        .. Made.Count == 0 ? [] : RowsOfSound(),
    ];

    private static IEnumerable<(string What, string Figure)> RowsOf(ConditionComparison conditions, int strangers) =>
    [
        (Words.Text($"loss, right text and picture, {conditions.Clips} clips{(strangers == 1 ? "" : $" ({strangers} strangers each)")}"), Words.Text($"{conditions.Loss["right"]:0.00000}")),
        .. conditions.Difference.Select(pair => (Said(pair.Key), Shown(pair.Value))),
        .. conditions.ByTimestep.SelectMany(level => Pictures.Select(condition => (
            Words.Text($"at timestep {level.Timestep}, {Said(condition)}"), Shown(level.Difference[condition])))),
    ];

    private static IEnumerable<(string What, string Figure)> RowsOf(ReconstructionFigures reconstruction) =>
    [
        (Words.Text($"autoencoder, log-mel L1, {reconstruction.Clips} clips"), Words.Text($"{reconstruction.AutoencoderLogMelL1:0.000}")),
        .. reconstruction.Vocoders.Select(way => (
            way.Refine == 0 ? Words.Text($"{Name(way.Vocoder)}, log-mel L1 / multi-resolution STFT") : Words.Text($"{Name(way.Vocoder)}, refined {way.Refine} times"),
            Words.Text($"{way.LogMelL1:0.000} / {way.MultiResolutionStft:0.000}"))),
    ];

    private IEnumerable<(string What, string Figure)> RowsOfSound() =>
    [
        (Words.Text($"level of {Made.Count} clips made, dBFS"), Range(clip => clip.Statistics.RmsDbfs, "0.0")),
        ("spectral flatness", Range(clip => clip.Statistics.SpectralFlatness, "0.000")),
        ("clipped samples", Range(clip => clip.Statistics.ClippedFraction, "0.0000 %")),
        ("silent frames", Range(clip => clip.Statistics.SilenceFraction, "0.0 %")),
    ];

    private string Range(Func<MadeClip, double> figure, string format)
    {
        double[] values = [.. Made.Select(figure)];
        return $"{values.Min().ToString(format, CultureInfo.InvariantCulture)} to {values.Max().ToString(format, CultureInfo.InvariantCulture)}";
    }

    private static string Name(VocoderKind vocoder) => vocoder == VocoderKind.HifiGan ? "HiFi-GAN" : "Griffin-Lim";

    private static string Shown(PairedDifference difference) =>
        Words.Text($"{difference.Mean:+0.000000;-0.000000} ± {difference.HalfInterval:0.000000} (by tune ± {difference.HalfIntervalByTune:0.000000})");

    private static string Said(CaptionKind captions) => captions == CaptionKind.Heard ? "captions of what is heard" : "all captions";

    private static string Said(string condition) => condition switch
    {
        "shuffled_picture" => "loss of another picture above the right one",
        "no_picture" => "loss without picture above the right one",
        "shuffled_text" => "loss of another text above the right one",
        "no_text" => "loss without text above the right one",
        "shuffled_picture_no_text" => "without text: another picture above the right one",
        "shuffled_picture_full_text" => "with the fullest caption: another picture above the right one",
        "other_source" => "loss with keys and values of the other source (recorded, trajectory) above the model's",
        _ => "without text: no picture above the right one",
    };
}
