using MelFusion.Noise;
using MelFusion.Synapse;
using MelFusion.Training.Data;
using MelFusion.UNet;

namespace MelFusion.Training.Stages;

/// <summary>What both diffusion stages state.</summary>
public record LdmConfig
{
    /// <summary>The UNet.</summary>
    public UNetConfig Network { get; init; } = UNetConfig.MiniImage;

    /// <summary>The noise schedule and what is predicted.</summary>
    public NoiseScheduleConfig Schedule { get; init; } = new();

    /// <summary>How noise levels are weighted in the loss.</summary>
    public LossWeighting Weighting { get; init; }

    /// <summary>Where min-SNR weighting cuts.</summary>
    public double SnrGamma { get; init; } = 5;

    /// <summary>A folder with text_encoder and tokenizer; null: the model folder itself.</summary>
    public string? TextModel { get; init; }

    /// <summary>Timesteps at which validation measures.</summary>
    public IReadOnlyList<long> ValidationTimesteps { get; init; } = [100, 300, 500, 700, 900];
}

/// <summary>Settings of the picture's diffusion stage.</summary>
public sealed record ImageLdmConfig : LdmConfig
{
    /// <summary>Side of the pictures in pixels.</summary>
    public int Side { get; init; } = 256;

    /// <summary>Share of captions that are replaced by the null text.</summary>
    public double TextDropout { get; init; } = 0.3;

    /// <summary>
    /// Weight of the representation alignment beside the denoising loss; 0: none. With it, the decoder's keys and values learn to say what another network
    /// sees in a picture, so that the music can tell from them what is shown.
    /// </summary>
    public double Alignment { get; init; }

    /// <summary>
    /// Folder of the network whose view is aimed at, an EfficientNet-Lite. Needed in training only. imsm-open looks at pictures through the one of the default:
    /// of a model aligned to it, that metric says more than an independent eye would.
    /// </summary>
    public string AlignmentModel { get; init; } = "models/efficientnet-lite0";

    /// <summary>Pictures of the validation split that are measured.</summary>
    public int ValidationPictures { get; init; } = 64;

    /// <summary>Pictures made at every validation.</summary>
    public int Samples { get; init; } = 4;
}

/// <summary>Settings of the music's diffusion stage, Algorithm 1.</summary>
public sealed record MusicLdmConfig : LdmConfig
{
    /// <summary>melfusion-mini's defaults: velocity under min-SNR weights.</summary>
    public MusicLdmConfig() =>
        (Network, Schedule, Weighting) = (UNetConfig.Mini, new() { PredictionType = PredictionType.VPrediction }, LossWeighting.MinSnr);

    /// <summary>How the picture meets the music.</summary>
    public SynapseConfig Synapse { get; init; } = new() { InitialAlpha = 0.1 };

    /// <summary>The alphas' own learning rate, which has no weight decay: 1e-5 in the paper, more for a small model in few steps.</summary>
    public double AlphaLearningRate { get; init; } = 3e-3;

    /// <summary>Share of samples whose text alone is replaced by the null text.</summary>
    public double TextDropout { get; init; } = 0.25;

    /// <summary>Share of samples whose picture alone is left out.</summary>
    public double PictureDropout { get; init; } = 0.1;

    /// <summary>Share of samples that have neither.</summary>
    public double BothDropout { get; init; } = 0.1;

    /// <summary>At most so many clips of a split, evenly chosen: less to encode where time is short.</summary>
    public int MostClips { get; init; } = int.MaxValue;

    /// <summary>Steps of the latent in time that a training sample has, a stretch of the clip drawn by chance; null: the whole clip.</summary>
    /// <remarks>The UNet knows no positions, so that a run on short samples meets several times as many texts and pictures in the same time; a run on whole clips can start from it.</remarks>
    public int? CropFrames { get; init; }

    /// <summary>Which captions are drawn. One that names the game says all that its pictures could say of the music.</summary>
    public CaptionKind Captions { get; init; } = CaptionKind.All;

    /// <summary>Views of every training picture, one drawn for a sample: as sampling sees it, that mirrored, then parts of it drawn by chance. Each is inverted once.</summary>
    public int PictureViews { get; init; } = 1;

    /// <summary>
    /// Share of samples that see any picture of the same game in the place of their own. With few pictures to a game their music is soon known by heart,
    /// picture by picture; what a game's pictures have in common is what a new one of them can tell.
    /// </summary>
    public double SameGamePictures { get; init; }

    /// <summary>
    /// Deviation of the Gaussian noise that is added to K^I and V^I of every sample, the same to all tokens of a picture, in deviations of the synapse's
    /// statistics; 0: none. With few pictures each is learned as a point; with noise, what pictures near each other have in common.
    /// </summary>
    public double PictureNoise { get; init; }

    /// <summary>
    /// Deviation of noise that differs as pictures do: a random sum of what the pictures of the batch differ from their average; 1: as much as pictures
    /// differ, 0: none. Noise of single channels averages out where many of them say the same; this one does not. It makes a picture's say weaker.
    /// </summary>
    public double PictureBlend { get; init; }

    /// <summary>
    /// Share of samples whose picture has the details of another one of the batch: what its tokens differ from their mean. Details tell single pictures
    /// apart and can be learned by heart, however noisy the means are.
    /// </summary>
    public double ExchangedDetails { get; init; }

    /// <summary>Timesteps are drawn as T u^(1/p), u uniform: 1 draws all alike, 2 in proportion to t, so that half of them lie above 0.7 T.</summary>
    public double TimestepPower { get; init; } = 1;

    /// <summary>Steps of the pictures' DDIM inversion.</summary>
    public int InversionSteps { get; init; } = 25;

    /// <summary>How far pictures are inverted, as a share of their schedule, 0.001 to 1: 1 is to the noise. Noisier samples of the music see the picture at the deepest level reached.</summary>
    public double InversionDepth { get; init; } = 1;

    /// <summary>Which latent the picture's UNet sees at a noise level: that of the inversion's own call (recorded), or the one there (trajectory).</summary>
    public KeyValueSource KeyValueSource { get; init; } = KeyValueSource.Recorded;

    /// <summary>Clips of the validation split that are measured on the way.</summary>
    public int ValidationClips { get; init; } = 16;

    /// <summary>Clips of the validation split that are measured at the end.</summary>
    public int FinalValidationClips { get; init; } = 100;

    /// <summary>Mels made at every validation.</summary>
    public int Samples { get; init; } = 2;
}
