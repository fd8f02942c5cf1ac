"""V and M against the same networks in PyTorch, which is what a user would else take; left out where it is not installed."""

import contextlib
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np

from benchmarks.measure import Measurement, best_rate
from benchmarks.networks import M_FRAME, V_ENCODED, V_FRAME, m_rate, random_batch, repeat, v_rate
from experiment.backend import tf
from experiment.config import load_config
from experiment.hardware import thread_count
from experiment.schema import Experiment
from vae.model import VAE

STEPS = 5
ENCODED = 2048
"""Frames, in memory."""


def measure() -> Iterator[Measurement]:
    """Frames a second of both, one after the other, in the faster of PyTorch's two precisions."""
    if not find_spec("torch"):
        print("PyTorch is not installed: it is not measured")
        return
    import torch

    torch.set_num_threads(thread_count())
    settings = load_config("configs/doom.yaml")
    frames = np.random.default_rng(0).integers(0, 256, (ENCODED, 64, 64, 3), np.uint8)
    z, batch = settings.vae.z, frames[: settings.vae.batch]
    yield row("V training", v_rate(settings.vae, batch), train_v(z, batch), V_FRAME)
    yield row("encoding", our_encoding(settings, frames), encode(z, frames, settings.hardware.encode_batch), V_ENCODED)
    yield row("M training", m_rate(settings), train_m(settings), M_FRAME)


def row(name: str, ours: float, theirs: tuple[float, str], flop: float) -> Measurement:
    """Theirs is the baseline."""
    return Measurement(f"{name}, PyTorch", "frames", ours, theirs[0], f"PyTorch, {theirs[1]}", flop)


def our_encoding(settings: Experiment, frames: np.ndarray) -> float:
    """Of frames in memory, as theirs."""
    vae, size = VAE(settings.vae.z), settings.hardware.encode_batch
    encode = tf.function(vae.encode, input_signature=[tf.TensorSpec((None, 64, 64, 3), tf.uint8)])

    def action() -> int:
        for first in range(0, len(frames), size):
            encode(frames[first : first + size])[0].numpy()
        return len(frames)

    return best_rate(action)


def faster(action: Callable[[], float]) -> tuple[float, str]:
    """The better of an action's two rates, and the precision that it has it in."""
    import torch

    rates = {}
    for name in ("float32", "bfloat16"):
        # Some processors cannot do all layers in bfloat16.
        with contextlib.suppress(RuntimeError), torch.autocast("cpu", torch.bfloat16, enabled=name == "bfloat16"):
            rates[name] = best_rate(action, repeats=2)
    return max((rate, name) for name, rate in rates.items())


def make_vae(z: int) -> tuple[Any, Any]:
    """Encoder and decoder."""
    from torch import channels_last, nn

    down = [(3, 32), (32, 64), (64, 128), (128, 256)]
    up = [(1024, 128, 5), (128, 64, 5), (64, 32, 6)]
    encoder = [layer for i, o in down for layer in (nn.Conv2d(i, o, 4, 2), nn.ReLU())]
    decoder = [layer for i, o, k in up for layer in (nn.ConvTranspose2d(i, o, k, 2), nn.ReLU())]
    return (
        nn.Sequential(*encoder, nn.Flatten(), nn.Linear(1024, 2 * z)).to(memory_format=channels_last),
        nn.Sequential(
            nn.Linear(z, 1024), nn.Unflatten(1, (1024, 1, 1)), *decoder, nn.ConvTranspose2d(32, 3, 6, 2), nn.Sigmoid()
        ).to(memory_format=channels_last),
    )  # fmt: skip


def as_images(frames: np.ndarray) -> Any:
    """(N, 3, 64, 64) in [0, 1], whose channels stay last in memory."""
    import torch

    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255


def train_v(z: int, batch: np.ndarray) -> tuple[float, str]:
    """Steps on one batch."""
    import torch

    encoder, decoder = make_vae(z)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 1e-4, fused=True)

    def step() -> None:
        images = as_images(batch)
        mu, logvar = encoder(images).chunk(2, 1)
        decoded = decoder(mu + torch.exp(logvar / 2) * torch.randn_like(mu)).float()
        kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).float().sum(1)
        loss = ((images - decoded) ** 2).sum((1, 2, 3)).mean() + kl.clamp(min=0.5 * z).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return faster(lambda: repeat(step, STEPS) * len(batch))


def encode(z: int, frames: np.ndarray, size: int) -> tuple[float, str]:
    """Batch by batch, as in our stage."""
    import torch

    encoder, _ = make_vae(z)

    @torch.inference_mode()
    def action() -> int:
        for first in range(0, len(frames), size):
            encoder(as_images(frames[first : first + size]))
        return len(frames)

    return faster(action)


def train_m(settings: Experiment) -> tuple[float, str]:
    """Steps on one batch of windows."""
    import torch
    from torch import nn
    from torch.nn import functional

    m, z = settings.rnn, settings.vae.z
    noise = random_batch(m.window, m.streams, z)
    inputs, target, done = (torch.from_numpy(part) for part in (noise.inputs, noise.z, noise.done))
    lstm, head = nn.LSTM(inputs.shape[-1], m.hidden), nn.Linear(m.hidden, 3 * m.mixtures * z + 1)
    parameters = [*lstm.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, 1e-3, fused=True)

    def step() -> None:
        outputs = head(lstm(inputs)[0]).float()  # (T, B, 3·K·Z + 1)
        log_mix, mean, log_std = outputs[..., :-1].unflatten(-1, (3, m.mixtures, z)).unbind(2)  # each (T, B, K, Z)
        normal = -0.5 * ((target[:, :, None] - mean) * torch.exp(-log_std)) ** 2 - log_std
        likelihood = torch.logsumexp(log_mix.log_softmax(2) + normal, 2)
        loss = functional.binary_cross_entropy_with_logits(outputs[..., -1], done) - likelihood.mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    return faster(lambda: repeat(step, 3) * m.window * m.streams)
