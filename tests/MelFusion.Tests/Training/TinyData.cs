using System.Text.Json;
using MelFusion.Text;
using MelFusion.Training.Data;
using MelFusion.Wave;
using MelFusion.Weights;
using SkiaSharp;
using TorchSharp;

namespace MelFusion.Tests.Training;

/// <summary>A data folder of a few short clips and small pictures, and the text encoder of a few words.</summary>
internal static class TinyData
{
    public const int Frames = 32;

    public static readonly MiniLmConfig Text = new() { VocabSize = 12, HiddenSize = 16, NumHiddenLayers = 1, NumAttentionHeads = 2, IntermediateSize = 16, MaxPositionEmbeddings = 16 };

    public static void Write(string data, string model)
    {
        WriteSplit(data, "train", 4);
        WriteSplit(data, "validation", 3);
        WriteText(model);
    }

    private static void WriteSplit(string data, string split, int count)
    {
        string folder = Path.Combine(data, split);
        Directory.CreateDirectory(Path.Combine(folder, "audio"));
        Directory.CreateDirectory(Path.Combine(folder, "images"));
        var rows = Enumerable.Range(0, count).Select(i => new TrainingRow
        {
            Id = $"{split}-{i}",
            Audio = $"audio/{i}.wav",
            Images = [$"images/{i}.png"],
            Captions = [i % 2 == 0 ? "calm piano" : "loud drums", "music"],
            Words = i % 2 == 0 ? "sea" : "fire",
            Game = i < 2 ? "sailing" : null,
        }).ToList();
        for (int i = 0; i < count; i++)
        {
            WavFile.Write(Path.Combine(folder, rows[i].Audio!), Tone(200 + 150 * i), 22050);
            WritePicture(Path.Combine(folder, rows[i].Images[0]), i);
        }

        var json = new JsonSerializerOptions { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };
        File.WriteAllLines(Path.Combine(folder, "table.jsonl"), rows.Select(row => JsonSerializer.Serialize(row, json)));
    }

    private static float[] Tone(double frequency) =>
        [.. Enumerable.Range(0, Frames * 256).Select(i => (float)(0.3 * Math.Sin(2 * Math.PI * frequency * i / 22050)))];

    private static void WritePicture(string path, int index)
    {
        using var bitmap = new SKBitmap(32, 32);
        bitmap.Erase(new SKColor((byte)(60 * index), 128, (byte)(255 - 60 * index)));
        using var data = bitmap.Encode(SKEncodedImageFormat.Png, 100);
        File.WriteAllBytes(path, data.ToArray());
    }

    private static void WriteText(string model)
    {
        Directory.CreateDirectory(Path.Combine(model, "tokenizer"));
        File.WriteAllLines(Path.Combine(model, "tokenizer", "vocab.txt"), ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "calm", "piano", "loud", "drums", "music", "sea", "fire"]);
        string folder = Directory.CreateDirectory(Path.Combine(model, "text_encoder")).FullName;
        ConfigFile.Write(Path.Combine(folder, "config.json"), Text);
        using var network = new MiniLm(Text, Placement.Cpu);
        using var generator = new torch.Generator(5, torch.CPU);
        Initialiser.Initialise(network, generator);
        Safetensors.Write(Path.Combine(folder, "model.safetensors"), network.state_dict());
    }
}
