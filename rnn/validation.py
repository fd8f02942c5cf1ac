"""How good M is on episodes it was not trained on: likelihood of z, and precision, recall and calibration of done."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from experiment.backend import graph, tf
from experiment.progress import percent
from rnn.mixture import log_likelihood
from rnn.model import MDNRNN
from rnn.series import Batch
from rnn.unrolled import LSTMState, run_sequence

BINS = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Edges of the calibration table: endings are rare, so small probabilities are where it is decided."""


class Validation(NamedTuple):
    """Figures of the held-out episodes; NaN where there was nothing to measure."""

    loss: float  # what checkpoints are chosen by: the training loss on held-out episodes
    z_nll: float  # mean of -log p(z[t+1]), nats per latent dimension
    done_loss: float  # mean weighted cross-entropy, as in training
    precision: float  # of the endings that M predicts (logit above 0, as in the dream), the share that are
    recall: float  # of the endings, the share that M predicts at the very step
    endings: int
    reward_error: float  # mean squared error of the reward; 0 if M does not predict it
    reward_explained: float  # 1 - reward_error / the reward's variance: 0 is what a constant reaches, 1 is perfect
    calibration_error: float  # the mean of |predicted - observed| over all steps, as in the table
    calibration: dict[str, list[float]]  # a reliability table: see `calibrate`

    def summary(self) -> dict[str, Any]:
        """Everything, for results.json, which does not know NaN."""

        def known(value: Any) -> Any:
            if isinstance(value, dict):
                return {name: [known(number) for number in column] for name, column in value.items()}
            return value if math.isfinite(value) else None

        return {name: known(value) for name, value in self._asdict().items()}


class Validator:
    """Validates one model again and again; compiled once.

    done_weight: that of training. It shifts M's logit by its logarithm; calibration looks at what is left
    when that is taken off again.
    """

    def __init__(self, model: MDNRNN, done_weight: float, reward_weight: float = 0.0):
        self.model, self.done_weight, self.reward_weight = model, done_weight, reward_weight
        self.predict = graph(self._predict)
        self.read = graph(self._read, jit_compile=True)

    def _predict(self, inputs: Any, keep: Any, z: Any, state: LSTMState) -> tuple[Any, Any, Any, LSTMState]:
        hidden, state = run_sequence(self.model, inputs, keep, state)
        hidden = tf.reshape(hidden, (-1, self.model.hidden))  # (T·B, H)
        product = tf.matmul(hidden, tf.cast(self.model.output_kernel, hidden.dtype))
        return *self.read(product, tf.reshape(z, (-1, self.model.latent_size))), state

    def _read(self, product: Any, z: Any) -> tuple[Any, Any, Any]:
        """The head's product (N, 3KZ [+1] [+1]) and z[t+1] (N, Z) to -log p, the done logit and the reward, (N,) each."""
        mixture, reward, logit = self.model.split(tf.cast(product, tf.float32) + self.model.output_bias)
        nll = -tf.reduce_mean(log_likelihood(mixture, z), axis=1)
        return nll, *(tf.zeros_like(nll) if part is None else part for part in (logit, reward))

    def __call__(self, batches: Iterable[Batch]) -> Validation:
        """Validate on batches that follow each other, from an empty state."""
        state = None
        nlls, logits, labels, rewards, predicted = [], [], [], [], []
        for batch in batches:
            if state is None:
                zeros = tf.zeros((batch.keep.shape[1], self.model.hidden))
                state = LSTMState(zeros, zeros)
            nll, logit, reward, state = self.predict(
                tf.constant(batch.inputs), tf.constant(batch.keep), tf.constant(batch.z), state
            )
            known = (batch.done_mask.ravel() > 0) & self.model.predict_done
            nlls.append(nll.numpy()[batch.z_mask.ravel() > 0])
            logits.append(logit.numpy()[known])
            labels.append(batch.done.ravel()[known] > 0)
            told = (batch.reward_mask.ravel() > 0) & self.model.predict_reward
            rewards.append(batch.reward.ravel()[told])
            predicted.append(reward.numpy()[told])
        nll, logit, label, reward, guess = map(np.concatenate, (nlls, logits, labels, rewards, predicted))
        return figures(nll, logit, label, reward, guess, self.done_weight, self.reward_weight)


def figures(
    nll: np.ndarray,
    logit: np.ndarray,
    ended: np.ndarray,
    reward: np.ndarray,
    predicted: np.ndarray,
    done_weight: float,
    reward_weight: float = 0.0,
) -> Validation:
    """Of steps: -log p (any number), done logits and whether the episode ended (N,), rewards and what was predicted (R,)."""
    entropy = np.logaddexp(0, np.where(ended, -logit, logit))  # (N,)
    hits, alarms, endings = (int(np.sum(part)) for part in ((logit > 0) & ended, logit > 0, ended))
    z_nll = float(nll.mean())
    done_loss = float(np.mean(entropy * np.where(ended, done_weight, 1))) if len(logit) else 0.0
    reward_error = float(np.mean(np.square(predicted - reward))) if len(reward) else 0.0
    variance = float(np.var(reward)) if len(reward) else 0.0
    table = calibrate(1 / (1 + np.exp(np.log(done_weight) - logit)), ended)
    gaps = np.abs(np.subtract(table["predicted"], table["observed"]))
    return Validation(
        loss=z_nll + done_loss + reward_weight * reward_error,
        z_nll=z_nll,
        done_loss=done_loss,
        precision=hits / alarms if alarms else math.nan,
        recall=hits / endings if endings else math.nan,
        endings=endings,
        reward_error=reward_error,
        reward_explained=1 - reward_error / variance if variance else math.nan,
        calibration_error=float(np.nansum(gaps * table["steps"]) / max(len(logit), 1)),
        calibration=table,
    )


def calibrate(probability: np.ndarray, ended: np.ndarray) -> dict[str, list[float]]:
    """The reliability table of predicted probabilities (N,) against what happened (N,) bool.

    Of the steps whose probability lies between two `edges`: how many `steps`, the mean probability that was `predicted`,
    and the share at which the episode was `observed` to end; NaN where there are no steps.
    """
    place = np.digitize(probability, BINS[1:-1])  # (N,), 0 .. bins - 1
    steps, predicted, observed = (
        np.bincount(place, weights, minlength=len(BINS) - 1) for weights in (None, probability, ended)
    )
    with np.errstate(invalid="ignore"):
        means = {"predicted": (predicted / steps).tolist(), "observed": (observed / steps).tolist()}
    return {"edges": list(BINS), "steps": steps.tolist(), **means}


def in_short(v: Validation) -> str:
    """The figures as the middle of a line."""
    parts = [f"held out z {v.z_nll:.4f} nats"]
    if v.endings:
        found = f"precision {percent(v.precision)}, recall {percent(v.recall)} of {v.endings} endings"
        parts.append(f"done {v.done_loss:.4f} ({found})")
    if math.isfinite(v.reward_explained):
        parts.append(f"reward {percent(v.reward_explained)} of its variance explained")
    return ", ".join(parts)


def describe(v: Validation) -> str:
    """The figures as a few lines for a terminal, with the reliability table of `done`."""
    lines = [f"M on held-out episodes: z {v.z_nll:.4f} nats per dimension, done loss {v.done_loss:.4f}"]
    if v.endings:
        lines += [
            f"  of {v.endings} endings {percent(v.recall)} are predicted at the very step (recall), {percent(v.precision)} of the predictions are right (precision)",
            "  predicted probability of an ending, and how often it came:",
        ]
        edges, *columns = v.calibration.values()
        lines += [
            f"    {low:5g} to {high:5g}: {p:.4f} {share:.4f} ({n:,} steps)"
            for low, high, n, p, share in zip(edges[:-1], edges[1:], *columns, strict=True)
            if n
        ]
        lines.append(f"    expected calibration error {v.calibration_error:.5f}")
    if math.isfinite(v.reward_explained):
        lines.append(f"  reward: {v.reward_explained:.0%} of its variance is explained")
    return "\n".join(lines)
