using MelFusion.Noise;
using MelFusion.Tests.Support;
using MelFusion.Weights;
using Shouldly;
using Xunit;

namespace MelFusion.Tests.Weights;

public sealed class ModelFolderTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public ModelFolderTests()
    {
        File.WriteAllText(_folder.File("model_index.json"), "{}");
        foreach (string part in ModelFolder.MusicParts)
        {
            Directory.CreateDirectory(_folder.File(part));
        }
    }

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void A_folder_without_picture_parts_is_text_to_music() => ModelFolder.Open(_folder.Path).TakesPictures.ShouldBeFalse();

    [Fact]
    public void A_missing_folder_is_named() =>
        Should.Throw<MelFusionException>(() => ModelFolder.Open("no/such/model")).Message.ShouldContain("no/such/model");

    [Fact]
    public void A_folder_that_is_no_model_says_so()
    {
        File.Delete(_folder.File("model_index.json"));

        Should.Throw<MelFusionException>(() => ModelFolder.Open(_folder.Path)).Message.ShouldContain("model_index.json");
    }

    [Fact]
    public void A_missing_part_is_named()
    {
        Directory.Delete(_folder.File("vocoder"));

        Should.Throw<MelFusionException>(() => ModelFolder.Open(_folder.Path)).Message.ShouldContain("'vocoder'");
    }

    [Fact]
    public void Some_but_not_all_picture_parts_are_an_incomplete_model()
    {
        Directory.CreateDirectory(_folder.File("image_unet"));

        Should.Throw<MelFusionException>(() => ModelFolder.Open(_folder.Path)).Message.ShouldContain("'image_vae'");
    }

    [Theory]
    [InlineData("../outside", "x.json")]
    [InlineData("unet", "../../x.json")]
    [InlineData("/etc", "passwd")]
    public void No_name_leads_out_of_the_folder(string part, string name) =>
        Should.Throw<MelFusionException>(() => ModelFolder.Open(_folder.Path).FileOf(part, name)).Message.ShouldContain("leads out");

    [Fact]
    public void Missing_weights_and_configs_are_named()
    {
        var folder = ModelFolder.Open(_folder.Path);

        Should.Throw<MelFusionException>(() => folder.Weights("unet")).Message.ShouldContain("diffusion_pytorch_model.safetensors");
        Should.Throw<MelFusionException>(() => folder.Config<NoiseScheduleConfig>("scheduler")).Message.ShouldContain("scheduler_config.json");
    }

    [Theory]
    [InlineData("""{"steps": 0}""", "steps")]
    [InlineData("""{"guidance": "much"}""", "guidance")]
    [InlineData("""{"mel_frames": 1e12}""", "mel_frames")]
    [InlineData("""{"steps" """, "JSON")]
    public void Impossible_defaults_are_refused_by_name(string json, string named)
    {
        File.WriteAllText(_folder.File("melfusion.json"), json);

        Should.Throw<MelFusionException>(() => ModelFolder.Open(_folder.Path)).Message.ShouldContain(named);
    }

    [Fact]
    public void The_hash_is_that_of_sha256sum_over_the_parts_and_follows_their_contents()
    {
        File.WriteAllText(Path.Combine(_folder.Path, "unet", "config.json"), "{}\n");
        string hash = ModelFolder.Open(_folder.Path).ComputeHash();
        File.WriteAllText(_folder.File("README.md"), "not part of it");

        hash.ShouldBe("ca5503c6a2f0ad9cfcba4223269abf92bf1c6b2f0eaca94786729a7da74aaf43"); // sha256sum unet/config.json | sha256sum
        ModelFolder.Open(_folder.Path).ComputeHash().ShouldBe(hash);
        File.WriteAllText(Path.Combine(_folder.Path, "unet", "config.json"), "{} \n");
        ModelFolder.Open(_folder.Path).ComputeHash().ShouldNotBe(hash);
    }
}
