using System.Security.Cryptography;
using System.Text;

namespace MelFusion.Evaluation.Embeddings;

/// <summary>
/// Embeddings on disk, found by the contents of the sound file and the weights: a second run, or one after a kill, computes nothing twice. What cannot
/// be read is computed again.
/// </summary>
public sealed class EmbeddingCache
{
    private const int Version = 1, MostRows = 1 << 16, MostColumns = 1 << 14;

    private readonly string? _folder;

    /// <summary>In a folder, made where it is missing; null keeps nothing, and neither does a folder that cannot be made.</summary>
    public EmbeddingCache(string? folder)
    {
        try
        {
            _folder = folder is null ? null : Directory.CreateDirectory(folder).FullName;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Without it, a second run takes as long as the first.
        }
    }

    /// <summary>Where embeddings are kept unless told otherwise.</summary>
    public static string DefaultFolder { get; } = Path.Combine(
        Environment.GetFolderPath(Environment.SpecialFolder.LocalApplicationData, Environment.SpecialFolderOption.DoNotVerify), "melfusion", "embeddings");

    /// <summary>SHA-256 of a file, lower-case hex.</summary>
    public static string HashOf(string path)
    {
        using var file = File.OpenRead(path);
        return Convert.ToHexStringLower(SHA256.HashData(file));
    }

    /// <summary>What was kept, or null.</summary>
    public (ClipEmbedding Embedding, double Seconds)? Find(string fileHash, IEvaluator evaluator, double longestSeconds)
    {
        if (PathOf(fileHash, evaluator, longestSeconds) is not { } path || !File.Exists(path))
        {
            return null;
        }

        try
        {
            using var reader = new BinaryReader(new MemoryStream(File.ReadAllBytes(path)), Encoding.UTF8);
            double seconds = reader.ReadDouble();
            var embedding = new ClipEmbedding(ReadRows(reader), ReadRows(reader)[0], ReadRows(reader)[0]);
            return reader.BaseStream.Position == reader.BaseStream.Length ? (embedding, seconds) : null;
        }
        catch (Exception e) when (e is IOException or InvalidDataException or UnauthorizedAccessException or ArgumentException)
        {
            return null;
        }
    }

    /// <summary>Keeps an embedding; a disk that cannot be written costs the next run time and nothing else.</summary>
    public void Keep(string fileHash, IEvaluator evaluator, double longestSeconds, ClipEmbedding embedding, double seconds)
    {
        if (PathOf(fileHash, evaluator, longestSeconds) is not { } path)
        {
            return;
        }

        try
        {
            string beside = $"{path}.{Guid.NewGuid():N}.part"; // two equal files may be embedded at once
            using (var writer = new BinaryWriter(File.Create(beside), Encoding.UTF8))
            {
                writer.Write(seconds);
                WriteRows(writer, embedding.Patches);
                WriteRows(writer, [embedding.Clip]);
                WriteRows(writer, [embedding.Classes]);
            }

            File.Move(beside, path, true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Not kept.
        }
    }

    private string? PathOf(string fileHash, IEvaluator evaluator, double longestSeconds) => _folder is null ? null : Path.Combine(
        _folder, FormattableString.Invariant($"{fileHash[..32]}-{evaluator.Name}-{evaluator.WeightsSha256[..16]}-{longestSeconds}-v{Version}.bin"));

    private static void WriteRows(BinaryWriter writer, IReadOnlyList<float[]> rows)
    {
        writer.Write(rows.Count);
        foreach (float[] row in rows)
        {
            writer.Write(row.Length);
            foreach (float value in row)
            {
                writer.Write(value);
            }
        }
    }

    private static float[][] ReadRows(BinaryReader reader)
    {
        var rows = new float[Bounded(reader, MostRows)][];
        for (int i = 0; i < rows.Length; i++)
        {
            rows[i] = new float[Bounded(reader, MostColumns)];
            for (int j = 0; j < rows[i].Length; j++)
            {
                rows[i][j] = reader.ReadSingle();
            }
        }

        return rows;
    }

    private static int Bounded(BinaryReader reader, int most)
    {
        int count = reader.ReadInt32();
        return count >= 0 && count <= most ? count : throw new InvalidDataException("a length is out of range");
    }
}
