"""M over whole sequences, fast, in TensorFlow: the same numbers and gradients as `MDNRNN.step` in a loop.

What makes it 2 to 3 times as fast as `keras.layers.LSTM` on a CPU:

- Time is unrolled into the graph. The products run as they are (oneDNN, bfloat16 where M computes in it),
  and what lies between two of them is one small function compiled by XLA.
- The kernel's gradient is one product over all time steps after the loop backwards, not a sum of T products.
- Sequences are time-major, (T, B, ...), so that a time step is a contiguous block.
- The mixture's loss and its gradient are compiled together, so that nothing of size (N, K, Z) is stored.

Only the order of the products is written by hand; every derivative is TensorFlow's own.
"""

from typing import Any, NamedTuple

from experiment.backend import graph, tf
from rnn.mixture import log_likelihood
from rnn.model import MDNRNN, lstm, unaligned
from rnn.series import Batch

Tensor = Any


class LSTMState(NamedTuple):
    """M's memory: h and c, each (B, H) float32."""

    h: Tensor
    c: Tensor


class Losses(NamedTuple):
    """The parts of M's loss; 0 for what it does not predict."""

    z_nll: Tensor
    done_loss: Tensor
    reward_error: Tensor


def gates_of(product: Tensor, bias: Tensor) -> list[Tensor]:
    """The four gates, (B, H) float32 each, of their product (B, 4H or more)."""
    return tf.split(tf.cast(product[:, : bias.shape[0]], tf.float32) + bias, 4, axis=1)  # type: ignore[no-any-return]


@graph(jit_compile=True)
def remember(product: Tensor, bias: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """The gates' product (B, 4H or more) and c (B, H) to the next h, in the product's dtype, and c."""
    h, c = lstm(gates_of(product, bias), c)
    return tf.cast(h, product.dtype), c


@graph(jit_compile=True)
def remember_gradient(product: Tensor, bias: Tensor, c: Tensor, dh: Tensor, dc: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients by `product` and `c`, from those by the next h and c. Computes the gates again: cheaper than to store them."""
    with tf.GradientTape() as tape:
        tape.watch([product, c])
        following = lstm(gates_of(product, bias), c)
    return tape.gradient(following, [product, c], output_gradients=[tf.cast(dh, tf.float32), dc])


def run_sequence(
    model: MDNRNN, inputs: Tensor, keep: Tensor, state: LSTMState, mask: Tensor | None = None
) -> tuple[Tensor, LSTMState]:
    """The LSTM over T steps (paper, section 2.2), differentiable by M's weights only (truncated at the window).

    inputs: (T, B, I) float32. keep: (T, B) float32, 0 where an episode begins and the memory is emptied, else 1.
    state: before the first step. mask: (B, I+H), see `MDNRNN.mask`. Returns every h (T, B, H) in M's compute dtype, and the
    state after the last.
    """
    steps, dtype = inputs.shape[0], model.compute_dtype
    inputs = tf.unstack(tf.cast(inputs, dtype))  # T of (B, I)
    keep, keep_low = tf.unstack(keep[:, :, None]), tf.unstack(tf.cast(keep[:, :, None], dtype))  # T of (B, 1)
    masked, known = (1, 1) if mask is None else (tf.cast(mask, dtype), tf.cast(mask[:, model.input_size :], dtype))

    @tf.custom_gradient
    def unrolled(kernel: Tensor, bias: Tensor) -> Any:
        width = kernel.shape[1]  # 4H
        kernel = unaligned(tf.cast(kernel, dtype))  # (I+H, W)
        seen, products, memories, hidden = [], [], [], []
        h, c = tf.cast(state.h, dtype), state.c
        for t in range(steps):
            seen.append(tf.concat([inputs[t], h * keep_low[t]], axis=1) * masked)  # (B, I+H)
            memories.append(c * keep[t])
            products.append(tf.matmul(seen[t], kernel))  # (B, W)
            h, c = remember(products[t], bias, memories[t])
            hidden.append(h)

        def gradient(*upstream: Tensor) -> tuple[Tensor, Tensor]:
            from_output = tf.unstack(upstream[0])  # T of (B, H)
            dh, dc = tf.zeros_like(from_output[0]), tf.zeros_like(state.c)
            recurrent = kernel[model.input_size :]  # (H, W)
            gates: list[Tensor] = [None] * steps
            for t in reversed(range(steps)):
                gates[t], dc = remember_gradient(products[t], bias, memories[t], from_output[t] + dh, dc)
                dh = tf.matmul(gates[t], recurrent, transpose_b=True) * keep_low[t] * known
                dc *= keep[t]
            gate, before = tf.concat(gates, axis=0), tf.concat(seen, axis=0)  # (T·B, W), (T·B, I+H)
            by_kernel = tf.matmul(before, gate, transpose_a=True)  # (I+H, W)
            by_bias = tf.matmul(tf.ones((1, gate.shape[0]), dtype), gate)[0]  # (W,): a sum over rows, but in threads
            return tf.cast(by_kernel[:, :width], tf.float32), tf.cast(by_bias[:width], tf.float32)

        return (tf.stack(hidden), tf.cast(h, tf.float32), c), gradient

    hidden, h, c = unrolled(tf.convert_to_tensor(model.kernel), tf.convert_to_tensor(model.bias))
    return hidden, LSTMState(tf.stop_gradient(h), tf.stop_gradient(c))


def losses(model: MDNRNN, outputs: Tensor, targets: Batch, done_weight: float) -> Losses:
    """The parts of M's loss: those of z and done as in the original experiment, and the reward's.

    z_nll: the mean of -log p(z[t+1]) over all rows that have a z[t+1] and over the Z dimensions, in nats.
    done_loss: the mean cross-entropy over the rows where the ending is known, endings counted `done_weight` times
    (the divisor stays the number of rows). reward_error: the mean squared error.
    outputs: the output layer's numbers (N, 3KZ [+1] [+1]) in float32. targets: a batch whose N = T·B steps are rows.
    """
    predicted = model.split(outputs)
    zero = tf.zeros(())
    nll = -tf.reduce_mean(log_likelihood(predicted.mixture, targets.z), axis=1)  # (N,)
    z_nll = masked_mean(nll, targets.z_mask)
    done_loss, reward_error = zero, zero
    if predicted.done_logit is not None:
        entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=targets.done, logits=predicted.done_logit)
        done_loss = masked_mean(entropy * (1 + (done_weight - 1) * targets.done), targets.done_mask)
    if predicted.reward is not None:
        reward_error = masked_mean(tf.square(predicted.reward - targets.reward), targets.reward_mask)
    return Losses(z_nll, done_loss, reward_error)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean of those values (N,) whose mask (N,) is 1; 0 if there are none."""
    return tf.reduce_sum(values * mask) / tf.maximum(tf.reduce_sum(mask), 1)


def loss_of_hidden(
    model: MDNRNN, hidden: Tensor, targets: Batch, done_weight: float, reward_weight: float = 0.0
) -> tuple[Tensor, Losses]:
    """The loss of what h predicts, differentiable by M's output layer and h; and its parts, which are not.

    hidden: (T, B, H) as from `run_sequence`. The loss is z's plus done's plus reward_weight times the reward's.
    """

    @graph(jit_compile=True)
    def loss_and_gradient(product: Tensor, bias: Tensor, targets: Batch) -> Any:
        with tf.GradientTape() as tape:
            tape.watch([product, bias])
            parts = losses(model, tf.cast(product, tf.float32) + bias, targets, done_weight)
            total = parts.z_nll + parts.done_loss + reward_weight * parts.reward_error
        return (total, *parts), tape.gradient(total, [product, bias])

    @tf.custom_gradient
    def compiled(product: Tensor, bias: Tensor) -> Any:
        values, gradients = loss_and_gradient(product, bias, targets)
        return values, lambda upstream, *_: [tf.cast(upstream, gradient.dtype) * gradient for gradient in gradients]

    hidden = tf.reshape(hidden, (-1, model.hidden))  # (T·B, H)
    product = tf.matmul(hidden, tf.cast(model.output_kernel, hidden.dtype))  # (T·B, 3KZ [+1] [+1])
    total, *parts = compiled(product, tf.convert_to_tensor(model.output_bias))
    return total, Losses(*parts)
