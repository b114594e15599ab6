using System.CommandLine;
using System.CommandLine.Parsing;
using System.Text.Json.Nodes;
using MelFusion.Cli.Output;
using MelFusion.Image;
using MelFusion.Weights;
using MelFusion.Weights.Assembly;
using MelFusion.Weights.Hub;

namespace MelFusion.Cli.Commands;

/// <summary>Files of weights: look into them, fetch them from a hub, put models together.</summary>
internal sealed class ModelsCommand : Command
{
    /// <summary>The command with its subcommands.</summary>
    public ModelsCommand(Session session) : base("models", Documentation.Id<ModelsCommand>())
    {
        Add(new ModelsInspectCommand(session));
        Add(new ModelsPullCommand(session));
        Add(new ModelsListCommand(session));
        Add(new ModelsVerifyCommand(session));
        Add(new ModelsRemoveCommand(session));
        Add(new ModelsAssembleCommand(session));
    }
}

/// <summary>List keys, types, shapes and metadata of a file of weights.</summary>
internal sealed class ModelsInspectCommand : Command
{
    private readonly Session _session;
    private readonly Argument<string> _file = Setting.File<ModelsInspectSettings>(nameof(ModelsInspectSettings.File));
    private readonly Option<string?> _at = Setting.Text<ModelsInspectSettings>(nameof(ModelsInspectSettings.At), 1000);
    private readonly Option<bool> _json = Setting.Flag<ModelsInspectSettings>(nameof(ModelsInspectSettings.Json));

    /// <summary>The command with its options.</summary>
    public ModelsInspectCommand(Session session) : base("inspect", Documentation.Id<ModelsInspectCommand>())
    {
        _session = session;
        Add(_file);
        Add(_at);
        Add(_json);
        SetAction(result => Run(new() { File = result.GetValue(_file)!, At = result.GetValue(_at), Json = result.GetValue(_json) }));
    }

    private int Run(ModelsInspectSettings settings)
    {
        using var weights = WeightsFile.Open(settings.File, settings.At);
        if (settings.Json)
        {
            _session.WriteJson(Describe(weights).ToJsonString());
            return ExitCode.Done;
        }

        foreach (var tensor in weights.Tensors)
        {
            _session.Output.Say($"{tensor.Key}  {WeightsFile.DtypeName(tensor.Dtype)}  ({string.Join(", ", tensor.Shape)})");
        }

        foreach (var (name, text) in weights.Metadata)
        {
            _session.Output.Say($"metadata {name}: {text}");
        }

        _session.Output.Say(Words.Text($"{weights.Tensors.Count} tensors, {weights.Tensors.Sum(tensor => tensor.Count):N0} numbers, {weights.Bytes / 1e6:N1} MB"));
        return ExitCode.Done;
    }

    private static JsonObject Describe(WeightsFile weights) => new()
    {
        ["tensors"] = new JsonArray([.. weights.Tensors.Select(tensor => (JsonNode)new JsonObject
        {
            ["key"] = tensor.Key,
            ["dtype"] = WeightsFile.DtypeName(tensor.Dtype),
            ["shape"] = new JsonArray([.. tensor.Shape.Select(axis => (JsonNode)axis)]),
        })]),
        ["metadata"] = new JsonObject(weights.Metadata.Select(pair => KeyValuePair.Create(pair.Key, (JsonNode?)pair.Value))),
        ["parameters"] = weights.Tensors.Sum(tensor => tensor.Count),
        ["bytes"] = weights.Bytes,
    };
}

/// <summary>Fetch a repository from the hub into the cache that Python's tools share; what is there already is not fetched again.</summary>
internal sealed class ModelsPullCommand : Command
{
    private readonly Session _session;
    private readonly Argument<string> _repository = RepositoryArgument.Make();
    private readonly Option<string?> _revision = Setting.Text<ModelsHubSettings>(nameof(ModelsHubSettings.Revision), 255);
    private readonly Option<string[]> _include = Patterns(nameof(ModelsHubSettings.Include)), _exclude = Patterns(nameof(ModelsHubSettings.Exclude));
    private readonly Option<bool> _json = Setting.Flag<ModelsHubSettings>(nameof(ModelsHubSettings.Json));

    /// <summary>The command with its options.</summary>
    public ModelsPullCommand(Session session) : base("pull", Documentation.Id<ModelsPullCommand>())
    {
        _session = session;
        Add(_repository);
        Option[] options = [_revision, _include, _exclude, _json];
        Array.ForEach(options, Add);
        SetAction(result => Run(new()
        {
            Repository = result.GetValue(_repository)!,
            Revision = result.GetValue(_revision),
            Include = result.GetValue(_include) ?? [],
            Exclude = result.GetValue(_exclude) ?? [],
            Json = result.GetValue(_json),
        }));
    }

    private int Run(ModelsHubSettings settings)
    {
        var console = _session.ForPeople(settings.Json);
        using var client = new HubClient(HubSettings.FromEnvironment());
        var snapshot = CountView.Show<HubProgress, HubSnapshot>(console, value => ("pull", Shown(value)), progress => client.PullAsync(
            settings.Repository, settings.Revision ?? "main", settings.Include, settings.Exclude,
            progress, _session.Cancellation).GetAwaiter().GetResult());
        string where = snapshot.IsFromCache ? " (from the cache; the hub was not asked or not reached)" : string.Empty;
        console.Say(Words.Text($"{settings.Repository} at {snapshot.Commit}: {snapshot.Files.Count} files in {snapshot.Folder}{where}"));
        if (settings.Json)
        {
            _session.WriteJson(new JsonObject
            {
                ["repository"] = settings.Repository,
                ["commit"] = snapshot.Commit,
                ["folder"] = snapshot.Folder,
                ["from_cache"] = snapshot.IsFromCache,
                ["files"] = new JsonArray([.. snapshot.Files.Select(file => (JsonNode)file)]),
            }.ToJsonString());
        }

        return ExitCode.Done;
    }

    private static string Shown(HubProgress value) => Words.Text(
        $"{value.FilesDone} of {value.FileCount} files, {value.BytesDone / 1e6:N1} of {value.ByteCount / 1e6:N1} MB{(value.Remaining is { } time ? $", about {Words.Of(time)} left" : string.Empty)}");

    private static Option<string[]> Patterns(string property) => new("--" + property.ToLowerInvariant())
    {
        HelpName = "pattern",
        Description = Documentation.Id<ModelsHubSettings>(property),
        Arity = ArgumentArity.OneOrMore,
        AllowMultipleArgumentsPerToken = false,
    };
}

/// <summary>List the repositories in the cache.</summary>
internal sealed class ModelsListCommand : Command
{
    private readonly Session _session;
    private readonly Option<bool> _json = Setting.Flag<ModelsHubSettings>(nameof(ModelsHubSettings.Json));

    /// <summary>The command with its options.</summary>
    public ModelsListCommand(Session session) : base("list", Documentation.Id<ModelsListCommand>())
    {
        _session = session;
        Add(_json);
        SetAction(result => Run(result.GetValue(_json)));
    }

    private int Run(bool json)
    {
        var cache = new HubCache(HubSettings.FromEnvironment().CacheFolder);
        var repositories = cache.List();
        if (json)
        {
            _session.WriteJson(new JsonArray([.. repositories.Select(repository => (JsonNode)new JsonObject
            {
                ["repository"] = repository.Name,
                ["folder"] = repository.Folder,
                ["bytes"] = repository.Bytes,
                ["revisions"] = new JsonObject(repository.Revisions.Select(pair => KeyValuePair.Create(pair.Key, (JsonNode?)pair.Value))),
            })]).ToJsonString());
            return ExitCode.Done;
        }

        foreach (var repository in repositories)
        {
            _session.Output.Say(Words.Text($"{repository.Name}  {repository.Bytes / 1e6:N1} MB  {string.Join(", ", repository.Revisions.Keys)}"));
        }

        _session.Output.Say(Words.Text($"{repositories.Count} repositories, {repositories.Sum(repository => repository.Bytes) / 1e6:N1} MB in {cache.Folder}"));
        return ExitCode.Done;
    }
}

/// <summary>Read every cached file of a repository again and compare it with its hash.</summary>
internal sealed class ModelsVerifyCommand : Command
{
    private readonly Argument<string> _repository = RepositoryArgument.Make();

    /// <summary>The command with its options.</summary>
    public ModelsVerifyCommand(Session session) : base("verify", Documentation.Id<ModelsVerifyCommand>())
    {
        Add(_repository);
        SetAction(result => Run(session, result.GetValue(_repository)!));
    }

    private static int Run(Session session, string repository)
    {
        var problems = new HubCache(HubSettings.FromEnvironment().CacheFolder).Verify(repository, session.Cancellation);
        foreach (var problem in problems)
        {
            session.Error.Say($"{problem.Path}: {problem.Problem}; remove the repository and pull it again.");
        }

        session.Output.Say(problems.Count == 0 ? $"{repository}: every file has its hash." : Words.Text($"{repository}: {problems.Count} files are damaged."));
        return problems.Count == 0 ? ExitCode.Done : ExitCode.Failed;
    }
}

/// <summary>Take a repository out of the cache.</summary>
internal sealed class ModelsRemoveCommand : Command
{
    private readonly Argument<string> _repository = RepositoryArgument.Make();

    /// <summary>The command with its options.</summary>
    public ModelsRemoveCommand(Session session) : base("remove", Documentation.Id<ModelsRemoveCommand>())
    {
        Add(_repository);
        SetAction(result =>
        {
            string repository = result.GetValue(_repository)!;
            long bytes = new HubCache(HubSettings.FromEnvironment().CacheFolder).Remove(repository);
            session.Output.Say(Words.Text($"{repository}: removed, {bytes / 1e6:N1} MB."));
            return ExitCode.Done;
        });
    }
}

/// <summary>Put a model together from Stable Diffusion and TANGO, as the paper does before training.</summary>
internal sealed class ModelsAssembleCommand : Command
{
    private readonly Session _session;
    private readonly Option<string?> _image = Setting.Path<ModelsAssembleSettings>(nameof(ModelsAssembleSettings.Image), "folder");
    private readonly Option<string?> _music = Setting.Path<ModelsAssembleSettings>(nameof(ModelsAssembleSettings.Music), "folder");
    private readonly Option<string?> _textEncoder = Setting.Path<ModelsAssembleSettings>(nameof(ModelsAssembleSettings.TextEncoder), "folder");
    private readonly Option<string?> _vae = Setting.Path<ModelsAssembleSettings>(nameof(ModelsAssembleSettings.Vae), "folder");
    private readonly Option<string?> _synapse = Setting.Path<ModelsAssembleSettings>(nameof(ModelsAssembleSettings.Synapse), "init|file");
    private readonly Option<PictureSize?> _imageSize = Setting.Size<ModelsAssembleSettings>(nameof(ModelsAssembleSettings.ImageSize));
    private readonly Option<string?> _output = Setting.Path<ModelsAssembleSettings>(nameof(ModelsAssembleSettings.Output), "folder");
    private readonly Option<bool> _copy = Setting.Flag<ModelsAssembleSettings>(nameof(ModelsAssembleSettings.Copy));
    private readonly Option<bool> _overwrite = Setting.Flag<ModelsAssembleSettings>(nameof(ModelsAssembleSettings.Overwrite));

    /// <summary>The command with its options.</summary>
    public ModelsAssembleCommand(Session session) : base("assemble", Documentation.Id<ModelsAssembleCommand>())
    {
        _session = session;
        Option[] options = [_image, _music, _textEncoder, _vae, _synapse, _imageSize, _output, _copy, _overwrite];
        Array.ForEach(options, Add);
        Validators.Add(Check);
        SetAction(result => Run(new()
        {
            Image = result.GetValue(_image)!,
            Music = result.GetValue(_music)!,
            TextEncoder = result.GetValue(_textEncoder),
            Vae = result.GetValue(_vae),
            Synapse = result.GetValue(_synapse),
            ImageSize = result.GetValue(_imageSize) ?? new(512, 512),
            Output = result.GetValue(_output)!,
            Copy = result.GetValue(_copy),
            Overwrite = result.GetValue(_overwrite),
        }));
    }

    private void Check(CommandResult result)
    {
        foreach (var (option, what) in new (Option, string)[] { (_image, "a Stable Diffusion"), (_music, "a TANGO"), (_output, "the model folder to make") })
        {
            if (result.GetResult(option) is null)
            {
                result.AddError($"There is no {option.Name}: name {what}");
            }
        }
    }

    private int Run(ModelsAssembleSettings settings)
    {
        var report = ModelAssembler.Assemble(
            new()
            {
                Image = settings.Image,
                Music = settings.Music,
                TextEncoder = settings.TextEncoder,
                Vae = settings.Vae,
                Synapse = settings.Synapse is "init" ? null : settings.Synapse,
                PictureSize = settings.ImageSize,
                Output = settings.Output,
                CopyFiles = settings.Copy,
                Overwrite = settings.Overwrite,
            },
            new HubCache(HubSettings.FromEnvironment().CacheFolder), line => _session.Output.Say(line + "..."), _session.Cancellation);
        foreach (string remark in report.Remarks)
        {
            _session.Output.Say(remark);
        }

        _session.Output.Say($"{settings.Output} is ready: melfusion generate --model {settings.Output} ...");
        return ExitCode.Done;
    }
}

/// <summary>The argument that names a repository.</summary>
internal static class RepositoryArgument
{
    /// <summary>A new one.</summary>
    public static Argument<string> Make() => new("REPO") { Description = Documentation.Id<ModelsHubSettings>(nameof(ModelsHubSettings.Repository)) };
}
