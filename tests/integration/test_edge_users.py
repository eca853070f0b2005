"""The port of the edge's API with a file of users: admins, readers, names in the audit, and the file read again."""

import hashlib
import http.client
import json
import os
import signal
import subprocess

from tests.integration.edge_api import Api
from tests.integration.edges import Edge
from tests.integration.harness import BIN, Folder, eventually, free_port
from tests.support.tap import case, main

P, C = "67e89abc123def456789abcd", "890abcdef12345678901cdef"
ANN, BOB, OLD = "ann-0123456789abcdef", "bob-0123456789abcdef", "old-0123456789abcdef"
ONE = f"/containers/{C}/proxy"


def users(path, *rows):
    text = "users:\n" + "".join(f"  - name: {name}\n    admin: {str(admin).lower()}\n    tokens: [{', '.join('sha256:' + hashlib.sha256(t.encode()).hexdigest() for t in tokens)}]\n"
                                for name, admin, *tokens in rows)
    with open(path, "w", encoding="ascii") as f:
        f.write(text)
    os.chmod(path, 0o600)


@case("an admin changes, a reader reads, and nobody else comes in; the audit names them; a file that is read again holds at once")
def _():
    with Folder() as folder:
        path, port = folder.join("users.yaml"), free_port()
        users(path, ("ann@example.com", True, ANN, OLD), ("bob", False, BOB))
        with Edge("--api", f"127.0.0.1:{port}", "--api-users", path) as edge:
            ann, bob, old = (Api(port, token) for token in (ANN, BOB, OLD))
            made = ann.ask("PUT", f"{ONE}/address", {"ip": "192.0.2.7", "project_id": P}, 0)
            assert made.status == 200, made
            assert old.ask("PUT", f"{ONE}/address", {"ip": "192.0.2.8"}, 1).status == 200
            assert bob.get(ONE).data["ip"] == "192.0.2.8" and bob.get("/containers").status == 200 and bob.get("/_logs").status == 200
            for method, where, body in (("PUT", f"{ONE}/address", {"ip": "192.0.2.9"}), ("DELETE", ONE, None), ("PATCH", f"{ONE}/permissions/state", {"enable_proxy": False}),
                                        ("PUT", f"{ONE}/permissions", {"default": "deny"}), ("PUT", f"{ONE}/services/web", {"port": 1})):
                answer = bob.ask(method, where, body, 2)
                assert answer.status == 403 and "may only read" in answer.message, (method, where, answer)
            assert ann.get(ONE).version == 2
            for token in ("", ANN[:-1], ANN + "x", "sha256:" + hashlib.sha256(ANN.encode()).hexdigest(), "admin"):
                assert Api(port, token).get(ONE).status == 401, token
            assert not os.path.exists(os.path.join(edge.folder, "api.token")), "nobody needs it"
            assert ann.ask("GET", ONE, headers={"Host": "evil.example"}).status == 403
            # By the Unix socket it is who the kernel says.
            local = Api(os.path.join(edge.folder, "run", "api.sock"))
            assert local.ask("PUT", f"{ONE}/address", {"ip": "192.0.2.10"}, 2).status == 200
            with open(os.path.join(edge.folder, "audit.log"), encoding="utf-8") as f:
                lines = [json.loads(line) for line in f]
            assert [line["who"] for line in lines] == ["ann@example.com", "ann@example.com", f"uid {os.getuid()}"], lines
            # A reader is promoted, a token is gone, and so is a stream of a user.
            stream = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            stream.request("GET", "/_logs/stream", headers={"Authorization": f"Bearer {OLD}"})
            opened = stream.getresponse()
            assert opened.status == 200
            users(path, ("ann@example.com", True, ANN), ("bob", True, BOB))
            os.kill(edge.program.pid, signal.SIGHUP)
            eventually(lambda: old.get(ONE).status == 401, "the file again")
            opened.read()  # to its end
            stream.close()
            assert bob.ask("PUT", f"{ONE}/address", {"ip": "192.0.2.11"}, 3).status == 200
            # One with a mistake changes nothing.
            users(path, ("ann@example.com", True, ANN), ("ann@example.com", False, BOB))
            edge.expect("two users called ann@example.com")
            edge.expect("users stay as they are")
            os.kill(edge.program.pid, signal.SIGHUP)
            edge.program.wait_line("users stay as they are")
            assert bob.ask("PUT", f"{ONE}/address", {"ip": "192.0.2.12"}, 4).status == 200


@case("a file without a port is of no use, and one that is none is named; without a file the one token is as it was")
def _():
    with Folder() as folder:
        path = folder.join("users.yaml")
        users(path, ("ann", True, ANN))
        tell = [BIN, "edge", "dev", "--folder", folder.join("edge"), "--port", str(free_port())]
        for args, code, said in ((["--api-users", path], 2, "without --api there is no port"), (["--api", "127.0.0.1:0", "--api-users", folder.join("none")], 3, "none: No such file"),
                                 (["--api", "127.0.0.1:0", "--api-users", os.devnull], None, "users")):
            got = subprocess.run([*tell, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=30, check=False)
            assert said in got.stderr.decode() and got.returncode != 0 and code in (None, got.returncode), (args, got)
        port = free_port()
        with Edge("--api", f"127.0.0.1:{port}") as edge:
            with open(os.path.join(edge.folder, "api.token"), encoding="ascii") as f:
                token = f.read().strip()
            assert Api(port, token).ask("PUT", f"{ONE}/address", {"ip": "192.0.2.7", "project_id": P}, 0).status == 200
            assert Api(port, ANN).get(ONE).status == 401
            with open(os.path.join(edge.folder, "audit.log"), encoding="utf-8") as f:
                assert json.loads(f.readline())["who"] == "token"


if __name__ == "__main__":
    main()
