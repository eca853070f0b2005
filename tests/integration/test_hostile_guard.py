"""10,000 different bad inputs at the driver's own ends of a container's connections: HTTP, TLS, and HTTP inside TLS.

HOSTILE_N sets another number, HOSTILE_SEED another seed (`make hostile N=100000 SEED=7`).
"""

import concurrent.futures
import contextlib
import json
import os
import random
import re
import ssl

from tests.differential.compare import Recorder, answers_in, converse
from tests.differential.inputs import REQUESTS
from tests.hostile.inputs import bad_requests, distinct, insert
from tests.hostile.volley import Watch, volley
from tests.integration.guarded import CANARY, Api, Authority, Guarded, inject, secret_file
from tests.integration.harness import SANITIZED, Folder, Service, eventually, read_head
from tests.support.tap import case, main

N = int(os.environ.get("HOSTILE_N") or (1200 if SANITIZED else 10000))
SEED = int(os.environ.get("HOSTILE_SEED") or 20112)
CONNECTED = re.compile(rb"HTTP/1\.1 200 [^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\n")
BEHIND = b"GET /canary HTTP/1.1\r\nHost: api.test\r\n\r\n"


def seeded(what, n=N):
    print(f"# {n} {what}, seed {SEED}")
    return random.Random(f"{SEED} {what}")


def asked(port):
    return f"CONNECT api.test:{port} HTTP/1.1\r\nHost: api.test:{port}\r\n\r\n".encode()


def bad_for_us(what, n=N):
    """Half of them say the right Host, so that nothing else is wrong with them."""
    for i, text in enumerate(bad_requests(seeded(what, n))):
        yield re.sub(rb"\r\nHost: [a-z]+\r\n", b"\r\nHost: api.test\r\n", text, count=1) if i % 2 else text


def refused(item, got, plain=True):
    """One answer, a 4xx or 5xx, and the end of the connection."""
    if CANARY.encode() in got:
        return "the secret is out"
    if plain and item[:1] == b"\x16":  # taken for TLS
        return None if got[:1] in (b"", b"\x15") else "not TLS"
    if not re.match(rb"HTTP/1\.1 [45]\d\d ", got):
        return "not refused"
    return "the canary was answered" if len(re.findall(rb"HTTP/1\.1 \d{3} ", got)) != 1 else None


def audited(path):
    """Every line is one object, and all that was begun is over."""
    def read():
        with open(path, encoding="utf-8") as f:
            lines = [json.loads(line) for line in f]
        begun, over = ({line["request"] for line in lines if line["allowed"] and line["over"] == end} for end in (False, True))
        return lines if begun == over else None
    lines = eventually(read, "all that was begun is over")
    assert CANARY not in json.dumps(lines)
    return lines


@case("bad requests in the clear: each is refused, none reaches the service with what is behind it, and nobody is held up")
def _():
    seen = []

    def handle(c):
        rest = b""
        while True:
            head, rest = read_head(c, rest)
            seen.append(head)
            c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with Folder() as folder, Service(handle) as service:
        entry = f'{{name: "api.test:80", target: "127.0.0.1:{service.port}", {inject(secret_file(folder))}}}'
        with Guarded(folder, entry, args=("--audit", folder.join("audit.jsonl"))) as t:
            port = int(t.proxy.rsplit(":", 1)[1])
            with Watch(t.kit, [t.up.pid]):
                wrong = volley(port, distinct(bad_for_us("bad requests for the guard", N // 2), N // 2),
                               lambda q, got: refused(q, CONNECTED.sub(b"", got, count=1)), parts=lambda q: (asked(80) + q + BEHIND, "wait"))
            assert not wrong, "\n".join(wrong)
            assert not [head for head in seen if b"/canary" in head], "a canary reached the service"
            audited(folder.join("audit.jsonl"))
            seen.clear()
            good = volley(port, [BEHIND], lambda _, got: None if b" 200 OK" in CONNECTED.sub(b"", got, count=1) else "not served",
                          parts=lambda q: (asked(80) + q, "fin"))
            assert not good and CANARY.encode() in seen[0], (good, seen)


def broken_hellos(rng):
    """What a TLS client says first, with something wrong somewhere; some have nothing of it at all."""
    context = ssl.create_default_context()
    while True:
        out = ssl.MemoryBIO()
        client = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=rng.choice(["api.test", "evil.test", "a" * rng.randint(1, 60)]))
        try:
            client.do_handshake()
        except ssl.SSLWantReadError:
            pass
        hello = bytearray(out.read())
        for _ in range(rng.randint(1, 8)):
            hello[rng.randrange(1, len(hello))] = rng.randrange(256)
        text = bytes(hello)
        kind = rng.randrange(5)
        if kind == 0:
            text = text[:rng.randint(1, len(text) - 1)]
        elif kind == 1:
            text = insert(rng, text, rng.randbytes(rng.randint(1, 40)), 1)
        elif kind == 2:
            text = b"\x16" + rng.randbytes(rng.randint(1, 300))
        elif kind == 3:
            text = text + text + rng.randbytes(100)
        yield text


@case("bytes that are no TLS, or nearly: an alert or the end, and nothing else")
def _():
    with Folder() as folder, Api(Authority(folder)) as api:
        entry = f'{{name: "api.test:443", target: "127.0.0.1:{api.port}", ca: {api.ca}, {inject(secret_file(folder))}}}'
        with Guarded(folder, entry) as t:
            def judge(_, got):
                rest = CONNECTED.sub(b"", got, count=1)
                return None if rest[:1] in (b"", b"\x15", b"\x16") and CANARY.encode() not in rest else "not TLS"

            with Watch(t.kit, [t.up.pid]):
                wrong = volley(int(t.proxy.rsplit(":", 1)[1]), distinct(broken_hellos(seeded("first bytes of TLS", N * 9 // 20)), N * 9 // 20), judge,
                               parts=lambda q: (asked(443) + q, "fin"))
            assert not wrong, "\n".join(wrong)
            assert not api.seen, api.seen
            assert t.ask("/")[0] == 200 and api.field("authorization") == f"Bearer {CANARY}"


@case("bad requests inside TLS")
def _():
    with Folder() as folder, Api(Authority(folder)) as api:
        entry = f'{{name: "api.test:443", target: "127.0.0.1:{api.port}", ca: {api.ca}, {inject(secret_file(folder))}}}'
        with Guarded(folder, entry) as t:
            def one(text):
                got = b""
                with t.connection() as c:
                    try:
                        c.sendall(text + BEHIND)
                        while piece := c.recv(65536):
                            got += piece
                    except (ssl.SSLError, OSError):
                        pass
                wrong = refused(text, got, plain=False)
                return wrong and f"{wrong}: {text!r:.300} -> {got!r:.300}"

            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                wrong = [w for w in pool.map(one, distinct(bad_for_us("bad requests inside TLS"), N // 20)) if w]
            assert not wrong, "\n".join(wrong[:20])
            assert not [head for head in api.seen if "/canary" in head], api.seen
            assert t.ask("/")[0] == 200


@case("the inputs of the differential test are read as at an exposed port, and what is sent on is never more than there")
def _():
    canary = b"GET /canary HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

    def ask(recorder, port, data, before=b""):
        """Statuses, and what reached the service: method and target of each."""
        recorder.seen.clear()
        got, _ = converse(port, before + data + canary)
        codes = [code for code, *_ in answers_in(CONNECTED.sub(b"", got, count=1) if before else got, data.startswith(b"HEAD "))]
        with recorder.lock:
            return codes, [" ".join(line.split(" ")[:2]) for line in recorder.seen if not line.endswith(" cut")]

    with Folder() as folder, contextlib.closing(Recorder()) as plain, contextlib.closing(Recorder()) as guarded:
        entry = f'{{name: "a:80", target: "127.0.0.1:{guarded.port}", {inject(secret_file(folder))}}}'
        with Guarded(folder, entry) as t:
            exposed = t.expose(f"0={plain.port}").port
            proxy = int(t.proxy.rsplit(":", 1)[1])
            same, judged = 0, 0
            for key, data in REQUESTS.items():
                there, here = ask(plain, exposed, data), ask(guarded, proxy, data, b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n")
                if data[:1] == b"\x16":  # taken for TLS
                    assert here == ([], []), (key, here)
                    continue
                same += there == here
                if there != here:  # it was good HTTP, and our rules say no to some of it
                    assert any(code in (400, 403, 405, 421) for code in here[0]), (key, there, here)
                    assert here[1] == there[1][:len(here[1])] or set(here[1]) <= set(there[1]), (key, there, here)
                    judged += 1
            print(f"# {same} the same, {judged} refused by rule")
            assert same > 100, (same, judged)


if __name__ == "__main__":
    main()
