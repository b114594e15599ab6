using MelFusion.Noise;
using MelFusion.Training.Engine;
using MelFusion.UNet;
using MelFusion.Weights;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Training.Stages;

/// <summary>What the two diffusion stages share.</summary>
internal static class LdmNetworks
{
    /// <summary>A UNet with first weights, or those of the part of another model. Its last convolution begins at zero: the first prediction is none.</summary>
    public static ConditionalUNet Create(UNetConfig config, long seed, string? startFrom, string part)
    {
        var network = new ConditionalUNet(config, Placement.Cpu);
        if (startFrom is not null)
        {
            return ModelParts.Load(startFrom, part, network);
        }

        using var generator = StepRandom.Generator(seed, -1, 1);
        Initialiser.Initialise(network, generator);
        using var noGrad = no_grad();
        foreach (var (_, parameter) in network.named_parameters().Where(p => p.name.StartsWith("conv_out.", StringComparison.Ordinal)))
        {
            parameter.zero_();
        }

        return network;
    }

    /// <summary>Writes scheduler_config.json, with the class that diffusers opens.</summary>
    public static void WriteSchedule(string model, string part, NoiseScheduleConfig schedule) =>
        ModelParts.WriteConfig(model, part, "scheduler_config.json", schedule, ("diffusers", "DDIMScheduler"), "DDIMScheduler");

    /// <summary>DDIM from noise to a latent.</summary>
    /// <param name="schedule">The noise schedule.</param>
    /// <param name="steps">Steps.</param>
    /// <param name="noise">z_T (B, C, H, W).</param>
    /// <param name="predict">From latent and timestep (1) to the prediction, fp32.</param>
    public static Tensor Sample(NoiseSchedule schedule, int steps, Tensor noise, Func<Tensor, Tensor, Tensor> predict)
    {
        var ddim = new DdimStep(schedule, steps);
        var z = noise;
        foreach (long t in ddim.Timesteps)
        {
            using var scope = NewDisposeScope();
            z = ddim.Down(predict(z, tensor(new[] { t })), z, t).Latent.MoveToOuterDisposeScope();
        }

        return z;
    }
}
