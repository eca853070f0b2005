"""The status page in a real browser, over a real kit and real drivers.

Runs: plain.
"""

import json
import re
import signal

from tests.integration import browser
from tests.integration.browser import audited
from tests.integration.harness import SANITIZED, Driver, Kit, connect, eventually, free_port, hello, http_service
from tests.support.tap import Skip, case, main

TOKEN = "correct-horse-battery-staple"
ENV = {"HOODY_TUNNEL_TOKEN": TOKEN}
EVIL = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>\u202egpj'

_chromium = []


def chromium():
    if SANITIZED:
        raise Skip("the page is the same one, and the kit's part has tests of its own")
    if not browser.CHROMIUM:
        raise Skip("no chromium here")
    if not _chromium:
        _chromium.append(browser.Browser())
    return _chromium[0]


def sign_in(page, token=TOKEN):
    page.until("!!document.querySelector('#token')")
    page.js(f"(document.querySelector('#token').value = {json.dumps(token)}, document.querySelector('form').requestSubmit())")


def row(label):
    """A JavaScript expression: the row of the session whose binding is called so."""
    return f"[...document.querySelectorAll('.tunnels tbody tr')].find((r) => r.textContent.includes({json.dumps(label)}))"


def has(label):
    return f"!!{row(label)}"


def expose(kit, label, *args):
    return Driver(kit, "expose", f"0={free_port()}", "--label", label, *args, env=ENV)


def end(*drivers):
    for d in drivers:
        if d.process.poll() is None:
            d.end(signal.SIGINT)
        d.check_sanitizers()


@case("log in: a wrong token is told, the right one shows the tunnels; it is in no URL, no cookie, and gone with the tab")
def _():
    b = chromium()
    kit = Kit(env=ENV)
    driver = expose(kit, EVIL)
    try:
        page = b.page(f"http://127.0.0.1:{kit.port}/")
        page.until("!!document.querySelector('#token')")
        audited(page)
        sign_in(page, "wrong")
        page.until("document.querySelector('.err').textContent.includes('does not know this token')")
        sign_in(page)
        page.until(has("onerror"))
        audited(page)
        # What a driver says is text. Its marks of direction are made visible by the kit already.
        assert page.js(row("onerror") + ".querySelector('.label').textContent") == EVIL.replace("\u202e", "\\u202e")
        assert page.js("document.querySelectorAll('img, script:not([type=module]), iframe, object, embed').length") == 0
        assert page.js("window.hacked ?? 0") == 0
        assert page.js("document.querySelector('.who-name').textContent + document.querySelector('#health').textContent") == "adminHealthy"
        assert page.js("[location.href, document.cookie, localStorage.length].join()") == f"http://127.0.0.1:{kit.port}/,,0"
        assert page.js("sessionStorage.getItem('ht.kit')") == TOKEN
        assert not b.ask("Storage.getCookies", None)["cookies"]
        # A reload does not ask again; another tab does.
        page.open(f"http://127.0.0.1:{kit.port}/status")
        page.until(has("onerror"))
        other = b.page(f"http://127.0.0.1:{kit.port}/")
        other.until("!!document.querySelector('#token')")
        page.js("document.querySelector('[title=\"Sign out\"]').click()")
        page.until("!!document.querySelector('#token') && sessionStorage.getItem('ht.kit') === null")
        assert not page.complaints and not other.complaints, (page.complaints, other.complaints)
        page.close()
        other.close()
    finally:
        end(driver)
        assert kit.end() == 0


@case("live: a tunnel comes, is lost and is back, carries bytes, and is ended by the admin; the kit goes and comes back")
def _():
    b = chromium()
    port = free_port()
    kit = Kit("--listen", f"127.0.0.1:{port}", "--ping-interval", "1s", "--pong-timeout", "1s", env=ENV)
    drivers = []
    try:
        page = b.page(f"http://127.0.0.1:{port}/")
        sign_in(page)
        page.until("document.querySelector('#tunnels').textContent.includes('No tunnel yet')")
        assert f"--url ws://127.0.0.1:{port}" in page.js("document.querySelector('#table').textContent")
        with http_service(hello) as service:
            drivers.append(Driver(kit, "expose", f"0={service.port}", "--label", "first", env=ENV))
            page.until(row("first") + "?.textContent.includes('Live')")
            page.until("document.querySelector('#feed').textContent.includes('admin connected')")
            with connect(drivers[0].port) as visitor:
                visitor.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                while visitor.recv(65536):
                    pass
            page.until(f"/[1-9]\\d* B\\/s/.test({row('first')}.textContent)")  # a sample
            page.js(row("first") + ".querySelector('[title^=Details]').click()")
            page.until("/Requests\\s*1/.test(document.querySelector('dialog')?.innerText.replace(/\\n/g, ' '))")
            page.js("document.querySelector('dialog [title=Close]').click()")
        drivers[0].process.send_signal(signal.SIGSTOP)
        page.until(row("first") + "?.textContent.includes('Parked')")
        assert page.js("document.querySelector('#tiles').textContent").count("waiting for their drivers") == 1
        drivers[0].process.send_signal(signal.SIGCONT)
        page.until(row("first") + "?.textContent.includes('Live')")
        page.until("document.querySelector('#feed').textContent.includes('admin is back')")
        # The safe button has the focus; the other one ends the session for good.
        page.js(row("first") + ".querySelector('[title^=\"End \"]').click()")
        assert page.js("document.activeElement.textContent") == "Keep it"
        audited(page)
        page.js("[...document.querySelectorAll('dialog button')].find((x) => x.textContent === 'End the session').click()")
        assert drivers[0].process.wait(20) == 7, drivers[0].text()
        page.until("document.querySelector('#tunnels').textContent.includes('No tunnel yet')")
        page.until("document.querySelector('#feed').textContent.includes('admin was sent away')")
        assert kit.end() == 0
        page.until("!document.querySelector('#banner').hidden && document.querySelector('#banner').textContent.includes('does not answer')")
        kit = Kit("--listen", f"127.0.0.1:{port}", env=ENV)
        drivers.append(expose(kit, "second"))
        page.until(row("second") + "?.textContent.includes('Live')", 30)
        page.until("document.querySelector('#banner').hidden")
        assert not page.complaints, page.complaints
        page.close()
    finally:
        end(*drivers)
        assert kit.end() == 0


@case("the kit's own host in front: the link of a tunnel leads to its service, its code has the same URL, and the service gets nothing of the token")
def _():
    b = chromium()
    kit = Kit("--public", "127.0.0.1:0", "--domain", "tunnel.localhost", env=ENV)
    port = int(re.search(r"public on http://127\.0\.0\.1:(\d+)", kit.text()).group(1))
    heads = []

    def service(head, _body):
        heads.append(head)
        return hello(head, _body)

    with http_service(service) as laptop:
        driver = Driver(kit, "expose", f"0={laptop.port}", "--name", "app", env=ENV)
        try:
            url = f"http://app-{driver.port}.tunnel.localhost:{port}"
            page = b.page(f"http://status.tunnel.localhost:{port}/")
            sign_in(page)
            page.until(has(url.removeprefix("http://")))
            link = "document.querySelector('.tunnels a')"
            assert page.js(f"{link}.href") == url + "/" and page.js(f"{link}.target + ' ' + {link}.rel") == "_blank noopener noreferrer"
            page.js("document.querySelector('.tunnels [title^=\"QR code\"]').click()")
            assert page.js("document.querySelector('dialog .qr svg').getAttribute('aria-label')") == f"QR code of {url}"
            assert page.js("document.querySelector('dialog .qr path').getAttribute('d').length") > 1000
            audited(page)
            assert f"exposes port {driver.port}{url}" in page.js("document.querySelector('#feed').textContent").replace("\n", "")
            assert not page.complaints, page.complaints
            # As the link does: in the same browser, with whatever it would send there.
            page.ask("Page.navigate", url=url + "/")
            page.until("location.host.startsWith('app-') && document.readyState === 'complete'")
            assert heads and not any(TOKEN in h or "authorization:" in h.lower() or "cookie:" in h.lower() for h in heads), heads
            page.close()
        finally:
            end(driver)
            assert kit.end() == 0


def many():
    """5 MB of sessions, in which every text is hostile."""
    def session(i):
        return {"sessionId": f"S-{i}", "owner": EVIL, "peerAddr": EVIL, "protocol": "v2", "isV2": True, "state": ("live", "parked", "draining")[i % 3],
                "graceMs": 5000 if i % 3 == 1 else None, "connectionsGranted": 4, "connections": [{"index": 0}], "activeStreams": 1, "streams": 1,
                "maxStreams": 1024, "rttMs": None if i % 2 else 1.5, "ageS": 10, "bytesIn": 1, "bytesOut": 2, "requests": 3, "rate": 0, "traffic": [0] * 60,
                "bindings": [{"bindId": n, "port": n, "kind": "http", "mode": "expose", "label": EVIL, "url": ("javascript:window.hacked=1", "https://" + "x" * 300 + ".example", None)[n % 3],
                              "qr": None} for n in range(1, 7)]}
    use = {"used": 1, "max": 2}
    return {"kit": {"state": "ok", "url": EVIL, "version": EVIL, "built": EVIL, "uptimeS": 1, "sessions": use, "parked": 0, "bindings": use, "exposed": 1, "streams": use,
                    "requestsPerSecond": 1.5, "descriptors": use, "limits": [{"name": EVIL, "used": 1, "max": 2}]},
            "sessions": [session(i) for i in range(3000)],
            "events": [{"event": "bind", "time": "2026-01-31T12:00:00Z", "owner": EVIL, "url": EVIL, "reason": EVIL, "port": 1} for _ in range(50)]}


@case("hostile: 5 MB of sessions whose every text is markup are drawn as text, at once, in two widths, light and dark")
def _():
    b = chromium()
    kit = Kit()  # without a token: nobody is asked for one
    try:
        page = b.page(f"http://127.0.0.1:{kit.port}/")
        page.until("document.querySelector('#tunnels').textContent.includes('No tunnel yet')")
        answer = many()
        assert len(json.dumps(answer)) > 5e6
        page.answer("*/api/v1/tunnel/status", answer)
        page.ask("Page.reload")
        page.until("document.querySelectorAll('.tunnels tbody tr').length === 100 && document.querySelector('.more').textContent.includes('2,900 more')")
        assert page.js("document.querySelectorAll('img, script:not([type=module]), iframe, object, embed, a[href^=javascript]').length") == 0
        assert page.js("[...document.querySelectorAll('a[href]')].every((a) => /^https?:/.test(a.href) && a.rel === 'noopener noreferrer')")
        assert page.js("document.querySelectorAll('*').length") < 30000
        took = page.js("(() => { const t = performance.now(); drawTable(); return performance.now() - t; })()") if page.js("typeof drawTable") == "function" else 0
        assert took < 2000, took
        page.js("(() => { const f = document.querySelector('#find'); f.value = 's-2999'; f.dispatchEvent(new Event('input')); })()")
        page.until("document.querySelectorAll('.tunnels tbody tr').length === 1")
        for width, scheme in ((1280, "light"), (1280, "dark"), (390, "dark"), (390, "light")):
            page.size(width, 900)
            page.scheme(scheme)
            page.until(f"innerWidth === {width} && matchMedia('(prefers-color-scheme: {scheme})').matches")
            audited(page)
        assert page.js("window.hacked ?? 0") == 0
        assert not page.complaints, page.complaints
        page.close()
    finally:
        eventually(lambda: kit.metric("hoody_tunnel_event_readers") == 0, "no reader of events is left")
        assert kit.end() == 0


@case("the page runs nothing but its own: what is put into it, or asked of another origin, is refused")
def _():
    b = chromium()
    kit = Kit()
    try:
        page = b.page(f"http://127.0.0.1:{kit.port}/")
        page.until("!!document.querySelector('#tunnels')")
        page.js("(() => { const s = document.createElement('script'); try { s.text = 'window.hacked = 1'; } catch { window.refused = 1; } document.body.append(s); })()")
        assert page.js("window.hacked ?? 0") == 0
        assert page.js("(() => { try { document.body.innerHTML = '<b>x</b>'; return 'taken'; } catch (e) { return e.name; } })()") == "TypeError"
        assert page.js("fetch('http://localhost:1/').then(() => 'asked', (e) => e.name)") == "TypeError"
        assert page.js("(() => { const f = document.createElement('iframe'); f.src = '/'; document.body.append(f); return new Promise((r) => { f.onload = () => r(f.contentDocument?.title ?? ''); }); })()") != "Status – hoody-tunnel kit"
        assert any("Content Security Policy" in c or "ContentSecurityPolicy" in c or "contentSecurityPolicy" in c for c in page.complaints), page.complaints
        page.close()
    finally:
        eventually(lambda: kit.metric("hoody_tunnel_event_readers") == 0, "no reader of events is left")
        assert kit.end() == 0


if __name__ == "__main__":
    try:
        main()
    finally:
        for one in _chromium:
            one.__exit__()
