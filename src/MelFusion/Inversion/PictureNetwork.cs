using MelFusion.KeyValue;
using MelFusion.Noise;
using MelFusion.UNet;
using MelFusion.Weights;
using static TorchSharp.torch;

namespace MelFusion.Inversion;

/// <summary>The picture's frozen UNet as Algorithms 1 and 2 use it: always under the null text, never with guidance.</summary>
public sealed class PictureNetwork : IDisposable
{
    private readonly ConditionalUNet _unet;
    private readonly Tensor _nullText;
    private readonly TextKeyValues _nullKeyValues;
    private readonly Placement _place;

    /// <summary>Borrows the network and the text; both must outlive this.</summary>
    /// <param name="unet">The picture's UNet.</param>
    /// <param name="schedule">Its noise schedule.</param>
    /// <param name="nullText">States of the null text, (1, s, c).</param>
    /// <param name="place">Device, and precision of the computation.</param>
    public PictureNetwork(ConditionalUNet unet, NoiseSchedule schedule, Tensor nullText, Placement place)
    {
        (_unet, _nullText, _place, Schedule) = (unet, nullText, place, schedule);
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        _nullKeyValues = unet.ProjectText(nullText.to(place.Dtype));
    }

    /// <summary>The noise schedule.</summary>
    public NoiseSchedule Schedule { get; }

    /// <summary>The prediction for latents (B, C, H, W) at one timestep, in fp32.</summary>
    public Tensor Predict(Tensor latent, long t, IKeyValueTap? tap = null)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var prediction = _unet.Forward(latent.to(_place.Dtype), At(t), _nullText, null, tap, _nullKeyValues);
        return prediction.to(ScalarType.Float32).MoveToOuterDisposeScope();
    }

    /// <summary>K^I and V^I for latents at one timestep, without the prediction.</summary>
    public CapturedKeyValues Capture(Tensor latent, long t, KeyValueRecorder recorder)
    {
        using var scope = NewDisposeScope();
        return _unet.Capture(latent.to(_place.Dtype), At(t), _nullText, recorder, null, _nullKeyValues);
    }

    /// <inheritdoc/>
    public void Dispose() => _nullKeyValues.Dispose();

    private Tensor At(long t) => tensor(new[] { t }, device: _place.Device);
}
