"""Machines in miniature: network namespaces with an address, a host name and an /etc/hosts each, on one bridge.

What a process sees there of a network is what it would see in a pod. Needs root and iproute2.
"""

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Machine:
    """A network namespace; `hosts` is its /etc/hosts, which may be written to at any time."""

    namespace: str
    name: str
    address: str
    hosts: Path

    def command(self, arguments: Sequence[str]) -> list[str]:
        """What runs there, under its host name, with the process id that the whole command has."""
        named = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', self.name]
        return ["ip", "netns", "exec", self.namespace, *named, *arguments]

    def knows(self, address: str, *names: str) -> None:
        """As if a name server had begun to answer."""
        with self.hosts.open("a") as file:
            file.write(f"{address} {' '.join(names)}\n")


@dataclass(frozen=True)
class Network:
    """`address` is that of this machine on the bridge."""

    address: str
    machines: list[Machine]


@contextmanager
def network(names: Sequence[str]) -> Iterator[Network]:
    """A machine for each name, which knows itself and no other."""
    token = secrets.token_hex(3)
    bridge, subnet = f"cps{token}", f"10.213.{secrets.randbelow(256)}"
    with ExitStack() as stack:
        _ip(f"link add {bridge} type bridge")
        stack.callback(_ip, f"link del {bridge}")
        _ip(f"addr add {subnet}.1/24 dev {bridge}")
        _ip(f"link set {bridge} up")
        machines = []
        for number, name in enumerate(names):
            inside = f"{bridge}-{number}"
            address, folder = f"{subnet}.{10 + number}", Path("/etc/netns") / inside
            folder.mkdir(parents=True)
            stack.callback(shutil.rmtree, folder)
            hosts = folder / "hosts"
            hosts.write_text(f"127.0.0.1 localhost\n{address} {name}.jobs.svc.cluster.local {name}\n")
            _ip(f"netns add {inside}")
            stack.callback(_ip, f"netns del {inside}")
            _ip(f"link add {inside} type veth peer name eth0 netns {inside}")
            _ip(f"link set {inside} master {bridge} up")
            _ip(f"-n {inside} addr add {address}/24 dev eth0")
            _ip(f"-n {inside} link set eth0 up")
            _ip(f"-n {inside} link set lo up")
            machines.append(Machine(inside, name, address, hosts))
        yield Network(f"{subnet}.1", machines)


def need_namespaces() -> None:
    """Skip the test where namespaces cannot be made; where every test must run, fail it."""
    why = _lacking()
    if why:
        pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)


def _lacking() -> str:
    if os.geteuid() != 0:
        return "network namespaces need root"
    if missing := [tool for tool in ("ip", "unshare", "hostname") if shutil.which(tool) is None]:
        return f"network namespaces need {', '.join(missing)}: apt-get install iproute2"
    name = f"cps{secrets.token_hex(3)}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"network namespaces cannot be made here: {made.stderr.strip()}"
    _ip(f"netns del {name}")
    return ""


def _ip(arguments: str) -> None:
    subprocess.run(["ip", *arguments.split()], check=True, capture_output=True)
