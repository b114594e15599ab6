using MelFusion.Image;
using MelFusion.Tests.Support;
using MelFusion.Weights;
using Shouldly;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace MelFusion.Tests.Generation;

/// <summary>A tiny model is written and loaded once for all of these.</summary>
public sealed class TinyModelInMemory : IDisposable
{
    private readonly TinyModel _folder = new();

    public TinyModelInMemory() => Model = _folder.Load();

    public MelFusionModel Model { get; }

    public string Path => _folder.Path;

    public void Dispose()
    {
        Model.Dispose();
        _folder.Dispose();
    }
}

public sealed class MusicGeneratorTests(TinyModelInMemory tiny) : IClassFixture<TinyModelInMemory>
{
    private static readonly byte[] Picture = TinyModel.Picture(1), OtherPicture = TinyModel.Picture(2);

    private static MusicRequest TextOnly => new() { Prompt = "calm guitar", Seed = 7 };

    private static MusicRequest WithPicture => TextOnly with { Image = Picture };

    [Fact]
    public void Zero_influence_leaves_text_to_music_unchanged_bit_for_bit() =>
        Samples(WithPicture with { ImageInfluence = 0 }).ShouldBe(Samples(TextOnly));

    [Theory]
    [InlineData(ImageGuidance.Both)]
    [InlineData(ImageGuidance.Cond)]
    public void More_influence_gives_other_music_and_so_does_another_picture(ImageGuidance guidance)
    {
        var request = WithPicture with { ImageGuidance = guidance };
        float[][] all = [Samples(TextOnly), Samples(request with { ImageInfluence = 0.5 }), Samples(request), Samples(request with { Image = OtherPicture })];

        foreach (var (one, other) in from i in Enumerable.Range(0, all.Length) from j in Enumerable.Range(0, i) select (all[i], all[j]))
        {
            one.ShouldNotBe(other);
        }
    }

    [Fact]
    public void A_picture_read_at_another_size_gives_other_music_and_the_recipe_knows_the_size()
    {
        var own = Generate(WithPicture)[0];
        var other = Generate(WithPicture with { PictureSize = new(32, 64) })[0];

        other.Samples.ShouldNotBe(own.Samples);
        other.Recipe.PictureSize.ShouldBe(new PictureSize(32, 64));
        Generate(Recipe.FromJson(other.Recipe.ToJson()).ToRequest(Picture))[0].Samples.ShouldBe(other.Samples);
        Generate(WithPicture with { PictureSize = own.Recipe.PictureSize })[0].Samples.ShouldBe(own.Samples);
        Should.Throw<MelFusionException>(() => Generate(WithPicture with { PictureSize = new(0, 64) })).Message.ShouldContain("size");
    }

    [Theory]
    [InlineData(KeyValueSource.Replay)]
    [InlineData(KeyValueSource.Recorded)]
    [InlineData(KeyValueSource.Trajectory)]
    public void The_same_recipe_gives_the_same_samples(KeyValueSource source)
    {
        var clip = Generate(WithPicture with { KeyValueSource = source, InversionSteps = 3 })[0];
        var again = Generate(Recipe.FromJson(clip.Recipe.ToJson()).ToRequest(Picture))[0];

        again.Samples.ShouldBe(clip.Samples);
        again.Recipe.ShouldBe(clip.Recipe);
    }

    [Fact]
    public void A_picture_inverted_half_way_takes_half_the_calls_and_gives_other_music_that_its_recipe_gives_again()
    {
        var (whole, half) = (new Collected(), new Collected());
        var request = WithPicture with { Steps = 4, KeyValueSource = KeyValueSource.Trajectory };
        var clip = Generate(request with { InversionDepth = 0.5 }, half)[0];

        Generate(request, whole)[0].Samples.ShouldNotBe(clip.Samples);
        Generate(Recipe.FromJson(clip.Recipe.ToJson()).ToRequest(Picture))[0].Samples.ShouldBe(clip.Samples);
        Calls(whole).ShouldBe(4);
        Calls(half).ShouldBe(2);

        static int Calls(Collected seen) => seen.Reports.Last(report => report.Stage == GenerationStage.InvertingPicture).StepCount;
    }

    [Fact]
    public void A_model_says_how_far_its_pictures_are_inverted()
    {
        using var folder = new TinyModel();
        string defaults = System.IO.Path.Combine(folder.Path, "melfusion.json");
        File.WriteAllText(defaults, File.ReadAllText(defaults).TrimEnd()[..^1] + ", \"inversion_depth\": 0.25 }");
        using (var model = folder.Load())
        {
            new MusicGenerator(model).Generate(WithPicture)[0].Recipe.InversionDepth.ShouldBe(0.25);
        }

        File.WriteAllText(defaults, File.ReadAllText(defaults).Replace("0.25", "0", StringComparison.Ordinal));
        Should.Throw<MelFusionException>(() => folder.Load()).Message.ShouldContain("inversion_depth must be 0.001 to 1");
    }

    [Theory]
    [InlineData(SamplerKind.Ddim)]
    [InlineData(SamplerKind.Ddpm)]
    [InlineData(SamplerKind.DpmSolver)]
    public void Every_sampler_makes_its_own_finite_music_from_the_seed(SamplerKind sampler)
    {
        float[] samples = Samples(WithPicture with { Sampler = sampler });

        samples.ShouldAllBe(sample => float.IsFinite(sample));
        samples.ShouldNotBe(Samples(WithPicture with { Sampler = sampler, Seed = 8 }));
        samples.ShouldNotBe(Samples(WithPicture with { Sampler = sampler == SamplerKind.Ddim ? SamplerKind.Ddpm : SamplerKind.Ddim }));
    }

    [Fact]
    public void Candidates_are_the_clips_of_their_seeds_and_their_batch_repeats()
    {
        var batch = Generate(WithPicture with { Candidates = 3, Sampler = SamplerKind.Ddpm });
        var again = Generate(WithPicture with { Candidates = 3, Sampler = SamplerKind.Ddpm });

        batch.Select(clip => clip.Recipe.Candidate).ShouldBe([0, 1, 2]);
        for (int i = 0; i < 3; i++)
        {
            again[i].Samples.ShouldBe(batch[i].Samples);
            float[] alone = Samples(WithPicture with { Seed = 7 + i, Sampler = SamplerKind.Ddpm });
            alone.Zip(batch[i].Samples, (a, b) => Math.Abs(a - b)).Max().ShouldBeLessThan(1e-3f); // another batch rounds otherwise
        }

        batch[0].Samples.ShouldNotBe(batch[1].Samples);
    }

    [Fact]
    public void A_picture_speaks_without_a_text_and_a_negative_text_steers()
    {
        float[] alone = Samples(new() { Image = Picture, Seed = 7 });

        alone.ShouldNotBe(Samples(WithPicture));
        Samples(WithPicture with { NegativePrompt = "drums" }).ShouldNotBe(Samples(WithPicture));
        Samples(TextOnly with { Guidance = 1, NegativePrompt = "drums" }).ShouldBe(Samples(TextOnly with { Guidance = 1 }));
    }

    [Fact]
    public void A_clip_is_as_long_as_the_model_makes_it_or_exactly_as_short_as_was_asked()
    {
        Samples(TextOnly).Length.ShouldBe(1024);
        Samples(TextOnly with { Duration = 0.1 }).Length.ShouldBe(400);
        Samples(TextOnly with { Duration = 0.256 }).Length.ShouldBe(1024);
        Should.Throw<MelFusionException>(() => Samples(TextOnly with { Duration = 0.3 })).Message.ShouldContain("0.26 s at most");
    }

    [Fact]
    public void Griffin_lim_and_refinement_make_other_waveforms_of_the_same_mel()
    {
        float[] vocoder = Samples(TextOnly with { Refine = 0 });

        Samples(TextOnly with { Refine = 2 }).ShouldNotBe(vocoder);
        Samples(TextOnly with { Refine = 0, Vocoder = VocoderKind.GriffinLim }).Length.ShouldBe(vocoder.Length);
    }

    [Fact]
    public void Progress_passes_through_every_stage_to_its_end_with_time_left()
    {
        var seen = new Collected();
        Generate(WithPicture, seen);

        seen.Reports.Select(report => report.Stage).Distinct().ShouldBe(Enum.GetValues<GenerationStage>());
        foreach (var stage in seen.Reports.GroupBy(report => report.Stage))
        {
            stage.Select(report => report.Step).ShouldBeInOrder();
            stage.Last().Step.ShouldBe(stage.Last().StepCount);
        }

        seen.Reports[^1].Remaining.ShouldBe(TimeSpan.Zero);
        seen.Reports.Count(report => report.Remaining > TimeSpan.Zero).ShouldBeGreaterThan(4);
    }

    [Theory]
    [InlineData(GenerationStage.InvertingPicture)]
    [InlineData(GenerationStage.Denoising)]
    [InlineData(GenerationStage.Decoding)]
    public void A_cancelled_generation_ends_within_one_step(GenerationStage stage)
    {
        using var source = new CancellationTokenSource();
        var seen = new Collected { Then = report => { if (report.Stage == stage && report.Step == 1) { source.Cancel(); } } };

        Should.Throw<OperationCanceledException>(() => new MusicGenerator(tiny.Model).Generate(WithPicture with { Candidates = 2 }, seen, source.Token));
        seen.Reports[^1].ShouldBe(seen.Reports.Last(report => report.Stage == stage && report.Step == 1));
    }

    [Fact]
    public void A_picture_that_is_none_is_refused_in_a_sentence() =>
        Should.Throw<MelFusionException>(() => Samples(TextOnly with { Image = "not a picture"u8.ToArray() }));

    [Fact]
    public void Nothing_of_the_pictures_is_loaded_for_text_alone()
    {
        using var folder = new TinyModel();
        File.WriteAllText(System.IO.Path.Combine(folder.Path, "image_unet", "diffusion_pytorch_model.safetensors"), "broken");
        using var model = folder.Load();

        new MusicGenerator(model).Generate(TextOnly).Count.ShouldBe(1);
        GenerationPlan.Of(WithPicture, model).Recipe.InversionDepth.ShouldBe(1, "what is planned for every row of a set needs no network");
        Should.Throw<MelFusionException>(() => new MusicGenerator(model).Generate(WithPicture)).Message.ShouldContain("image_unet");
    }

    [Fact]
    public void Every_tensor_from_picture_and_text_to_waveform_is_made_on_the_chosen_device() // no refinement: libtorch has no FFT on the meta device
    {
        using var scope = NewDisposeScope();
        using var folder = new TinyModel();
        using var model = folder.Load(Precision.Fp32, META);
        foreach (var request in new[] { WithPicture with { Candidates = 2, Refine = 0 }, WithPicture with { Refine = 0, ImageGuidance = ImageGuidance.Cond, Sampler = SamplerKind.Ddpm, KeyValueSource = KeyValueSource.Replay } })
        {
            var plan = GenerationPlan.Of(request, model);

            var waveform = new MusicGenerator(model).Waveform(plan, plan.StartClock(model, null, TimeProvider.System), default).Waveform;

            waveform.device_type.ShouldBe(DeviceType.META);
            waveform.shape.ShouldBe([request.Candidates, 1024]);
        }
    }

    private float[] Samples(MusicRequest request) => Generate(request)[0].Samples;

    private IReadOnlyList<MusicClip> Generate(MusicRequest request, IProgress<GenerationProgress>? progress = null) =>
        new MusicGenerator(tiny.Model).Generate(request, progress);

    private sealed class Collected : IProgress<GenerationProgress>
    {
        public List<GenerationProgress> Reports { get; } = [];

        public Action<GenerationProgress>? Then { get; init; }

        public void Report(GenerationProgress value)
        {
            Reports.Add(value);
            Then?.Invoke(value);
        }
    }
}
