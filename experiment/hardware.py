"""What the machine has, and how it is used: threads, precision, and the speed of its matrix products."""

import contextlib
import math
import os
import platform
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from experiment.run import Run
from experiment.schema import Hardware

FASTER = 1.3  # bfloat16 is chosen where it multiplies at least this many times as fast as float32
THREADS = "WORLD_MODELS_THREADS"  # the variable by which processes hand hardware.threads on to those that they start
PACKAGES = ("tensorflow", "keras", "numpy", "gymnasium", "envpool", "vizdoom", "cma", "h5py")


def import_tensorflow() -> None:
    """Import TensorFlow and Keras without TensorFlow's start-up messages, written past every setting of its own.

    On a GPU it then takes memory as it needs it, since worker processes share one, and not all at once.
    """
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"  # see experiment/__init__.py; a user's is dropped by then
    terminal = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        import experiment.backend  # noqa: F401
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)


def prepare(settings: Hardware, run: Run | None = None) -> str:
    """Set the threads of this process and Keras's precision; call it before building a model.

    Returns the precision, 'float32' or 'bfloat16': of matrix products and convolutions; variables and sums stay float32.
    run: whose stage this is. What `auto` comes to is decided once for all its stages and iterations, and recorded there.
    """
    from experiment.backend import keras, tf

    use_threads(settings)
    with contextlib.suppress(RuntimeError):  # has TensorFlow computed in this process already, its threads stay
        tf.config.threading.set_intra_op_parallelism_threads(thread_count())
        tf.config.threading.set_inter_op_parallelism_threads(thread_count())
    precision: str = settings.precision
    if precision == "auto":
        decided = run and run.precision()
        precision = decided or faster_precision()
        if run is not None and not decided:
            run.update_results("hardware", "precision", precision)
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    return precision


def faster_precision() -> str:
    """The precision that this machine multiplies faster."""
    from experiment.backend import tf

    plain = platform.machine() in ("x86_64", "AMD64") and not any(name in processor_name() for name in ("BF16", "AMX"))
    if plain and not tf.config.list_physical_devices("GPU"):
        return "float32"  # however a busy machine makes it look: there bfloat16's convolutions are 5 times as slow
    return "bfloat16" if matmul_peak("bfloat16", 1024) > FASTER * matmul_peak("float32", 1024) else "float32"


def use_threads(settings: Hardware) -> None:
    """Have this process, and those that it starts, compute with hardware.threads threads."""
    os.environ[THREADS] = str(settings.threads)


def thread_count() -> int:
    """Threads to compute with: hardware.threads where it was given to `use_threads`, else one for each core."""
    return int(os.environ.get(THREADS, 0)) or core_count()


def core_count() -> int:
    """Cores that this process may use: by its affinity, and by the processor time that its container has, rounded up."""
    return math.ceil(min(len(own_cores()) or os.cpu_count() or 1, cpu_quota()))


def own_cores() -> list[int]:
    """The numbers of the cores that this process may use; empty where the system cannot tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def cpu_quota(own: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")) -> float:
    """Seconds of processor time a second that control groups leave this process, such as 1.5; inf where they do not say.

    own: the groups that it is in, a line "number:controllers:path" each, of version 2 "0::path"; mounted: where they are.
    The tightest limit of a group and those above it holds; a container may see no more than its own, at the top.
    """
    lines = ["0::/", "1:cpu:/"]
    with contextlib.suppress(OSError, ValueError):
        lines += own.read_text().splitlines()
    quota = math.inf
    for line in lines:
        _, controllers, path = (line.split(":", 2) + ["", ""])[:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for place in ("cpu", controllers) if controllers else ("", "unified"):
            for depth in range(len(parts) + 1):
                quota = min(quota, group_quota(mounted.joinpath(place, *parts[:depth])))
    return quota


def group_quota(group: Path) -> float:
    """What one control group allows, of either version; inf where it has no limit, or does not say it."""
    for names in (["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):
        try:
            quota, period = (int(number) for name in names for number in (group / name).read_text().split())
        except (OSError, ValueError):  # "max", for one
            continue
        if quota > 0 and period > 0:
            return quota / period
    return math.inf


def matmul_peak(dtype: str, size: int = 4096, seconds: float = 0.2) -> float:
    """FLOP/s of the fastest of several products of two (size, size) matrices, on TensorFlow's default device."""
    from experiment.backend import tf

    left = tf.cast(tf.random.stateless_normal((size, size), (0, 0)), dtype)
    multiply = tf.function(lambda matrix: tf.reduce_sum(tf.matmul(matrix, matrix)))
    float(multiply(left))  # traced, memory touched
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end or best == float("inf"):
        began = time.perf_counter()
        float(multiply(left))
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


def describe_machine() -> dict[str, Any]:
    """What a reader of results needs to know of the machine: processor, cores, memory, accelerators, versions.

    The accelerators are those that TensorFlow sees; where it is not loaded, nothing is said of them.
    """
    return {
        "processor": processor_name(),
        "cores": core_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        **({"gpus": gpus()} if "tensorflow" in sys.modules else {}),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
    }


def gpus() -> list[str]:
    """The names of the GPUs that TensorFlow sees."""
    from experiment.backend import tf

    details = tf.config.experimental.get_device_details
    return [details(gpu).get("device_name", gpu.name) for gpu in tf.config.list_physical_devices("GPU")]


def processor_name() -> str:
    """The processor's name, with the matrix extensions that decide its speed."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    parts = [line.partition(":") for line in reversed(lines)]
    about = {key.strip(): value.strip() for key, _, value in parts}  # the first core's
    flags = about.get("flags", about.get("Features", "")).split()
    extensions = {"avx512f": "AVX-512", "avx512_bf16": "AVX512_BF16", "amx_bf16": "AMX"}
    found = [label for flag, label in extensions.items() if flag in flags]
    name = about.get("model name", platform.machine())
    return f"{name} ({', '.join(found)})" if found else name
