using MelFusion.Tests.Support;
using MelFusion.Weights;
using MelFusion.Weights.Assembly;
using MelFusion.Weights.Hub;
using Shouldly;
using Xunit;

namespace MelFusion.Tests.Weights;

public sealed class ModelCheckupTests : IDisposable
{
    private readonly TemporaryFolder _temporary = new();

    public void Dispose() => _temporary.Dispose();

    [Fact]
    public void A_whole_model_has_no_problem_and_its_memory_is_that_of_its_weights_and_its_largest_planes()
    {
        var folder = Assemble();

        var (fp32, bf16) = (ModelCheckup.Of(folder.Path, 4), ModelCheckup.Of(folder.Path, 2));

        fp32.Problems.ShouldBeEmpty();
        fp32.WeightBytes.ShouldBe(4 * fp32.Parts.Sum(part => part.Parameters));
        (fp32.WeightBytes - bf16.WeightBytes).ShouldBe(2 * fp32.Parts.Where(part => part.Name is "unet" or "image_unet").Sum(part => part.Parameters));
        fp32.WorkBytes.ShouldBeGreaterThan(0);
        fp32.OperationsInAll!.Value.ShouldBeGreaterThan(fp32.OperationsPerStep!.Value * fp32.Steps);
        fp32.Commercial.ShouldBe(CommercialUse.No);
    }

    [Fact]
    public void A_part_that_is_missing_or_damaged_is_reported_and_the_others_are_still_looked_at()
    {
        var folder = Assemble();
        Directory.Delete(Path.Combine(folder.Path, "vocoder"), true);
        File.WriteAllText(folder.FileOf("unet", "diffusion_pytorch_model.safetensors"), "<html>");

        var checkup = ModelCheckup.Of(folder.Path, 4);

        checkup.Parts.Where(part => part.Problem is not null).Select(part => part.Name).ShouldBe(["unet", "vocoder"], ignoreOrder: true);
        checkup.Parts.Single(part => part.Name == "vae").Parameters.ShouldBeGreaterThan(0);
    }

    [Fact]
    public void Doctor_prints_memory_time_and_licences()
    {
        var (code, output, error) = ModelsCommandTests.Run("doctor", "--model", Assemble().Path);

        (code, error).ShouldBe((0, string.Empty));
        output.ShouldContain("bf16:");
        output.ShouldContain("commercial use");
    }

    private ModelFolder Assemble()
    {
        using var fixture = Fixture.Open("end-to-end");
        return ModelAssembler.Assemble(
            new()
            {
                Image = fixture.File("stable-diffusion"), Music = fixture.File("tango"), PictureSize = new(128, 64), Output = _temporary.File("model"),
            },
            new HubCache(_temporary.File("cache")), cancellation: TestContext.Current.CancellationToken).Folder;
    }
}
