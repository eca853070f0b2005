"""The edge and containers by their address book: a server, and another machine that is a container and a visitor.

Runs: plain.
"""

from tests.integration.edge_sites import DOMAIN, OTHER, PROJECT, site
from tests.integration.harness import BIN
from tests.support.tap import case, main


@case("PROJECT-CONTAINER-SERVICE-N leads to the service's port, http-PORT to the port; whatever is unknown is 404")
def _():
    with site() as it:
        it.book()
        it.start()
        it.until("http-3000", 200, "this is port 3000")
        for number in (1, 2, 65535):
            assert it.get(f"terminal-{number}") == (200, "this is port 76"), number
        for service in ("http-0", "http-65536", "http-99999", "nothing-1", "web-app-1", "sqlite2-1", "ssh-22"):
            assert it.get(service)[0] == 404, service
        assert it.get("http-3001")[0] == 503  # nobody listens there
        assert it.get("terminal-1", container=OTHER)[0] == 404
        assert it.get("terminal-1", project=OTHER)[0] == 404
        assert it.edge.end() == 0, it.edge.text()


@case("the file's services and switches hold from the start, and after SIGHUP; a file with a mistake changes nothing")
def _():
    with site() as it:
        it.book(container={"services": {"terminal": 7000, "web-app": 3000}, "off": ["exec"]}, services={"files": 3000})
        it.start()
        it.until("terminal-1", 200, "this is port 7000")
        it.until("web-app-1", 200, "this is port 3000")
        it.until("files-1", 200, "this is port 3000")
        assert it.get("exec-1")[0] == 503
        it.again(container={"enabled": False})
        it.until("terminal-1", 503, "This is switched off")
        assert it.get("http-3000")[0] == 503
        it.again(off=[PROJECT])
        it.until("terminal-1", 503)
        it.again()
        it.until("terminal-1", 200, "this is port 76")
        assert it.get("web-app-1")[0] == 404
        it.again('{"containers": [\n  {"project": "x"}]}')
        it.edge.wait_line(r"/tmp/book\.json:2: error: an id has 24 of 0-9 and a-f; the addresses stay as they are")
        assert it.get("terminal-1") == (200, "this is port 76")
        it.again('{"containers": []}')
        it.until("terminal-1", 404, "No such container")
        assert it.edge.end() == 0, it.edge.text()


@case("an address of this server is refused, and so is a file that is not there")
def _():
    with site() as it:
        for address in ("127.0.0.1", "192.0.2.1", "169.254.169.254"):
            it.book(container={"address": address})
            said = it.server.run("sh", "-c", f"{BIN} edge up --domain {DOMAIN} --id node1 --folder /tmp/edge --containers /tmp/book.json 2>&1; echo status $?")
            assert f"{address} is no address that a container can have" in said and "status 2" in said, said
        said = it.server.run("sh", "-c", f"{BIN} edge up --domain {DOMAIN} --id node1 --folder /tmp/edge --containers /tmp/none 2>&1; echo status $?")
        assert "/tmp/none: No such file" in said and "status 3" in said, said


if __name__ == "__main__":
    main()
