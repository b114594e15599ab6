using MelFusion.Evaluation.Embeddings;
using MelFusion.Image;
using MelFusion.Text;
using MelFusion.Weights;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Evaluation.Triplets;

/// <summary>
/// Pictures, sounds and captions in the space of sentences, without CLIP and CLAP: a picture is what EfficientNet sees, each label's probability times
/// MiniLM's vector of its name; a sound is what musicnn hears, each tag's probability times the vector of its name. What all names have in common is
/// taken off first, as it says nothing. Rows are float64.
/// </summary>
internal sealed class OpenSpace : IDisposable
{
    /// <summary>By what cosines are multiplied before a softmax: MiniLM was trained with it.</summary>
    public const double Scale = 20;

    private const int TextsAtOnce = 32;

    private readonly EfficientNetLite _pictures;
    private readonly TextEncoder _texts;
    private readonly Tensor _labels, _tags; // (1000, C), (50, C)

    /// <summary>Opens the networks.</summary>
    /// <param name="efficientNet">Folder of the picture's network.</param>
    /// <param name="miniLm">Folder of the sentence encoder, its tokenizer's folder beside it.</param>
    /// <param name="tags">The names of a sound's tags.</param>
    /// <exception cref="MelFusionException">A file is missing or does not fit.</exception>
    public OpenSpace(string efficientNet, string miniLm, IReadOnlyList<string> tags)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        _pictures = EfficientNetLite.Open(efficientNet, Placement.Cpu);
        _texts = TextEncoder.Open(ModelFolder.OpenParts(Path.GetDirectoryName(miniLm)!, "text_encoder", "tokenizer"), Placement.Cpu);
        _labels = Names([.. _pictures.Config.Classes.Select(label => label.Split(',')[0])]).DetachFromDisposeScope();
        _tags = Names(tags).DetachFromDisposeScope();
    }

    /// <summary>Captions (N, C), each of length 1.</summary>
    public Tensor Captions(IReadOnlyList<string> captions)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        string[] distinct = [.. captions.Distinct().OrderBy(caption => caption.Length)]; // little is filled up where equal lengths are encoded together
        var parts = distinct.Chunk(TextsAtOnce).Select(some =>
        {
            using var inner = NewDisposeScope();
            using var states = _texts.Encode(some);
            return MiniLm.SentenceEmbedding(states.States, states.Mask).to(ScalarType.Float64).MoveToOuterDisposeScope();
        });
        long[] rows = [.. captions.Select(caption => (long)Array.IndexOf(distinct, caption))];
        return torch.cat([.. parts], 0).index_select(0, torch.tensor(rows)).MoveToOuterDisposeScope();
    }

    /// <summary>A picture (1, C): the vectors of its labels' names, each as far as the label is likely.</summary>
    public Tensor Picture(string path)
    {
        using var scope = NewDisposeScope();
        var picture = ImageReader.Decode(ImageReader.ReadFile(path), path);
        return _pictures.Forward(_pictures.Pixels(picture)).Logits.to(ScalarType.Float64).softmax(1).matmul(_labels).MoveToOuterDisposeScope();
    }

    /// <summary>Sounds (N, C): the vectors of their tags' names, each as far as the tag is likely.</summary>
    /// <param name="tags">Probabilities, a row a sound.</param>
    public Tensor Sounds(IReadOnlyList<float[]> tags)
    {
        using var scope = NewDisposeScope();
        return torch.stack([.. tags.Select(row => torch.tensor(row))]).to(ScalarType.Float64).matmul(_tags).MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _pictures.Dispose();
        _texts.Dispose();
        _labels.Dispose();
        _tags.Dispose();
    }

    private Tensor Names(IReadOnlyList<string> names)
    {
        var vectors = Captions(names);
        return vectors - vectors.mean([0], keepdim: true);
    }
}
