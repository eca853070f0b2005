"""Requests by HTTP/3, with aioquic (`make h3-client`): run by another Python than the tests', so this file needs nothing of theirs.

    python3 h3_client.py SERVER PORT HOST FROM REQUESTS

FROM is the address to come from. REQUESTS is JSON: [[method, path, [[name, value], ...], body], ...], all in one connection. Prints JSON, for each
{"status", "fields", "body"}, or {"error"}. /tmp/ca.pem is trusted.
"""

import asyncio
import json
import ssl
import sys


async def ask(server, port, host, own, requests):
    from aioquic.asyncio.protocol import QuicConnectionProtocol  # pylint: disable=import-outside-toplevel
    from aioquic.h3.connection import H3Connection  # pylint: disable=import-outside-toplevel
    from aioquic.h3.events import DataReceived, HeadersReceived  # pylint: disable=import-outside-toplevel
    from aioquic.quic.configuration import QuicConfiguration  # pylint: disable=import-outside-toplevel
    from aioquic.quic.connection import QuicConnection  # pylint: disable=import-outside-toplevel
    from aioquic.quic.events import ConnectionTerminated  # pylint: disable=import-outside-toplevel

    class Client(QuicConnectionProtocol):
        def __init__(self, *args, **more):
            super().__init__(*args, **more)
            self.h3, self.waits, self.closed = H3Connection(self._quic), {}, None

        def quic_event_received(self, event):
            if isinstance(event, ConnectionTerminated):
                self.closed = event.reason_phrase or f"error {event.error_code:#x}"
                for queue in self.waits.values():
                    queue.put_nowait(None)
            for got in self.h3.handle_event(event):
                if isinstance(got, (HeadersReceived, DataReceived)) and got.stream_id in self.waits:
                    self.waits[got.stream_id].put_nowait(got)

        async def request(self, method, path, fields, body):
            stream = self._quic.get_next_available_stream_id()
            self.waits[stream] = queue = asyncio.Queue()
            head = [(":method", method), (":scheme", "https"), (":authority", host), (":path", path), *fields]
            self.h3.send_headers(stream, [(k.encode(), v.encode()) for k, v in head], end_stream=not body)
            if body:
                self.h3.send_data(stream, body.encode(), True)
            self.transmit()
            answer = {"status": 0, "fields": [], "body": b""}
            while True:
                got = await asyncio.wait_for(queue.get(), 20)
                if got is None:
                    return {"error": self.closed}
                if isinstance(got, HeadersReceived):
                    fields = [(k.decode(), v.decode()) for k, v in got.headers]
                    answer["status"], answer["fields"] = int(dict(fields)[":status"]), fields
                else:
                    answer["body"] += got.data
                if got.stream_ended:
                    return {**answer, "body": answer["body"].decode(errors="replace")}

    setup = QuicConfiguration(is_client=True, alpn_protocols=["h3"], server_name=host, verify_mode=ssl.CERT_REQUIRED)
    setup.load_verify_locations("/tmp/ca.pem")
    loop = asyncio.get_running_loop()
    transport, client = await loop.create_datagram_endpoint(lambda: Client(QuicConnection(configuration=setup)), local_addr=(own, 0))
    client.connect((server, port) if ":" not in server else (server, port, 0, 0))
    await asyncio.wait_for(client.wait_connected(), 20)
    answers = await asyncio.gather(*(client.request(*r) for r in requests))
    client.close()
    await client.wait_closed()
    transport.close()
    return answers


if __name__ == "__main__":
    try:
        print(json.dumps(asyncio.run(ask(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4], json.loads(sys.argv[5])))))
    except (OSError, asyncio.TimeoutError) as e:
        print(json.dumps([{"error": f"{type(e).__name__} {e}"}]))
