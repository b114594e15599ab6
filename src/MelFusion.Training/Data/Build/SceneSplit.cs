using System.Security.Cryptography;
using System.Text;

namespace MelFusion.Training.Data.Build;

/// <summary>What the split needs to know of a pair that a scene makes: a tune, a picture, the game, and how many clips the tune gives.</summary>
/// <param name="Game">The game.</param>
/// <param name="Tune">Key of the tune: equal keys never part.</param>
/// <param name="Picture">Key of the picture: equal keys never part.</param>
internal sealed record ScenePair(string Game, string Tune, string Picture);

/// <summary>
/// Parts tunes and pictures into train, validation and test so that none is in two of them. Tunes and pictures that are paired hang together; where
/// everything in a game hangs together, it is cut: each picture stays with one tune (or each tune with one picture), and of all other
/// pairs those survive whose two ends came to lie in the same split.
/// </summary>
internal sealed class SceneSplit
{
    private const double ValidationShare = 0.10;
    private const double TestShare = 0.09;
    private const int FewestUnits = 4;

    // A group of tunes that holds more of its game than this is cut.
    private const double LargestUnit = 0.12;

    private readonly Dictionary<string, DataSplit> _tunes = new(StringComparer.Ordinal);
    private readonly Dictionary<string, DataSplit> _pictures = new(StringComparer.Ordinal);

    private SceneSplit()
    {
    }

    /// <summary>The split of each tune that has a picture.</summary>
    public IReadOnlyDictionary<string, DataSplit> Tunes => _tunes;

    /// <summary>The split of each picture that has a tune.</summary>
    public IReadOnlyDictionary<string, DataSplit> Pictures => _pictures;

    /// <summary>Whether a pair survives: both ends lie in the same split.</summary>
    /// <param name="pair">A pair of those that were split.</param>
    public bool Keeps(ScenePair pair) => _tunes.TryGetValue(pair.Tune, out var tune) && _pictures.TryGetValue(pair.Picture, out var picture) && tune == picture;

    /// <summary>Parts the pairs. The same pairs are always parted in the same way, whatever their order.</summary>
    /// <param name="pairs">All pairs of all games.</param>
    /// <param name="clips">How many clips each tune gives.</param>
    /// <param name="heldOut">What was held out before; a game of which it names nothing is parted by the rule. Null: nothing was.</param>
    public static SceneSplit Part(IEnumerable<ScenePair> pairs, IReadOnlyDictionary<string, int> clips, HeldOutList? heldOut = null)
    {
        var split = new SceneSplit();
        var all = pairs.Where(pair => clips.GetValueOrDefault(pair.Tune) > 0).Distinct().ToList();

        // A tune or picture used by two games ties them together: such games are parted as one.
        foreach (var games in Components(all, pair => pair.Game).GroupBy(unit => string.Join('|', unit.Select(pair => pair.Game).Distinct().Order(StringComparer.Ordinal))).OrderBy(group => group.Key, StringComparer.Ordinal))
        {
            List<ScenePair> together = [.. games.SelectMany(unit => unit)];
            if (heldOut?.Decides(together) == true)
            {
                split.PlaceBy(heldOut, together);
            }
            else
            {
                split.PartGame(together, clips);
            }
        }

        return split;
    }

    private void PlaceBy(HeldOutList list, List<ScenePair> pairs)
    {
        foreach (var pair in pairs)
        {
            _tunes[pair.Tune] = list.OfTune(pair.Tune);
            _pictures[pair.Picture] = list.OfPicture(pair.Picture);
        }
    }

    private void PartGame(List<ScenePair> pairs, IReadOnlyDictionary<string, int> clips)
    {
        var total = Clips(pairs, clips);
        var units = Components(pairs, null).SelectMany(unit => Clips(unit, clips) > LargestUnit * total ? Stars(unit) : [unit]).OrderBy(Shuffle, StringComparer.Ordinal).ToList();
        var room = units.Count < FewestUnits
            ? []
            : new Dictionary<DataSplit, double> { [DataSplit.Test] = TestShare * total, [DataSplit.Validation] = ValidationShare * total };
        foreach (var unit in units)
        {
            var size = Clips(unit, clips);
            var place = room.Where(entry => size <= entry.Value * 1.25).OrderByDescending(entry => entry.Value).Select(entry => (DataSplit?)entry.Key).FirstOrDefault() ?? DataSplit.Train;
            if (place != DataSplit.Train)
            {
                room[place] -= size;
            }

            foreach (var pair in unit)
            {
                _tunes[pair.Tune] = place;
                _pictures[pair.Picture] = place;
            }
        }
    }

    /// <summary>
    /// Each picture stays with the one of its tunes that has the fewest pictures so far, and a tune that got none goes along with the one of its
    /// pictures that has the fewest tunes: as many units as the smaller of both sides allows.
    /// </summary>
    private static List<List<ScenePair>> Stars(List<ScenePair> pairs)
    {
        var kept = new List<ScenePair>();
        var load = pairs.Select(pair => pair.Tune).Distinct(StringComparer.Ordinal).ToDictionary(tune => tune, _ => 0, StringComparer.Ordinal);
        foreach (var picture in pairs.GroupBy(pair => pair.Picture, StringComparer.Ordinal).OrderBy(group => group.Count()).ThenBy(group => group.Key, StringComparer.Ordinal))
        {
            var pair = picture.OrderBy(pair => load[pair.Tune]).ThenBy(pair => pair.Tune, StringComparer.Ordinal).First();
            load[pair.Tune]++;
            kept.Add(pair);
        }

        var guests = kept.GroupBy(pair => pair.Picture, StringComparer.Ordinal).ToDictionary(group => group.Key, _ => 1, StringComparer.Ordinal);
        foreach (var tune in pairs.Where(pair => load[pair.Tune] == 0).GroupBy(pair => pair.Tune, StringComparer.Ordinal).OrderBy(group => group.Key, StringComparer.Ordinal))
        {
            var pair = tune.OrderBy(pair => guests[pair.Picture]).ThenBy(pair => pair.Picture, StringComparer.Ordinal).First();
            guests[pair.Picture]++;
            kept.Add(pair);
        }

        return Components(kept, null);
    }

    private static List<List<ScenePair>> Components(List<ScenePair> pairs, Func<ScenePair, string>? alsoTiedBy)
    {
        var parent = new Dictionary<string, string>(StringComparer.Ordinal);
        string Find(string node)
        {
            var root = node;
            while (parent.TryGetValue(root, out var up) && up != root)
            {
                root = up;
            }

            return parent[node] = root;
        }

        foreach (var pair in pairs)
        {
            parent[Find("t:" + pair.Tune)] = Find("p:" + pair.Picture);
            if (alsoTiedBy is not null)
            {
                parent[Find("t:" + pair.Tune)] = Find("g:" + alsoTiedBy(pair));
            }
        }

        return [.. pairs.GroupBy(pair => Find("t:" + pair.Tune), StringComparer.Ordinal).Select(group => group.ToList())];
    }

    private static int Clips(IEnumerable<ScenePair> unit, IReadOnlyDictionary<string, int> clips) => unit.Select(pair => pair.Tune).Distinct(StringComparer.Ordinal).Sum(tune => clips[tune]);

    // An order that depends on nothing but the unit's own name.
    private static string Shuffle(List<ScenePair> unit) => Convert.ToHexString(SHA256.HashData(Encoding.UTF8.GetBytes(unit.Select(pair => pair.Tune).Min(StringComparer.Ordinal)!)));
}
