#include "io/authority.h"

#include "base/clock.h"
#include "base/mem.h"
#include "io/authority_priv.h"
#include "io/cert_priv.h"
#include "io/io_priv.h"

#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>

#define CA_DAYS 3650       /* a process that runs for long must not outlive its own certificate */
#define LEAF_S 86400       /* one day */
#define LEAF_RENEW_S 43200 /* a new one when less than this is left */
#define SECURE_HEAP 65536  /* locked memory for keys: a power of two */

struct io_authority {
    EVP_PKEY *key;
    EVP_PKEY *leaf_key; /* of all certificates that this process shows */
    char id[17];        /* the key's, for names */
};

struct io_tls_host {
    struct io_authority *a;
    SSL_CTX *ctx;
    X509 *ca;
    char *pem;
    int64_t good_until; /* of the certificate in `ctx`; 0: there is none */
    bool is_address;
    char host[];
};

/* ---- keys ---- */

static pthread_once_t heap_once = PTHREAD_ONCE_INIT;

/* Private numbers are kept there from now on. Without it (no memory may be locked) they are where all else is. */
static void make_heap(void) { (void)CRYPTO_secure_malloc_init(SECURE_HEAP, 32); }

static EVP_PKEY *fresh_key(void) {
    (void)pthread_once(&heap_once, make_heap);
    return EVP_EC_gen("P-256");
}

int io_authority_make_key(char out[IO_KEY_MAX], size_t *n, struct ht_errmsg *err) {
    ERR_clear_error();
    EVP_PKEY *key = fresh_key();
    BIO *b = key ? BIO_new(BIO_s_secmem()) : NULL;
    char *text = NULL;
    long len = 0;
    if (b && PEM_write_bio_PrivateKey(b, key, NULL, NULL, 0, NULL, NULL) == 1)
        len = BIO_get_mem_data(b, &text);
    int rc =
        len > 0 && (size_t)len <= IO_KEY_MAX ? HT_OK : ht_fail(err, HT_ETLS, "cannot make a key: %s", io_cert_why());
    if (rc == HT_OK) {
        memcpy(out, text, (size_t)len);
        *n = (size_t)len;
    }
    if (text)
        explicit_bzero(text, (size_t)len);
    BIO_free(b);
    EVP_PKEY_free(key);
    return rc;
}

static bool name_key(struct io_authority *a) {
    uint8_t *der = NULL, sum[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    int len = i2d_PUBKEY(a->key, &der);
    bool ok = len > 0 && EVP_Digest(der, (size_t)len, sum, &n, EVP_sha256(), NULL) == 1;
    for (unsigned i = 0; ok && i < 8; i++)
        snprintf(a->id + 2 * i, 3, "%02x", sum[i]);
    OPENSSL_free(der);
    return ok;
}

struct io_authority *io_authority_create(const char *pem, size_t n, struct ht_errmsg *err) {
    struct io_authority *a = ht_calloc(1, sizeof *a);
    if (!a) {
        ht_fail(err, HT_ENOMEM, "out of memory");
        return NULL;
    }
    ERR_clear_error();
    (void)pthread_once(&heap_once, make_heap);
    BIO *b = BIO_new_mem_buf(pem, (int)n);
    static char none[] = ""; /* our keys have no password, and OpenSSL must not ask for one at the terminal */
    a->key = b ? PEM_read_bio_PrivateKey(b, NULL, NULL, none) : NULL;
    BIO_free(b);
    if (!a->key || !EVP_PKEY_is_a(a->key, "EC") || !name_key(a) || !(a->leaf_key = fresh_key())) {
        ht_fail(err, HT_ETLS, "the key of the certificate authority cannot be used: %s", io_cert_why());
        io_authority_destroy(&a);
    }
    return a;
}

void io_authority_destroy(struct io_authority **ap) {
    struct io_authority *a = *ap;
    *ap = NULL;
    if (!a)
        return;
    EVP_PKEY_free(a->key);
    EVP_PKEY_free(a->leaf_key);
    ht_free(a);
}

/* ---- certificates ---- */

/* To this host and nothing else. A name's constraint says nothing about addresses, and the other way round: those are
 * excluded, and the only names permitted beside an address are ones that nobody has (RFC 2606 2). */
static void constrain(const struct io_tls_host *e, char *out, size_t cap) {
    bool v6 = strchr(e->host, ':') != NULL;
    if (!e->is_address)
        snprintf(out, cap, "critical,permitted;DNS:%s,excluded;IP:0.0.0.0/0.0.0.0,excluded;IP:::/::", e->host);
    else
        snprintf(out, cap, "critical,permitted;IP:%s/%s,permitted;DNS:invalid", e->host,
                 v6 ? "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff" : "255.255.255.255");
}

static X509 *make_ca(const struct io_tls_host *e) {
    char subject[65], limits[400];
    /* A common name has 64 characters at most (RFC 5280, ub-common-name); the key's id keeps two machines apart. */
    uint8_t sum[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    if (EVP_Digest(e->host, strlen(e->host), sum, &n, EVP_sha256(), NULL) != 1)
        return NULL;
    snprintf(subject, sizeof subject, "hoody-tunnel %s %02x%02x%02x%02x %.20s", e->a->id, sum[0], sum[1], sum[2],
             sum[3], e->host);
    constrain(e, limits, sizeof limits);
    X509 *x = io_cert_new(e->a->key, CA_DAYS * 86400L, subject, NULL);
    bool ok = x && io_cert_add(x, x, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
              io_cert_add(x, x, NID_key_usage, "critical,keyCertSign") &&
              io_cert_add(x, x, NID_subject_key_identifier, "hash") && io_cert_add(x, x, NID_name_constraints, limits);
    return io_cert_sign(x, e->a->key, ok);
}

static X509 *make_leaf(const struct io_tls_host *e) {
    char name[300];
    snprintf(name, sizeof name, "%s:%s", e->is_address ? "IP" : "DNS", e->host);
    X509 *x = io_cert_new(e->a->leaf_key, LEAF_S, "hoody-tunnel", X509_get_subject_name(e->ca));
    bool ok = x && io_cert_add(x, e->ca, NID_basic_constraints, "critical,CA:FALSE") &&
              io_cert_add(x, e->ca, NID_key_usage, "critical,digitalSignature") &&
              io_cert_add(x, e->ca, NID_ext_key_usage, "serverAuth") &&
              io_cert_add(x, e->ca, NID_subject_key_identifier, "hash") &&
              io_cert_add(x, e->ca, NID_authority_key_identifier, "keyid:always") &&
              io_cert_add(x, e->ca, NID_subject_alt_name, name);
    return io_cert_sign(x, e->a->key, ok);
}

/* ---- one host ---- */

/* A certificate with time left. */
static bool renew(struct io_tls_host *e) {
    int64_t now = (int64_t)time(NULL);
    if (e->good_until - now > LEAF_RENEW_S && e->good_until - now <= LEAF_S) /* else the clock was set back */
        return true;
    X509 *x = make_leaf(e);
    bool ok = x && SSL_CTX_use_certificate(e->ctx, x) == 1 && SSL_CTX_use_PrivateKey(e->ctx, e->a->leaf_key) == 1;
    X509_free(x);
    if (ok)
        e->good_until = now + LEAF_S;
    return ok;
}

/* A client that asks for another host than its stream was opened for makes a mistake, or tries domain fronting. */
static int check_name(SSL *ssl, int *alert, void *arg) {
    const struct io_tls_host *e = arg;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    if (!name || ht_slice_case_eq(ht_slice_str(name), ht_slice_str(e->host)))
        return SSL_TLSEXT_ERR_OK;
    *alert = SSL_AD_UNRECOGNIZED_NAME;
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static char *pem_of(X509 *x) {
    BIO *b = BIO_new(BIO_s_mem());
    char *text = NULL, *copy = NULL;
    if (b && PEM_write_bio_X509(b, x) == 1) {
        long n = BIO_get_mem_data(b, &text);
        copy = ht_strndup(text, (size_t)n);
    }
    BIO_free(b);
    return copy;
}

static bool prepare(struct io_tls_host *e) {
    e->ctx = SSL_CTX_new(TLS_server_method());
    if (!e->ctx || SSL_CTX_set_min_proto_version(e->ctx, TLS1_2_VERSION) != 1)
        return false;
    io_tls_set_up(e->ctx);
    SSL_CTX_set_options(e->ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_session_id_context(e->ctx, (const unsigned char *)e->host, (unsigned)ht_min(strlen(e->host), 32));
    SSL_CTX_set_num_tickets(e->ctx, 1);
    SSL_CTX_set_alpn_select_cb(e->ctx, io_alpn_http, NULL);
    SSL_CTX_set_tlsext_servername_callback(e->ctx, check_name);
    SSL_CTX_set_tlsext_servername_arg(e->ctx, e);
    return (e->ca = make_ca(e)) && (e->pem = pem_of(e->ca)) && renew(e);
}

struct io_tls_host *io_tls_host_create(struct io_authority *a, const char *host, struct ht_errmsg *err) {
    size_t n = strlen(host);
    struct io_addr literal;
    struct io_tls_host *e = ht_calloc(1, sizeof *e + n + 1);
    if (!e) {
        ht_fail(err, HT_ENOMEM, "out of memory");
        return NULL;
    }
    memcpy(e->host, host, n);
    e->a = a;
    e->is_address = io_addr_parse(&literal, host, 0) == HT_OK;
    ERR_clear_error();
    if (!prepare(e)) {
        ht_fail(err, HT_ETLS, "cannot make a certificate for %.253s: %s", host, io_cert_why());
        io_tls_host_destroy(&e);
    }
    return e;
}

void io_tls_host_destroy(struct io_tls_host **ep) {
    struct io_tls_host *e = *ep;
    *ep = NULL;
    if (!e)
        return;
    if (e->ctx) /* handshakes under way hold it, and not us */
        SSL_CTX_set_tlsext_servername_callback(e->ctx, NULL);
    SSL_CTX_free(e->ctx);
    X509_free(e->ca);
    ht_free(e->pem);
    ht_free(e);
}

const char *io_tls_host_ca(const struct io_tls_host *e) { return e->pem; }

SSL *io_tls_host_session(struct io_tls_host *e, int fd, struct ht_errmsg *err) {
    ERR_clear_error();
    SSL *ssl = renew(e) ? SSL_new(e->ctx) : NULL;
    if (!ssl || SSL_set_fd(ssl, fd) != 1) {
        ht_fail(err, HT_ETLS, "cannot start TLS for %.253s: %s", e->host, io_cert_why());
        SSL_free(ssl);
        return NULL;
    }
    SSL_set_accept_state(ssl);
    return ssl;
}
