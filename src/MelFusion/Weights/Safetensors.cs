using System.Buffers.Binary;
using System.Text;
using System.Text.Json;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Weights;

/// <summary>
/// The safetensors format: 8 bytes header length, a JSON header, the tensors one after another. The reader takes what the format's own
/// library takes and refuses the rest before it allocates anything; the writer makes the file beside its place and renames it.
/// </summary>
public sealed class Safetensors : WeightsFile
{
    private const long LongestHeader = 100_000_000;
    private readonly FileStream _stream;
    private readonly Dictionary<string, long> _offsets; // from the beginning of the file
    private readonly Dictionary<string, string> _metadata;

    private Safetensors(FileStream stream, SafetensorsHeader header, long dataStart)
    {
        _stream = stream;
        _metadata = header.Metadata;
        Tensors = [.. header.Tensors.Select(tensor => tensor.Entry)];
        _offsets = header.Tensors.ToDictionary(tensor => tensor.Entry.Key, tensor => dataStart + tensor.Begin);
    }

    /// <inheritdoc/>
    public override IReadOnlyList<TensorEntry> Tensors { get; }

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, string> Metadata => _metadata;

    /// <summary>Opens a file and checks its header.</summary>
    /// <exception cref="WeightsException">The file is missing or malformed; the sentence says how.</exception>
    public static Safetensors Open(string path)
    {
        var stream = OpenStream(path);
        try
        {
            var (header, dataStart) = ReadHeader(stream);
            return new Safetensors(stream, header, dataStart) { Path = path };
        }
        catch (Exception e)
        {
            stream.Dispose();
            throw e is InvalidDataException or JsonException or OverflowException
                ? new WeightsException($"{path}: not a readable safetensors file: {e.Message.TrimEnd('.')}.", e)
                : e;
        }
    }

    /// <inheritdoc/>
    public override void ReadInto(string key, Tensor target)
    {
        var entry = FindFor(key, target);
        TensorBytes.Read(entry.Dtype, target, (bytes, offset) => ReadExactly(_stream, bytes, _offsets[key] + offset, key));
    }

    /// <summary>Writes tensors to a file: sorted by name, beside its place first, then renamed over what was there.</summary>
    /// <param name="path">The file.</param>
    /// <param name="tensors">Name and value; values on another device are copied over one at a time.</param>
    /// <param name="metadata">Text to keep with them.</param>
    /// <param name="dtype">A type to convert floating-point tensors to; null keeps each one's own.</param>
    public static void Write(
        string path, IReadOnlyDictionary<string, Tensor> tensors,
        IReadOnlyDictionary<string, string>? metadata = null, ScalarType? dtype = null)
    {
        var sorted = tensors.OrderBy(pair => pair.Key, StringComparer.Ordinal)
            .Select(pair => (pair.Key, pair.Value, Type: pair.Value.is_floating_point() ? dtype ?? pair.Value.dtype : pair.Value.dtype)).ToList();
        byte[] header = SafetensorsHeader.Compose(sorted.Select(t => (t.Key, t.Type, t.Value.shape)), metadata);
        WriteBeside(path, header, sorted.Select(t => (Func<Tensor>)(() => t.Value.detach().to(t.Type, torch.CPU))));
    }

    /// <summary>Writes every tensor of another file, in its own type; one of them is in memory at a time.</summary>
    /// <param name="path">The file to write.</param>
    /// <param name="file">What to write.</param>
    public static void Write(string path, WeightsFile file)
    {
        var sorted = file.Tensors.OrderBy(entry => entry.Key, StringComparer.Ordinal).ToList();
        byte[] header = SafetensorsHeader.Compose(sorted.Select(entry => (entry.Key, entry.Dtype, entry.Shape.ToArray())), new Dictionary<string, string> { ["format"] = "pt" });
        WriteBeside(path, header, sorted.Select(entry => (Func<Tensor>)(() => file.Read(entry.Key))));
    }

    private static void WriteBeside(string path, byte[] header, IEnumerable<Func<Tensor>> values)
    {
        string beside = path + ".part";
        using (var stream = new FileStream(beside, FileMode.Create, FileAccess.Write))
        {
            Span<byte> length = stackalloc byte[8];
            BinaryPrimitives.WriteInt64LittleEndian(length, header.Length);
            stream.Write(length);
            stream.Write(header);
            foreach (var value in values)
            {
                using var scope = NewDisposeScope();
                using var noGrad = no_grad();
                var plain = value().contiguous();
                if (plain.numel() > 0)
                {
                    plain.WriteBytesToStream(stream, 1 << 20);
                }
            }

            stream.Flush(true);
        }

        File.Move(beside, path, true);
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _stream.Dispose();
        }
    }

    private static (SafetensorsHeader Header, long DataStart) ReadHeader(FileStream stream)
    {
        Span<byte> start = stackalloc byte[8];
        if (stream.Length < 8 || stream.ReadAtLeast(start, 8, false) < 8)
        {
            throw new InvalidDataException($"it has {stream.Length} bytes, fewer than a header");
        }

        long length = BinaryPrimitives.ReadInt64LittleEndian(start);
        if (ForeignFile.Describe(start) is { } other)
        {
            throw new InvalidDataException(other);
        }

        if (length < 0 || length > LongestHeader || length > stream.Length - 8)
        {
            throw new InvalidDataException($"its header would take {unchecked((ulong)length)} bytes of a file of {stream.Length}");
        }

        byte[] json = new byte[length];
        stream.ReadExactly(json);
        return (SafetensorsHeader.Parse(json, stream.Length - 8 - length), 8 + length);
    }
}

/// <summary>The JSON header of a safetensors file, checked against the size of the data behind it.</summary>
internal sealed record SafetensorsHeader(List<(TensorEntry Entry, long Begin)> Tensors, Dictionary<string, string> Metadata)
{
    private static readonly UTF8Encoding StrictUtf8 = new(false, true);

    private static readonly Dictionary<string, ScalarType> Types = new ScalarType[]
    {
        ScalarType.Bool, ScalarType.Byte, ScalarType.Int8, ScalarType.Int16, ScalarType.Int32, ScalarType.Int64,
        ScalarType.Float16, ScalarType.BFloat16, ScalarType.Float32, ScalarType.Float64,
    }.ToDictionary(WeightsFile.DtypeName);

    public static byte[] Compose(IEnumerable<(string Key, ScalarType Type, long[] Shape)> tensors, IReadOnlyDictionary<string, string>? metadata)
    {
        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer))
        {
            json.WriteStartObject();
            if (metadata is { Count: > 0 })
            {
                json.WriteStartObject("__metadata__");
                foreach (var (name, value) in metadata.OrderBy(pair => pair.Key, StringComparer.Ordinal))
                {
                    json.WriteString(name, value);
                }

                json.WriteEndObject();
            }

            long begin = 0;
            foreach (var (key, type, shape) in tensors)
            {
                long end = checked(begin + (shape.Aggregate(1L, (product, axis) => checked(product * axis)) * TensorBytes.Width(type)));
                json.WriteStartObject(key);
                json.WriteString("dtype", WeightsFile.DtypeName(type));
                WriteNumbers(json, "shape", shape);
                WriteNumbers(json, "data_offsets", [begin, end]);
                json.WriteEndObject();
                begin = end;
            }

            json.WriteEndObject();
        }

        while (buffer.Length % 8 != 0)
        {
            buffer.WriteByte((byte)' ');
        }

        return buffer.ToArray();
    }

    public static SafetensorsHeader Parse(byte[] utf8, long dataLength)
    {
        CheckText(utf8);
        var reader = new Utf8JsonReader(utf8, new JsonReaderOptions { MaxDepth = 127 });
        Expect(ref reader, JsonTokenType.StartObject, "the header is no JSON object");
        var tensors = new List<(TensorEntry Entry, long Begin, long End)>();
        var names = new HashSet<string>(StringComparer.Ordinal);
        Dictionary<string, string>? metadata = null;
        while (Next(ref reader) == JsonTokenType.PropertyName)
        {
            string name = Text(ref reader);
            if (!names.Add(name))
            {
                throw new InvalidDataException($"'{name}' is given twice");
            }

            if (name == "__metadata__")
            {
                metadata = ReadMetadata(ref reader);
            }
            else
            {
                tensors.Add(ReadTensor(ref reader, name));
            }
        }

        if (reader.Read())
        {
            throw new InvalidDataException("there is text after the header's object");
        }

        CheckTiling(tensors, dataLength);
        return new SafetensorsHeader([.. tensors.Select(tensor => (tensor.Entry, tensor.Begin))], metadata ?? []);
    }

    private static void CheckText(byte[] utf8)
    {
        if (utf8.Length == 0 || utf8[0] != '{')
        {
            throw new InvalidDataException("its header does not begin with '{'");
        }

        try
        {
            StrictUtf8.GetCharCount(utf8);
        }
        catch (DecoderFallbackException e)
        {
            throw new InvalidDataException("its header is not UTF-8", e);
        }
    }

    private static (TensorEntry Entry, long Begin, long End) ReadTensor(ref Utf8JsonReader reader, string name)
    {
        Expect(ref reader, JsonTokenType.StartObject, $"'{name}' is no JSON object");
        string? dtype = null;
        long[]? shape = null, offsets = null;
        while (Next(ref reader) == JsonTokenType.PropertyName)
        {
            string field = Text(ref reader);
            if ((field, dtype, shape, offsets) is ("dtype", not null, _, _) or ("shape", _, not null, _) or ("data_offsets", _, _, not null))
            {
                throw new InvalidDataException($"'{name}' gives {field} twice");
            }

            switch (field)
            {
                case "dtype":
                    Expect(ref reader, JsonTokenType.String, $"'{name}' has no text as dtype");
                    dtype = Text(ref reader);
                    break;
                case "shape":
                    shape = ReadNumbers(ref reader, name);
                    break;
                case "data_offsets":
                    offsets = ReadNumbers(ref reader, name);
                    break;
                default:
                    Next(ref reader);
                    SkipValue(ref reader);
                    break;
            }
        }

        return dtype is null || shape is null || offsets is not { Length: 2 }
            ? throw new InvalidDataException($"'{name}' lacks one of dtype, shape and two data_offsets")
            : Check(name, dtype, shape, offsets[0], offsets[1]);
    }

    private static (TensorEntry Entry, long Begin, long End) Check(string name, string dtype, long[] shape, long begin, long end)
    {
        if (!Types.TryGetValue(dtype, out var type))
        {
            throw new InvalidDataException($"'{name}' has the type '{dtype}', which is not read here");
        }

        if (shape.Length > TensorEntry.MostAxes)
        {
            throw new InvalidDataException($"'{name}' has {shape.Length} axes; tensors have at most {TensorEntry.MostAxes}");
        }

        var entry = new TensorEntry(name, type, shape);
        return end < begin || checked(entry.Count * TensorBytes.Width(type)) != end - begin
            ? throw new InvalidDataException($"'{name}' of shape ({string.Join(", ", shape)}) and type {dtype} does not fill bytes {begin} to {end}")
            : (entry, begin, end);
    }

    /// <summary>Sorted by offset the tensors must fill the data without hole, overlap or rest.</summary>
    private static void CheckTiling(List<(TensorEntry Entry, long Begin, long End)> tensors, long dataLength)
    {
        long at = 0;
        foreach (var (entry, begin, end) in tensors.OrderBy(tensor => tensor.Begin).ThenBy(tensor => tensor.End))
        {
            at = begin == at ? end : throw new InvalidDataException($"'{entry.Key}' begins at byte {begin} of the data, not at {at} where the one before ends");
        }

        if (at != dataLength)
        {
            throw new InvalidDataException($"its tensors take {at} bytes and the file holds {dataLength}: it was cut off or something was added");
        }
    }

    private static Dictionary<string, string>? ReadMetadata(ref Utf8JsonReader reader)
    {
        if (Next(ref reader) == JsonTokenType.Null)
        {
            return null;
        }

        if (reader.TokenType != JsonTokenType.StartObject)
        {
            throw new InvalidDataException("__metadata__ is no JSON object");
        }

        var metadata = new Dictionary<string, string>(StringComparer.Ordinal);
        while (Next(ref reader) == JsonTokenType.PropertyName)
        {
            string name = Text(ref reader);
            Expect(ref reader, JsonTokenType.String, $"__metadata__ has something other than text as '{name}'");
            metadata[name] = Text(ref reader);
        }

        return metadata;
    }

    private static long[] ReadNumbers(ref Utf8JsonReader reader, string name)
    {
        Expect(ref reader, JsonTokenType.StartArray, $"'{name}' has no list of numbers where one must be");
        var numbers = new List<long>();
        while (Next(ref reader) == JsonTokenType.Number)
        {
            bool digits = reader.ValueSpan.IndexOfAnyExceptInRange((byte)'0', (byte)'9') < 0;
            numbers.Add(digits && reader.TryGetInt64(out long number)
                ? number
                : throw new InvalidDataException($"'{name}' has {StrictUtf8.GetString(reader.ValueSpan)} where a whole number must be"));
        }

        return reader.TokenType == JsonTokenType.EndArray ? [.. numbers] : throw new InvalidDataException($"'{name}' has a list with something other than numbers");
    }

    private static void SkipValue(ref Utf8JsonReader reader)
    {
        int depth = reader.CurrentDepth;
        if (reader.TokenType is JsonTokenType.StartObject or JsonTokenType.StartArray)
        {
            while (Next(ref reader) is not (JsonTokenType.EndObject or JsonTokenType.EndArray) || reader.CurrentDepth > depth)
            {
                if (reader.TokenType is JsonTokenType.String or JsonTokenType.PropertyName)
                {
                    Text(ref reader);
                }
            }
        }
        else if (reader.TokenType == JsonTokenType.String)
        {
            Text(ref reader);
        }
    }

    private static JsonTokenType Next(ref Utf8JsonReader reader) =>
        reader.Read() ? reader.TokenType : throw new InvalidDataException("its header ends too early");

    private static void Expect(ref Utf8JsonReader reader, JsonTokenType type, string otherwise)
    {
        if (Next(ref reader) != type)
        {
            throw new InvalidDataException(otherwise);
        }
    }

    private static string Text(ref Utf8JsonReader reader)
    {
        try
        {
            return reader.GetString()!;
        }
        catch (InvalidOperationException e)
        {
            throw new InvalidDataException("a name or text in its header is not valid Unicode", e);
        }
    }

    private static void WriteNumbers(Utf8JsonWriter json, string name, long[] numbers)
    {
        json.WriteStartArray(name);
        foreach (long number in numbers)
        {
            json.WriteNumberValue(number);
        }

        json.WriteEndArray();
    }
}
