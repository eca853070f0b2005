"""At least 10,000 different bad inputs at the CONNECT proxy's port, by each of its three ways in, and every kind of end behind a good
one; the same requests at an exposed port are understood in the same way.

HOSTILE_N and HOSTILE_SEED: see test_hostile_http.py.
"""

import os
import random
import re
import struct
import threading

from tests.differential.compare import QUIET, Recorder, answers_in, converse, in_parallel
from tests.differential.inputs import REQUESTS
from tests.hostile.inputs import bad_answers, distinct, raw_bytes
from tests.hostile.proxy_inputs import HELLO, bad_connects, bad_socks, bad_urls
from tests.hostile.volley import Watch, volley
from tests.integration.harness import SANITIZED, Service, Tunnel, read_head
from tests.integration.way_out import WayOut
from tests.support.tap import case, main

N = int(os.environ.get("HOSTILE_N") or (1200 if SANITIZED else 10000))
FEW = N // 5  # of what test_hostile_http.py says to the same code by other ports
SEED = int(os.environ.get("HOSTILE_SEED") or 20112)
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


def seeded(what):
    print(f"# {what}, seed {SEED}")
    return random.Random(f"{SEED} {what}")


def service(seen):
    """Writes down whatever reaches it whole, and every canary."""
    def handle(c):
        rest = b""
        while True:
            head, rest = read_head(c, rest)
            if b"canary" in head:
                seen.append(head)
            c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    return Service(handle)


def refused(item, got):
    """By HTTP one answer of 4xx or 5xx and the end; by SOCKS no word of success."""
    if item[:1] == b"\x05":
        good = re.match(rb"\x05(\x00\x05[\x01-\x08]|\xff$|\x00?$)", got, re.S) or not got
        return None if good else "not refused"
    if not re.match(rb"HTTP/1\.1 [45]\d\d ", got):
        return "not refused"
    return None if len(re.findall(rb"HTTP/1\.1 \d{3} ", got)) == 1 else "the canary was answered"


def still_leads(way, port):
    with way.ask(f"127.0.0.1:{port}", behind=b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") as s:
        head, rest = read_head(s)
        assert head.startswith(b"HTTP/1.1 200 Connection"), head
        head, _ = read_head(s, rest)
        assert head.startswith(b"HTTP/1.1 200 OK"), head


@case("bad heads, bad URLs and bad SOCKS are refused, and nothing behind them goes anywhere")
def _():
    seen = []
    with service(seen) as place, WayOut("--head-timeout", "2s", allow=[f"127.0.0.1:{place.port}"]) as way:
        at = f"127.0.0.1:{place.port}".encode()
        canary = b"GET http://" + at + b"/canary HTTP/1.1\r\nHost: " + at + b"\r\n\r\n"
        rng = seeded("bad clients of the proxy")
        inputs = distinct(bad_connects(rng, at), N * 2 // 5) + distinct(bad_urls(rng, at), N * 2 // 5)
        inputs += distinct(bad_socks(rng, at), N - len(inputs))
        rng.shuffle(inputs)
        still_leads(way, place.port)
        with Watch(way.kit):
            wrong = volley(way.port, inputs, refused, parts=lambda q: (q + canary, "wait"))
        assert not wrong, "\n".join(wrong)
        assert not seen, f"{len(seen)} canaries reached the service: {seen[0]}"
        still_leads(way, place.port)


@case("behind a good head and a good SOCKS request go raw bytes, with every kind of end")
def _():
    inputs = distinct(raw_bytes(seeded("connections through the proxy")), FEW)

    def handle(c):
        while c.recv(65536):
            pass

    with Service(handle) as place, WayOut("--half-close-timeout", "2s", allow=[f"127.0.0.1:{place.port}"]) as way:
        connect = f"CONNECT 127.0.0.1:{place.port} HTTP/1.1\r\n\r\n".encode()
        socks = HELLO + b"\x05\x01\x00\x01\x7f\x00\x00\x01" + struct.pack(">H", place.port)

        def parts(item):
            data, ending = item
            return (connect if len(data) % 2 else socks) + data, ending

        def judge(_, got):
            whole = got in (b"", ESTABLISHED) or (got[:2] == b"\x05\x00" and len(got) in (2, 12) and got[3:4] in (b"", b"\x00"))
            return None if whole else "bytes from nowhere"

        with Watch(way.kit):
            wrong = volley(way.port, inputs, judge, parts=parts)
        assert not wrong, "\n".join(wrong)
        assert way.kit.metric('hoody_tunnel_connect_requests_total{outcome="direct"}') > FEW // 4


@case("bad answers of a destination")
def _():
    inputs = distinct(bad_answers(seeded("answers of a destination")), FEW)

    def handle(c):
        head, _ = read_head(c)
        c.sendall(inputs[int(re.match(rb"GET /(\d+) ", head).group(1))][0])
        c.shutdown(1)

    def judge(item, got):
        _, cut = inputs[item]
        head, _, body = got.partition(b"\r\n\r\n")
        if re.match(rb"HTTP/1\.1 50[24] ", got):
            return "words about a local service" if b"local service" in got else None
        if not cut:
            return "taken for an answer"
        length = re.search(rb"content-length: (\d+)", head)
        whole = len(body) >= int(length.group(1)) if length else body.endswith(b"0\r\n\r\n")
        return "it looks whole" if whole else None

    with Service(handle) as place, WayOut(allow=[f"127.0.0.1:{place.port}"]) as way:
        at = f"127.0.0.1:{place.port}".encode()
        with Watch(way.kit):
            wrong = volley(way.port, range(FEW), judge,
                           parts=lambda i: (b"GET http://%s/%d HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % (at, i, at), "wait"))
        assert not wrong, "\n".join(wrong)


# ---- the same as at an exposed port ----

WORKERS = 4
ORIGIN_FORM = re.compile(rb"((?:\r\n)*[!-~]+ )(/[!-~]*)( HTTP/1\.[01]\r\n)")


def for_service(request, at):
    return request.replace(b"\r\nHost: a\r\n", b"\r\nHost: " + at + b"\r\n", 1)


def in_absolute_form(request, at):
    return ORIGIN_FORM.sub(lambda m: m.group(1) + b"http://" + at + m.group(2) + m.group(3), for_service(request, at), count=1)


def verdict_of(form, absolute):
    def verdict(port, recorder, request, quiet=QUIET / 3):
        at = b"127.0.0.1:%d" % recorder.port
        recorder.answer = None
        recorder.seen.clear()
        canary = b"GET " + (b"http://" + at if absolute else b"") + b"/canary HTTP/1.1\r\nHost: " + at + b"\r\nConnection: close\r\n\r\n"
        data, end = converse(port, form(request, at) + canary, quiet)
        codes = [str(code) for code, *_ in answers_in(data, request.startswith(b"HEAD "))]
        with recorder.lock:
            seen = [re.sub(r" via=1\.[01] hoody-tunnel", "", line) for line in recorder.seen if line != "canary" and not line.endswith(" cut")]
        return " ".join(codes or ["nothing"]) + (" + open" if end == "open" else "") + "".join(f" | {line}" for line in seen)
    return verdict


def verdicts(inputs, ports, recorders, verdict):
    results = {}
    threads = in_parallel(ports, recorders, inputs.items(), verdict, results)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@case("a request means the same at the proxy, in absolute form, and at an exposed port; what has no such form is refused")
def _():
    same = {k: v for k, v in REQUESTS.items() if ORIGIN_FORM.match(v) and v.count(b"\r\nHost: a\r\n") == 1 and not v.startswith(b"CONNECT ")}
    others = {k: v for k, v in REQUESTS.items() if k not in same}
    recorders = [Recorder() for _ in range(WORKERS)]
    rules = [f"127.0.0.1:{r.port}" for r in recorders]
    try:
        with Tunnel() as t, WayOut("--connect-default", "deny", allow=[",".join(rules)]) as way:
            exposed = [t.expose(f"0={r.port}").port for r in recorders]
            proxy, port = verdict_of(in_absolute_form, True), verdict_of(for_service, False)
            ours = verdicts(same, [way.port] * WORKERS, recorders, proxy)
            theirs = verdicts(same, exposed, recorders, port)
            differ = [k for k in same if ours[k] != theirs[k]]
            for key in differ:  # with more patience: a busy machine takes its time
                ours[key] = proxy(way.port, recorders[0], same[key], 3.0)
                theirs[key] = port(exposed[0], recorders[0], same[key], 3.0)
            wrong = [f"{k}: at the proxy {ours[k]}, at a port {theirs[k]}" for k in differ if ours[k] != theirs[k]]
            assert len(same) > 100 and not wrong, "\n".join(wrong)
            for key, got in verdicts(others, [way.port] * WORKERS, recorders, verdict_of(for_service, True)).items():
                assert " | " not in got and not got.startswith("2"), f"{key}: {got}"
    finally:
        for r in recorders:
            r.close()


if __name__ == "__main__":
    threading.stack_size(256 * 1024)
    main()
