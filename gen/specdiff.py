"""python3 -m gen.specdiff OLD [NEW]: what changed in a wire's spec, whether it is compatible, and for whom.

OLD is a file or a git ref (then its spec of NEW's name is meant); NEW is a file, spec/protocol.yaml by default.

Each version that OLD has is looked at by itself: the rows that it has in OLD (`since`, `until`, a limit's `changes`) against
those that it has in NEW. A difference breaks somebody when two peers of that version, one built from OLD and one from NEW,
could misunderstand each other: whoever sends less strictly than the other reads. So whatever is `since` a version that OLD
does not have breaks nobody. Exit status: 0 compatible, 1 something breaks, 2 a file cannot be read.
"""

import os
import subprocess
import sys
import tempfile

from gen import protocol, specfile, textwire
from gen.specfile import SpecError

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SPEC = os.path.join("spec", "protocol.yaml")
KITS, DRIVERS, BOTH, VISITORS = ("kits",), ("drivers",), ("kits", "drivers"), ("visitors",)
CLIENTS, SERVERS = ("clients",), ("servers",)
SIDES = {"kit": KITS, "driver": DRIVERS, "both": BOTH}
OTHERS = {"kit": DRIVERS, "driver": KITS, "both": BOTH}
TYPICAL = {"int": "a whole number", "base64": "base64", "bool": "a boolean", "uint": "a number", "list": "a list", "record": "an object", "enum": "one of some texts"}


class Side:
    """One of the two specs: the rows of it that a version has."""

    def __init__(self, doc, label):
        self.doc, self.label = doc, label
        self.versions = {v["name"]: v for v in doc["versions"]}

    def line(self, line):
        path = getattr(line, "path", self.doc.path)
        return f"{self.label if path == self.doc.path else path}:{line}"

    def lives(self, row, version):
        number = protocol.version_number(version)
        until = protocol.version_number(row.get("until")) or number
        return protocol.version_number(row.get("since")) <= number <= until

    def rows(self, table, key, version, inside=None):
        rows = (self.doc if inside is None else inside).get(table, [])
        return {r[key]: r for r in rows if self.lives(r, version)}

    def limit(self, row, version):
        number = protocol.version_number(version)
        changes = {protocol.version_number(v): n for v, n in row.get("changes", {}).items()}
        return max(((v, n) for v, n in changes.items() if v <= number), default=(0, row["value"]))[1]

    def unknown(self, number):
        """What happens to a frame number that no row names."""
        return next((r["unknown"] for r in self.doc["type_ranges"] if r["from"] <= number <= r["to"]), "fatal")


class Diff:
    """The differences in one version: a list of (verdict, whom, where, text)."""

    sides, others, both = SIDES, OTHERS, BOTH

    def __init__(self, old, new, version, new_version=None):
        self.old, self.new, self.v, self.nv = old, new, version, new_version or version
        self.found = []
        self.wrap = ""

    def say(self, verdict, whom, where, text):
        self.found.append((verdict, whom, where, text + self.wrap))

    def breaks(self, whom, where, text):
        self.say("breaking", whom, where, text)

    def fine(self, where, text):
        self.say("compatible", (), where, text)

    def look(self, where, text):
        self.say("look", (), where, text)

    def pairs(self, table, key, inside=(None, None)):
        """(name, old row or None, new row or None, where) in the order of the new spec, then what is gone."""
        old = self.old.rows(table, key, self.v, inside[0])
        new = self.new.rows(table, key, self.nv, inside[1])
        for name in [*new, *(n for n in old if n not in new)]:
            row = new.get(name)
            where = self.new.line(row.line) if row is not None else self.old.line(old[name].line)
            yield name, old.get(name), row, where

    def at(self, row, key):
        return self.new.line(row.line_of(key))

    def domain(self, what, sender, before, after, where):
        """`before` and `after` are (least, most) of what may be sent."""
        if before == after:
            return
        shown = f"{what}: {before[0]}..{before[1]} is now {after[0]}..{after[1]}"
        if after[0] < before[0] or after[1] > before[1]:
            self.breaks(self.others[sender], where, f"{shown}; they refuse what is outside of the old bounds")
        if after[0] > before[0] or after[1] < before[1]:
            self.breaks(self.sides[sender], where, f"{shown}; what they send may be outside of the new bounds")

    # -- payloads --

    def fields(self, path, sender, old, new, tuple_=False):
        if tuple_ and [f["name"] for f in old] != [f["name"] for f in new]:
            self.breaks(self.both, self.new.line(new.line), f"{path}: the items of a tuple are others now")
            return
        for name, was, now, where in self.pairs("fields", "name", ({"fields": old}, {"fields": new})):
            self.field(f"{path}.{name}", sender, was, now, where)

    def field(self, path, sender, was, now, where):
        if was is None:
            if now.get("required"):
                self.breaks(self.sides[sender], where, f"{path} is new and required; they do not send it")
            else:
                self.fine(where, f"{path} is new, peers that do not know it ignore it (JSON-6)")
            return
        sender = was.get("from", sender)
        if now is None:
            if was.get("required"):
                self.breaks(self.others[sender], where, f"{path} is gone; they need it")
            else:
                self.breaks(self.sides[sender], where, f"{path} is gone; what they ask with it is not heard any more")
            return
        self.same_type(path, sender, was, now, where)
        if bool(was.get("required")) != bool(now.get("required")):
            if now.get("required"):
                self.breaks(self.sides[sender], where, f"{path} is required now; they may leave it out")
            else:
                self.breaks(self.others[sender], where, f"{path} is not required any more; they need it")
        if was.get("default") != now.get("default") and not (was.get("required") or now.get("required")):
            self.breaks(self.both, where, f"{path}: default {was.get('default')!r} is now {now.get('default')!r}; "
                                     "leaving it out means something else")
        for key in ("when", "size"):
            if was.get(key) != now.get(key):
                self.breaks(self.both, where, f"{path}: {key} {was.get(key)} is now {now.get(key)}")
        null = [r.get("nullable", not r.get("required", False)) for r in (was, now)]
        if null[0] != null[1] and bool(was.get("required")) == bool(now.get("required")):
            if null[1]:
                self.breaks(self.others[sender], where, f"{path} may be null now; they refuse that")
            else:
                self.breaks(self.sides[sender], where, f"{path} may not be null any more; they may send that")
        self.capability(path, sender, was, now, where)

    def same_type(self, path, sender, was, now, where):
        kinds = [(r["type"], r.get("of") if r["type"] == "list" and r.get("of") in protocol.SCALARS else None)
                 for r in (was, now)]
        if kinds[0] != kinds[1]:
            self.breaks(self.both, where, f"{path} was {TYPICAL.get(was['type'], was['type'])} ({was['type']}"
                                     f"{' of ' + was['of'] if 'of' in was else ''}) and is now {now['type']}"
                                     f"{' of ' + now['of'] if 'of' in now else ''}")
            return
        for low, top in (("min", "max"), ("item_min", "item_max")):
            if top in was and top in now:
                self.domain(path if low == "min" else f"{path}'s items", sender,
                            (was.get(low, 0), was[top]), (now.get(low, 0), now[top]), where)
            elif was.get(low, 0) != now.get(low, 0):
                self.breaks(self.both, where, f"{path}: least value {was.get(low, 0)} is now {now.get(low, 0)}")
        if now["type"] == "enum":
            self.enum(path, sender, was, now, where)
        elif now.get("of") and now["of"] not in protocol.SCALARS:
            old, new = (next(r for r in s.doc["records"] if r["name"] == f["of"]) for s, f in
                        ((self.old, was), (self.new, now)))
            if old["layout"] != new["layout"]:
                self.breaks(self.both, self.at(new, "layout"), f"{path}: layout {old['layout']} is now {new['layout']}")
            else:
                self.fields(path, sender, old["fields"], new["fields"], new["layout"] == "tuple")

    def enum(self, path, sender, was, now, where):
        texts = []
        for side, row, version in ((self.old, was, self.v), (self.new, now, self.nv)):
            enum = next(e for e in side.doc["enums"] if e["name"] == row["of"])
            texts.append(side.rows("values", "text", version, enum))
        for text, row in texts[1].items():
            if text in texts[0]:
                continue
            at = self.new.line(row.line)
            if was.get("unknown") == "keep":
                self.fine(at, f"{path}: '{text}' is new, peers keep texts that they do not know")
            else:
                self.breaks(self.others[sender], at, f"{path}: '{text}' is new; they refuse it")
        for text, row in texts[0].items():
            if text not in texts[1]:
                self.breaks(self.sides[sender], self.old.line(row.line), f"{path}: '{text}' is gone; they may send it")
        if was.get("unknown", "refuse") != now.get("unknown", "refuse"):
            self.fine(where, f"{path}: unknown texts: {was.get('unknown', 'refuse')} is now {now.get('unknown', 'refuse')}")

    def capability(self, path, sender, was, now, where):
        if was.get("capability") == now.get("capability"):
            return
        if now.get("capability"):
            self.breaks(self.sides[sender], where, f"{path} needs capability {now['capability']} now; they send it without")
        else:
            self.breaks(self.others[sender], where, f"{path} comes without capability {was['capability']} now")

    # -- frames --

    def frame(self, name, was, now, where):
        if was is None:
            return self.new_frame(name, now, where)
        if now is None:
            return self.breaks(self.sides[was["sender"]], where, f"frame {name} is gone; to the others it is an unknown type")
        self.wrap = f" (with {was['capability']})" if was.get("capability") else ""
        sender = was["sender"]
        for key, what in (("number", "0x{:02X}"), ("stream_zero", "{}"), ("flow_controlled", "{}"), ("any_link", "{}")):
            if was.get(key) != now.get(key):
                self.breaks(self.both, self.at(now, key), f"{name}: {key} {what.format(was.get(key))} is now "
                                                     f"{what.format(now.get(key))}")
        if was["sender"] != now["sender"]:
            self.senders(name, was["sender"], now["sender"], self.at(now, "sender"))
        for key in ("legal_in", "stream_states"):
            self.states(name, key, sender, set(was.get(key, [])), set(now.get(key, [])), now)
        if was.get("gone", "ignore") != now.get("gone", "ignore"):
            text = f"{name}: for a stream that is over: {was.get('gone', 'ignore')} is now {now.get('gone', 'ignore')}"
            if "violation" in (now.get("gone"), was.get("gone")) or "credit" in (now.get("gone"), was.get("gone")):
                self.breaks(self.sides[sender], self.at(now, "gone"), text)
            else:
                self.fine(self.at(now, "gone"), text)
        if dict(was["violation"]) != dict(now["violation"]):
            self.look(self.at(now, "violation"), f"{name}: what a violation costs is something else now")
        self.capability(f"frame {name}", sender, was, now, where)
        self.payload(name, sender, was["payload"], now["payload"])
        self.wrap = ""
        return None

    def new_frame(self, name, now, where):
        text = f"frame {name} (0x{now['number']:02X}) is new"
        if now.get("capability"):
            self.fine(where, f"{text}, between peers with {now['capability']}")
        elif self.old.unknown(now["number"]) == "skip":
            self.fine(where, f"{text}, peers that do not know it skip it (FRAME-5)")
        else:
            self.breaks(self.others[now["sender"]], where, f"{text}; it ends the session with them. A number in 0x40-0x7F, or "
                                                      "a capability, would not")

    def senders(self, name, was, now, where):
        lost = set(self.sides[was]) - set(self.sides[now])
        if lost:
            self.breaks(tuple(sorted(lost)), where, f"{name} is not for the {was if was != 'both' else lost.pop()[:-1]} to "
                                                    "send any more")
        gained = set(self.sides[now]) - set(self.sides[was])
        if gained:
            to = tuple(s for s in self.both if s not in gained) or self.both
            self.breaks(to, where, f"{name} comes from {', '.join(sorted(gained))} now; they refuse that")

    def states(self, name, key, sender, was, now, row):
        if now - was:
            self.breaks(self.others[sender], self.at(row, key), f"{name} is legal in {', '.join(sorted(now - was))} now; they "
                                                           "refuse that")
        if was - now:
            self.breaks(self.sides[sender], self.at(row, key), f"{name} is illegal in {', '.join(sorted(was - now))} now; they "
                                                          "may send it then")

    def payload(self, name, sender, was, now):
        if was["format"] != now["format"]:
            return self.breaks(self.both, self.at(now, "format"), f"{name}: payload {was['format']} is now {now['format']}")
        if was["format"] in ("bytes", "empty"):
            return None
        if sorted(was.get("one_of", [])) != sorted(now.get("one_of", [])):
            self.breaks(self.both, self.at(now, "one_of"), f"{name}: other fields exclude each other now")
        return self.fields(name, sender, was["fields"], now["fields"], now["format"] == "binary")

    # -- tables --

    def limits(self):
        for name, was, now, where in self.pairs("limits", "name"):
            binds = (now if now is not None else was).get("binds", "both")
            if binds == "none":
                if was is None or now is None or self.old.limit(was, self.v) != self.new.limit(now, self.nv):
                    self.fine(where, f"limit {name}: " + self.values(was, now) + ", which binds nobody")
            elif was is None:
                if now.get("capability"):
                    self.fine(where, f"limit {name} is new, between peers with {now['capability']}")
                else:
                    self.breaks(self.sides[binds], where, f"limit {name} is new; they do not keep to it")
            elif now is None:
                self.breaks(self.others[binds], where, f"limit {name} is gone; they rely on it")
            else:
                old, new = self.old.limit(was, self.v), self.new.limit(now, self.nv)
                tighter = new > old if now.get("floor") else new < old
                if old != new and tighter:
                    self.breaks(self.sides[binds], where, f"limit {name}: {self.values(was, now)}; they may be outside of it")
                elif old != new:
                    self.breaks(self.others[binds], where, f"limit {name}: {self.values(was, now)}; they do not expect that")

    def values(self, was, now):
        if was is None or now is None:
            return "is new" if was is None else "is gone"
        return f"{self.old.limit(was, self.v)} is now {self.new.limit(now, self.nv)}"

    def rules(self):
        for name, was, now, where in self.pairs("rules", "id"):
            level = now["level"] if now is not None else ""
            if was is None and level == "MUST" and not now.get("capability"):
                self.breaks(self.both, where, f"rule {name} is new and a MUST; they do not know of it")
            elif was is None:
                self.fine(where, f"rule {name} is new")
            elif now is None:
                self.breaks(self.both, where, f"rule {name} is gone; they rely on it")
            elif was["level"] != level:
                self.breaks(self.both, where, f"rule {name} is {'weakened' if level == 'SHOULD' else 'tightened'}: "
                                         f"{was['level']} is now {level}")
            else:
                self.capability(f"rule {name}", "both", was, now, where)
                if was["doc"] != now["doc"]:
                    self.look(where, f"rule {name} has other words: a reader must say whether it means the same")

    def numbers(self, table, what):
        for name, was, now, where in self.pairs(table, "name"):
            if was is None:
                self.fine(where, f"{what} {name} ({now['number']}) is new")
            elif now is None:
                self.breaks(self.both, where, f"{what} {name} ({was['number']}) is gone")
            elif was["number"] != now["number"]:
                self.breaks(self.both, self.at(now, "number"), f"{what} {name}: {was['number']} is now {now['number']}")

    def answers(self):
        for name, was, now, where in self.pairs("goaways", "name"):
            for key in ("code", "close"):
                if was is not None and now is not None and was[key] != now[key]:
                    self.breaks(DRIVERS, self.at(now, key), f"goaway {name}: {key} {was[key]} is now {now[key]}")
            if was is None or now is None or was["message"] != now["message"]:
                self.fine(where, f"goaway {name} is {'new' if was is None else 'gone' if now is None else 'worded anew'}")
        for name, was, now, where in self.pairs("visitor_answers", "name"):
            for key in ("status", "retry_after"):
                if was is not None and now is not None and was.get(key) != now.get(key):
                    self.breaks(VISITORS, where, f"answer {name}: {key} {was.get(key)} is now {now.get(key)}")
            if was is None or now is None:
                self.look(where, f"answer {name} is {'new' if was is None else 'gone'}")

    def small(self):
        for name, was, now, where in self.pairs("capabilities", "name"):
            if was is None or now is None:
                self.fine(where, f"capability {name} is {'new' if was is None else 'gone, so nobody agrees on it'}")
        pairs = [{(r["kind"], r["mode"]): r for r in s.doc.get("binding_pairs", [])} for s in (self.old, self.new)]
        for pair in sorted({*pairs[0], *pairs[1]}):
            was, now = (p.get(pair) for p in pairs)
            what = f"binding of {pair[0]} and {pair[1]}"
            if now is None or was is not None and was["takeover"] and not now["takeover"]:
                where = self.old.line(was.line) if now is None else self.at(now, "takeover")
                self.breaks(DRIVERS, where, what + (" is gone" if now is None else " cannot take over any more"))
            elif was is None or was["takeover"] != now["takeover"]:
                self.fine(self.new.line(now.line), what + (" is new" if was is None else " can take over"))
        old_ports, new_ports = ({r["port"] for r in s.doc.get("reserved_ports", [])} for s in (self.old, self.new))
        if old_ports != new_ports:
            self.fine(self.new.line(self.new.doc.line_of("reserved_ports")),
                      f"reserved ports, a default: {sorted(old_ports ^ new_ports)} changed")
        named = {r["number"] for s in (self.old, self.new) for r in s.doc["frames"]}
        other = [n for n in range(256) if n not in named and self.old.unknown(n) != self.new.unknown(n)]
        if other:
            self.breaks(self.both, self.new.line(self.new.doc.line_of("type_ranges")),
                        f"unknown types 0x{other[0]:02X}-0x{other[-1]:02X} are met otherwise")
        if self.old.doc["connect_path"] != self.new.doc["connect_path"]:
            self.breaks(DRIVERS, self.new.line(self.new.doc.line_of("connect_path")),
                        f"connect_path {self.old.doc['connect_path']} is now {self.new.doc['connect_path']}")

    def all(self):
        was, now = self.old.versions[self.v], self.new.versions[self.nv]
        if self.v == self.nv and was["subprotocol"] != now["subprotocol"]:
            self.breaks(self.both, self.at(now, "subprotocol"), f"subprotocol {was['subprotocol']} is now {now['subprotocol']}")
        self.limits()
        self.numbers("codes", "code")
        self.numbers("close_codes", "close code")
        for name, old, new, where in self.pairs("frames", "name"):
            self.frame(name, old, new, where)
        self.answers()
        self.rules()
        self.small()
        return self.found


class TextDiff(Diff):
    """The same of a wire of text messages (gen/textwire.py)."""

    both = CLIENTS + SERVERS
    sides = {"client": CLIENTS, "server": SERVERS, "both": both}
    others = {"client": SERVERS, "server": CLIENTS, "both": both}

    def senders_of(self, side, name):
        """Who may send the field."""
        found = {m["sender"] for m in side.doc["messages"] if name in m["fields"]}
        return "both" if len(found) != 1 else found.pop()

    def text_fields(self):
        for name, was, now, where in self.pairs("fields", "name"):
            if was is None:
                self.fine(where, f"field {name} is new, peers that do not know it ignore it")
            elif now is None:
                self.breaks(self.both, where, f"field {name} is gone; what they say with it is not heard any more")
            else:
                self.same_type(f"field {name}", self.senders_of(self.old, name), was, now, where)
        order = [[f["name"] for f in side.doc["fields"]] for side in (self.old, self.new)]
        if [n for n in order[0] if n in order[1]] != [n for n in order[1] if n in order[0]]:
            self.fine(self.new.line(self.new.doc.line_of("fields")), "fields are written in another order, which no reader minds")

    def message(self, name, was, now, where):
        if was is None:
            return self.look(where, f"message {name} is new; peers that do not know it ignore it")
        if now is None:
            return self.breaks(self.others[was["sender"]], where, f"message {name} is gone; they wait for it")
        if was["sender"] != now["sender"]:
            self.breaks(self.both, self.at(now, "sender"), f"message {name} came from {was['sender']} and comes from {now['sender']} now")
        if was.get("stream", False) != now.get("stream", False):
            self.breaks(self.both, where, f"message {name} is {'' if now.get('stream') else 'not '}about a stream now")
        for field in sorted({*was["fields"], *now["fields"]}):
            if field not in now["fields"]:
                self.breaks(self.others[now["sender"]], self.at(now, "fields"), f"message {name} has no {field} any more")
            elif field not in was["fields"]:
                self.fine(self.at(now, "fields"), f"message {name} has a {field} now")
        return None

    def ends(self):
        for name, was, now, where in self.pairs("ends", "name"):
            if was is not None and now is not None and was["code"] != now["code"]:
                self.breaks(self.both, self.at(now, "code"), f"end {name}: code {was['code']} is now {now['code']}")
            elif was is None or now is None or was["reason"] != now["reason"]:
                self.fine(where, f"end {name} is {'new' if was is None else 'gone' if now is None else 'worded anew'}")
        for name, was, now, where in self.pairs("errors", "name"):
            if was is None or now is None or was["text"] != now["text"]:
                self.look(where, f"error {name} is {'new' if was is None else 'gone' if now is None else 'worded anew'}")

    def all(self):
        self.limits()
        self.numbers("close_codes", "close code")
        self.text_fields()
        for name, was, now, where in self.pairs("messages", "name"):
            self.message(name, was, now, where)
        self.ends()
        self.rules()
        return self.found


def compare(old, new):
    """[(verdict, whom, versions, where, text)]; verdict: breaking, compatible, look, later (of a new version only)."""
    merged = {}
    diff = TextDiff if new.doc.get("wire") == "text" else Diff
    for name, row in old.versions.items():
        if name not in new.versions:
            merged["breaking", BOTH, old.line(row.line), f"version {name} is gone"] = [name]
            continue
        for found in diff(old, new, name).all():
            merged.setdefault(found, []).append(name)
    out = [(verdict, whom, names, where, text) for (verdict, whom, where, text), names in merged.items()]
    known = {(where, text) for _, _, _, where, text in out}
    newest = list(old.versions)[-1]
    for name, row in new.versions.items():
        if name not in old.versions:
            out.append(("later", (), [name], new.line(row.line), f"version {name} is new"))
            out += [("later", (), [name], where, text) for _, _, where, text in diff(old, new, newest, name).all()
                    if (where, text) not in known]
    return out


def open_old(name, spec=SPEC):
    """The Side of a file or of a git ref; None: there was no such spec yet."""
    if os.path.exists(name):
        return Side(specfile.load(name), os.path.relpath(name))

    def git(*args):
        return subprocess.run(["git", "-C", ROOT, *args], capture_output=True, check=False, text=True)

    def read(file):
        done = git("show", f"{name}:{os.path.dirname(spec)}/{file}")
        if done.returncode != 0:
            raise SpecError([f"{name}: error: neither a file nor a git ref with {spec}: {done.stderr.strip()}"])
        return done.stdout

    if spec != SPEC and git("cat-file", "-e", f"{name}:{SPEC}").returncode == 0 and git("cat-file", "-e", f"{name}:{spec}").returncode != 0:
        return None
    with tempfile.NamedTemporaryFile(suffix=".yaml", mode="w", encoding="utf-8") as f:
        f.write(specfile.joined(os.path.basename(spec), read))
        f.flush()
        return Side(specfile.load(f.name), f"{name}:{spec}")


def open_new(path):
    doc = specfile.load(path)
    (textwire if doc.get("wire") == "text" else protocol).load_file(path)  # it must be a good spec before it can be compared
    return Side(doc, os.path.relpath(path))


def words(verdict, whom, versions):
    of = f" of {', '.join(versions)}"
    return {"breaking": f"breaking for {' and '.join(whom)}{of}", "compatible": f"compatible{of}",
            "look": f"to be looked at{of}", "later": f"in {', '.join(versions)} only"}[verdict]


def main(argv):
    if len(argv) not in (1, 2):
        print(__doc__, file=sys.stderr)
        return 2
    path = argv[1] if len(argv) > 1 else os.path.join(ROOT, SPEC)
    try:
        new = open_new(path)
        old = open_old(argv[0], os.path.join("spec", os.path.basename(path)))
    except SpecError as e:
        print(e, file=sys.stderr)
        return 2
    if old is None:
        print(f"{new.label} is new since {argv[0]}")
        return 0
    if old.doc.get("wire") != new.doc.get("wire"):
        print(f"{old.label}:1: error: it is of another kind of wire than {new.label}", file=sys.stderr)
        return 2
    found = compare(old, new)
    order = ["breaking", "look", "later", "compatible"]
    for verdict, whom, versions, where, text in sorted(found, key=lambda f: order.index(f[0])):
        print(f"{where}: {words(verdict, whom, versions)}: {text}")
    count = {v: sum(f[0] == v for f in found) for v in order}
    print(f"{new.label} against {old.label}: {count['breaking']} breaking, {count['look']} to be looked at, "
          f"{count['later']} of new versions only, {count['compatible']} compatible")
    if count["breaking"]:
        print("What was released stays: give the old row `until:`, what takes its place `since:` a new version (a limit: "
              "`changes:`), or bind it to a capability.")
    return 1 if count["breaking"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
