namespace MelFusion.Text;

/// <summary>Tokens that stand for themselves wherever they are written out in a text, such as &lt;/s&gt;.</summary>
internal sealed class SpecialTokens
{
    private readonly (string Text, int Id)[] _tokens;
    private readonly string _begins; // the characters they begin with: a text without one has none of them

    public SpecialTokens(IEnumerable<(string Text, int Id)> tokens)
    {
        _tokens = [.. tokens];
        _begins = string.Concat(_tokens.Select(token => token.Text[0]).Distinct());
    }

    /// <summary>The id of a token, or null.</summary>
    public int? Find(string text) => _tokens.Where(token => token.Text == text).Select(token => (int?)token.Id).FirstOrDefault();

    /// <summary>A text in order: each stretch without such tokens (it may be empty), and the token behind it; null at the end.</summary>
    public IEnumerable<(string Plain, (string Text, int Id)? Token)> Split(string text)
    {
        for (int at = 0; at < text.Length;)
        {
            var (start, token) = Next(text, at);
            yield return (text[at..start], token);
            at = start + (token?.Text.Length ?? 0);
        }
    }

    private (int Start, (string Text, int Id)? Token) Next(string text, int from)
    {
        (int Start, (string, int)? Token) first = (text.Length, null);
        if (text.AsSpan(from).IndexOfAny(_begins) < 0)
        {
            return first;
        }

        foreach (var token in _tokens)
        {
            int start = text.IndexOf(token.Text, from, StringComparison.Ordinal);
            first = start >= 0 && start < first.Start ? (start, token) : first;
        }

        return first;
    }
}
