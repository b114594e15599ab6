using System.Text.Json;
using MelFusion.Evaluation.Metrics;
using MelFusion.Tests.Support;
using MelFusion.Weights;
using Shouldly;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace MelFusion.Tests.Evaluation;

public sealed class MetricsTests : IDisposable
{
    private readonly DisposeScope _scope = NewDisposeScope();
    private readonly Fixture _fixture = Fixture.Open("metrics");
    private readonly Safetensors _data;
    private readonly JsonDocument _expected;

    public MetricsTests()
    {
        _data = Safetensors.Open(_fixture.File("data.safetensors"));
        _expected = _fixture.Json("expected.json");
    }

    public void Dispose()
    {
        _expected.Dispose();
        _data.Dispose();
        _fixture.Dispose();
        _scope.Dispose();
    }

    [Fact]
    [Trait("Category", "Parity")]
    public void Frechet_distances_are_met_and_a_set_is_at_none_from_itself()
    {
        foreach (var stated in Expected("frechet").EnumerateObject())
        {
            var (x, y) = (Data($"frechet.{stated.Name}.x"), Data($"frechet.{stated.Name}.y"));
            double tolerance = stated.Name == "near_singular" ? 1e-5 : 1e-6;

            ShouldBeNear(FrechetDistance.Between(x, y), stated.Value.GetProperty("value"), tolerance, stated.Name);
            ShouldBeNear(FrechetDistance.Between(x, y), stated.Value.GetProperty("scipy_sqrtm"), 1e-4, stated.Name);
            Math.Abs(FrechetDistance.Between(x, x)).ShouldBeLessThan(1e-9 * FrechetDistance.Trace(x), stated.Name);
        }
    }

    [Fact]
    [Trait("Category", "Parity")]
    public void Divergences_of_classes_are_met()
    {
        var (reference, generated) = (Data("logits.reference"), Data("logits.generated"));

        ShouldBeNear(KlDivergence.Softmax(reference, generated).Average(), Expected("kl").GetProperty("softmax"));
        ShouldBeNear(KlDivergence.Sigmoid(reference, generated).Average(), Expected("kl").GetProperty("sigmoid"));
    }

    [Fact]
    public void The_divergence_of_tags_is_zero_for_equal_tags_and_positive_otherwise()
    {
        var tags = torch.tensor(new[,] { { 0.0, 0.5, 1.0 }, { 0.2, 0.3, 0.4 } });

        KlDivergence.Bernoulli(tags, tags).ShouldBe([0, 0]);
        KlDivergence.Bernoulli(tags, tags.flip([0])).ShouldAllBe(value => value > 0 && double.IsFinite(value));
        KlDivergence.Bernoulli(torch.tensor(new[,] { { 0.5 } }), torch.tensor(new[,] { { 0.25 } }))[0]
            .ShouldBe((0.5 * Math.Log(2)) + (0.5 * Math.Log(0.5 / 0.75)), 1e-12);
    }

    [Fact]
    [Trait("Category", "Parity")]
    public void The_inception_score_is_met()
    {
        var stated = Expected("inception_score");
        var logits = Data("logits.generated");
        long[] order = Indices("inception_score.order");

        var score = InceptionScore.Of(logits, order, stated.GetProperty("splits").GetInt32())!;

        ShouldBeNear(score.Mean, stated.GetProperty("mean"));
        ShouldBeNear(score.StandardDeviation, stated.GetProperty("std"));
        score.PerSplit.Zip(Numbers(stated.GetProperty("per_split"))).ShouldAllBe(pair => Math.Abs(pair.First - pair.Second) < 1e-6 * pair.Second);
        ShouldBeNear(InceptionScore.Of(logits, order, 1)!.Mean, stated.GetProperty("one_split"));
        InceptionScore.Of(logits, order[..3], 4).ShouldBeNull();
        new NumpyRandom(2020).Permutation(order.Length).ShouldBe(order);
    }

    [Theory]
    [Trait("Category", "Parity")]
    [InlineData("small")]
    [InlineData("default")]
    public void The_kernel_distance_is_met(string name)
    {
        var stated = Expected("kid").GetProperty(name);
        var (rowsX, rowsY) = (Rows($"kid.{name}.x"), Rows($"kid.{name}.y"));

        var distance = KernelDistance.Of(Data("frechet.full_rank.x"), Data("frechet.full_rank.y"), rowsX.Zip(rowsY));

        ShouldBeNear(distance.Mean, stated.GetProperty("mean"));
        ShouldBeNear(distance.StandardDeviation, stated.GetProperty("std"));
        ShouldBeNear(distance.PerSubset[0], stated.GetProperty("first_subset"));
    }

    [Fact]
    [Trait("Category", "Parity")]
    public void Neighbourhoods_and_variety_are_met()
    {
        var stated = Expected("prdc");
        var (x, y) = (Data("frechet.full_rank.x"), Data("frechet.full_rank.y"));

        var coverage = Coverage.Of(x, y, stated.GetProperty("k").GetInt32())!;

        ShouldBeNear(coverage.Precision, stated.GetProperty("precision"));
        ShouldBeNear(coverage.Recall, stated.GetProperty("recall"));
        ShouldBeNear(coverage.Density, stated.GetProperty("density"));
        ShouldBeNear(coverage.CoverageOfReal, stated.GetProperty("coverage"));
        ShouldBeNear(VendiScore.Of(x), Expected("vendi"));
    }

    [Fact]
    [Trait("Category", "Parity")]
    public void The_distance_to_an_endless_set_is_met()
    {
        var stated = Expected("fad_infinity");
        long[] indices = Indices("fad_infinity.indices");
        var samples = new List<long[]>();
        foreach (int size in stated.GetProperty("sizes").EnumerateArray().Select(size => size.GetInt32()))
        {
            samples.Add(indices[..size]);
            indices = indices[size..];
        }

        var line = FrechetDistance.Infinity(Data("frechet.full_rank.x"), Data("frechet.full_rank.y"), samples);

        ShouldBeNear(line.Value, stated.GetProperty("fad_infinity"));
        ShouldBeNear(line.Slope, stated.GetProperty("slope"));
        ShouldBeNear(line.RSquared, stated.GetProperty("r2"));
        line.Distances.Zip(Numbers(stated.GetProperty("fad"))).ShouldAllBe(pair => Math.Abs(pair.First - pair.Second) < 1e-6 * pair.Second);
    }

    [Fact]
    [Trait("Category", "Parity")]
    public void The_bootstrap_interval_is_met()
    {
        var stated = Expected("bootstrap_fad");
        var (x, y) = (Data("frechet.full_rank.x"), Data("frechet.full_rank.y"));
        double[] values = [.. Rows("bootstrap.x").Zip(Rows("bootstrap.y")).Select(rows => FrechetDistance.Between(At(x, rows.First), At(y, rows.Second)))];

        var interval = Bootstrap.Of(FrechetDistance.Between(x, y), values);

        ShouldBeNear(interval.Mean, stated.GetProperty("mean"));
        ShouldBeNear(interval.StandardDeviation, stated.GetProperty("std"));
        ShouldBeNear(interval.Low, stated.GetProperty("low"));
        ShouldBeNear(interval.High, stated.GetProperty("high"));
        interval.Bias.ShouldBe(interval.Mean - stated.GetProperty("estimate").GetDouble(), 1e-6);
    }

    [Fact]
    [Trait("Category", "Parity")]
    public void The_CLAP_score_is_met()
    {
        double[] cosines = CosineScore.Rows(Data("clap.audio"), Data("clap.text"));

        ShouldBeNear(cosines.Average(), Expected("clap_score").GetProperty("mean"));
        cosines.Zip(Numbers(Expected("clap_score").GetProperty("each"))).ShouldAllBe(pair => Math.Abs(pair.First - pair.Second) < 1e-6);
    }

    [Fact]
    [Trait("Category", "Parity")]
    public void IMSM_is_met_in_its_three_forms()
    {
        var stated = Expected("imsm");
        double clip = stated.GetProperty("clip_scale").GetDouble(), clap = stated.GetProperty("clap_scale").GetDouble();
        var image = CosineScore.Matrix(Data("imsm.image"), Data("imsm.clip_text"));
        var music = CosineScore.Matrix(Data("imsm.audio"), Data("imsm.clap_text"));

        var agreement = Imsm.Agreement(image, music, clip, clap);

        Imsm.Equation8(image, music).ShouldMatch(Matrix(stated.GetProperty("eq8_cosine")), 1e-6);
        Imsm.Equation8(image * clip, music * clap).ShouldMatch(Matrix(stated.GetProperty("eq8_logits")), 1e-6);
        agreement.ShouldMatch(Matrix(stated.GetProperty("product")), 1e-6);
        Imsm.PublishedScript(agreement).ShouldMatch(Matrix(stated.GetProperty("published_script")), 1e-6);
        ShouldBeNear(Imsm.Score(agreement), stated.GetProperty("imsm"));
        ShouldBeNear(Imsm.DiagonalMinusOffDiagonal(agreement), stated.GetProperty("diagonal_minus_off_diagonal"));
        Imsm.Diagonal(agreement).Zip(Numbers(stated.GetProperty("diagonal"))).ShouldAllBe(pair => Math.Abs(pair.First - pair.Second) < 1e-6);

        long[] shuffle = [.. stated.GetProperty("shuffle").EnumerateArray().Select(row => row.GetInt64())];
        ShouldBeNear(Imsm.Score(Imsm.Agreement(At(image, shuffle), music, clip, clap)), stated.GetProperty("imsm_images_shuffled"));
        long[][] blocks = [.. stated.GetProperty("partition").EnumerateArray().Select(block => block.EnumerateArray().Select(row => row.GetInt64()).ToArray())];
        ShouldBeNear(Imsm.PartitionMean(image, music, clip, clap, blocks), stated.GetProperty("imsm_partition_mean"));
    }

    [Fact]
    public void More_noise_is_further_away()
    {
        var clean = torch.randn([200, 8], ScalarType.Float64, generator: new Generator(1));
        var noise = torch.randn([200, 8], ScalarType.Float64, generator: new Generator(2));

        double[] distances = [.. new[] { 0.01, 0.1, 0.3, 1 }.Select(level => FrechetDistance.Between(clean, clean + (noise * level)))];

        distances.ShouldBe(distances.Order());
        Should.Throw<MelFusionException>(() => FrechetDistance.Between(clean, clean[..1]));
    }

    private JsonElement Expected(string name) => _expected.RootElement.GetProperty(name);

    private Tensor Data(string key) => _data.Read(key).to(ScalarType.Float64);

    private long[] Indices(string key) => _data.Read(key).data<long>().ToArray();

    private long[][] Rows(string key)
    {
        var rows = _data.Read(key);
        return [.. Enumerable.Range(0, (int)rows.shape[0]).Select(i => rows[i].data<long>().ToArray())];
    }

    private static Tensor At(Tensor set, long[] rows) => set.index_select(0, torch.tensor(rows));

    private static double[] Numbers(JsonElement list) => [.. list.EnumerateArray().Select(number => number.GetDouble())];

    private static Tensor Matrix(JsonElement rows) => torch.stack(rows.EnumerateArray().Select(row => torch.tensor(Numbers(row))).ToArray());

    private static void ShouldBeNear(double actual, JsonElement expected, double tolerance = 1e-6, string? what = null) =>
        actual.ShouldBe(expected.GetDouble(), tolerance * Math.Abs(expected.GetDouble()), what);
}
