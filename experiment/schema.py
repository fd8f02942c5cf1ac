"""Every setting there is: its type, default, limits and meaning.

A YAML file in `configs/` gives an experiment its values and presets; `experiment/config.py` reads it.
The text of each setting is what `--help` prints.
"""

from dataclasses import Field, dataclass, field, replace
from math import inf, isfinite
from typing import Any, Literal, get_args


def setting(
    default: Any, text: str, least: float = -inf, most: float = inf, *, above: float = -inf, below: float = inf
) -> Any:
    """A field with its meaning and limits: least <= value <= most, above < value < below; of a list, of each in it.

    A number has a limit at either end: what is beyond cannot be meant, only mistyped.
    """
    metadata = {"text": text, "least": least, "most": most, "above": above, "below": below}
    if isinstance(default, list | dict):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


# The most that settings of these kinds can be.
SEED = 2**32 - 1  # what libraries draw seeds from
HELD_OUT, LAST = 1_000_000, 2_000_000_000  # the seeds of episodes that extraction, training and trials never use
STEPS = 1_000_000_000
BATCH = 16_384
LONGEST = 27_000  # steps of an episode, in the world with the longest
WEIGHT = 1_000_000
TEMPERATURE = 100
OFFLINE = ("breakout", "coinrun")  # the worlds of the next-frame model, in which neither V, M nor C learns
OF_AGENT = ("vae", "rnn", "dream", "controller", "evaluate", "iterations", "repeat")  # sections that mean nothing there
OF_NEXT_FRAME = ("model", "train")  # and those that mean something only there
EXTENDABLE = ("iterations", "evaluate", "wandb", "openloop", "repeat.generations", "controller.generations",
              "controller.real_generations", "controller.trial_every", "controller.trial_episodes")  # fmt: skip
"""Settings, and sections of them, that may differ from what a run folder was begun with: more generations of the same run."""
UNRECORDED = ("env.games",)
"""Settings of how the work is done, which nothing that comes of it depends on."""


# A table: each setting with its default, its meaning and its limits.
# fmt: off
@dataclass(frozen=True)
class Env:
    """The real world."""

    name: Literal["doom", "carracing", "breakout", "coinrun", "gymnasium"] = setting("doom", "which world: doom is "
        "ViZDoom's take_cover, skill 4; carracing is CarRacing-v3; gymnasium is the one that env.id names; breakout "
        "(Atari) and coinrun (Procgen, easy levels) are those of the next-frame model")
    max_steps: int = setting(2100, "steps after which an episode is cut (the worlds' own limits: doom 2,100 tics, "
        "carracing and coinrun 1,000, breakout 27,000)", 1, LONGEST)
    games: int = setting(50, "games that one process steps side by side when C plays", 1, 4096)
    dashboard: bool = setting(False, "carracing: keep the dashboard below the picture (the paper crops it)")
    screen: Literal["160x120", "320x240", "640x480"] = setting("160x120", "doom: the game's own picture before it is "
        "shrunk; from 320x240 on what is far away is not aliased; the original's is 640x480, which is several "
        "times slower")
    flashes: bool = setting(False, "doom: the picture turns red for some two seconds after a hit, as in the original")
    start_tic: int = setting(1, "doom: the tic at which an episode begins; the original's is 14", 1, 1000)
    size: int = setting(84, "breakout, coinrun: height and width of a frame in pixels", 16, 1024)
    grey: bool = setting(True, "breakout, coinrun: grey frames; otherwise RGB")
    id: str = setting("", "gymnasium: any environment that shows pixels, as gymnasium.make takes it: CartPole-v1, or, "
        "of another package or file, module:Id-v0")
    kwargs: dict[str, Any] = setting({}, "gymnasium: other arguments of gymnasium.make, such as {g: 9.81}")
    view: Literal["auto", "observation", "render"] = setting("auto", "gymnasium: what V sees; auto: the observation "
        "where it is a picture, else what is rendered")
    crop: list[int] = setting([0, 0, 0, 0], "gymnasium: pixels cut off the picture's top, bottom, left and right "
        "before it is shrunk", 0, 10_000)
    skip: int = setting(1, "gymnasium: its steps in one step of ours, under one action; rewards are added", 1, 1000)


@dataclass(frozen=True)
class Extract:
    """Recording rollouts of a random policy."""

    episodes: int = setting(5000, "episodes to record", 2, 200_000)
    steps: int = setting(0, "steps to record, in whole episodes, instead of so many episodes (0: episodes)", 0, STEPS)
    min_steps: int = setting(100, "only longer episodes are kept; others are recorded in the shorter ones' place", 1, LONGEST)
    max_steps: int = setting(0, "episodes are cut after this many steps while recorded (0: env.max_steps)", 0, LONGEST)
    policy: Literal["held", "clocked", "per_step", "sticky", "brownian", "networks", "agent"] = setting("held",
        "held: a random action held for some steps; clocked: the same as in the original's code, which holds it for a "
        "shorter time; per_step: a new one every step; sticky: a new one or, with probability stickiness, the last one "
        "again; brownian: actions that wander; networks: random V, M and C, as in the paper; agent: the last "
        "iteration's controller with noise, which every iteration after the first plays with by itself")
    hold_max: int = setting(10, "held and clocked policy: each action lasts 1 to this many steps", 1, LONGEST)
    stickiness: float = setting(0.25, "sticky policy: probability of the last action again", 0, below=1)
    brownian_centre: list[float] = setting([0.0], "brownian policy: where each number of the action wanders about; one "
        "for all, or as many", -1, 1)
    brownian_spread: list[float] = setting([0.5], "brownian policy: standard deviation of each number; one for all, or "
        "as many", 0, 10)
    brownian_memory: float = setting(10.0, "brownian policy: steps that a number is remembered", above=0, most=LONGEST)
    noise: float = setting(0.3, "agent policy: standard deviation of the noise added to C's output", 0, 10)
    shard_episodes: int = setting(100, "episodes in one HDF5 shard (what is lost at most when killed)", 1, 200_000)
    shard_steps: int = setting(10_000, "steps in one HDF5 shard, at least, where extract.steps counts", 1, STEPS)
    seed: int = setting(0, "seed of the episodes and of the policy", 0, SEED)

    @property
    def shards(self) -> int:
        """How many shards hold all; the last may hold fewer."""
        return -(-self.steps // self.shard_steps) if self.steps else -(-self.episodes // self.shard_episodes)


@dataclass(frozen=True)
class Data:
    """How recorded episodes are divided."""

    val_ratio: float = setting(0.05, "share of the episodes held out from training", above=0, below=1)


@dataclass(frozen=True)
class Vae:
    """V, the convolutional variational autoencoder."""

    z: int = setting(64, "latent dimensions", 1, 4096)
    steps: int = setting(6000, "training steps (batches)", 1, STEPS)
    batch: int = setting(100, "frames in a batch", 1, BATCH)
    frame_stride: int = setting(4, "train on every n-th frame of an episode", 1, LONGEST)
    learning_rate: float = setting(1e-3, "Adam's learning rate at its height", above=0, most=1)
    schedule: Literal["constant", "cosine"] = setting("cosine", "constant, or warm-up, flat, cosine down to final_rate")
    final_rate: float = setting(5e-5, "learning rate at the end of the cosine", 0, 1)
    kl_floor: float = setting(0.5, "the KL term counts as at least this much per latent dimension (nats)", 0, 1000)
    epochs: int = setting(5, "parts of the training; each ends with validation, a checkpoint and a picture", 1, 100_000)
    seed: int = setting(0, "seed of the weights, the batches and the noise", 0, SEED)


@dataclass(frozen=True)
class Rnn:
    """M, the LSTM with a mixture-density output."""

    hidden: int = setting(512, "LSTM units", 1, 16_384)
    mixtures: int = setting(5, "Gaussians per latent dimension", 1, 100)
    train: bool = setting(True, "false: M keeps its random weights (the paper's question what an untrained M is worth)")
    action: Literal["executed", "raw"] = setting("executed", "the action M sees: as the world executes it (doom: -1, "
        "0, 1), or the raw tanh as in the original")
    dropout: float = setting(0.0, "share of z's and h's numbers that M's LSTM is not given: others in every batch and in every "
        "dream, and none where M follows the world", 0, 0.9)
    predict_done: bool = setting(True, "M also predicts whether the episode ends; then it also sees the restart flag")
    done_weight: float = setting(10.0, "weight of an ending in the done loss", above=0, most=WEIGHT)
    predict_reward: bool = setting(False, "M also predicts its action's reward, so that C can be trained in its dream")
    reward_weight: float = setting(0.3, "weight of the reward's squared error in the loss", 0, WEIGHT)
    reward_limits: list[float] = setting([-2.0, 8.0], "M learns rewards clipped to these limits", -WEIGHT, WEIGHT)
    steps: int = setting(4000, "training steps (batches), rounded up to whole epochs", 1, STEPS)
    streams: int = setting(100, "sequences in a batch; the LSTM's state is carried along each", 1, BATCH)
    window: int = setting(100, "time steps in a batch", 1, LONGEST)
    learning_rate: float = setting(2e-3, "Adam's learning rate at its height", above=0, most=1)
    schedule: Literal["constant", "cosine", "decay"] = setting("cosine", "constant; or warm-up, then cosine down to "
        "final_rate; or times `decay` every step, as in the original")
    final_rate: float = setting(5e-5, "learning rate at the end of the cosine", 0, 1)
    decay: float = setting(0.99999, "schedule decay: what the rate is multiplied by every step", above=0, most=1)
    clip: float = setting(1.0, "gradients are clipped to this", above=0, most=WEIGHT)
    clip_by: Literal["norm", "value"] = setting("norm", "norm: by the global norm; value: each element to +-clip, as "
        "in the paper")
    epochs: int = setting(10, "parts of the training; each ends with validation and a checkpoint", 1, 100_000)
    keep: Literal["best", "done", "last"] = setting("best", "which epoch's M is kept: that with the lowest held-out "
        "loss (best), that with the lowest held-out loss of done (done), or the last, as in the original")
    check_episodes: int = setting(0, "episodes of each fixed policy that the dream is checked with (0: as chosen for "
        "the world)", 0, 10_000)
    seed: int = setting(0, "seed of the weights, the batches and the latents drawn", 0, SEED)


@dataclass(frozen=True)
class Dream:
    """M as a world."""

    temperature: float = setting(1.15, "above 1 a dream is less certain, harder to exploit", above=0, most=TEMPERATURE)
    max_steps: int = setting(2100, "steps after which a dream is cut, or the environment's own limit where "
        "that is lower", 1, 1_000_000)
    done: Literal["threshold", "drawn", "expected"] = setting("threshold", "when a dream ends: where M's logit is above "
        "0, as in the original (with rnn.done_weight=10 that is a probability above 1 in 11); or drawn with M's "
        "probability, the weight taken out; expected: drawn, but while C is evolved no dream ends, and every step counts "
        "as much as the probability that it is reached")
    start_steps: list[int] = setting([0, 0], "dreams begin between these steps of recorded episodes, with M's memory "
        "of what came before; [0,0]: at their first frames, without any", 0, LONGEST)
    starts: int = setting(4000, "recorded moments that dreams can begin at, where not at first frames", 1, 1_000_000)


@dataclass(frozen=True)
class Controller:
    """C, the controller, evolved by CMA-ES in the dream, in the real world, or first there and then here."""

    inputs: list[str] = setting(["z", "c", "h"], "what C sees, in this order: z, and M's c and h")
    bias: bool = setting(False, "whether C has a bias")
    active_only: bool = setting(False, "whether C's weights for latents that V does not use (less than 0.1 nats) stay 0: to C they "
        "are noise")
    components: int = setting(0, "the principal components of M's c, and of its h, that C's weights are evolved along, each "
        "divided by its standard deviation (0: every weight by itself)", 0, 4096)
    hidden: int = setting(0, "tanh units between what C sees and what it does (0: none, C is linear)", 0, 4096)
    population: int = setting(64, "candidates a generation", 2, 100_000)
    episodes: int = setting(16, "dreams that a candidate's fitness is the mean of", 1, 10_000)
    generations: int = setting(20, "generations to evolve in the dream", 0, 1_000_000)
    real_generations: int = setting(0, "generations to evolve after that in the real world, from where the "
        "dream left C", 0, 1_000_000)
    sigma: float = setting(0.1, "CMA-ES's first step size", above=0, most=100)
    diagonal: bool = setting(False, "CMA-ES learns only how far to step in each weight, not how they go together: "
        "faster in few generations")
    real_population: int = setting(64, "candidates a generation in the real world", 2, 100_000)
    real_episodes: int = setting(16, "real episodes that a candidate's fitness is the mean of", 1, 10_000)
    real_sigma: float = setting(0.1, "CMA-ES's first step size in the real world, where it begins with what "
        "the dream left", above=0, most=100)
    patience: int = setting(0, "real world, while learning: an episode is cut after this many steps without reward "
        "(0: never)", 0, LONGEST)
    weight_decay: float = setting(0.0, "subtracted from the fitness: this times the mean squared weight", 0, WEIGHT)
    adaptive_cap: bool = setting(True, "cut dreams at clip(2 x the last generation's mean, cap_min, dream.max_steps) "
        "while learning")
    cap_min: int = setting(400, "the lowest adaptive cap", 1, 1_000_000)
    trial_every: int = setting(5, "generations between real trials of the CMA mean (0: never)", 0, 1_000_000)
    trial_episodes: int = setting(20, "real episodes of such a trial", 2, 50_000)
    seed: int = setting(0, "seed of CMA-ES and of the dreams", 0, SEED)


@dataclass(frozen=True)
class Evaluate:
    """The final figures."""

    episodes: int = setting(100, "real episodes", 2, 100_000)
    dreams: int = setting(100, "dreams", 2, 100_000)
    random_episodes: int = setting(100, "real episodes of the random policy", 2, 100_000)
    random_controllers: int = setting(0, "random controllers, of weights from N(0, controller.sigma²), of which the best in "
        "controller.real_episodes episodes is measured too (0: none)", 0, 100_000)
    seed: int = setting(HELD_OUT, "the first of the held-out seeds; extraction and trials never use seeds from "
        "here on", HELD_OUT, LAST)
    fast: bool = setting(False, "carracing: in the picture of training, ten times as fast as Gymnasium's own")
    temperatures: list[float] = setting([0.1, 0.5, 1.0, 1.15, 1.3], "temperatures that controller.sweep tries", above=0, most=TEMPERATURE)
    controllers: int = setting(1, "controllers that controller.sweep evolves at each temperature, with "
        "controller.seed and the seeds after it", 1, 1000)
    videos: bool = setting(True, "whether to record videos")
    extremes: bool = setting(True, "whether to film the best and worst real episodes as well as the median")


@dataclass(frozen=True)
class Repeat:
    """What each iteration after the first does (paper, section 5): play with C, learn from that too, evolve C on."""

    episodes: int = setting(100, "episodes to record with the last controller", 2, 200_000)
    max_steps: int = setting(0, "they are cut after this many steps (0: env.max_steps)", 0, LONGEST)
    noise: float = setting(0.3, "standard deviation of the noise added to its output", 0, 10)
    rate: float = setting(0.5, "V's and M's learning rates are multiplied by this", above=0, most=100)
    vae_steps: int = setting(2000, "steps that V is trained on, on all data (0: it stays as it is, and only new "
        "frames are encoded)", 0, STEPS)
    rnn_steps: int = setting(1500, "steps that M is trained on, on all data", 1, STEPS)
    generations: int = setting(20, "generations that C is evolved on in the dream", 1, 1_000_000)


Architecture = Literal["unet", "plain"]  # of the next-frame model: see nextframe.networks.ARCHITECTURES


@dataclass(frozen=True)
class Model:
    """The next-frame model (nextframe/)."""

    name: Architecture = setting("unet", "its architecture, see nextframe/networks.py")
    context: int = setting(4, "K, frames that it sees, the last one included, each with the action then taken", 1, 256)
    patch: int = setting(4, "pixels a side that are one place of the network; the frame's size is a multiple", 1, 256)
    channels: int = setting(64, "channels of its convolutions (unet: twice as many at half the resolution)", 1, 4096)
    blocks: int = setting(1, "residual blocks on the way down, as many on the way up, and twice as many below", 1, 100)


@dataclass(frozen=True)
class Train:
    """Training the next-frame model."""

    max_steps: int = setting(20_000, "training steps (batches)", 1, STEPS)
    batch: int = setting(32, "windows in a batch", 1, BATCH)
    learning_rate: float = setting(1e-3, "Adam's learning rate at its height", above=0, most=1)
    schedule: Literal["constant", "cosine", "onecycle"] = setting("cosine", "constant; cosine: a short warm-up, then "
        "cosine down to final_rate; onecycle: cosine up over the first 30 % of the steps from a 25th of the height, "
        "then down")
    final_rate: float = setting(1e-5, "learning rate at the end", 0, 1)
    clip: float = setting(1.0, "gradients are clipped to this global norm", above=0, most=WEIGHT)
    loss: Literal["huber", "mse"] = setting("huber", "of pixels in [0, 1]")
    huber_delta: float = setting(0.1, "huber: where it turns from square to line", above=0, most=1000)
    motion_weight: float = setting(0.0, "a moving pixel counts for this much more than one that does not", 0, WEIGHT)
    motion_threshold: float = setting(0.05, "a pixel moves if it changes by more than this from the last frame", 0, 1)
    unroll: int = setting(1, "n, steps that it is trained on its own predictions; 1 sees recorded frames only", 1, 1000)
    unroll_from: float = setting(0.5, "share of the steps after which it is unrolled; before, n is 1", 0, below=1)
    log_every: int = setting(50, "steps between rows of metrics.csv, each the mean since the one before; there is one at "
        "every checkpoint too", 1, STEPS)
    val_every_steps: int = setting(2000, "steps between validations on held-out episodes, each with a checkpoint and "
        "pictures", 1, STEPS)
    val_windows: int = setting(512, "held-out windows that the figures are measured on", 1, 100_000)
    video_steps: int = setting(64, "steps predicted open loop in the videos of a validation (0: no videos)", 0, 10_000)
    checkpoint_every: int = setting(500, "steps between checkpoints", 1, STEPS)
    seed: int = setting(0, "seed of the weights and of the order of the windows", 0, SEED)


@dataclass(frozen=True)
class Wandb:
    """Weights & Biases: the figures and pictures of every training, if asked for."""

    mode: Literal["disabled", "offline", "online"] = setting("disabled", "disabled: it is not even imported; offline: "
        "written into the run folder")
    project: str = setting("world-models", "the project there")


@dataclass(frozen=True)
class Openloop:
    """How prediction errors compound when a model is fed its own output (`python -m openloop`)."""

    windows: int = setting(100, "windows of held-out episodes, the same ones every time", 2, 100_000)
    context: int = setting(32, "recorded frames that a prediction begins with", 1, LONGEST)
    horizon: int = setting(64, "steps to predict after them, or fewer where the episode ends", 1, LONGEST)
    dreams: int = setting(8, "V+M: predictions of each window, since they are drawn", 1, 10_000)
    temperature: float = setting(1.0, "V+M: temperature that z is drawn at", above=0, most=TEMPERATURE)
    seed: int = setting(0, "seed of the windows, the dreams and the bands", 0, SEED)
    batch: int = setting(16, "windows that are predicted at once", 1, BATCH)
    confidence: float = setting(0.95, "what the bands around the means should cover", above=0, below=1)
    resamples: int = setting(1000, "bootstrap resamples for the bands", 10, 1_000_000)


@dataclass(frozen=True)
class Workers:
    """Who does the tasks of extraction and evaluation; does not change any result."""

    backend: Literal["local", "ray"] = setting("local", "local: processes of this machine; ray: tasks on a Ray cluster")
    processes: int = setting(0, "worker processes, or 0 for one per core where that is faster; ray: 0 for one per core "
        "of the cluster", 0, 4096)
    address: str = setting("", "ray: 'auto' or host:port of a running cluster; empty starts one on this machine")


@dataclass(frozen=True)
class Hardware:
    """What the machine is asked for; changes rounding at most."""

    threads: int = setting(0, "threads for computing, or 0 for all cores (ray: 1 a worker)", 0, 4096)
    precision: Literal["auto", "float32", "bfloat16"] = setting("auto", "auto: bfloat16 where the machine multiplies "
        "it faster, decided once a run")
    encode_batch: int = setting(512, "frames V encodes at once (multiples of an HDF5 chunk's 32 read best)", 1, BATCH)


@dataclass(frozen=True)
class Experiment:
    """An experiment: one YAML file in configs/, with its presets."""

    env: Env = field(default_factory=Env)
    extract: Extract = field(default_factory=Extract)
    data: Data = field(default_factory=Data)
    vae: Vae = field(default_factory=Vae)
    rnn: Rnn = field(default_factory=Rnn)
    dream: Dream = field(default_factory=Dream)
    controller: Controller = field(default_factory=Controller)
    evaluate: Evaluate = field(default_factory=Evaluate)
    begin: str = setting("", "where V and M, or the next-frame model, have their first weights from: a shipped model "
        "(doom, carracing, breakout, coinrun) or a run folder, of the same world and sizes; C begins at zero all the "
        "same. Empty: random weights; also when the command line asks for a different size from the preset's "
        "`begin` has")
    iterations: int = setting(1, "how often to go through everything; each after the first plays with the last one's "
        "controller", 1, 1000)
    repeat: Repeat = field(default_factory=Repeat)
    model: Model = field(default_factory=Model)
    train: Train = field(default_factory=Train)
    wandb: Wandb = field(default_factory=Wandb)
    openloop: Openloop = field(default_factory=Openloop)
    workers: Workers = field(default_factory=Workers)
    hardware: Hardware = field(default_factory=Hardware)


# fmt: on


def limits_text(entry: "Field[Any]") -> str:
    """The limits of a setting in words, such as 'from 1 to 100' or 'above 0 and below 1'."""
    words = {"least": "at least", "above": "above", "most": "at most", "below": "below"}
    given = {name: f"{entry.metadata[name]:,}" for name in words if isfinite(entry.metadata[name])}
    if given.keys() == {"least", "most"}:
        return f"from {given['least']} to {given['most']}"
    return " and ".join(f"{words[name]} {limit}" for name, limit in given.items())


def is_of(world: str, key: str, entry: "Field[Any]") -> bool:
    """Whether a setting means something in a world; the text of one for some only begins with their names."""
    others = OF_AGENT if world in OFFLINE else OF_NEXT_FRAME
    named = entry.metadata["text"].partition(":")[0].split(", ")
    return key.split(".")[0] not in others and (
        world in named or not {*named} & {*get_args(Env.__annotations__["name"])}
    )


def within(value: float, entry: "Field[Any]") -> bool:
    """Whether a number is within the limits of a setting."""
    limits = entry.metadata
    return bool(limits["least"] <= value <= limits["most"] and limits["above"] < value < limits["below"])


def for_iteration(settings: Experiment, number: int) -> Experiment:
    """The settings of iteration `number`, from 1 on, of the paper's procedure (section 5): its data is the last C's play.

    The first iteration lies in the run folder itself, number n in RUN/iterations/n: a run folder like any other, whose
    V, M and C begin where those of the one before ended, and whose V and M learn from the rollouts of all up to it.
    From the second on `repeat` is used where it says something. C is evolved in the real world in the last iteration
    only, unless it is never evolved in the dream.
    """
    controller = settings.controller
    if number < settings.iterations and controller.generations:
        controller = replace(controller, real_generations=0)
    if number == 1:
        return replace(settings, controller=controller)
    again, extract, vae, rnn = settings.repeat, settings.extract, settings.vae, settings.rnn
    extract = replace(
        extract, policy="agent", episodes=again.episodes, max_steps=again.max_steps, steps=0, noise=again.noise,
        seed=extract.seed + number - 1,
    )  # fmt: skip
    vae = replace(vae, steps=again.vae_steps, learning_rate=vae.learning_rate * again.rate)
    rnn = replace(rnn, steps=again.rnn_steps, learning_rate=rnn.learning_rate * again.rate)
    generations = again.generations if controller.generations else 0
    controller = replace(controller, generations=generations, seed=controller.seed + number - 1)
    return replace(settings, extract=extract, vae=vae, rnn=rnn, controller=controller)
