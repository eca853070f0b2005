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


def hostile(head, _body):
    kind = head.split(" ")[1][1:].split("?")[0]
    texts = {
        "html": (EVIL.encode() * 3, "text/html"),
        "svg": (b'<svg xmlns="http://www.w3.org/2000/svg" onload="top.hacked=1"><script>top.hacked=1</script></svg>', "image/svg+xml"),
        "png": (b"\x89PNG not one", "image/png"),
        "json": (json.dumps({"__proto__": EVIL, "\u202eevil": "a\u202eb", EVIL: [EVIL], "</script>": "</script><script>window.hacked=1</script>"}).encode(), "application/json"),
        "deep": (b"[" * 3000 + b"]" * 3000, "application/json"),
        "bytes": (bytes(range(256)) * 4, "text/plain"),
        "utf8": (b"\xff\xc0A\x80B\x00\x1b[31m", "text/plain; charset=" + "x" * 300),
        "long": (b"x" * 300000, "text/" + "y" * 300),
        "form": (b"a=%ff%00%e2%80%ae&%3Cimg%20src=x%20onerror=window.hacked=1%3E=1&password=p", "application/x-www-form-urlencoded"),
        "parts": (b'--B\r\nContent-Disposition: form-data; name="<img src=x onerror=window.hacked=1>"; filename="../../\xe2\x80\xaeexe.png"\r\nContent-Type: image/png\r\n\r\nx\r\n--B--', "multipart/form-data; boundary=B"),
    }
    body, kind = texts.get(kind, (b"ok", "text/plain"))
    return reply(body, "200 <b>OK</b><script>window.hacked=1</script>", f"Content-Type: {kind}", f"X-Evil: {EVIL}", "X-Bidi: a\u202eb".encode().decode("latin-1"), "X-Big: " + "A" * 10000, f"Set-Cookie: {EVIL}=1")


def send_hostile(i):
    """Requests and a file of a hostile visitor; how many there are then."""
    for kind in ("html", "svg", "png", "json", "deep", "bytes", "utf8", "long", "form", "parts"):
        i.request("POST", f"/{kind}?q=%3Cscript%3E&x=\"onmouseover=\"window.hacked=1&<img/src=x/onerror=window.hacked=1>", hostile(f"POST /{kind} HTTP/1.1", b"").split(b"\r\n\r\n", 1)[1][:60000], f"X-In: {EVIL}", "Content-Type: text/html")
    i.request("GET", "/" + "a" * 9000)
    i.request("PURGE-EVERYTHING-NOW-PLEASE-AND-THEN-SOME", "/method")
    har = {"log": {"version": "1.2", "creator": {"name": EVIL, "version": EVIL}, "entries": [
        {"startedDateTime": "2026-01-31T12:00:00Z", "time": 1e300, "_visitor": EVIL + "\u202e\0", "_binding": EVIL, "request": {"method": "GET", "url": "javascript:window.hacked=1", "headers": [{"name": "X", "value": EVIL}]}, "response": {"status": 200, "statusText": EVIL, "headers": [], "content": {"text": EVIL, "mimeType": EVIL}}},
        {"startedDateTime": EVIL, "request": {"method": "GET", "url": "http://" + EVIL.replace(" ", "") + "/imported-evil", "headers": []}, "response": {"status": 999, "headers": [{"name": "Content-Type", "value": "image/svg+xml"}], "content": {"text": "<svg onload=alert(1)>"}}},
        {"request": {"method": "GET", "url": "ws://x/ws-evil", "headers": [{"name": "Upgrade", "value": "websocket"}, {"name": "Connection", "value": "Upgrade"}]}, "response": {"status": 101, "headers": [{"name": "Upgrade", "value": "websocket"}, {"name": "Connection", "value": "Upgrade"}]},
         "_webSocketMessages": [{"type": "send", "time": 1, "opcode": 1, "data": EVIL + "\u202e\0"}, {"type": "receive", "time": 1, "opcode": 8, "data": EVIL}]}]}}
    imported = i.ask("POST", "/har/import", har)["imported"]
    return 12 + imported


def close_browser():
    for one in _chromium:
        one.__exit__()
