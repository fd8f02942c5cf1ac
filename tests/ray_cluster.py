"""A Ray cluster whose machines are some processes here, in a process of its own: whatever becomes of it, the tests go on."""

import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

SERVE = """
import sys
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": int(sys.argv[1]), "include_dashboard": False})
nodes = []
print(cluster.address, flush=True)
for line in sys.stdin:
    if line == "a machine joins\\n":
        nodes.append(cluster.add_node(num_cpus=2))
    elif line == "it leaves\\n":
        cluster.remove_node(nodes.pop(), allow_graceful=False)
    else:
        cluster.head_node.kill_gcs_server()
    print("done", flush=True)
"""
SECONDS = 120
"""That anything may take here, on a busy machine."""


class RayCluster(AbstractContextManager["RayCluster"]):
    """cores: of its head."""

    def __init__(self, cores: int):
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(cores)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.address = self.answer()

    def tell(self, line: str) -> None:
        """'a machine joins', with two cores; 'it leaves'; or 'its head dies'."""
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()
        assert self.answer() == "done"

    def answer(self) -> str:
        ready, _, _ = select.select([self.process.stdout], [], [], SECONDS)
        if not ready:
            self.process.kill()
        assert ready, "the cluster says nothing"
        return self.process.stdout.readline().decode().strip()

    def __exit__(self, *error: object) -> None:
        self.process.stdin.close()
        try:
            self.process.wait(SECONDS)
        finally:
            self.process.kill()


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    """The block fails where it takes longer."""

    def over(*_: object) -> None:
        raise TimeoutError(f"this took longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
