namespace MelFusion.Synapse;

/// <summary>How the picture's keys and values are put into the music's cross-attention.</summary>
public enum SynapseMode
{
    /// <summary>Eq. 5-6: K^I and V^I, averaged to the text's tokens, are blended with K^M and V^M.</summary>
    Pool,

    /// <summary>Two attentions, one to the text and one to the picture, whose outputs are blended.</summary>
    Parallel,

    /// <summary>One attention to the text's and the picture's tokens side by side.</summary>
    Concat,

    /// <summary>What the published code does: the picture's cross-attention output is blended with the text's states.</summary>
    Code,
}

/// <summary>Which half of the music's UNet meets the picture (the paper's Table 2).</summary>
public enum SynapsePlace
{
    /// <summary>The way up: the paper's choice.</summary>
    Decoder,

    /// <summary>The way down.</summary>
    Encoder,

    /// <summary>Both ways.</summary>
    Both,
}

/// <summary>How many alphas there are.</summary>
public enum AlphaSharing
{
    /// <summary>Each layer learns its own: the paper's choice.</summary>
    PerLayer,

    /// <summary>One for all layers.</summary>
    Same,
}

/// <summary>What is done to the picture's keys and values before they meet the music's.</summary>
public enum KeyValueNormalisation
{
    /// <summary>Nothing: the paper.</summary>
    None,

    /// <summary>
    /// Beyond the paper: what pictures have in common is taken out (mean and deviation per channel over training pictures), and what is
    /// left gets the scale of the music's own keys and values.
    /// </summary>
    Standardise,

    /// <summary>
    /// The same with a mean and a deviation for every noise level: what tells two pictures apart is several times smaller at noisy levels,
    /// where it decides most, than at clean ones.
    /// </summary>
    StandardiseByLevel,

    /// <summary>
    /// By level, and a picture's mean over its tokens apart from what its tokens differ from it, half of the variance each: what tells two
    /// pictures apart lies in their means, whose deviation is a tenth to two fifths of the tokens'.
    /// </summary>
    StandardiseByPart,
}

/// <summary>synapse/config.json.</summary>
public sealed record SynapseConfig
{
    private const int MostNoiseLevels = 1000;

    /// <summary>How the picture meets the music.</summary>
    public SynapseMode Mode { get; init; } = SynapseMode.Pool;

    /// <summary>Where.</summary>
    public SynapsePlace Where { get; init; } = SynapsePlace.Decoder;

    /// <summary>One alpha per layer, or one for all.</summary>
    public AlphaSharing Alpha { get; init; } = AlphaSharing.PerLayer;

    /// <summary>The alpha training starts at, above 0 and below 1 (in mode Code, whose factor is below 0.2, above 0 and below 0.2).</summary>
    public double InitialAlpha { get; init; } = 0.08;

    /// <summary>What is done to K^I and V^I first. Not for mode Code.</summary>
    public KeyValueNormalisation KeyValueNormalisation { get; init; } = KeyValueNormalisation.None;

    /// <summary>
    /// For <see cref="KeyValueNormalisation.StandardiseByLevel"/> and <see cref="KeyValueNormalisation.StandardiseByPart"/>: the timesteps of
    /// the picture's inversion that have statistics, rising; the nearest one serves a timestep between them, the lower on a tie. Training fills it in.
    /// </summary>
    public IReadOnlyList<long> NoiseLevels { get; init; } = [];

    /// <summary>Whether every noise level has statistics of its own.</summary>
    internal bool GoesByLevel => KeyValueNormalisation is KeyValueNormalisation.StandardiseByLevel or KeyValueNormalisation.StandardiseByPart;

    /// <summary>Checks what a file may have stated wrongly.</summary>
    /// <exception cref="MelFusionException">In one sentence: the setting that cannot be, and what can.</exception>
    public void Validate()
    {
        double limit = Mode == SynapseMode.Code ? 0.2 : 1;
        if (!(InitialAlpha > 0 && InitialAlpha < limit))
        {
            throw new MelFusionException($"The synapse's config.json cannot be used: initial_alpha must lie between 0 and {limit}.");
        }

        if (Mode == SynapseMode.Code && KeyValueNormalisation != KeyValueNormalisation.None)
        {
            throw new MelFusionException("The synapse's config.json cannot be used: key_value_normalisation must be none where mode is code, which mixes no keys and values.");
        }

        if (GoesByLevel != NoiseLevels.Count > 0 || NoiseLevels.Count > MostNoiseLevels || NoiseLevels.Zip(NoiseLevels.Skip(1)).Any(pair => pair.First >= pair.Second))
        {
            throw new MelFusionException(
                $"The synapse's config.json cannot be used: noise_levels must be 1 to {MostNoiseLevels} rising timesteps where key_value_normalisation is standardise_by_level or standardise_by_part, and empty elsewhere.");
        }
    }
}
