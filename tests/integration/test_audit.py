"""`--audit`: what is in the file when names are asked for, whoever puts the file away and whatever becomes of the disk."""

import json
import os
import signal
import stat
import subprocess

import jsonschema

from gen import events
from tests.integration.harness import ROOT, Folder, Tunnel, command, eventually, http_service
from tests.support.tap import case, main

WITH_PROXY = ("--connect-proxy", "127.0.0.1:0")
LINE = jsonschema.Draft202012Validator(json.loads(events.render("audit_line.schema.json", os.path.join(ROOT, "spec"))))


def ask(t, url):
    """The status of a request through the proxy's CONNECT; 0: no way was made."""
    done = subprocess.run(["curl", "-sS", "-p", "-x", f"http://{t.kit.get('/proxy')['address']}", "-o", "/dev/null", "-w", "%{http_code}", url],
                          capture_output=True, text=True, timeout=60, check=False)
    return int(done.stdout)


def lines(path):
    """The file's objects; each has to be one that the specification knows."""
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as f:
        text = f.read()
    assert not text or text.endswith("\n"), text
    out = [json.loads(line) for line in text.splitlines()]
    for line in out:
        LINE.validate(line)
    return out


def service():
    return http_service(lambda head, body: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


@case("connections by name are noted when they are over; the file is this user's alone, and opened anew when it was moved away and on SIGHUP")
def _():
    with Folder() as folder, Tunnel(*WITH_PROXY) as t, service() as s:
        path, old = folder.join("audit.jsonl"), folder.join("audit.jsonl.1")
        driver = t.reach(f"myapi.test:80=127.0.0.1:{s.port}", "--audit", path)
        assert ask(t, "http://myapi.test/") == 200
        got = eventually(lambda: lines(path), "a line")
        assert len(got) == 1 and got[0]["name"] == "myapi.test:80" and got[0]["over"] and got[0]["allowed"], got
        assert got[0]["path"] is None and got[0]["bytesOut"] > 0 and got[0]["peer"].startswith("127.0.0.1:"), got
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        os.rename(path, old)
        driver.process.send_signal(signal.SIGHUP)
        eventually(lambda: ask(t, "http://myapi.test/") == 200 and lines(path), "the new file")
        assert lines(old)[:1] == got
        assert not driver.events("audit") and driver.events("connection"), driver.text()
        assert driver.end(signal.SIGINT) == 0


@case("a full disk is said once and cuts no connection; a file that cannot be made ends it before it begins")
def _():
    with Tunnel(*WITH_PROXY) as t, service() as s:
        driver = t.reach(f"myapi.test:80=127.0.0.1:{s.port}", "--audit", "/dev/full")
        for _ in range(3):
            assert ask(t, "http://myapi.test/") == 200
        eventually(lambda: "No space left on device" in driver.text(), "that it is said")
        assert driver.text().count("No space left on device") == 1, driver.text()
        assert driver.end(signal.SIGINT) == 0
        assert "3 lines are missing at its end" in driver.text(), driver.text()
        with Folder() as folder:
            nowhere = folder.join("none", "audit.jsonl")
            status, _, said = command("reach", "--url", t.kit.url, "myapi.test", "--audit", nowhere)
            assert status == 3 and f"audit file {nowhere}: No such file" in said, said


if __name__ == "__main__":
    main()
