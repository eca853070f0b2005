/* Requests of a container on their way through the guard to a service that the test plays byte by byte. */
#include "guard/guard.h"
#include "relay/origin_rig.h"

#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <unistd.h>

#define CANARY "canary-81c2e0"
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
static unsigned n_ended;

static bool on_decided(void *ctx, const struct guard_event *e) {
    size_t n = strlen(notes);
    (void)ctx;
    snprintf(notes + n, sizeof notes - n, "%s:%u %.*s %.*s %s %s %s %s\n", e->host, e->port, HT_SLICE_ARG(e->method),
             HT_SLICE_ARG(e->target), guard_reason_word(e->reason), e->rule ? e->rule : "-",
             e->injects ? "secret" : "-", e->peer);
    return !unwritable;
}

static void on_ended(void *ctx, const struct guard_end *e) {
    size_t n = strlen(notes);
    (void)ctx;
    n_ended++;
    snprintf(notes + n, sizeof notes - n, "end %llu %u %llu %llu\n", (unsigned long long)e->id, e->status,
             (unsigned long long)e->bytes_in, (unsigned long long)e->bytes_out);
}

static void on_trouble(void *ctx, const char *name, const char *text) {
    size_t n = strlen(troubles);
    (void)ctx;
    snprintf(troubles + n, sizeof troubles - n, "%s: %s\n", name, text);
}

static void serve(struct mux_stream *st, const struct wire_stream_open *open) {
    guard_host_serve(open->bind_id == 1 ? host : other, st, open, asked);
}

static const char *const names[] = {"Authorization"}, *const values[] = {"Bearer ${env:GUARD_CANARY}"};
static const char *const other_values[] = {"Bearer other"};

static struct guard_host_config config(const char *name) {
    return (struct guard_host_config){
        .policy = {.host = name, .header_names = names, .header_values = values, .n_headers = 1},
        .authority = authority,
        .tls = tls,
        .target = "127.0.0.1",
        .target_port = rig.cfg.port,
    };
}

static struct guard_host *add(const struct guard_host_config *cfg) {
    struct ht_errmsg err = {""};
    int rc;
    struct guard_host *h = guard_host_add(guard, cfg, &rc, &err);
    if (!h)
        printf("# %s\n", err.text);
    CU_ASSERT_PTR_NOT_NULL_FATAL(h);
    return h;
}

static void begin(void) {
    struct ht_errmsg err;
    setenv("GUARD_CANARY", CANARY, 1);
    if (!key_len)
        CU_ASSERT_EQUAL_FATAL(io_authority_make_key(key, &key_len, &err), HT_OK);
    rig_start();
    rig_serve = serve;
    asked = 80;
    notes[0] = troubles[0] = '\0';
    unwritable = false;
    n_ended = 0;
    authority = io_authority_create(key, key_len, &err);
    tls = io_tls_create(NULL, &err);
    CU_ASSERT_PTR_NOT_NULL_FATAL(authority);
    CU_ASSERT_PTR_NOT_NULL_FATAL(tls);
    struct guard_config cfg = {.loop = rig.loop,
                               .connect_timeout_ms = 5000,
                               .pool_idle_ms = 30000,
                               .pool_size = 4,
                               .max_streams = 64,
                               .decided = on_decided,
                               .ended = on_ended,
                               .trouble = on_trouble};
    guard = guard_create(&cfg);
    CU_ASSERT_PTR_NOT_NULL_FATAL(guard);
}

static void end(void) {
    guard_destroy(&guard);
    host = other = NULL;
    io_authority_destroy(&authority);
    io_tls_destroy(&tls);
    rig_serve = NULL;
    rig_stop();
}

/* A connection of the container. */
static struct call *connection(unsigned bind, const char *text) {
    struct wire_stream_open open = {
        .kind = WIRE_KIND_TCP, .bind_id = bind, .has_peer_addr = true, .peer_addr = ht_slice_str("192.0.2.7:1234")};
    return call_open(&open, text, strlen(text), false);
}

static void says(struct call *c, const char *text) { call_sends(c, text, strlen(text), false); }
static void until_says(struct call *c, const char *what) { UNTIL(strstr(call_body(c), what) || c->closes); }

#define GET(path) "GET " path " HTTP/1.1\r\nHost: api.test\r\n\r\n"

static void a_request_gets_its_secret(void) {
    begin();
    struct guard_host_config cfg = config("api.test");
    host = add(&cfg);
    struct call *c =
        connection(1, "GET /v1/a?q=1 HTTP/1.1\r\nHost: api.test\r\nAuthorization: Bearer mine\r\nX-A: 1\r\n\r\n");
    struct service_conn *s = service_wait(0, "\r\n\r\n");
    CU_ASSERT_STRING_EQUAL(service_heard(s), "GET /v1/a?q=1 HTTP/1.1\r\nhost: api.test\r\nx-a: 1\r\n"
                                             "authorization: Bearer " CANARY "\r\n\r\n");
    service_forget(s);
    /* What repeats the secret does not come back; the rest does. */
    service_says(s, "HTTP/1.1 200 " CANARY "\r\nX-Echo: Bearer " CANARY "\r\nX-B: 2\r\nContent-Length: 5\r\n\r\nhello");
    until_says(c, "hello");
    CU_ASSERT_PTR_NULL(strstr(call_body(c), CANARY));
    CU_ASSERT(strstr(call_body(c), "HTTP/1.1 200 OK\r\n") != NULL);
    CU_ASSERT(strstr(call_body(c), "X-B: 2") != NULL);
    UNTIL(n_ended == 1);
    CU_ASSERT_STRING_EQUAL(notes, "api.test:80 GET /v1/a?q=1 allowed - secret 192.0.2.7:1234\nend 1 200 0 5\n");
    /* The next one on the same connections, here and there. */
    says(c, "POST /b HTTP/1.1\r\nHost: api.test\r\nContent-Length: 4\r\n\r\nbody");
    service_wait(0, "body");
    CU_ASSERT(strstr(service_heard(s), "authorization: Bearer " CANARY) != NULL);
    service_says(s, OK_HELLO);
    UNTIL(n_ended == 2);
    CU_ASSERT_EQUAL(rig.n_conns, 1);
    CU_ASSERT_EQUAL(guard_host_streams(host), 1);
    end();
}

static void what_is_refused_is_never_near_the_service(void) {
    static const char *const allow[] = {"GET /v1/*"}, *const deny[] = {"* /v1/admin"};
    static const struct {
        const char *request, *status, *note;
    } rows[] = {
        {GET("/v2"), "403", "no-rule-allows-it"},
        {GET("/v1/admin"), "403", "denied-by-rule * /v1/admin"},
        {GET("/v1/%61dmin"), "403", "denied-by-rule * /v1/admin"},
        {GET("/v1/../x"), "400", "ambiguous-path"},
        {"TRACE /v1/a HTTP/1.1\r\nHost: api.test\r\n\r\n", "405", "method-not-served"},
        {"GET /v1/a HTTP/1.1\r\nHost: evil.test\r\n\r\n", "421", "another-host"},
        {"GET http://evil.test/v1/a HTTP/1.1\r\nHost: evil.test\r\n\r\n", "421", "another-host"},
        {"POST /v1/a HTTP/1.1\r\nHost: api.test\r\nContent-Length: 3\r\n\r\nabc", "403", "no-rule-allows-it"},
    };
    begin();
    struct guard_host_config cfg = config("api.test");
    cfg.policy.allow = allow;
    cfg.policy.deny = deny;
    cfg.policy.n_allow = cfg.policy.n_deny = 1;
    host = add(&cfg);
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        notes[0] = '\0';
        struct call *c = connection(1, rows[i].request);
        until_says(c, "refused by hoody-tunnel");
        CU_ASSERT_NSTRING_EQUAL(call_body(c) + 9, rows[i].status, 3);
        CU_ASSERT_PTR_NULL(strstr(call_body(c), CANARY));
        if (!strstr(notes, rows[i].note))
            printf("# %s# %s", rows[i].request, notes);
        CU_ASSERT(strstr(notes, rows[i].note) != NULL);
        CU_ASSERT_PTR_NULL(strstr(notes, "secret"));
    }
    /* The connection is good for the next request. */
    struct call *c = connection(1, GET("/v2") GET("/v1/ok"));
    struct service_conn *s = service_wait(0, "\r\n\r\n");
    CU_ASSERT_NSTRING_EQUAL(service_heard(s), "GET /v1/ok", 10);
    service_says(s, OK_HELLO);
    until_says(c, "hello");
    CU_ASSERT_EQUAL(rig.n_conns, 1);
    end();
}

/* Two readings of where a request ends: the second one must not reach the service with a secret. */
static void nothing_is_smuggled(void) {
    static const char *const rows[] = {
        "POST /v1/a HTTP/1.1\r\nHost: api.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" GET(
            "/canary"),
        "POST /v1/a HTTP/1.1\r\nHost: api.test\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcd" GET("/canary"),
        "POST /v1/a HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" GET("/canary"),
        "GET /v1/a HTTP/1.1\r\nHost: api.test\r\nHost: evil.test\r\n\r\n" GET("/canary"),
        "GET /v1/a HTTP/1.1\r\nHost: api.test\r\nX: a\nAuthorization: b\r\n\r\n" GET("/canary"),
        "GET /v1/a HTTP/1.1\r\nHost : api.test\r\n\r\n" GET("/canary"),
        "GET http://api.test/v1/a HTTP/1.1\r\nHost: evil.test\r\n\r\n" GET("/canary"),
    };
    begin();
    struct guard_host_config cfg = config("api.test");
    host = add(&cfg);
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct call *c = connection(1, rows[i]);
        UNTIL(c->closes || c->eofs);
        CU_ASSERT_NSTRING_EQUAL(call_body(c), "HTTP/1.1 4", 10);
        CU_ASSERT_PTR_NULL(strstr(notes, "/canary"));
    }
    CU_ASSERT_EQUAL(rig.n_conns, 0);
    end();
}

static void a_placeholder_is_for_one_host(void) {
    begin();
    struct guard_host_config cfg = config("api.test");
    cfg.policy.placeholder = PLACEHOLDER;
    host = add(&cfg);
    cfg = config("other.test");
    cfg.policy.header_values = other_values;
    other = add(&cfg);
    struct call *c = connection(2, "GET / HTTP/1.1\r\nHost: other.test\r\nX-Key: " PLACEHOLDER "\r\n\r\n");
    until_says(c, "refused by");
    CU_ASSERT_NSTRING_EQUAL(call_body(c) + 9, "403", 3);
    CU_ASSERT(strstr(notes, "placeholder-elsewhere") != NULL);
    c = connection(2, "GET /?k=" PLACEHOLDER " HTTP/1.1\r\nHost: other.test\r\n\r\n");
    until_says(c, "refused by");
    CU_ASSERT_NSTRING_EQUAL(call_body(c) + 9, "403", 3);
    CU_ASSERT_EQUAL(rig.n_conns, 0);
    c = connection(1, "GET / HTTP/1.1\r\nHost: api.test\r\nAuthorization: Bearer " PLACEHOLDER "\r\n\r\n");
    struct service_conn *s = service_wait(0, "\r\n\r\n");
    CU_ASSERT(strstr(service_heard(s), "authorization: Bearer " CANARY "\r\n") != NULL);
    CU_ASSERT_PTR_NULL(strstr(service_heard(s), PLACEHOLDER));
    service_says(s, OK_HELLO);
    until_says(c, "hello");
    /* A second host with it would leave nobody knowing which one is meant. */
    struct ht_errmsg err;
    int rc;
    cfg = config("third.test");
    cfg.policy.placeholder = PLACEHOLDER;
    CU_ASSERT_PTR_NULL(guard_host_add(guard, &cfg, &rc, &err));
    CU_ASSERT_EQUAL(rc, HT_EINVAL);
    end();
}

/* Plain HTTP to another machine: whoever is on the way would have the secret. */
static void no_secret_goes_out_in_the_clear(void) {
    begin();
    struct guard_host_config cfg = config("api.test");
    cfg.target = "192.0.2.1"; /* nobody's (RFC 5737) */
    host = add(&cfg);
    struct call *c = connection(1, GET("/"));
    until_says(c, "refused by");
    CU_ASSERT_NSTRING_EQUAL(call_body(c) + 9, "403", 3);
    CU_ASSERT(strstr(notes, "secret-over-plain-http") != NULL);
    end();
}

static void what_cannot_be_noted_is_refused(void) {
    begin();
    struct guard_host_config cfg = config("api.test");
    host = add(&cfg);
    unwritable = true;
    struct call *c = connection(1, GET("/"));
    until_says(c, "refused by");
    CU_ASSERT_NSTRING_EQUAL(call_body(c) + 9, "503", 3);
    CU_ASSERT_EQUAL(rig.n_conns, 0);
    end();
}

static void a_secret_that_goes_away(void) {
    static char path[] = P_tmpdir "/guard-secret-XXXXXX";
    char value[64];
    const char *file_value = value;
    begin();
    int fd = mkstemp(path);
    CU_ASSERT_FATAL(fd >= 0 && write(fd, CANARY "\n", sizeof CANARY) == sizeof CANARY);
    snprintf(value, sizeof value, "Bearer ${file:%s}", path);
    struct guard_host_config cfg = config("api.test");
    cfg.policy.header_values = &file_value;
    host = add(&cfg);
    unlink(path);
    struct call *c = connection(1, GET("/"));
    until_says(c, "refused by");
    CU_ASSERT_NSTRING_EQUAL(call_body(c) + 9, "503", 3);
    CU_ASSERT(strstr(notes, "secret-unreadable") != NULL);
    CU_ASSERT(strstr(troubles, path) != NULL && !strstr(troubles, CANARY));
    CU_ASSERT_EQUAL(rig.n_conns, 0);
    close(fd);
    end();
}

/* ---- TLS ---- */

/* The container's program: TLS over a call's bytes. */
struct client {
    struct call *c;
    SSL_CTX *ctx;
    SSL *ssl;
    BIO *in, *out;
};

static void client_begin(struct client *k, const char *ca, const char *name) {
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

static void client_end(struct client *k) {
    SSL_free(k->ssl);
    SSL_CTX_free(k->ctx);
}

/* Bytes to and fro. */
static void client_carry(struct client *k) {
    char *p;
    long n = BIO_get_mem_data(k->out, &p);
    if (n > 0) {
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
static bool client_handshake(struct client *k) {
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

static size_t client_read(struct client *k, char *out, size_t cap, const char *what) {
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

static void tls_is_ended_here(void) {
    struct client k;
    char answer[2048];
    begin();
    struct guard_host_config cfg = config("api.test");
    cfg.spoken = GUARD_PLAIN; /* TLS in the container, and none to a service on this machine */
    host = add(&cfg);
    asked = 443;
    client_begin(&k, guard_host_ca(host), "api.test");
    CU_ASSERT_FATAL(client_handshake(&k));
    const unsigned char *alpn;
    unsigned n;
    SSL_get0_alpn_selected(k.ssl, &alpn, &n);
    CU_ASSERT(n == 8 && memcmp(alpn, "http/1.1", 8) == 0);
    SSL_write(k.ssl, GET("/tls"), (int)strlen(GET("/tls")));
    client_carry(&k);
    struct service_conn *s = service_wait(0, "\r\n\r\n");
    CU_ASSERT(strstr(service_heard(s), "authorization: Bearer " CANARY) != NULL);
    char want[64];
    snprintf(want, sizeof want, "host: 127.0.0.1:%u\r\n", rig.cfg.port); /* its own name */
    CU_ASSERT(strstr(service_heard(s), want) != NULL);
    service_says(s, OK_HELLO);
    client_read(&k, answer, sizeof answer, "hello");
    CU_ASSERT(strstr(answer, "200 OK") && strstr(answer, "hello"));
    /* An answer that is cut is no answer that has ended: no close_notify comes. */
    SSL_write(k.ssl, GET("/cut"), (int)strlen(GET("/cut")));
    client_carry(&k);
    service_forget(s);
    service_wait(0, "/cut");
    service_says(s, "HTTP/1.1 200 OK\r\n\r\nhalf");
    client_read(&k, answer, sizeof answer, "half");
    io_conn_abort(&s->c);
    client_read(&k, answer, sizeof answer, "never");
    CU_ASSERT_EQUAL(SSL_get_shutdown(k.ssl) & SSL_RECEIVED_SHUTDOWN, 0);
    client_end(&k);
    /* Another name than the stream was opened for. */
    client_begin(&k, guard_host_ca(host), "evil.test");
    CU_ASSERT(!client_handshake(&k));
    client_end(&k);
    end();
}

static void who_does_not_trust_is_told_of(void) {
    struct client k;
    begin();
    struct guard_host_config cfg = config("api.test");
    host = add(&cfg);
    struct guard_host_config o = config("other.test");
    other = add(&o);
    asked = 443;
    client_begin(&k, guard_host_ca(other), "api.test");
    CU_ASSERT(!client_handshake(&k));
    for (int i = 0; i < 20 && !*troubles; i++)
        client_carry(&k);
    CU_ASSERT(strstr(troubles, "api.test: the program in the container does not trust") != NULL);
    client_end(&k);
    end();
}

static void bodies_stream_both_ways(void) {
    begin();
    struct guard_host_config cfg = config("api.test");
    host = add(&cfg);
    struct call *c =
        connection(1, "POST /up HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n");
    struct service_conn *s = service_wait(0, "one");
    service_forget(s);
    says(c, "3\r\ntwo\r\n");
    service_wait(0, "two");
    /* An answer before the request's end, piece by piece. */
    service_says(
        s,
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n");
    until_says(c, "data: 1");
    service_says(s, "9\r\ndata: 2\n\n\r\n");
    until_says(c, "data: 2");
    says(c, "0\r\n\r\n");
    service_wait(0, "0\r\n\r\n");
    service_says(s, "0\r\n\r\n");
    UNTIL(n_ended == 1);
    /* 100-continue, and an upgrade that becomes raw bytes. */
    c = connection(1, "PUT /c HTTP/1.1\r\nHost: api.test\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    until_says(c, "100 Continue");
    says(c, "abc");
    service_forget(s);
    s = service_wait(0, "abc");
    service_says(s, OK_HELLO);
    until_says(c, "hello");
    UNTIL(n_ended == 2);
    service_forget(s);
    c = connection(1, "GET /ws HTTP/1.1\r\nHost: api.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    s = service_wait(0, "upgrade: websocket");
    CU_ASSERT(strstr(service_heard(s), "authorization: Bearer " CANARY) != NULL);
    service_says(s, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nraw");
    until_says(c, "raw");
    says(c, "back");
    service_wait(0, "back");
    end();
}

/* Hosts come and go while connections are open. */
static void a_host_is_taken_away(void) {
    begin();
    struct guard_host_config cfg = config("api.test");
    host = add(&cfg);
    struct call *c = connection(1, GET("/slow"));
    service_wait(0, "/slow");
    guard_host_remove(&host);
    UNTIL(c->closes);
    CU_ASSERT_EQUAL(c->reset, WIRE_CODE_CANCEL);
    host = add(&cfg);
    c = connection(1, GET("/again"));
    struct service_conn *s = service_wait(1, "/again");
    service_says(s, OK_HELLO);
    until_says(c, "hello");
    end();
}

static void out_of_memory(void) {
    begin();
    struct guard_host_config cfg = config("api.test");
    host = add(&cfg);
    io_listener_close(&rig.listener); /* the test's own service must not be short of memory */
    bool more = true;
    for (long i = 0; more && i < 200; i++) {
        struct call *c = connection(1, GET("/x"));
        CU_ASSERT_PTR_NOT_NULL_FATAL(ht_buf_reserve(&c->body, 4096));
        c->body.data[0] = '\0';
        ht_mem_fail_at(i);
        UNTIL(c->closes || strstr(call_body(c), "\r\n\r\n"));
        more = !ht_mem_fail_pending();
        ht_mem_fail_at(-1);
        CU_ASSERT_PTR_NULL(strstr(call_body(c), CANARY));
        mux_stream_release(&c->st);
        settle();
    }
    CU_ASSERT(!more);
    end();
}

int main(void) {
    static const struct tap_test tests[] = {
        {"a request gets its secret", a_request_gets_its_secret},
        {"what is refused is never near the service", what_is_refused_is_never_near_the_service},
        {"nothing is smuggled", nothing_is_smuggled},
        {"a placeholder is for one host", a_placeholder_is_for_one_host},
        {"no secret goes out in the clear", no_secret_goes_out_in_the_clear},
        {"what cannot be noted is refused", what_cannot_be_noted_is_refused},
        {"a secret that goes away", a_secret_that_goes_away},
        {"TLS is ended here", tls_is_ended_here},
        {"who does not trust is told of", who_does_not_trust_is_told_of},
        {"bodies stream both ways", bodies_stream_both_ways},
        {"a host is taken away", a_host_is_taken_away},
        {"out of memory", out_of_memory},
        {NULL, NULL},
    };
    return tap_main("guard", tests);
}
