"""A disk that is full: the API says so, nothing has changed for anybody, and it goes on when there is room again.

Runs: plain.
"""

import os
import sys
import threading

from tests.integration.edge_api import Api
from tests.integration.edges import Edge, needs_haproxy
from tests.integration.harness import Folder, eventually, run
from tests.support.tap import case, main

P, C = "67e89abc123def456789abcd", "890abcdef12345678901cdef"
ONE = f"/containers/{C}/proxy"


def fill(path):
    with open(path, "wb", buffering=0) as f:
        try:
            while True:
                f.write(b"x" * 4096)
        except OSError:
            return


@case("no room for a change: 500, the document, its version and HAProxy stay as they are, for all of a group; with room again it goes on")
def _():
    needs_haproxy()
    with Folder() as folder:
        where = folder.join("small")
        os.mkdir(where, 0o700)
        run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=755", "none", where])
        with Edge("--log-max-size", "2M", folder=os.path.join(where, "edge")) as e:
            for text in ("cannot be written", "log of requests", "database", "journal"):
                e.expect(text)
            api = Api(os.path.join(e.folder, "run", "api.sock"))
            made = api.change("PUT", f"{ONE}/address", {"ip": "198.51.100.1", "project_id": P})
            fill(os.path.join(where, "filler"))
            last, answer = made.version, None
            for n in range(2, 250):  # a page that was begun has room for some
                answer = api.ask("PUT", f"{ONE}/address", {"ip": f"198.51.100.{n}"}, last)
                if answer.status != 200:
                    break
                last = answer.version
            assert answer.status == 500 and "cannot be written" in answer.message, answer
            held = api.get(ONE)
            assert held.version == last and held.data["ip"] == f"198.51.100.{n - 1}", (held, last, n)
            got = []

            def change(i):
                got.append(api.ask("PUT", f"/containers/{i:024x}/proxy/address", {"ip": "198.51.100.9", "project_id": P}, 0).status)

            many = [threading.Thread(target=change, args=(i,)) for i in range(20)]
            for thread in many:
                thread.start()
            for thread in many:
                thread.join()
            assert got == [500] * 20, got
            assert api.get("/containers").data["containers"][0]["id"] == C and len(api.get("/containers").data["containers"]) == 1
            assert e.map("containers") == [(f"{P}-{C}", f"198.51.100.{n - 1}")]
            os.unlink(os.path.join(where, "filler"))
            assert api.ask("PUT", f"{ONE}/address", {"ip": "198.51.100.251"}, last).version == last + 1
            eventually(lambda: e.map("containers") == [(f"{P}-{C}", "198.51.100.251")], "the change")
        with Edge(folder=e.folder) as e:
            assert Api(os.path.join(e.folder, "run", "api.sock")).get(ONE).version == last + 1
            assert e.map("containers") == [(f"{P}-{C}", "198.51.100.251")]
        run(["umount", where])


if __name__ == "__main__":
    if os.environ.get("HT_FULL_MOUNTS") != "1":
        os.execvpe("unshare", ["unshare", "-m", sys.executable, *sys.argv], {**os.environ, "HT_FULL_MOUNTS": "1"})
    main()
