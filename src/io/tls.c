#include "base/mem.h"
#include "base/text.h"
#include "io/cert_priv.h"
#include "io/io_priv.h"
#include "io/tls_server.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>

/* One record holds at most this much (RFC 8446 5.1). */
#define RECORD 16384
#define READ_AHEAD (4 * (RECORD + 256))

/* What all that are named alike share. */
struct own {
    unsigned refs;
    char *files[2];      /* of our own certificate, and its key; NULL: we show none */
    struct stat seen[2]; /* as they were when they were read */
    bool pinned;
    bool authority;           /* an authority has to vouch for what is pinned, too */
    uint8_t pin[32];          /* the digest of the only certificate that is taken */
    char met[IO_FINGERPRINT]; /* of the last one that was not */
};

struct io_tls {
    SSL_CTX *ctx;
    struct own *own; /* NULL: we show no certificate, and none is pinned */
    char *name;      /* NULL: that of the dialled host */
};

/* The oldest error of OpenSSL's queue as text, and the queue emptied. */
static const char *ssl_error(void) {
    unsigned long e = ERR_get_error();
    ERR_clear_error();
    const char *s = e == 0 ? NULL : ERR_SYSTEM_ERROR(e) ? strerror(ERR_GET_REASON(e)) : ERR_reason_error_string(e);
    return s ? s : "unknown error";
}

int io_no_password(char *buf, int size, int writing, void *ctx) {
    (void)buf, (void)size, (void)writing;
    *(bool *)ctx = true;
    return -1;
}

/* The certificate that we show when we are asked for one. */
static int set_certificate(SSL_CTX *ctx, const struct io_tls_config *cfg, struct ht_errmsg *err) {
    const char *key = cfg->key_file ? cfg->key_file : cfg->cert_file;
    bool asked = false;
    SSL_CTX_set_default_passwd_cb(ctx, io_no_password);
    SSL_CTX_set_default_passwd_cb_userdata(ctx, &asked);
    if (SSL_CTX_use_certificate_chain_file(ctx, cfg->cert_file) != 1)
        return ht_fail(err, HT_ETLS, "cannot read the certificate in %s: %s", cfg->cert_file, ssl_error());
    int rc = SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM);
    SSL_CTX_set_default_passwd_cb_userdata(ctx, NULL);
    if (rc == 1)
        return HT_OK;
    unsigned long e = ERR_peek_last_error();
    if (ERR_GET_LIB(e) == ERR_LIB_X509 && ERR_GET_REASON(e) == X509_R_KEY_VALUES_MISMATCH)
        return ht_fail(err, HT_ETLS, "the key in %s is not the one of the certificate in %s", key, cfg->cert_file);
    if (asked)
        return ht_fail(err, HT_ETLS, "the key in %s is encrypted; give one without a password", key);
    return ht_fail(err, HT_ETLS, "cannot read the private key in %s: %s", key, ssl_error());
}

/* ---- our own certificate, when its files change ---- */

static bool same_file(const struct stat *a, const struct stat *b) {
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static bool look(const struct own *o, struct stat now[2]) {
    return stat(o->files[0], &now[0]) == 0 && stat(o->files[1], &now[1]) == 0;
}

static void own_drop(struct own *o) {
    if (!o || --o->refs > 0)
        return;
    ht_free(o->files[0]);
    ht_free(o->files[1]);
    ht_free(o);
}

/* NULL: out of memory. */
static struct own *own_new(const struct io_tls_config *cfg) {
    struct own *o = ht_calloc(1, sizeof *o);
    const char *key = cfg->key_file ? cfg->key_file : cfg->cert_file;
    if (!o)
        return NULL;
    o->refs = 1;
    o->authority = cfg->ca_file != NULL;
    if (!cfg->cert_file)
        return o;
    o->files[0] = ht_strndup(cfg->cert_file, strlen(cfg->cert_file));
    o->files[1] = ht_strndup(key, strlen(key));
    if (!o->files[0] || !o->files[1]) {
        own_drop(o);
        return NULL;
    }
    (void)look(o, o->seen); /* before they are read: what changes meanwhile is read again */
    return o;
}

/* Replaced files are read before the next handshake. Whoever replaces them one after the other has two for a moment
 * that do not belong together: then the old ones stay. */
static void renew(struct io_tls *t) {
    struct stat now[2];
    STACK_OF(X509) *chain = NULL;
    if (!t->own || !t->own->files[0] || !look(t->own, now) ||
        (same_file(&now[0], &t->own->seen[0]) && same_file(&now[1], &t->own->seen[1])))
        return;
    const struct io_tls_config cfg = {.cert_file = t->own->files[0], .key_file = t->own->files[1]};
    SSL_CTX *fresh = SSL_CTX_new(TLS_client_method());
    if (fresh && set_certificate(fresh, &cfg, NULL) == HT_OK && SSL_CTX_get0_chain_certs(fresh, &chain) == 1 &&
        SSL_CTX_use_cert_and_key(t->ctx, SSL_CTX_get0_certificate(fresh), SSL_CTX_get0_privatekey(fresh), chain, 1) ==
            1)
        memcpy(t->own->seen, now, sizeof now);
    SSL_CTX_free(fresh);
}

/* ---- the only certificate that is taken ---- */

/* HT_EINVAL: it is no fingerprint. */
static int parse_pin(const char *text, uint8_t out[32], struct ht_errmsg *err) {
    const char *p = strncasecmp(text, "sha256:", 7) == 0 ? text + 7 : NULL;
    size_t n = 0;
    for (; p && *p && n < 64; p++) {
        int digit = ht_hex_digit(*p);
        if (*p == ':' && n > 0 && n % 2 == 0 && p[1])
            continue;
        if (digit < 0)
            break;
        out[n / 2] = (uint8_t)(n % 2 ? out[n / 2] | digit : digit << 4);
        n++;
    }
    if (p && n == 64 && !*p)
        return HT_OK;
    return ht_fail(
        err, HT_EINVAL,
        "\"%.100s\" is not the fingerprint of a certificate; write sha256: and 64 hexadecimal digits, as `openssl "
        "x509 -noout -fingerprint -sha256` prints them",
        text);
}

int io_tls_check_pin(const char *text, struct ht_errmsg *err) {
    uint8_t pin[32];
    return parse_pin(text, pin, err);
}

/* Whoever pins a certificate knows whose it is: neither name, date nor authority could say more, unless that was asked
 * for. */
static int verify_pin(X509_STORE_CTX *store, void *arg) {
    struct own *o = arg;
    uint8_t sum[EVP_MAX_MD_SIZE] = {0};
    unsigned n = 0;
    X509 *leaf = X509_STORE_CTX_get0_cert(store);
    if (leaf && X509_digest(leaf, EVP_sha256(), sum, &n) == 1 && memcmp(sum, o->pin, sizeof o->pin) == 0) {
        X509_STORE_CTX_set_error(store, X509_V_OK);
        return o->authority ? X509_verify_cert(store) : 1;
    }
    io_fingerprint_text(sum, o->met);
    X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
    return 0;
}

static int set_pin(struct io_tls *t, const char *pin, struct ht_errmsg *err) {
    int rc = parse_pin(pin, t->own->pin, err);
    t->own->pinned = rc == HT_OK;
    if (rc == HT_OK)
        SSL_CTX_set_cert_verify_callback(t->ctx, verify_pin, t->own);
    return rc;
}

/* ---- making one ---- */

void io_tls_set_up(SSL_CTX *ctx) {
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS | SSL_MODE_AUTO_RETRY);
    /* One system call for several records, and not two for each: its head, and the rest. */
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL_CTX_set_default_read_buffer_len(ctx, READ_AHEAD);
}

void io_tls_read_ahead(SSL *ssl, bool on) { SSL_set_default_read_buffer_len(ssl, on ? READ_AHEAD : 0); }

static int set_up(SSL_CTX *ctx, const struct io_tls_config *cfg, struct ht_errmsg *err) {
    SSL_CTX_set_app_data(ctx, (void *)(uintptr_t)cfg->ca_option);
    io_tls_set_up(ctx);
    SSL_CTX_set_verify(ctx, cfg->insecure ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    if (cfg->alpn) {
        unsigned char alpn[1 + 255];
        size_t n = strlen(cfg->alpn);
        if (n == 0 || n >= sizeof alpn) /* RFC 7301 3.1 */
            return ht_fail(err, HT_EINVAL, "an ALPN protocol has 1 to 255 bytes, as in http/1.1");
        alpn[0] = (unsigned char)n;
        memcpy(alpn + 1, cfg->alpn, n);
        if (SSL_CTX_set_alpn_protos(ctx, alpn, (unsigned)n + 1) != 0)
            return ht_fail(err, HT_ENOMEM, "cannot prepare TLS: out of memory");
    }
    if (!cfg->insecure) {
        int ok = cfg->ca_file ? SSL_CTX_load_verify_locations(ctx, cfg->ca_file, NULL)
                              : SSL_CTX_set_default_verify_paths(ctx);
        if (ok != 1)
            return ht_fail(err, HT_ETLS, "cannot read the CA certificates in %s: %s",
                           cfg->ca_file ? cfg->ca_file : "the system's store", ssl_error());
    }
    return cfg->cert_file ? set_certificate(ctx, cfg, err) : HT_OK;
}

struct io_tls *io_tls_create_with(const struct io_tls_config *cfg, struct ht_errmsg *err) {
    struct io_tls *t = ht_calloc(1, sizeof *t);
    if (!t) {
        ht_fail(err, HT_ENOMEM, "cannot prepare TLS: out of memory");
        return NULL;
    }
    ERR_clear_error();
    t->own = cfg->cert_file || cfg->pin ? own_new(cfg) : NULL;
    t->ctx = SSL_CTX_new(TLS_client_method());
    if ((cfg->cert_file || cfg->pin) && !t->own) {
        ht_fail(err, HT_ENOMEM, "cannot prepare TLS: out of memory");
        io_tls_destroy(&t);
    } else if (!t->ctx || SSL_CTX_set_min_proto_version(t->ctx, TLS1_2_VERSION) != 1) {
        ht_fail(err, HT_ETLS, "cannot prepare TLS: %s", ssl_error());
        io_tls_destroy(&t);
    } else if (set_up(t->ctx, cfg, err) < 0 || (cfg->pin && set_pin(t, cfg->pin, err) < 0)) {
        io_tls_destroy(&t);
    }
    ERR_clear_error();
    return t;
}

/* ALPN: what runs inside is an HTTP/1.1 upgrade, and a proxy must not choose h2. */
struct io_tls *io_tls_create_pinned(const char *ca_file, const char *pin, struct ht_errmsg *err) {
    return io_tls_create_with(
        &(struct io_tls_config){.ca_file = ca_file, .alpn = "http/1.1", .ca_option = "--ca", .pin = pin}, err);
}

struct io_tls *io_tls_create(const char *ca_file, struct ht_errmsg *err) {
    return io_tls_create_pinned(ca_file, NULL, err);
}

void io_tls_destroy(struct io_tls **tp) {
    struct io_tls *t = *tp;
    if (!t)
        return;
    *tp = NULL;
    SSL_CTX_free(t->ctx);
    own_drop(t->own);
    ht_free(t->name);
    ht_free(t);
}

struct io_tls *io_tls_named(struct io_tls *t, const char *name) {
    struct io_tls *named = ht_calloc(1, sizeof *named);
    char *copy = ht_strndup(name, strlen(name));
    if (!named || !copy) {
        ht_free(named);
        ht_free(copy);
        return NULL;
    }
    SSL_CTX_up_ref(t->ctx);
    if (t->own)
        t->own->refs++;
    *named = (struct io_tls){.ctx = t->ctx, .own = t->own, .name = copy};
    return named;
}

bool io_tls_holds(const struct io_conn_more *m) {
    return SSL_has_pending(m->ssl) || (m->outer && SSL_has_pending(m->outer));
}

/* On the socket, or inside of the TLS that is spoken there already: `ssl` owns that from then on. */
static bool set_transport(SSL *ssl, struct io_conn *c) {
    SSL *outer = io_conn_ssl(c);
    if (!outer)
        return SSL_set_fd(ssl, c->io.fd) == 1;
    BIO *bio = BIO_new(BIO_f_ssl());
    if (!bio)
        return false;
    BIO_set_ssl(bio, outer, BIO_CLOSE);
    SSL_set_bio(ssl, bio, bio);
    return true;
}

SSL *io_tls_session(struct io_tls *t, struct io_conn *c, const char *host, struct ht_errmsg *err) {
    renew(t);
    ERR_clear_error();
    SSL *ssl = SSL_new(t->ctx);
    struct io_addr literal;
    host = t->name ? t->name : host;
    bool is_ip = io_addr_parse(&literal, host, 0) == HT_OK;
    /* RFC 6066 3: no literal address in SNI; RFC 9525 6.5: those are compared with the certificate's iPAddress names.
     */
    bool ok = ssl && (is_ip ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1
                            : SSL_set1_host(ssl, host) == 1 && SSL_set_tlsext_host_name(ssl, host) == 1);
    if (ok) {
        SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        ok = set_transport(ssl, c);
    }
    if (!ok) {
        ht_fail(err, HT_ETLS, "cannot start TLS with %s: %s", host, ssl_error());
        SSL_free(ssl);
        return NULL;
    }
    SSL_set_app_data(ssl, t->own);
    SSL_set_connect_state(ssl);
    return ssl;
}

static int describe_verify(SSL *ssl, long result, const char *name, struct ht_errmsg *err) {
    const char *why = X509_verify_cert_error_string(result);
    const char *option = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    const char *wanted = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    size_t host = wanted ? strlen(wanted) : 0;
    if (wanted && strncmp(name, wanted, host) == 0 && name[host] == ':') /* it stands there already */
        wanted = NULL;
    switch (result) {
    case X509_V_ERR_APPLICATION_VERIFICATION: {
        const struct own *o = SSL_get_app_data(ssl);
        return ht_fail(err, HT_ECERTCA, "the certificate of %s is not the pinned one: its fingerprint is %s", name,
                       o ? o->met : "another");
    }
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        return ht_fail(err, HT_ECERTNAME, "the certificate of %s is for another name%s%s: %s", name,
                       wanted ? " than " : "", wanted ? wanted : "", why);
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
        return ht_fail(err, HT_ECERTCA, "the certificate of %s is not trusted: %s%s%s", name, why,
                       option ? "; give its CA with " : "", option ? option : "");
    case X509_V_ERR_CERT_NOT_YET_VALID:
    case X509_V_ERR_CERT_HAS_EXPIRED: {
        char today[32] = "?";
        time_t now = time(NULL);
        struct tm tm;
        if (gmtime_r(&now, &tm))
            strftime(today, sizeof today, "%Y-%m-%d %H:%M", &tm);
        return ht_fail(err, HT_ECERTDATE, "the certificate of %s is not accepted: %s; this machine's clock says %s UTC",
                       name, why, today);
    }
    default:
        return ht_fail(err, HT_ETLS, "the certificate of %s is not accepted: %s", name, why);
    }
}

int io_tls_handshake(SSL *ssl, const char *name, int *want, struct ht_errmsg *err) {
    ERR_clear_error();
    errno = 0;
    int rc = SSL_do_handshake(ssl);
    if (rc == 1)
        return HT_OK;
    int sys = errno;
    switch (SSL_get_error(ssl, rc)) {
    case SSL_ERROR_WANT_READ:
        *want = EV_READ;
        return HT_EAGAIN;
    case SSL_ERROR_WANT_WRITE:
        *want = EV_WRITE;
        return HT_EAGAIN;
    case SSL_ERROR_SYSCALL:
        return ht_fail(err, sys ? ht_err_from_errno(sys) : HT_ERESET, "the TLS handshake with %s failed: %s", name,
                       sys ? ht_err_text(ht_err_from_errno(sys)) : "the connection ended");
    default:
        break;
    }
    long verify = SSL_get_verify_mode(ssl) == SSL_VERIFY_NONE ? X509_V_OK : SSL_get_verify_result(ssl);
    if (verify != X509_V_OK)
        return describe_verify(ssl, verify, name, err);
    unsigned long e = ERR_peek_error();
    if (ERR_GET_REASON(e) == SSL_R_WRONG_VERSION_NUMBER)
        return ht_fail(err, HT_ETLS, "%s does not speak TLS", name);
    if (ERR_GET_REASON(e) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
        return ht_fail(err, HT_ERESET, "the TLS handshake with %s failed: the connection ended", name);
    return ht_fail(err, HT_ETLS, "the TLS handshake with %s failed: %s", name, ssl_error());
}

/* What a failed SSL_read or SSL_write means. `broken`: SSL_shutdown must not be called (SSL_get_error(3)). */
static int failure(struct io_conn *c, int rc, int sys) {
    switch (SSL_get_error(c->more->ssl, rc)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return HT_EAGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return HT_EOF;
    case SSL_ERROR_SYSCALL:
        c->more->broken = true;
        return sys ? ht_err_from_errno(sys) : HT_ERESET;
    default:
        c->more->broken = true;
        c->more->tls_error = ERR_reason_error_string(ERR_peek_error());
        /* A FIN without close_notify: the connection was cut, which must not look like a clean end (RFC 8446 6.1). */
        return ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING ? HT_ERESET : HT_ETLS;
    }
}

static void name_text(const X509_NAME *name, char *out, size_t cap) {
    char raw[256] = "";
    if (X509_NAME_get_text_by_NID(name, NID_commonName, raw, sizeof raw) < 0)
        X509_NAME_get_text_by_NID(name, NID_organizationName, raw, sizeof raw);
    ht_text_clean(ht_slice_str(raw), out, cap);
}

static int64_t seconds(const ASN1_TIME *at) {
    struct tm tm;
    return ASN1_TIME_to_tm(at, &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

bool io_conn_tls_facts(const struct io_conn *c, struct io_tls_facts *out) {
    SSL *ssl = io_conn_ssl(c);
    X509 *x = ssl ? SSL_get0_peer_certificate(ssl) : NULL;
    *out = (struct io_tls_facts){.begins = 0};
    if (!x)
        return false;
    snprintf(out->version, sizeof out->version, "%s", SSL_get_version(ssl));
    name_text(X509_get_subject_name(x), out->subject, sizeof out->subject);
    name_text(X509_get_issuer_name(x), out->issuer, sizeof out->issuer);
    out->begins = seconds(X509_get0_notBefore(x));
    out->ends = seconds(X509_get0_notAfter(x));
    return true;
}

int io_tls_shutdown(struct io_conn *c) {
    ERR_clear_error();
    errno = 0;
    int rc = SSL_shutdown(c->more->ssl);
    if (rc < 0)
        return failure(c, rc, errno);
    if (c->more->outer) {
        rc = SSL_shutdown(c->more->outer);
        ERR_clear_error(); /* the server has heard the end, and what becomes of the hop before it does not matter */
    }
    return HT_OK;
}

ssize_t io_tls_read(struct io_conn *c, void *buf, size_t cap) {
    size_t total = 0, since = 0;
    c->more->read_wants_write = false;
    if (c->more->ended) /* asked again, OpenSSL would call it something else */
        return c->more->end;
    while (total < cap) {
        size_t n = 0;
        ERR_clear_error();
        errno = 0;
        int rc = SSL_read_ex(c->more->ssl, (uint8_t *)buf + total, cap - total, &n);
        if (rc == 1) {
            total += n;
            since += n;
            if (io_tls_holds(c->more))
                continue;
            /* It has taken less from the kernel than it could have: there is no more, and asking again costs a call. */
            if (since < READ_AHEAD - RECORD)
                break;
            since = 0;
            continue;
        }
        int sys = errno;
        int err = failure(c, rc, sys);
        if (err == HT_EAGAIN)
            c->more->read_wants_write = SSL_get_error(c->more->ssl, rc) == SSL_ERROR_WANT_WRITE;
        c->more->ended = err != HT_EAGAIN;
        c->more->end = err;
        c->more->drained = true;
        return total == 0 ? err : (ssize_t)total;
    }
    c->more->drained = false;
    return (ssize_t)total;
}

static ssize_t write_piece(struct io_conn *c, const void *p, size_t n) {
    size_t done = 0;
    ERR_clear_error();
    errno = 0;
    int rc = SSL_write_ex(c->more->ssl, p, n, &done);
    if (rc == 1)
        return (ssize_t)done;
    int sys = errno;
    int err = failure(c, rc, sys);
    if (err == HT_EAGAIN)
        c->more->write_wants_read = SSL_get_error(c->more->ssl, rc) == SSL_ERROR_WANT_READ;
    return err == HT_EOF ? HT_ERESET : err;
}

/* The next bytes behind `at` in iov[0], a record's worth when there are so many: copied to `room` when they lie apart.
 * Asked again after a write that came to nothing it finds at least as many, as OpenSSL wants it. */
static const uint8_t *gather(const struct iovec *iov, int iovcnt, size_t at, uint8_t room[RECORD], size_t *n) {
    size_t first = iov[0].iov_len - at;
    const uint8_t *p = (const uint8_t *)iov[0].iov_base + at;
    *n = ht_min(first, RECORD);
    if (iovcnt == 1 || first >= RECORD)
        return p;
    memcpy(room, p, first);
    for (int i = 1; i < iovcnt && *n < RECORD; i++) {
        size_t more = ht_min(iov[i].iov_len, RECORD - *n);
        memcpy(room + *n, iov[i].iov_base, more);
        *n += more;
    }
    return room;
}

ssize_t io_tls_write(struct io_conn *c, const struct iovec *iov, int iovcnt) {
    uint8_t room[RECORD];
    size_t total = 0, at = 0;
    c->more->write_wants_read = false;
    for (;;) {
        for (; iovcnt > 0 && at >= iov[0].iov_len; iovcnt--)
            at -= (iov++)->iov_len;
        if (iovcnt == 0)
            return (ssize_t)total;
        size_t n = 0;
        const uint8_t *p = gather(iov, iovcnt, at, room, &n);
        ssize_t done = write_piece(c, p, n);
        if (done < 0)
            return total ? (ssize_t)total : done;
        at += (size_t)done;
        total += (size_t)done;
    }
}
