"""Lines of the edge's log without HAProxy, for tests."""

import os
import socket
import time


def feed(folder, count, size=200, first=0):
    """Lines at the socket where HAProxy's come."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(os.path.join(folder, "run", "log.sock"))
        piece = []
        for i in range(first, first + count):
            line = b'{"time":"%d","client":"203.0.113.9","host":"a.example","method":"GET","url":"/%d?%s","status":"200","bytesIn":"1","bytesOut":"2","address":"192.0.2.1"}' % (
                time.time() * 1000, i, b"x" * size)
            piece.append(b"%d %s" % (len(line), line))
            if len(piece) == 500:
                s.sendall(b"".join(piece))
                piece = []
        s.sendall(b"".join(piece))
