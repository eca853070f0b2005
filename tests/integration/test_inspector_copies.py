"""The inspector's page in a real browser: what is copied and run, files that are written and read, a list of 10,000.

Runs: make inspector-page.
"""

import json
import os
import shutil
import subprocess
import tempfile
import time

from tests.integration.browser import Browser, audited
from tests.integration.harness import eventually, free_port
from tests.integration.inspected import Inspected, Keeper
from tests.integration.inspector_page import COUNT, as_json, clean, click, close_browser, copied, lines, open_page, pick, search
from tests.support.tap import case, main


@case("copied: the curl command gives the service the same bytes, text, binary or compressed; masked unless asked; fetch does in node")
def _():
    with Keeper(as_json) as service, Inspected(service.port) as i:
        bodies = (b"", b'{"quote": "it\'s \\"so\\"", "nl": "a\\nb", "uni": "\xe2\x82\xac"}', b"line\r\nline\ttab\n", bytes(range(256)) * 3, b"@file", b"\xef\xbb\xbfbom", b"a" * 70000)
        page = open_page(i)
        for n, body in enumerate(bodies):
            target = f"/copy/{n}?q=it's&a[]=1&b=$(id)`id`;%20"
            i.request("POST" if body else "GET", target, body, "Content-Type: text/plain", "X-Empty:", "X-Quote: it's \"here\" $HOME `id`", "Accept: */*", "User-Agent: visitor/1")
            eventually(lambda: len(service.got) == n * 2 + 1, "the request")
            pick(page, f"/copy/{n}")
            command = copied(page, "curl")
            done = subprocess.run(["bash", "-c", command], capture_output=True, timeout=60, check=False, env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"})
            assert done.returncode == 0 and b"200 OK" in done.stdout, (command[:2000], done)
            (head, was), (again, got) = service.got[-2:]
            assert got == was == body, (command[:500], got[:100], body[:100])
            assert lines(again) == lines(head), (command[:1000], head, again)
        i.request("POST", "/secret?token=t0ps3cret", b'{"password": "pass-w0rd", "a": 1}', "Content-Type: application/json", "Authorization: Bearer s3cret-value")
        pick(page, "/secret")
        command = copied(page, "curl")
        assert not [s for s in ("s3cret-value", "pass-w0rd", "t0ps3cret") if s in command] and '"a": 1' in command, command
        page.js("window.copied = null")
        click(page, "Copy with secrets")
        command = page.until("window.copied")
        assert all(s in command for s in ("s3cret-value", "pass-w0rd", "t0ps3cret")), command
        call = copied(page, "fetch")
        if node := shutil.which("node"):
            n = len(service.got)
            with tempfile.NamedTemporaryFile("w", suffix=".mjs") as f:
                f.write(call.replace("••••", "x"))
                f.flush()
                subprocess.run([node, f.name], timeout=60, check=True)
            assert len(service.got) == n + 1 and service.got[-1][0].startswith("POST /secret?token=") and b'"a": 1' in service.got[-1][1]
        clean(page)
        page.close()


@case("files: what is exported is imported from the page, and is listed, marked, and sent again")
def _():
    with Keeper(as_json) as service, Inspected(service.port) as i:
        i.request("POST", "/kept", b"\x00\xffbytes", "Authorization: Bearer s3cret-value")
        page = open_page(i)
        page.until(f"{COUNT} === '1 request'")
        page.js("(() => { window.saved = null; const make = URL.createObjectURL; URL.createObjectURL = (b) => { b.text().then((t) => { window.saved = t; }); return make.call(URL, b); }; })()")
        page.js("document.querySelector('[title=\"Export HAR\"]').click()")
        audited(page)
        click(page, "Export", "document.querySelector('dialog')")
        har = page.until("window.saved")
        assert json.loads(har)["log"]["entries"][0]["request"]["url"].endswith("/kept") and "s3cret-value" not in har
        with tempfile.NamedTemporaryFile("w", suffix=".har") as f:
            f.write(har)
            f.flush()
            page.ask("Page.setInterceptFileChooserDialog", enabled=True)
            page.js("document.querySelector('[title=\"Import HAR\"]').click()")
            chooser = eventually(lambda: (page.browser.pump(0.1), page.chooser)[1], "the file chooser")
            page.ask("DOM.setFileInputFiles", backendNodeId=chooser, files=[f.name])
            page.until(f"{COUNT} === '2 requests'")
        page.until("[...document.querySelectorAll('.row')].some((r) => r.textContent.includes('imported'))")
        page.js("[...document.querySelectorAll('.row')].find((r) => r.textContent.includes('imported')).click()")
        click(page, "Replay", "document.querySelector('.dacts')")
        eventually(lambda: len(service.got) == 2, "it was sent")
        assert service.got[1][1] == service.got[0][1] == b"\x00\xffbytes"
        clean(page)
        page.close()


# What the developer tools of this browser do with a file that is dropped on their list of requests.
IMPORT = """(async (text) => {
    const har = await import(location.origin + '/devtools/models/har/har.js');
    const seen = har.Importer.Importer.requestsFromHARLog(new har.HARFormat.HARRoot(JSON.parse(text)).log);
    return await Promise.all(seen.map(async (r) => [r.requestMethod, r.url(), r.statusCode, r.requestHeaders().length, await r.requestFormData(),
        (await r.requestContentData()).text]));
})(%s)"""


@case("files: the developer tools of Chromium read what is exported")
def _():
    with Keeper(as_json) as service, Inspected(service.port) as i:
        i.request("POST", "/hook?x=1", b'{"a": 1}', "Content-Type: application/json")
        i.request("GET", "/other")
        eventually(lambda: len(service.got) == 2, "both requests")
        har = json.dumps(i.ask("POST", "/har/export", {"ids": None, "secrets": False}))
        port = free_port()
        with Browser(f"--remote-debugging-port={port}", "--remote-allow-origins=*") as tools:
            page = tools.page("about:blank")
            page.ask("Page.navigate", url=f"http://127.0.0.1:{port}/devtools/devtools_app.html")
            page.until("location.origin !== 'null' && location.protocol === 'http:'")
            (post, get) = page.js(IMPORT % json.dumps(har))
        assert post[0] == "POST" and post[1].endswith("/hook?x=1") and post[2] == 200 and post[3] > 2 and post[4] == '{"a": 1}', post
        assert get[0] == "GET" and get[1].endswith("/other") and get[2] == 200 and json.loads(get[5]), get


@case("10,000 requests: the list is drawn at once, scrolls, and is searched")
def _():
    entries = [{"startedDateTime": "2026-01-31T12:00:00Z", "time": n % 900, "request": {"method": "GET", "url": f"http://x/row/{n}", "headers": []}, "response": {"status": 500 if n % 100 == 0 else 200, "statusText": "", "headers": [{"name": "Content-Type", "value": "application/json"}], "content": {"text": "{}"}}} for n in range(10000)]
    with Keeper(as_json) as service, Inspected(service.port) as i:
        assert i.ask("POST", "/har/import", {"log": {"entries": entries}})["imported"] == 10000
        page = open_page(i)
        page.until(f"{COUNT} === '10,000 requests'")
        assert page.js("document.querySelectorAll('.row').length") < 100
        begun = time.monotonic()
        for at in range(0, 320000, 16000):
            page.js(f"(() => {{ document.querySelector('#list').scrollTop = {at}; return new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r))); }})()")
        assert page.js("Math.max(...[...document.querySelectorAll('.row:not([hidden])')].map((r) => r.ariaPosInSet))") > 9000
        assert time.monotonic() - begun < 30
        search(page, "status:5xx body:{}")
        page.until(f"{COUNT}.startsWith('100 of') || document.querySelector('#filterNote').textContent.includes('newest')")
        clean(page)
        page.close()


if __name__ == "__main__":
    try:
        main()
    finally:
        close_browser()
