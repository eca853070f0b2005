"""Certificates by a throwaway authority, and services that speak TLS with them."""

import contextlib
import ssl

from tests.integration.harness import Service, run

CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


class Authority:
    """A CA in a folder, and certificates for localhost by it."""

    def __init__(self, folder):
        self.folder = folder
        run(["openssl", "req", "-x509", *CURVE, "-keyout", self.path("ca.key"), "-out", self.path("ca.pem"), "-days", "2", "-subj",
             "/CN=Test CA"])

    def path(self, name):
        return self.folder.join(name)

    def issue(self, name, san="DNS:localhost,IP:127.0.0.1", days=2):
        """Returns (certificate, key)."""
        cert, key, request, ext = (self.path(f"{name}.{end}") for end in ("pem", "key", "csr", "ext"))
        run(["openssl", "req", *CURVE, "-keyout", key, "-out", request, "-subj", f"/CN={name}"])
        with open(ext, "w", encoding="ascii") as f:
            f.write(f"subjectAltName={san}\n")
        run(["openssl", "x509", "-req", "-in", request, "-CA", self.path("ca.pem"), "-CAkey", self.path("ca.key"), "-CAcreateserial",
             "-days", str(days), "-extfile", ext, "-out", cert])
        return cert, key


class TlsService(Service):
    """handle(connection) with a TLS connection; what went wrong in the handshake is in .failed."""

    def __init__(self, cert, key, handle, ca=None, alpn=None, port=0):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(cert, key)
        if ca:
            self.context.verify_mode = ssl.CERT_REQUIRED
            self.context.load_verify_locations(ca)
        if alpn:
            self.context.set_alpn_protocols(alpn)
        self.failed = []
        self.plain_handle = handle
        super().__init__(self._handshake, port)

    def _handshake(self, plain):
        try:
            connection = self.context.wrap_socket(plain, server_side=True, suppress_ragged_eofs=False)
        except (ssl.SSLError, OSError) as e:
            self.failed.append(str(e))
            return
        with connection:
            self.plain_handle(connection)
            with contextlib.suppress(OSError):
                connection.unwrap()  # Python's close() says no last word
