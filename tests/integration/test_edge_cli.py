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


@case("hooks are listed in their order, added, replaced, moved and taken away; what is no hook is said")
def _():
    with Edge() as e:
        ask = at(e)
        file, other, bad = (f"{e.folder}/{name}.json" for name in ("hook", "other", "bad"))
        one = {"match": {"path": {"prefix": "/v1"}}, "actions": [{"path": {"prefix": "/v1", "to": "/v2"}}]}
        for name, doc in ((file, one), (other, {"id": "second", "actions": [{"del": "x-a"}], "timeout": 500}), (bad, {"actions": [{"set": {"host": "x"}}]})):
            with open(name, "w", encoding="utf-8") as f:
                json.dump(doc, f)

        def hooks(*words):
            return ask("hooks", "--container", C, *words)

        def rows(*words):
            status, out, said = hooks(*words)
            assert status == 0, said
            return [line.split()[:3] for line in out.splitlines()[2:]]

        assert hooks() == (0, "file:v0\n", "")
        assert rows("set", "http", "old-api", file) == [["http", "0", "old-api"]]
        assert rows("add", "http", other) == [["http", "1", "second"]]
        assert rows("add", "*", file) == [["*", "0", "hook-1"]]
        assert rows("list") == [["http", "0", "old-api"], ["http", "1", "second"], ["*", "0", "hook-1"]]
        assert rows("move", "http", "second", "0") == [["http", "0", "second"]]
        assert rows("list", "http") == [["http", "0", "second"], ["http", "1", "old-api"]]
        whole = json.loads(hooks("--json")[1])
        assert whole["file_version"] == 4 and whole["hooks"]["http"][1] == {"id": "old-api", **one}, whole
        got = json.loads(hooks("get", "http", "second", "--json")[1])
        assert (got["position"], got["timeout"], got["actions"]) == (0, 500, [{"del": "x-a"}]), got
        status, _out, said = hooks("set", "http", "x", bad)
        assert status == 1 and "http.2.actions.0.set.host" in said and "is the edge's alone" in said, said
        status, _out, said = hooks("get", "http", "none")
        assert status == 1 and "there is no such hook" in said, said
        assert hooks("delete", "http", "second", "--if-match", "file:v1")[0] == 1
        assert rows("delete", "http", "second") == [["http", "0", "old-api"]]
        assert rows("delete", "http") == []
        with open(other, "w", encoding="utf-8") as f:
            json.dump(whole, f)
        assert rows("replace", other) == [["http", "0", "second"], ["http", "1", "old-api"], ["*", "0", "hook-1"]]
        for words in (("dance",), ("set", "http", "A", file), ("set", "ht tp", "a", file), ("get", "http", "../x"), ("move", "http", "second", "-1"), ("add", "http"), ("delete",)):
            status, _out, said = hooks(*words)
            assert status == 2 and said, (words, status, said)
        assert ask("hooks")[0] == 2 and ask("hooks", "--container", "x")[0] == 2


if __name__ == "__main__":
    main()
