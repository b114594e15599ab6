using System.Reflection;
using MelFusion.Tests.Support;
using PublicApiGenerator;
using Shouldly;
using Xunit;

namespace MelFusion.Tests.PublicApi;

public sealed class PublicApiTests
{
    /// <summary>MELFUSION_ACCEPT=1 dotnet test -c Release --filter PublicApi writes what is there now; the change is then reviewed as a diff.</summary>
    [Theory]
    [InlineData("MelFusion")]
    [InlineData("MelFusion.Training")]
    [InlineData("MelFusion.Evaluation")]
    public void The_public_interface_is_the_approved_one(string name)
    {
        string path = Path.Combine(Repository.Root, "tests", "MelFusion.Tests", "PublicApi", name + ".approved.txt");
        string actual = Assembly.Load(name).GeneratePublicApi(new ApiGeneratorOptions { IncludeAssemblyAttributes = false }).ReplaceLineEndings("\n").TrimEnd() + "\n";
        if (Environment.GetEnvironmentVariable("MELFUSION_ACCEPT") == "1")
        {
            File.WriteAllText(path, actual);
        }

        string approved = File.Exists(path) ? File.ReadAllText(path) : string.Empty;
        string? first = actual.Split('\n').Except(approved.Split('\n')).Concat(approved.Split('\n').Except(actual.Split('\n'))).FirstOrDefault();
        (actual == approved).ShouldBeTrue($"{name} differs first in '{first?.Trim()}'; if that is meant: MELFUSION_ACCEPT=1 dotnet test -c Release --filter PublicApi");
    }
}
