/* The machine's own authority, and the server's half of TLS. */
#include "io/authority_priv.h"
#include "io/io_priv.h"
#include "net_support.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <unistd.h>

static struct io_authority *authority;
static char key[IO_KEY_MAX];
static size_t key_len;

/* A client that trusts `pem`, on one end of a pair whose other end is ended for a host. */
struct meeting {
    struct io_loop *loop;
    struct io_conn *ends[2];
    struct io_accept *accept;
    struct io_tls *tls;
    struct io_conn *accepted;
    bool failed;
    char text[512];
    int client; /* HT_EAGAIN until its handshake is over */
    struct ht_errmsg client_text;
};

static void on_accepted(void *ctx, struct io_conn *c) {
    struct meeting *m = ctx;
    m->accept = NULL;
    m->accepted = c;
}

static void on_failed(void *ctx, enum io_accept_why why, const char *text) {
    struct meeting *m = ctx;
    (void)why;
    m->accept = NULL;
    m->failed = true;
    snprintf(m->text, sizeof m->text, "%s", text);
}

static const struct io_accept_ops ops = {.accepted = on_accepted, .failed = on_failed};

static void client_step(void *ctx) {
    struct meeting *m = ctx;
    int want = 0;
    if (m->client != HT_EAGAIN)
        return;
    m->client = io_tls_handshake(io_conn_ssl(m->ends[1]), "client", &want, &m->client_text);
    io_conn_read_on(m->ends[1], m->client == HT_EAGAIN && want == EV_READ);
    io_conn_want_write(m->ends[1], m->client == HT_EAGAIN && want == EV_WRITE);
    if (m->client != HT_EAGAIN && m->client != HT_OK)
        m->ends[1]->more->broken = true;
}

static const struct io_conn_ops client_ops = {client_step, client_step};

static struct io_tls *trusting(const char *pem) {
    char path[] = P_tmpdir "/ht-ca-XXXXXX";
    struct ht_errmsg err;
    int fd = mkstemp(path);
    CU_ASSERT_FATAL(fd >= 0 && write(fd, pem, strlen(pem)) == (ssize_t)strlen(pem));
    close(fd);
    struct io_tls *tls = io_tls_create(path, &err);
    unlink(path);
    CU_ASSERT_PTR_NOT_NULL_FATAL(tls);
    return tls;
}

static void meet(struct meeting *m, struct io_tls_host *e, const char *pem, const char *asks_for) {
    *m = (struct meeting){.loop = io_loop_create(), .client = HT_EAGAIN, .tls = trusting(pem)};
    struct ht_errmsg err;
    CU_ASSERT_EQUAL_FATAL(io_conn_pair(m->loop, m->ends), HT_OK);
    m->accept = io_accept_start(m->loop, m->ends[0], e, 5000, &ops, m, &err);
    CU_ASSERT_PTR_NOT_NULL_FATAL(m->accept);
    m->ends[0] = NULL;
    SSL *ssl = io_tls_session(m->tls, m->ends[1], asks_for, &err);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ssl);
    CU_ASSERT_FATAL(io_conn_set_ssl(m->ends[1], ssl));
    io_conn_set_ops(m->ends[1], &client_ops, m);
    client_step(m);
    while (m->client == HT_EAGAIN || !(m->accepted || m->failed))
        io_loop_turn(m->loop, true);
}

static void part(struct meeting *m) {
    io_accept_cancel(&m->accept);
    io_conn_close(&m->accepted);
    io_conn_close(&m->ends[1]);
    io_tls_destroy(&m->tls);
    io_loop_destroy(&m->loop);
}

static struct io_tls_host *host_of(const char *host) {
    struct ht_errmsg err = {""};
    struct io_tls_host *e = io_tls_host_create(authority, host, &err);
    if (!e)
        printf("# %s\n", err.text);
    CU_ASSERT_PTR_NOT_NULL_FATAL(e);
    return e;
}

static void begin(void) {
    struct ht_errmsg err;
    CU_ASSERT_EQUAL_FATAL(io_authority_make_key(key, &key_len, &err), HT_OK);
    authority = io_authority_create(key, key_len, &err);
    CU_ASSERT_PTR_NOT_NULL_FATAL(authority);
}

static void one_host_is_served(void) {
    static const char *const hosts[] = {
        "api.example.test", "127.0.0.1", "fd00::1",
        "a-name-that-is-much-longer-than-the-sixty-four-characters-of-a.common.name.example.test"};
    begin();
    for (size_t i = 0; i < HT_ARRAY_LEN(hosts); i++) {
        struct io_tls_host *e = host_of(hosts[i]);
        struct meeting m;
        char buf[8];
        meet(&m, e, io_tls_host_ca(e), hosts[i]);
        if (m.client)
            printf("# %s: %s\n", hosts[i], m.client_text.text);
        CU_ASSERT_EQUAL(m.client, HT_OK);
        CU_ASSERT_PTR_NOT_NULL_FATAL(m.accepted);
        const unsigned char *alpn;
        unsigned n;
        SSL_get0_alpn_selected(io_conn_ssl(m.ends[1]), &alpn, &n);
        CU_ASSERT(n == 8 && memcmp(alpn, "http/1.1", 8) == 0);
        /* Both ways, and a cut is none of an end. */
        CU_ASSERT_EQUAL(io_conn_write(m.ends[1], &(struct iovec){.iov_base = key, .iov_len = 4}, 1), 4);
        CU_ASSERT_EQUAL(io_conn_read(m.accepted, buf, 4), 4);
        io_conn_abort(&m.accepted);
        CU_ASSERT_EQUAL(io_conn_read(m.ends[1], buf, 4), HT_ERESET);
        part(&m);
        io_tls_host_destroy(&e);
    }
    io_authority_destroy(&authority);
}

static void another_host_is_refused(void) {
    begin();
    struct io_tls_host *one = host_of("one.test"), *two = host_of("two.test");
    struct meeting m;
    meet(&m, one, io_tls_host_ca(one), "two.test"); /* a name that the stream was not opened for */
    CU_ASSERT(m.failed && m.client < 0);
    part(&m);
    meet(&m, two, io_tls_host_ca(one), "two.test"); /* one's certificate makes nobody trust two */
    CU_ASSERT(m.client < 0);
    CU_ASSERT(m.failed || m.accepted);
    if (m.failed)
        CU_ASSERT(strstr(m.text, "does not trust") != NULL);
    part(&m);
    io_tls_host_destroy(&one);
    io_tls_host_destroy(&two);
    io_authority_destroy(&authority);
}

static X509 *certificate(const char *pem) {
    BIO *b = BIO_new_mem_buf(pem, -1);
    X509 *x = PEM_read_bio_X509(b, NULL, NULL, NULL);
    BIO_free(b);
    CU_ASSERT_PTR_NOT_NULL_FATAL(x);
    return x;
}

/* The chain of `host`'s certificate below `ca`, as OpenSSL judges it. */
static long verdict(struct io_tls_host *e, X509 *ca, const char *host) {
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    SSL *ssl = io_tls_host_session(e, 0, NULL);
    X509_STORE_add_cert(store, ca);
    X509_STORE_CTX_init(ctx, store, SSL_get_certificate(ssl), NULL);
    X509_VERIFY_PARAM_set1_host(X509_STORE_CTX_get0_param(ctx), host, 0);
    long rc = X509_verify_cert(ctx) == 1 ? X509_V_OK : X509_STORE_CTX_get_error(ctx);
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    SSL_free(ssl);
    return rc;
}

static void what_the_certificates_say(void) {
    begin();
    struct io_tls_host *e = host_of("one.test");
    X509 *ca = certificate(io_tls_host_ca(e));
    SSL *ssl = io_tls_host_session(e, 0, NULL);
    X509 *leaf = SSL_get_certificate(ssl);
    int days = 0, seconds = 0;
    CU_ASSERT_EQUAL(X509_check_ca(ca), 1);
    CU_ASSERT_EQUAL(X509_check_ca(leaf), 0);
    CU_ASSERT_EQUAL(X509_get_pathlen(ca), 0);
    CU_ASSERT(X509_get_extension_flags(leaf) & EXFLAG_XKUSAGE);
    CU_ASSERT_EQUAL(X509_get_extended_key_usage(leaf), XKU_SSL_SERVER);
    /* A day and the hour for clocks that are behind. */
    CU_ASSERT(ASN1_TIME_diff(&days, &seconds, X509_get0_notBefore(leaf), X509_get0_notAfter(leaf)) == 1);
    CU_ASSERT(days == 1 && seconds >= 3599 && seconds <= 3601);
    CU_ASSERT(X509_cmp_current_time(X509_get0_notBefore(leaf)) < 0);
    int critical = 0;
    NAME_CONSTRAINTS *nc = X509_get_ext_d2i(ca, NID_name_constraints, &critical, NULL);
    CU_ASSERT(nc && critical == 1 && sk_GENERAL_SUBTREE_num(nc->permittedSubtrees) == 1 &&
              sk_GENERAL_SUBTREE_num(nc->excludedSubtrees) == 2);
    NAME_CONSTRAINTS_free(nc);
    SSL_free(ssl);
    CU_ASSERT_EQUAL(verdict(e, ca, "one.test"), X509_V_OK);
    /* A second process with the same key, and the same one later: one trust for all. */
    struct ht_errmsg err;
    struct io_authority *again = io_authority_create(key, key_len, &err);
    CU_ASSERT_PTR_NOT_NULL_FATAL(again);
    struct io_tls_host *other = io_tls_host_create(again, "one.test", &err);
    CU_ASSERT_PTR_NOT_NULL_FATAL(other);
    CU_ASSERT_EQUAL(verdict(other, ca, "one.test"), X509_V_OK);
    io_tls_host_destroy(&other);
    io_authority_destroy(&again);
    X509_free(ca);
    io_tls_host_destroy(&e);
    io_authority_destroy(&authority);
}

/* The key signs for another host below one.test's certificate: nobody takes that. */
static void the_constraint_holds(void) {
    begin();
    struct io_tls_host *e = host_of("one.test"), *evil = host_of("evil.test"), *ip = host_of("127.0.0.1");
    X509 *ca = certificate(io_tls_host_ca(e));
    struct {
        struct io_tls_host *e;
        const char *host;
    } rows[] = {{evil, "evil.test"}, {ip, "127.0.0.1"}};
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        /* The same leaf, issued in one.test's name. */
        SSL *ssl = io_tls_host_session(rows[i].e, 0, NULL);
        X509 *leaf = X509_dup(SSL_get_certificate(ssl));
        BIO *b = BIO_new_mem_buf(key, (int)key_len);
        EVP_PKEY *pkey = PEM_read_bio_PrivateKey(b, NULL, NULL, NULL);
        X509_set_issuer_name(leaf, X509_get_subject_name(ca));
        CU_ASSERT(X509_sign(leaf, pkey, EVP_sha256()) > 0);
        X509_STORE *store = X509_STORE_new();
        X509_STORE_CTX *ctx = X509_STORE_CTX_new();
        X509_STORE_add_cert(store, ca);
        X509_STORE_CTX_init(ctx, store, leaf, NULL);
        CU_ASSERT_NOT_EQUAL(X509_verify_cert(ctx), 1);
        int why = X509_STORE_CTX_get_error(ctx);
        CU_ASSERT(why == X509_V_ERR_PERMITTED_VIOLATION || why == X509_V_ERR_EXCLUDED_VIOLATION);
        X509_STORE_CTX_free(ctx);
        X509_STORE_free(store);
        EVP_PKEY_free(pkey);
        BIO_free(b);
        X509_free(leaf);
        SSL_free(ssl);
    }
    X509_free(ca);
    io_tls_host_destroy(&e);
    io_tls_host_destroy(&evil);
    io_tls_host_destroy(&ip);
    io_authority_destroy(&authority);
}

static void what_is_no_key(void) {
    static const char *const bad[] = {
        "", "x", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"};
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        struct ht_errmsg err = {""};
        CU_ASSERT_PTR_NULL(io_authority_create(bad[i], strlen(bad[i]), &err));
        CU_ASSERT(strstr(err.text, "cannot be used") != NULL);
    }
    begin();
    size_t live = ht_mem_live();
    bool more = true;
    for (long i = 0; more; i++) {
        ht_mem_fail_at(i);
        struct io_tls_host *e = io_tls_host_create(authority, "one.test", NULL);
        more = !ht_mem_fail_pending();
        ht_mem_fail_at(-1);
        CU_ASSERT_EQUAL(e == NULL, more);
        io_tls_host_destroy(&e);
        CU_ASSERT_EQUAL(ht_mem_live(), live);
    }
    io_authority_destroy(&authority);
}

static void plain_text_is_refused(void) {
    static char hello[] = "GET / HTTP/1.1\r\nHost: one.test\r\n\r\n";
    begin();
    struct io_tls_host *e = host_of("one.test");
    struct meeting m = {.loop = io_loop_create()};
    struct ht_errmsg err;
    CU_ASSERT_EQUAL_FATAL(io_conn_pair(m.loop, m.ends), HT_OK);
    m.accept = io_accept_start(m.loop, m.ends[0], e, 5000, &ops, &m, &err);
    CU_ASSERT_EQUAL(io_conn_write(m.ends[1], &(struct iovec){.iov_base = hello, .iov_len = strlen(hello)}, 1),
                    (ssize_t)strlen(hello));
    while (!m.failed)
        io_loop_turn(m.loop, true);
    CU_ASSERT(strstr(m.text, "speaks plain HTTP") != NULL);
    io_conn_close(&m.ends[1]);
    /* And who says nothing is not waited for. */
    m.failed = false;
    CU_ASSERT_EQUAL_FATAL(io_conn_pair(m.loop, m.ends), HT_OK);
    m.accept = io_accept_start(m.loop, m.ends[0], e, 5, &ops, &m, &err);
    while (!m.failed)
        io_loop_turn(m.loop, true);
    CU_ASSERT(strstr(m.text, "did not finish in time") != NULL);
    io_conn_close(&m.ends[1]);
    io_loop_destroy(&m.loop);
    io_tls_host_destroy(&e);
    io_authority_destroy(&authority);
}

static void a_pair(void) {
    struct io_loop *own = io_loop_create();
    struct io_conn *c[2];
    char buf[8];
    for (int cut = 0; cut < 2; cut++) {
        CU_ASSERT_EQUAL_FATAL(io_conn_pair(own, c), HT_OK);
        CU_ASSERT_EQUAL(io_conn_read(c[0], buf, 8), HT_EAGAIN);
        CU_ASSERT_EQUAL(io_conn_write(c[1], &(struct iovec){.iov_base = buf, .iov_len = 3}, 1), 3);
        if (cut)
            io_conn_abort(&c[1]);
        else
            io_conn_close(&c[1]);
        CU_ASSERT_EQUAL(io_conn_read(c[0], buf, 8), 3);
        CU_ASSERT_EQUAL(io_conn_read(c[0], buf, 8), cut ? HT_ERESET : HT_EOF);
        io_conn_close(&c[0]);
    }
    CU_ASSERT_EQUAL(io_loop_fds(own), 0);
    io_loop_destroy(&own);
}

int main(void) {
    static const struct tap_test tests[] = {
        {"one host is served", one_host_is_served},
        {"another host is refused", another_host_is_refused},
        {"the certificates have the right names, times and uses", what_the_certificates_say},
        {"the certificate for one host vouches for no other", the_constraint_holds},
        {"a text that is not a key is refused", what_is_no_key},
        {"plain text is refused", plain_text_is_refused},
        {"a connection inside the process works like a socket", a_pair},
        {NULL, NULL},
    };
    io_ignore_sigpipe();
    return tap_main("authority", tests);
}
