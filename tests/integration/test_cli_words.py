"""What a newcomer types: the words and spellings of other tools, what is missing, and what he is told then."""

from tests.integration.harness import Folder, Tunnel, command, connect, http_service
from tests.support.tap import case, main


def hello(_head, _body):
    return b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


NOBODY = ("--url", "127.0.0.1:1")


@case("two ports with a colon, as docker and ssh write them, are no host: refused before anything is sent anywhere")
def _():
    for tool in ("expose", "pull"):
        for text, right in (("8080:3000", "8080=3000"), ("80:3000", "80=3000"), ("8080:localhost:3000", "8080=localhost:3000"),
                            ("0:[::1]:3000", "0=[::1]:3000")):
            status, out, err = command(tool, text, *NOBODY)
            assert status == 2 and not out and f'"{text}": write {right} for port' in err, (tool, text, status, err)
        for text in ("9=8080:3000", "127.1:3000", "256.0.0.1:80", "http://8080:3000"):
            status, _out, err = command(tool, text, *NOBODY)
            assert status == 2 and "cannot connect" not in err, (tool, text, status, err)
    with Folder() as folder:
        path = folder.join("t.yaml")
        with open(path, "w", encoding="ascii") as f:
            f.write("url: 127.0.0.1:1\nexpose:\n  - 8080:3000\n  - target: 80:3000\n")
        for words in (["up"], ["config", "check"]):
            status, _out, err = command(*words, "-f", path)
            assert status == 3, (words, status, err)
            first, second = err.splitlines()
            assert first.startswith(f"{path}:3:5: error: ") and "write 8080=3000" in first, first
            assert second.startswith(f"{path}:4:13: error: ") and "write target: 3000, and port: 80" in second, second


@case("a port alone is no kit: --url 8050 does not leave this machine")
def _():
    for text in ("8050", ":8050", "http://8050"):
        status, _out, err = command("list", "--url", text)
        assert status == 2 and "127.0.0.1:8050" in err, (text, status, err)


@case("expose http://localhost:PORT is what it says; what a URL cannot mean here is named with what is possible")
def _():
    with Tunnel() as t, http_service(hello) as web:
        driver = t.expose(f"0=http://127.0.0.1:{web.port}/")
        assert driver.bound[0]["target"] == f"127.0.0.1:{web.port}", driver.bound
        with connect(driver.port) as c:
            c.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert c.recv(100).startswith(b"HTTP/1.1 200")
    for text, right in (("https://localhost:3443", "plain port"), ("http://localhost:3000/app", "write localhost:3000"),
                        ("tcp://localhost:5432", "write localhost:5432"), ("http://me:s3cret@localhost:3000", "names a user")):
        status, _out, err = command("expose", text, *NOBODY)
        assert status == 2 and right in err and "s3cret" not in err, (text, status, err)


if __name__ == "__main__":
    main()
