using MelFusion.Training.Data;
using Shouldly;
using Xunit;

namespace MelFusion.Tests.Training;

/// <summary>Which pictures belong together, and which captions a clip is made from.</summary>
public sealed class MusicDataTests
{
    [Fact]
    public void A_games_pictures_are_those_of_all_its_rows_once_each_and_a_row_of_no_game_has_its_own()
    {
        var data = new MusicData([Row("kart", "a", "b"), Row("kart", "b", "c"), Row("chess", "d"), Row(null, "e"), Row(null, "f")], CaptionKind.All, null!, null!);

        data.OfSameGame(0).ShouldBe(["a", "b", "c"]);
        data.OfSameGame(1).ShouldBe(["a", "b", "c"]);
        data.OfSameGame(2).ShouldBe(["d"]);
        data.OfSameGame(3).ShouldBe(["e"]);
    }

    [Fact]
    public void Music_is_made_from_what_is_heard_where_the_table_says_it_apart_and_from_any_caption_otherwise()
    {
        var both = Row("kart") with { Captions = ["piano, by the sea"], HeardCaptions = ["piano"] };
        var one = Row("kart") with { Captions = ["drums"] };

        new MusicData([both, one], CaptionKind.Heard, null!, null!).Captions(0).ShouldBe(["piano"]);
        new MusicData([both, one], CaptionKind.Heard, null!, null!).Captions(1).ShouldBe(["drums"]);
        new MusicData([both, one], CaptionKind.All, null!, null!).Captions(0).ShouldBe(["piano, by the sea"]);
    }

    private static TrainingRow Row(string? game, params string[] images) => new() { Id = "row", Game = game, Images = images };
}
