"""PostgreSQL and pgbench for the live proof: sessions that are within a transaction nearly all the time."""

import glob
import os
import re
import shutil
import signal

from tests.integration.harness import Folder, Program, eventually, free_port, run

SESSIONS = 50
NAPS, NAP_MS = 3, 100  # within each transaction
SCRIPT = """\\set aid random(1, 100000)
\\set delta random(-5000, 5000)
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
\\sleep {nap} ms
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
\\sleep {nap} ms
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 1, :aid, :delta, CURRENT_TIMESTAMP);
\\sleep {nap} ms
END;
"""


def as_user(argv):
    """PostgreSQL refuses to run as root."""
    return ["runuser", "-u", "postgres", "--", *argv] if os.geteuid() == 0 else argv


class Database:
    """A server of its own; .port is where it listens."""

    def __enter__(self):
        self.folder = Folder("postgres")
        self.bin = os.path.dirname(sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))[-1])
        self.data, self.port = self.folder.join("data"), free_port()
        run(as_user([f"{self.bin}/initdb", "-D", self.data, "-U", "tester", "-A", "trust", "--no-sync"]), cwd=self.folder.path)
        self.server = Program(as_user([f"{self.bin}/postgres", "-D", self.data, "-p", str(self.port), "-c", "listen_addresses=127.0.0.1",
                                       "-c", "max_connections=100", "-k", self.folder.path, "-F"]), cwd=self.folder.path)
        self.server.wait_line("ready to accept connections", 60)
        run([self.pgbench(), "-i", "-s", "1", "-q"], env=self.env(self.port), cwd=self.folder.path)
        return self

    def __exit__(self, *_):
        # SIGINT is PostgreSQL's fast shutdown; runuser passes SIGTERM only, so the server is asked through its pid file.
        with open(os.path.join(self.data, "postmaster.pid"), encoding="ascii") as f:
            os.kill(int(f.readline()), signal.SIGINT)
        self.server.end(0)
        self.folder.__exit__(None, None, None)

    def pgbench(self):
        return shutil.which("pgbench") or os.path.join(self.bin, "pgbench")

    @staticmethod
    def env(port):
        return {**os.environ, "PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": "tester", "PGDATABASE": "postgres"}

    def ask(self, query):
        return run([f"{self.bin}/psql", "-Atc", query], env=self.env(self.port), cwd=self.folder.path).strip()

    def play(self, port, seconds):
        """pgbench through the tunnel for so long; then each session commits what it has begun, and ended() tells."""
        script = self.folder.join("script.sql")
        with open(script, "w", encoding="ascii") as f:
            f.write(SCRIPT.format(nap=NAP_MS))
        program = Program([self.pgbench(), "-n", "-c", str(SESSIONS), "-j", "2", "-T", str(int(seconds)), "-l", "--log-prefix", self.folder.join("log"),
                           "-f", script], env=self.env(port), cwd=self.folder.path)
        eventually(lambda: self.ask("select count(*) from pgbench_history") != "0" or program.process.poll() is not None,
                   f"SQL sessions through the tunnel: {program.text()}")
        return program

    def ended(self, program, diary):
        """Waits for pgbench's end. Its transactions go into the diary; what went wrong is returned as texts."""
        program.process.wait(600)
        status = program.end(0)
        wrong = [] if status == 0 else [f"pgbench ended with {status}"]
        wrong += [line for line in program.log if line.startswith("err: ") and "pgbench (" not in line]
        if not re.search(r"^out: number of failed transactions: 0 ", program.text(), re.M):
            wrong.append(f"pgbench does not say that no transaction has failed: {program.text()}")
        logged = 0
        for path in glob.glob(self.folder.join("log.*")):
            with open(path, encoding="ascii") as f:
                for line in f:
                    fields = line.split(" ")
                    if len(fields) >= 6:
                        logged += 1
                        diary.waits["sql", "all"].append(int(fields[2]) / 1e6 - NAPS * NAP_MS / 1000)
        done = int(self.ask("select count(*) from pgbench_history"))
        if done != logged:
            wrong.append(f"{logged} transactions were committed for pgbench, {done} in the database")
        if self.ask("select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history)") != "t":
            wrong.append("the sums of the database do not agree")
        diary.done["sql"] += logged
        return [f"sql: {text}" for text in wrong]
