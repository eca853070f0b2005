/* The server's side of a TLS handshake: the mirror of dial.c. */
#include "base/mem.h"
#include "io/authority_priv.h"
#include "io/io_priv.h"

#include <openssl/err.h>
#include <openssl/sslerr.h>

struct io_accept {
    struct io_loop *loop;
    struct io_conn *conn;
    const struct io_accept_ops *ops;
    void *ctx;
    struct io_timer timer;
    struct io_task report; /* a failure is told at the end of the turn */
    int err;
    struct ht_errmsg text;
};

void io_accept_cancel(struct io_accept **ap) {
    struct io_accept *a = *ap;
    if (!a)
        return;
    *ap = NULL;
    io_timer_stop(&a->timer);
    io_task_cancel(&a->report);
    io_conn_abort(&a->conn);
    ht_free(a);
}

static void on_report(struct io_task *t) {
    struct io_accept *a = ht_container_of(t, struct io_accept, report);
    const struct io_accept_ops *ops = a->ops;
    struct ht_errmsg text = a->text;
    void *ctx = a->ctx;
    int err = a->err;
    io_conn_close(&a->conn); /* what TLS had to say is out */
    io_accept_cancel(&a);
    ops->failed(ctx, err, text.text);
}

static void fail(struct io_accept *a, int err) {
    a->err = err;
    a->conn->broken = true;
    io_conn_set_ops(a->conn, NULL, NULL);
    io_conn_read_on(a->conn, false);
    io_conn_want_write(a->conn, false);
    io_timer_stop(&a->timer);
    io_task_add(a->loop, &a->report);
}

/* What a client says that does not trust us is what its user will ask about. */
static int describe(struct io_accept *a) {
    unsigned long e = ERR_peek_last_error();
    const char *said = e ? ERR_reason_error_string(e) : NULL;
    switch (ERR_GET_REASON(e)) {
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
        return ht_fail(
            &a->text, HT_ETLS,
            "the program in the container does not trust the certificate of this tunnel; `hoody-tunnel env` says "
            "what to set there");
    case SSL_R_HTTP_REQUEST:
        return ht_fail(&a->text, HT_ETLS, "the program in the container speaks plain HTTP where TLS is spoken");
    default:
        return ht_fail(&a->text, said ? HT_ETLS : HT_ERESET,
                       "the TLS handshake with the program in the container failed: %s",
                       said ? said : "the connection ended");
    }
}

static void step(void *ctx) {
    struct io_accept *a = ctx;
    ERR_clear_error();
    int rc = SSL_do_handshake(a->conn->ssl);
    if (rc == 1) {
        struct io_conn *c = a->conn;
        const struct io_accept_ops *ops = a->ops;
        void *user = a->ctx;
        a->conn = NULL;
        io_conn_set_ops(c, NULL, NULL);
        io_conn_read_on(c, false);
        io_conn_want_write(c, false);
        io_accept_cancel(&a);
        ops->accepted(user, c);
        return;
    }
    int want = SSL_get_error(a->conn->ssl, rc);
    if (want == SSL_ERROR_WANT_READ || want == SSL_ERROR_WANT_WRITE) {
        io_conn_read_on(a->conn, want == SSL_ERROR_WANT_READ);
        io_conn_want_write(a->conn, want == SSL_ERROR_WANT_WRITE);
        return;
    }
    int err = describe(a);
    ERR_clear_error();
    fail(a, err);
}

static const struct io_conn_ops handshake_ops = {step, step};

static void on_timeout(struct io_timer *t) {
    struct io_accept *a = ht_container_of(t, struct io_accept, timer);
    ht_fail(&a->text, HT_ETIMEDOUT, "the TLS handshake with the program in the container did not finish in time");
    fail(a, HT_ETIMEDOUT);
}

struct io_accept *io_accept_start(struct io_loop *loop, struct io_conn *c, struct io_ending *e, uint64_t timeout_ms,
                                  const struct io_accept_ops *ops, void *ctx, struct ht_errmsg *err) {
    struct io_accept *a = ht_calloc(1, sizeof *a);
    if (!a)
        ht_fail(err, HT_ENOMEM, "out of memory");
    if (!a || !(c->ssl = io_ending_session(e, io_conn_fd(c), err))) {
        io_conn_abort(&c);
        ht_free(a);
        return NULL;
    }
    *a = (struct io_accept){.loop = loop, .conn = c, .ops = ops, .ctx = ctx};
    io_timer_init(loop, &a->timer, on_timeout);
    io_task_init(&a->report, on_report);
    io_timer_set(&a->timer, timeout_ms);
    io_conn_set_ops(c, &handshake_ops, a);
    io_conn_read_on(c, true);
    return a;
}
