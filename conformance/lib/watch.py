"""What is checked in every case without being asked for: what a peer may never do, whatever a case is about.

Each breach is a text that begins with the rule's id. A case that breaks rules itself in a way that makes these books wrong
says `watch: false`.
"""

from .wire import codec


class Stream:
    def __init__(self, link, kind, window):
        self.link, self.kind = link, kind
        self.received = self.sent = 0
        self.granted = window        # what the peer may have sent in all
        self.returned = 0            # credit the peer gave back
        self.peer_eof = self.peer_reset = self.we_reset = False


class Books:
    """The accounts of one session, over all of its sockets. `role` is ours."""

    def __init__(self, role):
        self.role = role
        self.streams = {}
        self.stream_window, self.session_window = codec.LIMITS["STREAM_WINDOW"], codec.LIMITS["SESSION_WINDOW"]
        self.received = self.sent = self.returned = 0
        self.granted = None
        self.auto_window = False
        self.last_id = {}
        self.pings = set()
        self.capabilities = ()

    def open_session(self, hello_ok):
        self.stream_window = hello_ok["streamWindow"]
        self.session_window = hello_ok["sessionWindow"]
        self.granted = self.session_window
        self.auto_window = "auto-window" in hello_ok.get("capabilities", ())
        self.capabilities = hello_ok.get("capabilities", ())
        self.streams.clear()
        self.received = self.sent = self.returned = 0

    # ---- what the peer sent ----

    def came(self, link, name, sid, value):
        named = value.get("capabilities", ()) if name in ("HELLO", "HELLO_OK") else self.capabilities
        for what in codec.not_agreed(name, value, named):
            yield f"EXT-1: {what} needs a capability that was not agreed on"
        check = getattr(self, "_" + name.lower(), None)
        if check:
            yield from check(link, sid, value)

    def _stream_open(self, link, sid, value):
        if sid % 2 or sid == 0:
            yield f"STREAM-1: STREAM_OPEN has the odd id {sid}"
        if sid in self.streams or sid <= self.last_id.get(link, 0):
            yield f"STREAM-1: the stream id {sid} was used before"
        self.last_id[link] = max(sid, self.last_id.get(link, 0))
        self.streams[sid] = Stream(link, value["kind"], self.stream_window)
        for name, _ in value.get("headers", ()):
            if name != name.lower():
                yield f"HTTP-2: the header name {name!r} is not in lower case"

    def _data(self, link, sid, value):
        st = self.streams.get(sid)
        self.received += len(value)
        if self.granted is not None and self.received > self.granted:
            yield f"FLOW-1: DATA of {self.received} bytes, the session's credit is {self.granted}"
        if st is None:
            yield f"STREAM-7: DATA for stream {sid}, which was never opened"
            return
        st.received += len(value)
        if st.received > st.granted and not st.we_reset:
            yield f"FLOW-1: DATA of {st.received} bytes on stream {sid}, its credit is {st.granted}"
        if st.peer_eof:
            yield f"STREAM-4: DATA behind EOF on stream {sid}"
        if st.peer_reset:
            yield f"STREAM-5: DATA behind RESET on stream {sid}"
        yield from self._pinned(link, st, sid, "DATA")

    def _eof(self, link, sid, _value):
        st = self.streams.get(sid)
        if st is None:
            yield f"STREAM-7: EOF for stream {sid}, which was never opened"
            return
        if st.peer_eof:
            yield f"STREAM-4: a second EOF on stream {sid}"
        if st.peer_reset:
            yield f"STREAM-5: EOF behind RESET on stream {sid}"
        st.peer_eof = True
        yield from self._pinned(link, st, sid, "EOF")

    def _reset(self, link, sid, _value):
        st = self.streams.get(sid)
        if st is not None:
            if st.peer_reset:
                yield f"STREAM-5: a second RESET on stream {sid}"
            st.peer_reset = True
            yield from self._pinned(link, st, sid, "RESET")

    def _stream_response_head(self, link, sid, _value):
        st = self.streams.get(sid)
        if st is not None:
            yield from self._pinned(link, st, sid, "STREAM_RESPONSE_HEAD")

    def _window(self, link, sid, value):
        n = value["increment"]
        if sid == 0:
            self.returned += n
            if self.returned > self.sent:
                yield f"FLOW-3: {self.returned} bytes of session credit came back, {self.sent} were sent"
            return
        st = self.streams.get(sid)
        if st is None:
            yield f"STREAM-7: WINDOW for stream {sid}, which was never opened"
            return
        st.returned += n
        if st.returned > st.sent and not self.auto_window:
            yield f"FLOW-3: {st.returned} bytes of credit came back on stream {sid}, {st.sent} were sent"
        if st.peer_reset:
            yield f"STREAM-5: WINDOW behind RESET on stream {sid}"

    def _pong(self, _link, _sid, value):
        if value["nonce"] not in self.pings:
            yield f"KEEP-4: PONG with the nonce {value['nonce'].hex()}, which no PING had"

    def _pinned(self, link, st, sid, name):
        if st.link is not link and self.role == "driver":
            yield f"STREAM-3: {name} of stream {sid} on another socket than its STREAM_OPEN"

    # ---- what we sent ----

    def _said_hello_ok(self, payload):
        """Our windows are the driver's to keep; one that a case made illegal on purpose opens no books."""
        try:
            self.open_session(codec.decode("HELLO_OK", payload))
        except codec.WireError:
            pass

    def gone_out(self, link, name, sid, payload):
        st = self.streams.get(sid)
        if name == "HELLO_OK" and self.role == "kit":
            self._said_hello_ok(payload)
        elif name == "STREAM_OPEN" and self.role == "kit":
            self.streams[sid] = Stream(link, None, self.stream_window)
        elif name == "DATA":
            self.sent += len(payload)
            if st:
                st.sent += len(payload)
        elif name == "WINDOW" and len(payload) == 4:
            n = int.from_bytes(payload, "big")
            if sid == 0 and self.granted is not None:
                self.granted += n
            elif st:
                st.granted += n
        elif name == "RESET" and st:
            st.we_reset = True
        elif name == "STREAM_RESPONSE_HEAD" and st and b'"status":101' in payload:
            st.peer_eof = False  # HTTP-3: the EOF behind an upgrade's STREAM_OPEN counts for nothing once it is a raw stream
        elif name == "PING":
            self.pings.add(bytes(payload))
