using System.Buffers.Binary;
using System.Globalization;
using System.Numerics;
using System.Text;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Weights;

/// <summary>A dict of a pickle: text keys in the order of their first appearance. Entries under other keys are dropped.</summary>
internal sealed class PickleDict
{
    private readonly Dictionary<string, int> _places = new(StringComparer.Ordinal);
    private readonly List<KeyValuePair<string, object?>> _entries = [];

    public IReadOnlyList<KeyValuePair<string, object?>> Entries => _entries;

    public object? this[string key] => _places.TryGetValue(key, out int place) ? _entries[place].Value : null;

    public void Set(object? key, object? value)
    {
        if (key is PickleDict or List<object?>)
        {
            throw new InvalidDataException("a dict has a list or a dict as a key");
        }

        if (key is not string name)
        {
            return;
        }

        if (_places.TryGetValue(name, out int place))
        {
            _entries[place] = new(name, value);
            return;
        }

        _places.Add(name, _entries.Count);
        _entries.Add(new(name, value));
    }
}

/// <summary>Elements of one type that lie somewhere in the file.</summary>
/// <param name="Key">The name under which the file keeps them.</param>
/// <param name="Dtype">Their type.</param>
/// <param name="Count">How many.</param>
internal sealed record PickleStorage(string Key, ScalarType Dtype, long Count);

/// <summary>A tensor: a view of a storage, checked to lie inside it. Offset and strides count elements.</summary>
internal sealed record PickleTensor(PickleStorage Storage, long Offset, long[] Shape, long[] Strides)
{
    /// <summary>The number of elements of the view.</summary>
    public long Count => Shape.Aggregate(1L, (product, axis) => product * axis);

    /// <summary>Whether the elements lie one after another.</summary>
    public bool IsContiguous
    {
        get
        {
            long expected = 1;
            for (int axis = Shape.Length - 1; axis >= 0; axis--)
            {
                if (Shape[axis] != 1 && Strides[axis] != expected)
                {
                    return false;
                }

                expected *= Shape[axis];
            }

            return true;
        }
    }
}

/// <summary>
/// Reads the pickles that torch.save writes and builds tensors, dicts, lists and plain values from them, nothing else. A name in a pickle
/// never becomes code: a short list of calls is understood (<see cref="Call"/>), some more give an object that holds nothing, and every
/// other call ends the reading. The memory it may take is bounded whatever the pickle says.
/// </summary>
internal sealed class TorchPickle
{
    private const long Budget = 64 << 20; // bytes of values, by a rough count
    private const int LongestNumber = 256;
    private const long LargestExpansion = 1 << 24; // elements that stride 0 may add to a storage

    private static readonly UTF8Encoding StrictUtf8 = new(false, true);

    private static readonly Dictionary<string, ScalarType> StorageTypes = new(StringComparer.Ordinal)
    {
        ["FloatStorage"] = ScalarType.Float32, ["HalfStorage"] = ScalarType.Float16, ["BFloat16Storage"] = ScalarType.BFloat16,
        ["DoubleStorage"] = ScalarType.Float64, ["LongStorage"] = ScalarType.Int64, ["IntStorage"] = ScalarType.Int32,
        ["ShortStorage"] = ScalarType.Int16, ["CharStorage"] = ScalarType.Int8, ["ByteStorage"] = ScalarType.Byte,
        ["BoolStorage"] = ScalarType.Bool,
    };

    /// <summary>Calls whose result is of no interest here and does no harm: it becomes an object that holds nothing.</summary>
    private static readonly HashSet<string> InertCalls =
    [
        "numpy.core.multiarray.scalar", "numpy.core.multiarray._reconstruct", "numpy._core.multiarray.scalar",
        "numpy._core.multiarray._reconstruct", "numpy.dtype", "_codecs.encode", "pathlib.Path", "pathlib.PurePath", "pathlib.PosixPath",
        "pathlib.PurePosixPath", "pathlib.WindowsPath", "pathlib.PureWindowsPath", "pathlib._local.Path", "pathlib._local.PurePath",
        "pathlib._local.PosixPath", "pathlib._local.PurePosixPath", "pathlib._local.WindowsPath", "pathlib._local.PureWindowsPath",
        "collections.defaultdict", "collections.Counter", "torch.Size", "torch.device", "copy_reg._reconstructor",
        "copyreg._reconstructor",
        .. new[] { "set", "frozenset", "bytearray", "complex" }.SelectMany(name => new[] { "__builtin__." + name, "builtins." + name }),
    ];

    private readonly PickleBytes _bytes;
    private readonly Dictionary<string, PickleStorage> _storages;
    private readonly Dictionary<uint, object?> _memo = [];
    private readonly List<object?> _stack = [];
    private readonly List<int> _marks = [];
    private long _spent;

    private TorchPickle(PickleBytes bytes, Dictionary<string, PickleStorage> storages) => (_bytes, _storages) = (bytes, storages);

    /// <summary>Reads one pickle up to its end and gives its value; storages that it names are added to <paramref name="storages"/>.</summary>
    /// <exception cref="InvalidDataException">It is malformed, or holds something that is refused; the message says what.</exception>
    public static object? Read(PickleBytes bytes, Dictionary<string, PickleStorage> storages) => new TorchPickle(bytes, storages).Run();

    private object? Run()
    {
        while (true)
        {
            byte opcode = _bytes.ReadByte();
            if (opcode == (byte)'.')
            {
                return _marks.Count == 0 && _stack.Count == 1
                    ? _stack[0]
                    : throw new InvalidDataException("the pickle ends with other than one value on its stack");
            }

            if (!Structure(opcode) && !Number(opcode) && !TextOrBytes(opcode) && !Memory(opcode) && !Object(opcode))
            {
                throw new InvalidDataException($"the pickle has the unknown opcode 0x{opcode:x2}");
            }
        }
    }

    /// <summary>Marks, containers, and what fills them.</summary>
    private bool Structure(byte opcode)
    {
        switch (opcode)
        {
            case 0x80: // PROTO
                byte protocol = _bytes.ReadByte();
                return protocol <= 5 ? true : throw new InvalidDataException($"the pickle has the protocol {protocol}; 0 to 5 are known");
            case 0x95: // FRAME: its length is a hint for buffering
                _bytes.ReadUInt64();
                return true;
            case (byte)'(':
                Spend(8);
                _marks.Add(_stack.Count);
                return true;
            case (byte)'0':
                if (_marks.Count > 0 && _marks[^1] == _stack.Count)
                {
                    _marks.RemoveAt(_marks.Count - 1);
                }
                else
                {
                    Pop();
                }

                return true;
            case (byte)'1':
                PopToMark();
                return true;
            case (byte)'2':
                Push(Top());
                return true;
            case (byte)')':
                Push(Array.Empty<object?>());
                return true;
            case (byte)'t':
                Push(PopToMark());
                return true;
            case 0x85 or 0x86 or 0x87: // TUPLE1 to TUPLE3
                Push(PopMany(opcode - 0x84));
                return true;
            case (byte)']' or 0x8f: // a set is a list here: neither is read
                Push(new List<object?>());
                return true;
            case (byte)'l' or 0x91: // LIST, FROZENSET
                object?[] items = PopToMark();
                Push(opcode == 0x91 ? Inert.Instance : items.ToList());
                return true;
            case (byte)'a':
                Append([Pop()]);
                return true;
            case (byte)'e' or 0x90: // APPENDS, ADDITEMS
                Append(PopToMark());
                return true;
            case (byte)'}':
                Push(new PickleDict());
                return true;
            case (byte)'d':
                object?[] entries = PopToMark();
                Push(new PickleDict());
                SetItems(entries);
                return true;
            case (byte)'s':
                SetItems(PopMany(2));
                return true;
            case (byte)'u':
                SetItems(PopToMark());
                return true;
            default:
                return false;
        }
    }

    private bool Number(byte opcode)
    {
        switch (opcode)
        {
            case (byte)'N':
                Push(null);
                return true;
            case 0x88 or 0x89: // NEWTRUE, NEWFALSE
                Push(opcode == 0x88);
                return true;
            case (byte)'K':
                Push((long)_bytes.ReadByte());
                return true;
            case (byte)'M':
                Push((long)BinaryPrimitives.ReadUInt16LittleEndian(_bytes.Read(2)));
                return true;
            case (byte)'J':
                Push((long)BinaryPrimitives.ReadInt32LittleEndian(_bytes.Read(4)));
                return true;
            case (byte)'I' or (byte)'L':
                Push(WholeNumber(Line().TrimEnd('L')));
                return true;
            case 0x8a: // LONG1
                Push(LongNumber(_bytes.ReadByte()));
                return true;
            case 0x8b: // LONG4
                Push(LongNumber(BinaryPrimitives.ReadInt32LittleEndian(_bytes.Read(4))));
                return true;
            case (byte)'F':
                string text = Line();
                Push(double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out double value)
                    ? value
                    : throw new InvalidDataException($"the pickle has '{Shown(text)}' where a number must be"));
                return true;
            case (byte)'G':
                Push(BinaryPrimitives.ReadDoubleBigEndian(_bytes.Read(8)));
                return true;
            default:
                return false;
        }
    }

    private bool TextOrBytes(byte opcode)
    {
        switch (opcode)
        {
            case (byte)'S': // the repr of a byte string
                Push(Line().Trim('\'', '"'));
                return true;
            case (byte)'V':
                Push(Line());
                return true;
            case (byte)'X':
                Push(Text(BinaryPrimitives.ReadUInt32LittleEndian(_bytes.Read(4))));
                return true;
            case 0x8c: // SHORT_BINUNICODE
                Push(Text(_bytes.ReadByte()));
                return true;
            case 0x8d: // BINUNICODE8
                Push(Text(_bytes.ReadUInt64()));
                return true;
            case (byte)'U': // SHORT_BINSTRING: text of Python 2
                Push(Latin(_bytes.ReadByte()));
                return true;
            case (byte)'T':
                int length = BinaryPrimitives.ReadInt32LittleEndian(_bytes.Read(4));
                Push(length >= 0 ? Latin((ulong)length) : throw new InvalidDataException("the pickle has a text of negative length"));
                return true;
            case (byte)'C':
                Skip(_bytes.ReadByte());
                return true;
            case (byte)'B':
                Skip(BinaryPrimitives.ReadUInt32LittleEndian(_bytes.Read(4)));
                return true;
            case 0x8e or 0x96: // BINBYTES8, BYTEARRAY8
                Skip(_bytes.ReadUInt64());
                return true;
            default:
                return false;
        }
    }

    /// <summary>What the pickle remembers, and the storages it names.</summary>
    private bool Memory(byte opcode)
    {
        switch (opcode)
        {
            case (byte)'p':
                Memoize(LineNumber());
                return true;
            case (byte)'q':
                Memoize(_bytes.ReadByte());
                return true;
            case (byte)'r':
                Memoize(BinaryPrimitives.ReadUInt32LittleEndian(_bytes.Read(4)));
                return true;
            case 0x94: // MEMOIZE
                Memoize((uint)_memo.Count);
                return true;
            case (byte)'g':
                Push(Remember(LineNumber()));
                return true;
            case (byte)'h':
                Push(Remember(_bytes.ReadByte()));
                return true;
            case (byte)'j':
                Push(Remember(BinaryPrimitives.ReadUInt32LittleEndian(_bytes.Read(4))));
                return true;
            case (byte)'Q': // BINPERSID
                Push(Storage(Pop()));
                return true;
            case (byte)'P':
                throw new InvalidDataException("the pickle refers to something outside by a text; only storages are read");
            case 0x82 or 0x83 or 0x84: // EXT1, EXT2, EXT4
                throw new InvalidDataException("the pickle uses an extension code in place of a name; that is refused");
            default:
                return false;
        }
    }

    /// <summary>Names, calls, and objects made from them.</summary>
    private bool Object(byte opcode)
    {
        switch (opcode)
        {
            case (byte)'c':
                Push(Name(Line(), Line()));
                return true;
            case 0x93: // STACK_GLOBAL
                object?[] both = PopMany(2);
                Push(both is [string module, string name]
                    ? Name(module, name)
                    : throw new InvalidDataException("the pickle has other than text where a name must be"));
                return true;
            case (byte)'R':
                object?[] call = PopMany(2);
                Push(Call(call[0], call[1]));
                return true;
            case (byte)'i':
                throw Refused(Name(Line(), Line()));
            case (byte)'o':
                throw Refused(PopToMark().FirstOrDefault());
            case 0x81: // NEWOBJ
                Push(New(PopMany(2)[0]));
                return true;
            case 0x92: // NEWOBJ_EX
                Push(New(PopMany(3)[0]));
                return true;
            case (byte)'b':
                Pop();
                return Top() is PickleDict or Inert
                    ? true
                    : throw new InvalidDataException("the pickle sets the state of something that has none");
            default:
                return false;
        }
    }

    /// <summary>The calls that are understood; see the class.</summary>
    private static object Call(object? function, object? arguments)
    {
        if (function is not PickleName name || arguments is not object?[] values)
        {
            throw Refused(function);
        }

        return name.Full switch
        {
            "collections.OrderedDict" => OrderedDict(values),
            "torch._utils._rebuild_tensor" => Tensor(values, 4, 4),
            "torch._utils._rebuild_tensor_v2" => Tensor(values, 6, 7),
            "torch._utils._rebuild_parameter" => Wrapped(values, 3),
            "torch._utils._rebuild_parameter_with_state" => Wrapped(values, 4),
            var full when InertCalls.Contains(full) => Inert.Instance,
            _ => throw Refused(name),
        };
    }

    private static PickleDict OrderedDict(object?[] values)
    {
        var dict = new PickleDict();
        if (values is [])
        {
            return dict;
        }

        if (values is not [List<object?> pairs]) // Python 2 gave the entries as one list of pairs
        {
            throw new InvalidDataException("an OrderedDict is made from something other than a list of pairs");
        }

        foreach (object? pair in pairs)
        {
            var (key, value) = pair switch
            {
                object?[] and [var k, var v] => (k, v),
                List<object?> and [var k, var v] => (k, v),
                _ => throw new InvalidDataException("an OrderedDict is made from something other than a list of pairs"),
            };
            dict.Set(key, value);
        }

        return dict;
    }

    private static PickleTensor Wrapped(object?[] values, int count) => values.Length == count && values[0] is PickleTensor tensor
        ? tensor
        : throw new InvalidDataException("a parameter is rebuilt from something other than a tensor");

    private static PickleTensor Tensor(object?[] values, int least, int most)
    {
        if (values.Length < least || values.Length > most
            || values is not [PickleStorage storage, long offset, object?[] size, object?[] stride, ..]
            || !size.Concat(stride).All(number => number is long))
        {
            throw new InvalidDataException("a tensor is rebuilt from something other than storage, offset, sizes and strides");
        }

        long[] shape = [.. size.Cast<long>()], strides = [.. stride.Cast<long>()];
        if (shape.Length != strides.Length || shape.Length > TensorEntry.MostAxes || offset < 0 || shape.Concat(strides).Any(number => number < 0))
        {
            throw new InvalidDataException(
                $"a tensor has the offset {offset}, {shape.Length} sizes and {strides.Length} strides; none may be negative and there may be {TensorEntry.MostAxes} axes");
        }

        CheckInside(storage, offset, shape, strides);
        return new PickleTensor(storage, offset, shape, strides);
    }

    private static void CheckInside(PickleStorage storage, long offset, long[] shape, long[] strides)
    {
        try
        {
            long count = shape.Aggregate(1L, (product, axis) => checked(product * axis));
            long last = shape.Zip(strides).Aggregate(offset, (at, axis) => checked(at + ((Math.Max(axis.First, 1) - 1) * axis.Second)));
            if (count > 0 && last >= storage.Count || count == 0 && offset > storage.Count)
            {
                throw new InvalidDataException($"a tensor reaches element {last} of the storage '{Shown(storage.Key)}', which has {storage.Count}");
            }

            if (count - storage.Count > LargestExpansion)
            {
                throw new InvalidDataException($"a tensor of {count} elements is spread over {storage.Count}; that is refused");
            }
        }
        catch (OverflowException e)
        {
            throw new InvalidDataException("a tensor has sizes or strides beyond 64 bits", e);
        }
    }

    /// <summary>('storage', class, key, location, count), and a sixth that is None.</summary>
    private PickleStorage Storage(object? id)
    {
        if (id is not object?[] { Length: 5 or 6 } values || values is not ["storage", PickleName kind, string key, string, long count, ..]
            || (values.Length == 6 && values[5] is not null))
        {
            throw new InvalidDataException("the pickle refers to something outside that is no storage");
        }

        if (kind.Module is not ("torch" or "torch.cuda") || !StorageTypes.TryGetValue(kind.Name, out var type))
        {
            throw new InvalidDataException($"a storage is of the class '{Shown(kind.Full)}', which is not read here");
        }

        if (count < 0 || count > long.MaxValue / 16)
        {
            throw new InvalidDataException($"the storage '{Shown(key)}' would have {count} elements");
        }

        var storage = new PickleStorage(key, type, count);
        if (_storages.TryGetValue(key, out var known))
        {
            return known == storage ? known : throw new InvalidDataException($"the storage '{Shown(key)}' is given with two types or sizes");
        }

        Spend(200);
        _storages.Add(key, storage);
        return storage;
    }

    private static PickleName Name(string module, string name) => module.Length > 0 && name.Length > 0
        ? new PickleName(module, name)
        : throw new InvalidDataException("the pickle has a name without text");

    private static Inert New(object? type) => type is PickleName or Inert
        ? Inert.Instance
        : throw new InvalidDataException("the pickle makes an object of something that is no class");

    private static InvalidDataException Refused(object? function) => new(function is PickleName name
        ? $"it wants to call '{Shown(name.Full)}', which weights never need; it is refused, and nothing was run"
        : "it wants to call something that is no function; it is refused, and nothing was run");

    private void Append(object?[] values)
    {
        switch (Top())
        {
            case List<object?> list:
                Spend(8L * values.Length);
                list.AddRange(values);
                break;
            case Inert:
                break;
            default:
                throw new InvalidDataException("the pickle appends to something that is no list");
        }
    }

    private void SetItems(object?[] values)
    {
        object? target = Top();
        if (values.Length % 2 != 0 || target is not (PickleDict or Inert))
        {
            throw new InvalidDataException("the pickle sets entries of something that is no dict, or a key without a value");
        }

        Spend(48L * values.Length);
        for (int i = 0; target is PickleDict dict && i < values.Length; i += 2)
        {
            dict.Set(values[i], values[i + 1]);
        }
    }

    private void Push(object? value)
    {
        Spend(value switch
        {
            null or bool or Inert => 8,
            string text => 40 + (2L * text.Length),
            object?[] tuple => 40 + (8L * tuple.Length),
            List<object?> list => 80 + (8L * list.Count),
            PickleDict => 200,
            PickleTensor tensor => 120 + (16L * tensor.Shape.Length),
            _ => 40,
        });
        _stack.Add(value);
    }

    private void Spend(long bytes)
    {
        _spent += bytes;
        if (_spent > Budget)
        {
            throw new InvalidDataException("the pickle would take more memory than the index of any checkpoint");
        }
    }

    private object? Top() => _stack.Count > Floor ? _stack[^1] : throw Underflow();

    private object? Pop()
    {
        object? top = Top();
        _stack.RemoveAt(_stack.Count - 1);
        return top;
    }

    private object?[] PopMany(int count)
    {
        if (_stack.Count - count < Floor)
        {
            throw Underflow();
        }

        object?[] values = new object?[count];
        _stack.CopyTo(_stack.Count - count, values, 0, count);
        _stack.RemoveRange(_stack.Count - count, count);
        return values;
    }

    private object?[] PopToMark()
    {
        if (_marks.Count == 0)
        {
            throw new InvalidDataException("the pickle closes what it never opened");
        }

        object?[] values = PopMany(_stack.Count - _marks[^1]);
        _marks.RemoveAt(_marks.Count - 1);
        return values;
    }

    private int Floor => _marks.Count == 0 ? 0 : _marks[^1];

    private static InvalidDataException Underflow() => new("the pickle takes more from its stack than it put there");

    private void Memoize(uint index)
    {
        Spend(48);
        _memo[index] = Top();
    }

    private object? Remember(uint index) => _memo.TryGetValue(index, out object? value)
        ? value
        : throw new InvalidDataException($"the pickle refers to its value {index}, which it has not given");

    private object LongNumber(int length)
    {
        if (length < 0 || length > _bytes.Remaining)
        {
            throw new InvalidDataException($"the pickle has a number of {length} bytes");
        }

        if (length > LongestNumber)
        {
            _bytes.Skip((ulong)length);
            return Inert.Instance;
        }

        var number = new BigInteger(_bytes.Read(length));
        return number >= long.MinValue && number <= long.MaxValue ? (object)(long)number : number;
    }

    private static object WholeNumber(string text)
    {
        if (text is "00" or "01") // how protocol 0 writes False and True
        {
            return text == "01";
        }

        if (text.Length == 0 || text.AsSpan(text[0] is '-' or '+' ? 1 : 0).ContainsAnyExceptInRange('0', '9'))
        {
            throw new InvalidDataException($"the pickle has '{Shown(text)}' where a number must be");
        }

        return long.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long number) ? number : Inert.Instance;
    }

    private uint LineNumber()
    {
        string text = Line();
        return uint.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out uint number)
            ? number
            : throw new InvalidDataException($"the pickle has '{Shown(text)}' where the number of a value must be");
    }

    private string Line() => Decode(_bytes.ReadLine());

    private string Text(ulong length)
    {
        Spend((long)Math.Min(length, Budget + 1));
        return Decode(_bytes.Read(length));
    }

    private string Latin(ulong length)
    {
        Spend((long)Math.Min(length, Budget + 1));
        return Encoding.Latin1.GetString(_bytes.Read(length));
    }

    private void Skip(ulong length)
    {
        _bytes.Skip(length);
        Push(Inert.Instance);
    }

    private static string Decode(ReadOnlySpan<byte> utf8)
    {
        try
        {
            return StrictUtf8.GetString(utf8);
        }
        catch (DecoderFallbackException e)
        {
            throw new InvalidDataException("the pickle has a text that is not UTF-8", e);
        }
    }

    /// <summary>At most 80 characters of something a file says, without control characters.</summary>
    internal static string Shown(string text) => new([.. text.Take(80).Select(c => char.IsControl(c) ? '?' : c)]);

    private sealed record PickleName(string Module, string Name)
    {
        public string Full => $"{Module}.{Name}";
    }

    /// <summary>An object of a class that is not known here: takes everything, holds nothing.</summary>
    private sealed class Inert
    {
        public static Inert Instance { get; } = new();
    }
}

/// <summary>The bytes of a pickle, read once from front to back through a small buffer.</summary>
internal sealed class PickleBytes(Stream stream, long length)
{
    private readonly byte[] _buffer = new byte[1 << 16];
    private int _at, _filled;
    private long _taken; // from the stream

    /// <summary>How far the reading has come, in bytes from where it began.</summary>
    public long Position => _taken - (_filled - _at);

    /// <summary>Bytes that are left.</summary>
    public long Remaining => length - Position;

    public byte ReadByte()
    {
        if (_at == _filled)
        {
            Fill();
        }

        return _buffer[_at++];
    }

    public ulong ReadUInt64() => BinaryPrimitives.ReadUInt64LittleEndian(Read(8));

    public byte[] Read(ulong count)
    {
        if (count > (ulong)Remaining || count > int.MaxValue)
        {
            throw new InvalidDataException($"the pickle has {count} bytes in one piece where {Remaining} are left");
        }

        byte[] bytes = new byte[count];
        var rest = bytes.AsSpan();
        while (rest.Length > 0)
        {
            if (_at == _filled)
            {
                Fill();
            }

            int part = Math.Min(rest.Length, _filled - _at);
            _buffer.AsSpan(_at, part).CopyTo(rest);
            rest = rest[part..];
            _at += part;
        }

        return bytes;
    }

    public byte[] Read(int count) => Read((ulong)count);

    public void Skip(ulong count)
    {
        if (count > (ulong)Remaining)
        {
            throw new InvalidDataException($"the pickle has {count} bytes in one piece where {Remaining} are left");
        }

        for (long left = (long)count; left > 0;)
        {
            if (_at == _filled)
            {
                Fill();
            }

            int part = (int)Math.Min(left, _filled - _at);
            _at += part;
            left -= part;
        }
    }

    /// <summary>Up to the next line feed, which is taken and not given; at most a mebibyte.</summary>
    public byte[] ReadLine()
    {
        var line = new List<byte>();
        for (byte next = ReadByte(); next != (byte)'\n'; next = ReadByte())
        {
            line.Add(line.Count < 1 << 20 ? next : throw new InvalidDataException("the pickle has a line of more than a mebibyte"));
        }

        return [.. line];
    }

    private void Fill()
    {
        _filled = stream.Read(_buffer, 0, (int)Math.Min(_buffer.Length, length - _taken));
        _at = 0;
        _taken += _filled;
        if (_filled == 0)
        {
            throw new InvalidDataException("the pickle ends too early");
        }
    }
}
