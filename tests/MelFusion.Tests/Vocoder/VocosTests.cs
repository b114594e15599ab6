using MelFusion.Tests.Support;
using MelFusion.Vocoder;
using MelFusion.Weights;
using Shouldly;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;
using VocosNetwork = MelFusion.Vocoder.Vocos;

namespace MelFusion.Tests.Vocoder;

public class VocosTests
{
    [Fact, Trait("Category", "Parity")]
    public void Both_paddings_give_the_reference_waveform_whole_and_in_chunks()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var fixture = Fixture.Open("vocos");
        foreach (string padding in (string[])["same", "center"])
        {
            var vocoder = Load(fixture, padding);
            string[] names = [.. fixture.Io.Tensors.Where(entry => entry.Key.StartsWith("block.", StringComparison.Ordinal)).Select(entry => entry.Key)];
            var outputs = Outputs.Of(vocoder, ["backbone.embed", .. names.Select(Module), "head.out", "backbone"]);

            var waveform = vocoder.Forward(fixture["mel"]);

            outputs["backbone.embed"].ShouldMatch(fixture["embed"], what: "embed");
            names.ShouldNotBeEmpty();
            names.ToList().ForEach(name => outputs[Module(name)].ShouldMatch(fixture[name], what: name));
            outputs["backbone"].ShouldMatch(fixture["features"], what: "features");
            outputs["head.out"].ShouldMatch(fixture["head_out"], what: "head_out");
            var spectrum = vocoder.named_modules().Select(pair => pair.module).OfType<SpectrumHead>().Single().Spectrum(fixture["features"]);
            spectrum.real.ShouldMatch(fixture["spectrum.real"], what: "spectrum.real");
            spectrum.imag.ShouldMatch(fixture["spectrum.imag"], what: "spectrum.imag");
            waveform.ShouldMatch(fixture[$"waveform.{padding}"], what: padding);
            vocoder.Forward(fixture["mel"], framesPerChunk: 4).ShouldMatch(waveform, 1e-5, "in chunks");
        }
    }

    private static string Module(string name) => name.Replace("block.", "backbone.convnext.", StringComparison.Ordinal);

    private static VocosNetwork Load(Fixture fixture, string padding)
    {
        var config = ConfigFile.Read<VocosConfig>(fixture.File("config.json"));
        config = config with { Head = config.Head with { InitArgs = config.Head.InitArgs with { Padding = padding } } };
        using var file = Safetensors.Open(fixture.File("model.safetensors"));
        var vocoder = new VocosNetwork(config, Placement.Cpu);
        vocoder.LoadFrom(file);
        return vocoder;
    }
}
