"""edge containers, edge services, edge state: what they print, change and end with."""

import json

from tests.integration.edges import Edge
from tests.integration.harness import command
from tests.support.tap import case, main

P, C = "67e89abc123def456789abcd", "890abcdef12345678901cdef"


def at(e):
    def ask(*words):
        return command("edge", *words, "--folder", e.folder)
    return ask


@case("containers, their services and the switches are shown and changed; --json is the data, and --if-match is kept to")
def _():
    with Edge() as e:
        ask = at(e)
        status, out, _err = ask("containers", "set", C, "192.0.2.7", "--project", P)
        assert status == 0 and out.split()[-6:] == [C, P, "192.0.2.7", "on", "api", "v1"], out
        assert ask("containers", "set", C, "192.0.2.8")[0] == 0
        assert ask("containers", "set", C, "192.0.2.8", "--project", P, "--if-match", "file:v1")[0] == 1
        status, out, _err = ask("containers", "--json")
        assert json.loads(out) == {"containers": [{"id": C, "project_id": P, "ip": "192.0.2.8", "enable_proxy": True, "source": "api", "file_version": 2}]}, out
        assert ask("services", C, "set", "web-app", "3000")[0] == 0
        status, out, _err = ask("services", C)
        rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
        assert status == 0 and rows["web-app"] == ["3000", "on", "yes"] and rows["terminal"] == ["76", "on", "no"] and rows["http"] == ["any", "on", "no"], rows
        assert ask("services", C, "remove", "web-app")[0] == 0
        assert ask("state", "--container", C) == (0, "on\n", "")
        assert ask("state", "off", "--container", C, "--service", "terminal")[:2] == (0, "off\n")
        assert ask("state", "--container", C, "--service", "terminal")[:2] == (0, "off\n")
        assert ask("state", "off", "--container", C)[:2] == (0, "off\n")
        assert json.loads(ask("state", "--container", C, "--json")[1]) == {"enable_proxy": False, "file_version": 6}
        assert ask("state", "off", "--project", P)[:2] == (0, "off\n")
        status, _out, said = ask("state", "on", "--container", C, "--if-match", "file:v5")
        assert status == 1 and "file:v6 by now" in said, said
        assert ask("state", "on", "--container", C, "--if-match", "file:v6")[0] == 0
        status, out, _err = ask("containers", "remove", C)
        assert status == 0 and "is forgotten" in out
        assert json.loads(ask("containers", "--json")[1]) == {"containers": []}


@case("mistakes are said: other words, ids that are none, what the API refuses, an edge that is not there")
def _():
    with Edge() as e:
        ask = at(e)
        for words in (("containers", "add"), ("containers", "set", C), ("containers", "set", "x", "192.0.2.7"), ("containers", "set", C, "192.0.2.7\r\n"),
                      ("containers", "remove", "../../x"), ("services", C, "set", "web"), ("services", C, "set", "we b", "80"), ("services", "x"),
                      ("services", C, "set", "web", "80,\"a\":1"), ("state", "on"), ("state", "maybe", "--project", P),
                      ("state", "off", "--project", P, "--container", C), ("state", "off", "--project", P, "--service", "web"), ("state", "off", "--project", P, "--if-match", "file:v1\r\nx: y")):
            status, _out, said = ask(*words)
            assert status == 2 and said, (words, status, said)
        for words, text in ((("containers", "set", C, "192.0.2.7"), "there is no container"), (("containers", "set", C, "127.0.0.1", "--project", P), "no address that"),
                            (("services", C), "there is no container"), (("state", "off", "--container", C), "there is no container")):
            status, _out, said = ask(*words)
            assert status == 1 and text in said, (words, status, said)
    status, _out, said = command("edge", "containers", "--folder", e.folder)
    assert status not in (0, 1, 2) and "no edge answers" in said, (status, said)


if __name__ == "__main__":
    main()
