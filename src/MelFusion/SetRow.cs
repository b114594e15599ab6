using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;

namespace MelFusion;

/// <summary>A row of a set: what one clip is made of, and its name.</summary>
/// <param name="Id">The name: the clip's file is ID.wav.</param>
/// <param name="Picture">The picture's file; null: text-to-music.</param>
/// <param name="Prompt">The text; null: the picture speaks alone.</param>
public sealed record SetRow(string Id, string? Picture, string? Prompt)
{
    /// <summary>A row of a data table, which may come from anywhere: its name must be a file's bare name, and its picture must lie in the table's folder.</summary>
    /// <param name="folder">The table's folder.</param>
    /// <param name="id">The row's name.</param>
    /// <param name="picture">The picture's path, relative to the folder; null: none.</param>
    /// <param name="prompt">The text; null: none.</param>
    /// <exception cref="MelFusionException">In one sentence: what is wrong with the row.</exception>
    public static SetRow FromTable(string folder, string? id, string? picture, string? prompt)
    {
        ArgumentNullException.ThrowIfNull(folder);
        string table = Path.GetFullPath(folder);
        if (string.IsNullOrWhiteSpace(id) || !Recipe.IsBareName(id + ".wav"))
        {
            throw new MelFusionException($"{table}: a row is named '{Shown(id)}', which is no bare file name; correct the table.");
        }

        if (picture is null)
        {
            return new(id, null, prompt);
        }

        string? file = InnerPath.In(table, picture);
        return file is null ? throw new MelFusionException($"{table}: the picture of row '{id}' ({Shown(picture)}) lies outside the folder and is not read: it must be a relative name with '/' between folders; correct the table.")
            : !File.Exists(file) ? throw new MelFusionException($"{table}: the picture of row '{id}' ({Shown(picture)}) is not there; put it there or correct the table.")
            : new(id, file, prompt);
    }

    /// <summary>The clip's seed, from the set's and the row's name, so that neither the row's place nor what else is made decides it.</summary>
    /// <param name="seed">The set's seed.</param>
    public long SeedOf(long seed)
    {
        byte[] hash = SHA256.HashData(Encoding.UTF8.GetBytes(FormattableString.Invariant($"{seed}\n{Id}")));
        // Room for the places of a batch on either side.
        return MusicRequest.MostCandidates + (long)(BinaryPrimitives.ReadUInt64LittleEndian(hash) % ((ulong)MusicRequest.LargestSeed - (2 * MusicRequest.MostCandidates)));
    }

    private static string Shown(string? text) => text is null ? "null" : text.Length <= 60 ? text : text[..60] + "...";
}
