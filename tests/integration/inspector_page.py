"""What tests of the inspector's page share: a browser, what one clicks there, and services behind it."""

import base64
import json
import os

from tests.integration import browser
from tests.integration.harness import ROOT, SANITIZED
from tests.integration.inspected import reply
from tests.support.tap import Skip

SHOTS = os.path.join(ROOT, os.environ.get("W", "build"), "shots")
EVIL = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
_chromium = []


def chromium():
    if SANITIZED:
        raise Skip("the page is the same one, and the driver's part has tests of its own")
    if not browser.CHROMIUM:
        raise Skip("no chromium here")
    if not _chromium:
        _chromium.append(browser.Browser())
    return _chromium[0]


def open_page(i, **more):
    page = chromium().page(i.url, **more)
    page.until("!!document.querySelector('#link .pill.ok')")
    return page


def shot(page, name):
    os.makedirs(SHOTS, exist_ok=True)
    with open(os.path.join(SHOTS, f"inspector-{name}.png"), "wb") as f:
        f.write(base64.b64decode(page.ask("Page.captureScreenshot", format="png")["data"]))


def clean(page):
    assert page.js("window.hacked ?? 0") == 0
    assert page.js("document.querySelectorAll('img:not([src^=blob]), script:not([type=module]), iframe, object, embed, a[href^=javascript]').length") == 0
    assert not page.complaints, page.complaints


def click(page, text, inside="document"):
    page.until(f"[...{inside}.querySelectorAll('button')].some((b) => b.textContent.trim() === {json.dumps(text)} && !b.disabled)")
    page.js(f"[...{inside}.querySelectorAll('button')].find((b) => b.textContent.trim() === {json.dumps(text)}).click()")


def pick(page, target):
    """Opens the newest row of that target."""
    page.until(f"[...document.querySelectorAll('.row:not([hidden])')].some((r) => r.querySelector('.p').textContent.includes({json.dumps(target)}))")
    page.js(f"[...document.querySelectorAll('.row:not([hidden])')].filter((r) => r.querySelector('.p').textContent.includes({json.dumps(target)})).sort((a, b) => a.ariaPosInSet - b.ariaPosInSet)[0].click()")
    page.until(f"document.querySelector('.durl')?.textContent.includes({json.dumps(target)}) && document.querySelectorAll('#dbody > *').length > 0")


def search(page, text):
    page.js(f"(() => {{ const f = document.querySelector('#filter'); f.value = {json.dumps(text)}; f.dispatchEvent(new Event('input')); }})()")


COUNT = "document.querySelector('#count').textContent"
CLIPBOARD = "(() => { navigator.clipboard.writeText = (t) => { window.copied = t; return Promise.resolve(); }; })()"


def copied(page, button):
    page.js("window.copied = null")
    page.js(CLIPBOARD)
    click(page, button, "document.querySelector('.dacts')")
    return page.until("window.copied")


def lines(head):
    """A head but for what curl writes in its own way: the name of Host, the blank of an empty value, what is about the connection."""
    return [line.rstrip().replace("Host:", "host:") for line in head.split("\r\n") if not line.lower().startswith("connection:")]


def as_json(head, body):
    words = head.split(" ")
    if words[1].startswith("/fails"):
        return reply(json.dumps({"error": "KeyError", "tries": len(body)}), "500 Internal Server Error", "Content-Type: application/json")
    return reply(json.dumps({"path": words[1], "len": len(body), "items": [1, 2, {"a": None}]}), "200 OK", "Content-Type: application/json", "Set-Cookie: sid=c00kie-value")


def close_browser():
    for one in _chromium:
        one.__exit__()
