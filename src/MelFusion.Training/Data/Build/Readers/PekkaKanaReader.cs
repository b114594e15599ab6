using System.Text;

namespace MelFusion.Training.Data.Build.Readers;

/// <summary>Pekka Kana 2: the head of a level names its scenery and its music, each in 13 bytes.</summary>
public sealed class PekkaKanaReader : IGameReader
{
    private const string Root = "usr/share/games/pekka-kana-2/data";

    // Layout of a level file: version (5 bytes), tiles, scenery, music (13 each), title (40); text ends at the first zero.
    private const int VersionBytes = 5;
    private const int NameBytes = 13;
    private const int TitleBytes = 40;
    private const int HeadBytes = VersionBytes + (3 * NameBytes) + TitleBytes;

    /// <inheritdoc/>
    public IReadOnlyList<string> Packages { get; } = ["pekka-kana-2-data"];

    /// <inheritdoc/>
    public IEnumerable<GameScene> Read(GameTrees trees)
    {
        var files = trees.Files(Root);
        var byName = files.Where(file => MediaFile.IsPicture(file) || MediaFile.IsMusic(file)).GroupBy(file => Path.GetFileName(file), StringComparer.OrdinalIgnoreCase)
            .ToDictionary(group => group.Key, group => group.First(), StringComparer.OrdinalIgnoreCase);
        foreach (var level in files.Where(file => Path.GetExtension(file) == ".map"))
        {
            var head = new byte[HeadBytes];
            using (var stream = File.OpenRead(level))
            {
                if (stream.ReadAtLeast(head, HeadBytes, throwOnEndOfStream: false) < HeadBytes)
                {
                    continue;
                }
            }

            var scenery = Text(head.AsSpan(VersionBytes + NameBytes, NameBytes));
            var music = Text(head.AsSpan(VersionBytes + (2 * NameBytes), NameBytes));
            if (byName.TryGetValue(scenery, out var picture) && MediaFile.IsPicture(picture) && byName.TryGetValue(music, out var track) && MediaFile.IsMusic(track))
            {
                var episode = PlainWords.FromName(Path.GetFileName(Path.GetDirectoryName(level)!));
                yield return new GameScene("Pekka Kana 2", episode, Text(head.AsSpan(VersionBytes + (3 * NameBytes), TitleBytes)), $"{PlainWords.FromName(scenery.Split('_')[0])}, pixel art landscape", [new SceneTrack(track, PlainWords.FromName(track), track)], [new ScenePicture(picture)]);
            }
        }
    }

    private static string Text(ReadOnlySpan<byte> field)
    {
        var end = field.IndexOf((byte)0);
        return Encoding.Latin1.GetString(end < 0 ? field : field[..end]).Trim();
    }
}
