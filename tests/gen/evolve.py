"""The protocol's spec as it may be one day: edits of spec/protocol.yaml for the tests of how it evolves."""

import os

from gen import specfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# A third version, without anything of its own.
V3 = [
    ("\nroles:\n", "  - {number: 3, name: v3, subprotocol: hoody-tunnel.v3, doc: A rehearsal.}\n\nroles:\n"),
    ("{name: V2, text: hoody-tunnel.v2, doc: Version 2.}",
     "{name: V2, text: hoody-tunnel.v2, doc: Version 2.},\n             "
     "{name: V3, text: hoody-tunnel.v3, since: v3, doc: Version 3.}"),
]


def edited(edits):
    """The spec's text after the edits, each of which replaces the first place of a text that must be there."""
    text = specfile.text(os.path.join(ROOT, "spec", "protocol.yaml"))
    for old, new in edits:
        assert old in text, f"{old!r} is not in spec/protocol.yaml"
        text = text.replace(old, new, 1)
    return text


# hoody-tunnel.v3: one new frame, one new field and one changed limit, beside v1 and v2 as they are.
REHEARSAL = [
    *V3,
    ("{name: MAX_FRAMES, value: 64,", "{name: MAX_FRAMES, value: 64, changes: {v3: 128},"),
    ("        - {name: label, type: string, max: 256, doc: A name for people.}\n",
     "        - {name: label, type: string, max: 256, doc: A name for people.}\n"
     "        - {name: note, type: string, max: 16, since: v3, doc: A note.}\n"),
    ("  - number: 0x40\n", """  - number: 0x5E
    name: NOTICE
    doc: Something that people should read.
    since: v3
    sender: both
    stream_zero: zero
    legal_in: [open, closing]
    flow_controlled: false
    violation: {scope: session, code: PROTOCOL_ERROR, close: 1002}
    rules: [EXT-2]
    payload:
      format: json
      fields:
        - {name: text, type: string, min: 1, max: 100, required: true, doc: What.}
  - number: 0x40
"""),
]
