"""One run of one case: its variables, connections, log and verdicts."""

import asyncio
import re
import time

from . import tcp, ws
from .link import Link, nonce
from .match import CaseError, Scope, mismatch, show
from .target import USERS, Unsupported, token_of
from .wire import codec, spec

QUIET = ("WINDOW", "PING", "PONG", "ACK")  # frames that an expectation passes over when it is not about them
LOG_LIMIT = 400


class Failure(Exception):
    """What came was not what had to come."""

    def __init__(self, text, expected="", came=""):
        super().__init__(text)
        self.expected, self.came = expected, came


class Run:
    def __init__(self, case, target, seed=0, patience=10.0, echo=None):
        self.case, self.target, self.patience, self.echo = case, target, patience, echo
        self.scope = Scope(spec.names(case.version), seed)
        self.scope.authored = set(case.variables)
        self.scope.set("version", case.version)
        self.scope.set("TOKEN", {user: token_of(user) for user in USERS})
        self.scope.set("subprotocol", codec.SUBPROTOCOLS[case.version])
        for name, value in case.variables.items():
            try:
                value = self.scope.fill(value)
            except CaseError:
                pass  # it speaks of something that a step will set
            self.scope.set(name, value)
        self.sessions = set()
        self.links, self.tcps, self.extras = {}, {}, []
        self.log, self.seq, self.woken = [], 0, asyncio.Event()
        self.begin = time.monotonic()
        self.marks = {}
        self.tasks = set()
        self.step_no = 0
        self.target_may_end = False

    # ---- book-keeping ----

    def next_seq(self):
        self.seq += 1
        return self.seq

    def note(self, who, way, text):
        entry = (round((time.monotonic() - self.begin) * 1000, 1), self.step_no, who, way, text)
        if len(self.log) < LOG_LIMIT:
            self.log.append(entry)
        if self.echo:
            self.echo(entry)

    def wake(self):
        self.woken.set()

    def spawn(self, work):
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def until(self, condition, timeout=None):
        """The first true value of condition(), or None when the time is over."""
        deadline = time.monotonic() + (self.patience if timeout is None else timeout)
        while True:
            value = condition()
            if value:
                return value
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            self.woken.clear()
            try:
                await asyncio.wait_for(self.woken.wait(), left)
            except asyncio.TimeoutError:
                pass

    def link(self, name="s"):
        if name not in self.links:
            raise CaseError(f"there is no connection {name}")
        return self.links[name]

    def tcp(self, name):
        if name not in self.tcps:
            raise CaseError(f"there is no connection {name}")
        return self.tcps[name]

    def check_breaches(self):
        for link in self.links.values():
            if link.breaches:
                text = link.breaches[0]
                rule = re.match(r"[A-Z]+-\d+", text)
                want = spec.rules[rule.group()]["doc"] if rule and rule.group() in spec.rules else "what RFC 6455 allows"
                raise Failure(f"{link.name}: the peer broke {text}", want, text)

    # ---- frames ----

    def _lane(self, link, name, stream):
        if name == "STREAM_OPEN" and stream is None:
            return [f for f in link.inbox if not f.taken and f.name == name]
        lane = [f for f in link.inbox if not f.taken and f.stream == (stream or 0)]
        if name in QUIET:
            return [f for f in lane if f.name == name]
        return [f for f in lane if f.name not in QUIET]

    async def take(self, link, name, want, stream=None, timeout=None, skip=()):
        """The next frame of that lane, which must be `name` with a payload like `want`."""
        expected = f"{name}{f' on stream {stream}' if stream else ''} {'' if want is None else show(want)}".rstrip()

        def ready():
            if link.breaches:
                return True
            for f in self._lane(link, name, stream):
                if f.name in skip and f.name != name:
                    f.taken = True
                    continue
                return f
            return link.closing

        got = await self.until(ready, timeout)
        self.check_breaches()
        if got is None:
            raise Failure(f"{link.name}: no {name} came in time", expected, self.waiting_text(link))
        if not hasattr(got, "taken"):
            link.ended_by_case = True
            raise Failure(f"{link.name}: {got} where {name} was due", expected, str(got))
        bad = f"wanted {name}" if got.name != name else None
        if not bad and want is not None:
            bad = mismatch(self.scope.fill(want), got.value, self.scope)
        if bad:
            raise Failure(f"{link.name}: {bad}, came {got}", expected, str(got))
        got.taken = True
        return got

    def waiting_text(self, link):
        rest = [str(f) for f in link.inbox if not f.taken and f.name not in QUIET]
        state = str(link.closing) if link.closing else "the connection is open"
        return f"nothing; {state}" + (f"; not asked for yet: {'; '.join(rest[:5])}" if rest else "")

    # ---- connections ----

    async def dial(self, name, host, port):
        try:
            sock = await ws.dial(host, port, self.patience)
        except (OSError, asyncio.TimeoutError) as e:
            raise Failure(f"{name}: cannot connect to {host} port {port}: {e}", f"a listener on port {port}", str(e)) from e
        conn = tcp.Tcp(self, name, sock)
        self.note(name, "--", f"connected to {host} port {port}")
        self.extras.append(conn)
        return conn

    def adopt(self, name, sock, role, early, version):
        link = Link(self, name, sock, role, early, version)
        if name in self.links:
            self.extras.append(self.links[name])
        self.links[name] = link
        return link

    # ---- verdicts ----

    async def steps(self, steps, verbs, numbered=True):
        for step in steps:
            if numbered:
                self.step_no += 1
            await self.step(step, verbs)

    async def step(self, step, verbs):
        if isinstance(step, str):
            step = {step: None}
        verb = next((k for k in step if k in verbs), None)
        if verb is None:
            raise CaseError(f"no verb in the step {step!r}")
        self.check_breaches()
        keep = verbs[verb].keep
        args = {k: (v if k in keep or (k == verb and "*" in keep) else self.scope.fill(v)) for k, v in step.items()}
        more = {k: v for k, v in args.items() if k != verb}
        unknown = set(more) - verbs[verb].accepts
        if unknown:
            raise CaseError(f"the step {verb} does not know {', '.join(sorted(unknown))}")
        await verbs[verb].run(self, args[verb], **more)

    async def closing_verdict(self):
        """None when every connection that a step did not end still lives and nothing unasked came; else (expected, came)."""
        over = any(link.ended_by_case for link in self.links.values() if not link.secondary)
        for name, link in self.links.items():
            for text in link.breaches:
                return "only legal frames", f"{name}: {text}"
            if link.ended_by_case or link.we_closed is not None or link.secondary and over:
                continue
            if link.greeted and link.state == "open" and link.closing is None and not link.secondary:
                probe = nonce()
                link.count("PING", 0, probe)
                link.auto_pong = True
                try:
                    self.note(name, ">>", "PING, to see whether it lives")
                    await link.send_bytes(link.wrap(codec.encode("PING", 0, {"nonce": probe})))
                except (OSError, asyncio.TimeoutError):
                    pass
                await self.until(lambda l=link, p=probe: l.closing or l.breaches or any(
                    f.name == "PONG" and f.value["nonce"] == p for f in l.inbox))
                if link.closing is None and not any(f.name == "PONG" and f.value["nonce"] == probe for f in link.inbox):
                    return f"{name} lives: PONG", "no PONG"
            for text in link.breaches:
                return "only legal frames", f"{name}: {text}"
            if link.closing is not None:
                return f"{name} stays open", str(link.closing)
        if not self.case.leftovers:
            for name, link in self.links.items():
                rest = [f for f in link.inbox if not f.taken and f.name not in QUIET + ("DATA", "EOF")]
                if rest and not link.ended_by_case:
                    return "nothing that was not asked for", f"{name}: {rest[0]}"
        return None

    async def finish(self, clean=True):
        """Ends every connection; clean: with a goodbye, so that nothing parks."""
        for conn in [*self.tcps.values(), *(e for e in self.extras if isinstance(e, tcp.Tcp))]:
            if not conn.closed:
                conn.close()
        for link in [*self.links.values(), *(e for e in self.extras if isinstance(e, Link))]:
            if link.dead:
                tcp.end_socket(link.sock, link.task)
                continue
            if clean and link.alive:
                try:
                    await asyncio.wait_for(link.send_close(1000), 1)
                    await self.until(lambda l=link: l.dead, 1)
                except (OSError, asyncio.TimeoutError):
                    pass
            link.abandon()
        for extra in self.extras:
            if not isinstance(extra, (tcp.Tcp, Link)):
                await extra.finish()
        for task in list(self.tasks):
            task.cancel()


class Verb:
    """A kind of step. `accepts`: its modifiers; `keep`: what is not filled in before it runs."""

    def __init__(self, run, accepts, keep):
        self.run, self.accepts, self.keep = run, accepts, keep


def verb_in(table, name, accepts=(), keep=()):
    def register(function):
        if name in table:
            raise RuntimeError(f"there are two steps {name}")
        table[name] = Verb(function, set(accepts), set(keep))
        return function
    return register


__all__ = ["CaseError", "Failure", "QUIET", "Run", "Unsupported", "Verb", "verb_in"]
