using System.Text.Json;
using MelFusion.Tests.Support;
using MelFusion.Text;
using Shouldly;
using Xunit;

namespace MelFusion.Tests.Text;

public class WordPieceTokenizerTests
{
    private static readonly string Vocabulary = Path.Combine(Repository.Root, "models", "melfusion-mini", "tokenizer", "vocab.txt");

    [Fact, Trait("Category", "Parity")]
    public void Every_case_has_the_reference_ids()
    {
        using var fixture = Fixture.Open("tokenizers/wordpiece");
        using var cases = fixture.Json("cases.json");
        var tokenizer = WordPieceTokenizer.Open(Vocabulary, int.MaxValue);

        TokenizerCases.Failures(cases, text => tokenizer.Encode(text).Ids).ShouldBeEmpty();
    }

    [Fact]
    public void A_text_beyond_the_encoders_length_is_cut_and_says_so()
    {
        var tokenizer = WordPieceTokenizer.Open(Vocabulary, 6);

        var whole = tokenizer.Encode("one two three four");
        var cut = tokenizer.Encode("one two three four five");

        whole.Cut.ShouldBeFalse();
        whole.Ids.Count.ShouldBe(6);
        cut.Cut.ShouldBeTrue();
        cut.Ids.ShouldBe(whole.Ids);
    }

    [Fact]
    public void Half_a_surrogate_pair_is_dropped_and_harms_nothing() =>
        WordPieceTokenizer.Open(Vocabulary).Encode("a\ud800b").Ids.ShouldBe(WordPieceTokenizer.Open(Vocabulary).Encode("ab").Ids);

    [Fact]
    public void A_vocabulary_of_something_else_is_refused_in_one_sentence() =>
        Should.Throw<MelFusionException>(() => new WordPieceTokenizer(["a", "b"])).Message.ShouldContain("[CLS]");
}

/// <summary>The form that all tokenizer cases share: a list of {text, ids, and what other implementations say}.</summary>
internal static class TokenizerCases
{
    public static List<string> Failures(JsonDocument cases, Func<string, IReadOnlyList<int>> encode, string key = "ids")
    {
        var failures = new List<string>();
        cases.RootElement.GetArrayLength().ShouldBeGreaterThan(0);
        foreach (var one in cases.RootElement.EnumerateArray())
        {
            string text = one.GetProperty("text").GetString()!;
            int[] expected = [.. (one.TryGetProperty(key, out var other) ? other : one.GetProperty("ids")).EnumerateArray().Select(id => id.GetInt32())];
            var actual = encode(text);
            if (!actual.SequenceEqual(expected))
            {
                failures.Add($"'{text}': {string.Join(' ', actual)} instead of {string.Join(' ', expected)}");
            }
        }

        return failures;
    }
}
