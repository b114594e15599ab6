using System.Text.Json;
using MelFusion.Training.Data.Build.Readers;

namespace MelFusion.Training.Data.Build;

/// <summary>One picture for the image models, a line of <c>pictures/pictures.jsonl</c>.</summary>
/// <param name="Id">Its name.</param>
/// <param name="File">The file, relative to the folder <c>pictures</c>.</param>
/// <param name="Split">train or validation.</param>
/// <param name="Caption">Words from the names of its file and folders.</param>
/// <param name="Licence">The licences that the package's copyright file names.</param>
/// <param name="Package">The Debian package.</param>
/// <param name="Path">Its path inside the package.</param>
public sealed record PictureRow(string Id, string File, string Split, string Caption, string Licence, string Package, string Path);

/// <summary>Collects the pictures that the image models learn from: the games' own art, wallpapers and clip art, without those held out.</summary>
internal static class PictureSet
{
    private const int Side = 256;
    private const int SmallestSide = 200;
    private const int MostOfOnePackage = 1500;
    private const int ValidationOneIn = 20;

    // Parts of a surface's look other than its colour, and what is no picture: letters, buttons, pointers.
    private static readonly string[] NotArt = ["/font", "/cursor", "/icons/", "/hicolor/", "normal", "_nrm", "_nm.", "_spec", "gloss", "_mask", "/l10n/", "bumpmap", "/gui/", "/flags/", "-norm", "_norm", "_ao.", "/avatar/", "/enemies/", "/loot/", "sprite", "/units/", "/workers/", "/ships/", "/tilesets/", "/tiles/", "/npcs/", "/powers/"];

    /// <summary>Packages of pictures only.</summary>
    public static IReadOnlyList<string> Packages { get; } =
    [
        "openclipart-png", "gnome-backgrounds", "plasma-workspace-wallpapers", "mate-backgrounds", "desktop-base", "ukui-wallpapers", "lomiri-wallpapers-16.04",
        "lomiri-wallpapers-20.04", "sway-backgrounds", "debian-edu-artwork-homeworld", "debian-edu-artwork-softwaves", "debian-edu-artwork-spacefun", "debian-edu-artwork-emerald",
        "endless-sky-data", "freeorion-data", "blobwars-data", "scorched3d-data", "neverball-data", "trigger-rally-data", "openarena-081-textures", "tuxpaint-stamps-default", "xmoto-data",
    ];

    /// <summary>Writes the pictures and their table; returns how many there are.</summary>
    /// <param name="output">The data folder.</param>
    /// <param name="trees">Package name to folder.</param>
    /// <param name="held">Files of the pictures of validation and test scenes: neither they nor their likes are taken.</param>
    /// <param name="workers">How many pictures are read at the same time.</param>
    /// <param name="progress">Hears how far it is.</param>
    /// <param name="cancellationToken">Stops it.</param>
    public static int Write(string output, IReadOnlyDictionary<string, string> trees, IReadOnlyCollection<string> held, int workers, IProgress<OpenMelProgress>? progress, CancellationToken cancellationToken)
    {
        var folder = System.IO.Path.Combine(output, "pictures");
        Directory.CreateDirectory(System.IO.Path.Combine(folder, "train"));
        Directory.CreateDirectory(System.IO.Path.Combine(folder, "validation"));
        var source = new GameTrees(trees);
        var files = trees.OrderBy(tree => tree.Key, StringComparer.Ordinal).SelectMany(tree => Candidates(tree.Value)).Where(file => !held.Contains(file)).ToList();
        var licences = trees.ToDictionary(tree => tree.Key, tree => Licences.Of(tree.Value, tree.Key), StringComparer.Ordinal);
        var kept = held.Select(file => PictureFile.Read(new ScenePicture(file), SmallestSide, Side, square: true)).OfType<PictureFile>().ToList();
        var rows = new List<PictureRow>();
        foreach (var (batch, index) in files.Chunk(256).Select((batch, index) => (batch, index)))
        {
            cancellationToken.ThrowIfCancellationRequested();
            var read = new PictureFile?[batch.Length];
            Parallel.For(0, batch.Length, new ParallelOptions { MaxDegreeOfParallelism = workers }, i => read[i] = PictureFile.Read(new ScenePicture(batch[i]), SmallestSide, Side, square: true));
            for (var i = 0; i < batch.Length; i++)
            {
                if (read[i] is { } picture && !kept.Exists(other => other.Hash == picture.Hash || other.LooksLike(picture)))
                {
                    kept.Add(picture);
                    rows.Add(Add(folder, source.Source(batch[i]), picture, licences));
                }
            }

            progress?.Report(new OpenMelProgress("collecting pictures", Math.Min(files.Count, (index + 1) * 256), files.Count));
        }

        RemoveStrays(folder, rows);
        WriteTable(folder, rows);
        return rows.Count;
    }

    private static IEnumerable<string> Candidates(string tree)
    {
        var files = new GameTrees(new Dictionary<string, string> { [""] = tree }).Files()
            .Where(file => MediaFile.IsPicture(file) && !NotArt.Any(part => file[tree.Length..].Contains(part, StringComparison.OrdinalIgnoreCase)) && new FileInfo(file).Length > 6000).ToList();

        // Every n-th of a package that has too many, so that all of its folders are seen.
        var step = Math.Max(1.0, (double)files.Count / MostOfOnePackage);
        return Enumerable.Range(0, Math.Min(files.Count, MostOfOnePackage)).Select(i => files[(int)(i * step)]);
    }

    private static PictureRow Add(string folder, (string Package, string Path) source, PictureFile picture, Dictionary<string, string> licences)
    {
        var id = $"{PlainWords.Slug(source.Package)}-{PlainWords.Slug(PlainWords.FromName(source.Path))}-{picture.Hash[..8].ToLowerInvariant()}";
        var split = Convert.ToInt32(picture.Hash[8..12], 16) % ValidationOneIn == 0 ? "validation" : "train";
        var file = $"{split}/{id}.jpg";
        File.WriteAllBytes(System.IO.Path.Combine(folder, file), picture.Jpeg);
        return new PictureRow(id, file, split, Caption(source.Path), licences[source.Package], source.Package, source.Path);
    }

    private static string Caption(string path)
    {
        var parts = path.Split('/').SkipWhile(part => part is "usr" or "share" or "games" or "doc").ToList();
        var folders = parts.SkipLast(1).TakeLast(2).Select(PlainWords.FromName).Where(words => words is not ("images" or "png" or "data" or "contents" or "textures" or "gfx" or "art" or "graphics" or ""));
        return string.Join(", ", folders.Reverse().Prepend(PlainWords.FromName(path)).Where(words => words.Length > 0).Distinct(StringComparer.Ordinal));
    }

    private static void RemoveStrays(string folder, List<PictureRow> rows)
    {
        var wanted = rows.Select(row => row.File).ToHashSet(StringComparer.Ordinal);
        foreach (var split in new[] { "train", "validation" })
        {
            foreach (var file in Directory.EnumerateFiles(System.IO.Path.Combine(folder, split)).Where(file => !wanted.Contains($"{split}/{System.IO.Path.GetFileName(file)}")).ToList())
            {
                File.Delete(file);
            }
        }
    }

    private static void WriteTable(string folder, List<PictureRow> rows)
    {
        var target = System.IO.Path.Combine(folder, "pictures.jsonl");
        File.WriteAllLines(target + ".part", rows.Select(row => JsonSerializer.Serialize(row, OpenMelRow.Json)));
        File.Move(target + ".part", target, overwrite: true);
    }
}
