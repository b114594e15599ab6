using System.Runtime.ExceptionServices;
using TorchSharp;

namespace MelFusion.Training.Engine;

/// <summary>
/// Long-lived threads that work side by side, each with its own number of torch threads (one, as a rule: two OpenMP threads wait for one
/// another at every barrier, and on a shared machine that wait dominates).
/// </summary>
internal sealed class WorkerPool : IDisposable
{
    private readonly Thread[] _threads;
    private readonly Exception?[] _errors;
    private readonly SemaphoreSlim[] _begin;
    private readonly CountdownEvent _end;
    private readonly int _torchThreadsBefore;
    private Action<int>? _work;

    /// <summary>Starts the threads.</summary>
    /// <param name="count">Workers, at least 1.</param>
    /// <param name="torchThreads">Threads of libtorch in each.</param>
    public WorkerPool(int count, int torchThreads = 1)
    {
        _torchThreadsBefore = torch.get_num_threads();
        torch.set_num_threads(torchThreads);
        _errors = new Exception?[count];
        _begin = [.. Enumerable.Range(0, count).Select(_ => new SemaphoreSlim(0))];
        _end = new(count);
        _threads = [.. Enumerable.Range(0, count).Select(worker => new Thread(() => Live(worker, torchThreads)) { IsBackground = true, Name = $"trainer {worker}" })];
        Array.ForEach(_threads, thread => thread.Start());
    }

    /// <summary>Number of workers.</summary>
    public int Count => _threads.Length;

    /// <summary>Runs the work once on every worker, which gets its number, and waits for all; the first error is thrown on.</summary>
    public void Run(Action<int> work)
    {
        using var quiet = QuietHeap.Begin();
        _work = work;
        _end.Reset();
        Array.Clear(_errors);
        Array.ForEach(_begin, gate => gate.Release());
        _end.Wait();
        if (Array.Find(_errors, error => error is not null) is { } first)
        {
            ExceptionDispatchInfo.Throw(first);
        }
    }

    /// <summary>Shares items 0 to <paramref name="items"/> - 1 out: item i goes to worker i modulo the count, in rising order.</summary>
    public void Share(int items, Action<int> work) => Share(0, items, work);

    /// <summary>The same for items that leave much behind on the managed heap: it is swept after every few.</summary>
    public void ShareInChunks(int items, int chunk, Action<int> work)
    {
        for (int first = 0; first < items; first += chunk)
        {
            Share(first, Math.Min(items, first + chunk), work);
        }
    }

    private void Share(int first, int end, Action<int> work) => Run(worker =>
    {
        for (int i = first + worker; i < end; i += Count)
        {
            work(i);
        }
    });

    /// <summary>Ends the threads.</summary>
    public void Dispose()
    {
        _work = null;
        Array.ForEach(_begin, gate => gate.Release());
        Array.ForEach(_threads, thread => thread.Join());
        Array.ForEach(_begin, gate => gate.Dispose());
        _end.Dispose();
        torch.set_num_threads(_torchThreadsBefore);
    }

    private void Live(int worker, int torchThreads)
    {
        torch.set_num_threads(torchThreads);
        while (true)
        {
            _begin[worker].Wait();
            if (_work is not { } work)
            {
                return;
            }

            Attempt(worker, work);
            _end.Signal();
        }
    }

    private void Attempt(int worker, Action<int> work)
    {
        try
        {
            work(worker);
        }
#pragma warning disable CA1031 // whatever it is, it is thrown on by Run
        catch (Exception error)
#pragma warning restore CA1031
        {
            _errors[worker] = error;
        }
    }
}
