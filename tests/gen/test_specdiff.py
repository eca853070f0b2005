"""What gen/specdiff.py says of each class of change, and that spec/protocol.yaml keeps what was released."""

import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, ROOT)
os.chdir(ROOT)

from gen import specdiff, specfile  # noqa: E402  pylint: disable=wrong-import-position
from tests.gen.evolve import V3, edited  # noqa: E402  pylint: disable=wrong-import-position
from tests.support.tap import case, main  # noqa: E402  pylint: disable=wrong-import-position

RELEASED = "spec/released/protocol.yaml"
SPEC = "spec/protocol.yaml"
SPEC_FILES = (SPEC, "spec/rules.yaml")
NOW = specdiff.open_old(SPEC)
FRAME = """  - number: 0x{number:02X}
    name: HINT
    doc: A hint.
    since: {since}
    {extra}sender: driver
    stream_zero: zero
    legal_in: [open, closing]
    flow_controlled: false
    violation: {{scope: session, code: PROTOCOL_ERROR, close: 1002}}
    payload: {{format: empty}}
  - number: 0x40
"""


def hint(number, since="v1", extra=""):
    return ("  - number: 0x40\n", FRAME.format(number=number, since=since, extra=extra))


def gone(frame):
    """The edit that takes a frame's row out."""
    with open(SPEC, encoding="utf-8") as f:
        text = f.read()
    at = text.index(f"    name: {frame}\n")
    start = text.rindex("  - number: ", 0, at)
    end = text.find("  - number: ", at)
    end = end if end >= 0 else text.index("\n# GOAWAYs", at)
    return (text[start:end], "")


KITS, DRIVERS, BOTH = specdiff.KITS, specdiff.DRIVERS, specdiff.BOTH
ALL = ["v1", "v2"]
REF = "{name: clientBindRef, type: uint, max: 9007199254740991, required: true, salvage: true"
LABEL = "{name: label, type: string, max: 256,"

# what | edits | verdict | for whom | versions | the text on the line that is named (None: of the old spec) | part of the text
CHANGES = [
    ("an optional field", [(LABEL, "{name: note, type: string, max: 9, doc: A note.}\n        - " + LABEL)],
     "compatible", (), ALL, "{name: note", "BIND.note is new"),
    ("a required field", [(LABEL, "{name: note, type: string, max: 9, required: true, doc: A note.}\n        - " + LABEL)],
     "breaking", DRIVERS, ALL, "{name: note", "BIND.note is new and required"),
    ("a field of a new version", [*V3, (LABEL, "{name: note, type: string, max: 9, required: true, since: v3, doc: A note.}\n"
                                               "        - " + LABEL)],
     "later", (), ["v3"], "{name: note", "BIND.note is new and required"),
    ("an optional field is gone", [("        - {name: label, type: string, max: 256, doc: A name for people.}\n", "")],
     "breaking", DRIVERS, ALL, None, "BIND.label is gone"),
    ("a required field is gone", [("        - {name: bindId, type: uint, min: 1, max: 4294967295, required: true, doc: "
                                   "\"Unique in the session, from 1.\"}\n", "")],
     "breaking", DRIVERS, ALL, None, "BIND_OK.bindId is gone"),
    ("optional becomes required", [(LABEL, LABEL + " required: true,")], "breaking", DRIVERS, ALL, "{name: label",
     "BIND.label is required now"),
    ("required becomes optional", [("max: 65535, required: true, doc: The port that is bound", "max: 65535, doc: The port that "
                                    "is bound")],
     "breaking", DRIVERS, ALL, "doc: The port that is bound", "BIND_OK.containerPort is not required any more"),
    ("another default", [("{name: takeover, type: bool, default: false", "{name: takeover, type: bool, default: true")],
     "breaking", BOTH, ALL, "{name: takeover", "BIND.takeover: default False is now True"),
    ("another type", [(LABEL, "{name: label, type: uint, max: 256,")], "breaking", BOTH, ALL, "{name: label",
     "BIND.label was string (string) and is now uint"),
    ("a wider bound", [(LABEL, LABEL.replace("256", "300"))], "breaking", KITS, ALL, "max: 300",
     "BIND.label: 0..256 is now 0..300; they refuse"),
    ("a narrower bound", [(LABEL, LABEL.replace("256", "200"))], "breaking", DRIVERS, ALL, "max: 200",
     "BIND.label: 0..256 is now 0..200; what they send"),
    ("a narrower bound in a record", [("{name: expiresMs, type: uint, max: 4294967295", "{name: expiresMs, type: uint, max: 9")],
     "breaking", KITS, ["v2"], "name: expiresMs", "HELLO_OK.joinTickets.expiresMs: 0..4294967295 is now 0..9"),
    ("another item in a tuple", [("      - {name: value, type: httpbytes, max: 49152, required: true, doc: Without surrounding blanks.}\n", "")],
     "breaking", BOTH, ALL, "{name: name, type: httpbytes", "the items of a tuple"),
    ("may be null no more", [("nullable: false, doc: First credit of a stream", "nullable: true, doc: First credit of a stream")],
     "breaking", DRIVERS, ALL, "doc: First credit of a stream", "HELLO_OK.streamWindow may be null now"),
    ("a field asks for a capability", [(LABEL, LABEL + " capability: auto-window,")], "breaking", DRIVERS, ALL, "{name: label",
     "BIND.label needs capability auto-window now"),
    ("a text that is kept", [("      - {name: INTERNAL, text: INTERNAL, doc: \"No free port", "      - {name: BUSY, text: BUSY, doc: "
                              "Busy.}\n      - {name: INTERNAL, text: INTERNAL, doc: \"No free port")],
     "compatible", (), ALL, "{name: BUSY", "BIND_ERR.code: 'BUSY' is new"),
    ("a text that is refused", [("{name: TCP, text: tcp,", "{name: UDP, text: udp, doc: Datagrams.}, {name: TCP, text: tcp,")],
     "breaking", DRIVERS, ALL, "{name: UDP", "STREAM_OPEN.kind: 'udp' is new; they refuse it"),
    ("a text is gone", [("      - {name: UNKNOWN_SESSION, text: UNKNOWN_SESSION, doc: No live v2 session of that id.}\n", "")],
     "breaking", KITS, ["v2"], None, "JOIN_ERR.code: 'UNKNOWN_SESSION' is gone"),
    ("a frame that old peers skip", [hint(0x51)], "compatible", (), ALL, "number: 0x51", "frame HINT (0x51) is new"),
    ("a frame below 0x40", [hint(0x17)], "breaking", KITS, ALL, "number: 0x17", "it ends the session with them"),
    ("a frame below 0x40 of a new version", [*V3, hint(0x17, "v3")], "later", (), ["v3"], "number: 0x17", "frame HINT"),
    ("a frame below 0x40 with a capability", [hint(0x17, extra="capability: shard-map\n    ")], "compatible", (), ALL,
     "number: 0x17", "between peers with shard-map"),
    ("a frame is gone", [gone("BIND_REVOKED")], "breaking", KITS, ALL, None, "frame BIND_REVOKED is gone"),
    ("a frame ends with a version", [*V3, ("    name: BIND_REVOKED\n    doc: Another session took the binding.\n    since: v1\n",
                                           "    name: BIND_REVOKED\n    doc: Another session took the binding.\n    since: v1\n"
                                           "    until: v2\n")],
     "later", (), ["v3"], None, "frame BIND_REVOKED is gone"),
    ("a number", [("number: 0x40\n", "number: 0x4F\n")], "breaking", BOTH, ALL, "number: 0x4F", "number 0x40 is now 0x4F"),
    ("another sender", [("    name: PONG\n    struct: ping\n    doc: The answer to a PING.\n    since: v1\n    sender: both",
                         "    name: PONG\n    struct: ping\n    doc: The answer to a PING.\n    since: v1\n    sender: kit")],
     "breaking", DRIVERS, ALL, "sender: kit\n    stream_zero: zero\n    legal_in: [open, closing]\n    flow_controlled: false\n"
     "    violation: {scope: session, code: PROTOCOL_ERROR, close: 1002}\n    rules: [KEEP-2",
     "PONG is not for the"),
    ("illegal in a state", [("    name: UNBIND\n    doc: Gives a binding back.\n    since: v1\n    sender: driver\n"
                             "    stream_zero: zero\n    legal_in: [open, closing]", "    name: UNBIND\n    doc: Gives a binding "
                             "back.\n    since: v1\n    sender: driver\n    stream_zero: zero\n    legal_in: [open]")],
     "breaking", DRIVERS, ALL, "legal_in: [open]", "UNBIND is illegal in closing now"),
    ("another payload", [("{name: nonce, type: bytes, size: 8, doc: Comes", "{name: nonce, type: bytes, size: 9, doc: Comes")],
     "breaking", BOTH, ALL, "size: 9", "PING.nonce: size 8 is now 9"),
    ("another cost", [("violation: {scope: reply, code: PROTOCOL_ERROR", "violation: {scope: session, code: PROTOCOL_ERROR")],
     "look", (), ALL, "violation: {scope: session, code: PROTOCOL_ERROR, close: 1002}\n    rules: [BIND-1, BIND-2",
     "BIND: what a violation costs"),
    ("a limit is lowered", [("MAX_FRAMES, value: 64", "MAX_FRAMES, value: 60")], "breaking", BOTH, ALL, "name: MAX_FRAMES",
     "limit MAX_FRAMES: 64 is now 60; they may be outside of it"),
    ("a limit is raised", [("MAX_CONNECTIONS, value: 16", "MAX_CONNECTIONS, value: 20")], "breaking", KITS, ALL,
     "name: MAX_CONNECTIONS", "16 is now 20; they do not expect that"),
    ("a limit changes with a version", [*V3, ("MAX_FRAMES, value: 64,", "MAX_FRAMES, value: 64, changes: {v3: 128},")],
     "later", (), ["v3"], "name: MAX_FRAMES", "limit MAX_FRAMES: 64 is now 128"),
    ("a lower bound is raised", [("RESERVED_BELOW, value: 80", "RESERVED_BELOW, value: 90")], "breaking", DRIVERS, ALL,
     "name: RESERVED_BELOW", "80 is now 90; they may be outside"),
    ("a side's own limit", [("HELLO_TIMEOUT, value: 5000", "HELLO_TIMEOUT, value: 4000")], "compatible", (), ALL,
     "name: HELLO_TIMEOUT", "5000 is now 4000, which binds nobody"),
    ("a rule is dropped", [("  - {id: TCP-2, level: MUST, doc: A driver that cannot reach its target sends RESET 6.}\n", "")],
     "breaking", BOTH, ALL, None, "rule TCP-2 is gone"),
    ("a rule is weakened", [("{id: TCP-2, level: MUST", "{id: TCP-2, level: SHOULD")], "breaking", BOTH, ALL, "{id: TCP-2",
     "rule TCP-2 is weakened"),
    ("a rule is tightened", [("{id: FLOW-7, level: SHOULD", "{id: FLOW-7, level: MUST")], "breaking", BOTH, ALL, "{id: FLOW-7",
     "rule FLOW-7 is tightened"),
    ("a new MUST", [("  # TCP\n", "  - {id: TCP-9, level: MUST, doc: New.}\n")], "breaking", BOTH, ALL, "{id: TCP-9",
     "rule TCP-9 is new and a MUST"),
    ("a new MUST with a capability", [("  # TCP\n", "  - {id: TCP-9, level: MUST, capability: auto-window, doc: New.}\n")],
     "compatible", (), ALL, "{id: TCP-9", "rule TCP-9 is new"),
    ("a new MUST of a new version", [*V3, ("  # TCP\n", "  - {id: TCP-9, level: MUST, since: v3, doc: New.}\n")], "later", (),
     ["v3"], "{id: TCP-9", "rule TCP-9 is new"),
    ("a new SHOULD", [("  # TCP\n", "  - {id: TCP-9, level: SHOULD, doc: New.}\n")], "compatible", (), ALL, "{id: TCP-9", "TCP-9"),
    ("other words of a rule", [("cannot reach its target sends RESET 6", "cannot reach its target sends RESET 6 soon")], "look",
     (), ALL, "{id: TCP-2", "rule TCP-2 has other words"),
    ("a code's number", [("{number: 13, name: BIND_TAKEOVER", "{number: 15, name: BIND_TAKEOVER")], "breaking", BOTH, ALL,
     "{number: 15", "code BIND_TAKEOVER: 13 is now 15"),
    ("a new code", [("  - {number: 14,", "  - {number: 15, name: LATE, doc: Late.}\n  - {number: 14,")], "compatible", (), ALL,
     "{number: 15", "code LATE (15) is new"),
    ("a close code of a goaway", [("message: shutting down, close: 1001", "message: shutting down, close: 1000")], "breaking",
     DRIVERS, ALL, "name: SHUTDOWN", "goaway SHUTDOWN: close 1001 is now 1000"),
    ("an answer to visitors", [("{name: PARKED, status: 503", "{name: PARKED, status: 502")], "breaking", specdiff.VISITORS, ALL,
     "name: PARKED", "answer PARKED: status 503 is now 502"),
    ("a binding pair", [("  - {kind: tcp, mode: pull, takeover: false}\n", "")], "breaking", DRIVERS, ALL, None,
     "binding of tcp and pull is gone"),
    ("unknown types", [("{from: 0x40, to: 0x7F, unknown: skip, rule: FRAME-5}", "{from: 0x40, to: 0x7F, unknown: fatal, rule: "
                        "FRAME-6}")],
     "breaking", BOTH, ALL, "type_ranges:", "unknown types 0x44-0x7F are met otherwise"),
    ("a subprotocol", [("subprotocol: hoody-tunnel.v2", "subprotocol: hoody-tunnel.two"),
                       ("text: hoody-tunnel.v2", "text: hoody-tunnel.two")],
     "breaking", BOTH, ["v2"], "subprotocol: hoody-tunnel.two", "subprotocol hoody-tunnel.v2 is now"),
    ("the path", [("connect_path: /api", "connect_path: /apis")], "breaking", DRIVERS, ALL, "connect_path:", "connect_path"),
    ("a capability", [("  - {name: auto-window,", "  - {name: compress, ours: true, doc: Less bytes.}\n  - {name: auto-window,")], "compatible",
     (), ALL, "{name: compress", "capability compress is new"),
]


def differences(edits):
    """(what compare() finds after the edits of spec/protocol.yaml, the new text, the status and words of the command)."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "protocol.yaml")
        text = edited(edits)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        found = specdiff.compare(NOW, specdiff.Side(specfile.load(path, "spec/protocol.schema.json"), path))
    return found, text


def register(what, edits, verdict, whom, versions, at, part):
    @case(f"a change: {what}")
    def _():
        found, text = differences(edits)
        hits = [f for f in found if part in f[4]]
        assert hits, f"nothing of '{part}' among {found}"
        assert any(f[:3] == (verdict, whom, versions) for f in hits), f"{hits} instead of {(verdict, whom, versions)}"
        label, _, line = hits[0][3].rpartition(":")
        if at is None:
            assert label in SPEC_FILES, f"{hits[0][3]} is not of the old spec"
        else:
            want = text[:text.index(at)].count("\n") + 1
            assert label not in SPEC_FILES and int(line) == want, f"{hits[0][3]} instead of line {want}"
        if verdict in ("compatible", "later", "look"):
            assert not any(f[0] == "breaking" for f in found), f"it breaks something: {found}"


for row in CHANGES:
    register(*row)


@case("nothing changed: nothing is said")
def _():
    found, _ = differences([])
    assert found == [], found


@case("a version that is gone breaks those who speak it")
def _():
    old = specdiff.open_old(SPEC)
    new = specdiff.open_old(SPEC)
    del new.versions["v1"]
    found = specdiff.compare(old, new)
    assert [f for f in found if f[0] == "breaking" and f[2] == ["v1"] and "version v1 is gone" in f[4]], found


@case("the command: exit status, file and line, what to do")
def _():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "protocol.yaml")
        for edits, status, said in (
                ([], 0, "0 breaking"),
                ([("MAX_FRAMES, value: 64", "MAX_FRAMES, value: 60")], 1, "What was released stays"),
                ([("MAX_FRAMES, value: 64", "MAX_FRAMES, value: many")], 2, "'many' is not of type 'integer'")):
            with open(path, "w", encoding="utf-8") as f:
                f.write(edited(edits))
            done = subprocess.run([sys.executable, "-m", "gen.specdiff", SPEC, path], capture_output=True, text=True,
                                  check=False, timeout=60)
            assert done.returncode == status and said in done.stdout + done.stderr, done
            assert "Traceback" not in done.stderr, done.stderr
        done = subprocess.run([sys.executable, "-m", "gen.specdiff", "no-such-ref"], capture_output=True, text=True,
                              check=False, timeout=60)
        assert done.returncode == 2 and "neither a file nor a git ref" in done.stderr, done


@case("spec/protocol.yaml keeps what was released")
def _():
    found = specdiff.compare(specdiff.open_old(RELEASED), specdiff.open_new(SPEC))
    broken = [f"{f[3]}: {specdiff.words(*f[:3])}: {f[4]}" for f in found if f[0] == "breaking"]
    assert not broken, "\n".join([*broken, "what was released stays: see the head of spec/protocol.yaml; only a spec that never left the house "
                                          f"may be copied over {RELEASED}"])


if __name__ == "__main__":
    main()
