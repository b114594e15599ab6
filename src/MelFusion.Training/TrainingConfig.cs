using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using MelFusion.Training.Engine;
using MelFusion.Training.Stages;
using MelFusion.Weights;

namespace MelFusion.Training;

/// <summary>What is trained.</summary>
public enum TrainingStage
{
    /// <summary>The autoencoder between mels and the music's latents.</summary>
    [JsonStringEnumMemberName("mel-vae")] MelVae,

    /// <summary>The autoencoder between pictures and their latents.</summary>
    [JsonStringEnumMemberName("image-vae")] ImageVae,

    /// <summary>The picture's diffusion model, whose keys and values the synapse reads.</summary>
    [JsonStringEnumMemberName("image-ldm")] ImageLdm,

    /// <summary>The music's diffusion model together with the alphas (Algorithm 1).</summary>
    [JsonStringEnumMemberName("music-ldm")] MusicLdm,
}

/// <summary>The precision of activations; master weights, losses and optimiser are always fp32.</summary>
public enum ComputePrecision
{
    /// <summary>32-bit floats.</summary>
    Fp32,

    /// <summary>16-bit brain floats, fast where the processor has avx512_bf16 or AMX.</summary>
    Bf16,
}

/// <summary>
/// One training run. A config file states its stage and what differs from the defaults here, and may name another file as "base" that
/// it differs from in turn.
/// </summary>
public sealed record TrainingConfig
{
    private static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
        ReadCommentHandling = JsonCommentHandling.Skip,
        AllowTrailingCommas = true,
        WriteIndented = true,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.SnakeCaseLower, allowIntegerValues: false) },
    };

    /// <summary>What is trained.</summary>
    public required TrainingStage Stage { get; init; }

    /// <summary>The data folder, as <c>melfusion data build</c> writes it.</summary>
    public string Data { get; init; } = "data/openmel";

    /// <summary>The run's folder: checkpoints, caches, curves, samples.</summary>
    public required string Output { get; init; }

    /// <summary>The model folder that earlier stages wrote and this one writes its part into.</summary>
    public string Model { get; init; } = "models/melfusion-mini";

    /// <summary>The folder of caches (mels, latents), which runs on the same data may share; null: inside the run's folder.</summary>
    public string? Cache { get; init; }

    /// <summary>
    /// A model folder whose trained part the weights start from; null: new weights. Where the config file does not say otherwise, that part's
    /// sizes, schedule, front end and synapse are taken from there too.
    /// </summary>
    public string? StartFrom { get; init; }

    /// <summary>A model folder from which this one takes the parts that it lacks and that the stage does not make: how a variant of a model is trained. For music-ldm only; null: none.</summary>
    public string? PartsFrom { get; init; }

    /// <summary>The seed of all chance.</summary>
    public long Seed { get; init; } = 1;

    /// <summary>Steps of the optimiser.</summary>
    public long Steps { get; init; } = 1000;

    /// <summary>Samples per step.</summary>
    public int Batch { get; init; } = 8;

    /// <summary>Parts the batch is computed in; gradients are summed over them. At least the number of workers keeps all of them busy.</summary>
    public int Parts { get; init; } = 2;

    /// <summary>Workers that compute parts side by side; their number does not change the result.</summary>
    public int Workers { get; init; } = 2;

    /// <summary>Threads of libtorch in each worker.</summary>
    public int ThreadsPerWorker { get; init; } = 1;

    /// <summary>Precision of activations.</summary>
    public ComputePrecision Precision { get; init; } = ComputePrecision.Fp32;

    /// <summary>AdamW and the schedule.</summary>
    public OptimiserConfig Optimiser { get; init; } = new();

    /// <summary>Decay of the moving average of the weights.</summary>
    public double AverageDecay { get; init; } = 0.999;

    /// <summary>
    /// Share of the weights that the run started from in what it writes, beside the moving average. A run that goes on from a model under other conditions
    /// gains something and forgets something; with a share of the start it does less of both.
    /// </summary>
    public double StartShare { get; init; }

    /// <summary>Steps between checkpoints.</summary>
    public long CheckpointEvery { get; init; } = 200;

    /// <summary>Steps between validations, with samples and curves.</summary>
    public long ValidateEvery { get; init; } = 200;

    /// <summary>Settings of the mel autoencoder's stage.</summary>
    public MelVaeConfig MelVae { get; init; } = new();

    /// <summary>Settings of the picture autoencoder's stage.</summary>
    public ImageVaeConfig ImageVae { get; init; } = new();

    /// <summary>Settings of the picture's diffusion stage.</summary>
    public ImageLdmConfig ImageLdm { get; init; } = new();

    /// <summary>Settings of the music's diffusion stage.</summary>
    public MusicLdmConfig MusicLdm { get; init; } = new();

    /// <summary>Reads a config file and its bases.</summary>
    /// <exception cref="MelFusionException">A file is missing, not such JSON, or states something impossible.</exception>
    public static TrainingConfig Read(string path)
    {
        try
        {
            var config = OverDefaults(LayeredConfig.Read(path)).Deserialize<TrainingConfig>(Json)!;
            config.Validate(path);
            return config;
        }
        catch (JsonException e)
        {
            throw new MelFusionException($"{path}: the training config cannot be used: {FirstSentence(e.Message)}.", e);
        }
    }

    /// <summary>The whole config as JSON, every setting stated.</summary>
    public string ToJson() => JsonSerializer.Serialize(this, Json);

    /// <summary>The stage as it is written: mel-vae, image-vae, image-ldm or music-ldm.</summary>
    [JsonIgnore]
    public string StageName => JsonNamingPolicy.KebabCaseLower.ConvertName(Stage.ToString());

    /// <summary>The type of activations.</summary>
    [JsonIgnore]
    internal TorchSharp.torch.ScalarType Dtype => Precision == ComputePrecision.Bf16 ? TorchSharp.torch.ScalarType.BFloat16 : TorchSharp.torch.ScalarType.Float32;

    /// <summary>Whether a run under <paramref name="earlier"/> may go on under this config: only what does not touch the mathematics, and the number of steps, may differ.</summary>
    public bool Continues(TrainingConfig earlier) => Core(this) == Core(earlier);

    /// <summary>Reads what <see cref="ToJson"/> wrote.</summary>
    public static TrainingConfig FromJson(string json) => JsonSerializer.Deserialize<TrainingConfig>(json, Json)!;

    private static string Core(TrainingConfig config) => (config with
    {
        MelVae = config.MelVae with { ValidationClips = 0 },
        ImageVae = config.ImageVae with { ValidationPictures = 0 },
        ImageLdm = config.ImageLdm with { ValidationPictures = 0, Samples = 0, ValidationTimesteps = [], TextModel = null, AlignmentModel = string.Empty },
        MusicLdm = config.MusicLdm with { ValidationClips = 0, FinalValidationClips = 0, Samples = 0, ValidationTimesteps = [], TextModel = null },
        Steps = 0,
        Workers = 0,
        CheckpointEvery = 0,
        ValidateEvery = 0,
        Output = string.Empty,
        Data = string.Empty,
        Model = string.Empty,
        StartFrom = null,
        PartsFrom = null,
        Cache = null,
    }).ToJson();

    private void Validate(string path)
    {
        string? wrong =
            Optimiser.DecaySteps < Steps ? $"optimiser.decay_steps is {Optimiser.DecaySteps} and must be at least the run's steps, {Steps}"
            : Steps < 1 ? $"steps is {Steps} and must be at least 1"
            : PartsFrom is not null && Stage != TrainingStage.MusicLdm ? "parts_from is for the stage music-ldm only, as no other stage is the last"
            : Batch < 1 || Parts < 1 || Batch % Parts != 0 ? $"batch {Batch} must be a multiple of parts {Parts}"
            : Workers is < 1 or > 256 ? $"workers is {Workers} and must be 1 to 256"
            : ThreadsPerWorker is < 1 or > 256 ? $"threads_per_worker is {ThreadsPerWorker} and must be 1 to 256"
            : AverageDecay is not (>= 0 and < 1) ? $"average_decay is {AverageDecay} and must be at least 0 and below 1"
            : StartShare is not (>= 0 and < 1) ? $"start_share is {StartShare} and must be at least 0 and below 1"
            : StartShare > 0 && StartFrom is null ? "start_share needs start_from: new weights are no start worth keeping"
            : ImageLdm.Alignment is not (>= 0 and <= 10) ? $"image_ldm.alignment is {ImageLdm.Alignment} and must be 0 to 10"
            : MusicLdm.PictureViews is < 1 or > 64 ? $"music_ldm.picture_views is {MusicLdm.PictureViews} and must be 1 to 64"
            : MusicLdm.SameGamePictures is not (>= 0 and <= 1) ? $"music_ldm.same_game_pictures is {MusicLdm.SameGamePictures} and must be 0 to 1"
            : MusicLdm.InversionDepth is not (>= ModelDefaults.LeastInversionDepth and <= 1)
                ? FormattableString.Invariant($"music_ldm.inversion_depth is {MusicLdm.InversionDepth} and must be {ModelDefaults.LeastInversionDepth} to 1")
            : MusicLdm.PictureNoise is not (>= 0 and <= 10) ? $"music_ldm.picture_noise is {MusicLdm.PictureNoise} and must be 0 to 10"
            : MusicLdm.PictureBlend is not (>= 0 and <= 10) ? $"music_ldm.picture_blend is {MusicLdm.PictureBlend} and must be 0 to 10"
            : MusicLdm.ExchangedDetails is not (>= 0 and <= 1) ? $"music_ldm.exchanged_details is {MusicLdm.ExchangedDetails} and must be 0 to 1"
            : MusicLdm.TimestepPower is not (>= 0.1 and <= 10) ? $"music_ldm.timestep_power is {MusicLdm.TimestepPower} and must be 0.1 to 10"
            : CheckpointEvery < 1 || ValidateEvery < 1 ? "checkpoint_every and validate_every must be at least 1"
            : Optimiser.Wrong();
        if (wrong is not null)
        {
            throw new MelFusionException($"{path}: {wrong}.");
        }
    }

    // Inside a section, too, a file states only what differs.
    private static JsonObject OverDefaults(JsonObject stated)
    {
        var defaults = JsonSerializer.SerializeToNode(new TrainingConfig { Stage = default, Output = string.Empty }, Json)!.AsObject();
        defaults.Remove("stage");
        defaults.Remove("output");
        if (stated["start_from"] is JsonValue start && start.TryGetValue(out string? folder))
        {
            LayeredConfig.Overlay(defaults, StartingPoint.Of(folder, Json));
        }

        LayeredConfig.Overlay(defaults, stated);
        return defaults;
    }

    private static string FirstSentence(string message) => message.Split(". ")[0].TrimEnd('.');
}

/// <summary>AdamW, the course of its learning rate, and clipping.</summary>
public sealed record OptimiserConfig
{
    /// <summary>Learning rate at the top of the schedule.</summary>
    public double LearningRate { get; init; } = 3e-4;

    /// <summary>Decoupled weight decay.</summary>
    public double WeightDecay { get; init; } = 1e-2;

    /// <summary>Decay of the first moment.</summary>
    public double Beta1 { get; init; } = 0.9;

    /// <summary>Decay of the second moment.</summary>
    public double Beta2 { get; init; } = 0.999;

    /// <summary>Added to the root of the second moment.</summary>
    public double Epsilon { get; init; } = 1e-8;

    /// <summary>Steps of linear rise.</summary>
    public long WarmupSteps { get; init; } = 50;

    /// <summary>The step at which the rate has fallen; null: the run's last. A run that ends earlier keeps the curve of the longer one.</summary>
    public long? DecaySteps { get; init; }

    /// <summary>How the rate falls afterwards.</summary>
    public LearningRateDecay Decay { get; init; } = LearningRateDecay.Cosine;

    /// <summary>What is left of the rate at the end, 0 to 1.</summary>
    public double FinalFraction { get; init; } = 0.02;

    /// <summary>Largest global norm of the gradient; 0: no clipping.</summary>
    public double ClipNorm { get; init; } = 1;

    internal string? Wrong() =>
        !(LearningRate > 0 && double.IsFinite(LearningRate)) ? $"learning_rate is {LearningRate} and must be above 0"
        : !(WeightDecay >= 0 && double.IsFinite(WeightDecay)) ? $"weight_decay is {WeightDecay} and must be at least 0"
        : Beta1 is not (>= 0 and < 1) || Beta2 is not (>= 0 and < 1) ? $"beta1 {Beta1} and beta2 {Beta2} must be at least 0 and below 1"
        : FinalFraction is not (>= 0 and <= 1) ? $"final_fraction is {FinalFraction} and must be 0 to 1"
        : !(ClipNorm >= 0) ? $"clip_norm is {ClipNorm} and must be at least 0"
        : null;
}
