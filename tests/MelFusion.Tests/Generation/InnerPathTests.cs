using MelFusion.Tests.Support;
using MelFusion.Training.Data;
using MelFusion.Training.Data.Build.Readers;
using MelFusion.Weights.Assembly;
using MelFusion.Weights.Hub;
using Shouldly;
using Xunit;

namespace MelFusion.Tests.Generation;

public sealed class InnerPathTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    public static TheoryData<string?> Outside => new(
        null, string.Empty, " ", ".", "..", "./.", "../a", "a/..", "a/../../b", "a/../b", "/etc/hostname", "/", "a/", "a//b", "C:", "C:a", "c:/a", "C:\\a", "a/D:b",
        "\\a", "a\\b", "..\\a", "\\\\server\\share\\a", "a\0", "a\0/../b", "a\nb", "a\u001b[2J", new string('a', 1024));

    [Theory]
    [MemberData(nameof(Outside))]
    public void A_name_that_may_lead_out_of_its_folder_on_any_system_is_refused(string? name)
    {
        InnerPath.IsInner(name).ShouldBeFalse();
        InnerPath.In(_folder.Path, name).ShouldBeNull();
    }

    [Theory]
    [InlineData("a")]
    [InlineData("a.png")]
    [InlineData("images/a b.png")]
    [InlineData("./images/a.png")]
    [InlineData("..a")]
    [InlineData("a../b..c")]
    [InlineData("...")]
    [InlineData("~/a")]
    [InlineData("音楽/曲.wav")]
    public void Every_other_name_lies_in_the_folder(string name) =>
        InnerPath.In(_folder.Path, name)!.ShouldStartWith(Path.GetFullPath(_folder.Path) + Path.DirectorySeparatorChar);

    [Theory]
    [InlineData("../secret.png")]
    [InlineData("C:secret.png")]
    [InlineData("images\\secret.png")]
    [InlineData("images//secret.png")]
    public void The_rule_is_the_same_wherever_a_name_comes_from_outside(string name)
    {
        string file = Path.Combine(_folder.Path, "data", "test", "table.jsonl");
        Directory.CreateDirectory(Path.GetDirectoryName(file)!);
        File.WriteAllText(file, $$"""{"id":"a","images":["{{name.Replace("\\", "\\\\", StringComparison.Ordinal)}}"]}""");
        File.WriteAllText(Path.Combine(_folder.Path, "secret.png"), "x");
        var cache = new HubCache(_folder.File("cache"));

        Should.Throw<MelFusionException>(() => SetRow.FromTable(_folder.Path, "a", name, null)).Message.ShouldContain("outside");
        Should.Throw<MelFusionException>(() => TrainingRow.ReadTable(_folder.File("data"), "test")).Message.ShouldContain("line 1");
        MediaFile.Below(_folder.Path, name).ShouldBeNull();
        SourceFolder.Locate(_folder.Path, cache).Find(name).ShouldBeNull();
        Should.Throw<HubException>(() => cache.SnapshotFile("a/b", new string('0', 40), name)).Message.ShouldContain("leads out");
        Should.Throw<HubException>(() => HubNames.CheckPath(name)).Message.ShouldContain("leads out");
    }
}
