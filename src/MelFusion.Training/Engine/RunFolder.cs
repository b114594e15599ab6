namespace MelFusion.Training.Engine;

/// <summary>The folder of one training run: checkpoints, curves, samples, caches.</summary>
internal sealed class RunFolder
{
    /// <summary>Makes the folder where it is missing.</summary>
    public RunFolder(string path)
    {
        Path = System.IO.Path.GetFullPath(path);
        Directory.CreateDirectory(Path);
    }

    /// <summary>The folder.</summary>
    public string Path { get; }

    /// <summary>Checkpoints.</summary>
    public string Checkpoints => Folder("checkpoints");

    /// <summary>Samples and pictures made on the way.</summary>
    public string Samples => Folder("samples");

    /// <summary>A file in the folder.</summary>
    public string File(string name) => System.IO.Path.Combine(Path, name);

    private string Folder(string name) => Directory.CreateDirectory(File(name)).FullName;
}
