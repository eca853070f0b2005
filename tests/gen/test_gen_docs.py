"""Shell completions and manual pages: what the shells really complete, and that the pages are clean."""

import glob
import os
import pty
import re
import select
import shutil
import subprocess
import tempfile
import time

import yaml

from gen import options
from tests.gen.scratch import ROOT
from tests.support.tap import Skip, case, main

GEN = os.path.join(ROOT, os.environ.get("W", "build"), "gen")
MODEL = options.load(os.path.join(ROOT, "spec"))
COMMANDS = [c.name for c in MODEL["commands"]]


def need(program):
    if not shutil.which(program):
        raise Skip(f"{program} is not installed")
    return program


def bash(line, folder="/"):
    """What bash offers at the end of the line."""
    script = r'''
source "$1"; COMP_LINE=$2; COMP_POINT=${#2}; COMP_TYPE=9; COMP_KEY=9
eval "$(complete -p hoody-tunnel | sed 's/.*-F \([^ ]*\) .*/function=\1/')"
# As readline cuts words: at blanks and around "=" (COMP_WORDBREAKS).
read -ra COMP_WORDS <<< "${COMP_LINE//=/ = }"; [[ $COMP_LINE == *[[:space:]] ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); compopt() { :; }
"$function" hoody-tunnel "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\n' "${COMPREPLY[@]}"
'''
    done = subprocess.run(["bash", "--norc", "-c", script, "bash", f"{GEN}/completion.bash", line], capture_output=True, text=True,
                          timeout=30, check=False, cwd=folder)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return set(done.stdout.split())


def fish(line):
    done = subprocess.run([need("fish"), "--no-config", "-c", f"source {GEN}/completion.fish; complete -C '{line}'"],
                          capture_output=True, text=True, timeout=30, check=False,
                          env={**os.environ, "HOME": "/nonexistent", "XDG_CONFIG_HOME": "/nonexistent"})
    assert done.returncode == 0, done.stderr
    return {row.split("\t")[0] for row in done.stdout.splitlines()}


class Screen:
    """What a terminal has shown, with what was rubbed out left out."""

    def __init__(self, fd):
        self.fd, self.seen = fd, b""

    def until(self, pattern):
        deadline = time.monotonic() + 20
        while not re.search(pattern, self.seen):
            assert time.monotonic() < deadline, (pattern, self.seen)
            if select.select([self.fd], [], [], 0.2)[0]:
                self.seen += os.read(self.fd, 4096)
                while re.search(rb"[^\x08]\x08", self.seen):
                    self.seen = re.sub(rb"[^\x08]\x08", b"", self.seen)


def shown(command):
    """Each way to write an option that --help tells about."""
    found = {"--help"}
    for o in next(c for c in MODEL["commands"] if c.name == command).options:
        if not o.hidden and o.type != "secret":
            found.add(f"--{o.name}")
            if o.type == "bool":
                found.add(f"--no-{o.name}")
    return found


@case("bash: commands, their second words, help")
def _():
    first = {name.split()[0] for name in COMMANDS}
    assert bash("hoody-tunnel ") == first | {"help", "--help", "--version"}
    assert bash("hoody-tunnel se") == {"serve", "sessions"}
    assert bash("hoody-tunnel sessions ") == {n.split()[1] for n in COMMANDS if n.startswith("sessions ")}
    assert bash("hoody-tunnel help bin") == {"bindings"}
    assert bash("hoody-tunnel help bindings ") == {"list"}
    assert bash("hoody-tunnel nonsense --") == set()


@case("bash, fish: a target in the place of a command has the options of the command that is meant")
def _():
    for shell in (bash, fish):
        assert shell("hoody-tunnel 3000 ") == {"http", "tcp"}, shell("hoody-tunnel 3000 ")
        assert shell("hoody-tunnel 3000 t") == {"tcp"}
        for line, command in (("3000 --", "expose"), ("8080=3000 --", "expose"), ("5432 tcp --", "pull"), ("localhost:3000 http --", "expose")):
            got = {word for word in shell(f"hoody-tunnel {line}") if word.startswith("--")}
            assert got >= shown(command) and ("--pull-host" in got) == (command == "pull"), (line, got ^ shown(command))


@case("bash: every option of every command, and no secret")
def _():
    for command in COMMANDS:
        got = {word for word in bash(f"hoody-tunnel {command} -") if word.startswith("--")}
        assert got == shown(command), (command, got ^ shown(command))
        assert "--token" not in got


@case("bash: values of enumerations and files, with a blank and with =")
def _():
    assert bash("hoody-tunnel expose 3000 --color ") == {"auto", "always", "never"}
    assert bash("hoody-tunnel expose --color=al") == {"always"}
    assert bash("hoody-tunnel expose --color=") == {"auto", "always", "never"}
    assert bash("hoody-tunnel expose --label ") == set()
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "token.txt"), "w", encoding="ascii"):
            pass
        assert bash("hoody-tunnel expose --token-file tok", folder) == {"token.txt"}
        assert bash("hoody-tunnel expose --token-file=tok", folder) == {"token.txt"}


@case("bash: a real line editor completes a real line")
def _():
    pid, fd = pty.fork()
    if pid == 0:
        os.environ.update(TERM="dumb", PS1="$ ", HISTFILE="/dev/null")
        os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
    until = Screen(fd).until
    try:
        os.write(fd, f"source {GEN}/completion.bash; echo rea'dy'\n".encode())
        until(rb"\nready")
        os.write(fd, b"echo hoody-tunnel; hoody-tunnel sess\tki\t--gr\t7 --jso\t")
        until(rb"hoody-tunnel sessions kill --grace-ms 7 --json ")
    finally:
        os.write(fd, b"\x03exit\n")
        os.close(fd)
        os.waitpid(pid, 0)


@case("fish: commands, options, values")
def _():
    assert fish("hoody-tunnel ser") == {"serve"}
    assert fish("hoody-tunnel sessions ") == {"list", "kill"}
    for command in COMMANDS:
        assert fish(f"hoody-tunnel {command} --") >= shown(command), command
    assert fish("hoody-tunnel expose --color ") == {"auto", "always", "never"}
    assert "--listen" not in fish("hoody-tunnel expose --")


@case("zsh: commands, options, values, in a real line editor")
def _():
    pid, fd = pty.fork()
    if pid == 0:
        try:
            os.environ.update(TERM="dumb", HOME="/nonexistent", ZDOTDIR="/nonexistent", PS1="$ ")
            os.execvp(need("zsh"), ["zsh", "-f", "-i"])
        finally:
            os._exit(1)
    until = Screen(fd).until
    try:
        os.write(fd, f"PS1='$ '; autoload -U compinit; compinit -u -D; source {GEN}/completion.zsh; echo rea'dy'\n".encode())
        until(rb"\nready")
        os.write(fd, b": hoody-tunnel\x15hoody-tunnel sess\tki\tx --gr\t7 --jso\t")
        until(rb"hoody-tunnel sessions kill x --grace-ms=7 --json ")
        os.write(fd, b"\x15hoody-tunnel 5432 tc\t--pull-h\t")
        until(rb"hoody-tunnel 5432 tcp --pull-host=")
        os.write(fd, b"\x15hoody-tunnel expose --color=alw\t")
        until(rb"--color=always")
        os.write(fd, b"\x15hoody-tunnel help bin\tli\t")
        until(rb"help bindings list")
    finally:
        os.write(fd, b"\x15exit\n")
        os.close(fd)
        os.waitpid(pid, 0)


@case("every command has its manual page, and every page is clean")
def _():
    pages = sorted(glob.glob(f"{GEN}/man/*.[15]"))
    want = ["hoody-tunnel.1"] + [f"hoody-tunnel-{name.replace(' ', '-')}.1" for name in COMMANDS]
    want += ["hoody-tunnel.yaml.5", "hoody-tunnel-users.yaml.5"]
    assert sorted(os.path.basename(p) for p in pages) == sorted(want)
    for tool in (["groff", "-man", "-ww", "-Tutf8", "-z"], ["mandoc", "-Tlint", "-Wwarning"]):
        done = subprocess.run([need(tool[0]), *tool[1:], *pages], capture_output=True, text=True, timeout=60, check=False)
        assert not done.stdout and not done.stderr and done.returncode == 0, (tool, done.stdout, done.stderr)


@case("a page says what --help says: options, defaults, variables, exit codes, examples")
def _():
    for command in MODEL["commands"]:
        path = f"{GEN}/man/hoody-tunnel-{command.name.replace(' ', '-')}.1"
        text = subprocess.run(["groff", "-man", "-Tascii", "-P-cbou", "-rLL=2000n", path], capture_output=True, text=True, timeout=60,
                              check=True).stdout
        plain = " ".join(text.split())
        for o in command.options:
            if o.hidden:
                assert f"--{o.name}" not in plain, (command.name, o.name)
            elif o.type != "secret":
                assert f"--{o.name}" in plain and " ".join(o.doc.split()) in plain, (command.name, o.name, plain)
            if o.env and not o.hidden:
                assert o.env in plain, (command.name, o.env)
        for example in command.examples:
            assert example["run"] in plain, (command.name, example["run"])
        for e in command.exit_codes:
            assert f"{e['code']} {e['doc']}" in plain, (command.name, e)


@case("the page of the configuration file names every key, and its example is one")
def _():
    config = MODEL["config"]
    text = subprocess.run(["groff", "-man", "-Tascii", "-P-cbou", "-rLL=2000n", f"{GEN}/man/{config['file']}.5"], capture_output=True,
                          text=True, timeout=60, check=True).stdout
    plain = " ".join(text.split())
    for mapping in config["mappings"]:
        for key in mapping.keys:
            assert f"{key.name}:" in plain and " ".join(key.doc.split()) in plain, (mapping.name, key.name)
    assert " ".join(config["example"].split()) in plain
    assert set(yaml.safe_load(config["example"])) <= {key.name for key in config["mappings"][0].keys}


@case("make install puts program, pages and completions where they are looked for; the shells and man find them there")
def _():
    with tempfile.TemporaryDirectory() as root:
        clean = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
        done = subprocess.run(["make", "--no-print-directory", "-C", ROOT, "install", f"DESTDIR={root}", "PREFIX=/usr",
                               "W=" + os.environ.get("W", "build")], capture_output=True, text=True, timeout=200, check=False, env=clean)
        assert done.returncode == 0, done.stdout + done.stderr
        share = f"{root}/usr/share"
        for path in ("bash-completion/completions/hoody-tunnel", "zsh/site-functions/_hoody-tunnel",
                     "fish/vendor_completions.d/hoody-tunnel.fish", "man/man5/hoody-tunnel.yaml.5", "man/man1/hoody-tunnel-up.1"):
            assert os.path.isfile(f"{share}/{path}"), path
        assert os.access(f"{root}/usr/bin/hoody-tunnel", os.X_OK)
        # Autoloaded by its name, as an installed one is.
        done = subprocess.run([need("zsh"), "-f", "-c", f"fpath=({share}/zsh/site-functions $fpath); autoload -U compinit; "
                               "compinit -u -D; print $_comps[hoody-tunnel]"], capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout.strip() == "_hoody-tunnel", (done.stdout, done.stderr)


if __name__ == "__main__":
    main()
