#include "io/tls_server.h"

#include "base/mem.h"
#include "io/cert_priv.h"
#include "io/io_priv.h"
#include "io/tls_server_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FILE_MAX (256u * 1024u) /* of a certificate with its chain, or a key */

/* Forward secrecy and authenticated encryption, the cheapest for most machines first (RFC 9325 4.2). */
#define CIPHERS                                                                                                        \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"                         \
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
#define CIPHERS_13 "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define GROUPS "X25519:P-256:P-384"

/* The content of a pair's files. */
struct content {
    X509 *leaf;
    EVP_PKEY *key;
    STACK_OF(X509) * chain;
    char **names; /* in lower case; a wildcard as "*.example.com" */
    size_t n_names;
};

struct pair {
    const char *files[2]; /* certificate, key; NULL: the self-signed one */
    struct stat seen[2];  /* the files from which `in` was read */
    struct stat bad[2];   /* newer files that could not be used; st_ino 0: there are none */
    bool bad_told;        /* told() was called for those */
    struct content in;
};

struct known_name {
    const char *name;
    struct pair *pair;
};

struct io_tls_server {
    SSL_CTX *ctx;
    struct io_tickets *tickets;
    struct io_tls_server_config cfg;
    struct known_name *index; /* by name, then in the order of the pairs */
    size_t n_index;
    bool kept; /* the self-signed one is of the program before */
    size_t n_pairs;
    struct pair pairs[];
};

/* ---- what is in the files ---- */

static void content_free(struct content *c) {
    for (size_t i = 0; i < c->n_names; i++)
        ht_free(c->names[i]);
    ht_free(c->names);
    X509_free(c->leaf);
    EVP_PKEY_free(c->key);
    sk_X509_pop_free(c->chain, X509_free);
    *c = (struct content){0};
}

/* Reads a whole file. The caller wipes and frees *out. */
static int read_file(const struct io_tls_server *s, const char *path, bool is_key, char **out, size_t *n,
                     struct ht_errmsg *err) {
    int fd = s->cfg.open(s->cfg.ctx, path, is_key, err);
    if (fd < 0)
        return fd;
    char *text = ht_malloc(FILE_MAX + 1);
    ssize_t got = 0;
    size_t have = 0;
    while (text && have <= FILE_MAX && (got = read(fd, text + have, FILE_MAX + 1 - have)) > 0)
        have += (size_t)got;
    int e = errno;
    close(fd);
    *out = text;
    *n = have;
    if (!text)
        return ht_fail(err, HT_ENOMEM, "out of memory");
    if (got >= 0 && have <= FILE_MAX)
        return HT_OK;
    explicit_bzero(text, have);
    ht_free(text);
    *out = NULL;
    return got < 0 ? ht_fail(err, HT_EIO, "%s: %s", path, strerror(e))
                   : ht_fail(err, HT_ELIMIT, "%s: it is longer than %u bytes", path, FILE_MAX);
}

/* True when PEM reading stopped at the end of the text, and at no mistake. */
static bool at_the_end(void) {
    unsigned long e = ERR_peek_last_error();
    bool end = ERR_GET_LIB(e) == ERR_LIB_PEM && ERR_GET_REASON(e) == PEM_R_NO_START_LINE;
    ERR_clear_error();
    return end;
}

static int parse_chain(struct content *c, const char *path, const char *text, size_t n, struct ht_errmsg *err) {
    BIO *b = BIO_new_mem_buf(text, (int)n);
    X509 *x = NULL;
    ERR_clear_error();
    bool asked = false;
    c->leaf = b ? PEM_read_bio_X509(b, NULL, io_no_password, &asked) : NULL;
    c->chain = sk_X509_new_null();
    if (!c->leaf || !c->chain) {
        BIO_free(b);
        return ht_fail(err, HT_ETLS, "%s: there is no certificate in it that can be read: %s", path, io_cert_why());
    }
    while ((x = PEM_read_bio_X509(b, NULL, io_no_password, &asked)) && sk_X509_push(c->chain, x) > 0)
        ;
    X509_free(x);
    BIO_free(b);
    return at_the_end() ? HT_OK : ht_fail(err, HT_ETLS, "%s: a certificate of the chain cannot be read", path);
}

static int parse_key(struct content *c, const char *path, const char *text, size_t n, struct ht_errmsg *err) {
    BIO *b = BIO_new_mem_buf(text, (int)n);
    bool asked = false;
    c->key = b ? PEM_read_bio_PrivateKey(b, NULL, io_no_password, &asked) : NULL;
    BIO_free(b);
    ERR_clear_error();
    if (c->key)
        return HT_OK;
    if (asked)
        return ht_fail(err, HT_ETLS, "%s: the key in it is encrypted; give one without a password", path);
    return ht_fail(err, HT_ETLS, "%s: there is no private key in it that can be read", path);
}

static int add_name(struct content *c, const char *text, size_t n) {
    char **more = memchr(text, '\0', n) ? NULL : ht_realloc(c->names, (c->n_names + 1) * sizeof *more);
    if (!more)
        return HT_ENOMEM;
    c->names = more;
    char *name = ht_strndup(text, n);
    if (!name)
        return HT_ENOMEM;
    for (char *p = name; *p; p++)
        *p = ht_lower(*p);
    c->names[c->n_names++] = name;
    return HT_OK;
}

/* Finds the DNS names of the certificate. The common name is not used (RFC 9525 2). */
static int find_names(struct content *c) {
    GENERAL_NAMES *all = X509_get_ext_d2i(c->leaf, NID_subject_alt_name, NULL, NULL);
    int rc = HT_OK;
    for (int i = 0; rc == HT_OK && i < sk_GENERAL_NAME_num(all); i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(all, i);
        if (g->type == GEN_DNS)
            rc = add_name(c, (const char *)ASN1_STRING_get0_data(g->d.dNSName),
                          (size_t)ASN1_STRING_length(g->d.dNSName));
    }
    GENERAL_NAMES_free(all);
    return rc;
}

/* Tries to use the pair as in a handshake, so that keys that are too small, or of another certificate, are refused now.
 */
static int try_it(const struct content *c, const char *cert, const char *key, struct ht_errmsg *err) {
    if (X509_check_private_key(c->leaf, c->key) != 1) {
        ERR_clear_error();
        return ht_fail(err, HT_ETLS, "the key in %s is not the one of the first certificate in %s", key, cert);
    }
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    bool ok = ctx && SSL_CTX_use_cert_and_key(ctx, c->leaf, c->key, c->chain, 1) == 1;
    SSL_CTX_free(ctx);
    return ok ? HT_OK : ht_fail(err, HT_ETLS, "%s: it cannot be used: %s", cert, io_cert_why());
}

static int read_pair(const struct io_tls_server *s, const struct pair *p, struct content *out, struct ht_errmsg *err) {
    char *cert = NULL, *key = NULL;
    size_t n_cert = 0, n_key = 0;
    bool apart = p->files[1] != p->files[0];
    *out = (struct content){0};
    int rc = read_file(s, p->files[0], !apart, &cert, &n_cert, err);
    if (rc == HT_OK && apart)
        rc = read_file(s, p->files[1], true, &key, &n_key, err);
    if (rc == HT_OK)
        rc = parse_chain(out, p->files[0], cert, n_cert, err);
    if (rc == HT_OK)
        rc = parse_key(out, p->files[1], apart ? key : cert, apart ? n_key : n_cert, err);
    if (rc == HT_OK)
        rc = try_it(out, p->files[0], p->files[1], err);
    if (rc == HT_OK && find_names(out) < 0)
        rc = ht_fail(err, HT_ENOMEM, "%s: out of memory, or a name with a NUL", p->files[0]);
    if (cert)
        explicit_bzero(cert, n_cert);
    if (key)
        explicit_bzero(key, n_key);
    ht_free(cert);
    ht_free(key);
    ERR_clear_error();
    if (rc < 0)
        content_free(out);
    return rc;
}

/* ---- the self-signed certificate ---- */

static bool self_sign(struct io_tls_server *s, struct content *c) {
    const char *const *names = s->cfg.self_signed;
    c->chain = sk_X509_new_null();
    s->kept = io_self_take(&c->leaf, &c->key, s->cfg.kept, names, s->cfg.n_self_signed);
    bool made = s->kept || io_self_make(&c->leaf, &c->key, names, s->cfg.n_self_signed);
    return c->chain && made && find_names(c) == HT_OK;
}

int io_tls_server_keep(const struct io_tls_server *s, struct ht_buf *out) {
    const struct content *c = &s->pairs[s->n_pairs - 1].in;
    return s->cfg.n_self_signed ? io_self_write(c->leaf, c->key, out) : HT_EINVAL;
}

/* ---- the index ---- */

static int by_name(const void *a, const void *b) {
    const struct known_name *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : (x->pair > y->pair) - (x->pair < y->pair);
}

/* The index of all pairs, as if the pair `of` had `content`. NULL: out of memory. */
static struct known_name *make_index(struct io_tls_server *s, const struct pair *of, const struct content *content,
                                     size_t *n) {
    *n = 0;
    for (size_t i = 0; i < s->n_pairs; i++)
        *n += of == &s->pairs[i] ? content->n_names : s->pairs[i].in.n_names;
    struct known_name *index = ht_malloc((*n + 1) * sizeof *index), *to = index;
    for (size_t i = 0; index && i < s->n_pairs; i++) {
        const struct content *c = of == &s->pairs[i] ? content : &s->pairs[i].in;
        for (size_t k = 0; k < c->n_names; k++)
            *to++ = (struct known_name){c->names[k], &s->pairs[i]};
    }
    if (index)
        qsort(index, *n, sizeof *index, by_name);
    return index;
}

/* The first entry with that name; NULL: none. */
static const struct known_name *find(const struct io_tls_server *s, const char *name) {
    size_t from = 0, to = s->n_index;
    while (from < to) {
        size_t mid = from + (to - from) / 2;
        if (strcmp(s->index[mid].name, name) < 0)
            from = mid + 1;
        else
            to = mid;
    }
    return from < s->n_index && strcmp(s->index[from].name, name) == 0 ? &s->index[from] : NULL;
}

/* The first entry for the name that a client asks for: an exact name, or else a wildcard, whose star stands for one
 * whole label (RFC 9525 6.3). NULL: none. */
static const struct known_name *find_for(const struct io_tls_server *s, const char *asked) {
    char name[256];
    size_t n = asked ? strlen(asked) : 0;
    if (n == 0 || n >= sizeof name - 1)
        return NULL;
    for (size_t i = 0; i <= n; i++)
        name[i] = ht_lower(asked[i]);
    const struct known_name *k = find(s, name);
    char *dot = strchr(name, '.');
    if (k || !dot || dot == name)
        return k;
    dot[-1] = '*';
    return find(s, dot - 1);
}

/* ---- a handshake ---- */

static bool show(SSL *ssl, const struct pair *p) {
    return SSL_use_cert_and_key(ssl, p->in.leaf, p->in.key, p->in.chain, 0) == 1;
}

/* Called once the client's name is known. Of several certificates for it, OpenSSL gets the first of each kind of key.
 */
static int choose_certificate(SSL *ssl, void *arg) {
    struct io_tls_server *s = arg;
    const struct known_name *k = find_for(s, SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name));
    bool shown = false;
    SSL_certs_clear(ssl); /* this function is called again after a HelloRetryRequest */
    if (!k) {
        size_t first = 0; /* at least one pair has a certificate */
        while (!s->pairs[first].in.leaf)
            first++;
        return show(ssl, &s->pairs[first]);
    }
    for (const struct known_name *end = s->index + s->n_index, *it = k; it < end && strcmp(it->name, k->name) == 0;
         it++)
        shown = show(ssl, it->pair) || shown;
    ERR_clear_error();
    return shown;
}

static bool prepare(struct io_tls_server *s) {
    static const unsigned char context[] = "hoody-tunnel";
    SSL_CTX *c = s->ctx = SSL_CTX_new(TLS_server_method());
    s->tickets = io_tickets_create();
    if (!c || !s->tickets)
        return false;
    SSL_CTX_set_options(c, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                               SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF); /* tickets need no memory on this side */
    SSL_CTX_set_alpn_select_cb(c, io_alpn_http, NULL);
    SSL_CTX_set_cert_cb(c, choose_certificate, s);
    io_tls_set_up(c);
    return SSL_CTX_set_min_proto_version(c, TLS1_2_VERSION) == 1 && SSL_CTX_set_cipher_list(c, CIPHERS) == 1 &&
           SSL_CTX_set_ciphersuites(c, CIPHERS_13) == 1 && SSL_CTX_set1_groups_list(c, GROUPS) == 1 &&
           SSL_CTX_set_session_id_context(c, context, sizeof context - 1) == 1 && io_tickets_use(s->tickets, c);
}

SSL *io_tls_server_session(struct io_tls_server *s, int fd, struct ht_errmsg *err) {
    ERR_clear_error();
    SSL *ssl = SSL_new(s->ctx);
    if (!ssl || SSL_set_fd(ssl, fd) != 1) {
        ht_fail(err, HT_ETLS, "cannot start TLS: %s", io_cert_why());
        SSL_free(ssl);
        return NULL;
    }
    SSL_set_accept_state(ssl);
    return ssl;
}

const char *io_tls_server_to_plain_http(const struct io_tls_server *s) { return s->cfg.to_plain_http; }

/* ---- making one ---- */

static void look(const struct pair *p, struct stat now[2]) {
    for (int i = 0; i < 2; i++)
        if (stat(p->files[i], &now[i]) != 0)
            now[i] = (struct stat){0};
}

static int fill(struct io_tls_server *s, struct ht_errmsg *err) {
    for (size_t i = 0; i < s->cfg.n_pairs; i++) {
        struct pair *p = &s->pairs[i];
        const struct io_tls_pair *from = &s->cfg.pairs[i];
        p->files[0] = from->cert_file;
        p->files[1] = from->key_file ? from->key_file : from->cert_file;
        look(p, p->seen); /* before reading, so that a change in between is noticed */
        if (s->cfg.n_self_signed && (p->seen[0].st_ino == 0 || p->seen[1].st_ino == 0))
            continue;
        int rc = read_pair(s, p, &p->in, err);
        if (rc < 0)
            return rc;
    }
    if (s->cfg.n_self_signed && !self_sign(s, &s->pairs[s->cfg.n_pairs].in))
        return ht_fail(err, HT_ETLS, "cannot make a certificate: %s", io_cert_why());
    s->index = make_index(s, NULL, NULL, &s->n_index);
    return s->index ? HT_OK : ht_fail(err, HT_ENOMEM, "out of memory");
}

struct io_tls_server *io_tls_server_create(const struct io_tls_server_config *cfg, struct ht_errmsg *err) {
    size_t n = cfg->n_pairs + (cfg->n_self_signed > 0);
    struct io_tls_server *s = ht_calloc(1, sizeof *s + n * sizeof s->pairs[0]);
    if (!s) {
        ht_fail(err, HT_ENOMEM, "out of memory");
        return NULL;
    }
    s->cfg = *cfg;
    s->n_pairs = n;
    ERR_clear_error();
    if (!prepare(s)) {
        ht_fail(err, HT_ETLS, "cannot prepare TLS: %s", io_cert_why());
        io_tls_server_destroy(&s);
    } else if (fill(s, err) < 0) {
        io_tls_server_destroy(&s);
    }
    return s;
}

void io_tls_server_destroy(struct io_tls_server **sp) {
    struct io_tls_server *s = *sp;
    *sp = NULL;
    if (!s)
        return;
    for (size_t i = 0; i < s->n_pairs; i++)
        content_free(&s->pairs[i].in);
    SSL_CTX_free(s->ctx);
    io_tickets_destroy(&s->tickets);
    ht_free(s->index);
    ht_free(s);
}

/* ---- asking, and reading again ---- */

static int64_t good_until(const X509 *x) {
    struct tm tm;
    return ASN1_TIME_to_tm(X509_get0_notAfter(x), &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

bool io_tls_server_cert(const struct io_tls_server *s, size_t i, struct io_tls_cert *out) {
    uint8_t sum[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    if (i >= s->n_pairs)
        return false;
    const struct content *c = &s->pairs[i].in;
    *out = (struct io_tls_cert){.file = s->pairs[i].files[0],
                                .name = c->n_names ? c->names[0] : "",
                                .kept = s->kept && !s->pairs[i].files[0],
                                .good_until = c->leaf ? good_until(c->leaf) : INT64_MAX};
    if (c->leaf && X509_digest(c->leaf, EVP_sha256(), sum, &n) == 1)
        io_fingerprint_text(sum, out->fingerprint);
    return true;
}

static bool same_file(const struct stat *a, const struct stat *b) {
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static bool same_files(const struct stat a[2], const struct stat b[2]) {
    return same_file(&a[0], &b[0]) && same_file(&a[1], &b[1]);
}

static int renew(struct io_tls_server *s, struct pair *p, const struct stat now[2], struct ht_errmsg *err) {
    struct content fresh;
    size_t n = 0;
    int rc = read_pair(s, p, &fresh, err);
    struct known_name *index = rc == HT_OK ? make_index(s, p, &fresh, &n) : NULL;
    if (rc == HT_OK && !index) {
        content_free(&fresh);
        rc = ht_fail(err, HT_ENOMEM, "%s: out of memory", p->files[0]);
    }
    if (rc < 0) {
        memcpy(p->bad, now, sizeof p->bad);
        return rc;
    }
    content_free(&p->in);
    ht_free(s->index);
    p->in = fresh;
    s->index = index;
    s->n_index = n;
    memcpy(p->seen, now, sizeof p->seen);
    p->bad[0] = (struct stat){0};
    return HT_OK;
}

void io_tls_server_renew(struct io_tls_server *s, bool all,
                         void (*told)(void *ctx, const struct io_tls_cert *cert, int err, const char *text),
                         void *ctx) {
    for (size_t i = 0; i < s->cfg.n_pairs; i++) {
        struct pair *p = &s->pairs[i];
        struct stat now[2];
        struct io_tls_cert cert;
        struct ht_errmsg err = {""};
        look(p, now);
        bool again = same_files(now, p->bad);
        if (!p->in.leaf && (now[0].st_ino == 0 || now[1].st_ino == 0))
            continue; /* the files do not exist yet */
        if (!all && (same_files(now, p->seen) || (again && p->bad_told)))
            continue;
        int rc = renew(s, p, now, &err);
        p->bad_told = rc < 0 && (all || again);
        if ((rc == HT_OK || p->bad_told) && io_tls_server_cert(s, i, &cert))
            told(ctx, &cert, rc, err.text);
    }
}
