using MelFusion.Tests.Support;
using MelFusion.Weights;
using Shouldly;
using Xunit;

namespace MelFusion.Tests.Generation;

public sealed class SetGeneratorTests(TinyModelInMemory tiny) : IClassFixture<TinyModelInMemory>, IDisposable
{
    private readonly TemporaryFolder _folder = new();

    private string Output => _folder.File("out");

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Each_row_has_a_file_of_its_name_that_can_be_made_again_bit_for_bit()
    {
        Run(Rows()).ShouldBe((5, 0));

        Files().ShouldBe(["a.wav", "b.wav", "c.wav", "text.wav", "picture.wav"], ignoreOrder: true);
        var shared = ClipFile.ReadRecipe(FileOf("c"));
        (shared.Candidate, shared.Candidates, shared.Prompt, shared.ImageName).ShouldBe((2, 3, "calm guitar", "p.bmp"));
        ClipFile.ReadRecipe(FileOf("text")).ImageSha256.ShouldBeNull();
        ClipFile.ReadRecipe(FileOf("picture")).Prompt.ShouldBeNull();
        foreach (string id in new[] { "a", "b", "c", "picture" })
        {
            Replay.Open(FileOf(id), _folder.File("p.bmp")).Run(ModelFolder.Open(tiny.Path)).IsEqual.ShouldBeTrue(id);
        }
    }

    [Fact]
    public void A_rows_seed_comes_from_the_sets_seed_and_its_name_and_not_from_its_place()
    {
        var rows = Rows();
        rows.Select(row => row.SeedOf(1)).Distinct().Count().ShouldBe(5);
        rows[0].SeedOf(1).ShouldNotBe(rows[0].SeedOf(2));

        Run([rows[3], rows[1]]);

        OwnSeed("b").ShouldBe(rows[1].SeedOf(1));
        OwnSeed("text").ShouldBe(rows[3].SeedOf(1));

        long OwnSeed(string id) => ClipFile.ReadRecipe(FileOf(id)) is var recipe ? recipe.Seed + recipe.Candidate : 0;
    }

    [Fact]
    public void A_run_that_was_stopped_goes_on_and_ends_with_the_same_bytes()
    {
        Run(Rows());
        var whole = Contents();
        Directory.Delete(Output, true);

        using var stop = new CancellationTokenSource();
        var stopping = new Watcher(progress =>
        {
            if (progress.Done >= 3 && progress.Now?.Stage == GenerationStage.Denoising)
            {
                stop.Cancel();
            }
        });
        Should.Throw<OperationCanceledException>(() => new SetGenerator(tiny.Model).Run(Request(Rows()), stopping, stop.Token));
        Files().ShouldBe(["a.wav", "b.wav", "c.wav"], ignoreOrder: true);
        File.Delete(FileOf("b"));

        Run(Rows()).ShouldBe((3, 2));
        Contents().ShouldBe(whole);
        Run(Rows()).ShouldBe((0, 5));
    }

    [Fact]
    public void A_file_of_another_making_is_named_with_the_difference_and_replaced_only_when_that_is_asked_for()
    {
        Run(Rows());
        byte[] before = File.ReadAllBytes(FileOf("a"));
        var fewer = Request(Rows()) with { Settings = new() { Seed = 1, Steps = 2 } };

        Refused(fewer).ShouldContain("steps: 4 there, 2 now");
        Refused(Request(Rows()) with { Settings = new() { Seed = 2 } }).ShouldContain("another seed");
        File.ReadAllBytes(FileOf("a")).ShouldBe(before);

        Outcome(fewer with { Overwrite = true }).ShouldBe((5, 0));
        Outcome(fewer with { Overwrite = true }).ShouldBe((0, 5), "what is as asked stays");
        File.WriteAllText(FileOf("b"), "no music");
        Refused(fewer).ShouldContain("b.wav", Case.Sensitive);
    }

    [Theory]
    [InlineData(null)]
    [InlineData("")]
    [InlineData("../a")]
    [InlineData("a/b")]
    [InlineData("a\\b")]
    [InlineData("/etc/a")]
    [InlineData("a\u001b[2J")]
    public void A_row_whose_name_is_no_bare_file_name_is_refused(string? id) =>
        Should.Throw<MelFusionException>(() => SetRow.FromTable(_folder.Path, id, null, "x")).Message.ShouldContain("bare file name");

    [Theory]
    [InlineData("../secret.png", "outside")]
    [InlineData("images/../../secret.png", "outside")]
    [InlineData("/etc/hostname", "outside")]
    [InlineData("a\0.png", "outside")]
    [InlineData("", "outside")]
    [InlineData("images/absent.png", "not there")]
    public void A_picture_that_is_missing_or_lies_elsewhere_is_refused_and_not_read(string picture, string expected)
    {
        string message = Should.Throw<MelFusionException>(() => SetRow.FromTable(_folder.Path, "row", picture, "x")).Message;

        message.ShouldContain("'row'");
        message.ShouldContain(expected);
    }

    [Fact]
    public void Rows_that_cannot_be_made_are_said_before_anything_is_made()
    {
        Refused(Request([.. Rows(), new("A", null, "x")])).ShouldContain("'a'");
        Refused(Request([.. Rows(), new("bare", null, null)])).ShouldContain("'bare'");
        Refused(Request([.. Rows(), new("long", null, new string('x', 2001))])).ShouldContain("'long'");
        File.WriteAllText(_folder.File("file"), string.Empty);
        Refused(Request(Rows()) with { Output = _folder.File("file") }).ShouldContain("cannot be made");
        Files().ShouldBeEmpty();
    }

    [Fact]
    public void Time_left_is_told_from_the_clips_made_so_far()
    {
        var time = new HandTime();
        var told = new List<SetProgress>();
        var clock = new SetClock(new Watcher(told.Add), count: 10, toMake: 8, time);

        clock.Begin(2);
        time.Now += TimeSpan.FromSeconds(5);
        clock.Report(new(GenerationStage.Denoising, 1, 4, TimeSpan.FromSeconds(15)));
        told[^1].Remaining!.Value.TotalSeconds.ShouldBe(15 + (6 * 10));
        time.Now += TimeSpan.FromSeconds(11);
        clock.End(2);
        (told[^1].Done, told[^1].Remaining!.Value.TotalSeconds).ShouldBe((4, 6 * 8));
        clock.Begin(2);
        clock.Report(new(GenerationStage.ReadingPicture, 0, 1, null));
        told[^1].Remaining!.Value.TotalSeconds.ShouldBe(6 * 8);
    }

    private SetRow[] Rows()
    {
        string picture = _folder.File("p.bmp");
        File.WriteAllBytes(picture, TinyModel.Picture(1));
        return
        [
            new("a", picture, "calm guitar"), new("b", picture, "calm guitar"), new("c", picture, "calm guitar"), new("text", null, "loud drums"),
            new("picture", picture, null),
        ];
    }

    private SetRequest Request(IReadOnlyList<SetRow> rows) => new() { Rows = rows, Output = Output, Settings = new() { Seed = 1 } };

    private (int Made, int Kept) Run(IReadOnlyList<SetRow> rows) => Outcome(Request(rows));

    private (int Made, int Kept) Outcome(SetRequest request) => new SetGenerator(tiny.Model).Run(request) is var outcome ? (outcome.Made, outcome.Kept) : default;

    private string Refused(SetRequest request) => Should.Throw<MelFusionException>(() => Outcome(request)).Message;

    private string FileOf(string id) => Path.Combine(Output, id + ".wav");

    private string[] Files() => Directory.Exists(Output) ? [.. Directory.GetFiles(Output).Select(file => Path.GetFileName(file))] : [];

    private (string Name, string Bytes)[] Contents() => [.. Files().Order().Select(name => (name, Convert.ToHexString(File.ReadAllBytes(Path.Combine(Output, name)))))];

    private sealed class Watcher(Action<SetProgress> report) : IProgress<SetProgress>
    {
        public void Report(SetProgress value) => report(value);
    }
}
