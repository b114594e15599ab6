using System.CommandLine;
using MelFusion.Benchmarks;

var names = new Argument<string[]>("CASE") { Description = "Any of: " + string.Join(", ", Cases.All.Select(known => known.Name)) + " (default: all).", Arity = ArgumentArity.ZeroOrMore };
var dtype = new Option<string>("--dtype") { Description = "fp32, bf16 or both.", DefaultValueFactory = _ => "both" };
dtype.AcceptOnlyFromAmong("fp32", "bf16", "both");
var threads = new Option<int>("--threads") { Description = "Threads of every operator.", DefaultValueFactory = _ => Environment.ProcessorCount };
var runs = new Option<int>("--runs") { Description = "Timed runs at least.", DefaultValueFactory = _ => 5 };
var seconds = new Option<double>("--seconds") { Description = "And go on for at least this long.", DefaultValueFactory = _ => 5 };
var clock = new Option<string>("--clock") { Description = "wall, or cpu: processor seconds per thread; with --threads 1 right on a busy machine too.", DefaultValueFactory = _ => "wall" };
clock.AcceptOnlyFromAmong("wall", "cpu");
var model = new Option<string>("--model") { Description = "The model folder of the cases mini-* and generate.", DefaultValueFactory = _ => "models/melfusion-mini" };

var root = new RootCommand("Times the networks of MelFusion on this machine's processor: one JSON line per case and precision, in the form of the peer's bench.py.")
{
    names, dtype, threads, runs, seconds, clock, model,
};
root.SetAction(result => Runner.Run(new(
    result.GetValue(names) ?? [], result.GetValue(dtype)!, result.GetValue(threads), result.GetValue(runs), result.GetValue(seconds),
    result.GetValue(clock)!, result.GetValue(model)!)));
root.Add(FullSize.Command());
return root.Parse(args).Invoke();
