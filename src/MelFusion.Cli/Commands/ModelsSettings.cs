using MelFusion.Image;

namespace MelFusion.Cli.Commands;

/// <summary>What <c>melfusion models inspect</c> was asked for.</summary>
internal sealed record ModelsInspectSettings
{
    /// <summary>The file: safetensors, PyTorch (.bin, .pt, .pth, .ckpt), or the index of a sharded checkpoint.</summary>
    public required string File { get; init; }

    /// <summary>In a PyTorch file, the name of the dict that holds the tensors (default: found by itself).</summary>
    public string? At { get; init; }

    /// <summary>Print one line of JSON for scripts on standard output.</summary>
    public bool Json { get; init; }
}

/// <summary>What <c>melfusion models pull</c>, <c>verify</c> and <c>remove</c> were asked for.</summary>
internal sealed record ModelsHubSettings
{
    /// <summary>The repository on the hub, as "owner/name".</summary>
    public required string Repository { get; init; }

    /// <summary>A branch, a tag or a commit (default: main).</summary>
    public string? Revision { get; init; }

    /// <summary>Only files whose path fits this shell pattern, such as 'unet/*' or '*.json'; may be given several times (default: all, without .bin files that are there as .safetensors too).</summary>
    public IReadOnlyList<string> Include { get; init; } = [];

    /// <summary>No files whose path fits this shell pattern; may be given several times.</summary>
    public IReadOnlyList<string> Exclude { get; init; } = [];

    /// <summary>Print one line of JSON for scripts on standard output; everything else goes to standard error.</summary>
    public bool Json { get; init; }
}

/// <summary>What <c>melfusion models assemble</c> was asked for.</summary>
internal sealed record ModelsAssembleSettings
{
    /// <summary>Stable Diffusion 1.5, 2.1 or 2.1-base in diffusers' layout: a folder, or the name of a pulled repository.</summary>
    public required string Image { get; init; }

    /// <summary>TANGO or a fine-tune of it as its authors publish it: a folder, or the name of a pulled repository.</summary>
    public required string Music { get; init; }

    /// <summary>Folder or pulled repository with config and tokenizer of the music's text encoder (default: what TANGO names).</summary>
    public string? TextEncoder { get; init; }

    /// <summary>An AudioLDM release whose autoencoder, scale and vocoder are taken: a folder, a pulled repository, or the original .ckpt file (default: TANGO's own).</summary>
    public string? Vae { get; init; }

    /// <summary>A file with trained alphas, or init: as training starts (default: init, or the alphas in the music's checkpoint).</summary>
    public string? Synapse { get; init; }

    /// <summary>The size at which pictures are read, as WIDTHxHEIGHT (default: 512x512).</summary>
    public PictureSize ImageSize { get; init; }

    /// <summary>The model folder to make, such as models/NAME.</summary>
    public required string Output { get; init; }

    /// <summary>Copy safetensors files into the model folder instead of linking to them.</summary>
    public bool Copy { get; init; }

    /// <summary>Replace the output where it exists.</summary>
    public bool Overwrite { get; init; }
}
