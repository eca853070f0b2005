/* The opening handshake, RFC 6455 section 4, as text in and text out. */
#define OPENSSL_SUPPRESS_DEPRECATED 1 /* SHA1_Init() and the like, see ws_accept_for() */

#include "base/clock.h"
#include "ws/ws.h"

#include <openssl/evp.h>
#include <openssl/sha.h>

void ws_make_key(char out[WS_KEY_LEN + 1]) {
    unsigned char nonce[16];
    ht_random_bytes(nonce, sizeof nonce);
    EVP_EncodeBlock((unsigned char *)out, nonce, sizeof nonce);
}

/* EVP_Digest() would do the same, but loads OpenSSL's providers first: 2 MiB of a process that speaks no TLS. */
void ws_accept_for(struct ht_slice key, char out[WS_ACCEPT_LEN + 1]) {
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; /* RFC 6455 1.3 */
    unsigned char sum[SHA_DIGEST_LENGTH];
    SHA_CTX sha;
    SHA1_Init(&sha);
    if (key.n)
        SHA1_Update(&sha, key.p, ht_min(key.n, WS_KEY_LEN));
    SHA1_Update(&sha, guid, sizeof guid - 1);
    SHA1_Final(sum, &sha);
    EVP_EncodeBlock((unsigned char *)out, sum, sizeof sum);
}

/* base64 of 16 bytes: 22 characters and two pads, and the last character carries four bits of zero. */
static bool is_key(struct ht_slice k) {
    if (k.n != WS_KEY_LEN || k.p[22] != '=' || k.p[23] != '=' || !k.p[21] || !strchr("AQgw", k.p[21]))
        return false;
    for (int i = 0; i < 22; i++) {
        char c = k.p[i];
        if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/'))
            return false;
    }
    return true;
}

static int refuse(struct http_error *e, uint16_t status, const char *text) {
    *e = (struct http_error){.status = status, .text = text};
    return HT_EPROTO;
}

/* How many fields have that name; *value is the first one's. */
static unsigned find_all(const struct http_head *h, const char *buf, const char *name, struct ht_slice *value) {
    unsigned n = 0;
    for (uint32_t i = 0; i < h->n_fields; i++) {
        if (!ht_slice_case_eq(http_text(buf, h->fields[i].name), ht_slice_str(name)))
            continue;
        if (n++ == 0)
            *value = http_text(buf, h->fields[i].value);
    }
    return n;
}

static int join(const struct http_head *h, const char *buf, const char *name, struct ht_buf *out) {
    for (uint32_t i = 0; i < h->n_fields; i++) {
        if (!ht_slice_case_eq(http_text(buf, h->fields[i].name), ht_slice_str(name)))
            continue;
        struct ht_slice v = http_text(buf, h->fields[i].value);
        if ((ht_buf_size(out) && ht_buf_append_str(out, ", ") != HT_OK) || ht_buf_append(out, v.p, v.n) != HT_OK)
            return HT_ENOMEM;
    }
    return HT_OK;
}

int ws_check_request(const struct http_head *h, const char *buf, struct ht_slice *key, struct ht_slice *protocols,
                     struct ht_buf *scratch, struct http_error *e) {
    struct ht_slice version = {0};
    *key = *protocols = ht_slice_str("");
    if (!ht_slice_is(http_text(buf, h->method), "GET"))
        return refuse(e, 405, "a WebSocket is opened with GET");
    if (h->minor < 1)
        return refuse(e, 400, "a WebSocket needs HTTP/1.1");
    if (!(h->flags & HTTP_HAS_HOST))
        return refuse(e, 400, "Host is missing");
    if (!(h->flags & HTTP_UPGRADE_WEBSOCKET))
        return refuse(e, 426, "this address speaks WebSocket only");
    /* Hardening case 6: bytes of a body could be taken for frames, or frames for a body. */
    if (http_request_body(h) != HTTP_BODY_NONE)
        return refuse(e, 400, "an upgrade must not have a body");
    unsigned versions = find_all(h, buf, "sec-websocket-version", &version);
    if (versions != 1 || !ht_slice_is(version, "13"))
        return refuse(e, 426, "Sec-WebSocket-Version must be 13");
    if (find_all(h, buf, "sec-websocket-key", key) != 1 || !is_key(*key))
        return refuse(e, 400, "Sec-WebSocket-Key must be 16 bytes in base64");
    unsigned offers = find_all(h, buf, "sec-websocket-protocol", protocols);
    if (offers > 1) {
        if (join(h, buf, "sec-websocket-protocol", scratch) != HT_OK)
            return refuse(e, 503, "out of memory");
        *protocols = ht_buf_slice(scratch);
    }
    return HT_OK;
}

int ws_write_101(struct ht_buf *out, struct ht_slice key, const char *protocol) {
    char accept[WS_ACCEPT_LEN + 1];
    ws_accept_for(key, accept);
    return ht_buf_printf(out,
                         "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                         "Sec-WebSocket-Accept: %s\r\n%s%s%s\r\n",
                         accept, protocol ? "Sec-WebSocket-Protocol: " : "", protocol ? protocol : "",
                         protocol ? "\r\n" : "");
}
