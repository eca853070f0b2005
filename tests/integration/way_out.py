"""A kit with a CONNECT proxy, for tests."""

import contextlib
import re

from tests.integration.harness import Kit, connect, eventually, fds


class WayOut(contextlib.AbstractContextManager):
    """A kit with a proxy, and nothing else; `allow` are rules for --connect-allow."""

    def __init__(self, *args, allow=(), env=None):
        rules = [word for rule in allow for word in ("--connect-allow", str(rule))]
        self.kit = Kit("--connect-proxy", "127.0.0.1:0", *rules, *args, env=env)
        self.url, port = re.search(r"CONNECT proxy on (http://\S+:(\d+))", self.kit.text()).groups()
        self.port = int(port)

    def ask(self, target, more="", behind=b"", http="HTTP/1.1"):
        s = connect(self.port)
        s.sendall(f"CONNECT {target} {http}\r\nHost: {target}\r\n{more}\r\n".encode() + behind)
        return s

    def status(self, target, more=""):
        """The status of a CONNECT that is not to succeed, and the word for programs behind it."""
        with self.ask(target, more) as s:
            said = b""
            while data := s.recv(65536):
                said += data
        text = said.decode()
        return int(text.split()[1]), re.search(r"x-hoody-tunnel: error=(\S+)", text).group(1)

    def __exit__(self, kind, value, traceback):
        try:
            if kind is None:
                eventually(lambda: self.kit.metric("hoody_tunnel_connect_clients_active") == 0, "no client of the proxy")
                eventually(lambda: fds(self.kit.pid) <= self.kit.baseline_fds, "the descriptors of a new kit")
                status = self.kit.end()
                assert status == 0, f"kit ended with {status}:\n{self.kit.text()}"
                self.kit.check_sanitizers()
        except BaseException:
            kind = AssertionError
            raise
        finally:
            if self.kit.process.poll() is None:
                self.kit.process.kill()
                self.kit.process.wait()
            if kind is not None:
                print("# log of the kit:")
                for line in self.kit.log[-60:]:
                    print(f"#   {line}")
        return False
