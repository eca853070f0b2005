"""What gen/specdiff.py says of changes in a wire of text messages, and that spec/vtunnel.yaml keeps what was released."""

import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, ROOT)
os.chdir(ROOT)

from gen import specdiff  # noqa: E402  pylint: disable=wrong-import-position
from tests.support.tap import case, main  # noqa: E402  pylint: disable=wrong-import-position

RELEASED = "spec/released/vtunnel.yaml"
SPEC = "spec/vtunnel.yaml"
CLIENTS, SERVERS = specdiff.CLIENTS, specdiff.SERVERS
ALL = CLIENTS + SERVERS

with open(SPEC, encoding="utf-8") as spec_file:
    TEXT = spec_file.read()

PONG = """  - name: pong
    doc: "I am; a server may say so unasked."
    sender: server
    fields: []
    rules: [VKEEP-1, VFLOW-2]
"""

# what | edits | verdict | for whom | the text on the line that is named (None: of the old spec) | part of the text
CHANGES = [
    ("a field", [("  - {name: local_addr,", "  - {name: mood, type: string, max: 9, doc: Of late.}\n  - {name: local_addr,")],
     "compatible", (), "{name: mood", "field mood is new"),
    ("a field of another type", [("error, type: string, max: 1024", "error, type: uint, max: 1024")], "breaking", ALL, "name: error, type: uint",
     "was string (string) and is now uint"),
    ("a wider bound of the server's field", [("type: string, max: 1024", "type: string, max: 2048")], "breaking", CLIENTS, "max: 2048",
     "they refuse what is outside"),
    ("a narrower bound of the client's field", [("type: string, max: 512", "type: string, max: 511")], "breaking", CLIENTS, "max: 511",
     "what they send may be outside"),
    ("a field that is gone", [("    fields: [port, local_addr]", "    fields: [port]"),
                              ("  - {name: local_addr, type: string, max: 512, doc: \"Where the client leads the port, as text.\"}\n", "")],
     "breaking", ALL, None, "field local_addr is gone"),
    ("a field that a message lost", [("    fields: [port, error]", "    fields: [port]")], "breaking", CLIENTS, "fields: [port]\n    rules: [VLISTEN-3, VLISTEN-4]",
     "message listen_err has no error any more"),
    ("a message", [(PONG, PONG + PONG.replace("name: pong", "name: resume"))], "look", (), "name: resume", "message resume is new"),
    ("a message that is gone", [(PONG, "")], "breaking", CLIENTS, None, "message pong is gone; they wait for it"),
    ("another sender", [(PONG, PONG.replace("sender: server", "sender: both"))], "breaking", ALL, "sender: both\n    fields: []",
     "message pong came from server and comes from both now"),
    ("no stream any more", [("    stream: true\n    fields: [port, stream_id]", "    fields: [port, stream_id]")], "breaking", ALL,
     "name: connect", "message connect is not about a stream now"),
    ("a limit of the client", [("PING_INTERVAL, value: 30000", "PING_INTERVAL, value: 20000")], "breaking", CLIENTS, "value: 20000",
     "limit PING_INTERVAL: 30000 is now 20000"),
    ("a limit of nobody", [("STALL_PONG, value: 15000", "STALL_PONG, value: 10000")], "compatible", (), "value: 10000", "which binds nobody"),
    ("another close code", [("name: SILENT, code: 1001", "name: SILENT, code: 1002")], "breaking", ALL, "code: 1002, reason", "end SILENT: code 1001"),
    ("another reason", [("read_end no message in time", "silence")], "compatible", (), "silence", "end SILENT is worded anew"),
    ("another error text", [("already in use", "taken")], "look", (), "taken", "error IN_USE is worded anew"),
    ("a rule that is gone", [("  - {id: VMSG-5, level: MUST, doc: \"Nothing is answered with an error but listen.\"}\n", "")], "breaking", ALL, None,
     "rule VMSG-5 is gone"),
    ("a weaker rule", [("{id: VMSG-5, level: MUST", "{id: VMSG-5, level: SHOULD")], "breaking", ALL, "VMSG-5", "rule VMSG-5 is weakened"),
    ("a rule in other words", [("error but listen.", "error, listen excepted.")], "look", (), "listen excepted", "rule VMSG-5 has other words"),
]


def edited(edits):
    text = TEXT
    for old, new in edits:
        assert old in text, f"{old!r} is not in the spec"
        text = text.replace(old, new, 1)
    return text


def register(what, edits, verdict, whom, marker, message):
    @case(f"change: {what}")
    def _():
        text = edited(edits)
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "vtunnel.yaml")
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
            found = specdiff.compare(specdiff.open_old(SPEC), specdiff.open_new(path))
            where = SPEC if marker is None else f"{os.path.relpath(path)}:{text[:text.index(marker)].count(chr(10)) + 1}"
        assert any(f[0] == verdict and f[1] == whom and f[3].startswith(where) and message in f[4] for f in found), (where, found)


for row in CHANGES:
    register(*row)


@case("nothing changed: nothing is said; another kind of wire is refused")
def _():
    assert specdiff.compare(specdiff.open_old(SPEC), specdiff.open_new(SPEC)) == []
    done = subprocess.run([sys.executable, "-m", "gen.specdiff", "spec/protocol.yaml", SPEC], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2 and "another kind of wire" in done.stderr, done


@case("spec/vtunnel.yaml keeps what was released")
def _():
    found = specdiff.compare(specdiff.open_old(RELEASED), specdiff.open_new(SPEC))
    broken = [f"{f[3]}: {specdiff.words(*f[:3])}: {f[4]}" for f in found if f[0] == "breaking"]
    assert not broken, "\n".join(broken)


if __name__ == "__main__":
    main()
