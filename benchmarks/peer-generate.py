#!/usr/bin/env python3
"""Times the straightforward pipeline of the paper's Algorithm 2 on PyTorch, diffusers and transformers, on a MelFusion model folder.

Straightforward: the picture's UNet is called in full at every step of the inversion and again at every denoising step, the text's keys and
values are projected at every step, and the synapse blends pooled keys and values row by row. Guidance is on, both branches in one batch. The
text encoder, both autoencoders and the vocoder compute in fp32, the UNets in the precision asked for. Nothing refines the sound.

Not in the time: loading, and reading the picture, whose pixels are random here. Left out: the synapse's standardisation. Its alphas are 0.1
and the vocoder's weights random, as speed does not depend on them.

One JSON line per precision, in the form of MelFusion's own benchmarks:
    python peer-generate.py --model models/melfusion-mini --packages FOLDER --dtype fp32 --threads 2
"""
import argparse, json, os, statistics, sys, time, warnings

PROMPT = "calm acoustic guitar by the sea"
ALPHA, GUIDANCE, SEED = 0.1, 3.0, 1


def read_json(*path):
    with open(os.path.join(*path)) as file:
        return json.load(file)


class SelfAttentionRecorder:
    """Keeps what to_k and to_v of the self-attention of some transformer layers gave in the last call."""

    def __init__(self, unet, layers):
        self.seen = {}
        for layer in layers:
            attention = unet.get_submodule(layer).transformer_blocks[0].attn1
            for name in ("to_k", "to_v"):
                getattr(attention, name).register_forward_hook(self._keep(layer, name))

    def _keep(self, layer, name):
        def keep(module, inputs, output):
            self.seen[layer, name] = output
        return keep


class BlendingProcessor:
    """Cross-attention whose keys and values are (1 - alpha) the text's and alpha the picture's, pooled to the number of valid tokens."""

    def __init__(self, layer, recorder):
        self.layer, self.recorder, self.mask = layer, recorder, None

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, **_):
        q = attn.to_q(hidden_states)
        k = self._blend(attn.to_k(encoder_hidden_states), self.recorder.seen[self.layer, "to_k"])
        v = self._blend(attn.to_v(encoder_hidden_states), self.recorder.seen[self.layer, "to_v"])
        q, k, v = (x.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for x in (q, k, v))
        bias = None if attention_mask is None else attention_mask.unsqueeze(1)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return attn.to_out[0](y.transpose(1, 2).flatten(2))

    def _blend(self, text, picture):
        blended = text.clone()
        for row in range(text.shape[0]):
            valid = self.mask[row]
            pooled = F.adaptive_avg_pool1d(picture[0].T[None], int(valid.sum()))[0].T
            blended[row, valid] = (1 - ALPHA) * text[row, valid] + ALPHA * pooled
        return blended


class Pipeline:
    def __init__(self, folder, dtype, steps):
        self.dtype, self.steps = dtype, steps
        self.defaults = read_json(folder, "melfusion.json")
        load = dict(low_cpu_mem_usage=False)
        self.image, self.music = (
            diffusers.UNet2DConditionModel.from_pretrained(folder, subfolder=part, torch_dtype=dtype, **load).eval() for part in ("image_unet", "unet"))
        self.image_vae, self.vae = (
            diffusers.AutoencoderKL.from_pretrained(folder, subfolder=part, torch_dtype=torch.float32, **load).eval() for part in ("image_vae", "vae"))
        self.vocoder_config = read_json(folder, "vocoder", "config.json")
        self.vocoder = self._vocoder(self.vocoder_config).eval()
        self.text = transformers.BertModel.from_pretrained(os.path.join(folder, "text_encoder"), torch_dtype=torch.float32).eval()
        self.tokenizer = transformers.BertTokenizer(os.path.join(folder, "tokenizer", "vocab.txt"))
        self.null = load_file(os.path.join(folder, "image_null_text", "model.safetensors"))["states"].to(dtype)
        self.inversion = diffusers.DDIMInverseScheduler.from_pretrained(folder, subfolder="image_scheduler")
        self.image_scheduler = diffusers.DDIMScheduler.from_pretrained(folder, subfolder="image_scheduler")
        self.scheduler = diffusers.DDIMScheduler.from_pretrained(folder, subfolder="scheduler")

        layers = [name.removesuffix(".transformer_blocks.0") for name, _ in self.music.named_modules()
                  if name.startswith("up_blocks") and name.endswith(".transformer_blocks.0")]
        self.recorder = SelfAttentionRecorder(self.image, layers)
        self.blends = {layer: BlendingProcessor(layer, self.recorder) for layer in layers}
        processors = dict(self.music.attn_processors)
        for layer, blend in self.blends.items():
            processors[f"{layer}.transformer_blocks.0.attn2.processor"] = blend
        self.music.set_attn_processor(processors)

    @staticmethod
    def _vocoder(config):
        return transformers.SpeechT5HifiGan(transformers.SpeechT5HifiGanConfig(
            model_in_dim=config["num_mels"], sampling_rate=config["sampling_rate"], upsample_initial_channel=config["upsample_initial_channel"],
            upsample_rates=config["upsample_rates"], upsample_kernel_sizes=config["upsample_kernel_sizes"],
            resblock_kernel_sizes=config["resblock_kernel_sizes"], resblock_dilation_sizes=config["resblock_dilation_sizes"], normalize_before=False))

    def generate(self):
        tokens = self.tokenizer(["", PROMPT], padding=True, return_tensors="pt")
        states = self.text(**tokens).last_hidden_state.to(self.dtype)
        mask = tokens["attention_mask"].bool()
        for blend in self.blends.values():
            blend.mask = mask

        z = self._invert(self._picture())
        x = self._denoise(z, states, mask)
        mel = self.vae.decode(x / self.vae.config.scaling_factor).sample
        return self.vocoder(mel[:, 0])

    def _picture(self):
        pixels = torch.rand(1, 3, self.defaults["picture_height"], self.defaults["picture_width"]) * 2 - 1
        return self.image_vae.encode(pixels).latent_dist.mode() * self.image_vae.config.scaling_factor

    def _invert(self, z):
        self.inversion.set_timesteps(self.steps)
        for t in self.inversion.timesteps:
            z = self.inversion.step(self.image(z.to(self.dtype), t, self.null).sample.float(), t, z).prev_sample
        return z

    def _denoise(self, z, states, mask):
        factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        x = torch.randn(1, self.vae.config.latent_channels, self.defaults["mel_frames"] // factor, self.vocoder_config["num_mels"] // factor)
        for scheduler in (self.image_scheduler, self.scheduler):
            scheduler.set_timesteps(self.steps)
        for t in self.scheduler.timesteps:
            predicted = self.image(z.to(self.dtype), t, self.null).sample.float()
            z = self.image_scheduler.step(predicted, t, z).prev_sample
            both = self.music(torch.cat([x, x]).to(self.dtype), t, states, encoder_attention_mask=mask).sample.float()
            unconditional, conditional = both.chunk(2)
            x = self.scheduler.step(unconditional + GUIDANCE * (conditional - unconditional), t, x).prev_sample
        return x


def measure(dtype, options):
    pipeline = Pipeline(options.model, dtype, options.steps)
    clock = time.perf_counter if options.clock == "wall" else lambda: time.process_time() / options.threads
    torch.manual_seed(SEED)
    pipeline.generate()
    times = []
    while len(times) < options.runs or sum(times) < options.seconds:
        start = clock()
        pipeline.generate()
        times.append(clock() - start)
    return {
        "case": "generate", "precision": "fp32" if dtype == torch.float32 else "bf16", "threads": options.threads, "clock": options.clock,
        "mode": "eager", "median_s": round(statistics.median(times), 5), "min_s": round(min(times), 5), "runs": len(times),
        "roofline_fraction": None, "load": round(os.getloadavg()[0], 2)}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a model folder with HiFi-GAN and a text encoder of BERT's kind, such as melfusion-mini")
    parser.add_argument("--packages", help="folder of torch, diffusers and transformers, where they are not installed")
    parser.add_argument("--dtype", choices=["fp32", "bf16", "both"], default="both")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--runs", type=int, default=3, help="timed runs at least")
    parser.add_argument("--seconds", type=float, default=0, help="and go on for at least this long")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--steps", type=int, default=25, help="of inversion and of denoising")
    return parser.parse_args()


if __name__ == "__main__":
    options = arguments()
    if options.packages:
        sys.path.insert(0, options.packages)
    warnings.filterwarnings("ignore")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    import torch, diffusers, transformers
    import torch.nn.functional as F
    from safetensors.torch import load_file

    diffusers.utils.logging.set_verbosity_error()
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    torch.set_grad_enabled(False)
    for chosen in {"fp32": [torch.float32], "bf16": [torch.bfloat16], "both": [torch.float32, torch.bfloat16]}[options.dtype]:
        print(json.dumps(measure(chosen, options)), flush=True)
