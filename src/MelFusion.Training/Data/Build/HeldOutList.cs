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
    private static readonly JsonSerializerOptions Json = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };

    /// <summary>Tunes and pictures by their keys.</summary>
    internal sealed record Part(HashSet<string> Tunes, HashSet<string> Pictures);

    /// <summary>A list that names nothing.</summary>
    public static HeldOutList None { get; } = new(new(new HashSet<string>(), new HashSet<string>()), new(new HashSet<string>(), new HashSet<string>()));

    /// <summary>The list of OpenMeL, <c>split.json</c>.</summary>
    public static HeldOutList BuiltIn()
    {
        using var stream = typeof(HeldOutList).Assembly.GetManifestResourceStream("MelFusion.Training.Data.Build.split.json")!;
        return JsonSerializer.Deserialize<HeldOutList>(stream, Json)!;
    }

    /// <summary>Whether it names a tune or picture of these pairs: the rest of them is then for training.</summary>
    public bool Decides(IEnumerable<ScenePair> pairs) => pairs.Any(pair => OfTune(pair.Tune) != DataSplit.Train || OfPicture(pair.Picture) != DataSplit.Train);

    /// <summary>Where a tune belongs.</summary>
    public DataSplit OfTune(string tune) => Test.Tunes.Contains(tune) ? DataSplit.Test : Validation.Tunes.Contains(tune) ? DataSplit.Validation : DataSplit.Train;

    /// <summary>Where a picture belongs.</summary>
    public DataSplit OfPicture(string picture) =>
        Test.Pictures.Contains(picture) ? DataSplit.Test : Validation.Pictures.Contains(picture) ? DataSplit.Validation : DataSplit.Train;
}
