using MelFusion.Training.Engine;
using MelFusion.Weights;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Tests.Training;

/// <summary>A convolutional stage of a few weights: real modules, real chance, milliseconds a step.</summary>
internal sealed class TinyStage : ITrainingStage
{
    private readonly Conv2d _first = new(1, 4, 3, Placement.Cpu, padding: 1), _second = new(4, 1, 3, Placement.Cpu, padding: 1);
    private readonly Linear _unused = new(2, 2, Placement.Cpu);
    private readonly long _seed;

    public TinyStage(long seed = 3)
    {
        _seed = seed;
        using var generator = new Generator(7, CPU);
        Initialiser.Initialise(_first, generator);
        Initialiser.Initialise(_second, generator);
        Initialiser.Initialise(_unused, generator);
    }

    public Action<long>? OnStep { get; set; }

    public string? Exported { get; private set; }

    public IReadOnlyList<ParameterGroup> Groups =>
    [
        new([.. Named("first", _first), .. Named("second", _second)], 1e-2, 1e-2),
        new([.. Named("unused", _unused)], 1e-2, 1e-2),
    ];

    public float[] Weights => [.. Groups.SelectMany(g => g.Parameters).SelectMany(p => p.Value.detach().data<float>().ToArray())];

    public StepLoss Loss(long step, int first, int count)
    {
        OnStep?.Invoke(step);
        var clean = stack(Enumerable.Range(first, count).Select(sample =>
        {
            using var generator = StepRandom.Generator(_seed, step, sample);
            return randn([1, 8, 8], generator: generator);
        }));
        var output = _second.forward(nn.functional.silu(_first.forward(clean)));
        var error = (output - clean * 0.5).square().mean();
        return new(error, ("rms", output.detach().square().mean().sqrt().item<float>()));
    }

    public IReadOnlyList<(string Name, double Value)> Validate(WorkerPool pool, long step, RunFolder folder) => [("first", Weights[0])];

    public void Export(string modelFolder, WorkerPool pool) => Exported = modelFolder;

    public void Dispose()
    {
        _first.Dispose();
        _second.Dispose();
        _unused.Dispose();
    }

    private static IEnumerable<NamedParameter> Named(string prefix, nn.Module module) =>
        module.named_parameters().Select(p => new NamedParameter($"{prefix}.{p.name}", p.parameter));
}
