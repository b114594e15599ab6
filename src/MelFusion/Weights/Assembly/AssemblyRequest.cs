using MelFusion.Image;

namespace MelFusion.Weights.Assembly;

/// <summary>What a model is put together from.</summary>
public sealed record AssemblyRequest
{
    /// <summary>A Stable Diffusion 1.5, 2.1 or 2.1-base in diffusers' layout: a folder, or the name of a repository in the hub's cache.</summary>
    public required string Image { get; init; }

    /// <summary>TANGO or a fine-tune of it, in its authors' layout: a folder, or the name of a repository in the hub's cache.</summary>
    public required string Music { get; init; }

    /// <summary>A folder or repository with config and tokenizer of the music's text encoder; null: what TANGO's main_config.json names.</summary>
    public string? TextEncoder { get; init; }

    /// <summary>
    /// An AudioLDM release whose autoencoder, scale and vocoder take the place of TANGO's: a folder or repository of diffusers, or an
    /// original .ckpt file.
    /// </summary>
    public string? Vae { get; init; }

    /// <summary>A file with trained alphas: synapse weights, or a checkpoint of MELFUSION's authors; null: alphas as training starts.</summary>
    public string? Synapse { get; init; }

    /// <summary>The size at which pictures are read.</summary>
    public PictureSize PictureSize { get; init; } = new(512, 512);

    /// <summary>The model folder to make.</summary>
    public required string Output { get; init; }

    /// <summary>Whether safetensors files are copied into the model folder; else they are linked to where they lie.</summary>
    public bool CopyFiles { get; init; }

    /// <summary>Whether an existing model folder is replaced.</summary>
    public bool Overwrite { get; init; }
}

/// <summary>A model that was put together.</summary>
/// <param name="Folder">The folder.</param>
/// <param name="Remarks">What a person should know of it, a sentence each.</param>
public sealed record AssemblyReport(ModelFolder Folder, IReadOnlyList<string> Remarks);
