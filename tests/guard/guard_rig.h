/*
 * A guard between two real sessions in memory and a service (relay/origin_rig.h): the container's programs are calls
 * that say raw bytes, with TLS over them if need be. What was told of requests is in `notes`.
 */
#ifndef HT_TESTS_GUARD_GUARD_RIG_H
#define HT_TESTS_GUARD_GUARD_RIG_H

#include "guard/guard.h"
#include "relay/origin_rig.h"

#include <openssl/pem.h>
#include <openssl/ssl.h>

#define CANARY "canary-81c2e0"
#define MAX_STREAMS 64 /* connections at a time */
#define PLACEHOLDER "sk-not-the-real-one"
#define OK_HELLO "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

static struct guard *guard;
static struct guard_host *host, *other;
static struct io_authority *authority;
static struct io_tls *tls;
static char key[IO_KEY_MAX];
static size_t key_len;
static uint16_t asked; /* the port that streams are opened for */

/* What was noted, a line for each. */
static char notes[8192];
static bool unwritable;
static char troubles[2048];
static unsigned n_begun, n_ended;

static inline bool on_audit(void *ctx, const struct guard_event *e) {
    size_t n = strlen(notes);
    (void)ctx;
    CU_ASSERT_PTR_EQUAL(e->ctx, &rig);
    if (e->over && e->reason == GUARD_ALLOWED) {
        n_ended++;
        n += (size_t)snprintf(notes + n, sizeof notes - n, "end %llu %u %llu %llu%s%s\n", (unsigned long long)e->id,
                              e->status, (unsigned long long)e->bytes_in, (unsigned long long)e->bytes_out,
                              e->error ? " " : "", e->error ? e->error : "");
        return true;
    }
    n_begun += !e->over;
    snprintf(notes + n, sizeof notes - n, "%s:%u %s %s%s%s %s %s %s %s %u%s%s\n", e->host, e->port, e->method, e->path,
             e->query ? "?" : "", e->query ? e->query : "", guard_reason_word(e->reason), e->rule ? e->rule : "-",
             e->injects ? "secret" : "-", e->peer, e->status, e->error ? " " : "", e->error ? e->error : "");
    return e->over || !unwritable;
}

static inline void on_trouble(void *ctx, const char *name, const char *text) {
    size_t n = strlen(troubles);
    (void)ctx;
    snprintf(troubles + n, sizeof troubles - n, "%s: %s\n", name, text);
}

static inline void serve(struct mux_stream *st, const struct wire_stream_open *open) {
    guard_host_serve(open->bind_id == 1 ? host : other, st, open, asked);
}

static const char *const names[] = {"Authorization"}, *const values[] = {"Bearer ${env:GUARD_CANARY}"};

static inline struct guard_host_config config(const char *name) {
    return (struct guard_host_config){
        .policy = {.host = name, .header_names = names, .header_values = values, .n_headers = 1},
        .authority = authority,
        .tls = tls,
        .target = "127.0.0.1",
        .target_port = rig.cfg.port,
        .ctx = &rig,
    };
}

static inline struct guard_host *add(const struct guard_host_config *cfg) {
    struct ht_errmsg err = {""};
    int rc;
    struct guard_host *h = guard_host_add(guard, cfg, &rc, &err);
    if (!h)
        printf("# %s\n", err.text);
    CU_ASSERT_PTR_NOT_NULL_FATAL(h);
    return h;
}

static inline void begin(void) {
    struct ht_errmsg err;
    setenv("GUARD_CANARY", CANARY, 1);
    if (!key_len)
        CU_ASSERT_EQUAL_FATAL(io_authority_make_key(key, &key_len, &err), HT_OK);
    rig_start();
    rig_serve = serve;
    asked = 80;
    notes[0] = troubles[0] = '\0';
    unwritable = false;
    n_begun = n_ended = 0;
    authority = io_authority_create(key, key_len, &err);
    /* No test here speaks TLS to the service, and reading the system's authorities takes long. */
    tls = io_tls_create_with(&(struct io_tls_config){.insecure = true}, &err);
    CU_ASSERT_PTR_NOT_NULL_FATAL(authority);
    CU_ASSERT_PTR_NOT_NULL_FATAL(tls);
    struct guard_config cfg = {.loop = rig.loop,
                               .connect_timeout_ms = 5000,
                               .pool_idle_ms = 30000,
                               .pool_size = 4,
                               .max_streams = MAX_STREAMS,
                               .audit = on_audit,
                               .trouble = on_trouble};
    guard = guard_create(&cfg);
    CU_ASSERT_PTR_NOT_NULL_FATAL(guard);
}

static inline void end(void) {
    guard_destroy(&guard);
    host = other = NULL;
    io_authority_destroy(&authority);
    io_tls_destroy(&tls);
    rig_serve = NULL;
    rig_stop();
}

/* A connection of the container. */
static inline struct call *connection(unsigned bind, const char *text) {
    struct wire_stream_open open = {
        .kind = WIRE_KIND_TCP, .bind_id = bind, .has_peer_addr = true, .peer_addr = ht_slice_str("192.0.2.7:1234")};
    return call_open(&open, text, strlen(text), false);
}

static inline void says(struct call *c, const char *text) { call_sends(c, text, strlen(text), false); }
static inline void until_says(struct call *c, const char *what) { UNTIL(strstr(call_body(c), what) || c->closes); }

#define GET(path) "GET " path " HTTP/1.1\r\nHost: api.test\r\n\r\n"

/* ---- TLS ---- */

/* The container's program: TLS over a call's bytes. */
struct client {
    struct call *c;
    SSL_CTX *ctx;
    SSL *ssl;
    BIO *in, *out;
};

static inline void client_begin(struct client *k, const char *ca, const char *name) {
    BIO *pem = BIO_new_mem_buf(ca, -1);
    X509 *x = PEM_read_bio_X509(pem, NULL, NULL, NULL);
    static const unsigned char alpn[] = "\x02h2\x08http/1.1";
    k->ctx = SSL_CTX_new(TLS_client_method());
    X509_STORE_add_cert(SSL_CTX_get_cert_store(k->ctx), x);
    SSL_CTX_set_verify(k->ctx, SSL_VERIFY_PEER, NULL);
    k->ssl = SSL_new(k->ctx);
    SSL_set_alpn_protos(k->ssl, alpn, sizeof alpn - 1);
    SSL_set_tlsext_host_name(k->ssl, name);
    SSL_set1_host(k->ssl, name);
    k->in = BIO_new(BIO_s_mem());
    k->out = BIO_new(BIO_s_mem());
    SSL_set_bio(k->ssl, k->in, k->out);
    SSL_set_connect_state(k->ssl);
    X509_free(x);
    BIO_free(pem);
    k->c = connection(1, "");
}

static inline void client_end(struct client *k) {
    SSL_free(k->ssl);
    SSL_CTX_free(k->ctx);
}

/* Bytes to and fro. */
static inline void client_carry(struct client *k) {
    char *p;
    long n = BIO_get_mem_data(k->out, &p);
    if (n > 0 && k->c->st) {
        call_sends(k->c, p, (size_t)n, false);
        (void)BIO_reset(k->out);
    }
    size_t got = ht_buf_size(&k->c->body);
    if (got) {
        BIO_write(k->in, ht_buf_head(&k->c->body), (int)got);
        ht_buf_consume(&k->c->body, got);
    }
    one_turn();
}

/* Whether it came about. */
static inline bool client_handshake(struct client *k) {
    for (;;) {
        int rc = SSL_do_handshake(k->ssl);
        int err = SSL_get_error(k->ssl, rc);
        if (rc == 1 || (err != SSL_ERROR_WANT_READ && err != SSL_ERROR_WANT_WRITE))
            return rc == 1;
        if (k->c->closes && ht_buf_size(&k->c->body) == 0)
            return false;
        client_carry(k);
    }
}

static inline size_t client_read(struct client *k, char *out, size_t cap, const char *what) {
    size_t have = 0;
    out[0] = '\0';
    while (!strstr(out, what)) {
        int n = SSL_read(k->ssl, out + have, (int)(cap - have - 1));
        if (n > 0) {
            have += (size_t)n;
            out[have] = '\0';
        } else if (SSL_get_error(k->ssl, n) != SSL_ERROR_WANT_READ || (k->c->closes && ht_buf_size(&k->c->body) == 0)) {
            break;
        } else {
            client_carry(k);
        }
    }
    return have;
}

#endif
