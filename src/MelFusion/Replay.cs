using System.Security.Cryptography;
using MelFusion.Image;
using MelFusion.Wave;
using MelFusion.Weights;

namespace MelFusion;

/// <summary>Making a file again from the recipe inside it.</summary>
public sealed class Replay
{
    private readonly string _path;
    private readonly byte[]? _picture;

    private Replay(string path, Recipe recipe, byte[]? picture) => (_path, Recipe, _picture) = (path, recipe, picture);

    /// <summary>The file's recipe.</summary>
    public Recipe Recipe { get; }

    /// <summary>Reads the recipe and finds its picture; needs no libtorch.</summary>
    /// <param name="path">A WAV file of <see cref="ClipFile"/>.</param>
    /// <param name="image">The picture; null: it is sought by its bare name beside the file. No path in a recipe is followed.</param>
    /// <exception cref="MelFusionException">There is no recipe, or the picture is not there or another one.</exception>
    public static Replay Open(string path, string? image = null)
    {
        var recipe = ClipFile.ReadRecipe(path);
        if (WavFile.ReadInfo(path) is not { Channels: 1, BitsPerSample: 16, IsFloat: false })
        {
            throw new MelFusionException($"{path} is not the 16-bit mono file that MelFusion wrote any more, so there is nothing to compare bit for bit; take the original.");
        }

        return new(path, recipe, recipe.ImageSha256 is null ? null : Picture(path, recipe, image));
    }

    /// <summary>Runs the whole batch again, as the last bits depend on it, and compares this file's clip.</summary>
    /// <param name="folder">The model.</param>
    /// <param name="progress">Told about every step.</param>
    /// <param name="cancellation">Honoured within a step.</param>
    public ReplayOutcome Run(ModelFolder folder, IProgress<GenerationProgress>? progress = null, CancellationToken cancellation = default)
    {
        Computing.UseThreads(Recipe.Threads);
        using var model = MelFusionModel.Load(
            folder,
            Computing.Open(Recipe.Device == "cuda" ? ComputeDevice.Cuda : ComputeDevice.Cpu),
            Recipe.Precision == "bf16" ? Precision.Bf16 : Precision.Fp32);
        var clip = new MusicGenerator(model).Generate(Recipe.ToRequest(_picture), progress, cancellation)[Recipe.Candidate];
        return Compare(clip);
    }

    private static byte[] Picture(string path, Recipe recipe, string? image)
    {
        string? place = image ?? (recipe.ImageName is null ? null : Path.Combine(Path.GetDirectoryName(path) ?? string.Empty, recipe.ImageName));
        if (place is null || (image is null && !File.Exists(place)))
        {
            throw new MelFusionException($"{path} was made of a picture ({recipe.ImageName ?? "its name is not known"}), which does not lie beside it; name it with --image.");
        }

        byte[] picture = PictureFile.Read(place);
        return Convert.ToHexStringLower(SHA256.HashData(picture)) == recipe.ImageSha256
            ? picture
            : throw new MelFusionException($"{place} is not the picture that {path} was made of, as its SHA-256 is another; name the right one with --image.");
    }

    private ReplayOutcome Compare(MusicClip clip)
    {
        var info = WavFile.ReadInfo(_path);
        var before = WavFile.Read(_path, 0, clip.Samples.Length).Channels[0];
        long? first = null;
        int largest = 0;
        for (int i = 0; i < before.Length; i++)
        {
            int difference = Math.Abs(Pcm16.FromSample(before[i]) - Pcm16.FromSample(clip.Samples[i]));
            first ??= difference > 0 ? i : null;
            largest = Math.Max(largest, difference);
        }

        var fields = Recipe.DifferencesFrom(clip.Recipe).ToList();
        if (info.SampleRate != clip.SampleRate)
        {
            fields.Add(new("sample_rate", $"{info.SampleRate}", $"{clip.SampleRate}"));
        }

        return new(clip, fields, info.Frames, clip.Samples.Length, first, largest);
    }
}

/// <summary>What a replay found.</summary>
/// <param name="Clip">The clip, made again.</param>
/// <param name="Fields">Fields of the recipe that are others here: machine, versions, weights.</param>
/// <param name="SamplesBefore">Samples in the file.</param>
/// <param name="SamplesNow">Samples made now.</param>
/// <param name="FirstDifference">The first sample that differs, among those both have; null: none does.</param>
/// <param name="LargestDifference">The largest difference of two samples, in steps of 16-bit PCM.</param>
public sealed record ReplayOutcome(
    MusicClip Clip, IReadOnlyList<RecipeDifference> Fields, long SamplesBefore, long SamplesNow, long? FirstDifference, int LargestDifference)
{
    /// <summary>Whether the sound is the same bit for bit.</summary>
    public bool IsEqual => SamplesBefore == SamplesNow && FirstDifference is null && !Fields.Any(difference => difference.Name == "sample_rate");
}
