using static TorchSharp.torch;

namespace MelFusion.Noise;

/// <summary>The tables of a noise schedule: beta_t, abar_t, and the timesteps that N sampling steps visit.</summary>
public sealed class NoiseSchedule
{
    private readonly float[] _betas, _abar;

    /// <summary>Computes the tables in 32-bit floats, as the published implementations do.</summary>
    /// <exception cref="MelFusionException">The config cannot be used.</exception>
    public NoiseSchedule(NoiseScheduleConfig config)
    {
        config.Validate();
        Config = config;
        _betas = Betas(config);
        _abar = new float[_betas.Length];
        double product = 1;
        for (int t = 0; t < _betas.Length; t++)
        {
            product *= 1 - _betas[t];
            _abar[t] = (float)product;
        }
    }

    /// <summary>What it was made from.</summary>
    public NoiseScheduleConfig Config { get; }

    /// <summary>Timesteps T of the diffusion.</summary>
    public int Length => _abar.Length;

    /// <summary>beta_t for t = 0 .. T - 1 (the variance added at each timestep).</summary>
    public IReadOnlyList<float> Beta => _betas;

    /// <summary>abar_t: the product of 1 - beta up to t, the share of signal in the variance.</summary>
    public IReadOnlyList<float> AlphaBar => _abar;

    /// <summary>sigma / alpha at t, the noise level as DPM-Solver counts it.</summary>
    public float Ratio(long t) => MathF.Sqrt((1 - _abar[t]) / _abar[t]);

    /// <summary>abar where DDIM stands: before the first timestep it is the first one's own, or 1 under set_alpha_to_one.</summary>
    public double AlphaBarOrBefore(long t) => t >= 0 ? _abar[t] : Config.SetAlphaToOne ? 1 : _abar[0];

    /// <summary>The noise level of each sample's own timestep.</summary>
    /// <param name="timestep">(B) of int64, on the device of the result.</param>
    /// <param name="axes">Axes of the latents, 4 for (B, C, H, W): the level has as many.</param>
    public NoiseLevel At(Tensor timestep, int axes = 4)
    {
        long[] shape = [timestep.shape[0], .. Enumerable.Repeat(1L, axes - 1)];
        var abar = Gather(timestep).reshape(shape);
        return new(abar.sqrt(), (1 - abar).sqrt());
    }

    /// <summary>Signal to noise, abar / (1 - abar), of each sample's timestep: (B).</summary>
    public Tensor SignalToNoise(Tensor timestep)
    {
        var abar = Gather(timestep);
        return abar / (1 - abar);
    }

    /// <summary>Timesteps of DDIM and DDPM, from noise to data.</summary>
    /// <exception cref="MelFusionException">There are no so many steps in this schedule.</exception>
    public IReadOnlyList<long> Timesteps(int steps)
    {
        RequireSteps(steps, Length);
        return Config.TimestepSpacing switch
        {
            TimestepSpacing.Leading => [.. Leading(steps)],
            TimestepSpacing.Trailing => Trailing(steps),
            _ => [.. Downwards(steps, i => Even(i, steps))],
        };
    }

    /// <summary>
    /// Timesteps of DPM-Solver, from noise to data. Its first two rules lay one point more and drop the smallest, since its last step
    /// goes to no noise at all.
    /// </summary>
    /// <exception cref="MelFusionException">There are no so many steps in this schedule.</exception>
    public IReadOnlyList<long> SolverTimesteps(int steps)
    {
        RequireSteps(steps, Length - 1);
        return Config.UseKarrasSigmas
            ? [.. SolverRatios(steps).Take(steps).Select(TimestepOfRatio)]
            : Config.TimestepSpacing switch
            {
                TimestepSpacing.Leading => [.. Leading(steps + 1).SkipLast(1)],
                TimestepSpacing.Trailing => Trailing(steps),
                _ => [.. Downwards(steps + 1, i => Even(i, steps + 1)).SkipLast(1)],
            };
    }

    /// <summary>sigma / alpha before each of DPM-Solver's steps and after the last, where it is 0: N + 1 values.</summary>
    public IReadOnlyList<double> SolverRatios(int steps)
    {
        if (!Config.UseKarrasSigmas)
        {
            return [.. SolverTimesteps(steps).Select(t => (double)Ratio(t)), 0];
        }

        const double Rho = 7;
        double most = Math.Pow(Ratio(Length - 1), 1 / Rho), least = Math.Pow(Ratio(0), 1 / Rho);
        return [.. Enumerable.Range(0, steps).Select(i => Math.Pow(most + (i / Math.Max(1.0, steps - 1) * (least - most)), Rho)), 0];
    }

    private static float[] Betas(NoiseScheduleConfig config)
    {
        bool roots = config.BetaSchedule == BetaSchedule.ScaledLinear;
        float first = (float)(roots ? Math.Sqrt(config.BetaStart) : config.BetaStart);
        float last = (float)(roots ? Math.Sqrt(config.BetaEnd) : config.BetaEnd);
        int count = config.NumTrainTimesteps;
        float step = count > 1 ? (last - first) / (count - 1) : 0;
        var values = Enumerable.Range(0, count).Select(i => i < count / 2 ? first + (step * i) : last - (step * (count - 1 - i)));
        return [.. roots ? values.Select(root => root * root) : values];
    }

    /// <summary>The timestep at which the schedule's log noise ratio, read between its entries, is that of <paramref name="ratio"/>.</summary>
    private long TimestepOfRatio(double ratio)
    {
        double log = Math.Log(Math.Max(ratio, 1e-10));
        int low = 0;
        while (low < Length - 2 && log >= MathF.Log(Ratio(low + 1)))
        {
            low++;
        }

        double below = MathF.Log(Ratio(low)), above = MathF.Log(Ratio(low + 1));
        double share = Math.Clamp((below - log) / (below - above), 0, 1);
        return (long)Math.Round(((1 - share) * low) + (share * (low + 1)), MidpointRounding.ToEven);
    }

    private Tensor Gather(Tensor timestep) => tensor(_abar).to(timestep.device).index_select(0, timestep);

    /// <summary>Multiples of the whole step, moved up by the offset where the schedule has room for it: with as many points as timesteps it has none.</summary>
    private IEnumerable<long> Leading(int points)
    {
        int stride = Length / points;
        int offset = ((points - 1) * stride) + Config.StepsOffset < Length ? Config.StepsOffset : 0;
        return Downwards(points, i => (i * stride) + offset);
    }

    private static IEnumerable<long> Downwards(int count, Func<int, long> timestep) =>
        Enumerable.Range(0, count).Select(i => timestep(count - 1 - i));

    private List<long> Trailing(int steps) =>
        [.. Enumerable.Range(0, steps).Select(i => (long)Math.Round(Length - (i * ((double)Length / steps)), MidpointRounding.ToEven) - 1)];

    private long Even(int i, int count) =>
        (long)Math.Round(i * ((Length - 1) / Math.Max(1.0, count - 1)), MidpointRounding.ToEven);

    private static void RequireSteps(int steps, int most)
    {
        if (steps < 1 || steps > most)
        {
            throw new MelFusionException($"{steps} sampling steps are not possible: this model's noise schedule has room for 1 to {most}.");
        }
    }
}
