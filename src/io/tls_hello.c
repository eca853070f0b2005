/*
 * OpenSSL takes a ClientHello of 128 KiB, and makes room for all of it once nine bytes say that it will be that long.
 * So what a client says is looked at on its way to OpenSSL, up to the first message that is no ClientHello (RFC 8446 4,
 * 5.1): after a HelloRetryRequest there is a second one.
 */
#include "io/tls_server_priv.h"

#define HELLO_MAX 16384 /* honest ones have less than a quarter of that */
#define CLIENT_HELLO 1  /* HandshakeType */

enum { CHANGE_CIPHER_SPEC = 20, HANDSHAKE = 22 }; /* ContentType */

/* A record's five bytes are there. */
static void record_begins(struct io_hello *h) {
    h->record = (size_t)h->record_head[3] << 8 | h->record_head[4];
    h->n_record_head = 0;
    h->handshake = h->record_head[0] == HANDSHAKE;
    /* TLS 1.3 has this one between two ClientHellos, and before 1.3 what follows is encrypted. */
    bool between = h->record_head[0] == CHANGE_CIPHER_SPEC && SSL_version(h->ssl) == TLS1_3_VERSION;
    h->over = !h->handshake && !between;
}

/* A message's four bytes are there. */
static void message_begins(struct io_hello *h) {
    const uint8_t *head = h->message_head;
    h->message = (size_t)head[1] << 16 | (size_t)head[2] << 8 | head[3];
    h->n_message_head = 0;
    h->over = head[0] != CLIENT_HELLO;
    h->too_long = !h->over && h->message > HELLO_MAX;
}

static void skip(size_t *left, size_t n) { *left -= ht_min(*left, n); }

/* Takes some of p[0..n), and returns how much. */
static size_t take(struct io_hello *h, const uint8_t *p, size_t n) {
    if (h->record == 0) {
        h->record_head[h->n_record_head++] = *p;
        if (h->n_record_head == sizeof h->record_head)
            record_begins(h);
        return 1;
    }
    if (h->handshake && h->message == 0) {
        h->message_head[h->n_message_head++] = *p;
        h->record--;
        if (h->n_message_head == sizeof h->message_head)
            message_begins(h);
        return 1;
    }
    n = ht_min(n, h->handshake ? ht_min(h->record, h->message) : h->record);
    skip(&h->record, n);
    if (h->handshake)
        skip(&h->message, n);
    return n;
}

static long look(BIO *bio, int oper, const char *p, size_t len, int argi, long argl, int ret, size_t *n) {
    struct io_hello *h = (struct io_hello *)(void *)BIO_get_callback_arg(bio);
    (void)len, (void)argi, (void)argl;
    if (oper != (BIO_CB_READ | BIO_CB_RETURN) || ret <= 0)
        return ret;
    for (size_t at = 0; at < *n && !h->over && !h->too_long;)
        at += take(h, (const uint8_t *)p + at, *n - at);
    return h->too_long ? -1 : ret;
}

void io_hello_watch(struct io_hello *h, SSL *ssl) {
    *h = (struct io_hello){.ssl = ssl};
    io_tls_read_ahead(ssl, false);
    BIO_set_callback_arg(SSL_get_rbio(ssl), (char *)h);
    BIO_set_callback_ex(SSL_get_rbio(ssl), look);
}

void io_hello_over(struct io_hello *h) {
    if (!h->ssl)
        return;
    io_tls_read_ahead(h->ssl, true);
    BIO_set_callback_ex(SSL_get_rbio(h->ssl), NULL);
    h->ssl = NULL;
}
