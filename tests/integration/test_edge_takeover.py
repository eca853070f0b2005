"""A second edge takes over: with the folder of the first, copied.

Runs: plain.
"""

import os
import shutil
import signal
import stat
import subprocess

from tests.integration.edge_api import Api
from tests.integration.edges import Edge, free_port, needs_haproxy
from tests.integration.harness import BIN, Folder
from tests.support.tap import case, main

P, C = "67e89abc123def456789abcd", "890abcdef12345678901cdef"
ONE = f"/containers/{C}/proxy"
HOST = f"{P}-{C}-http-80.me.containers.edge.localhost"
DENIED = {"groups": {}, "permissions": {}, "default": "deny"}


def api(edge):
    return Api(os.path.join(edge.folder, "run", "api.sock"))


def copy(of, to):
    """What cp -a or rsync -a does; sockets are left out, and what goes meanwhile."""
    def left_out(folder, names):
        return [name for name in names if not os.path.lexists(os.path.join(folder, name)) or stat.S_ISSOCK(os.lstat(os.path.join(folder, name)).st_mode)]
    shutil.copytree(of, to, symlinks=True, ignore=left_out)


def start(folder):
    """(status, what it says) of an edge that is to be refused."""
    done = subprocess.run([BIN, "edge", "dev", "--folder", folder, "--port", str(free_port())], capture_output=True, text=True, timeout=30, check=False)
    return done.returncode, done.stderr


@case("after an orderly end the second has all of the first: documents, versions, authority and tokens")
def _():
    needs_haproxy()
    with Folder() as folder:
        with Edge(folder=folder.join("first")) as first:
            api(first).change("PUT", f"{ONE}/address", {"ip": "192.0.2.7", "project_id": P})
            api(first).change("PUT", f"{ONE}/permissions", DENIED)
            first.until(HOST, 403)
            with open(first.ca, encoding="ascii") as f:
                authority = f.read()
        copy(folder.join("first"), folder.join("second"))
        with Edge(folder=folder.join("second")) as second:
            assert second.get(HOST).status == 403
            assert api(second).get(ONE).version == 2 and api(second).ask("DELETE", ONE, None, 1).status == 412
            with open(second.ca, encoding="ascii") as f:
                assert f.read() == authority


@case("a copy that was made while the first still runs is refused, however often it is tried, and the first goes on")
def _():
    needs_haproxy()
    with Folder() as folder, Edge(folder=folder.join("first")) as first:
        api(first).change("PUT", f"{ONE}/address", {"ip": "192.0.2.7", "project_id": P})
        copy(first.folder, folder.join("second"))
        for _ in range(2):
            status, said = start(folder.join("second"))
            assert status == 3 and "--take-over" in said and "copy the folder again" in said, (status, said)
        status, said = start(first.folder)  # and of the same folder there is one alone
        assert status == 3 and "another edge works in the folder" in said, (status, said)
        api(first).change("PUT", f"{ONE}/permissions", DENIED)
        first.until(HOST, 403)


@case("what a killed edge has left is its own to go on with; a copy of it needs --take-over, and has all that was acknowledged")
def _():
    needs_haproxy()
    with Folder() as folder:
        with Edge(folder=folder.join("first")) as first:
            api(first).change("PUT", f"{ONE}/address", {"ip": "192.0.2.7", "project_id": P})
            api(first).change("PUT", f"{ONE}/permissions", DENIED)
            first.program.process.send_signal(signal.SIGKILL)
            first.program.process.wait()
            copy(first.folder, folder.join("second"))
        status, said = start(folder.join("second"))
        assert status == 3 and "--take-over" in said, (status, said)
        with Edge("--take-over", folder=folder.join("second")) as second:
            assert api(second).get(ONE).version == 2 and second.get(HOST).status == 403
        with Edge(folder=folder.join("second")) as second:  # from then on it is its own
            assert api(second).get(ONE).version == 2
        with Edge(folder=folder.join("first")) as again:
            assert api(again).get(ONE).version == 2 and again.get(HOST).status == 403


if __name__ == "__main__":
    main()
