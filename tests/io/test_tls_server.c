/* TLS for a listener: which certificate, files that change, sessions that are resumed, and who is refused. */
#include "io/tls_server.h"

#include "base/clock.h"
#include "io/cert_priv.h"
#include "io/io_priv.h"
#include "io/tls_server_priv.h"
#include "net_support.h"

#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <sys/stat.h>

static char dir[] = P_tmpdir "/ht-tlssrv-XXXXXX";
static const char plain_answer[] = "HTTP/1.1 400 Bad Request\r\n\r\nTLS";

static char *path(const char *name) {
    static char out[256][200];
    static unsigned next;
    char *p = out[next++ % 256];
    snprintf(p, sizeof out[0], "%s/%s", dir, name);
    return p;
}

static void write_text(const char *name, const char *text) {
    FILE *f = fopen(path(name), "w");
    CU_ASSERT_FATAL(f != NULL && fputs(text, f) >= 0 && fclose(f) == 0);
}

/* A certificate for `names` ("DNS:a.test,DNS:*.b.test") in NAME.pem, and its key in NAME.key. */
static void make_pair(const char *name, const char *names, EVP_PKEY *key, long seconds) {
    char file[100];
    X509 *x = io_cert_new(key, seconds, name, NULL);
    bool ok = x && io_cert_add(x, x, NID_subject_alt_name, names);
    x = io_cert_sign(x, key, ok);
    CU_ASSERT_PTR_NOT_NULL_FATAL(x);
    snprintf(file, sizeof file, "%s.pem", name);
    FILE *f = fopen(path(file), "w");
    CU_ASSERT_FATAL(f != NULL && PEM_write_X509(f, x) == 1 && fclose(f) == 0);
    snprintf(file, sizeof file, "%s.key", name);
    f = fopen(path(file), "w");
    CU_ASSERT_FATAL(f != NULL && PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) == 1 && fclose(f) == 0);
    X509_free(x);
}

static void make_ec(const char *name, const char *names) {
    EVP_PKEY *key = EVP_EC_gen("P-256");
    make_pair(name, names, key, 86400);
    EVP_PKEY_free(key);
}

static int open_it(void *ctx, const char *p, bool is_key, struct ht_errmsg *err) {
    (void)ctx, (void)is_key;
    int fd = open(p, O_RDONLY | O_CLOEXEC);
    return fd >= 0 ? fd : ht_fail(err, HT_EIO, "%s: %s", p, strerror(errno));
}

static struct io_tls_server *try_serving(const struct io_tls_pair *pairs, size_t n, struct ht_errmsg *err) {
    return io_tls_server_create(
        &(struct io_tls_server_config){.pairs = pairs, .n_pairs = n, .open = open_it, .to_plain_http = plain_answer},
        err);
}

static struct io_tls_server *serving(const struct io_tls_pair *pairs, size_t n) {
    struct ht_errmsg err = {""};
    struct io_tls_server *s = try_serving(pairs, n, &err);
    if (!s)
        printf("# %s\n", err.text);
    CU_ASSERT_PTR_NOT_NULL_FATAL(s);
    return s;
}

/* ---- a client ---- */

struct visit {
    struct io_conn *ends[2];
    SSL *client;
    struct io_accept *accept;
    struct io_conn *accepted;
    bool failed;
    enum io_accept_why why;
    char text[300];
};

static void on_accepted(void *ctx, struct io_conn *c) {
    struct visit *v = ctx;
    v->accept = NULL;
    v->accepted = c;
}

static void on_failed(void *ctx, enum io_accept_why why, const char *text) {
    struct visit *v = ctx;
    v->accept = NULL;
    v->failed = true;
    v->why = why;
    snprintf(v->text, sizeof v->text, "%s", text);
}

static const struct io_accept_ops accept_ops = {on_accepted, on_failed};

static SSL_CTX *client_ctx(void) {
    SSL_CTX *c = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_security_level(c, 0);
    SSL_CTX_set_min_proto_version(c, TLS1_VERSION);
    SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    return c;
}

static void begin(struct visit *v, struct io_tls_server *s) {
    struct ht_errmsg err;
    *v = (struct visit){.client = NULL};
    CU_ASSERT_EQUAL_FATAL(io_conn_pair(loop, v->ends), HT_OK);
    v->accept = io_accept_server(loop, v->ends[0], s, 5000, &accept_ops, v, &err);
    v->ends[0] = NULL;
    CU_ASSERT_PTR_NOT_NULL_FATAL(v->accept);
}

/* A handshake, with a byte each way behind it, so that tickets arrive. True: it came about. */
static bool visit(struct visit *v, struct io_tls_server *s, SSL_CTX *ctx, const char *asks_for, SSL_SESSION *session) {
    char byte = 'x';
    begin(v, s);
    v->client = SSL_new(ctx);
    SSL_set_fd(v->client, io_conn_fd(v->ends[1]));
    if (asks_for)
        SSL_set_tlsext_host_name(v->client, asks_for);
    if (session) {
        session = SSL_SESSION_dup(session); /* a TLS 1.3 client uses one once */
        SSL_set_session(v->client, session);
        SSL_SESSION_free(session);
    }
    for (int rc = 0; rc != 1 || (!v->accepted && !v->failed);) {
        rc = SSL_connect(v->client);
        if (rc != 1 && SSL_get_error(v->client, rc) != SSL_ERROR_WANT_READ)
            break;
        io_loop_turn(loop, false);
    }
    for (int i = 0; i < 1000 && !v->accepted && !v->failed; i++)
        io_loop_turn(loop, false);
    if (!v->accepted)
        return false;
    CU_ASSERT_EQUAL(io_conn_write(v->accepted, &(struct iovec){.iov_base = &byte, .iov_len = 1}, 1), 1);
    CU_ASSERT_EQUAL(SSL_read(v->client, &byte, 1), 1);
    return true;
}

static void leave(struct visit *v) {
    if (v->client) /* or OpenSSL thinks that it was cut, and forgets its session */
        SSL_set_shutdown(v->client, SSL_SENT_SHUTDOWN);
    SSL_free(v->client);
    io_accept_cancel(&v->accept);
    io_conn_close(&v->accepted);
    io_conn_close(&v->ends[1]);
    ERR_clear_error();
}

static void common_name(const struct visit *v, char out[80]) {
    X509 *x = SSL_get1_peer_certificate(v->client);
    X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, out, 80);
    X509_free(x);
}

/* ---- the tests ---- */

static void a_name_gets_its_certificate(void) {
    static const struct {
        const char *asked, *got;
    } cases[] = {
        {"one.test", "one"},         {"ONE.Test", "one"},         {"x.wild.test", "wild"},
        {"y.WILD.test", "wild"},     {"in.wild.test", "inner"},   {"a.b.wild.test", "one"},
        {"wild.test", "one"},        {"elsewhere.test", "one"},   {NULL, "one"},
        {"too.exact.test", "exact"}, {"other.exact.test", "one"},
    };
    make_ec("one", "DNS:one.test");
    make_ec("wild", "DNS:*.wild.test");
    make_ec("inner", "DNS:in.wild.test,IP:127.0.0.1");
    make_ec("exact", "DNS:exact.test,DNS:Too.Exact.Test");
    struct io_tls_pair pairs[] = {{path("one.pem"), path("one.key")},
                                  {path("wild.pem"), path("wild.key")},
                                  {path("inner.pem"), path("inner.key")},
                                  {path("exact.pem"), path("exact.key")}};
    struct io_tls_server *s = serving(pairs, 4);
    SSL_CTX *ctx = client_ctx();
    for (size_t i = 0; i < HT_ARRAY_LEN(cases); i++) {
        struct visit v;
        char cn[80] = "";
        CU_ASSERT_FATAL(visit(&v, s, ctx, cases[i].asked, NULL));
        common_name(&v, cn);
        if (strcmp(cn, cases[i].got) != 0)
            printf("# %s got %s\n", cases[i].asked ? cases[i].asked : "(none)", cn);
        CU_ASSERT_STRING_EQUAL(cn, cases[i].got);
        leave(&v);
    }
    SSL_CTX_free(ctx);
    io_tls_server_destroy(&s);
}

static void keys_of_two_kinds(void) {
    EVP_PKEY *rsa = EVP_RSA_gen(2048);
    make_pair("rsa", "DNS:one.test", rsa, 86400);
    make_ec("ec", "DNS:one.test");
    struct io_tls_pair pairs[] = {{path("rsa.pem"), path("rsa.key")}, {path("ec.pem"), path("ec.key")}};
    struct io_tls_server *s = serving(pairs, 2);
    static const char *const ciphers[] = {"ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"};
    for (int i = 0; i < 2; i++) {
        SSL_CTX *ctx = client_ctx();
        struct visit v;
        char cn[80] = "";
        SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
        SSL_CTX_set_cipher_list(ctx, ciphers[i]);
        CU_ASSERT(visit(&v, s, ctx, "one.test", NULL));
        common_name(&v, cn);
        CU_ASSERT_STRING_EQUAL(cn, i == 0 ? "rsa" : "ec");
        leave(&v);
        SSL_CTX_free(ctx);
    }
    EVP_PKEY_free(rsa);
    io_tls_server_destroy(&s);
}

static struct {
    int n, err;
    char text[300];
} told;

static void tell(void *ctx, const struct io_tls_cert *c, int err, const char *text) {
    (void)ctx, (void)c;
    told.n++;
    told.err = err;
    snprintf(told.text, sizeof told.text, "%s", text);
}

static int renewed(struct io_tls_server *s, bool all) {
    told.n = 0;
    io_tls_server_renew(s, all, tell, NULL);
    return told.n;
}

static void expect_name(struct io_tls_server *s, const char *asked, const char *wanted) {
    SSL_CTX *ctx = client_ctx();
    struct visit v;
    char cn[80] = "";
    CU_ASSERT_FATAL(visit(&v, s, ctx, asked, NULL));
    common_name(&v, cn);
    CU_ASSERT_STRING_EQUAL(cn, wanted);
    leave(&v);
    SSL_CTX_free(ctx);
}

static void move_over(const char *from, const char *to) { CU_ASSERT_EQUAL_FATAL(rename(path(from), path(to)), 0); }

static void files_that_change(void) {
    make_ec("old", "DNS:one.test");
    make_ec("new", "DNS:one.test,DNS:more.test");
    make_ec("first", "DNS:first.test");
    struct io_tls_pair pairs[] = {{path("first.pem"), path("first.key")}, {path("old.pem"), path("old.key")}};
    struct io_tls_server *s = serving(pairs, 2);
    struct visit during;
    SSL_CTX *ctx = client_ctx();
    CU_ASSERT_EQUAL(renewed(s, false), 0);
    CU_ASSERT_FATAL(visit(&during, s, ctx, "one.test", NULL)); /* stays connected */
    /* One file after the other: what does not belong together for a moment is nothing to tell. */
    move_over("new.pem", "old.pem");
    CU_ASSERT_EQUAL(renewed(s, false), 0);
    expect_name(s, "one.test", "old");
    move_over("new.key", "old.key");
    CU_ASSERT(renewed(s, false) == 1 && told.err == HT_OK);
    expect_name(s, "more.test", "new");
    CU_ASSERT_EQUAL(renewed(s, false), 0);
    /* What stays broken is told once, and once more to whoever asks. */
    write_text("old.key", "no key\n");
    CU_ASSERT_EQUAL(renewed(s, false), 0);
    CU_ASSERT(renewed(s, false) == 1 && told.err < 0 && strstr(told.text, "old.key") != NULL);
    CU_ASSERT_EQUAL(renewed(s, false), 0);
    CU_ASSERT(renewed(s, true) == 2 && told.err < 0);
    expect_name(s, "more.test", "new");
    unlink(path("old.pem"));
    CU_ASSERT(renewed(s, true) == 2 && told.err < 0);
    expect_name(s, "more.test", "new");
    make_ec("old", "DNS:third.test");
    CU_ASSERT(renewed(s, false) == 1 && told.err == HT_OK);
    expect_name(s, "third.test", "old");
    expect_name(s, "more.test", "first");
    char byte = 'y';
    CU_ASSERT_EQUAL(io_conn_write(during.accepted, &(struct iovec){.iov_base = &byte, .iov_len = 1}, 1), 1);
    CU_ASSERT(SSL_read(during.client, &byte, 1) == 1 && byte == 'y');
    leave(&during);
    SSL_CTX_free(ctx);
    io_tls_server_destroy(&s);
}

static SSL_SESSION *kept;

static int keep_session(SSL *ssl, SSL_SESSION *session) {
    (void)ssl;
    SSL_SESSION_free(kept);
    kept = session;
    return 1;
}

/* A ticket begins with the name of its key. */
static bool same_key(const SSL_SESSION *a, const SSL_SESSION *b) {
    const unsigned char *x, *y;
    size_t n, m;
    SSL_SESSION_get0_ticket(a, &x, &n);
    SSL_SESSION_get0_ticket(b, &y, &m);
    return n > 16 && m > 16 && memcmp(x, y, 16) == 0;
}

static bool same_ticket(const SSL_SESSION *a, const SSL_SESSION *b) {
    const unsigned char *x, *y;
    size_t n, m;
    SSL_SESSION_get0_ticket(a, &x, &n);
    SSL_SESSION_get0_ticket(b, &y, &m);
    return n == m && memcmp(x, y, n) == 0;
}

static void sessions_are_resumed(void) {
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    make_ec("one", "DNS:one.test");
    struct io_tls_pair pair = {path("one.pem"), path("one.key")};
    for (int i = 0; i < 2; i++) {
        struct io_tls_server *s = serving(&pair, 1);
        SSL_CTX *ctx = client_ctx();
        struct visit v;
        SSL_CTX_set_max_proto_version(ctx, versions[i]);
        SSL_CTX_sess_set_new_cb(ctx, keep_session);
        CU_ASSERT_FATAL(visit(&v, s, ctx, "one.test", NULL));
        CU_ASSERT(!io_conn_resumed(v.accepted) && kept != NULL);
        leave(&v);
        SSL_SESSION *first = SSL_SESSION_dup(kept);
        CU_ASSERT(visit(&v, s, ctx, "one.test", first));
        CU_ASSERT(v.accepted && io_conn_resumed(v.accepted) && SSL_session_reused(v.client));
        leave(&v);
        if (versions[i] == TLS1_3_VERSION) /* a resumed connection has another ticket for the next one */
            CU_ASSERT(!same_ticket(first, kept));
        renewed(s, true); /* the certificates are read again, the keys of tickets stay */
        CU_ASSERT(visit(&v, s, ctx, "one.test", first));
        CU_ASSERT(v.accepted && io_conn_resumed(v.accepted));
        leave(&v);
        /* A key opens what it has sealed while the next one seals, and is gone after that. */
        CU_ASSERT(same_key(first, kept));
        ht_clock_skip(UINT64_C(1000000) * (IO_TICKET_KEY_S + 1));
        CU_ASSERT(visit(&v, s, ctx, "one.test", first));
        CU_ASSERT(v.accepted && io_conn_resumed(v.accepted));
        leave(&v);
        CU_ASSERT(versions[i] == TLS1_2_VERSION || !same_key(first, kept)); /* OpenSSL tells of it in 1.3 only */
        ht_clock_skip(UINT64_C(1000000) * (IO_TICKET_KEY_S + 1));
        CU_ASSERT(visit(&v, s, ctx, "one.test", first));
        CU_ASSERT(v.accepted && !io_conn_resumed(v.accepted));
        leave(&v);
        io_tls_server_destroy(&s);
        s = serving(&pair, 1); /* another process: a full handshake, and no error */
        CU_ASSERT(visit(&v, s, ctx, "one.test", kept));
        CU_ASSERT(v.accepted && !io_conn_resumed(v.accepted));
        leave(&v);
        SSL_SESSION_free(first);
        SSL_SESSION_free(kept);
        kept = NULL;
        SSL_CTX_free(ctx);
        io_tls_server_destroy(&s);
    }
}

static void who_is_refused(void) {
    static const unsigned char h2[] = "\x02h2", both[] = "\x02h2\x08http/1.1";
    make_ec("one", "DNS:one.test");
    struct io_tls_pair pair = {path("one.pem"), path("one.key")};
    struct io_tls_server *s = serving(&pair, 1);
    struct visit v;
    for (int i = 0; i < 4; i++) {
        SSL_CTX *ctx = client_ctx();
        if (i == 0)
            SSL_CTX_set_max_proto_version(ctx, TLS1_1_VERSION);
        if (i == 1)
            SSL_CTX_set_alpn_protos(ctx, h2, sizeof h2 - 1);
        if (i == 2)
            SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
        if (i == 2)
            SSL_CTX_set_cipher_list(ctx, "ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES128-SHA");
        if (i == 3)
            SSL_CTX_set_alpn_protos(ctx, both, sizeof both - 1);
        CU_ASSERT_EQUAL(visit(&v, s, ctx, "one.test", NULL), i == 3);
        CU_ASSERT(i == 3 || (v.failed && v.why == IO_ACCEPT_UNMATCHED));
        if (i < 3 && v.why != IO_ACCEPT_UNMATCHED)
            printf("# %d: %d %s\n", i, v.why, v.text);
        leave(&v);
        SSL_CTX_free(ctx);
    }
    static const struct {
        const char *bytes;
        enum io_accept_why why;
        const char *answer;
    } said[] = {
        {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", IO_ACCEPT_PLAIN_HTTP, plain_answer},
        {"CONNECT a:443 HTTP/1.1\r\n\r\n", IO_ACCEPT_PLAIN_HTTP, plain_answer},
        {"nothing that anybody knows\r\n\r\n", IO_ACCEPT_BROKEN, NULL},
        {"\x16\x03\x01\x7f\x7f and more than a record holds", IO_ACCEPT_BROKEN, NULL},
        {"", IO_ACCEPT_LEFT, NULL},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(said); i++) {
        char got[200] = "";
        begin(&v, s);
        struct iovec bytes = {(char *)(uintptr_t)said[i].bytes, strlen(said[i].bytes)};
        if (bytes.iov_len)
            CU_ASSERT_EQUAL(io_conn_write(v.ends[1], &bytes, 1), (ssize_t)bytes.iov_len);
        if (said[i].why == IO_ACCEPT_LEFT)
            io_conn_shutdown(v.ends[1]);
        for (int n = 0; n < 100 && !v.failed; n++)
            io_loop_turn(loop, false);
        if (v.why != said[i].why)
            printf("# %zu: %d %s\n", i, v.why, v.text);
        CU_ASSERT(v.failed && v.why == said[i].why);
        if (said[i].answer) {
            CU_ASSERT(io_conn_read(v.ends[1], got, sizeof got - 1) == (ssize_t)strlen(said[i].answer));
            CU_ASSERT_STRING_EQUAL(got, said[i].answer);
            CU_ASSERT_EQUAL(io_conn_read(v.ends[1], got, sizeof got), HT_EOF);
        }
        leave(&v);
    }
    begin(&v, s);
    for (int n = 0; n < 3; n++) {
        ht_clock_skip(UINT64_C(6000000));
        io_loop_turn(loop, false);
    }
    CU_ASSERT(v.failed && v.why == IO_ACCEPT_TIMED_OUT);
    leave(&v);
    turns(3);
    io_tls_server_destroy(&s);
}

static void what_cannot_be_used(void) {
    EVP_PKEY *small = EVP_RSA_gen(1024), *key = EVP_EC_gen("P-256");
    make_pair("small", "DNS:one.test", small, 86400);
    make_pair("good", "DNS:one.test", key, 86400);
    make_ec("another", "DNS:one.test");
    write_text("empty.pem", "");
    FILE *f = fopen(path("locked.key"), "w");
    static unsigned char word[] = "x";
    CU_ASSERT_FATAL(f && PEM_write_PrivateKey(f, key, EVP_aes_128_cbc(), word, 1, NULL, NULL) == 1 && fclose(f) == 0);
    static const struct {
        const char *cert, *key, *says;
    } cases[] = {
        {"good.pem", "another.key", "not the one of the first certificate"},
        {"small.pem", "small.key", "too small"},
        {"empty.pem", "good.key", "no certificate"},
        {"good.pem", "empty.pem", "no private key"},
        {"good.pem", "locked.key", "encrypted"},
        {"good.pem", NULL, "no private key"},
        {"none.pem", "good.key", "No such file"},
        {"good.pem", "none.key", "No such file"},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(cases); i++) {
        struct ht_errmsg err = {""};
        struct io_tls_pair pair = {path(cases[i].cert), cases[i].key ? path(cases[i].key) : NULL};
        struct io_tls_server *s = try_serving(&pair, 1, &err);
        CU_ASSERT_PTR_NULL(s);
        if (!strstr(err.text, cases[i].says))
            printf("# %zu: %s\n", i, err.text);
        CU_ASSERT(strstr(err.text, cases[i].says) != NULL);
        io_tls_server_destroy(&s);
    }
    EVP_PKEY_free(small);
    EVP_PKEY_free(key);
}

static void one_that_is_made_here(void) {
    static const char *const names[] = {"localhost", "127.0.0.1", "tunnel.test", "*.tunnel.test"};
    struct ht_errmsg err;
    struct io_tls_server *s = io_tls_server_create(
        &(struct io_tls_server_config){.self_signed = names, .n_self_signed = 4, .open = open_it}, &err);
    CU_ASSERT_PTR_NOT_NULL_FATAL(s);
    struct io_tls_cert c;
    CU_ASSERT(io_tls_server_cert(s, 0, &c) && c.file == NULL && strncmp(c.fingerprint, "sha256:", 7) == 0);
    CU_ASSERT_EQUAL(strlen(c.fingerprint), 71);
    SSL_CTX *ctx = client_ctx();
    struct visit v;
    CU_ASSERT_FATAL(visit(&v, s, ctx, "a.tunnel.test", NULL));
    X509 *x = SSL_get1_peer_certificate(v.client);
    CU_ASSERT_EQUAL(X509_check_host(x, "a.tunnel.test", 0, 0, NULL), 1);
    CU_ASSERT_EQUAL(X509_check_ip_asc(x, "127.0.0.1", 0), 1);
    X509_free(x);
    leave(&v);
    SSL_CTX_free(ctx);
    io_tls_server_destroy(&s);
}

static void append_file(struct ht_buf *b, const char *name) {
    char text[8192];
    FILE *f = fopen(name, "r");
    size_t n = f ? fread(text, 1, sizeof text, f) : 0;
    CU_ASSERT_FATAL(n > 0 && n < sizeof text && fclose(f) == 0);
    CU_ASSERT_EQUAL_FATAL(ht_buf_append(b, text, n), HT_OK);
}

/* The fingerprint of a certificate for those names. *used: it is the one that stands in `before`. */
static void self_signed(const char *const *names, size_t n, struct ht_slice before, bool *used,
                        char out[IO_FINGERPRINT], struct ht_buf *keep) {
    struct ht_errmsg err;
    struct io_tls_server *s = io_tls_server_create(
        &(struct io_tls_server_config){.self_signed = names, .n_self_signed = n, .open = open_it, .kept = before},
        &err);
    struct io_tls_cert c;
    CU_ASSERT_FATAL(s && io_tls_server_cert(s, 0, &c));
    *used = c.kept;
    memcpy(out, c.fingerprint, IO_FINGERPRINT);
    if (keep)
        CU_ASSERT_EQUAL(io_tls_server_keep(s, keep), HT_OK);
    io_tls_server_destroy(&s);
}

static void one_of_before(void) {
    static const char *const names[] = {"localhost", "127.0.0.1", "::1", "*.tunnel.test"};
    char first[IO_FINGERPRINT], again[IO_FINGERPRINT];
    struct ht_buf text = {0}, same = {0};
    bool used;
    self_signed(names, 4, ht_slice_of(NULL, 0), &used, first, &text);
    CU_ASSERT_FALSE(used);
    self_signed(names, 4, ht_buf_slice(&text), &used, again, &same);
    CU_ASSERT(used && strcmp(first, again) == 0);
    CU_ASSERT(ht_slice_eq(ht_buf_slice(&text), ht_buf_slice(&same)));
    self_signed(names, 3, ht_buf_slice(&text), &used, again, NULL); /* other names */
    CU_ASSERT(!used && strcmp(first, again) != 0);
    char *raw = malloc(ht_buf_size(&text));
    for (size_t cut = 0; cut < ht_buf_size(&text); cut += cut < 4 ? 1 : 37) {
        memcpy(raw, ht_buf_head(&text), ht_buf_size(&text));
        self_signed(names, 4, ht_slice_of(raw, cut), &used, again, NULL);
        CU_ASSERT(!used && strcmp(first, again) != 0);
        raw[cut] ^= 4;
        self_signed(names, 4, ht_slice_of(raw, ht_buf_size(&text)), &used, again, NULL);
        CU_ASSERT(!used || strcmp(first, again) == 0); /* what stands between the lines is nothing */
    }
    free(raw);
    ht_buf_free(&text);
    ht_buf_free(&same);
    struct io_tls_pair pair = {path("good.pem"), path("good.key")};
    struct io_tls_server *s = serving(&pair, 1);
    CU_ASSERT_EQUAL(io_tls_server_keep(s, &text), HT_EINVAL);
    io_tls_server_destroy(&s);
}

/* One that ends soon is made anew. */
static void one_that_ends_soon(void) {
    static const char *const names[] = {"one.test"};
    char made[IO_FINGERPRINT];
    static const struct {
        long days;
        bool used;
    } cases[] = {{60, true}, {20, false}, {-1, false}};
    for (size_t i = 0; i < HT_ARRAY_LEN(cases); i++) {
        EVP_PKEY *key = EVP_EC_gen("P-256");
        struct ht_buf text = {0};
        bool used;
        make_pair("self", "DNS:one.test", key, cases[i].days * 86400);
        append_file(&text, path("self.pem"));
        append_file(&text, path("self.key"));
        self_signed(names, 1, ht_buf_slice(&text), &used, made, NULL);
        CU_ASSERT_EQUAL(used, cases[i].used);
        ht_buf_free(&text);
        EVP_PKEY_free(key);
    }
}

/* Each of these is a whole record, or many; what follows is not awaited. */
static const struct {
    const char *bytes;
    size_t n;
    bool refused;
} hellos[] = {
    {"\x16\x03\x01\x00\x04\x01\x02\x01\x44", 9, true},
    {"\x16\x03\x01\x00\x04\x01\x00\x40\x01", 9, true},
    {"\x16\x03\x01\x00\x04\x01\x00\x40\x00", 9, false},
    {"\x16\x03\x01\x40\x00\x01\xff\xff\xff", 9, true},
    {"\x16\x03\x01\0\x01\x01\x16\x03\x01\0\x01\x00\x16\x03\x01\0\x01\x40\x16\x03\x01\0\x01\x01", 24, true},
    {"\x16\x03\x01\0\x01\x01\x16\x03\x01\0\x01\x00\x16\x03\x01\0\x01\x40\x16\x03\x01\0\x01\x00", 24, false},
};

static bool too_long(struct visit *v) {
    for (int i = 0; i < 50 && !v->failed; i++)
        io_loop_turn(loop, false);
    return v->failed && v->why == IO_ACCEPT_BROKEN && strstr(v->text, "ClientHello is too long");
}

static void a_long_hello(void) {
    make_ec("one", "DNS:one.test");
    struct io_tls_pair pair = {path("one.pem"), path("one.key")};
    struct io_tls_server *s = serving(&pair, 1);
    struct visit v;
    for (size_t i = 0; i < HT_ARRAY_LEN(hellos); i++) {
        for (size_t each = 1; each <= hellos[i].n; each += hellos[i].n - 1) { /* byte by byte, and at once */
            begin(&v, s);
            for (size_t at = 0; at < hellos[i].n; at += each) {
                CU_ASSERT_EQUAL(send(io_conn_fd(v.ends[1]), hellos[i].bytes + at, each, MSG_NOSIGNAL), (ssize_t)each);
                io_loop_turn(loop, false);
            }
            CU_ASSERT_EQUAL(too_long(&v), hellos[i].refused);
            leave(&v);
        }
    }
    io_tls_server_destroy(&s);
}

/* A client whose first key share nobody wants says ClientHello twice (RFC 8446 4.1.4). */
static void a_second_hello(void) {
    make_ec("one", "DNS:one.test");
    struct io_tls_pair pair = {path("one.pem"), path("one.key")};
    struct io_tls_server *s = serving(&pair, 1);
    SSL_CTX *ctx = client_ctx();
    struct visit v;
    CU_ASSERT_EQUAL(SSL_CTX_set1_groups_list(ctx, "P-521:X25519"), 1);
    CU_ASSERT(visit(&v, s, ctx, "one.test", NULL));
    leave(&v);
    begin(&v, s);
    v.client = SSL_new(ctx);
    SSL_set_fd(v.client, io_conn_fd(v.ends[1]));
    CU_ASSERT_EQUAL(SSL_connect(v.client), -1);
    for (int i = 0; i < 50; i++)
        io_loop_turn(loop, false);
    CU_ASSERT_FALSE(v.failed);
    CU_ASSERT_EQUAL(send(io_conn_fd(v.ends[1]), "\x14\x03\x03\0\x01\x01", 6, MSG_NOSIGNAL), 6);
    CU_ASSERT_EQUAL(send(io_conn_fd(v.ends[1]), hellos[0].bytes, 9, MSG_NOSIGNAL), 9);
    CU_ASSERT(too_long(&v));
    leave(&v);
    SSL_CTX_free(ctx);
    io_tls_server_destroy(&s);
}

int main(void) {
    static const struct tap_test tests[] = {
        {"the name that the client asks for decides the certificate", a_name_gets_its_certificate},
        {"a name may have a certificate with an RSA key and one with an EC key", keys_of_two_kinds},
        {"files that change are read again, and wrong ones change nothing", files_that_change},
        {"sessions are resumed from tickets, and the keys of tickets change", sessions_are_resumed},
        {"old versions, wrong protocols, plain HTTP and broken handshakes are refused", who_is_refused},
        {"certificates and keys that cannot be used are explained", what_cannot_be_used},
        {"a self-signed certificate has the names and addresses that it was made for", one_that_is_made_here},
        {"one that an earlier server has made", one_of_before},
        {"one of them that ends soon", one_that_ends_soon},
        {"a ClientHello that is too long is refused", a_long_hello},
        {"a client may send a second ClientHello", a_second_hello},
        {NULL, NULL},
    };
    io_ignore_sigpipe();
    if (!mkdtemp(dir) || !(loop = io_loop_create()))
        return 1;
    int rc = tap_main("tls server", tests);
    io_loop_destroy(&loop);
    char cmd[300];
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    return system(cmd) == 0 ? rc : 1;
}
