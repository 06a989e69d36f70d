"""Two hosts, each a network namespace of its own: one is cut off, and the run goes on exactly."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from test_run import RECIPE, same_bits, weights

from tests.conftest import Python

PROGRAM = """
import sys, time
from pathlib import Path
from mtkit import MTKitError, Progressed, Recipe, train
from mtkit.training import heartbeat, trainer

folder, output = Path(sys.argv[1]), sys.argv[2]
heartbeat.BEAT, heartbeat.SILENCE = 0.2, 6.0
trainer.SAVE_SECONDS = 0.2

def slow(event):
    if isinstance(event, Progressed):
        time.sleep(0.5)  # there is time to be cut off

try:
    train(Recipe.load(folder / "recipe.toml"), folder / output, device="cpu", listeners=[slow])
except MTKitError as error:
    sys.exit(error.message)
"""
ADDRESSES = ("10.213.77.1", "10.213.77.2")


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """The names of two namespaces whose only connection is a cable between them."""
    if not shutil.which("ip") or os.geteuid() != 0:
        pytest.skip("network namespaces need root and the command ip")
    names = [f"mtkit{os.getpid()}{letter}" for letter in "ab"]
    cable = [name[-10:] for name in names]

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True, text=True)

    try:
        try:
            for name in names:
                ip("netns", "add", name)
            ip("link", "add", cable[0], "type", "veth", "peer", "name", cable[1])
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces can be made here: {error.stderr.strip()}")
        for name, end, address in zip(names, cable, ADDRESSES, strict=True):
            ip("link", "set", end, "netns", name)
            ip("-n", name, "address", "add", f"{address}/24", "dev", end)
            for device in (end, "lo"):
                ip("-n", name, "link", "set", device, "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def plug(host: str, state: str) -> None:
    """Set one end of the cable up or down."""
    command = ["ip", "-n", host, "link", "set", host[-10:], state]
    subprocess.run(command, check=True)


def start(host: str, number: int, folder: Path, cache: Path) -> subprocess.Popen[bytes]:
    """The same command on each host, but for who it is; what it says goes to a file."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    launcher += ["--rdzv-backend=c10d", f"--rdzv-endpoint={ADDRESSES[0]}:29400", "--rdzv-id=test"]
    launcher += [f"--rdzv-conf=is_host={int(number == 0)}", f"--local-addr={ADDRESSES[number]}"]
    return subprocess.Popen(
        ["ip", "netns", "exec", host, *launcher, str(folder / "program.py"), str(folder), "run"],
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "MTKIT_CACHE": str(cache),
            "GLOO_SOCKET_IFNAME": host[-10:],
        },
        stderr=(folder / f"said{number}").open("wb"),
        start_new_session=True,
    )


@pytest.mark.slow
def test_run_of_two_hosts_of_which_one_is_cut_off_goes_on_to_the_same_bits(
    hosts: list[str], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, python: Python
) -> None:
    cache = tmp_path_factory.getbasetemp() / "mtkit-cache"
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    made = tmp_path / "run" / "checkpoints"

    def said(number: int) -> str:
        return (tmp_path / f"said{number}").read_text(errors="replace")

    processes = [start(host, n, tmp_path, cache) for n, host in enumerate(hosts)]
    try:
        wait_for(lambda: made.is_dir() and any(p.name.isdigit() for p in made.iterdir()))
        plug(hosts[1], "down")
        # Each learns of it by itself; torchrun on the second waits for the first for ever.
        for number in (0, 1):
            wait_for(lambda n=number: "nothing was heard from process" in said(n))
        assert processes[0].wait(60)
    finally:
        end(processes, hosts)
    assert not (tmp_path / "run" / "finished.json").exists()

    plug(hosts[1], "up")
    processes = [start(host, n, tmp_path, cache) for n, host in enumerate(hosts)]
    try:
        codes = [process.wait(120) for process in processes]
    finally:
        end(processes, hosts)
    assert codes == [0, 0], said(0) + said(1)
    log = (tmp_path / "run" / "log.jsonl").read_text()
    assert log.count('"event": "started"') == 2
    assert log.count('"resumed_at": null') == 1

    command = ["--standalone", "--nproc-per-node=2", str(tmp_path / "program.py")]
    python("-m", "torch.distributed.run", *command, tmp_path, "whole")
    assert same_bits(weights(tmp_path / "run"), weights(tmp_path / "whole"))


def wait_for(ready: Callable[[], bool], seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.1)


def end(processes: list[subprocess.Popen[bytes]], hosts: list[str]) -> None:
    """End whatever still runs on the hosts."""
    for host in hosts:
        listed = subprocess.run(["ip", "netns", "pids", host], capture_output=True, check=False)
        for pid in listed.stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
    for process in processes:
        process.wait(60)
