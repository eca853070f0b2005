"""Firefox without a window, driven by Marionette (its own protocol: length:JSON over TCP)."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile

from tests.integration.harness import eventually, free_port

FIREFOX = next(filter(None, map(shutil.which, ("firefox-esr", "firefox"))), None)
_PREFS = {"app.update.enabled": False, "browser.shell.checkDefaultBrowser": False, "datareporting.policy.dataSubmissionEnabled": False, "toolkit.telemetry.enabled": False,
          "browser.startup.page": 0, "browser.newtabpage.enabled": False, "network.captive-portal-service.enabled": False, "network.connectivity-service.enabled": False,
          "browser.safebrowsing.malware.enabled": False, "browser.safebrowsing.phishing.enabled": False, "extensions.update.enabled": False, "dom.security.https_first": False}


class Firefox(contextlib.AbstractContextManager):
    def __init__(self):
        self.profile = tempfile.TemporaryDirectory(prefix="hoody-tunnel-firefox-", ignore_cleanup_errors=True)  # pylint: disable=consider-using-with
        port = free_port()
        with open(os.path.join(self.profile.name, "user.js"), "w", encoding="ascii") as f:
            for name, value in {**_PREFS, "marionette.port": port}.items():
                f.write(f"user_pref({json.dumps(name)}, {json.dumps(value)});\n")
        self.process = subprocess.Popen([FIREFOX, "--headless", "--no-remote", "--marionette", "--profile", self.profile.name, "about:blank"], start_new_session=True,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "HOME": self.profile.name, "MOZ_HEADLESS": "1"})
        self.socket = eventually(lambda: self._connect(port), "a Firefox that listens", 90)
        self.data, self.n = b"", 0
        self._read()  # its greeting
        self.ask("WebDriver:NewSession")

    def _connect(self, port):
        assert self.process.poll() is None, "Firefox has ended"
        try:
            return socket.create_connection(("127.0.0.1", port))
        except OSError:
            return None

    def _read(self):
        while b":" not in self.data:
            self.data += self._more()
        length, self.data = self.data.split(b":", 1)
        while len(self.data) < int(length):
            self.data += self._more()
        text, self.data = self.data[:int(length)], self.data[int(length):]
        return json.loads(text)

    def _more(self):
        data = self.socket.recv(1 << 20)
        if not data:
            raise AssertionError("the browser has ended")
        return data

    def ask(self, command, **params):
        self.n += 1
        data = json.dumps([0, self.n, command, params]).encode()
        self.socket.sendall(b"%d:%s" % (len(data), data))
        _, number, error, result = self._read()
        assert number == self.n and not error, (command, error)
        return result

    def open(self, url):
        self.ask("WebDriver:Navigate", url=url)

    def js(self, expression):
        """The value of an expression. It sees the page's document; what scripts of the page have set is window.wrappedJSObject's."""
        return self.ask("WebDriver:ExecuteScript", script=f"return ({expression})", args=[], sandbox="default")["value"]

    def until(self, expression, timeout=60.0):
        try:
            return eventually(lambda: self.js(expression), expression, timeout)
        except AssertionError as e:
            raise AssertionError(f"{e}\nthe page: {self.js('document.body.innerText')[:2000]}") from None

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.socket.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.profile.cleanup()
        return False
