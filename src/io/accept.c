/* The server side of a TLS handshake, as dial.c has the client side. */
#include "base/mem.h"
#include "io/authority_priv.h"
#include "io/io_priv.h"
#include "io/tls_server_priv.h"

#include <openssl/err.h>
#include <openssl/sslerr.h>

#define LINGER_MS 1000 /* how long a client has to read the answer to plain HTTP */

struct io_accept {
    struct io_loop *loop;
    struct io_conn *conn;
    const struct io_accept_ops *ops;
    void *ctx;
    const char *peer;          /* what the client is called in messages */
    const char *to_plain_http; /* the answer to a client that speaks plain HTTP; NULL: none */
    struct io_timer timer;
    struct io_task report; /* calls failed() at the end of the turn */
    enum io_accept_why why;
    struct ht_errmsg text;
    struct io_hello hello;
};

void io_accept_cancel(struct io_accept **ap) {
    struct io_accept *a = *ap;
    if (!a)
        return;
    *ap = NULL;
    io_timer_stop(&a->timer);
    io_task_cancel(&a->report);
    io_hello_over(&a->hello);
    io_conn_abort(&a->conn);
    ht_free(a);
}

/* Answers in plain HTTP, or the client's user would never learn what is wrong. */
static void answer_plainly(struct io_accept *a) {
    struct iovec v = {(char *)(uintptr_t)a->to_plain_http, strlen(a->to_plain_http)};
    SSL_free(a->conn->more->ssl);
    a->conn->more->ssl = NULL;
    (void)io_conn_write(a->conn, &v, 1);
    io_conn_close_lingering(&a->conn, LINGER_MS);
}

static void on_report(struct io_task *t) {
    struct io_accept *a = ht_container_of(t, struct io_accept, report);
    const struct io_accept_ops *ops = a->ops;
    struct ht_errmsg text = a->text;
    void *ctx = a->ctx;
    enum io_accept_why why = a->why;
    if (why == IO_ACCEPT_PLAIN_HTTP && a->to_plain_http)
        answer_plainly(a);
    io_conn_close(&a->conn); /* the TLS alert was sent before */
    io_accept_cancel(&a);
    ops->failed(ctx, why, text.text);
}

static void fail(struct io_accept *a, enum io_accept_why why) {
    a->why = why;
    a->conn->more->broken = true;
    io_hello_over(&a->hello);
    io_conn_set_ops(a->conn, NULL, NULL);
    io_conn_read_on(a->conn, false);
    io_conn_want_write(a->conn, false);
    io_timer_stop(&a->timer);
    io_task_add(a->loop, &a->report);
}

/* Writes a message with the client's alert in it: its user sees the same word. */
static enum io_accept_why describe(struct io_accept *a) {
    unsigned long e = ERR_peek_last_error();
    const char *said = e ? ERR_reason_error_string(e) : NULL;
    bool ours = a->to_plain_http != NULL;
    if (a->hello.too_long) {
        ht_fail(&a->text, HT_ETLS, "the TLS handshake with %s failed: its ClientHello is too long", a->peer);
        return IO_ACCEPT_BROKEN;
    }
    switch (ERR_GET_REASON(e)) {
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
        ht_fail(&a->text, HT_ETLS, "%s does not trust the certificate of this tunnel%s", a->peer,
                ours ? "" : "; `hoody-tunnel env` says what to set there");
        return IO_ACCEPT_DISTRUSTED;
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
        ht_fail(&a->text, HT_ETLS, "%s speaks plain HTTP where TLS is spoken", a->peer);
        return IO_ACCEPT_PLAIN_HTTP;
    case SSL_R_UNEXPECTED_EOF_WHILE_READING:
        said = NULL;
        break;
    default:
        break;
    }
    ht_fail(&a->text, HT_ETLS, "the TLS handshake with %s failed: %s", a->peer, said ? said : "the connection ended");
    if (!said)
        return IO_ACCEPT_LEFT;
    switch (ERR_GET_REASON(e)) {
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_NO_SHARED_CIPHER:
    case SSL_R_NO_SUITABLE_KEY_SHARE:
    case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
    case SSL_R_NO_APPLICATION_PROTOCOL:
    case SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS:
    case SSL_R_VERSION_TOO_LOW:
    case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
    case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE:
        return IO_ACCEPT_UNMATCHED;
    default:
        return IO_ACCEPT_BROKEN;
    }
}

static void step(void *ctx) {
    struct io_accept *a = ctx;
    ERR_clear_error();
    int rc = SSL_do_handshake(io_conn_ssl(a->conn));
    if (rc == 1) {
        struct io_conn *c = a->conn;
        const struct io_accept_ops *ops = a->ops;
        void *user = a->ctx;
        a->conn = NULL;
        io_hello_over(&a->hello);
        io_conn_set_ops(c, NULL, NULL);
        io_conn_read_on(c, false);
        io_conn_want_write(c, false);
        io_accept_cancel(&a);
        ops->accepted(user, c);
        return;
    }
    int want = SSL_get_error(io_conn_ssl(a->conn), rc);
    if (want == SSL_ERROR_WANT_READ || want == SSL_ERROR_WANT_WRITE) {
        io_conn_read_on(a->conn, want == SSL_ERROR_WANT_READ);
        io_conn_want_write(a->conn, want == SSL_ERROR_WANT_WRITE);
        return;
    }
    enum io_accept_why why = describe(a);
    ERR_clear_error();
    fail(a, why);
}

static const struct io_conn_ops handshake_ops = {step, step};

static void on_timeout(struct io_timer *t) {
    struct io_accept *a = ht_container_of(t, struct io_accept, timer);
    ht_fail(&a->text, HT_ETIMEDOUT, "the TLS handshake with %s did not finish in time", a->peer);
    fail(a, IO_ACCEPT_TIMED_OUT);
}

/* `ssl` NULL: it could not be made, and *err says why. */
static struct io_accept *start(struct io_loop *loop, struct io_conn *c, SSL *ssl, uint64_t timeout_ms,
                               const struct io_accept_ops *ops, void *ctx, struct ht_errmsg *err) {
    struct io_accept *a = ssl && io_conn_set_ssl(c, ssl) ? ht_calloc(1, sizeof *a) : NULL;
    if (ssl && !a)
        ht_fail(err, HT_ENOMEM, "out of memory");
    if (!a) {
        io_conn_abort(&c);
        return NULL;
    }
    *a = (struct io_accept){.loop = loop, .conn = c, .ops = ops, .ctx = ctx};
    io_hello_watch(&a->hello, ssl);
    io_timer_init(loop, &a->timer, on_timeout);
    io_task_init(&a->report, on_report);
    io_timer_set(&a->timer, timeout_ms);
    io_conn_set_ops(c, &handshake_ops, a);
    io_conn_read_on(c, true);
    return a;
}

struct io_accept *io_accept_start(struct io_loop *loop, struct io_conn *c, struct io_tls_host *e, uint64_t timeout_ms,
                                  const struct io_accept_ops *ops, void *ctx, struct ht_errmsg *err) {
    SSL *ssl = io_tls_host_session(e, io_conn_fd(c), err);
    struct io_accept *a = start(loop, c, ssl, timeout_ms, ops, ctx, err);
    if (a)
        a->peer = "the program in the container";
    return a;
}

struct io_accept *io_accept_server(struct io_loop *loop, struct io_conn *c, struct io_tls_server *s,
                                   uint64_t timeout_ms, const struct io_accept_ops *ops, void *ctx,
                                   struct ht_errmsg *err) {
    SSL *ssl = io_tls_server_session(s, io_conn_fd(c), err);
    struct io_accept *a = start(loop, c, ssl, timeout_ms, ops, ctx, err);
    if (a) {
        a->peer = "the client";
        a->to_plain_http = io_tls_server_to_plain_http(s);
    }
    return a;
}
