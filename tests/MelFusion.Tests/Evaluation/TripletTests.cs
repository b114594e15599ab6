using MelFusion.Evaluation;
using MelFusion.Evaluation.Embeddings;
using MelFusion.Evaluation.Reports;
using MelFusion.Evaluation.Triplets;
using MelFusion.Tests.Support;
using MelFusion.Wave;
using MelFusion.Weights;
using Shouldly;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace MelFusion.Tests.Evaluation;

public sealed class TripletTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Triplets_that_agree_stand_above_their_shuffled_pictures_and_random_ones_at_chance()
    {
        using var scope = NewDisposeScope();
        string[] pictures = [.. Enumerable.Range(0, 40).Select(i => $"picture {i / 2}")]; // two clips a picture
        var right = torch.eye(40, dtype: ScalarType.Float64);
        var generator = new Generator(1);
        Tensor Random() => torch.rand([40, 40], ScalarType.Float64, generator: generator);

        var agreeing = new TripletScores(right, right, 20, 20, pictures).Measure(0, 100);
        var nothing = new TripletScores(Random(), Random(), 1, 1, pictures).Measure(0, 100);

        agreeing.Value!.Value.ShouldBeGreaterThan(0.99);
        agreeing.Parts!["separation"].ShouldBe(1);
        agreeing.Parts["shuffled"].ShouldBeLessThan(0.01);
        agreeing.Parts["lift"].ShouldBe(agreeing.Value.Value - agreeing.Parts["shuffled"], 1e-9);
        (agreeing.Parts["picture_to_caption"], agreeing.Parts["music_to_caption"]).ShouldBe((1, 1));
        agreeing.Parts["equation8"].ShouldBe(1, 1e-9);
        agreeing.Parts["published_script"].ShouldBe(Math.E / (Math.E + 15), 0.01, "its last softmax allows no more");
        (agreeing.Parts["triplets"], agreeing.Parts["pictures"]).ShouldBe((40, 20));
        nothing.Value!.Value.ShouldBe(1.0 / 16, 0.01);
        nothing.Parts!["chance"].ShouldBe(1.0 / 16);
        nothing.Parts["separation_low"].ShouldBeLessThan(0.5);
        nothing.Parts["separation_high"].ShouldBeGreaterThan(0.5);
        new TripletScores(right, right, 20, 20, pictures).Measure(0, 100).Parts.ShouldBe(agreeing.Parts);
        new TripletScores(right, right, 20, 20, [.. pictures.Select(_ => "one")]).Measure(0, 100).Reason!.ShouldContain("two different pictures");
    }

    [Fact]
    public void Fewer_triplets_than_a_block_make_one_block_and_chance_says_so()
    {
        using var scope = NewDisposeScope();
        var scores = torch.zeros(5, 5, dtype: ScalarType.Float64);

        var figure = new TripletScores(scores, scores, 20, 20, ["a", "b", "c", "d", "e"]).Measure(0, 0);

        figure.Value!.Value.ShouldBe(0.2, 1e-12);
        figure.Parts!["chance"].ShouldBe(0.2);
        figure.Parts["separation"].ShouldBe(0.5, "draws count half");
        (figure.Low, figure.High).ShouldBe((null, null));
    }

    [Fact]
    public void Captions_and_pictures_are_found_by_the_name_of_the_sound()
    {
        string table = _folder.File("table.jsonl"), images = Directory.CreateDirectory(_folder.File("named")).FullName;
        File.WriteAllText(table, "{\"id\":\"a\",\"captions\":[\"first\",\"second\"],\"images\":[\"images/x.bmp\"]}\n\n{\"id\":\"b\",\"caption\":\"alone\"}\n{\"id\":\"c\",\"images\":[\"gone.png\"]}\n");
        Directory.CreateDirectory(_folder.File("images"));
        File.WriteAllBytes(_folder.File("images/x.bmp"), TinyModel.Picture(1));
        File.WriteAllBytes(Path.Combine(images, "b.bmp"), TinyModel.Picture(2));

        var both = new TripletTable(table, images);
        var none = new TripletTable(null, null);

        (both.Caption("a"), both.Caption("b"), both.Caption("c"), both.Caption("d")).ShouldBe(("first", "alone", null, null));
        both.Picture("a").ShouldBe(Path.Combine(_folder.Path, "images/x.bmp"));
        both.Picture("b").ShouldBe(Path.Combine(images, "b.bmp"));
        both.Picture("c").ShouldBeNull();
        (none.Caption("a"), none.Picture("a")).ShouldBe((null, null));

        File.WriteAllText(table, "{\"id\":\"a\",\"caption\":\"x\"}\n{\"caption\":\"no id\"}\n");
        Should.Throw<MelFusionException>(() => new TripletTable(table, null)).Message.ShouldBe($"{table}: line 2 is no object with \"id\" and \"caption\" or \"captions\".");
        File.WriteAllText(Path.Combine(images, "table.jsonl"), "{\"id\":\"a\",\"caption\":\"x\",\"images\":[\"../images/x.bmp\"]}\n");
        Should.Throw<MelFusionException>(() => new TripletTable(Path.Combine(images, "table.jsonl"), null)).Message.ShouldContain("lies outside the folder");
        Should.Throw<MelFusionException>(() => new TripletTable(_folder.File("absent"), null)).Message.ShouldContain("cannot be read");
        Should.Throw<MelFusionException>(() => new TripletTable(null, _folder.File("absent"))).Message.ShouldContain("no such folder of pictures");
    }

    [Fact]
    public void CLAP_and_CLIP_in_a_folder_give_the_scores_of_texts_and_pictures()
    {
        string data = WriteData(6), networks = _folder.File("networks");
        WriteNetwork("clap", "roberta", networks, "text_model.embeddings.word_embeddings.weight");
        WriteNetwork("clip", "clip-tiny", networks, "text_model.embeddings.token_embedding.weight");
        var request = Request(data) with { Metrics = ["fd", "kl", "clap", "imsm"], Weights = networks, BootstrapRounds = 20 };
        using var evaluator = EvaluatorFolder.Open("clap", networks).Evaluator!;

        var (report, _) = FolderEvaluation.Run(request, evaluator);
        var (again, _) = FolderEvaluation.Run(request, evaluator);
        var (_, missing) = EvaluatorFolder.Find("clip", _folder.File("absent"));

        report.Metrics["fd"].Value!.Value.ShouldBe(0, 1e-6, "the folder is compared with itself");
        report.Metrics["kl"].Reason!.ShouldContain("clap does not give");
        var clap = report.Metrics["clap"];
        clap.Value!.Value.ShouldBeInRange(-1, 1);
        clap.Parts!["reference"].ShouldBe(clap.Value.Value);
        clap.Low!.Value.ShouldBeLessThanOrEqualTo(clap.High!.Value);
        report.Controls["shuffled"]!["clap"].ShouldBe(clap.Parts["shuffled"]);
        var imsm = report.Metrics["imsm"];
        imsm.Value!.Value.ShouldBeInRange(0, 1);
        imsm.Parts!["chance"].ShouldBe(1.0 / 6);
        imsm.Parts.Keys.ShouldBe(
            ["chance", "shuffled", "lift", "separation", "picture_to_caption", "music_to_caption", "equation8", "published_script", "triplets", "pictures", "lift_low", "lift_high", "separation_low", "separation_high", "reference"]);
        report.Passport.Networks.Keys.ShouldBe(["clip"]);
        report.Passport.TripletsSha256.Length.ShouldBe(64);
        again.ToJson().ShouldBe(report.ToJson());
        ReportWriter.ToMarkdown(report, []).ShouldContain("published script");
        ReportWriter.ToCsv(report).ShouldContain("\nimsm,chance,0.16");
        missing.ShouldContain("`melfusion models pull openai/clip-vit-base-patch32` brings them");
    }

    [Fact]
    public void What_lacks_weights_captions_or_pictures_is_null_with_the_reason()
    {
        string data = WriteData(3);
        File.Delete(Path.Combine(data, "table.jsonl"));
        using var musicnn = new MusicnnEvaluator(Path.Combine(Repository.Root, "models", "musicnn", "mtt"));

        var (report, _) = FolderEvaluation.Run(
            Request(Path.Combine(data, "audio")) with { Metrics = ["clap", "imsm", "imsm-open"], Weights = _folder.File("absent") }, musicnn);

        report.Metrics["clap"].Reason!.ShouldStartWith("the weights of clap are missing: ");
        report.Metrics["imsm"].Reason!.ShouldStartWith("the weights of clap are missing: ");
        report.Metrics["imsm-open"].Reason.ShouldBe("it needs caption and picture for each sound; give --captions and --images");
        report.Metrics.Values.ShouldAllBe(metric => metric.Value == null);
    }

    [Fact]
    public void IMSM_open_is_computed_with_what_comes_with_the_program()
    {
        string data = WriteData(6);
        using var musicnn = new MusicnnEvaluator(Path.Combine(Repository.Root, "models", "musicnn", "mtt"));

        var (report, _) = FolderEvaluation.Run(Request(data) with { Metrics = ["imsm-open"], BootstrapRounds = 20 }, musicnn);

        var figure = report.Metrics["imsm-open"];
        figure.Value!.Value.ShouldBeInRange(0.01, 0.99);
        figure.Parts!["reference"].ShouldBe(figure.Value.Value);
        figure.Parts["chance"].ShouldBe(1.0 / 6);
        report.Passport.Networks.Keys.ShouldBe(["efficientnet-lite0", "minilm"]);
        report.Passport.ReferenceCount.ShouldBe(6);
    }

    [Fact]
    public void A_missing_evaluator_takes_only_its_own_figures_with_it()
    {
        string data = WriteData(6);
        var request = Request(data) with { Metrics = ["fad", "fd", "clap", "imsm-open", "note-density"], Weights = _folder.File("absent") };
        var (_, reason) = EvaluatorFolder.Open("vggish", request.Weights);
        using var musicnn = new MusicnnEvaluator(Path.Combine(Repository.Root, "models", "musicnn", "mtt"));

        var report = FolderEvaluation.RunWithout(request, "vggish", reason);
        var (whole, _) = FolderEvaluation.Run(request with { Metrics = ["imsm-open"], Controls = false }, musicnn);

        (report.Metrics["fad"], report.Metrics["fd"]).ShouldBe((MetricValue.None(reason), MetricValue.None(reason)));
        report.Metrics["clap"].Reason!.ShouldStartWith("the weights of clap are missing: ");
        report.Metrics["imsm-open"].Value.ShouldNotBeNull();
        report.Metrics["imsm-open"].Value.ShouldBe(whole.Metrics["imsm-open"].Value);
        report.Metrics["note-density"].Value.ShouldNotBeNull();
        report.Controls["shuffled"]!["imsm-open"].ShouldBe(report.Metrics["imsm-open"].Parts!["shuffled"]);
        (report.Passport.Evaluator, report.Passport.WeightsSha256).ShouldBe(("vggish", string.Empty));
        report.Passport.Networks.Keys.ShouldBe(["basic-pitch", "efficientnet-lite0", "minilm", "musicnn"]);
        report.Passport.ClipListSha256.ShouldBe(whole.Passport.ClipListSha256);
        (report.Passport.ReferenceCount, report.Passport.PairCount).ShouldBe((6, 6));
    }

    [Fact]
    public void Whatever_is_missing_for_a_figure_is_named_at_once()
    {
        string data = WriteData(2);
        using var musicnn = new MusicnnEvaluator(Path.Combine(Repository.Root, "models", "musicnn", "mtt"));

        var (report, _) = FolderEvaluation.Run(Request(data) with { Metrics = ["imsm"], Weights = _folder.File("absent") }, musicnn);

        report.Metrics["imsm"].Reason!.ShouldContain("the weights of clap are missing: ");
        report.Metrics["imsm"].Reason!.ShouldContain("the weights of clip are missing: ");
    }

    [Fact]
    public void Equal_pictures_are_one_picture_whatever_their_names()
    {
        string data = WriteData(6), images = Directory.CreateDirectory(_folder.File("named")).FullName;
        for (int i = 0; i < 6; i++)
        {
            File.WriteAllBytes(Path.Combine(images, $"clip-{i}.bmp"), TinyModel.Picture(i / 2, 64, 48));
        }

        using var musicnn = new MusicnnEvaluator(Path.Combine(Repository.Root, "models", "musicnn", "mtt"));

        var (report, _) = FolderEvaluation.Run(Request(data) with { Metrics = ["imsm-open"], Images = images }, musicnn);

        (report.Metrics["imsm-open"].Parts!["triplets"], report.Metrics["imsm-open"].Parts!["pictures"]).ShouldBe((6, 3));
    }

    [Fact]
    public void A_picture_that_cannot_be_read_is_named_and_the_other_triplets_count()
    {
        string data = WriteData(4);
        File.WriteAllText(Path.Combine(data, "images", "scene-2.bmp"), "no picture");
        using var musicnn = new MusicnnEvaluator(Path.Combine(Repository.Root, "models", "musicnn", "mtt"));

        var (report, _) = FolderEvaluation.Run(Request(data) with { Metrics = ["imsm-open"], Controls = false }, musicnn);

        var skipped = report.Skipped.ShouldHaveSingleItem();
        skipped.File.ShouldBe("picture/scene-2.bmp");
        skipped.Reason.ShouldNotContain(data);
        report.Metrics["imsm-open"].Parts!["triplets"].ShouldBe(3);
        report.Metrics["imsm-open"].Warning!.ShouldStartWith("1 of 4 sounds do not count");
    }

    [Fact]
    public void A_mistake_in_the_captions_is_said_before_any_sound_is_heard()
    {
        string data = WriteData(2);
        using var musicnn = new MusicnnEvaluator(Path.Combine(Repository.Root, "models", "musicnn", "mtt"));
        var told = new Relay<EvaluationProgress>(progress => throw new InvalidOperationException($"{progress.Stage} was heard"));

        Should.Throw<MelFusionException>(() => FolderEvaluation.Run(Request(data) with { Metrics = ["imsm-open"], Captions = _folder.File("absent") }, musicnn, told))
            .Message.ShouldContain("the captions cannot be read");
    }

    [Fact]
    public void Nothing_is_embedded_twice()
    {
        using var scope = NewDisposeScope();
        using var once = new EmbeddedOnce();
        var asked = new List<string>();
        Tensor Embed(IReadOnlyList<string> keys)
        {
            asked.AddRange(keys);
            return torch.tensor(keys.Select(key => (double)key[0]).ToArray()).unsqueeze(1);
        }

        double[] first = once.Of("letters", ["b", "a", "b"], Embed).data<double>().ToArray();
        double[] second = once.Of("letters", ["a", "c"], Embed).data<double>().ToArray();
        once.Of("other letters", ["a"], Embed);

        first.ShouldBe([98, 97, 98]);
        second.ShouldBe([97, 99]);
        asked.ShouldBe(["b", "a", "c", "a"]);
    }

    /// <summary>A split of a data set: as many clips of 3.2 s, each with a caption and a picture of its own.</summary>
    private string WriteData(int count)
    {
        string folder = _folder.File("data");
        Directory.CreateDirectory(Path.Combine(folder, "audio"));
        Directory.CreateDirectory(Path.Combine(folder, "images"));
        var lines = new List<string>();
        for (int i = 0; i < count; i++)
        {
            float[] tone = [.. Enumerable.Range(0, 51_200).Select(n => (float)(0.2 * Math.Sin(2 * Math.PI * 200 * (i + 1) * n / 16000)))];
            WavFile.Write(Path.Combine(folder, "audio", $"clip-{i}.wav"), tone, 16_000);
            File.WriteAllBytes(Path.Combine(folder, "images", $"scene-{i}.bmp"), TinyModel.Picture(i, 64, 48));
            lines.Add($"{{\"id\":\"clip-{i}\",\"captions\":[\"music number {i}\"],\"images\":[\"images/scene-{i}.bmp\"]}}");
        }

        File.WriteAllLines(Path.Combine(folder, "table.jsonl"), lines);
        return folder;
    }

    /// <summary>A fixture's network with as many words as a fixture's tokenizer has.</summary>
    private static void WriteNetwork(string name, string tokenizer, string networks, string table)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var fixture = Fixture.Open(name);
        using var words = Fixture.Open($"tokenizers/{tokenizer}");
        string folder = Directory.CreateDirectory(Path.Combine(networks, name)).FullName;
        int count = System.Text.Json.JsonDocument.Parse(File.ReadAllText(words.File("vocab.json"))).RootElement.EnumerateObject().Count();
        using var weights = Safetensors.Open(fixture.File("model.safetensors"));
        var tensors = weights.Tensors.ToDictionary(tensor => tensor.Key, tensor => weights.Read(tensor.Key));
        tensors[table] = tensors[table].repeat((count / tensors[table].shape[0]) + 1, 1).narrow(0, 0, count).contiguous();
        Safetensors.Write(Path.Combine(folder, "model.safetensors"), tensors);
        var config = System.Text.Json.Nodes.JsonNode.Parse(File.ReadAllText(fixture.File("config.json")))!;
        config["text_config"]!["vocab_size"] = count;
        File.WriteAllText(Path.Combine(folder, "config.json"), config.ToJsonString());
        File.Copy(words.File("vocab.json"), Path.Combine(folder, "vocab.json"));
        File.Copy(words.File("merges.txt"), Path.Combine(folder, "merges.txt"));
    }

    private static EvaluationRequest Request(string folder) => new()
    {
        Reference = folder, Generated = folder, CacheFolder = null, BootstrapRounds = 0, Workers = 2,
    };
}
