using System.IO.Compression;
using MelFusion.Training.Data.Build;
using MelFusion.Wave;
using Shouldly;
using SkiaSharp;
using Xunit;

namespace MelFusion.Tests.Data;

public sealed class OpenMelTests : IDisposable
{
    private static readonly int[] Levels = [3, 40, 80, 120, 160, 200, 240];

    private readonly string _root = Directory.CreateTempSubdirectory("melfusion-data").FullName;

    public void Dispose() => Directory.Delete(_root, recursive: true);

    [Fact]
    public void No_tune_and_no_picture_is_in_two_splits()
    {
        var pairs = ManyPairs();
        var clips = pairs.Select(pair => pair.Tune).Distinct().ToDictionary(tune => tune, _ => 10);
        var split = SceneSplit.Part(pairs, clips);
        var kept = pairs.Where(split.Keeps).ToList();
        kept.GroupBy(pair => pair.Tune).ShouldAllBe(group => group.Select(pair => split.Tunes[pair.Tune]).Distinct().Count() == 1);
        kept.ShouldAllBe(pair => split.Tunes[pair.Tune] == split.Pictures[pair.Picture]);
        foreach (var game in pairs.GroupBy(pair => pair.Game))
        {
            game.Select(pair => split.Tunes.GetValueOrDefault(pair.Tune)).Distinct().Count().ShouldBe(3, game.Key);
        }

        var share = split.Tunes.Values.Count(place => place == DataSplit.Train) / (double)split.Tunes.Count;
        share.ShouldBeInRange(0.7, 0.9);
    }

    [Fact]
    public void The_split_does_not_depend_on_the_order_of_the_pairs()
    {
        var pairs = ManyPairs();
        var clips = pairs.Select(pair => pair.Tune).Distinct().ToDictionary(tune => tune, _ => 10);
        var other = SceneSplit.Part(pairs.AsEnumerable().Reverse(), clips).Tunes;
        foreach (var (tune, place) in SceneSplit.Part(pairs, clips).Tunes)
        {
            other[tune].ShouldBe(place);
        }
    }

    [Fact]
    public void More_tunes_than_pictures_are_all_kept()
    {
        var pairs = Enumerable.Range(0, 30).SelectMany(i => Enumerable.Range(0, 8).Select(j => new ScenePair("game", $"t{i}", $"p{j}"))).ToList();
        var split = SceneSplit.Part(pairs, pairs.Select(pair => pair.Tune).Distinct().ToDictionary(tune => tune, _ => 5));
        split.Tunes.Count.ShouldBe(30);
        split.Pictures.Count.ShouldBe(8);
        split.Tunes.Keys.ShouldAllBe(tune => pairs.Any(pair => pair.Tune == tune && split.Keeps(pair)));
    }

    [Fact]
    public void A_game_of_a_few_scenes_is_for_training_alone()
    {
        ScenePair[] pairs = [new("small", "a", "p"), new("small", "b", "q")];
        SceneSplit.Part(pairs, new Dictionary<string, int> { ["a"] = 3, ["b"] = 4 }).Tunes.Values.ShouldAllBe(place => place == DataSplit.Train);
    }

    [Fact]
    public void What_was_held_out_before_stays_so_and_the_rest_of_its_game_is_for_training()
    {
        var pairs = ManyPairs();
        var clips = pairs.Select(pair => pair.Tune).Distinct().ToDictionary(tune => tune, _ => 10);
        var (known, other) = (pairs.First(), pairs.Last());
        known.Game.ShouldNotBe(other.Game);
        var split = SceneSplit.Part(pairs, clips, new HeldOutList(Validation: new([], []), Test: new([known.Tune], [known.Picture])));

        foreach (var pair in pairs.Where(pair => pair.Game == known.Game))
        {
            split.Tunes[pair.Tune].ShouldBe(pair.Tune == known.Tune ? DataSplit.Test : DataSplit.Train);
            split.Pictures[pair.Picture].ShouldBe(pair.Picture == known.Picture ? DataSplit.Test : DataSplit.Train);
        }

        pairs.Where(pair => pair.Game == other.Game).ShouldAllBe(pair => split.Tunes[pair.Tune] == SceneSplit.Part(pairs, clips, null).Tunes[pair.Tune]);
    }

    [Fact]
    public void The_list_of_what_is_held_out_names_nothing_twice()
    {
        var list = HeldOutList.BuiltIn();
        (list.Validation.Tunes.Count, list.Validation.Pictures.Count, list.Test.Tunes.Count, list.Test.Pictures.Count).ShouldBe((42, 77, 34, 64));
        list.Validation.Tunes.Intersect(list.Test.Tunes).ShouldBeEmpty();
        list.Validation.Pictures.Intersect(list.Test.Pictures).ShouldBeEmpty();
        list.Test.Tunes.Concat(list.Validation.Tunes).ShouldAllBe(tune => !tune.StartsWith('/') && !tune.Contains("//", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("/somewhere", "ogre.ogg", "Game/data/usr/share/game/ogre.ogg")]
    [InlineData("/else/where", "ogre.ogg", "Game/data/usr/share/game/ogre.ogg")]
    [InlineData("/somewhere", "the_ogre_of_the_hill.ogg", "the-ogre-of-the-hill")]
    public void A_tune_is_known_by_its_place_in_its_package_wherever_that_is_unpacked(string cache, string name, string key)
    {
        string file = $"{cache}/data/usr/share/game/{name}";
        var track = new SceneTrack(file, PlainWords.FromName(file), file);
        OpenMelBuilder.TuneKey(new("Game", "album", "scene", "", [track], []), track, new(new Dictionary<string, string> { ["data"] = $"{cache}/data" })).ShouldBe(key);
    }

    [Fact]
    public void Clips_follow_each_other_from_the_first_sound_on_and_silence_is_dropped()
    {
        var track = new float[(4 * ClipCutter.ClipSamples) + 5000];
        Fill(track, 2048, ClipCutter.ClipSamples);
        Fill(track, 2048 + (2 * ClipCutter.ClipSamples), ClipCutter.ClipSamples);
        ClipCutter.Cut(track).Select(clip => clip.Offset).ShouldBe([2048, 2048 + (2 * ClipCutter.ClipSamples)]);
        ClipCutter.Cut(new float[ClipCutter.ClipSamples * 2]).ShouldBeEmpty();
        ClipCutter.Cut(new float[100]).ShouldBeEmpty();
    }

    [Fact]
    public void Not_more_clips_than_allowed_are_cut_from_one_track()
    {
        var track = new float[(ClipCutter.MostClips + 3) * ClipCutter.ClipSamples];
        Fill(track, 0, track.Length);
        ClipCutter.Cut(track).Count.ShouldBe(ClipCutter.MostClips);
    }

    [Fact]
    public void A_written_clip_has_exactly_its_length()
    {
        var clip = new float[ClipCutter.ClipSamples];
        Fill(clip, 0, clip.Length);
        var path = Path.Combine(_root, "clip.wav");
        ClipCutter.WriteWav(path, clip);
        var wave = WavFile.Read(path);
        (wave.SampleRate, wave.Frames, wave.Channels.Count).ShouldBe((22050, 229_376, 1));
        wave.Channels[0][100].ShouldBe(clip[100], 1e-4f);
    }

    [Theory]
    [InlineData("02_The-DarkForest.ogg", "the dark forest")]
    [InlineData("a/b/song7.xm", "song")]
    [InlineData("Robert van Herk - City Blues.ogg", "robert van herk city blues")]
    public void Names_of_files_become_words(string name, string words) => PlainWords.FromName(name).ShouldBe(words);

    [Theory]
    [InlineData("../../etc/passwd", "etc-passwd")]
    [InlineData("Crème brûlée!", "creme-brulee")]
    [InlineData("", "x")]
    [InlineData("\0\n..", "x")]
    public void Hostile_names_become_safe_names(string name, string slug) => PlainWords.Slug(name).ShouldBe(slug);

    [Fact]
    public void An_archive_cannot_write_outside_its_folder()
    {
        var archive = Path.Combine(_root, "inner", "data.pk3");
        Directory.CreateDirectory(Path.GetDirectoryName(archive)!);
        using (var zip = ZipFile.Open(archive, ZipArchiveMode.Create))
        {
            foreach (var name in new[] { "../../escaped.png", "maps/fine.png", "maps/program.exe" })
            {
                zip.CreateEntry(name).Open().Dispose();
            }
        }

        ArchiveFolders.Extract(archive, CancellationToken.None);
        Directory.EnumerateFiles(_root, "*.*", SearchOption.AllDirectories).Select(Path.GetFileName).ShouldBe(["data.pk3", "fine.png"], ignoreOrder: true);
        File.Exists(Path.Combine(Path.GetDirectoryName(_root)!, "escaped.png")).ShouldBeFalse();
    }

    [Fact]
    public void A_picture_is_made_small_and_its_likes_are_known()
    {
        var first = Picture("a.png", 900, 600, 0);
        var near = Picture("b.png", 450, 300, 1);
        var other = Picture("c.png", 900, 600, 3);
        using var decoded = SKBitmap.Decode(first.Jpeg);
        (decoded.Width, decoded.Height).ShouldBe((384, 256));
        first.LooksLike(near).ShouldBeTrue();
        first.LooksLike(other).ShouldBeFalse();
        PictureFile.Read(new ScenePicture(Path.Combine(_root, "b.png")), 301, 256, square: false).ShouldBeNull();
        File.WriteAllText(Path.Combine(_root, "no.png"), "no picture");
        PictureFile.Read(new ScenePicture(Path.Combine(_root, "no.png")), 10, 256, square: false).ShouldBeNull();
    }

    [Fact]
    public void Captions_go_from_rich_to_poor()
    {
        var row = Row() with { Tags = ["guitar", "slow", "quiet", "no vocals"] };
        CaptionWriter.Write(row).ShouldBe(
        [
            "slow quiet music with guitar, \"The Bay\" from the game Kart, for Lighthouse: rocky coast",
            "slow quiet music with guitar for rocky coast",
            "slow quiet music with guitar",
            "slow quiet music",
        ]);
        CaptionWriter.Write(Row())[^1].ShouldBe("game music");
    }

    [Fact]
    public void Captions_of_what_is_heard_name_neither_game_nor_scene()
    {
        var row = CaptionWriter.Caption(Row() with { Tags = ["guitar", "slow", "classical", "quiet", "no vocals"] });
        row.HeardCaptions.ShouldBe(["slow quiet classical music with guitar", "slow music with guitar", "music with guitar", "slow quiet music"]);
        row.Captions.ShouldContain(caption => caption.Contains("Kart") && caption.Contains("rocky coast"));
        CaptionWriter.WriteHeard(["woman"]).ShouldBe(["instrumental music"]);
    }

    [Fact]
    public void Tags_are_chosen_by_how_sure_the_tagger_is()
    {
        OpenMelTagger.Choose(["a", "b", "c", "d"], [0.1f, 0.5f, 0.12f, 0.2f]).ShouldBe(["b", "d"]);
        OpenMelTagger.Choose(["a", "b", "c"], [0.01f, 0.02f, 0f]).ShouldBe(["b", "a"]);
    }

    [Fact]
    public void A_table_reads_as_it_was_written()
    {
        var written = CaptionWriter.Caption(Row());
        OpenMelRow.WriteTable(_root, [written]);
        var row = OpenMelRow.ReadTable(_root).ShouldHaveSingleItem();
        row.Images.ShouldBe(written.Images);
        row.HeardCaptions.ShouldBe(written.HeardCaptions);
        Bare(row).ShouldBe(Bare(written));

        // Lists are compared by who they are, not by what they hold.
        OpenMelRow Bare(OpenMelRow full) => full with { Images = [], Captions = [], HeardCaptions = [], Scenes = [], Tags = [] };
    }

    private static List<ScenePair> ManyPairs()
    {
        // One game in scenes of its own, one where every tune is played before every picture.
        var apart = Enumerable.Range(0, 30).Select(i => new ScenePair("apart", $"t{i}", $"p{i}"));
        var tied = Enumerable.Range(0, 20).SelectMany(i => Enumerable.Range(0, 40).Select(j => new ScenePair("tied", $"u{i}", $"q{j}")));
        return [.. apart, .. tied];
    }

    private static void Fill(float[] track, int start, int count)
    {
        for (var i = start; i < start + count; i++)
        {
            track[i] = 0.5f * MathF.Sin(i * 0.05f);
        }
    }

    private PictureFile Picture(string name, int width, int height, int turn)
    {
        using var bitmap = new SKBitmap(width, height);
        using (var canvas = new SKCanvas(bitmap))
        {
            canvas.Clear(SKColors.Black);
            for (var i = 0; i < Levels.Length; i++)
            {
                using var paint = new SKPaint { Color = new SKColor((byte)(Levels[turn == 3 ? Levels.Length - 1 - i : i] + turn), 90, 90) };
                canvas.DrawRect(i * width / (float)Levels.Length, 0, width / (float)Levels.Length, height, paint);
            }
        }

        using var data = bitmap.Encode(SKEncodedImageFormat.Png, 100);
        File.WriteAllBytes(Path.Combine(_root, name), data.ToArray());
        return PictureFile.Read(new ScenePicture(Path.Combine(_root, name)), 200, 256, square: false).ShouldNotBeNull();
    }

    private static OpenMelRow Row() => new()
    {
        Id = "kart-the-bay-1234-000",
        Audio = "audio/kart-the-bay-1234-000.wav",
        Images = ["images/kart-lighthouse.jpg"],
        Captions = ["x"],
        Game = "Kart",
        Album = "Kart",
        Scenes = ["Lighthouse"],
        Words = "rocky coast",
        Title = "The Bay",
        Licence = "CC-BY-SA-3.0",
        Package = "kart-data",
        Path = "usr/share/bay.ogg",
        Offset = 0,
        SourceRate = 44100,
    };
}
