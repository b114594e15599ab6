using System.Text.Json;
using System.Text.Json.Nodes;
using MelFusion.Noise;
using MelFusion.Synapse;
using MelFusion.UNet;
using MelFusion.Vae;
using MelFusion.Wave;
using MelFusion.Weights;

namespace MelFusion.Training;

/// <summary>What a model folder that training starts from states about its parts, as sections of a training config.</summary>
internal static class StartingPoint
{
    /// <summary>The sections, with a setting for each config there is; a part that the folder lacks is not mentioned.</summary>
    /// <param name="folder">The model folder; it need not be whole.</param>
    /// <param name="json">How training configs are written.</param>
    /// <exception cref="MelFusionException">A config cannot be read.</exception>
    public static JsonObject Of(string folder, JsonSerializerOptions json)
    {
        if (!Directory.Exists(folder))
        {
            throw new MelFusionException($"{folder}: there is no such folder to start from.");
        }

        JsonObject melVae = [], imageVae = [], imageLdm = [], musicLdm = [];
        void Add<T>(JsonObject section, string setting, string part, Func<string, T> read, string file = "config.json")
        {
            string path = Path.Combine(folder, part, file);
            if (File.Exists(path))
            {
                section[setting] = JsonSerializer.SerializeToNode(read(path), json);
            }
        }

        Add(melVae, "network", "vae", AutoencoderKlConfig.Read);
        Add(melVae, "mel", "mel", ConfigFile.Read<MelConfig>);
        Add(melVae, "mel_frames", string.Empty, path => ConfigFile.Read<ModelDefaults>(path).MelFrames, "melfusion.json");
        Add(imageVae, "network", "image_vae", AutoencoderKlConfig.Read);
        Add(imageLdm, "network", "image_unet", ConfigFile.Read<UNetConfig>);
        Add(imageLdm, "schedule", "image_scheduler", ConfigFile.Read<NoiseScheduleConfig>, "scheduler_config.json");
        Add(musicLdm, "network", "unet", ConfigFile.Read<UNetConfig>);
        Add(musicLdm, "schedule", "scheduler", ConfigFile.Read<NoiseScheduleConfig>, "scheduler_config.json");
        Add(musicLdm, "synapse", "synapse", ConfigFile.Read<SynapseConfig>);
        return new() { ["mel_vae"] = melVae, ["image_vae"] = imageVae, ["image_ldm"] = imageLdm, ["music_ldm"] = musicLdm };
    }
}
