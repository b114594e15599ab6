using MelFusion.Tests.Support;
using MelFusion.Text;
using Shouldly;
using Xunit;

namespace MelFusion.Tests.Text;

public class SentencePieceTokenizerTests
{
    [Fact, Trait("Category", "Parity")]
    public void Every_case_has_the_reference_ids()
    {
        using var fixture = Fixture.Open("tokenizers/t5");
        using var cases = fixture.Json("cases.json");
        var tokenizer = SentencePieceTokenizer.Open(fixture.File("spiece.model"), int.MaxValue);

        TokenizerCases.Failures(cases, text => tokenizer.Encode(text).Ids).ShouldBeEmpty();
    }

    [Fact]
    public void A_long_text_keeps_its_end_mark_and_says_that_it_was_cut()
    {
        using var fixture = Fixture.Open("tokenizers/t5");
        var tokenizer = SentencePieceTokenizer.Open(fixture.File("spiece.model"), 5);

        var cut = tokenizer.Encode("a long text of several words");

        cut.Cut.ShouldBeTrue();
        cut.Ids.Count.ShouldBe(5);
        cut.Ids[^1].ShouldBe(1);
        tokenizer.Encode(string.Empty).Ids.ShouldBe([1]);
    }

    [Fact]
    public void Another_file_is_refused_in_one_sentence()
    {
        string path = Path.GetTempFileName();
        try
        {
            File.WriteAllText(path, "this is no model");
            Should.Throw<MelFusionException>(() => SentencePieceTokenizer.Open(path)).Message.ShouldContain("SentencePiece");
        }
        finally
        {
            File.Delete(path);
        }
    }
}
