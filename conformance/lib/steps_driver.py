"""Steps of the driver direction: the suite plays the kit and the local services."""

import asyncio
import socket

from . import tcp, ws
from .run import CaseError, Failure
from .steps_wire import verb
from .target import Process
from .wire import codec


class DriverTarget:
    """A driver that a case starts, with `start`."""

    def __init__(self, adapter):
        self.adapter, self.process = adapter, None

    @property
    def alive(self):
        return self.process is not None and self.process.status is None

    def tail(self):
        return self.process.tail() if self.process else []

    async def end(self):
        if self.process:
            await self.process.end()


class Listener:
    """A listening socket of the suite whose connections wait in a queue: the scripted kit, or a local service."""

    def __init__(self, run, name, host="127.0.0.1", port=0):
        self.run, self.name = run, name
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.bind((host, port))
        self.sock.listen(64)
        self.sock.setblocking(False)
        self.port = self.sock.getsockname()[1]
        self.waiting = []
        self.task = run.spawn(self._accept())

    async def _accept(self):
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(self.sock)
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.run.note(self.name, "<<", "a connection")
            self.waiting.append(sock)
            self.run.wake()

    async def next(self, timeout=None):
        got = await self.run.until(lambda: self.waiting, timeout)
        if not got:
            raise Failure(f"{self.name}: nobody connects", "a connection", "none")
        return self.waiting.pop(0)

    async def finish(self):
        tcp.end_socket(self.sock, self.task)
        for sock in self.waiting:
            sock.close()


async def prepare(run):
    """The scripted kit listens before anything else; its URL is $url."""
    run.kit = Listener(run, "kit")
    run.extras.append(run.kit)
    run.scope.set("kit", {"host": "127.0.0.1", "port": run.kit.port})
    run.scope.set("url", f"ws://127.0.0.1:{run.kit.port}")


@verb("driver", "targets", "options", "args")
async def _driver(run, command, targets=(), options=None, args=()):
    """Starts the driver: expose or pull, with targets as the adapter writes them ({container} and {port} of each), and abstract
    settings."""
    adapter = run.target.adapter
    how = (adapter.doc.get("start") or {}).get(command)
    if how is None:
        raise CaseError(f"the adapter cannot {command}")
    more = {"url": run.scope.get("url"), "version": run.case.version}
    words = adapter.words(how, more)
    for target in targets:
        words += adapter.words(adapter.doc["target"], {"container": target.get("container", 0), "port": target["port"],
                                                       "host": target.get("host", "127.0.0.1")})
    extra, env = adapter.settings({**(run.case.options or {}), **(options or {})})
    run.target.process = Process(words + extra + list(args), {**(adapter.doc.get("env") or {}), **env})
    await run.target.process.start()


@verb("accept", "offered", "choose", "status", "raw", "headers", "timeout")
async def _accept(run, name, offered=None, choose=None, status=101, raw=None, headers=(), timeout=None):
    """The driver's next connection to the scripted kit, upgraded. Leaves $<name>.request: its head."""
    name = name or "s"
    sock = await run.kit.next(timeout)
    head = await ws.read_head(sock, run.patience)
    if head is None:
        sock.close()
        raise Failure(f"{name}: no upgrade came", "an HTTP upgrade", "the connection ended")
    line, fields, rest = head
    run.note(name, "<<", line)
    fields = dict(fields)
    run.scope.set(name, {"request": {"line": line, "headers": fields}})
    offers = [o.strip() for o in fields.get("sec-websocket-protocol", "").split(",") if o.strip()]
    if offered is not None and offers != offered:
        raise Failure(f"{name}: other subprotocols are offered", str(offered), str(offers))
    choose = choose or run.scope.get("subprotocol")
    lines = [f"HTTP/1.1 {status} Answer"]
    if status == 101:
        lines += ["Upgrade: websocket", "Connection: Upgrade",
                  f"Sec-WebSocket-Accept: {ws.accept_key(fields.get('sec-websocket-key', ''))}",
                  f"Sec-WebSocket-Protocol: {choose}"]
    else:
        lines += ["Content-Length: 0", "Connection: close"]
    data = raw if raw is not None else "\r\n".join(lines + [f"{n}: {v}" for n, v in headers]) + "\r\n\r\n"
    await asyncio.get_running_loop().sock_sendall(sock, data.encode("latin-1") if isinstance(data, str) else data)
    run.note(name, ">>", f"answers {status}")
    if status != 101:
        sock.close()
        return
    version = next((v for v, text in codec.SUBPROTOCOLS.items() if text == choose), run.case.version)
    run.adopt(name, sock, "kit", rest, version)


@verb("service", "host")
async def _service(run, name, host="127.0.0.1"):
    """A local service listens; $<name>.port is where."""
    listener = Listener(run, name, host)
    run.extras.append(listener)
    run.services = {**getattr(run, "services", {}), name: listener}
    run.scope.set(name, {"port": listener.port})


@verb("service_accept", "of", "timeout")
async def _service_accept(run, name, of="web", timeout=None):
    """The driver's next connection to a local service, from here on a plain connection `name` (see `visitor`)."""
    sock = await run.services[of].next(timeout)
    run.tcps[name] = tcp.Tcp(run, name, sock)
