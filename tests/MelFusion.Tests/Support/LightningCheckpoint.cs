using System.Buffers.Binary;
using System.IO.Compression;
using System.Text;
using TorchSharp;

namespace MelFusion.Tests.Support;

/// <summary>Writes what PyTorch Lightning writes: a zip file whose pickle is a dict with counters and the tensors under "state_dict".</summary>
internal static class LightningCheckpoint
{
    /// <summary>Writes fp32 tensors.</summary>
    public static void Write(string path, IReadOnlyDictionary<string, torch.Tensor> tensors)
    {
        using var zip = ZipFile.Open(path, ZipArchiveMode.Create);
        using var pickle = new MemoryStream();
        Write(pickle, "\x80\x02}(");
        Text(pickle, "epoch");
        Write(pickle, "K\x03");
        Text(pickle, "state_dict");
        Write(pickle, "}(");
        int storage = 0;
        foreach (var (key, tensor) in tensors)
        {
            Text(pickle, key);
            Describe(pickle, $"{storage}", tensor);
            Entry(zip, $"archive/data/{storage++}", tensor.contiguous().bytes);
        }

        Write(pickle, "uu.");
        Entry(zip, "archive/data.pkl", pickle.ToArray());
        Entry(zip, "archive/version", "3\n"u8);
    }

    private static void Describe(Stream pickle, string storage, torch.Tensor tensor)
    {
        Write(pickle, "ctorch._utils\n_rebuild_tensor_v2\n((");
        Text(pickle, "storage");
        Write(pickle, "ctorch\nFloatStorage\n");
        Text(pickle, storage);
        Text(pickle, "cpu");
        Number(pickle, tensor.numel());
        Write(pickle, "tQK\x00");
        foreach (long[] numbers in new[] { tensor.shape, tensor.contiguous().stride() })
        {
            Write(pickle, "(");
            Array.ForEach(numbers, number => Number(pickle, number));
            Write(pickle, "t");
        }

        Write(pickle, "\u0089ccollections\nOrderedDict\n)RtR");
    }

    private static void Text(Stream pickle, string text)
    {
        Write(pickle, "X");
        Integer(pickle, Encoding.UTF8.GetByteCount(text));
        pickle.Write(Encoding.UTF8.GetBytes(text));
    }

    private static void Number(Stream pickle, long number)
    {
        Write(pickle, "J");
        Integer(pickle, checked((int)number));
    }

    private static void Integer(Stream pickle, int number)
    {
        Span<byte> bytes = stackalloc byte[4];
        BinaryPrimitives.WriteInt32LittleEndian(bytes, number);
        pickle.Write(bytes);
    }

    private static void Write(Stream pickle, string operations) => pickle.Write(Encoding.Latin1.GetBytes(operations));

    private static void Entry(ZipArchive zip, string name, ReadOnlySpan<byte> bytes)
    {
        using var entry = zip.CreateEntry(name, CompressionLevel.NoCompression).Open();
        entry.Write(bytes);
    }
}
