using System.Diagnostics;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Training.Engine;

/// <summary>
/// The loop every stage shares. A step: the batch's parts go to the workers, each computes loss and gradients of its part; the gradients
/// are summed in the order of the parts, clipped by their global norm, and AdamW and the moving average take one step. The parts and
/// their order are the config's, so the number of workers does not change a bit.
/// </summary>
internal sealed class Trainer : IDisposable
{
    private readonly TrainingConfig _config;
    private readonly ITrainingStage _stage;
    private readonly RunFolder _folder;
    private readonly WorkerPool _pool;
    private readonly IProgress<TrainingProgress>? _progress;
    private readonly AdamW _optimiser;
    private readonly WeightAverage _average;
    private readonly List<Tensor> _inputs;
    private Table _curve = null!, _validation = null!, _watched = null!;
    private long _step;
    private double _secondsBefore;
    private double? _loss, _secondsPerStep;
    private IReadOnlyList<(string Name, double Value)> _figures = [];

    /// <summary>Prepares a run; it resumes from the newest checkpoint in the folder, if there is one.</summary>
    public Trainer(TrainingConfig config, ITrainingStage stage, RunFolder folder, WorkerPool pool, IProgress<TrainingProgress>? progress)
    {
        (_config, _stage, _folder, _pool, _progress) = (config, stage, folder, pool, progress);
        var settings = config.Optimiser;
        _optimiser = new(stage.Groups, settings.Beta1, settings.Beta2, settings.Epsilon);
        _average = new([.. _optimiser.Parameters], config.StartShare);
        _inputs = [.. _optimiser.Parameters.Select(p => (Tensor)p.Value)];
        Resume();
    }

    /// <summary>Trains to the last step, then writes the averaged weights into the model folder.</summary>
    /// <exception cref="OperationCanceledException">Cancelled; a checkpoint of the last whole step was written.</exception>
    /// <exception cref="MelFusionException">The loss is no number any more.</exception>
    public TrainingResult Run(CancellationToken cancel)
    {
        var clock = Stopwatch.StartNew();
        while (_step < _config.Steps)
        {
            if (cancel.IsCancellationRequested)
            {
                Save(clock);
                cancel.ThrowIfCancellationRequested();
            }

            Step();
            bool validates = _step % _config.ValidateEvery == 0 || _step == _config.Steps;
            if (validates || _step % _config.CheckpointEvery == 0)
            {
                Save(clock); // before a validation too, which may take long and be cancelled
            }

            if (validates)
            {
                Validate();
            }
        }

        return Export();
    }

    /// <summary>Writes the averaged weights, as far as they have come, into the model folder.</summary>
    public TrainingResult Export()
    {
        Report("writing the model");
        using (_average.InPlaceOfWeights())
        {
            _stage.Export(_config.Model, _pool);
        }

        return new(_step, _loss ?? double.NaN, _figures, _config.Model);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _optimiser.Dispose();
        _average.Dispose();
    }

    private void Step()
    {
        using var quiet = QuietHeap.Begin();
        var clock = Stopwatch.StartNew();
        var processorBefore = Environment.CpuUsage.TotalTime;
        var (gradients, terms) = Gradients();
        double norm = Norm(gradients);
        if (!double.IsFinite(norm) || !double.IsFinite(terms[0].Value))
        {
            throw new MelFusionException(
                $"Training diverged at step {_step + 1}: the loss is {terms[0].Value} and the gradient's norm {norm}; lower the learning rate and resume from the last checkpoint in {_folder.Path}.");
        }

        double factor = Update(gradients, norm);
        _step++;
        double seconds = clock.Elapsed.TotalSeconds;
        _loss = _loss is { } loss ? loss + 0.05 * (terms[0].Value - loss) : terms[0].Value;
        _secondsPerStep = _secondsPerStep is { } mean ? mean + 0.1 * (seconds - mean) : seconds;
        _curve.Add(_step, [
            .. terms, ("learning_rate", factor * _config.Optimiser.LearningRate), ("gradient_norm", norm), ("seconds", seconds),
            ("processor_seconds", (Environment.CpuUsage.TotalTime - processorBefore).TotalSeconds), ("samples_per_second", _config.Batch / seconds)]);
        if (_stage.Watched() is { Count: > 0 } watched)
        {
            _watched.Add(_step, watched);
        }

        Report("training");
    }

    /// <summary>The batch's mean gradient, and the mean of the loss and its terms.</summary>
    private (Tensor?[] Gradients, (string Name, double Value)[] Terms) Gradients()
    {
        int parts = _config.Parts, size = _config.Batch / parts;
        var sum = new Tensor?[_inputs.Count];
        var terms = new (string Name, double Value)[parts][];
        var round = new Tensor?[_pool.Count][];
        for (int first = 0; first < parts; first += _pool.Count)
        {
            int count = Math.Min(_pool.Count, parts - first);
            _pool.Run(worker =>
            {
                if (worker < count)
                {
                    (round[worker], terms[first + worker]) = Part((first + worker) * size, size, 1.0 / parts);
                }
            });
            _pool.Share(_inputs.Count, i => Add(sum, round, count, i));
        }

        return (sum, [.. terms[0].Select((term, i) => (term.Name, terms.Average(part => part[i].Value)))]);
    }

    private (Tensor?[] Gradients, (string Name, double Value)[] Terms) Part(int first, int count, double share)
    {
        using var scope = NewDisposeScope();
        var loss = _stage.Loss(_step, first, count);
        var gradients = autograd.grad([loss.Value * share], _inputs, allow_unused: true);
        return (
            [.. gradients.Select(g => g.IsInvalid ? null : g.DetachFromDisposeScope())],
            [("loss", loss.Value.item<float>()), .. loss.Terms]);
    }

    // In the order of the parts, whichever worker computed them.
    private static void Add(Tensor?[] sum, Tensor?[][] round, int count, int index)
    {
        for (int part = 0; part < count; part++)
        {
            if (round[part][index] is not { } gradient)
            {
                continue;
            }

            if (sum[index] is { } before)
            {
                before.add_(gradient).DetachFromDisposeScope();
                gradient.Dispose();
            }
            else
            {
                sum[index] = gradient;
            }
        }
    }

    private double Norm(Tensor?[] gradients)
    {
        double[] squares = new double[gradients.Length];
        _pool.Share(gradients.Length, i =>
        {
            using var scope = NewDisposeScope();
            squares[i] = gradients[i] is { } g ? Math.Pow(g.to(ScalarType.Float32).norm().item<float>(), 2) : 0;
        });
        return Math.Sqrt(squares.Sum());
    }

    private double Update(Tensor?[] gradients, double norm)
    {
        var settings = _config.Optimiser;
        double factor = LearningRate.Factor(_step, settings.DecaySteps ?? _config.Steps, settings.WarmupSteps, settings.Decay, settings.FinalFraction);
        double shrink = settings.ClipNorm > 0 ? Math.Min(1, settings.ClipNorm / (norm + 1e-6)) : 1;
        double decay = WeightAverage.WarmDecay(_config.AverageDecay, _step);
        _pool.Share(gradients.Length, i =>
        {
            using var scope = NewDisposeScope();
            _optimiser.Step(i, shrink < 1 ? gradients[i]?.mul_(shrink) : gradients[i], factor);
            _average.Update(i, decay);
            gradients[i]?.Dispose();
        });
        return factor;
    }

    private void Validate()
    {
        Report("validating");
        using (_average.InPlaceOfWeights())
        {
            _figures = _stage.Validate(_pool, _step, _folder);
        }

        _validation.Add(_step, _figures);
        Curve.Draw(_folder.File("loss.csv"), _folder.File("loss.png"), $"{_config.StageName}: training loss", ["loss"]);
        Curve.Draw(_folder.File("validation.csv"), _folder.File("validation.png"), $"{_config.StageName}: validation");
        Curve.Draw(_folder.File("watched.csv"), _folder.File("watched.png"), $"{_config.StageName}: alphas");
        Report("training", _figures);
    }

    private void Save(Stopwatch clock) => Checkpoint.Write(_folder.Checkpoints, new()
    {
        Step = _step,
        OptimiserSteps = _optimiser.StepCounts,
        Config = _config.ToJson(),
        ThreadsPerWorker = _config.ThreadsPerWorker,
        Seconds = _secondsBefore + clock.Elapsed.TotalSeconds,
    }, _optimiser, _average);

    private void Resume()
    {
        if (Checkpoint.Newest(_folder.Checkpoints) is { } state)
        {
            if (!_config.Continues(TrainingConfig.FromJson(state.Config)))
            {
                throw new MelFusionException(
                    $"{_folder.Path} holds a run with other settings, which cannot go on with these; give the config another output folder, or undo the change.");
            }

            Checkpoint.ReadNewest(_folder.Checkpoints, _optimiser, _average);
            _optimiser.StepCounts = state.OptimiserSteps;
            (_step, _secondsBefore) = (state.Step, state.Seconds);
        }

        File.WriteAllText(_folder.File("config.json"), _config.ToJson());
        _curve = new(_folder.File("loss.csv"), _step);
        _validation = new(_folder.File("validation.csv"), _step);
        _watched = new(_folder.File("watched.csv"), _step);
    }

    private void Report(string activity, IReadOnlyList<(string Name, double Value)>? figures = null) => _progress?.Report(new(
        _config.StageName, activity, _step, _config.Steps, _loss, _secondsPerStep is { } s ? _config.Batch / s : null,
        _secondsPerStep is { } seconds ? TimeSpan.FromSeconds(seconds * (_config.Steps - _step)) : null, figures ?? []));
}
