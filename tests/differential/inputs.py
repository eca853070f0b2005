"""What the differential test says to each proxy: requests as a visitor sends them, and answers as a service gives them.

REQUESTS: id -> bytes. A canary request is sent behind each of them: where the borders of messages are in doubt, it shows.
ANSWERS: id -> (bytes, method). The service sends the bytes and closes.
"""

REQUESTS = {}
ANSWERS = {}


def _many(into, prefix, items):
    for name, value in items:
        key = f"{prefix}-{name}"
        assert key not in into, key
        into[key] = value


def line(text):
    return text + b"\r\nHost: a\r\n\r\n"


def field(text, method=b"GET", rest=b""):
    return method + b" / HTTP/1.1\r\nHost: a\r\n" + text + b"\r\n\r\n" + rest


def post(text, body=b""):
    return field(text, b"POST", body)


def host(value):
    return b"GET / HTTP/1.1\r\nHost: " + value + b"\r\n\r\n"


def absolute(target, value=b"a", method=b"GET"):
    return method + b" " + target + b" HTTP/1.1\r\nHost: " + value + b"\r\n\r\n"


def chunked(body):
    return post(b"Transfer-Encoding: chunked", body)


_many(REQUESTS, "good", [
    ("get", line(b"GET / HTTP/1.1")),
    ("query", line(b"GET /a/../b;c=%41?q=1&r=%zz HTTP/1.1")),
    ("double-slash", line(b"GET //a//b HTTP/1.1")),
    ("strange-target", line(b"GET /\"<>\\^`{|}[]@: HTTP/1.1")),
    ("head", line(b"HEAD / HTTP/1.1")),
    ("delete", line(b"DELETE /x HTTP/1.1")),
    ("options-star", line(b"OPTIONS * HTTP/1.1")),
    ("options-path", line(b"OPTIONS /x HTTP/1.1")),
    ("unknown-method", line(b"BREW /pot HTTP/1.1")),
    ("token-method", line(b"M-SEARCH! / HTTP/1.1")),
    ("lower-method", line(b"get / HTTP/1.1")),
    ("trace", line(b"TRACE / HTTP/1.1")),
    ("crlf-before", b"\r\n" + line(b"GET / HTTP/1.1")),
    ("post", post(b"Content-Length: 5", b"hello")),
    ("put", field(b"Content-Length: 3", b"PUT", b"abc")),
    ("post-empty", post(b"Content-Length: 0")),
    ("post-no-length", post(b"X: y")),
    ("get-body", field(b"Content-Length: 3", rest=b"abc")),
    ("length-zeros", post(b"Content-Length: 0000000005", b"hello")),
    ("chunked", chunked(b"5\r\nhello\r\n0\r\n\r\n")),
    ("http10", b"GET / HTTP/1.0\r\n\r\n"),
    ("http10-host", b"GET / HTTP/1.0\r\nHost: b\r\n\r\n"),
    ("http10-keep", b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
    ("http10-post", b"POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc"),
    ("obs-text", field(b"X: \xe4\xff")),
    ("empty-value", field(b"X:")),
    ("tabs", field(b"X:\t a \t b \t")),
    ("repeated", field(b"X: 1\r\nY: 2\r\nx: 3")),
    ("underscore", field(b"X_Y: 1")),
    ("token-name", field(b"!#$%&'*+-.^_`|~9: 1")),
    ("cookie", field(b"Cookie: a=1; b=\"2\"\r\nCookie: c=3")),
])

_many(REQUESTS, "line", [
    ("no-version", b"GET /\r\n"),
    ("two-words", line(b"GET /")),
    ("four-words", line(b"GET / x HTTP/1.1")),
    ("space-first", line(b" GET / HTTP/1.1")),
    ("two-spaces", line(b"GET  / HTTP/1.1")),
    ("two-spaces-2", line(b"GET /  HTTP/1.1")),
    ("tab", line(b"GET\t/ HTTP/1.1")),
    ("trailing-space", line(b"GET / HTTP/1.1 ")),
    ("bare-lf", b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
    ("all-bare-lf", b"GET / HTTP/1.1\nHost: a\n\n"),
    ("bare-cr", b"GET / HTTP/1.1\rHost: a\r\n\r\n"),
    ("double-cr", b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n"),
    ("lf-before", b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("many-crlf-before", b"\r\n" * 200 + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("two-crlf-before", b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("bad-method-paren", line(b"G(T / HTTP/1.1")),
    ("bad-method-at", line(b"G@T / HTTP/1.1")),
    ("bad-method-utf8", line(b"G\xc3\x9cT / HTTP/1.1")),
    ("nul-method", line(b"G\0T / HTTP/1.1")),
    ("tls", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
    ("version-09", line(b"GET / HTTP/0.9")),
    ("version-12", line(b"GET / HTTP/1.2")),
    ("version-19", line(b"GET / HTTP/1.9")),
    ("version-20", line(b"GET / HTTP/2.0")),
    ("version-2", line(b"GET / HTTP/2")),
    ("version-110", line(b"GET / HTTP/1.10")),
    ("version-011", line(b"GET / HTTP/01.1")),
    ("version-lower", line(b"GET / http/1.1")),
    ("version-rtsp", line(b"GET / RTSP/1.0")),
    ("version-word", line(b"GET / HTTP/x.y")),
    ("preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
])

_many(REQUESTS, "target", [
    ("fragment", line(b"GET /a#b HTTP/1.1")),
    ("only-fragment", line(b"GET # HTTP/1.1")),
    ("star-m-search", b"M-SEARCH * HTTP/1.1\r\nHost: 239.255.255.250:1900\r\n\r\n"),
    ("star-get", line(b"GET * HTTP/1.1")),
    ("star-more", line(b"OPTIONS *x HTTP/1.1")),
    ("relative", line(b"GET a HTTP/1.1")),
    ("query-only", line(b"GET ?q HTTP/1.1")),
    ("nul", line(b"GET /a\0b HTTP/1.1")),
    ("del", line(b"GET /a\x7fb HTTP/1.1")),
    ("control", line(b"GET /a\x01b HTTP/1.1")),
    ("high", line(b"GET /\xc3\xa4 HTTP/1.1")),
    ("percent-nul", line(b"GET /a%00b HTTP/1.1")),
    ("above-root", line(b"GET /../x HTTP/1.1")),
    ("connect", line(b"CONNECT a:80 HTTP/1.1")),
    ("connect-path", line(b"CONNECT / HTTP/1.1")),
    ("authority-get", line(b"GET a:80 HTTP/1.1")),
    ("absolute", absolute(b"http://a/b?c")),
    ("absolute-empty", absolute(b"http://a")),
    ("absolute-query", absolute(b"http://a?q")),
    ("absolute-options", absolute(b"http://a", method=b"OPTIONS")),
    ("absolute-https", absolute(b"https://a/")),
    ("absolute-case", absolute(b"HTTP://A/x")),
    ("absolute-port", absolute(b"http://a:80/x")),
    ("absolute-mismatch", absolute(b"http://b/x")),
    ("absolute-mismatch-port", absolute(b"http://a:81/x")),
    ("absolute-userinfo", absolute(b"http://u:p@a/x")),
    ("absolute-userinfo-host", absolute(b"http://b@a/x")),
    ("absolute-no-host", b"GET http://a/x HTTP/1.1\r\n\r\n"),
    ("absolute-http10", b"GET http://a/x HTTP/1.0\r\n\r\n"),
    ("absolute-nothing", absolute(b"http://")),
    ("absolute-ftp", absolute(b"ftp://a/x")),
    ("absolute-one-slash", absolute(b"http:/a/x")),
    ("long", line(b"GET /" + b"a" * 20000 + b" HTTP/1.1")),
])

_many(REQUESTS, "host", [
    ("none", b"GET / HTTP/1.1\r\nX: y\r\n\r\n"),
    ("twice", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    ("twice-same", b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    ("twice-http10", b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
    ("empty", host(b"")),
    ("list", host(b"a, b")),
    ("space", host(b"a b")),
    ("slash", host(b"a/b")),
    ("userinfo", host(b"u@a")),
    ("question", host(b"a?b")),
    ("hash", host(b"a#b")),
    ("backslash", host(b"a\\b")),
    ("quote", host(b"\"a\"")),
    ("angle", host(b"<a>")),
    ("high", host(b"\xc3\xa4")),
    ("port", host(b"a:8080")),
    ("port-empty", host(b"a:")),
    ("port-word", host(b"a:b")),
    ("port-huge", host(b"a:65536")),
    ("port-sign", host(b"a:+80")),
    ("port-twice", host(b"a:80:80")),
    ("port-only", host(b":80")),
    ("v6", host(b"[::1]:80")),
    ("v6-open", host(b"[::1")),
    ("v6-empty", host(b"[]")),
    ("v6-rest", host(b"[::1]x")),
    ("percent", host(b"a%41")),
    ("percent-bad", host(b"a%4")),
    ("underscore", host(b"a_b")),
    ("space-colon", b"GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
])

_many(REQUESTS, "field", [
    ("no-colon", field(b"X")),
    ("no-name", field(b": x")),
    ("space-colon", field(b"X : y")),
    ("tab-colon", field(b"X\t: y")),
    ("space-in-name", field(b"X Y: z")),
    ("fold-space", field(b"X: y\r\n z")),
    ("fold-tab", field(b"X: y\r\n\tz")),
    ("fold-first", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    ("bare-lf", field(b"X: y\nZ: w")),
    ("bare-cr", field(b"X: y\rZ: w")),
    ("cr-in-value", field(b"X: y\r\rz")),
    ("nul-value", field(b"X: a\0b")),
    ("nul-name", field(b"X\0Y: a")),
    ("control-value", field(b"X: a\x01b")),
    ("del-value", field(b"X: a\x7fb")),
    ("escape-value", field(b"X: \x1b[31m")),
    ("paren-name", field(b"X(Y: a")),
    ("at-name", field(b"X@Y: a")),
    ("high-name", field(b"X\xe4: a")),
    ("quote-name", field(b"\"X\": a")),
    ("lf-end", b"GET / HTTP/1.1\r\nHost: a\r\n\n"),
    ("many", field(b"\r\n".join(b"X%d: y" % i for i in range(150)))),
    ("large", field(b"X: " + b"a" * 60000)),
])

_many(REQUESTS, "framing", [
    ("cl-te", post(b"Content-Length: 5\r\nTransfer-Encoding: chunked", b"0\r\n\r\n")),
    ("te-cl", post(b"Transfer-Encoding: chunked\r\nContent-Length: 5", b"0\r\n\r\n")),
    ("cl-twice", post(b"Content-Length: 5\r\nContent-Length: 5", b"hello")),
    ("cl-two", post(b"Content-Length: 5\r\nContent-Length: 6", b"hello!")),
    ("cl-list", post(b"Content-Length: 5, 5", b"hello")),
    ("cl-list-two", post(b"Content-Length: 5, 6", b"hello!")),
    ("cl-empty", post(b"Content-Length:")),
    ("cl-plus", post(b"Content-Length: +5", b"hello")),
    ("cl-minus", post(b"Content-Length: -5", b"hello")),
    ("cl-hex", post(b"Content-Length: 0x5", b"hello")),
    ("cl-word", post(b"Content-Length: five", b"hello")),
    ("cl-space", post(b"Content-Length: 5 5", b"hello")),
    ("cl-fraction", post(b"Content-Length: 5.0", b"hello")),
    ("cl-comma", post(b"Content-Length: 5,", b"hello")),
    ("cl-huge", post(b"Content-Length: 99999999999999999999", b"hello")),
    ("cl-overflow", post(b"Content-Length: 18446744073709551621", b"hello")),
    ("cl-name-space", post(b"Content-Length : 5", b"hello")),
    ("te-identity", post(b"Transfer-Encoding: identity", b"hello")),
    ("te-gzip", post(b"Transfer-Encoding: gzip", b"hello")),
    ("te-gzip-chunked", post(b"Transfer-Encoding: gzip, chunked", b"0\r\n\r\n")),
    ("te-chunked-gzip", post(b"Transfer-Encoding: chunked, gzip", b"0\r\n\r\n")),
    ("te-chunked-twice", post(b"Transfer-Encoding: chunked, chunked", b"0\r\n\r\n")),
    ("te-two-fields", post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", b"0\r\n\r\n")),
    ("te-two-codings", post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", b"0\r\n\r\n")),
    ("te-case", post(b"Transfer-Encoding: CHUNKED", b"0\r\n\r\n")),
    ("te-x", post(b"Transfer-Encoding: xchunked", b"0\r\n\r\n")),
    ("te-quoted", post(b"Transfer-Encoding: \"chunked\"", b"0\r\n\r\n")),
    ("te-param", post(b"Transfer-Encoding: chunked;q=1", b"0\r\n\r\n")),
    ("te-vt", post(b"Transfer-Encoding: \x0bchunked", b"0\r\n\r\n")),
    ("te-empty", post(b"Transfer-Encoding:", b"hello")),
    ("te-name-space", post(b"Transfer-Encoding : chunked", b"0\r\n\r\n")),
    ("te-fold", post(b"Transfer-Encoding:\r\n chunked", b"0\r\n\r\n")),
    ("te-http10", b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("te-get", field(b"Transfer-Encoding: chunked", rest=b"3\r\nabc\r\n0\r\n\r\n")),
])

_many(REQUESTS, "chunk", [
    ("two", chunked(b"1\r\na\r\nA\r\n0123456789\r\n0\r\n\r\n")),
    ("zeros", chunked(b"0005\r\nhello\r\n000\r\n\r\n")),
    ("ext", chunked(b"5;a=b\r\nhello\r\n0\r\n\r\n")),
    ("ext-quoted", chunked(b"5;a=\"b;c\"\r\nhello\r\n0\r\n\r\n")),
    ("ext-bws", chunked(b"5 ; a = b\r\nhello\r\n0\r\n\r\n")),
    ("ext-empty", chunked(b"5;\r\nhello\r\n0\r\n\r\n")),
    ("ext-junk", chunked(b"5;\x01\r\nhello\r\n0\r\n\r\n")),
    ("ext-lf", chunked(b"5;a\nhello\r\n0\r\n\r\n")),
    ("ext-large", chunked(b"5;a=" + b"b" * 20000 + b"\r\nhello\r\n0\r\n\r\n")),
    ("trailer", chunked(b"5\r\nhello\r\n0\r\nX: y\r\n\r\n")),
    ("trailer-bad", chunked(b"5\r\nhello\r\n0\r\nX y\r\n\r\n")),
    ("trailer-framing", chunked(b"5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n")),
    ("sign", chunked(b"+5\r\nhello\r\n0\r\n\r\n")),
    ("minus", chunked(b"-5\r\nhello\r\n0\r\n\r\n")),
    ("hex-prefix", chunked(b"0x5\r\nhello\r\n0\r\n\r\n")),
    ("underscore", chunked(b"0_5\r\nhello\r\n0\r\n\r\n")),
    ("space-before", chunked(b" 5\r\nhello\r\n0\r\n\r\n")),
    ("space-behind", chunked(b"5 \r\nhello\r\n0\r\n\r\n")),
    ("empty-size", chunked(b"\r\nhello\r\n0\r\n\r\n")),
    ("word", chunked(b"xyz\r\nhello\r\n0\r\n\r\n")),
    ("overflow", chunked(b"10000000000000005\r\nhello\r\n0\r\n\r\n")),
    ("huge", chunked(b"8000000000000000\r\nhello\r\n0\r\n\r\n")),
    ("lf-size", chunked(b"5\nhello\r\n0\r\n\r\n")),
    ("lf-data", chunked(b"5\r\nhello\n0\r\n\r\n")),
    ("lf-last", chunked(b"5\r\nhello\r\n0\r\n\n")),
    ("no-crlf", chunked(b"5\r\nhello0\r\n\r\n")),
    ("long-data", chunked(b"5\r\nhello!\r\n0\r\n\r\n")),
    ("cr-size", chunked(b"5\rhello\r\n0\r\n\r\n")),
])

_many(REQUESTS, "connection", [
    ("close", field(b"Connection: close")),
    ("close-case", field(b"connection: CLOSE")),
    ("close-list", field(b"Connection: x-a, close")),
    ("close-two", field(b"Connection: keep-alive\r\nConnection: close")),
    ("not-close", field(b"Connection: closed, disclose")),
    ("names", field(b"Connection: x-hop\r\nX-Hop: 1\r\nX-End: 2")),
    ("names-case", field(b"Connection: X-HOP\r\nx-hop: 1")),
    ("names-host", field(b"Connection: host")),
    ("names-forwarded", field(b"Connection: x-forwarded-for\r\nX-Forwarded-For: 1.2.3.4")),
    ("names-authorization", field(b"Connection: authorization\r\nAuthorization: Basic x")),
    ("names-cookie", field(b"Connection: cookie\r\nCookie: a=b")),
    ("names-length", post(b"Connection: content-length\r\nContent-Length: 5", b"hello")),
    ("names-te", post(b"Connection: transfer-encoding\r\nTransfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n")),
    ("proxy", field(b"Proxy-Connection: keep-alive")),
    ("keep-alive", field(b"Keep-Alive: timeout=5")),
    ("te", field(b"Connection: TE\r\nTE: trailers")),
    ("trailer", post(b"Trailer: x\r\nContent-Length: 0")),
    ("upgrade-alone", field(b"Upgrade: websocket")),
    ("upgrade-h2c", field(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x")),
    ("upgrade-body", post(b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5", b"hello")),
    ("upgrade-unknown-body", post(b"Connection: Upgrade\r\nUpgrade: TLS/1.2\r\nContent-Length: 5", b"hello")),
    ("upgrade-unknown-chunked", post(b"Connection: Upgrade\r\nUpgrade: TLS/1.2\r\nTransfer-Encoding: chunked",
                                     b"5\r\nhello\r\n0\r\n\r\n")),
    ("upgrade-h2c-bare", field(b"Connection: Upgrade\r\nUpgrade: h2c")),
    ("upgrade-http10", b"GET / HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
    ("expect", post(b"Expect: 100-continue\r\nContent-Length: 5", b"hello")),
    ("expect-case", post(b"Expect: 100-Continue\r\nContent-Length: 5", b"hello")),
    ("expect-other", post(b"Expect: tea\r\nContent-Length: 5", b"hello")),
    ("expect-http10", b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello"),
    ("max-forwards", field(b"Max-Forwards: 3", b"OPTIONS")),
    ("max-forwards-0", field(b"Max-Forwards: 0", b"OPTIONS")),
    ("max-forwards-trace", field(b"Max-Forwards: 0", b"TRACE")),
    ("max-forwards-get", field(b"Max-Forwards: 0")),
])


def ok(fields, body=b""):
    return b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n\r\n" + body


def sized(fields):
    return ok(b"Content-Length: 5\r\n" + fields, b"hello")


def status(text):
    return text + b"\r\nContent-Length: 5\r\n\r\nhello"


_many(ANSWERS, "good", [(name, (text, b"GET")) for name, text in [
    ("length", sized(b"X: y")),
    ("zero", ok(b"Content-Length: 0")),
    ("chunked", ok(b"Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n")),
    ("chunked-ext", ok(b"Transfer-Encoding: chunked", b"5;a=b\r\nhello\r\n0\r\n\r\n")),
    ("chunked-trailer", ok(b"Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\nX: y\r\n\r\n")),
    ("close", ok(b"X: y", b"hello")),
    ("close-asked", ok(b"Connection: close", b"hello")),
    ("http10", b"HTTP/1.0 200 OK\r\nX: y\r\n\r\nhello"),
    ("http10-length", b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
    ("204", b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n"),
    ("304", b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n"),
    ("304-length", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
    ("404", status(b"HTTP/1.1 404 Not Found")),
    ("500", status(b"HTTP/1.1 500 Oops")),
    ("599", status(b"HTTP/1.1 599 Own")),
    ("299", status(b"HTTP/1.1 299 Own")),
    ("no-reason", status(b"HTTP/1.1 200 ")),
    ("no-reason-space", status(b"HTTP/1.1 200")),
    ("obs-text", sized(b"X: \xe4\xff")),
    ("empty-value", sized(b"X:")),
    ("repeated", sized(b"Set-Cookie: a\r\nX: y\r\nSet-Cookie: b")),
    ("103", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + sized(b"X: y")),
    ("100", b"HTTP/1.1 100 Continue\r\n\r\n" + sized(b"X: y")),
    ("two-interim", b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" + sized(b"X: y")),
    ("hop", sized(b"Connection: x-hop\r\nX-Hop: 1\r\nX-End: 2")),
    ("keep-alive", sized(b"Keep-Alive: timeout=5")),
]])
_many(ANSWERS, "head", [(name, (text, b"HEAD")) for name, text in [
    ("length", ok(b"Content-Length: 5")),
    ("chunked", ok(b"Transfer-Encoding: chunked")),
    ("nothing", ok(b"X: y")),
    ("body", ok(b"Content-Length: 5", b"hello")),
    ("204", b"HTTP/1.1 204 No Content\r\n\r\n"),
]])
_many(ANSWERS, "status", [(name, (text, b"GET")) for name, text in [
    ("text", b"<html>hello</html>"),
    ("nothing", b""),
    ("icy", status(b"ICY 200 OK")),
    ("09", status(b"HTTP/0.9 200 OK")),
    ("12", status(b"HTTP/1.2 200 OK")),
    ("20", status(b"HTTP/2.0 200 OK")),
    ("2", status(b"HTTP/2 200 OK")),
    ("lower", status(b"http/1.1 200 OK")),
    ("two-digits", status(b"HTTP/1.1 20 OK")),
    ("four-digits", status(b"HTTP/1.1 2000 OK")),
    ("000", status(b"HTTP/1.1 000 OK")),
    ("099", status(b"HTTP/1.1 099 OK")),
    ("600", status(b"HTTP/1.1 600 OK")),
    ("999", status(b"HTTP/1.1 999 OK")),
    ("sign", status(b"HTTP/1.1 +20 OK")),
    ("word", status(b"HTTP/1.1 OK")),
    ("two-spaces", status(b"HTTP/1.1  200 OK")),
    ("tab", status(b"HTTP/1.1\t200 OK")),
    ("nul-reason", status(b"HTTP/1.1 200 O\0K")),
    ("cr-reason", status(b"HTTP/1.1 200 O\rK")),
    ("control-reason", status(b"HTTP/1.1 200 O\x1bK")),
    ("bare-lf", b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello"),
    ("crlf-before", b"\r\n" + status(b"HTTP/1.1 200 OK")),
    ("101", b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhello"),
]])
_many(ANSWERS, "field", [(name, (text, b"GET")) for name, text in [
    ("no-colon", sized(b"X")),
    ("no-name", sized(b": y")),
    ("space-colon", sized(b"X : y")),
    ("space-in-name", sized(b"X Y: z")),
    ("fold", sized(b"X: y\r\n z")),
    ("bare-lf", sized(b"X: y\nZ: w")),
    ("bare-cr", sized(b"X: y\rZ: w")),
    ("nul", sized(b"X: a\0b")),
    ("control", sized(b"X: a\x01b")),
    ("del", sized(b"X: a\x7fb")),
    ("high-name", sized(b"X\xe4: a")),
    ("paren-name", sized(b"X(Y: a")),
    ("many", sized(b"\r\n".join(b"X%d: y" % i for i in range(200)))),
    ("large", sized(b"X: " + b"a" * 70000)),
    ("cut", b"HTTP/1.1 200 OK\r\nContent-Le"),
]])
_many(ANSWERS, "framing", [(name, (text, b"GET")) for name, text in [
    ("cl-te", ok(b"Content-Length: 5\r\nTransfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n")),
    ("cl-twice", ok(b"Content-Length: 5\r\nContent-Length: 5", b"hello")),
    ("cl-two", ok(b"Content-Length: 5\r\nContent-Length: 6", b"hello!")),
    ("cl-list", ok(b"Content-Length: 5, 5", b"hello")),
    ("cl-plus", ok(b"Content-Length: +5", b"hello")),
    ("cl-minus", ok(b"Content-Length: -5", b"hello")),
    ("cl-word", ok(b"Content-Length: x", b"hello")),
    ("cl-empty", ok(b"Content-Length:", b"hello")),
    ("cl-huge", ok(b"Content-Length: 99999999999999999999", b"hello")),
    ("cl-short", ok(b"Content-Length: 9", b"hello")),
    ("cl-long", ok(b"Content-Length: 5", b"hello, and more")),
    ("te-gzip", ok(b"Transfer-Encoding: gzip", b"hello")),
    ("te-identity", ok(b"Transfer-Encoding: identity", b"hello")),
    ("te-gzip-chunked", ok(b"Transfer-Encoding: gzip, chunked", b"5\r\nhello\r\n0\r\n\r\n")),
    ("te-twice", ok(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n")),
    ("te-http10", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    ("chunk-cut", ok(b"Transfer-Encoding: chunked", b"5\r\nhello\r\n")),
    ("chunk-no-last-crlf", ok(b"Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n")),
    ("chunk-bad", ok(b"Transfer-Encoding: chunked", b"5\r\nhello\r\nxyz\r\n")),
    ("chunk-sign", ok(b"Transfer-Encoding: chunked", b"+5\r\nhello\r\n0\r\n\r\n")),
    ("chunk-lf", ok(b"Transfer-Encoding: chunked", b"5\nhello\n0\n\n")),
    ("chunk-space", ok(b"Transfer-Encoding: chunked", b"5   \r\nhello\r\n0 \r\n\r\n")),
    ("chunk-ext-lf", ok(b"Transfer-Encoding: chunked", b"5;a\nhello\r\n0\r\n\r\n")),
    ("chunk-extra", ok(b"Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\nmore")),
    ("204-length", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello"),
    ("204-chunked", b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    ("304-body", b"HTTP/1.1 304 Not Modified\r\n\r\nhello"),
    ("interim-final", b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n" + sized(b"X: y")),
    ("interim-only", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    ("second-answer", sized(b"X: y") + b"HTTP/1.1 200 Smuggled\r\nContent-Length: 3\r\n\r\nbad"),
]])
