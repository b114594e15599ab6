using MelFusion.KeyValue;
using MelFusion.Synapse;
using MelFusion.Tests.Support;
using MelFusion.UNet;
using MelFusion.Weights;
using Shouldly;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace MelFusion.Tests.Synapse;

public class VisualSynapseTests
{
    private const double OutputTolerance = 3e-5, GradientTolerance = 1e-4;

    [Theory]
    [InlineData("output.pool", SynapseMode.Pool, SynapsePlace.Decoder, AlphaSharing.PerLayer, 1)]
    [InlineData("output.pool.encoder", SynapseMode.Pool, SynapsePlace.Encoder, AlphaSharing.PerLayer, 1)]
    [InlineData("output.pool.both", SynapseMode.Pool, SynapsePlace.Both, AlphaSharing.PerLayer, 1)]
    [InlineData("output.pool.same", SynapseMode.Pool, SynapsePlace.Decoder, AlphaSharing.Same, 1)]
    [InlineData("output.influence_0", SynapseMode.Pool, SynapsePlace.Decoder, AlphaSharing.PerLayer, 0)]
    [InlineData("output.influence_0.5", SynapseMode.Pool, SynapsePlace.Decoder, AlphaSharing.PerLayer, 0.5)]
    [InlineData("output.parallel", SynapseMode.Parallel, SynapsePlace.Decoder, AlphaSharing.PerLayer, 1)]
    [InlineData("output.parallel.influence_0.5", SynapseMode.Parallel, SynapsePlace.Decoder, AlphaSharing.PerLayer, 0.5)]
    [InlineData("output.concat", SynapseMode.Concat, SynapsePlace.Decoder, AlphaSharing.PerLayer, 1)]
    [InlineData("output.concat.influence_0.5", SynapseMode.Concat, SynapsePlace.Decoder, AlphaSharing.PerLayer, 0.5)]
    [InlineData("output.code", SynapseMode.Code, SynapsePlace.Decoder, AlphaSharing.PerLayer, 1)]
    [Trait("Category", "Parity")]
    public void The_picture_changes_the_prediction_as_in_the_reference(
        string expected, SynapseMode mode, SynapsePlace where, AlphaSharing alpha, double influence)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var reference = new Reference(new() { Mode = mode, Where = where, Alpha = alpha });
        using var picture = reference.Picture();

        var tap = reference.Synapse.Tap(picture, influence, reference.Mask);
        var y = reference.Predict(tap);

        y.ShouldMatch(reference.Io[expected], OutputTolerance, expected);
        using var projected = reference.Music.ProjectText(reference.Io["music.text"]);
        reference.Predict(reference.Synapse.Tap(picture, influence, reference.Mask), projected).ShouldMatch(y, 1e-6, "text projected before");
    }

    [Theory]
    [InlineData("", SynapseMode.Pool)]
    [InlineData("parallel.", SynapseMode.Parallel)]
    [InlineData("concat.", SynapseMode.Concat)]
    [InlineData("code.", SynapseMode.Code)]
    [Trait("Category", "Parity")]
    public void Losses_and_gradients_are_those_of_the_reference(string name, SynapseMode mode)
    {
        using var scope = NewDisposeScope();
        using var reference = new Reference(new() { Mode = mode });
        using var picture = reference.Picture();
        var influence = torch.ones(2);

        var y = reference.Predict(reference.Synapse.Tap(picture, influence, reference.Mask));
        var loss = (y - reference.Io["target"]).square().mean();
        loss.backward();

        loss.reshape(1).ShouldMatch(reference.Io[$"loss.{(name.Length == 0 ? "pool" : name.TrimEnd('.'))}"], OutputTolerance, "loss");
        var ours = reference.Synapse.named_parameters().Concat(reference.Music.named_parameters()).ToDictionary(p => p.name, p => p.parameter);
        string prefix = $"gradient.{name}";
        var keys = reference.Io.Io.Tensors.Select(entry => entry.Key).Where(key => key.StartsWith(prefix, StringComparison.Ordinal))
            .Where(key => ours.ContainsKey(key[prefix.Length..])).ToList();
        keys.ShouldNotBeEmpty();
        foreach (string key in keys)
        {
            ours[key[prefix.Length..]].grad!.ShouldMatch(reference.Io[key], GradientTolerance, key);
        }
    }

    [Fact]
    [Trait("Category", "Parity")]
    public void Keys_and_values_are_pooled_to_each_texts_own_tokens()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var reference = new Reference(new());
        using var picture = reference.Picture();
        using var pooling = new TokenPooling(reference.Mask);
        using var pooled = pooling.Pool(picture);

        pooled.IsPooled.ShouldBeTrue();
        foreach (var layer in reference.Music.Config.DecoderLayers)
        {
            pooled.KeyValues[layer.Name].Keys.ShouldMatch(reference.Io[$"pool.{layer.Name}.key"], OutputTolerance, layer.Name);
            pooled.KeyValues[layer.Name].Values.ShouldMatch(reference.Io[$"pool.{layer.Name}.value"], OutputTolerance, layer.Name);
        }

        var y = reference.Predict(reference.Synapse.Tap(pooled, 1, reference.Mask));
        y.ShouldMatch(reference.Io["output.pool"], OutputTolerance);
    }

    [Fact]
    public void Zero_influence_and_no_picture_are_no_tap_at_all()
    {
        using var scope = NewDisposeScope();
        using var reference = new Reference(new());
        using var picture = reference.Picture();

        reference.Synapse.Tap(picture, 0, reference.Mask).ShouldBeNull();
        reference.Synapse.Tap(null, 1, reference.Mask).ShouldBeNull();
    }

    [Theory]
    [InlineData(SynapseMode.Pool)]
    [InlineData(SynapseMode.Parallel)]
    [InlineData(SynapseMode.Concat)]
    [InlineData(SynapseMode.Code)]
    public void In_a_batch_the_samples_of_zero_influence_are_text_to_music_to_the_last_bit(SynapseMode mode)
    {
        using var scope = NewDisposeScope();
        using var reference = new Reference(new() { Mode = mode });
        using var picture = reference.Picture();

        var plain = reference.Predict(null);
        var mixed = reference.Predict(reference.Synapse.Tap(picture, torch.tensor(new[] { 0f, 1f }), reference.Mask));
        var both = reference.Predict(reference.Synapse.Tap(picture, 1, reference.Mask));

        mixed[0].Equals(plain[0]).ShouldBeTrue();
        mixed[1].ShouldMatch(both[1], 1e-6);
        mixed[1].Equals(plain[1]).ShouldBeFalse();

        mixed.square().mean().backward();
        reference.Synapse.named_parameters().Single().parameter.grad!.isfinite().all().item<bool>().ShouldBeTrue();
    }

    [Fact]
    public void One_picture_serves_every_sample_of_a_batch()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        foreach (var mode in Enum.GetValues<SynapseMode>())
        {
            using var reference = new Reference(new() { Mode = mode });
            using var picture = reference.Picture();
            using var first = picture.Select(x => x[..1]);
            using var twice = CapturedKeyValues.Concatenate([first, first]);

            var y = reference.Predict(reference.Synapse.Tap(first, 1, reference.Mask));

            y.ShouldMatch(reference.Predict(reference.Synapse.Tap(twice, 1, reference.Mask)), 1e-6, mode.ToString());
        }
    }

    [Fact]
    public void Standardised_keys_and_values_have_the_musics_mean_and_deviation()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var reference = new Reference(new() { KeyValueNormalisation = KeyValueNormalisation.Standardise }, load: false);
        using var picture = reference.Picture();
        using var text = reference.Music.ProjectText(reference.Io["music.text"]);
        using KeyValueStatistics ofPictures = new(), ofMusic = new();
        ofPictures.Add(picture.KeyValues);
        ofMusic.Add(text.KeyValues, reference.Mask);
        reference.Synapse.SetStatistics([ofPictures], ofMusic);

        var scale = new KeyValueScale(reference.Synapse.Layers[0].Width, 0, false, Placement.Cpu);
        string layer = reference.Synapse.Layers[0].Name;
        scale.Set([ofPictures], ofMusic, layer);
        var (keys, _) = scale.Apply(picture.KeyValues[layer], null, null);
        var valid = text.KeyValues[layer].Keys.reshape(-1, keys.shape[2])[reference.Mask.reshape(-1)];

        keys.mean([0, 1]).ShouldMatch(valid.mean([0L]), 1e-4);
        keys.reshape(-1, keys.shape[2]).std(0, false).ShouldMatch(valid.std(0, false), 1e-4);
        reference.Predict(reference.Synapse.Tap(picture, 1, reference.Mask)).isfinite().all().item<bool>().ShouldBeTrue();
        reference.Synapse.state_dict().Keys.ShouldContain("normalisation.0.image.key_mean");
    }

    [Fact]
    public void Standardised_by_part_what_tells_pictures_apart_is_half_of_what_the_music_gets()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var generator = new Generator(5);
        const int Pictures = 400, Tokens = 6, Width = 8;
        KeysAndValues Drawn(double means, double details) => new KeysAndValues(torch.zeros(Pictures, 1, Width), torch.zeros(Pictures, 1, Width))
            .Select(zero => zero + 5 + means * randn([Pictures, 1, Width], generator: generator) + details * randn([Pictures, Tokens, Width], generator: generator));
        var pictures = new Dictionary<string, KeysAndValues> { ["layer"] = Drawn(0.1, 1) };
        var mask = arange(Tokens).lt(4).expand(Pictures, Tokens);
        using KeyValueStatistics ofPictures = new(), ofMusic = new();
        ofPictures.Add(pictures, mask);
        ofMusic.Add(new Dictionary<string, KeysAndValues> { ["layer"] = Drawn(0, 3) });
        var valid = mask.to(ScalarType.Float32).unsqueeze(2);

        var (whole, parts) = (Scaled(parts: false), Scaled(parts: true));
        Deviation(KeyValueStatistics.MeanOf(whole, valid)).ShouldBeInRange(1, 2, "a mean of four tokens that differ, whatever the picture");
        var mean = KeyValueStatistics.MeanOf(parts, valid);
        Deviation(mean).ShouldBe(3 * Math.Sqrt(0.5), 0.1);
        Deviation((parts - mean)[mask]).ShouldBe(3 * Math.Sqrt(0.5), 0.1);
        parts[mask].mean().item<float>().ShouldBe(5, 0.1);

        var shorter = Scaled(parts: true, tokens: 4);
        shorter.ShouldMatch(parts.narrow(1, 0, 4), 1e-5, "padding has no part in a picture's mean");

        Tensor Scaled(bool parts, int tokens = Tokens)
        {
            var scale = new KeyValueScale(Width, 0, parts, Placement.Cpu);
            scale.Set([ofPictures], ofMusic, "layer");
            return scale.Apply(pictures["layer"].Select(x => x.narrow(1, 0, tokens)), null, valid.narrow(1, 0, tokens)).Keys;
        }

        static double Deviation(Tensor x) => x.reshape(-1, Width).std(0, false).mean().item<float>();
    }

    [Fact]
    public void Noise_is_the_same_on_all_tokens_of_a_picture_and_counts_in_deviations_of_the_level()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var reference = new Reference(new() { KeyValueNormalisation = KeyValueNormalisation.StandardiseByPart, NoiseLevels = [100, 900] }, load: false);
        using var recorded = reference.Picture();
        using var picture = new CapturedKeyValues(recorded.KeyValues, timestep: tensor(new[] { 900L }));
        reference.SetStatistics(picture, 1, 3);
        var noise = torch.zeros(2, reference.Synapse.NoiseWidth);
        noise[1, reference.Synapse.Layers[0].Width] = 1; // the first layer's first value, in the second sample

        using var perturbed = reference.Synapse.Perturb(picture, new(OfChannels: noise));

        string first = reference.Synapse.Layers[0].Name;
        var difference = perturbed.KeyValues[first].Values - picture.KeyValues[first].Values;
        var deviation = reference.Synapse.state_dict()["normalisation.0.image.value_deviation"][1, 0];
        difference[1, TensorIndex.Colon, 0].ShouldMatch(deviation.expand(difference.shape[1]), 1e-4);
        difference[0].abs().max().item<float>().ShouldBe(0);
        difference[1].narrow(1, 1, difference.shape[2] - 1).abs().max().item<float>().ShouldBe(0);
        perturbed.KeyValues[first].Keys.ShouldMatch(picture.KeyValues[first].Keys, 0);
        using var plain = new Reference(new(), load: false);
        Should.Throw<InvalidOperationException>(() => plain.Synapse.Perturb(picture, new(OfChannels: noise)));
    }

    [Fact]
    public void Exchanged_details_leave_every_picture_its_mean_and_count_in_deviations_of_its_own_level()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var reference = new Reference(new() { KeyValueNormalisation = KeyValueNormalisation.StandardiseByPart, NoiseLevels = [100, 900] }, load: false);
        using var recorded = reference.Picture();
        using var picture = new CapturedKeyValues(recorded.KeyValues, timestep: tensor(new[] { 100L, 900L }));
        reference.SetStatistics(picture, 1, 3);

        using var exchanged = reference.Synapse.Perturb(picture, new(DetailsOf: tensor(new[] { 0L, 0L }))); // both the first one's

        foreach (string layer in reference.Synapse.Layers.Select(layer => layer.Name))
        {
            var (before, after) = (picture.KeyValues[layer].Keys, exchanged.KeyValues[layer].Keys);
            after[0].ShouldMatch(before[0], 1e-5);
            after.mean([1]).ShouldMatch(before.mean([1]), 1e-5);
            var (first, second) = (before[0] - before[0].mean([0], true), after[1] - after[1].mean([0], true));
            second.ShouldMatch(3 * first, 1e-3);
        }

        using var plain = new Reference(new() { KeyValueNormalisation = KeyValueNormalisation.Standardise }, load: false);
        Should.Throw<InvalidOperationException>(() => plain.Synapse.Perturb(picture, new(DetailsOf: tensor(new[] { 0L, 0L }))));
    }

    [Fact]
    public void Blended_pictures_are_moved_towards_each_other_on_all_tokens_by_what_they_differ_in()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var reference = new Reference(new() { KeyValueNormalisation = KeyValueNormalisation.StandardiseByPart, NoiseLevels = [500] }, load: false);
        using var raw = reference.Picture();
        using var recorded = new CapturedKeyValues(raw.KeyValues, timestep: tensor(new[] { 500L }));
        reference.SetStatistics(recorded, 1);
        var weights = tensor(new[,] { { 0f, 1f }, { 0f, 0f } }); // to the first what the second differs from the average of both

        using var blended = reference.Synapse.Perturb(recorded, new(Blend: weights));

        foreach (string layer in reference.Synapse.Layers.Select(layer => layer.Name))
        {
            var (before, after) = (recorded.KeyValues[layer].Values, blended.KeyValues[layer].Values);
            var average = before.mean([0, 1], keepdim: true).squeeze(0);
            after[0].ShouldMatch(before[0] + before[1].mean([0], keepdim: true) - average, 1e-4);
            after[1].ShouldMatch(before[1], 1e-5);
        }
    }

    [Theory]
    [InlineData(KeyValueNormalisation.StandardiseByLevel, 20, false)]
    [InlineData(KeyValueNormalisation.StandardiseByLevel, 300, false)]
    [InlineData(KeyValueNormalisation.StandardiseByLevel, 500, false)]
    [InlineData(KeyValueNormalisation.StandardiseByLevel, 501, true)]
    [InlineData(KeyValueNormalisation.StandardiseByLevel, 950, true)]
    [InlineData(KeyValueNormalisation.StandardiseByPart, 500, false)]
    [InlineData(KeyValueNormalisation.StandardiseByPart, 501, true)]
    public void Keys_and_values_are_standardised_by_the_nearest_noise_level_the_lower_on_a_tie(KeyValueNormalisation normalisation, long timestep, bool noisy)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var byLevel = new Reference(new() { KeyValueNormalisation = normalisation, NoiseLevels = [100, 900] }, load: false);
        using var forAll = new Reference(new() { KeyValueNormalisation = normalisation, NoiseLevels = [100] }, load: false);
        using var recorded = byLevel.Picture();
        recorded.Timestep!.ShouldMatch(byLevel.Io["timestep"], 0);
        using var picture = new CapturedKeyValues(recorded.KeyValues, timestep: tensor(new[] { timestep }));
        using var text = byLevel.Music.ProjectText(byLevel.Io["music.text"]);
        using KeyValueStatistics low = new(), high = new(), ofMusic = new();
        low.Add(picture.KeyValues);
        high.Add(picture.KeyValues.ToDictionary(layer => layer.Key, layer => layer.Value.Select(x => 3 * x + 1)));
        ofMusic.Add(text.KeyValues, byLevel.Mask);
        byLevel.Synapse.SetStatistics([low, high], ofMusic);
        forAll.Synapse.SetStatistics([noisy ? high : low], ofMusic);

        byLevel.Predict(byLevel.Synapse.Tap(picture, 1, byLevel.Mask)).ShouldMatch(forAll.Predict(forAll.Synapse.Tap(picture, 1, forAll.Mask)), 1e-6);

        byLevel.Synapse.state_dict()["normalisation.0.image.key_mean"].shape.ShouldBe([2, byLevel.Synapse.Layers[0].Width]);
        Should.Throw<ArgumentException>(() => byLevel.Synapse.SetStatistics([low], ofMusic));
    }

    [Theory]
    [InlineData(KeyValueNormalisation.StandardiseByLevel)]
    [InlineData(KeyValueNormalisation.StandardiseByPart)]
    [InlineData(KeyValueNormalisation.StandardiseByLevel, 500, 500)]
    [InlineData(KeyValueNormalisation.Standardise, 1, 500)]
    public void Noise_levels_that_cannot_be_are_refused(KeyValueNormalisation normalisation, params int[] levels) =>
        Should.Throw<MelFusionException>(() => new SynapseConfig { KeyValueNormalisation = normalisation, NoiseLevels = [.. levels.Select(level => (long)level)] }.Validate())
            .Message.ShouldContain("noise_levels");

    [Fact]
    public void Alphas_start_where_the_config_says()
    {
        using var scope = NewDisposeScope();
        new VisualSynapse(new() { InitialAlpha = 0.07 }, UNetConfig.Mini, Placement.Cpu).Alphas().Values.ShouldAllBe(alpha => Math.Abs(alpha - 0.07) < 1e-6);
        new VisualSynapse(new(), UNetConfig.Tango, Placement.Meta).Layers.Count.ShouldBe(9);
    }

    [Fact]
    public void Networks_that_do_not_fit_together_are_refused_in_one_sentence()
    {
        VisualSynapse.RequireMatch(new(), UNetConfig.StableDiffusion15, UNetConfig.Tango);
        VisualSynapse.RequireMatch(new(), UNetConfig.MiniImage, UNetConfig.Mini);
        Should.Throw<MelFusionException>(() => VisualSynapse.RequireMatch(new(), UNetConfig.MiniImage, UNetConfig.Tango)).Message.ShouldContain("up_blocks.1.attentions.0");
    }

    [Fact]
    public void A_tap_leaves_nothing_behind_its_scope()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var reference = new Reference(new());
        using var picture = reference.Picture();
        long before = DisposeScopeManager.Statistics.ThreadTotalLiveCount;

        using (NewDisposeScope())
        {
            reference.Predict(reference.Synapse.Tap(picture, 0.5, reference.Mask));
        }

        DisposeScopeManager.Statistics.ThreadTotalLiveCount.ShouldBe(before);
    }

    /// <summary>The fixture's two UNets and inputs.</summary>
    private sealed class Reference : IDisposable
    {
        private readonly ConditionalUNet _image;

        public Reference(SynapseConfig config, bool load = true)
        {
            Io = Fixture.Open("synapse");
            _image = FixtureNetworks.OpenUNet("unet-image");
            Music = FixtureNetworks.OpenUNet("unet-music");
            Synapse = new(config, Music.Config, Placement.Cpu);
            VisualSynapse.RequireMatch(config, _image.Config, Music.Config);
            Mask = Io["music.mask"];
            if (load)
            {
                using var noGrad = no_grad();
                foreach (var (name, logits) in Synapse.named_parameters())
                {
                    logits.copy_(Io[name]);
                }
            }
        }

        public Fixture Io { get; }

        public ConditionalUNet Music { get; }

        public VisualSynapse Synapse { get; }

        public Tensor Mask { get; }

        public CapturedKeyValues Picture() => _image.Capture(Io["image.sample"], Io["timestep"], Io["image.null_text"], Synapse.NewRecorder());

        /// <summary>Statistics of the fixture's texts and of the picture, as many times as large at each noise level.</summary>
        public void SetStatistics(CapturedKeyValues picture, params double[] levels)
        {
            using KeyValueStatistics ofMusic = new();
            using var text = Music.ProjectText(Io["music.text"]);
            ofMusic.Add(text.KeyValues, Mask);
            KeyValueStatistics[] ofPictures = [.. levels.Select(_ => new KeyValueStatistics())];
            foreach (var (level, statistics) in levels.Zip(ofPictures))
            {
                statistics.Add(picture.KeyValues.ToDictionary(layer => layer.Key, layer => layer.Value.Select(x => level * x)));
            }

            Synapse.SetStatistics(ofPictures, ofMusic);
            Array.ForEach(ofPictures, statistics => statistics.Dispose());
        }

        public Tensor Predict(IKeyValueTap? tap, TextKeyValues? projected = null) =>
            Music.Forward(Io["music.sample"], Io["timestep"], Io["music.text"], Mask, tap, projected);

        public void Dispose() => Io.Dispose();
    }
}
