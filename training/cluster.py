"""Starting Ray, or joining it: quietly, and leaving everything as it was found."""

import logging
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from groundling.envs.errors import UserError

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Whether a worker uses a GPU is said by its device, not by hiding GPUs.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # An unroll that nobody fetches any more need not be mourned on the terminal.
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",
    # Ray's own processes would give way to everything else on the machine (niceness 15): what walks
    # or trains there is the work itself.
    "RAY_worker_niceness": "0",
}
"""Environment variables that Ray reads."""

LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Makes a local cluster listen on the loopback device alone, as Ray does by default on macOS and
Windows; and one that does be sought there, not at the machine's own address. Read when Ray is first
imported."""

JOINING = {"RAY_gcs_server_port_wait_time_s": "2"}
"""Whoever joins a cluster knows that it is there: Ray need not try again for minutes."""

CONNECT_SECONDS = 5.0
"""To reach the address of a cluster."""

ELSEWHERE = ("8.8.8.8", 53)
"""Some address beyond this machine, as Ray takes it: nothing is sent there."""

HTTP2_SETTINGS = b"\x04"
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + HTTP2_SETTINGS + b"\0" * 5
"""How a client begins: fixed words, and settings of its own (none)."""

RESERVE_SECONDS = 15.0
"""For a cluster to find room. One that was just started here has what it has: `STARTED_SECONDS`."""

STARTED_SECONDS = 3.0


@contextmanager
def cluster(address: str = "") -> Iterator[None]:
    """Ray, while inside. One that this process already has is used, and goes on afterwards.

    Environment variables and signal handlers are as they were found in the end.

    Args:
        address: auto, or HOST:PORT of a cluster to join, which must have a node on this machine;
            empty: one is started here, which nothing can reach from elsewhere, and stopped in the
            end.

    Raises:
        UserError: no cluster answers there.
    """
    address = _meant(address)
    alone = not address or _is_loopback_only(address)
    settings = SETTINGS | (LOOPBACK if alone else {}) | (JOINING if address else {})
    with environment_as_found(settings):
        import ray

        if ray.is_initialized():
            yield
            return
        if address not in ("", "auto"):
            _check_reachable(address)
        with _signals_as_found():
            try:
                ray.init(
                    address=address or "local",
                    include_dashboard=None if address else False,
                    log_to_driver=False,
                    logging_level=logging.CRITICAL,
                )
            except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
                if not address:
                    raise
                raise UserError(
                    f"ray-address is {address}, but no cluster can be joined there "
                    f"({_first_line(error)}); expected auto or HOST:PORT of one, with "
                    "RAY_AUTH_MODE=token in the environment if it wants a token, as `ray start` "
                    "does wherever there is one"
                ) from error
        try:
            yield
        finally:
            ray.shutdown()


def _meant(address: str) -> str:
    """HOST:PORT instead of auto, where that is known: what RAY_ADDRESS says, or where the last
    `ray start` on this machine was."""
    if address != "auto":
        return address
    if os.environ.get("RAY_ADDRESS"):
        return os.environ["RAY_ADDRESS"]
    folder = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    try:
        return Path(folder, "ray", "ray_current_cluster").read_text(encoding="utf-8").strip()
    except OSError:
        return address


def _is_loopback_only(address: str) -> bool:
    """Whether who answers there would not do so at the address that this machine has for others,
    which Ray puts in the place of localhost."""
    host, _, port = address.rpartition(":")
    if host not in ("localhost", "127.0.0.1") or not port.isdecimal():
        return False
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as towards_others:
            towards_others.connect(ELSEWHERE)
            own, _ = towards_others.getsockname()
        socket.create_connection((own, int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError):
        return True
    return False


@contextmanager
def reserved(workers: int, num_gpus: float, *, asking: str = "") -> Iterator[list[Any]]:
    """Ray placement groups with room for a worker each.

    One for each: of several in one group that have lost their machines Ray gives none a place
    before there is one for all.

    Args:
        workers: each on one CPU.
        num_gpus: of each.
        asking: what of the configuration takes this room, if not "workers is …".

    Raises:
        UserError: there is no room for them; says what was asked and what is there.
    """
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group

    each = {"CPU": 1.0} | ({"GPU": num_gpus} if num_gpus else {})
    total, free = ray.cluster_resources(), ray.available_resources()
    deadline = time.monotonic() + _patience()
    groups = [placement_group([each]) for _ in range(workers)]
    try:
        if not all(group.wait(max(0.0, deadline - time.monotonic())) for group in groups):
            asked = " and ".join(f"{workers * n:g} {name}" for name, n in each.items())
            there = ", ".join(f"{free.get(n, 0):g} of {total.get(n, 0):g} {n} free" for n in each)
            raise UserError(
                f"{asking or f'workers is {workers}'}, which takes {asked}; expected no more than "
                f"there is room for ({there})"
            )
        yield groups
    finally:
        for group in groups:
            remove_placement_group(group)


def _patience() -> float:
    """Seconds to wait for room: longer in a cluster that others use, or that may grow."""
    import ray

    alone = ray.get_runtime_context().gcs_address.startswith("127.0.0.1:")
    return STARTED_SECONDS if alone else RESERVE_SECONDS


def _check_reachable(address: str) -> None:
    """Raises UserError unless something there greets as Ray does, which itself would try for long.

    Ray's head speaks gRPC: its first words are a SETTINGS frame of HTTP/2 (RFC 9113, 3.4).
    """
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()):
        raise UserError(f"ray-address is {address}; expected auto or HOST:PORT")
    try:
        with socket.create_connection((host, int(port)), CONNECT_SECONDS) as connection:
            if os.environ.get("RAY_USE_TLS") == "1":
                return  # It would not greet whoever does not.
            connection.sendall(HTTP2_PREFACE)
            is_ray = connection.recv(9)[3:4] == HTTP2_SETTINGS
    except (OSError, OverflowError) as error:
        raise UserError(
            f"ray-address is {address}, where nothing answers ({_first_line(error)}); expected "
            "auto or HOST:PORT of a Ray cluster, or none"
        ) from error
    if not is_ray:
        raise UserError(
            f"ray-address is {address}, where something else than Ray answers; expected auto or "
            "the HOST:PORT that `ray start --head` said"
        )


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__


@contextmanager
def environment_as_found(settings: dict[str, str]) -> Iterator[None]:
    """While inside, these environment variables (but for those that are set), and what Ray sets."""
    before = dict(os.environ)
    os.environ.update(settings | before)
    try:
        yield
    finally:
        for name in set(os.environ) | set(before):
            if name not in settings and name != "PYTHONBREAKPOINT" and not name.startswith("RAY_"):
                continue
            if name in before:
                os.environ[name] = before[name]
            else:
                del os.environ[name]


@contextmanager
def _signals_as_found() -> Iterator[None]:
    """Ray takes SIGTERM for itself; whoever trains wants to save first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
