"""What the fault tests share: the proxy of proxy.c as a program, and whoever makes a waiting driver try again."""

import os
import re
import signal
import threading

from tests.integration.harness import BIN, Program

PROXY = os.path.join(os.path.dirname(BIN), "tests/fault_proxy")


class FaultProxy(Program):
    """proxy.c in front of a port of this machine; see there for what it can be told."""

    def __init__(self, port, seed=1, calm=False, resets=False):
        self.looked_at, self.cut_list = 0, []
        super().__init__([PROXY, "--to", str(port), "--seed", str(seed), "--resets", str(int(resets))], stdin=-1)
        self.port = int(self.wait_line(r"listening on (\d+)").group(1))
        self.url = f"ws://127.0.0.1:{self.port}"
        if calm:
            self.say("calm")

    def say(self, word):
        self.process.stdin.write(word.encode() + b"\n")
        self.process.stdin.flush()
        self.wait_line(f"^{word}$")

    def cuts(self):
        """[number, direction, offset, how] of each cut so far."""
        while self.looked_at < len(self.log):
            line = self.log[self.looked_at]
            self.looked_at += 1
            if line.startswith("out: cut "):
                self.cut_list.append(line[9:].split())
        return self.cut_list

    def stalled(self):
        """How many connections have bytes that wait at a stall."""
        return sum(line.startswith("out: stalled ") for line in list(self.log))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        try:
            self.process.wait(20)
        finally:
            status = self.end(signal.SIGKILL)
        assert status == 0, f"the proxy ended with {status}: {self.text()}"
        self.check_sanitizers()


def link_word(line):
    """What a driver's line says of its link: True, False, or None when it is about something else."""
    if '"event":"connected"' in line:
        return True
    return False if '"event":"disconnected"' in line else None


def linked(driver):
    """By a driver's own events: it has a session at this moment."""
    for line in reversed(list(driver.log)):
        if (word := link_word(line)) is not None:
            return word
    return False


def long_wait(driver):
    """Seconds to add to what a driver's return may take: when attempts failed while the kit was away, the pause that it chose
    by chance for the next one may be longer than a second (see src/driver/driver_retry.c)."""
    waits = re.findall(r'(?:"retryInMs":|next attempt in )(\d+)', driver.text())
    return max(0.0, int(waits[-1]) / 1000 - 1.0) if waits else 0.0


class Prompter:
    """Tells drivers that wait for their next attempt to make it now. Takes their lines, and forgets those in the log that
    are old: a long run has millions."""

    def __init__(self, drivers):
        self.up = {driver: linked(driver) for driver in drivers}
        self.lost = dict.fromkeys(drivers, 0)  # how often each has told that it lost its link
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def linked(self, driver):
        return self.up[driver]

    def _run(self):
        while not self.over.wait(0.005):
            for driver in self.up:
                self._listen(driver)
                if not self.up[driver]:
                    driver.process.send_signal(signal.SIGHUP)

    def _listen(self, driver):
        while not driver.lines.empty():
            _, line = driver.lines.get()
            if line and (word := link_word(line)) is not None:
                self.up[driver] = word
                self.lost[driver] += not word
        if len(driver.log) > 20000:
            del driver.log[:-10000]

    def end(self):
        self.over.set()
        self.thread.join(10)
