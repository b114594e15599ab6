using System.Text.RegularExpressions;

namespace MelFusion.Weights.Hub;

/// <summary>The names a hub knows, checked before any of them reaches an address or a path.</summary>
internal static partial class HubNames
{
    private const int LongestRepository = 96, LongestRevision = 255;

    /// <summary>"name" or "owner/name".</summary>
    public static void CheckRepository(string repository)
    {
        bool isName = repository.Length <= LongestRepository && RepositoryPattern().IsMatch(repository)
            && !repository.Contains("--", StringComparison.Ordinal) && !repository.Contains("..", StringComparison.Ordinal)
            && repository.Split('/').All(part => part[0] is not ('-' or '.') && part[^1] is not ('-' or '.'))
            && !repository.EndsWith(".git", StringComparison.Ordinal);
        if (!isName)
        {
            throw new HubException(
                HubError.MalformedName,
                $"'{TorchPickle.Shown(repository)}' cannot be the name of a repository: it is 'owner/name' of letters, digits, '-', '_' and '.', without '--' or '..'.");
        }
    }

    /// <summary>A branch, a tag, "refs/pr/1" or a commit.</summary>
    public static void CheckRevision(string revision)
    {
        if (revision.Length is 0 or > LongestRevision || !IsInside(revision))
        {
            throw new HubException(HubError.MalformedName, $"'{TorchPickle.Shown(revision)}' cannot be the name of a revision.");
        }
    }

    /// <summary>A file's path inside a repository.</summary>
    public static void CheckPath(string path)
    {
        if (!IsInside(path))
        {
            throw new HubException(HubError.MalformedName, $"the path '{TorchPickle.Shown(path)}' leads out of its repository; it is refused.");
        }
    }

    /// <summary>Whether an etag or a commit is plain enough to be a file's name.</summary>
    public static bool IsPlain(string name) => PlainPattern().IsMatch(name);

    public static bool IsCommit(string revision) => CommitPattern().IsMatch(revision);

    /// <summary>The folder of a repository in the cache.</summary>
    public static string Folder(string repository) => "models--" + repository.Replace("/", "--", StringComparison.Ordinal);

    public static string EscapePath(string path) => string.Join('/', path.Split('/').Select(Uri.EscapeDataString));

    private static bool IsInside(string path) => InnerPath.IsInner(path) && !path.Split('/').Contains("."); // an address would lose the dot

    [GeneratedRegex("^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)?$")]
    private static partial Regex RepositoryPattern();

    [GeneratedRegex("^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
    private static partial Regex PlainPattern();

    [GeneratedRegex("^[0-9a-f]{40}$")]
    private static partial Regex CommitPattern();
}

/// <summary>Shell patterns over a whole path: '*' crosses '/', and a pattern that ends in '/' means everything below.</summary>
internal static class ShellPattern
{
    public static bool Matches(string path, string pattern) => Match(path, pattern.EndsWith('/') ? pattern + "*" : pattern);

    private static bool Match(string text, string pattern)
    {
        int t = 0, p = 0, star = -1, mark = 0;
        while (t < text.Length)
        {
            if (p < pattern.Length && pattern[p] == '*')
            {
                (star, mark) = (p++, t);
            }
            else if (p < pattern.Length && MatchOne(text[t], pattern, p, out int next))
            {
                (t, p) = (t + 1, next);
            }
            else if (star >= 0)
            {
                (p, t) = (star + 1, ++mark);
            }
            else
            {
                return false;
            }
        }

        return pattern.AsSpan(p).TrimStart('*').IsEmpty;
    }

    private static bool MatchOne(char c, string pattern, int at, out int next)
    {
        next = at + 1;
        int end = pattern[at] == '[' ? pattern.IndexOf(']', Math.Min(at + 2 + (at + 1 < pattern.Length && pattern[at + 1] == '!' ? 1 : 0), pattern.Length)) : -1;
        if (end < 0)
        {
            return pattern[at] == '?' || pattern[at] == c;
        }

        next = end + 1;
        string set = pattern[(at + 1)..end];
        bool isNot = set[0] == '!';
        set = isNot ? set[1..] : set;
        bool isIn = false;
        for (int i = 0; i < set.Length; i++)
        {
            bool isRange = i + 2 < set.Length && set[i + 1] == '-';
            isIn |= isRange ? c >= set[i] && c <= set[i + 2] : c == set[i];
            i += isRange ? 2 : 0;
        }

        return isIn != isNot;
    }
}
