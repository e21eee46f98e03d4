"""The UNIX socket: its mode, one server alone, a killed one's is taken over, and nothing is left at the end."""

import asyncio
import grp
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.errors import MachineError, SettingsError
from app.gateways.grpc.socket_file import LONGEST, SocketFile
from tests.contract.gateways.grpc.world import TOKEN, connected, push, world

ANOTHER_PROCESS = """
import asyncio, sys
from pathlib import Path
from tests.contract.gateways.grpc.world import world
async def main():
    async with world(Path(sys.argv[1])):
        print("listens", flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s.sock"


def lock_of(path: Path) -> Path:
    return path.with_name("s.sock.lock")


def another(path: Path) -> "subprocess.Popen[bytes]":
    """A gateway in a process of its own, which listens."""
    made = subprocess.Popen([sys.executable, "-c", ANOTHER_PROCESS, str(path)], stdout=subprocess.PIPE)
    assert made.stdout
    while b"listens" not in (line := made.stdout.readline()):
        assert line, "the gateway has ended"
    return made


async def test_its_mode_is_0660_and_it_is_gone_with_its_lock_at_the_end(path: Path) -> None:
    before = os.umask(0)
    try:
        async with world(path) as it, connected(path) as stub:
            assert stat.filemode(os.stat(path).st_mode) == "srw-rw----"
            assert stat.filemode(os.stat(lock_of(path)).st_mode) == "-rw-------"
            assert it.gateway.ready() == {"grpc": True, "grpc_socket": True}
            assert (await stub.PushMetrics(push(1, [1]), metadata=TOKEN)).accepted == 1
            assert os.umask(0) == 0, "the umask is as it was"
    finally:
        os.umask(before)
    assert os.listdir(path.parent) == []
    assert it.gateway.ready() == {"grpc": False, "grpc_socket": False}


async def test_a_group_has_it_where_one_is_named(path: Path) -> None:
    other = next(one for one in grp.getgrall() if one.gr_gid not in (os.getgid(), 0))
    if os.geteuid() != 0 and other.gr_gid not in os.getgroups():
        pytest.skip("only root may give a file to any group")
    async with world(path, grpc_socket_group=other.gr_name):
        found = os.stat(path)
        assert (found.st_gid, stat.S_IMODE(found.st_mode)) == (other.gr_gid, 0o660)


async def test_a_group_that_there_is_not_is_named_and_nothing_is_left(path: Path) -> None:
    with pytest.raises(MachineError, match="nosuchgroup"):
        async with world(path, grpc_socket_group="nosuchgroup"):
            pass
    assert os.listdir(path.parent) == []


async def test_a_second_server_is_refused_and_the_first_goes_on(path: Path) -> None:
    async with world(path), connected(path) as stub:
        with pytest.raises(MachineError, match=f"another server has .*process {os.getpid()}"):
            async with world(path):
                pass
        assert (await stub.PushMetrics(push(1, [1]), metadata=TOKEN)).accepted == 1
    assert os.listdir(path.parent) == []


async def test_a_killed_servers_socket_is_taken_over_and_a_live_ones_is_not(path: Path) -> None:
    process = another(path)
    try:
        with pytest.raises(MachineError, match=f"process {process.pid}"):
            async with world(path):
                pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert os.listdir(path.parent) != [], "what is left of it"
        async with world(path) as it, connected(path) as stub:
            assert (await stub.PushMetrics(push(1, [1]), metadata=TOKEN)).accepted == 1
            assert len(it.written) == 1
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()
    assert os.listdir(path.parent) == []


async def test_of_many_that_start_at_once_one_has_it(path: Path) -> None:
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()  # nobody listens
    claims = [SocketFile(path) for _ in range(20)]
    outcomes = await asyncio.gather(*(asyncio.to_thread(_claimed, claim) for claim in claims))
    assert outcomes.count(True) == 1
    for claim in claims:
        claim.release()
    assert os.listdir(path.parent) == []


def _claimed(claim: SocketFile) -> bool:
    try:
        claim.claim()
    except MachineError:
        return False
    time.sleep(0.2)
    return True


def test_who_waits_for_a_lock_that_is_removed_meanwhile_makes_a_new_one(path: Path) -> None:
    """Two that hold locks on two files of one name would both bind."""
    first, second, third = SocketFile(path), SocketFile(path), SocketFile(path)
    first.claim()
    first.release()
    second.claim()
    with pytest.raises(MachineError):
        third.claim()
    second.release()
    third.claim()
    third.release()


def test_what_is_no_socket_stays_as_it_is(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(MachineError, match="no socket"):
        SocketFile(path).claim()
    assert path.read_text() == "precious"
    assert not lock_of(path).exists()


def test_another_programs_socket_is_not_taken(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen(1)
        with pytest.raises(MachineError, match="without our lock"):
            SocketFile(path).claim()
        assert path.is_socket()
    assert not lock_of(path).exists()


def test_a_socket_that_is_somebody_elses_meanwhile_is_not_removed(path: Path) -> None:
    ours = SocketFile(path)
    ours.claim()
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as other:
        first.bind(str(path))
        ours.bound()
        assert ours.intact
        path.unlink()
        other.bind(str(path))
        assert not ours.intact
        ours.release()
        assert path.is_socket()


def test_a_lock_that_leads_elsewhere_is_not_followed(path: Path) -> None:
    elsewhere = path.with_name("elsewhere")
    elsewhere.write_text("precious")
    lock_of(path).symlink_to(elsewhere)
    with pytest.raises(MachineError, match="cannot be made"):
        SocketFile(path).claim()
    assert elsewhere.read_text() == "precious"


def test_a_directory_that_is_not_there_is_named_and_a_path_too_long_is_a_wrong_setting(path: Path) -> None:
    with pytest.raises(MachineError, match="make its directory, or set IOT_GRPC_SOCKET"):
        SocketFile(path.parent / "nowhere" / "s.sock").claim()
    with pytest.raises(SettingsError, match="IOT_GRPC_SOCKET"):
        SocketFile(Path("/tmp") / ("x" * LONGEST))


async def test_a_path_with_signs_of_a_url_is_the_path(tmp_path: Path) -> None:
    odd = tmp_path / "a%20b?c#d é.sock"
    async with world(odd) as it:
        assert sorted(os.listdir(tmp_path)) == [odd.name, f"{odd.name}.lock"]
        assert it.gateway.ready()["grpc_socket"]
    assert os.listdir(tmp_path) == []


async def test_ready_says_when_somebody_removed_it(path: Path) -> None:
    async with world(path) as it:
        os.unlink(path)
        assert it.gateway.ready() == {"grpc": True, "grpc_socket": False}


async def test_without_a_socket_and_a_port_it_says_so(path: Path) -> None:
    with pytest.raises(SettingsError, match="IOT_GRPC_SOCKET"):
        async with world(path, grpc_socket=None):
            pass
