"""The API of an edge, for tests: requests over its Unix socket or its port."""

import http.client
import json
import socket

BASE = "/api/v1"


class _Unix(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("edge", timeout=20)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(self.path)


class Answer:
    """status, headers, body; .data and .message of the envelope, whose statusCode is checked; version: that of the ETag."""

    def __init__(self, response):
        self.status, self.headers, self.body = response.status, response.headers, response.read()
        self.data = self.message = None
        if self.body and self.headers["Content-Type"] == "application/json":
            whole = json.loads(self.body)
            if "openapi" not in whole:
                assert set(whole) == {"statusCode", "message", "data"} and whole["statusCode"] == self.status, whole
                self.data, self.message = whole["data"], whole["message"]
        tag = self.headers["ETag"]
        self.version = int(tag.removeprefix('"file:v').removesuffix('"')) if tag else None

    def __repr__(self):
        return f"{self.status} {self.body!r}"


class Api:
    """`where`: the path of the socket, or a port of this machine, which then needs the token."""

    def __init__(self, where, token=None):
        self.where, self.token = where, token

    def ask(self, method, path, body=None, version=None, headers=None, raw=None):
        c = _Unix(self.where) if isinstance(self.where, str) else http.client.HTTPConnection("127.0.0.1", self.where, timeout=20)
        fields = dict(headers or {})
        if version is not None:
            fields.setdefault("If-Match", f"file:v{version}")
        if self.token:
            fields.setdefault("Authorization", f"Bearer {self.token}")
        data = raw if raw is not None else None if body is None else json.dumps(body)
        try:
            c.request(method, path if path.startswith("/") and path[1:4] in ("api", "ope", "_lo") else BASE + path, body=data, headers=fields)
            return Answer(c.getresponse())
        finally:
            c.close()

    def get(self, path, **more):
        return self.ask("GET", path, **more)

    def change(self, method, path, body=None, version=None):
        """A change that must come about, of the present version unless one is named."""
        if version is None:
            version = self.get(self._document(path)).version or 0
        answer = self.ask(method, path, body, version)
        assert answer.status == 200, answer
        return answer

    @staticmethod
    def _document(path):
        kind, key = path.split("/")[1:3]
        return f"/{kind}/{key}/proxy" + ("" if kind == "containers" else "/permissions/state")
