"""Bad inputs without end, from a seed: each generator breaks a good message in a way that must be refused.

`distinct(generator, n)` gives the first n of them that differ. Nothing here is sent: see volley.py.
"""

import json
import struct

UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
TOKEN = "abcdefghijklmnopqrstuvwxyz0123456789-_.~!$&'*+"
NOT_TOKEN = b"\x00\x01\x08\x0b\x1f\x7f\x80\xff()<>@,;:\\\"/[]?={} \t\r\n"
CONTROL = bytes(c for c in range(32) if c not in (9,)) + b"\x7f"


def distinct(generator, n):
    seen = set()
    out = []
    while len(out) < n:
        one = next(generator)
        key = hash(one)
        if key not in seen:
            seen.add(key)
            out.append(one)
    return out


def token(rng, low=1, high=12, letters=TOKEN):
    return "".join(rng.choices(letters, k=rng.randint(low, high))).encode()


def insert(rng, text, byte, first=0):
    at = rng.randint(first, len(text))
    return text[:at] + byte + text[at:]


def one_of(rng, alphabet):
    at = rng.randrange(len(alphabet))
    return alphabet[at:at + 1]


# ---- requests ----

class Request:
    """A good request in pieces."""

    def __init__(self, rng):
        self.method = rng.choice([b"GET", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", token(rng, 3, 8, UPPER)])
        self.target = b"/" + token(rng, 0, 20) + (b"?" + token(rng, 1, 12) if rng.random() < 0.3 else b"")
        self.version = b"HTTP/1.1"
        self.fields = [b"Host: " + token(rng, 1, 10, UPPER.lower())]
        for _ in range(rng.randint(0, 4)):
            self.fields.append(b"X-" + token(rng, 1, 8, UPPER.lower()) + b": " + token(rng, 0, 20))
        self.body = b""

    def add(self, rng, *lines):
        for one in lines:
            self.fields.insert(rng.randint(0, len(self.fields)), one)

    def bytes(self):
        return b" ".join([self.method, self.target, self.version]) + b"\r\n" + b"\r\n".join(self.fields) + b"\r\n\r\n" + self.body


def _method(rng, q):
    q.method = insert(rng, q.method, one_of(rng, NOT_TOKEN.replace(b" ", b"").replace(b"\r", b"").replace(b"\n", b"")))


def _connect(rng, q):
    q.method = b"CONNECT"
    q.target = token(rng, 1, 10, UPPER.lower()) + b":%d" % rng.randint(1, 65535)


def _target_byte(rng, q):
    q.target = insert(rng, q.target, one_of(rng, CONTROL + b"\x80\xc3\xff# \t"), 1)


def _target_form(rng, q):
    q.target = rng.choice([token(rng, 1, 20, UPPER.lower()), b"*" + token(rng), b"?" + token(rng), b"\\" + token(rng)])


def _absolute(rng, q):
    name = q.fields[0][6:]
    q.target = rng.choice([b"http://x" + name + b"/", b"http://" + token(rng) + b"@" + name + b"/", b"ftp://" + name + b"/",
                           b"http://" + name + b":%d/" % rng.randint(81, 65535), b"http:/" + name, b"https://",
                           b"http://" + name + b"\\" + token(rng) + b"/", b"file:///" + token(rng)])


def _version(rng, q):
    q.version = rng.choice([b"HTTP/1.%d" % rng.randint(2, 99), b"HTTP/%d.%d" % (rng.randint(2, 99), rng.randint(0, 9)),
                            b"HTTP/0.9", b"http/1.1", b"HTTP/1.1 ", b"HTTP/ 1.1", b"HTTP/1.1" + token(rng, 1, 3), b"HTTP/1",
                            b"HTTP/" + token(rng, 1, 5, UPPER), token(rng, 4, 4, UPPER[:7]) + b"/1.1", b"HTTP/+1.1"])


def _no_version(rng, q):
    q.version = token(rng, 0, 2, UPPER)


def _no_host(rng, q):
    q.fields[0] = b"X-" + q.fields[0]


def _two_hosts(rng, q):
    q.add(rng, b"Host: " + token(rng, 0, 8))


def _bad_host(rng, q):
    q.fields[0] += rng.choice([b":" + token(rng, 1, 4, UPPER), b":%d" % rng.randint(65536, 10**9), b":1:1", b"/" + token(rng),
                               b"@" + token(rng), b"," + token(rng), b" " + token(rng), b"#", b"?", b"\\", b"<", b"^", b"%", b"%g1",
                               b"\"", b"\xc3\xa4", b"[", b"]", b"{", b"|", b"`"]) + (b"" if rng.random() < 0.5 else token(rng, 1, 3, "GHIJKLMN"))


def _name_byte(rng, q):
    bad = NOT_TOKEN.replace(b":", b"").replace(b"\r", b"").replace(b"\n", b"")
    q.add(rng, insert(rng, token(rng, 1, 8, UPPER), one_of(rng, bad)) + b": " + token(rng))


def _no_name(rng, q):
    q.add(rng, rng.choice([b":", b": ", b":" + token(rng)]) + token(rng))


def _no_colon(rng, q):
    q.add(rng, token(rng, 1, 20, UPPER))


def _space_colon(rng, q):
    i = rng.randrange(len(q.fields))
    q.fields[i] = q.fields[i].replace(b":", rng.choice([b" :", b"\t:", b"  :"]), 1)


def _value_byte(rng, q):
    q.add(rng, b"X-V: " + token(rng) + one_of(rng, CONTROL) + token(rng))


def _fold(rng, q):
    q.add(rng, b"X-F: " + token(rng) + b"\r\n" + rng.choice([b" ", b"\t", b"  "]) + token(rng))


def _bare_lf(rng, q):
    q.add(rng, b"X-L: " + token(rng) + rng.choice([b"\n", b"\r", b"\r\r\n", b"\n\n", b"\n\r\n"]) + b"X-M: " + token(rng))


def _two_lengths(rng, q):
    n = rng.randint(0, 99)
    q.add(rng, b"Content-Length: %d" % n, b"content-length: %d" % (n if rng.random() < 0.5 else rng.randint(0, 99)))


def _bad_length(rng, q):
    n = rng.randint(0, 10**6)
    q.add(rng, b"Content-Length: " + rng.choice([b"+%d" % n, b"-%d" % n, b"0x%x" % n, b"%d, %d" % (n, n), b"%d,%d" % (n, n + 1),
                                                 b"%d %d" % (n, n), b"%d;" % n, b"%d.0" % n, b"%d_0" % n, b"\"%d\"" % n, b"",
                                                 b"%d%s" % (n, token(rng, 1, 3, UPPER)), b"9" * rng.randint(20, 60),
                                                 b"%d" % (2**63 + n)]))


def _length_and_coding(rng, q):
    q.add(rng, b"Content-Length: %d" % rng.randint(0, 99), b"Transfer-Encoding: chunked")


def _bad_coding(rng, q):
    q.add(rng, b"Transfer-Encoding: " + rng.choice([b"gzip, chunked", b"chunked, chunked", b"chunked, identity", b"identity", b"",
                                                    b"chunked;" + token(rng), b"x" + token(rng), b"\"chunked\"", b"chunked,",
                                                    b",chunked", token(rng, 1, 9, UPPER[:6]), b"chunked " + token(rng),
                                                    b"chunked" + token(rng, 1, 4, UPPER[:6])]))


def _two_codings(rng, q):
    q.add(rng, b"Transfer-Encoding: chunked", b"TRANSFER-encoding: " + rng.choice([b"chunked", b"identity", token(rng)]))


def _coding_http10(rng, q):
    q.version = b"HTTP/1.0"
    q.add(rng, b"Transfer-Encoding: chunked")


def _expect(rng, q):
    q.add(rng, b"Expect: " + rng.choice([token(rng, 1, 12, UPPER), b"100-continue, " + token(rng), b"100", b""]))


def _shape(rng, q):
    q.method = rng.choice([b" ", b"\t", b"\n", b"\r", b"\r\n ", b"\0", b"\x16\x03\x01", b"{", b"<"]) + q.method


def _two_spaces(rng, q):
    if rng.random() < 0.5:
        q.method += rng.choice([b" ", b"\t", b"  "])
    else:
        q.target += rng.choice([b" ", b"\t", b" x", b"\t\t"])


def _connection(rng, q):
    q.add(rng, b"Connection: " + b",".join(b"%d" % rng.randint(0, 10**6) for _ in range(rng.randint(33, 50))))


def _large(rng, q):
    kind = rng.random()
    if kind < 0.4:
        q.fields += [b"X%d: %d" % (i, rng.randint(0, 99)) for i in range(129)]
    elif kind < 0.7:
        q.target = b"/" + token(rng) * (17000 // 1 if kind < 0.41 else 2000) + b"a" * 16400
    else:
        q.add(rng, b"X-Large: " + token(rng) + b"a" * 49152)


def _bad_chunks(rng, q):
    q.method = b"POST"
    good = b"".join(b"%x\r\n" % len(p) + p + b"\r\n" for p in (token(rng) for _ in range(rng.randint(0, 3))))
    size = b"%x" % rng.randint(1, 200)
    q.add(rng, b"Transfer-Encoding: chunked")
    q.body = good + rng.choice([b"+" + size, b"-" + size, b"0x" + size, size + b"_1", b" " + size, size + b" ", b"", b"g" + size,
                                size + b"g", size + b"\n", size + b"\r", size + b";\r\n", size + b";=" + token(rng),
                                size + b";a=\"" + token(rng) + b"\r\n", b"1" + b"0" * 16, b"8" + b"0" * 15,
                                size + b";a\x00", b"0\r\nX Y: z", b"0\r\n: y", b"0\r\nX\r\n", b"0\r\nX: \x01"]) + b"\r\n"


def _chunk_ends(rng, q):
    q.method = b"POST"
    q.add(rng, b"Transfer-Encoding: chunked")
    text = token(rng, 1, 30)
    q.body = b"%x\r\n" % len(text) + text + rng.choice([b"\n", b"\r", b"x\r\n", b"0\r\n", b"\r\r\n", b"\n\r\n", b" \r\n"]) + b"0\r\n\r\n"


def _upgrade_body(rng, q):
    """Of a WebSocket: it has none. Behind other tokens a body may stand, and its length says where it ends."""
    q.version = b"HTTP/1.1"
    q.add(rng, b"Connection: upgrade", b"Upgrade: websocket", b"Content-Length: %d" % rng.randint(1, 99))


HEADS = [_method, _connect, _target_byte, _target_form, _absolute, _version, _no_version, _no_host, _two_hosts, _bad_host, _name_byte,
         _no_name, _no_colon, _space_colon, _value_byte, _fold, _bare_lf, _two_lengths, _bad_length, _length_and_coding, _bad_coding,
         _two_codings, _coding_http10, _expect, _shape, _two_spaces, _connection]
BODIES = [_bad_chunks, _chunk_ends, _upgrade_body]


def bad_requests(rng, bodies=True):
    """Requests that a server refuses: with the head alone, or with their bodies too."""
    kinds = HEADS + (BODIES * 3 if bodies else [])
    while True:
        q = Request(rng)
        (rng.choice(kinds) if rng.random() > 0.004 else _large)(rng, q)
        yield q.bytes()


def bad_upgrades(rng, path, protocol):
    """Handshakes on the connect path that must not become a WebSocket."""
    while True:
        fields = {"Host": b"localhost", "Connection": b"Upgrade", "Upgrade": b"websocket", "Sec-WebSocket-Version": b"13",
                  "Sec-WebSocket-Key": b"dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": protocol}
        method, version = b"GET", b"HTTP/1.1"
        name = rng.choice(list(fields) + ["method", "version", "body", "origin"])
        other = token(rng, 1, 16, UPPER)
        if name == "method":
            method = rng.choice([b"POST", b"PUT", b"HEAD", other])
        elif name == "version":
            version = b"HTTP/1.0"
        elif name == "body":
            fields["Content-Length"] = b"%d" % rng.randint(1, 1000)
        elif name == "origin":
            fields["Origin"] = b"http://" + other + b".example"
        elif name == "Host":
            fields["Host"] = other + b".example"
        elif name == "Sec-WebSocket-Key":
            fields[name] = rng.choice([other, b"", b"dGhlIHNhbXBsZSBub25jZQ=", b"dGhlIHNhbXBsZSBub25jZQ===", other * 4])
        elif rng.random() < 0.5:
            del fields[name]
        else:
            fields[name] = other
        fields["X-" + token(rng, 1, 6, UPPER).decode()] = token(rng)
        head = b"%s %s %s\r\n" % (method, path, version)
        yield head + b"".join(b"%s: %s\r\n" % (k.encode(), v) for k, v in fields.items()) + b"\r\n"


# ---- answers of a local service ----

def bad_answers(rng):
    """(bytes, cut): what no client may take for an answer. `cut`: its beginning is good, and it must be seen to end early."""
    while True:
        line, fields, body, cut = b"HTTP/1.1 200 " + token(rng, 0, 8), [b"X-A: " + token(rng)], token(rng, 1, 40), False
        length = b"Content-Length: %d" % len(body)
        kind = rng.randrange(13)
        if kind == 0:
            line = rng.choice([b"HTTP/1.%d 200 OK" % rng.randint(10, 99), b"HTTP/0.9 200 OK", b"http/1.1 200 OK", b"ICY 200 OK",
                               b"HTTP/1.1 %d OK" % rng.choice([rng.randint(0, 99), rng.randint(1000, 10**6)]), b"HTTP/1.1200 OK",
                               b"HTTP/1.1 200OK", token(rng, 1, 30), b"HTTP/1.1 " + token(rng, 1, 3, UPPER)])
            fields.append(length)
        elif kind == 1:
            line += b"\r"
            fields.append(length)
        elif kind == 2:
            fields += [length, insert(rng, token(rng, 1, 8, UPPER), one_of(rng, bytes(set(NOT_TOKEN) - set(b": \t\n")))) + b": v"]
        elif kind == 3:
            fields += [length, b"X: " + token(rng) + rng.choice([b"\0", b"\r"]) + token(rng)]
        elif kind == 4:
            fields.append(rng.choice([b"Content-Length", b"Transfer-Encoding"]) + b": " + rng.choice([b"chunked", b"5"]) + b"\r\n 0")
        elif kind == 5:
            fields += [length, b"Content-Length: %d" % (len(body) + rng.randint(1, 99))]
        elif kind == 6:
            fields.append(b"Content-Length: " + rng.choice([b"+5", b"-5", b"0x5", b"5, 6", b"5;", token(rng, 1, 5, UPPER), b"",
                                                            b"9" * rng.randint(20, 40)]))
        elif kind == 7:
            fields += [length, b"Transfer-Encoding: chunked"]
        elif kind == 8:
            fields.append(b"Transfer-Encoding: " + rng.choice([b"gzip", b"identity", b"gzip, chunked", b"chunked, chunked", b"",
                                                               token(rng, 1, 6, UPPER)]))
        elif kind == 9:
            fields.append(b"Transfer-Encoding: chunked")
            body = rng.choice([b"+5", b"-5", b"0x5", b"g", b" 5", b"5 5", b"5;a\n", b"", b"5;", b"1" * 17]) + b"\r\n" + body
        elif kind == 10:
            line = b"HTTP/1.1 101 Switching"
            fields += [b"Connection: upgrade", b"Upgrade: " + token(rng)]
        elif kind == 11:
            cut = True
            fields.append(b"Content-Length: %d" % (len(body) + rng.randint(1, 10**6)))
        else:
            cut = True
            fields.append(b"Transfer-Encoding: chunked")
            body = b"%x\r\n" % (len(body) + rng.randint(1, 1000)) + body
        rng.shuffle(fields)
        text = line + b"\r\n" + b"\r\n".join(fields) + b"\r\n\r\n" + body
        if rng.random() < 0.05:
            text, cut = text[:rng.randint(0, text.index(b"\r\n\r\n"))], False
        yield text, cut


# ---- WebSocket and frames ----

MASK = b"\x12\x34\x56\x78"


def masked(payload):
    key = (MASK * (len(payload) // 4 + 1))[:len(payload)]
    return bytes(a ^ b for a, b in zip(payload, key))


def ws_frame(payload, opcode=2, fin=True, rsv=0, mask=True, length=None):
    """One WebSocket frame; `length` may lie."""
    n = len(payload) if length is None else length
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    bit = 0x80 if mask else 0
    if n < 126:
        head += bytes([bit | n])
    elif n < 65536:
        head += bytes([bit | 126]) + struct.pack(">H", n)
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", n)
    return head + (MASK + masked(payload) if mask else payload)


def frame(type_, stream, payload, length=None):
    return struct.pack(">BII", type_, stream, len(payload) if length is None else length) + payload


def bad_websocket(rng):
    """WebSocket frames that RFC 6455 or our limits forbid."""
    while True:
        text = token(rng, 0, 40)
        kind = rng.randrange(10)
        if kind == 0:
            yield ws_frame(text, mask=False)
        elif kind == 1:
            yield ws_frame(text, rsv=rng.randint(1, 7), opcode=rng.choice([0, 1, 2, 8, 9, 10]))
        elif kind == 2:
            yield ws_frame(text, opcode=rng.choice([3, 4, 5, 6, 7, 11, 12, 13, 14, 15]))
        elif kind == 3:
            yield ws_frame(token(rng, 126, 300), opcode=rng.choice([8, 9, 10]))
        elif kind == 4:
            yield ws_frame(text, opcode=rng.choice([8, 9, 10]), fin=False)
        elif kind == 5:
            yield ws_frame(text, opcode=0)
        elif kind == 6:
            yield ws_frame(text or b"x", opcode=1)
        elif kind == 7:
            yield ws_frame(text, length=rng.choice([rng.randint(300_000, 2**32), rng.randint(2**62, 2**64 - 1)]))
        elif kind == 8:
            yield ws_frame(rng.choice([one_of(rng, text or b"x"), struct.pack(">H", rng.choice([0, 999, 1004, 1005, 1006, 1015, 2999])) + text,
                                       struct.pack(">H", 1002) + text + b"\xff\xfe"]), opcode=8)
        else:
            yield b"".join(ws_frame(one_of(rng, b"abc"), fin=False, opcode=0 if i else 2) for i in range(rng.randint(66, 90))) + text


def bad_json(rng, value):
    """A payload that is no JSON, or not this one."""
    text = json.dumps(value, separators=(",", ":")).encode()
    kind = rng.randrange(9)
    if kind == 0:
        return text[:rng.randrange(len(text))]
    if kind == 1:
        return insert(rng, text[:-1], one_of(rng, CONTROL + b"\x80\xff\xc0\xfe"))
    if kind == 2:
        return text + token(rng)
    if kind == 3:
        return b"[" * rng.randint(17, 2000) + token(rng)
    if kind == 4:
        key = rng.choice(list(value))
        return text[:-1] + b"," + json.dumps(key).encode() + b":" + b"%d" % rng.randint(0, 10**9) + b"}"
    if kind == 5:
        return rng.choice([b"", b"null", b"[]", b"true", b"\"" + token(rng) + b"\"", b"%d" % rng.randint(0, 10**12), b"{" + token(rng) + b"}"])
    if kind == 6:
        return text.replace(b":", rng.choice([b"=", b" ", b"::", b","]), 1) + token(rng, 0, 2, UPPER)
    if kind == 7:
        return bytes(rng.randrange(256) for _ in range(rng.randint(1, 60)))
    return text.replace(b"}", b",\"" + token(rng, 1, 5, UPPER) + b"\":" + rng.choice([b"01", b"1.", b"+1", b"'a'", b"NaN", b"\"\\x\"", b"\"\\ud800\""])) + b"}"


def bad_frames(rng, first):
    """(messages, note): frames that break the protocol, as WebSocket messages. `first`: in place of HELLO."""
    hello = {"version": "hoody-tunnel.v1", "capabilities": []}
    bodies = [(0x03, 0, {"clientBindRef": 1, "kind": "http", "mode": "expose", "containerPort": 0}), (0x06, 0, {"bindId": 1}),
              (0x16, 2, {"status": 200, "headers": [], "final": True}), (0x30, 0, {"code": 0, "message": "", "lastStreamId": 0, "retryAfterMs": 0}),
              (0x09, 0, {"sessionId": "S", "index": 1, "nonce": "n"}), (0x0d, 0, {"indexes": [1]})]
    while True:
        kind = rng.randrange(9)
        if first and kind < 5:
            yield ws_frame(frame(0x01, 0, bad_json(rng, hello)))
        elif kind == 0:
            type_, stream, value = rng.choice(bodies)
            yield ws_frame(frame(type_, stream, bad_json(rng, value)))
        elif kind == 1:
            yield ws_frame(frame(rng.choice([0, 0x0e, 0x0f, 0x11, 0x17, 0x1f, 0x22, 0x3f, 0x80, 0xff]), rng.randrange(2**32), token(rng)))
        elif kind == 2:
            yield ws_frame(frame(rng.choice([0x02, 0x04, 0x05, 0x07, 0x08, 0x0a, 0x0b, 0x0c, 0x10, 0x40]), rng.randint(0, 4), token(rng)))
        elif kind == 3:
            yield ws_frame(frame(rng.choice([0x03, 0x12, 0x13, 0x14, 0x15, 0x20]), rng.randint(0, 9), token(rng, 1, 30),
                                 length=rng.choice([rng.randint(0, 200), rng.randint(65537, 2**32 - 1)])))
        elif kind == 4:
            yield ws_frame(frame(0x15, rng.choice([0, 0, 1, 2, 2**32 - 1]), struct.pack(">I", rng.choice([0, 2**32 - 1, rng.randrange(2**32)]))))
        elif kind == 5:
            yield ws_frame(b"".join(frame(0x20, 0, rng.randbytes(8)) for _ in range(rng.randint(65, 80))))
        elif kind == 6:
            yield ws_frame(rng.choice([b"", token(rng, 1, 8)]) + (b"" if rng.random() < 0.5 else token(rng, 0, 0)))
        elif kind == 7:
            yield ws_frame(frame(rng.choice([0x01, 0x09]), rng.choice([0, 1, 7]), bad_json(rng, hello)))
        else:
            yield ws_frame(b"".join(frame(rng.choice([0x12, 0x13, 0x14, 0x16]), rng.choice([0, 1, 3, rng.randrange(2**32)]), token(rng, 0, 20))
                                    for _ in range(rng.randint(1, 5))))


# ---- raw bytes ----

def raw_bytes(rng):
    """(bytes, ending): how a TCP client may behave."""
    while True:
        yield rng.randbytes(rng.choice([0, 1, rng.randint(2, 100), rng.randint(100, 3000)])), rng.choice(["fin", "rst", "close", "urgent"])
