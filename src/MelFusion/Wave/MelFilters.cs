using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Wave;

/// <summary>Triangular filters over the bins of a Fourier transform, evenly spaced on a mel scale.</summary>
public static class MelFilters
{
    private const double SlaneyHzPerMel = 200.0 / 3, SlaneyKnee = 1000;

    private static readonly double SlaneyStep = Math.Log(6.4) / 27;

    /// <summary>The filters as (bands, bins), computed in double and stored in <paramref name="dtype"/>; triangles are linear in Hz.</summary>
    public static Tensor Create(MelConfig config, Device? device = null, ScalarType dtype = ScalarType.Float32)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(config.NMels);
        if (device is { type: DeviceType.META })
        {
            return torch.empty([config.NMels, config.Stft.Bins], dtype, device);
        }

        using var scope = NewDisposeScope();
        return torch.tensor(Weights(config), ScalarType.Float64).to(dtype, device ?? CPU).MoveToOuterDisposeScope();
    }

    private static double[,] Weights(MelConfig config)
    {
        double[] edges = Edges(config);
        var weights = new double[config.NMels, config.Stft.Bins];
        for (int band = 0; band < config.NMels; band++)
        {
            (double low, double peak, double high) = (edges[band], edges[band + 1], edges[band + 2]);
            double height = config.AreaNorm ? 2 / (high - low) : 1;
            for (int bin = 0; bin < config.Stft.Bins; bin++)
            {
                double hz = (double)bin * config.SampleRate / config.NFft;
                weights[band, bin] = height * Math.Max(0, Math.Min((hz - low) / (peak - low), (high - hz) / (high - peak)));
            }
        }

        return weights;
    }

    /// <summary>NMels + 2 frequencies in Hz, evenly spaced in mels.</summary>
    private static double[] Edges(MelConfig config)
    {
        (double low, double high) = (ToMel(config.FMin, config.MelScale), ToMel(config.FMax, config.MelScale));
        return [.. Enumerable.Range(0, config.NMels + 2).Select(i => ToHz(low + ((high - low) * i / (config.NMels + 1)), config.MelScale))];
    }

    private static double ToMel(double hz, MelScale scale) => scale switch
    {
        MelScale.Htk => 2595 * Math.Log10(1 + (hz / 700)),
        _ => hz < SlaneyKnee ? hz / SlaneyHzPerMel : (SlaneyKnee / SlaneyHzPerMel) + (Math.Log(hz / SlaneyKnee) / SlaneyStep),
    };

    private static double ToHz(double mel, MelScale scale) => scale switch
    {
        MelScale.Htk => 700 * (Math.Pow(10, mel / 2595) - 1),
        _ => mel < SlaneyKnee / SlaneyHzPerMel ? mel * SlaneyHzPerMel : SlaneyKnee * Math.Exp(SlaneyStep * (mel - (SlaneyKnee / SlaneyHzPerMel))),
    };
}
