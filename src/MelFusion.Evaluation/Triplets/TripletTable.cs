using System.Text.Json;

namespace MelFusion.Evaluation.Triplets;

/// <summary>
/// Which caption and which picture belong to a sound, by the sound's name without ending. Captions are JSON lines with "id" and "caption" or "captions",
/// of which the first counts; a picture is the file of that name in a folder, or else the first of the line's "images", seen from the table's folder.
/// </summary>
internal sealed class TripletTable
{
    private static readonly string[] PictureEndings = [".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"];

    private readonly Dictionary<string, (string? Caption, string? Picture)> _rows = [];
    private readonly Dictionary<string, string> _pictures = [];

    /// <summary>Reads what there is; null stands for none.</summary>
    /// <param name="captions">File of JSON lines.</param>
    /// <param name="images">Folder of pictures.</param>
    /// <exception cref="MelFusionException">A file or folder is missing or malformed.</exception>
    public TripletTable(string? captions, string? images)
    {
        if (captions is not null)
        {
            ReadCaptions(captions);
        }

        if (images is not null)
        {
            ReadPictures(images);
        }
    }

    /// <summary>Whether no sound can have a caption and, where it matters, a picture.</summary>
    public bool LacksAll(bool withPictures) => _rows.Values.All(row => row.Caption is null)
        || (withPictures && _pictures.Count == 0 && _rows.Values.All(row => row.Picture is null));

    /// <summary>The caption of a sound, or null.</summary>
    public string? Caption(string id) => _rows.GetValueOrDefault(id).Caption;

    /// <summary>The path of the picture of a sound, or null.</summary>
    public string? Picture(string id) => _pictures.GetValueOrDefault(id) ?? _rows.GetValueOrDefault(id).Picture;

    private void ReadCaptions(string path)
    {
        string folder = Path.GetDirectoryName(Path.GetFullPath(path))!;
        int number = 0;
        try
        {
            foreach (string line in File.ReadLines(path))
            {
                number++;
                if (line.AsSpan().Trim().Length > 0)
                {
                    using var json = JsonDocument.Parse(line);
                    Add(json.RootElement, folder);
                }
            }
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or KeyNotFoundException)
        {
            throw new MelFusionException($"{path}: line {number} is no object with \"id\" and \"caption\" or \"captions\".", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new MelFusionException($"{path}: the captions cannot be read: {e.Message.ReplaceLineEndings(" ")}", e);
        }
    }

    private void Add(JsonElement row, string folder)
    {
        string? picture = First(row, "images", "image");
        var read = SetRow.FromTable(
            folder, row.GetProperty("id").GetString(), picture is not null && File.Exists(Path.Combine(folder, picture)) ? picture : null,
            First(row, "captions", "caption"));
        _rows[read.Id] = (read.Prompt, read.Picture);
    }

    private static string? First(JsonElement row, string list, string single) =>
        row.TryGetProperty(list, out var many) && many.ValueKind == JsonValueKind.Array && many.GetArrayLength() > 0 ? many[0].GetString()
        : row.TryGetProperty(single, out var one) ? one.GetString()
        : null;

    private void ReadPictures(string folder)
    {
        if (!Directory.Exists(folder))
        {
            throw new MelFusionException($"{folder}: there is no such folder of pictures.");
        }

        foreach (string file in Directory.EnumerateFiles(folder).Order(StringComparer.Ordinal)
            .Where(file => PictureEndings.Contains(Path.GetExtension(file), StringComparer.OrdinalIgnoreCase)))
        {
            _pictures.TryAdd(Path.GetFileNameWithoutExtension(file), file);
        }
    }
}
