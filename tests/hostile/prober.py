"""Asks a kit's /health over and over until its standard input ends; prints how often, the 99th percentile in seconds, and how
late the prober itself was woken at the 99th percentile."""

import http.client
import select
import sys
import time

PAUSE = 0.01


def main():
    took, late = [], [0.0]
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=30)
    print("ready", flush=True)
    while True:
        start = time.monotonic()
        try:
            connection.request("GET", "/api/v1/tunnel/health")
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200
        except (http.client.HTTPException, OSError):
            connection.close()  # an idle connection may have been closed to make room: once more
            connection.request("GET", "/api/v1/tunnel/health")
            connection.getresponse().read()
        end = time.monotonic()
        took.append(end - start)
        if select.select([sys.stdin], [], [], PAUSE)[0]:
            break
        late.append(max(0.0, time.monotonic() - end - PAUSE))
    took.sort()
    late.sort()
    print(len(took), took[len(took) * 99 // 100], late[len(late) * 99 // 100])


if __name__ == "__main__":
    main()
