"""The inspector's page in Firefox.

Runs: make inspector-page.
"""

import json

from tests.integration.firefox import FIREFOX, Firefox
from tests.integration.harness import eventually
from tests.integration.inspected import Inspected, Keeper
from tests.integration.inspector_page import COUNT, as_json, hostile, send_hostile
from tests.support.tap import Skip, case, main

ROWS = "[...document.querySelectorAll('.row:not([hidden])')]"


@case("Firefox: requests come in, are searched, sent again; hostile ones stay text")
def _():
    if not FIREFOX:
        raise Skip("no firefox here")
    with Firefox() as f:
        with Keeper(as_json) as service, Inspected(service.port) as i:
            f.open(i.url)
            f.until("document.querySelector('#empty')?.textContent.includes('Waiting for the first request')")
            i.request("POST", "/fails", b'{"n": 1}', "Content-Type: application/json")
            i.request("GET", "/other")
            f.until(f"{COUNT} === '2 requests'")
            assert f.js("[location.href, document.cookie].join()") == f"http://127.0.0.1:{i.port}/,"
            f.js("(() => { const e = document.querySelector('#filter'); e.value = 'body:KeyError'; e.dispatchEvent(new Event('input')); })()")
            f.until(f"{COUNT} === '1 of 2'")
            f.js(f"{ROWS}.find((r) => r.textContent.includes('/fails')).click()")
            f.until("[...document.querySelectorAll('.side .tree')].some((t) => t.textContent.includes('KeyError'))")
            f.js("document.querySelector('.dacts .primary').click()")
            eventually(lambda: len(service.got) == 3 and service.got[2] == service.got[0], "it was sent again")
        with Keeper(hostile) as service, Inspected(service.port) as i:
            n = send_hostile(i)
            f.open(i.url)
            f.until(f"{COUNT} === '{n} requests'")
            f.js("(() => { document.addEventListener('securitypolicyviolation', () => { document.body.dataset.violated = '1'; }); })()")
            for x in i.list():
                wanted = json.dumps(x["target"][:60])
                f.js(f"{ROWS}.find((r) => r.textContent.includes({wanted}))?.click()")
                f.until("document.querySelectorAll('#dbody > *').length > 0")
            assert f.js("[window.hacked, window.wrappedJSObject.hacked, document.body.dataset.violated].filter(Boolean).length") == 0
            assert f.js("document.querySelectorAll('img:not([src^=blob]), script:not([type=module]), iframe, object, embed, a[href^=javascript]').length") == 0


if __name__ == "__main__":
    main()
