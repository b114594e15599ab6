using System.Text.Json;

namespace MelFusion.Training.Data.Build;

/// <summary>
/// What is held out of training for good: models were trained and measured by it, so that a data set that is built anew, from newer packages or elsewhere, must
/// not take any of it into training.
/// </summary>
/// <param name="Validation">What belongs to validation.</param>
/// <param name="Test">What belongs to test.</param>
internal sealed record HeldOutList(HeldOutList.Part Validation, HeldOutList.Part Test)
{
    /// <summary>Tunes and pictures by their keys.</summary>
    internal sealed record Part(HashSet<string> Tunes, HashSet<string> Pictures);

    /// <summary>The list of OpenMeL, <c>split.json</c>.</summary>
    public static HeldOutList BuiltIn()
    {
        using var stream = typeof(HeldOutList).Assembly.GetManifestResourceStream("MelFusion.Training.Data.Build.split.json")!;
        return JsonSerializer.Deserialize<HeldOutList>(stream, OpenMelRow.Json)!;
    }

    /// <summary>Whether it names a tune or picture of these pairs: the rest of them is then for training.</summary>
    public bool Decides(IEnumerable<ScenePair> pairs) => pairs.Any(pair => OfTune(pair.Tune) != DataSplit.Train || OfPicture(pair.Picture) != DataSplit.Train);

    /// <summary>Where a tune belongs.</summary>
    public DataSplit OfTune(string tune) => Of(tune, part => part.Tunes);

    /// <summary>Where a picture belongs.</summary>
    public DataSplit OfPicture(string picture) => Of(picture, part => part.Pictures);

    private DataSplit Of(string key, Func<Part, HashSet<string>> keys) =>
        keys(Test).Contains(key) ? DataSplit.Test : keys(Validation).Contains(key) ? DataSplit.Validation : DataSplit.Train;
}
