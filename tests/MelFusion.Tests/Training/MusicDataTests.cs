using MelFusion.Training.Data;
using Shouldly;
using Xunit;

namespace MelFusion.Tests.Training;

/// <summary>Which pictures belong together.</summary>
public sealed class MusicDataTests
{
    [Fact]
    public void A_games_pictures_are_those_of_all_its_rows_once_each_and_a_row_of_no_game_has_its_own()
    {
        var data = new MusicData([Row("kart", "a", "b"), Row("kart", "b", "c"), Row("chess", "d"), Row(null, "e"), Row(null, "f")], null!, null!);

        data.OfSameGame(0).ShouldBe(["a", "b", "c"]);
        data.OfSameGame(1).ShouldBe(["a", "b", "c"]);
        data.OfSameGame(2).ShouldBe(["d"]);
        data.OfSameGame(3).ShouldBe(["e"]);
    }

    private static TrainingRow Row(string? game, params string[] images) => new() { Id = "row", Game = game, Images = images };
}
