"""Sends many inputs over many connections at once, and watches what it costs the other side.

    volley(port, inputs, judge)     one connection for each input; judge(input, answer) says what is wrong, or None
    Watch(kit, [more pids])         RSS, descriptors, CPU and the time of /health while something goes on
"""

import contextlib
import select
import socket
import subprocess
import sys
import time

from tests.integration.harness import ROOT, SANITIZED, cpu_seconds, eventually, fds, status_kib

AT_ONCE = 32
PATIENCE = 20.0  # seconds for one connection
RST = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # struct linger: on, 0


class _One:
    __slots__ = ("sock", "data", "sent", "ending", "got", "item", "deadline")

    def __init__(self, port, item, data, ending):
        self.item, self.data, self.ending = item, data, ending
        self.sent, self.got = 0, b""
        self.deadline = time.monotonic() + PATIENCE
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.sock.connect_ex(("127.0.0.1", port))


def volley(port, inputs, judge, parts=lambda item: (item, "wait"), at_once=AT_ONCE):
    """`parts(item)`: (bytes, ending); what follows the bytes. wait: nothing, until the other side closes; fin: a half-close;
    close: both directions; rst: a reset; urgent: a byte out of band, then as fin. Returns the complaints, few of them."""
    todo = iter(inputs)
    running, complaints = {}, []
    poll = select.epoll()

    def start():
        item = next(todo, None)
        if item is None:
            return False
        one = _One(port, item, *parts(item))
        number = one.sock.fileno()
        running[number] = one
        poll.register(number, select.EPOLLOUT)
        if one.data:
            with contextlib.suppress(OSError):  # mostly the connection stands already
                send_on(one)
        return True

    def finish(one):
        del running[one.sock.fileno()]
        one.sock.close()
        wrong = judge(one.item, one.got)
        if wrong and len(complaints) < 20:
            complaints.append(f"{wrong}: {one.item!r:.300} -> {one.got!r:.300}")

    def send_on(one):
        one.sent += one.sock.send(one.data[one.sent:one.sent + 262144]) if one.data else 0
        if one.sent < len(one.data):
            return
        if one.ending in ("rst", "close"):
            if one.ending == "rst":
                one.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
            finish(one)
            return
        if one.ending == "urgent":
            one.sock.send(b"!", socket.MSG_OOB)
        if one.ending != "wait":
            one.sock.shutdown(socket.SHUT_WR)
        poll.modify(one.sock.fileno(), select.EPOLLIN)

    looked = time.monotonic()
    while len(running) < at_once and start():
        pass
    while running:
        for number, events in poll.poll(1.0):
            one = running[number]
            try:
                if events & select.EPOLLOUT and one.sent <= len(one.data):
                    send_on(one)
                elif piece := one.sock.recv(65536):
                    one.got = (one.got + piece)[:65536]
                else:
                    finish(one)
            except BlockingIOError:
                pass
            except OSError:  # cut half-way: what came before is still to be read
                with contextlib.suppress(OSError):
                    while piece := one.sock.recv(65536):
                        one.got = (one.got + piece)[:65536]
                finish(one)
        now = time.monotonic()
        late = [o for o in running.values() if o.deadline < now] if now > looked + 1 else []
        looked = now if now > looked + 1 else looked
        for one in late:
            complaints.append(f"not closed within {PATIENCE} s: {one.item!r:.300} -> {one.got!r:.300}")
            finish(one)
        while len(running) < at_once and start():
            pass
    poll.close()
    return complaints


class Watch(contextlib.AbstractContextManager):
    """Around an abuse. At its end: /health was quick all the while, memory is within `grow_kib`, the descriptors are back, and
    a second later nothing works any more. `pids` are watched beside the kit."""

    def __init__(self, kit, pids=(), grow_kib=24 * 1024):
        self.kit, self.pids, self.grow = kit, [kit.pid, *pids], grow_kib * (8 if SANITIZED else 1)
        self.fds = {pid: fds(pid) for pid in self.pids}
        self.rss = {pid: status_kib(pid, "VmRSS") for pid in self.pids}
        self.prober = subprocess.Popen([sys.executable, "-m", "tests.hostile.prober", str(kit.port)], cwd=ROOT,
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.prober.stdout.readline()

    def __exit__(self, kind, value, traceback):
        out, _ = self.prober.communicate(timeout=60)
        if kind is not None:
            return False
        count, p99, late = out.decode().split()
        # On a machine that is busy with other things the prober itself is late; that is not the kit's.
        limit = 0.050 + 4 * float(late)
        print(f"# /health: {count} times, p99 {float(p99) * 1000:.1f} ms (the prober itself was up to {float(late) * 1000:.1f} ms late)")
        assert int(count) > 0 and (float(p99) < limit or SANITIZED), f"/health took {float(p99):.3f} s"
        for pid in self.pids:
            eventually(lambda p=pid: fds(p) <= self.fds[p], f"the descriptors of {pid} are back: {self.fds[pid]}", 20)
            rss = status_kib(pid, "VmRSS")
            assert rss < self.rss[pid] + self.grow, f"{pid} grew from {self.rss[pid]} to {rss} KiB"
        before, start = [cpu_seconds(pid) for pid in self.pids], time.monotonic()
        eventually(lambda: time.monotonic() > start + 1, "a second of quiet")
        idle = [cpu_seconds(pid) - b for pid, b in zip(self.pids, before)]
        assert all(spent <= 0.1 for spent in idle), f"still busy: {idle} s of CPU in a second"
        return False
