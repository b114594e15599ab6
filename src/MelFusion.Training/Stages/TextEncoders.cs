using MelFusion.Text;
using MelFusion.Training.Data;
using MelFusion.Weights;

namespace MelFusion.Training.Stages;

/// <summary>Opens the text encoder of a model folder that need not be whole yet.</summary>
internal static class TextEncoders
{
    /// <summary>The states of all texts by the folder's text_encoder and tokenizer; the encoder is not opened where the cache has them.</summary>
    public static TextSet Encode(string model, string cache, IEnumerable<string> texts, Action<int, int>? report)
    {
        string weights = Path.Combine(model, "text_encoder", "model.safetensors");
        using var encoder = new Lazily(() => TextEncoder.Open(ModelFolder.OpenParts(model, "text_encoder", "tokenizer"), Placement.Cpu));
        return new(cache, TensorCache.DescribeContent(weights), texts, few =>
        {
            var states = encoder.Value.Encode(few);
            return (states.States, states.Mask);
        }, report);
    }

    private sealed class Lazily(Func<TextEncoder> open) : IDisposable
    {
        private TextEncoder? _encoder;

        public TextEncoder Value => _encoder ??= open();

        public void Dispose() => _encoder?.Dispose();
    }
}
