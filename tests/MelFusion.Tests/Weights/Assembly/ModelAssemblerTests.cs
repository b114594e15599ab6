using MelFusion.Synapse;
using MelFusion.Tests.Support;
using MelFusion.Vae;
using MelFusion.Weights;
using MelFusion.Weights.Assembly;
using MelFusion.Weights.Hub;
using Shouldly;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace MelFusion.Tests.Weights.Assembly;

public sealed class ModelAssemblerTests : IDisposable
{
    private readonly TemporaryFolder _temporary = new();
    private readonly Fixture _fixture = Fixture.OpenOwn("end-to-end");

    public void Dispose()
    {
        _fixture.Dispose();
        _temporary.Dispose();
    }

    [Fact]
    public void An_assembled_folder_is_a_model_folder_whose_alphas_are_as_training_starts()
    {
        var report = Assemble(Request());

        report.Folder.TakesPictures.ShouldBeTrue();
        report.Folder.Config<SynapseConfig>("synapse").Mode.ShouldBe(SynapseMode.Pool);
        report.Folder.Config<AutoencoderKlConfig>("vae").ScalingFactor.ShouldBe(0.9227914214134216);
        report.Folder.Config<AutoencoderKlConfig>("image_vae").ScalingFactor.ShouldBe(0.18215);
        using var synapse = report.Folder.Weights("synapse");
        using var scope = NewDisposeScope();
        double alpha = synapse.Read("alpha_logit.decoder").sigmoid().mean().item<float>();
        alpha.ShouldBeInRange(0.05, 0.1);
        report.Remarks.ShouldContain(remark => remark.Contains("training starts"));
    }

    [Fact]
    public void Every_part_carries_its_source_and_its_licence()
    {
        File.WriteAllText(Copy("stable-diffusion").File("README.md"), "---\nlicense: openrail++\n---\n# card\n");

        var report = Assemble(Request() with { Image = _temporary.File("stable-diffusion") });

        var licences = PartLicence.Read(report.Folder, report.Folder.Defaults);
        licences.Select(part => part.Part).ShouldBe(ModelFolder.MusicParts.Concat(ModelFolder.PictureParts).Except(["synapse"]), ignoreOrder: true);
        licences.Single(part => part.Part == "image_unet").Commercial.ShouldBe(CommercialUse.Yes);
        licences.Single(part => part.Part == "unet").Commercial.ShouldBe(CommercialUse.No);
        File.Exists(Path.Combine(report.Folder.Path, "image_unet", "README.md")).ShouldBeTrue();
    }

    [Fact]
    public void An_assembled_folder_has_its_own_copies_where_copies_are_asked_for_and_links_where_not()
    {
        string file = Path.Combine(Assemble(Request()).Folder.Path, "image_unet", "diffusion_pytorch_model.safetensors");
        new FileInfo(file).LinkTarget.ShouldNotBeNull();

        Assemble(Request() with { CopyFiles = true, Overwrite = true });

        new FileInfo(file).LinkTarget.ShouldBeNull();
    }

    [Fact]
    public void Weights_of_another_size_than_their_config_are_refused_and_nothing_is_left()
    {
        var folder = Copy("stable-diffusion");
        string config = folder.File("unet/config.json");
        File.WriteAllText(config, File.ReadAllText(config).Replace("\"cross_attention_dim\": 48", "\"cross_attention_dim\": 50", StringComparison.Ordinal));

        Should.Throw<MelFusionException>(() => Assemble(Request() with { Image = _temporary.File("stable-diffusion") })).Message.ShouldContain("attn2");

        Directory.GetDirectories(_temporary.Path).Select(Path.GetFileName).ShouldBe(["stable-diffusion"]);
    }

    [Theory]
    [InlineData("tango", "pytorch_model_main.bin", "checkpoint")]
    [InlineData("tango", "pytorch_model_vae.bin", "--vae")]
    [InlineData("tango", "text-encoder/spiece.model", "--text-encoder")]
    [InlineData("tango", "scheduler/scheduler_config.json", "noise schedule")]
    [InlineData("stable-diffusion", "unet/diffusion_pytorch_model.safetensors", "no weights")]
    [InlineData("stable-diffusion", "tokenizer/vocab.json", "vocab.json")]
    public void A_missing_file_is_named_with_what_to_do(string side, string file, string sentence)
    {
        var folder = Copy(side);
        File.Delete(folder.File(file));
        string path = _temporary.File(side);

        Should.Throw<MelFusionException>(() => Assemble(side == "tango" ? Request() with { Music = path } : Request() with { Image = path }))
            .Message.ShouldContain(sentence);
    }

    [Fact]
    public void A_text_encoder_of_the_hub_is_found_in_the_cache_and_else_asked_for_by_name()
    {
        var folder = Copy("tango");
        File.WriteAllText(folder.File("main_config.json"), File.ReadAllText(folder.File("main_config.json")).Replace("\"text-encoder\"", "\"google/flan-t5-large\"", StringComparison.Ordinal));
        var request = Request() with { Music = _temporary.File("tango") };
        Should.Throw<MelFusionException>(() => Assemble(request)).Message.ShouldContain("melfusion models pull google/flan-t5-large");

        string cached = _temporary.File("cache/models--google--flan-t5-large/snapshots/0123456789abcdef0123456789abcdef01234567");
        Directory.CreateDirectory(Path.GetDirectoryName(cached)!);
        Directory.Move(folder.File("text-encoder"), cached);
        Directory.CreateDirectory(_temporary.File("cache/models--google--flan-t5-large/refs"));
        File.WriteAllText(_temporary.File("cache/models--google--flan-t5-large/refs/main"), Path.GetFileName(cached));

        Assemble(request);
        Assemble(request with { TextEncoder = cached, Overwrite = true });
    }

    [Fact]
    public void The_published_name_of_a_schedule_whose_repository_is_gone_is_known()
    {
        var folder = Copy("tango");
        File.WriteAllText(folder.File("main_config.json"), File.ReadAllText(folder.File("main_config.json")).Replace("\"scheduler\"", "\"stabilityai/stable-diffusion-2-1\"", StringComparison.Ordinal));

        var report = Assemble(Request() with { Music = _temporary.File("tango") });

        report.Folder.Config<MelFusion.Noise.NoiseScheduleConfig>("scheduler").PredictionType.ShouldBe(MelFusion.Noise.PredictionType.VPrediction);
    }

    [Fact]
    public void Autoencoder_scale_and_vocoder_of_another_release_take_the_place_of_tango_s()
    {
        var other = Assemble(Request() with { Output = _temporary.File("other") }).Folder; // its vae and vocoder have diffusers' form
        string config = other.FileOf("vae", "config.json");
        File.WriteAllText(config, File.ReadAllText(config).Replace("0.9227914214134216", "0.9392935633659363", StringComparison.Ordinal));

        var model = Assemble(Request() with { Vae = other.Path }).Folder;

        model.Config<AutoencoderKlConfig>("vae").ScalingFactor.ShouldBe(0.9392935633659363);
        File.ReadAllBytes(model.FileOf("vocoder", "model.safetensors")).ShouldBe(File.ReadAllBytes(other.FileOf("vocoder", "model.safetensors")));
        PartLicence.Read(model, model.Defaults).Single(part => part.Part == "vae").Source.ShouldBe("other");
    }

    [Fact]
    public void The_original_checkpoint_of_a_release_gives_autoencoder_scale_and_vocoder_too()
    {
        using var scope = NewDisposeScope();
        const float Scale = 0.75f;
        var tensors = new Dictionary<string, Tensor>
        {
            ["scale_factor"] = torch.tensor(Scale), ["betas"] = torch.zeros(5), ["model.diffusion_model.out.2.weight"] = torch.zeros(2, 3),
            ["cond_stage_model.logit_scale_a"] = torch.ones(1), ["first_stage_model.loss.logvar"] = torch.zeros(1),
        };
        using (var theirs = WeightsFile.Open(_fixture.File("tango/pytorch_model_vae.bin")))
        {
            foreach (var entry in theirs.Tensors)
            {
                tensors["first_stage_model." + entry.Key] = theirs.Read(entry.Key, ScalarType.Float32);
            }
        }

        string release = _temporary.File("audioldm-tiny"), checkpoint = Path.Combine(release, "audioldm-tiny.ckpt");
        Directory.CreateDirectory(release);
        LightningCheckpoint.Write(checkpoint, tensors);

        Should.Throw<MelFusionException>(() => Assemble(Request() with { Vae = checkpoint })).Message.ShouldContain("vae_config.json");
        File.Copy(_fixture.File("tango/vae_config.json"), Path.Combine(release, "vae_config.json"));
        var model = Assemble(Request() with { Vae = checkpoint }).Folder;
        var tango = Assemble(Request() with { Output = _temporary.File("tango-alone") }).Folder;

        model.Config<AutoencoderKlConfig>("vae").ScalingFactor.ShouldBe(Scale);
        File.ReadAllBytes(model.FileOf("vae", "diffusion_pytorch_model.safetensors")).ShouldBe(File.ReadAllBytes(tango.FileOf("vae", "diffusion_pytorch_model.safetensors")));
        File.ReadAllBytes(model.FileOf("vocoder", "model.safetensors")).ShouldBe(File.ReadAllBytes(tango.FileOf("vocoder", "model.safetensors")));
        PartLicence.Read(model, model.Defaults).Single(part => part.Part == "vocoder").Source.ShouldBe("audioldm-tiny");
    }

    [Fact]
    public void Alphas_of_the_authors_checkpoints_are_read_by_their_code_s_rule()
    {
        using var scope = NewDisposeScope();
        var folder = Copy("tango");
        string main = folder.File("pytorch_model_main.bin"), theirs = folder.File("model_2.safetensors");
        using (var file = WeightsFile.Open(main))
        {
            var tensors = file.Tensors.ToDictionary(tensor => tensor.Key, tensor => file.Read(tensor.Key));
            foreach (string attention in tensors.Keys.Where(key => key.EndsWith(".to_q.weight", StringComparison.Ordinal)).Select(key => key[..^".to_q.weight".Length]).ToList())
            {
                tensors[attention + ".alpha"] = torch.full([1, 1], attention.Contains("up_blocks.2.attentions.1.", StringComparison.Ordinal) ? 0.25 : 0);
            }

            Safetensors.Write(theirs, tensors);
        }

        File.Delete(main);

        var model = Assemble(Request() with { Music = _temporary.File("tango") }).Folder;

        model.Config<SynapseConfig>("synapse").Mode.ShouldBe(SynapseMode.Code);
        using var synapse = model.Weights("synapse");
        synapse.Read("alpha_logit.decoder").data<float>().ToArray().ShouldBe([0, 0, 0, 0, 0.25f, 0, 0, 0, 0]);
    }

    [Fact]
    public void A_picture_network_with_other_heads_is_taken_and_that_is_said()
    {
        var folder = Copy("stable-diffusion");
        string config = folder.File("unet/config.json");
        File.WriteAllText(config, System.Text.RegularExpressions.Regex.Replace(File.ReadAllText(config), "\"attention_head_dim\": \\[[^]]*\\]", "\"attention_head_dim\": 4"));

        var report = Assemble(Request() with { Image = _temporary.File("stable-diffusion") });

        report.Remarks.ShouldContain(remark => remark.Contains("heads"));
    }

    [Fact]
    public void Weights_as_pickles_are_converted()
    {
        using var scope = NewDisposeScope();
        var folder = Copy("tango");
        using (var main = WeightsFile.Open(folder.File("pytorch_model_main.bin")))
        {
            Safetensors.Write(folder.File("pytorch_model_main.safetensors"), main);
        }

        File.Delete(folder.File("pytorch_model_main.bin"));

        var fromSafetensors = Assemble(Request() with { Music = _temporary.File("tango") }).Folder;
        byte[] one = File.ReadAllBytes(fromSafetensors.FileOf("unet", "diffusion_pytorch_model.safetensors"));
        var fromPickle = Assemble(Request() with { Overwrite = true }).Folder;

        File.ReadAllBytes(fromPickle.FileOf("unet", "diffusion_pytorch_model.safetensors")).ShouldBe(one);
        Assemble(Request() with { Overwrite = true }).Folder.ComputeHash().ShouldBe(fromPickle.ComputeHash());
    }

    [Fact]
    public void An_existing_folder_is_not_replaced_unless_asked()
    {
        Assemble(Request());
        Should.Throw<MelFusionException>(() => Assemble(Request())).Message.ShouldContain("--overwrite");
    }

    private AssemblyRequest Request() => new()
    {
        Image = _fixture.File("stable-diffusion"), Music = _fixture.File("tango"), PictureSize = new(128, 64), Output = _temporary.File("model"),
    };

    private AssemblyReport Assemble(AssemblyRequest request) =>
        ModelAssembler.Assemble(request, new HubCache(_temporary.File("cache")), cancellation: TestContext.Current.CancellationToken);

    private CopiedFolder Copy(string side)
    {
        string source = _fixture.File(side), target = _temporary.File(side);
        foreach (string file in Directory.GetFiles(source, "*", SearchOption.AllDirectories))
        {
            string to = Path.Combine(target, Path.GetRelativePath(source, file));
            Directory.CreateDirectory(Path.GetDirectoryName(to)!);
            File.WriteAllBytes(to, File.ReadAllBytes(file)); // writable, whatever the fixture is
        }

        return new(target);
    }

    private sealed record CopiedFolder(string Path)
    {
        public string File(string name) => System.IO.Path.Combine(Path, name);
    }
}
