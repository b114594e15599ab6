using System.CommandLine;
using System.Text.Json.Nodes;
using MelFusion.Cli.Output;
using MelFusion.Weights;

namespace MelFusion.Cli.Commands;

/// <summary>What <c>melfusion doctor</c> was asked for.</summary>
internal sealed record DoctorSettings
{
    /// <summary>The model folder (default: models/melfusion-mini, from the program upward, then from here).</summary>
    public string? Model { get; init; }

    /// <summary>Print one line of JSON for scripts on standard output; everything else goes to standard error.</summary>
    public bool Json { get; init; }
}

/// <summary>Say before a run what a model needs in memory and time, what is missing, and under which licences it stands.</summary>
internal sealed class DoctorCommand : Command
{
    private readonly Session _session;
    private readonly Option<string?> _model = Setting.Path<DoctorSettings>(nameof(DoctorSettings.Model), "folder");
    private readonly Option<bool> _json = Setting.Flag<DoctorSettings>(nameof(DoctorSettings.Json));

    /// <summary>The command with its options.</summary>
    public DoctorCommand(Session session) : base("doctor", Documentation.Id<DoctorCommand>())
    {
        _session = session;
        Add(_model);
        Add(_json);
        SetAction(result => Run(new() { Model = result.GetValue(_model), Json = result.GetValue(_json) }));
    }

    private int Run(DoctorSettings settings)
    {
        string path = ModelPlace.Find(settings.Model);
        var machine = MachineCheckup.Look();
        var (fp32, bf16) = (ModelCheckup.Of(path, 4), ModelCheckup.Of(path, 2));
        var chosen = Processor.HasBf16 ? bf16 : fp32;
        var problems = chosen.Problems.Concat(machine.Problems(chosen)).ToList();
        if (settings.Json)
        {
            _session.WriteJson(Describe(path, machine, fp32, bf16, problems).ToJsonString());
        }
        else
        {
            Render(path, machine, fp32, bf16, problems);
        }

        return problems.Count == 0 ? ExitCode.Done : ExitCode.Failed;
    }

    private void Render(string path, MachineCheckup machine, ModelCheckup fp32, ModelCheckup bf16, List<string> problems)
    {
        var console = _session.Output;
        console.Say($"Model {path}");
        foreach (var part in fp32.Parts.Where(part => part.Parameters > 0))
        {
            console.Say(Words.Text($"  {part.Name}: {part.Parameters / 1e6:N1} million parameters"));
        }

        console.Say(Words.Text($"This machine: {machine.Processors} processors ({Processor.Features}), {machine.AvailableBytes / 1e9:N1} GB of memory free, {machine.OperationsPerSecond / 1e9:N0} GFLOP/s in fp32"));
        foreach (var (name, checkup, rate) in new[] { ("fp32", fp32, machine.OperationsPerSecond), ("bf16", bf16, machine.Bf16OperationsPerSecond) })
        {
            string time = checkup.OperationsInAll is { } operations
                ? $", about {Words.Of(TimeSpan.FromSeconds(checkup.OperationsPerStep!.Value / rate))} a step and {Words.Of(TimeSpan.FromSeconds(operations / rate))} for {checkup.Steps} steps with a picture"
                : string.Empty;
            console.Say(Words.Text($"{name}: {checkup.WeightBytes / 1e9:N1} GB of weights, about {checkup.NeededBytes / 1e9:N1} GB in all{time}"));
        }

        foreach (var group in fp32.Licences.GroupBy(part => (part.Source, part.Licence, part.Commercial)))
        {
            console.Say($"  {string.Join(", ", group.Select(part => part.Part))}: {group.Key.Source}, {group.Key.Licence}, commercial use: {group.Key.Commercial.ToString().ToLowerInvariant()}");
        }

        console.Say($"Commercial use of what it makes: {fp32.Commercial.ToString().ToLowerInvariant()}");
        problems.ForEach(_session.Error.Say);
    }

    private static JsonObject Describe(string path, MachineCheckup machine, ModelCheckup fp32, ModelCheckup bf16, List<string> problems) => new()
    {
        ["model"] = path,
        ["parameters"] = fp32.Parts.Sum(part => part.Parameters),
        ["free_bytes"] = machine.AvailableBytes,
        ["fp32"] = Needs(fp32, machine.OperationsPerSecond),
        ["bf16"] = Needs(bf16, machine.Bf16OperationsPerSecond),
        ["commercial_use"] = fp32.Commercial.ToString().ToLowerInvariant(),
        ["licences"] = new JsonArray([.. fp32.Licences.Select(part => (JsonNode)new JsonObject { ["part"] = part.Part, ["source"] = part.Source, ["licence"] = part.Licence })]),
        ["problems"] = new JsonArray([.. problems.Select(problem => (JsonNode)problem)]),
    };

    private static JsonObject Needs(ModelCheckup checkup, double rate) => new()
    {
        ["weight_bytes"] = checkup.WeightBytes,
        ["needed_bytes"] = checkup.NeededBytes,
        ["seconds_per_step"] = checkup.OperationsPerStep / rate,
        ["seconds"] = checkup.OperationsInAll / rate,
    };
}
