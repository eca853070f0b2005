"""The inspector's page in a real browser, over a real kit, driver and service.

Runs: plain.
"""

import json

from tests.integration.browser import audited
from tests.integration.harness import Service, connect, eventually, read_head
from tests.integration.inspected import Inspected, Keeper
from tests.integration.inspector_page import COUNT, EVIL, as_json, chromium, clean, click, close_browser, hostile, open_page, pick, search, send_hostile, shot
from tests.support.tap import case, main


@case("live: requests come in, are found by what is in them, opened, revealed; the token is in no address, cookie or storage of others")
def _():
    with Keeper(as_json) as service, Inspected(service.port) as i:
        page = open_page(i)
        page.until("document.querySelector('#empty')?.textContent.includes('Waiting for the first request')")
        audited(page)
        shot(page, "empty")
        i.request("POST", "/hooks/stripe?x=1", b'{"type": "invoice.paid", "token": "abc"}', "Content-Type: application/json", "Authorization: Bearer s3cret-value")
        i.request("GET", "/other")
        page.until(f"{COUNT} === '2 requests'")
        assert page.js("[location.href, document.cookie, localStorage.length].join()") == f"http://127.0.0.1:{i.port}/,,0"
        pick(page, "/hooks/stripe")
        page.until("document.querySelector('.side .tree')?.textContent.includes('invoice.paid')")
        assert page.js("document.querySelector('#detail').textContent.includes('Bearer ••••') && !document.body.textContent.includes('s3cret-value')")
        audited(page)
        shot(page, "detail")
        click(page, "Reveal 1 secret")
        page.until("document.querySelector('#detail').textContent.includes('Bearer s3cret-value')")
        for text, want in (('body:"invoice.paid"', "1 of 2"), ("header:authorization", "1 of 2"), ("status:200 -path:/other", "1 of 2"), ("method:GET", "1 of 2"), ("status:5xx", "0 of 2"), ("", "2 requests")):
            search(page, text)
            page.until(f"{COUNT} === {json.dumps(want)}")
        page.js("document.querySelector('#bindings [title^=\"QR code\"]').click()")
        assert page.js("document.querySelector('dialog .qr path').getAttribute('d').length") > 1000
        audited(page)
        page.js("document.querySelector('dialog [title=Close]').click()")
        search(page, "body:later")
        page.until(f"{COUNT} === '0 of 2'")
        i.request("POST", "/later", b"sooner or later")
        page.until(f"{COUNT} === '1 of 3'")
        search(page, "")
        page.js("document.querySelector('[title=\"Pause (p)\"]').click()")
        i.request("GET", "/while-paused")
        page.until(f"{COUNT} === 'Paused · 1 held back'")
        page.js("document.querySelector('[title=\"Go on (p)\"]').click()")
        page.until(f"{COUNT} === '4 requests'")
        page.js("document.querySelector('[title=Clear]').click()")
        click(page, "Clear", "document.querySelector('dialog')")
        page.until("document.querySelector('#empty')?.textContent.includes('Waiting for the first request')")
        assert i.list() == []
        other = chromium().page(f"http://127.0.0.1:{i.port}/")  # without the token
        other.until("document.querySelector('#banner').textContent.includes('needs the token')")
        other.close()
        clean(page)
        page.close()


@case("again: replay, edit with the answer beside it, the difference of two answers; keys do the same")
def _():
    with Keeper(as_json) as service, Inspected(service.port) as i:
        i.request("POST", "/fails", b'{"n": 1}', "Content-Type: application/json", "Authorization: Bearer s3cret-value")
        page = open_page(i)
        pick(page, "/fails")
        click(page, "Replay", "document.querySelector('.dacts')")
        page.until(f"{COUNT} === '2 requests'")
        assert eventually(lambda: len(service.got) == 2 and service.got, "it was sent")[0] == service.got[1]
        click(page, "Compare", "document.querySelector('.dacts')")
        page.until("document.querySelector('.diff')?.textContent.includes('Original')")
        pick(page, "/fails")
        page.js("document.body.dispatchEvent(new KeyboardEvent('keydown', { key: 'e', bubbles: true }))")
        page.until("!!document.querySelector('dialog.editor')")
        page.js("(() => { const a = document.querySelector('#edBody'); a.value = '{\"n\": 22}'; a.dispatchEvent(new Event('input')); document.querySelector('dialog [aria-label=Target]').value = '/works'; })()")
        audited(page)
        # The answer comes behind the feed's word that the exchange has ended.
        page.js("(() => { const f = window.fetch; window.fetch = async (...a) => { const r = await f(...a); if (String(a[0]).endsWith('/replay')) await new Promise((ok) => setTimeout(ok, 500)); return r; }; })()")
        click(page, "Send", "document.querySelector('dialog')")
        page.until("document.querySelector('dialog .pill.ok')?.textContent.includes('200')")
        page.until("document.querySelector('dialog .diff')?.textContent.includes('KeyError')")
        shot(page, "edit")
        head, body = service.got[-1]
        assert head.startswith("POST /works HTTP/1.1") and body == b'{"n": 22}' and "Bearer s3cret-value" in head, head
        click(page, "Open", "document.querySelector('dialog')")
        page.until("document.querySelector('.durl').textContent.includes('/works') && document.querySelector('.dmeta').textContent.includes('edited from')")
        shot(page, "compare")
        clean(page)
        page.close()


@case("a WebSocket: its messages come as they pass, are filtered, and open as what they are")
def _():
    def upgrade(connection):
        read_head(connection)
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
        connection.sendall(b'\x81\x0e{"op": "ready"}'[:2] + b'{"op":"ready"}' + b"\x82\x03\x00\x01\x02")
        while data := connection.recv(1000):
            if data[0] == 0x81:
                connection.sendall(b"\x81\x05again")

    with Service(upgrade) as service, Inspected(service.port) as i:
        page = open_page(i)
        with connect(i.driver.port) as c:
            c.sendall(b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
            read_head(c)
            pick(page, "/ws")
            page.until("document.querySelectorAll('.frame').length === 2")
            evil = EVIL.encode()
            c.sendall(b"\x81" + bytes([0x80 | len(evil)]) + b"\0\0\0\0" + evil)
            page.until("document.querySelectorAll('.frame').length === 4 && document.querySelector('.frames').textContent.includes('onerror')")
            audited(page)
            shot(page, "websocket")
            page.js("(() => { const f = document.querySelector('.sbar input'); f.value = 'ready'; f.dispatchEvent(new Event('input')); })()")
            page.until("document.querySelectorAll('.frame').length === 1")
        page.until("document.querySelector('.sbar').textContent.includes('closed')")
        clean(page)
        page.close()


@case("hostile: names, values, bodies, files that are markup, bytes, endless or turned around stay text, in three widths, light and dark")
def _():
    with Keeper(hostile) as service, Inspected(service.port) as i:
        n = send_hostile(i)
        page = open_page(i)
        page.until(f"{COUNT} === '{n} requests'")
        for x in i.list():
            pick(page, x["target"][:60])
            page.until("document.querySelectorAll('#dbody > *').length > 0")
            for _ in range(5):
                page.js("document.querySelectorAll('#dbody .seg').forEach((s) => { const b = [...s.children], i = b.findIndex((k) => k.getAttribute('aria-pressed') === 'true'); b[(i + 1) % b.length]?.click(); })")
            page.js("document.querySelectorAll('#dbody .reveal, #dbody [title=\"Reveal this value\"], #dbody .short').forEach((b) => b.click())")
            assert page.js("window.hacked ?? 0") == 0, x["target"]
        pick(page, "/html")
        for width, scheme in ((1280, "light"), (1280, "dark"), (390, "dark"), (360, "light")):
            page.size(width, 800)
            page.scheme(scheme)
            page.until(f"innerWidth === {width} && matchMedia('(prefers-color-scheme: {scheme})').matches")
            audited(page)
        shot(page, "hostile-phone")
        page.size(1280, 900)
        status, headers, _ = i.raw("GET", f"/exchanges/{i.list()[0]['id']}/response/body")
        assert status == 200 and headers["Content-Type"] == "application/octet-stream"
        assert not [c for c in page.complaints if "hacked" in c], page.complaints
        clean(page)
        page.close()


if __name__ == "__main__":
    try:
        main()
    finally:
        close_browser()
