"""Chromium without a window, driven by its DevTools protocol over a pipe."""

import base64
import contextlib
import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_QUIET = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions", "--disable-sync",
          "--disable-background-networking", "--disable-component-update", "--disable-default-apps", "--disable-domain-reliability", "--no-pings",
          "--disable-features=Translate,OptimizationHints,MediaRouter,DialMediaRouteProvider,AutofillServerCommunication", "--mute-audio", "--noerrdialogs",
          "--disable-crash-reporter", "--disable-breakpad", "--metrics-recording-only", "--hide-scrollbars", "--remote-debugging-pipe"]


class Page:
    """A tab. What it complained of is in .complaints: violations of its policy, exceptions, messages of the console."""

    def __init__(self, browser, session, context):
        self.browser, self.session, self.context = browser, session, context
        self.complaints = []
        self.answers = None  # of requests that are held: see answer()
        self.chooser = None  # the node that waits for a file, once Page.setInterceptFileChooserDialog was asked for

    def ask(self, method, **params):
        return self.browser.ask(method, self.session, **params)

    def js(self, expression):
        """The value of an expression; promises are waited for."""
        got = self.ask("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True)
        if "exceptionDetails" in got:
            raise AssertionError(f"{expression}: {got['exceptionDetails'].get('exception', {}).get('description', got)}")
        return got["result"].get("value")

    def until(self, expression, timeout=60.0):
        """Waits until the expression is true, and returns its value; the page is asked after each of its own steps."""
        give_up = time.monotonic() + timeout
        while True:
            value = why = None
            try:
                value = self.js(expression)
            except AssertionError as e:  # what it looks at is not there yet, or the page is on its way to another one
                why = e
            if value:
                return value
            if time.monotonic() > give_up:
                shown = self.js("document.body.innerText")[:3000]
                raise AssertionError(f"not within {timeout} s: {expression}\n{why or value}\nthe page: {shown}\n{self.complaints}")
            self.browser.pump(0.05)

    def open(self, url):
        self.ask("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def close(self):
        self.browser.ask("Target.disposeBrowserContext", None, browserContextId=self.context)
        del self.browser.pages[self.session]

    def size(self, width, height):
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)

    def scheme(self, name):
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}, {"name": "prefers-reduced-motion", "value": "reduce"}])

    def answer(self, pattern, body):
        """Requests for URLs like this are answered with `body` (JSON) from now on, and not by the kit."""
        self.answers = json.dumps(body).encode()
        self.ask("Fetch.enable", patterns=[{"urlPattern": pattern}])

    def event(self, method, params):
        if method == "Runtime.exceptionThrown":
            self.complaints.append(params["exceptionDetails"].get("exception", {}).get("description", str(params)))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error" and params["entry"]["source"] != "network":
            self.complaints.append(params["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append(str(params["args"]))
        elif method == "Audits.issueAdded" and params["issue"]["code"] == "ContentSecurityPolicyIssue":
            self.complaints.append(str(params["issue"]["details"]))
        elif method == "Page.fileChooserOpened":
            self.chooser = params["backendNodeId"]
        elif method == "Fetch.requestPaused":
            self.browser.send("Fetch.fulfillRequest", self.session, requestId=params["requestId"], responseCode=200,
                              responseHeaders=[{"name": "Content-Type", "value": "application/json"}], body=base64.b64encode(self.answers).decode())


class Browser(contextlib.AbstractContextManager):
    def __init__(self, *more):
        self.profile = tempfile.TemporaryDirectory(prefix="hoody-tunnel-browser-", ignore_cleanup_errors=True)  # pylint: disable=consider-using-with
        to_read, self.out = os.pipe()
        self.into, to_write = os.pipe()
        # It reads commands from descriptor 3 and writes to 4.
        script = f'exec "$@" 3<&{to_read} 4>&{to_write}'
        self.process = subprocess.Popen(["bash", "-c", script, "-", CHROMIUM, *_QUIET, *more, f"--user-data-dir={self.profile.name}", "about:blank"],
                                        pass_fds=(to_read, to_write), start_new_session=True, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "HOME": self.profile.name})
        os.close(to_read)
        os.close(to_write)
        self.data, self.ids, self.done, self.pages = b"", itertools.count(1), {}, {}
        self.ask("Target.setDiscoverTargets", None, discover=True)

    def send(self, method, session, **params):
        number = next(self.ids)
        message = {"id": number, "method": method, "params": params, **({"sessionId": session} if session else {})}
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.out, data):]
        return number

    def pump(self, timeout):
        """Takes what comes within that time."""
        if not select.select([self.into], [], [], timeout)[0]:
            return
        more = os.read(self.into, 1 << 20)
        if not more:
            raise AssertionError("the browser has ended")
        *whole, self.data = (self.data + more).split(b"\0")
        for text in whole:
            message = json.loads(text)
            if "id" in message:
                self.done[message["id"]] = message
            elif message.get("sessionId") in self.pages:
                self.pages[message["sessionId"]].event(message["method"], message["params"])

    def ask(self, method, session, **params):
        number = self.send(method, session, **params)
        give_up = time.monotonic() + 60
        while number not in self.done:
            if time.monotonic() > give_up:
                raise AssertionError(f"the browser does not answer {method}")
            self.pump(1)
        answer = self.done.pop(number)
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        return answer["result"]

    def page(self, url, width=1280, height=900, scheme="light"):
        """A tab of its own, which has nothing in common with others but the browser."""
        context = self.ask("Target.createBrowserContext", None)["browserContextId"]
        target = self.ask("Target.createTarget", None, url="about:blank", browserContextId=context)["targetId"]
        session = self.ask("Target.attachToTarget", None, targetId=target, flatten=True)["sessionId"]
        page = self.pages[session] = Page(self, session, context)
        for domain in ("Page", "Runtime", "Log", "Audits"):
            page.ask(f"{domain}.enable")
        page.size(width, height)
        page.scheme(scheme)
        page.open(url)
        return page

    def __exit__(self, *_):
        with contextlib.suppress(OSError, AssertionError):
            self.send("Browser.close", None)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            pass
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # helpers of its own
        self.process.wait()
        os.close(self.out)
        os.close(self.into)
        self.profile.cleanup()
        return False


# What axe-core would say first: names, labels, contrast, what is wider than the window, and ids that are there twice.
AUDIT = """(() => {
  const shown = (e) => e.checkVisibility({ visibilityProperty: true, opacityProperty: true }) && e.getClientRects().length;
  const bad = [];
  for (const e of document.querySelectorAll('button, a[href], input, select, textarea, [role=button]')) {
    const labels = [...(e.labels ?? [])].map((l) => l.textContent).join(' ');
    const name = e.getAttribute('aria-label') || labels || e.textContent || e.title;
    if (shown(e) && !name.trim()) bad.push(`no name: ${e.outerHTML.slice(0, 120)}`);
    const box = e.getBoundingClientRect();
    if (shown(e) && (box.width < 20 || box.height < 16)) bad.push(`too small: ${e.outerHTML.slice(0, 120)}`);
  }
  for (const e of document.querySelectorAll('svg')) if (!e.hasAttribute('aria-hidden') && !e.getAttribute('aria-label')) bad.push('a picture without a name');
  for (const e of document.querySelectorAll('table')) if (![...e.querySelectorAll('th')].every((t) => t.scope && t.textContent.trim())) bad.push('a table head without a name');
  const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) bad.push(`id twice: ${id}`);
  for (const a of ['aria-labelledby', 'aria-describedby']) for (const e of document.querySelectorAll(`[${a}]`)) for (const id of e.getAttribute(a).split(' ')) if (!document.getElementById(id)) bad.push(`${a} leads nowhere: ${id}`);
  if (document.querySelectorAll('h1').length !== 1 || document.querySelectorAll('main').length !== 1 || !document.documentElement.lang || !document.title) bad.push('one h1, one main, a language and a title');
  const parse = (c) => (c.match(/[\\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
  const lum = ([r, g, b]) => [r, g, b].map((v) => ((v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)).reduce((n, v, i) => n + v * [0.2126, 0.7152, 0.0722][i], 0);
  const under = (e) => { for (let n = e; n; n = n.parentElement) { const c = parse(getComputedStyle(n).backgroundColor); if (c.length < 4 || c[3] > 0.9) return c; } return [255, 255, 255]; };
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const seen = new Set();
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || seen.has(e) || !shown(e) || ['SCRIPT', 'STYLE'].includes(e.tagName) || e.closest('.sr, thead, :disabled')) continue;
    seen.add(e);
    const style = getComputedStyle(e), [x, y] = [lum(parse(style.color)), lum(under(e))].sort((a, b) => b - a), ratio = (x + 0.05) / (y + 0.05);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) bad.push(`contrast ${ratio.toFixed(2)}: ${e.textContent.slice(0, 60)} ${style.color}`);
  }
  if (document.documentElement.scrollWidth > innerWidth) bad.push(`wider than the window: ${document.documentElement.scrollWidth} > ${innerWidth}`);
  return bad;
})()"""


def audited(page):
    bad = page.js(AUDIT)
    assert not bad, "\n".join(bad)
