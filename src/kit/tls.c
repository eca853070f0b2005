/* The kit's certificates: reading them, noticing new ones, warning before they end. And TLS handshakes with peers. */
#include "kit/kit_priv.h"

#include "base/log.h"
#include "base/mem.h"
#include "log_gen.h"
#include "proc/files.h"
#include "proc/seal.h"
#include "wire/name.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOOK_MS 2000                 /* how often the kit checks whether the files have changed */
#define WARN_S (14 * INT64_C(86400)) /* how long before the end of a certificate the warnings begin */
#define WARN_AGAIN_MS (UINT64_C(86400) * 1000)
#define CERTIFICATE_MAX 65536u

static const char to_plain_http[] = "HTTP/1.1 400 Bad Request\r\n"
                                    "Content-Type: text/plain; charset=utf-8\r\n"
                                    "Content-Length: 46\r\n"
                                    "Connection: close\r\n"
                                    "Cache-Control: no-store\r\n"
                                    "\r\n"
                                    "This port speaks TLS: write https:// or wss://";

struct kit_tls {
    struct kit *kit;
    struct io_tls_server *server;
    struct io_tls_pair *pairs;
    size_t n_pairs;
    char **texts; /* the names of the files, to which the pairs point: certificates, then keys */
    size_t n_texts;
    const char *user; /* open files with the rights of this user; NULL: with the present rights */
    struct io_timer look;
    uint64_t warned_at_ms; /* 0: never */
    char warnings[ADMIN_WARNINGS][320];
};

/* ---- the options ---- */

/* Appends a copy of each item of the comma lists to t->texts. *count: how many there were. */
static int split(struct kit_tls *t, const char **lists, size_t n, size_t *count, struct ht_errmsg *err) {
    *count = 0;
    for (size_t i = 0; i < n; i++)
        for (const char *list = lists[i]; list;) {
            struct ht_slice item = ht_list_item(&list);
            char **more = item.n ? ht_realloc(t->texts, (t->n_texts + 1) * sizeof *more) : NULL;
            if (more)
                t->texts = more;
            if (!more || !(t->texts[t->n_texts] = ht_strndup(item.p, item.n)))
                return item.n ? ht_fail(err, HT_ENOMEM, "out of memory")
                              : ht_fail(err, HT_EINVAL, "\"%.80s\": the name of a file is empty", lists[i]);
            t->n_texts++;
            ++*count;
        }
    return HT_OK;
}

static int find_pairs(struct kit_tls *t, struct ht_errmsg *err) {
    const struct opt_serve *o = t->kit->opt;
    size_t keys = 0;
    int rc = split(t, o->tls_cert, o->n_tls_cert, &t->n_pairs, err);
    if (rc == HT_OK)
        rc = split(t, o->tls_key, o->n_tls_key, &keys, err);
    if (rc < 0)
        return rc;
    if (keys && keys != t->n_pairs)
        return ht_fail(
            err, HT_EINVAL,
            "%zu files are given with --tls-cert, and %zu with --tls-key: give as many, each key in the place "
            "of its certificate, or no --tls-key when the keys are in the files of the certificates",
            t->n_pairs, keys);
    t->pairs = ht_calloc(t->n_pairs + 1, sizeof *t->pairs);
    if (!t->pairs)
        return ht_fail(err, HT_ENOMEM, "out of memory");
    for (size_t i = 0; i < t->n_pairs; i++)
        t->pairs[i] = (struct io_tls_pair){t->texts[i], keys ? t->texts[t->n_pairs + i] : NULL};
    return HT_OK;
}

static int open_file(void *ctx, const char *path, bool is_key, struct ht_errmsg *err) {
    const struct kit_tls *t = ctx;
    return proc_files_open(is_key ? PROC_FILES_KEY : PROC_FILES_CERT, path, t->user, err);
}

/* ---- messages about certificates ---- */

/* The day of a time in Unix seconds; returns `out`. */
static const char *day(int64_t at, char out[32]) {
    struct tm tm;
    time_t t = (time_t)at;
    if (!gmtime_r(&t, &tm) || strftime(out, 32, "%Y-%m-%d", &tm) == 0)
        snprintf(out, 32, "?");
    return out;
}

static const char *where(const struct io_tls_cert *c) {
    if (c->file)
        return c->file;
    return c->kept ? "self-signed, of the kit before" : "self-signed, made at the start";
}

static void told_renewed(void *ctx, const struct io_tls_cert *c, int err, const char *text) {
    struct kit_tls *t = ctx;
    char until[32];
    if (err < 0) {
        ht_error("kit", "%s; the old certificate stays in force", text);
        return;
    }
    t->warned_at_ms = 0;
    ht_info("kit", "the certificate for %s (%s) is in force, good until %s", c->name, where(c),
            day(c->good_until, until));
}

size_t kit_tls_warnings(const struct kit *k, struct ht_slice out[ADMIN_WARNINGS]) {
    struct kit_tls *t = k->tls;
    struct io_tls_cert c;
    int64_t now = (int64_t)time(NULL);
    char until[32];
    size_t n = 0;
    for (size_t i = 0; t && n < ADMIN_WARNINGS && io_tls_server_cert(t->server, i, &c); i++) {
        if (c.good_until - now >= WARN_S)
            continue;
        snprintf(t->warnings[n], sizeof t->warnings[n], "the certificate for %.250s %s %s", c.name,
                 c.good_until <= now ? "ended on" : "ends on", day(c.good_until, until));
        out[n] = ht_slice_str(t->warnings[n]);
        n++;
    }
    return n;
}

static void warn(struct kit_tls *t) {
    struct ht_slice warnings[ADMIN_WARNINGS];
    uint64_t now = io_now_ms(t->kit->loop);
    if (t->warned_at_ms && now - t->warned_at_ms < WARN_AGAIN_MS)
        return;
    size_t n = kit_tls_warnings(t->kit, warnings);
    for (size_t i = 0; i < n; i++)
        ht_warn("kit", "%s", warnings[i].p);
    t->warned_at_ms = now ? now : 1;
}

static void look(struct io_timer *timer) {
    struct kit_tls *t = ht_container_of(timer, struct kit_tls, look);
    io_tls_server_renew(t->server, false, told_renewed, t);
    warn(t);
    io_timer_set(timer, LOOK_MS);
}

void kit_tls_reload(struct kit *k) {
    if (!k->tls)
        return;
    io_tls_server_renew(k->tls->server, true, told_renewed, k->tls);
    warn(k->tls);
}

void kit_tls_own_rights(struct kit *k) {
    struct kit_tls *t = k->tls;
    struct ht_errmsg err;
    if (!t)
        return;
    t->user = NULL;
    for (size_t i = 0; i < t->n_texts; i++) {
        int fd = open_file(t, t->texts[i], i >= t->n_pairs, &err);
        if (fd >= 0)
            close(fd);
        else
            ht_warn("kit", "%s for the user of --user; when the file changes, it cannot be read again", err.text);
    }
}

/* ---- the self-signed certificate, from program to program ---- */

static void wipe(struct ht_buf *text) {
    if (ht_buf_size(text))
        explicit_bzero(ht_buf_head(text), ht_buf_size(text));
    ht_buf_free(text);
}

static void read_kept(int certificate, struct ht_buf *out) {
    struct ht_errmsg err;
    if (certificate >= 0 && proc_seal_read(certificate, CERTIFICATE_MAX, out, &err) < 0)
        ht_error("kit", "the certificate of the kit before cannot be read: %s", err.text);
}

int kit_tls_seal(const struct kit *k) {
    struct ht_buf text = {0};
    struct ht_errmsg err = {""};
    int rc = k->tls ? io_tls_server_keep(k->tls->server, &text) : HT_EINVAL;
    int fd = rc == HT_OK ? proc_seal("hoody-tunnel-certificate", ht_buf_slice(&text), &err) : -1;
    wipe(&text);
    if (fd < 0 && rc != HT_EINVAL)
        ht_error("kit", "the kit's own certificate cannot be handed over: %s",
                 err.text[0] ? err.text : ht_err_text(rc));
    return fd < 0 ? -1 : fd;
}

/* ---- making it ---- */

int kit_tls_open(struct kit *k, int certificate, struct ht_errmsg *err) {
    const struct opt_serve *o = k->opt;
    static const char *const names[] = {"localhost", "127.0.0.1", "::1"};
    const char *self[HT_ARRAY_LEN(names) + 3];
    char below[300], domain[WIRE_HOST_ROOM];
    struct io_addr listen;
    size_t n = 0;
    if (o->n_tls_cert == 0 && !o->tls_self_signed)
        return o->n_tls_key == 0 ? HT_OK : ht_fail(err, HT_EINVAL, "--tls-key has no use without --tls-cert");
    struct kit_tls *t = k->tls = ht_calloc(1, sizeof *t);
    if (!t)
        return ht_fail(err, HT_ENOMEM, "out of memory");
    t->kit = k;
    t->user = o->user;
    io_timer_init(k->loop, &t->look, look);
    for (size_t i = 0; i < HT_ARRAY_LEN(names); i++)
        self[n++] = names[i];
    if (io_addr_parse(&listen, o->listen.host, 1) == HT_OK && !io_addr_is_loopback(&listen))
        self[n++] = o->listen.host;
    if (o->domain && wire_domain_read(domain, ht_slice_str(o->domain), 1, err) == HT_OK) { /* else public.c complains */
        snprintf(below, sizeof below, "*.%.253s", domain);
        self[n++] = domain;
        self[n++] = below;
    }
    int rc = find_pairs(t, err);
    if (rc < 0)
        return rc;
    struct ht_buf kept = {0};
    read_kept(certificate, &kept);
    t->server = io_tls_server_create(&(struct io_tls_server_config){.pairs = t->pairs,
                                                                    .n_pairs = t->n_pairs,
                                                                    .self_signed = self,
                                                                    .n_self_signed = o->tls_self_signed ? n : 0,
                                                                    .kept = ht_buf_slice(&kept),
                                                                    .open = open_file,
                                                                    .ctx = t,
                                                                    .to_plain_http = to_plain_http},
                                     err);
    wipe(&kept);
    if (!t->server)
        return HT_ETLS;
    struct io_tls_cert c;
    char until[32];
    for (size_t i = 0; io_tls_server_cert(t->server, i, &c); i++) {
        if (c.good_until == INT64_MAX) {
            ht_warn("kit", "%s is missing; until it exists, the kit shows a certificate that it has made itself",
                    where(&c));
            continue;
        }
        ht_info("kit", "the certificate for %s (%s) is good until %s", c.name, where(&c), day(c.good_until, until));
        if (!c.file && !c.kept && certificate >= 0)
            ht_warn("kit", "the certificate of the kit before is for other names, or ends within a month: drivers that "
                           "trust it with --pin need the new one");
        if (!c.file)
            ht_info("kit", "its fingerprint: a driver trusts it with --pin %s", c.fingerprint);
    }
    look(&t->look);
    return HT_OK;
}

void kit_tls_close(struct kit *k) {
    struct kit_tls *t = k->tls;
    k->tls = NULL;
    if (!t)
        return;
    io_timer_stop(&t->look);
    io_tls_server_destroy(&t->server);
    for (size_t i = 0; i < t->n_texts; i++)
        ht_free(t->texts[i]);
    ht_free(t->texts);
    ht_free(t->pairs);
    ht_free(t);
}

/* ---- handshakes ---- */

static void accepted(void *ctx, struct io_conn *conn) {
    struct kit_handshake *h = ctx;
    h->accept = NULL;
    h->kit->metrics
        .tls_handshakes_total[io_conn_resumed(conn) ? HT_METRIC_TLS_SESSION_RESUMED : HT_METRIC_TLS_SESSION_FULL]++;
    h->done(h, conn);
}

static void failed(void *ctx, enum io_accept_why why, const char *text) {
    static const enum ht_metric_tls_failure reasons[] = {
        [IO_ACCEPT_TIMED_OUT] = HT_METRIC_TLS_FAILURE_TIMEOUT,
        [IO_ACCEPT_LEFT] = HT_METRIC_TLS_FAILURE_LEFT,
        [IO_ACCEPT_PLAIN_HTTP] = HT_METRIC_TLS_FAILURE_PLAIN_HTTP,
        [IO_ACCEPT_DISTRUSTED] = HT_METRIC_TLS_FAILURE_DISTRUSTED,
        [IO_ACCEPT_UNMATCHED] = HT_METRIC_TLS_FAILURE_UNMATCHED,
        [IO_ACCEPT_BROKEN] = HT_METRIC_TLS_FAILURE_BROKEN,
    };
    struct kit_handshake *h = ctx;
    h->accept = NULL;
    h->kit->metrics.tls_handshake_failures_total[reasons[why]]++;
    ht_log_stranger(why == IO_ACCEPT_LEFT ? HT_LOG_DEBUG : HT_LOG_INFO, "kit",
                    HT_LOG_FIELDS(log_peer(h->peer), log_reason(text)), "a TLS handshake failed");
    h->done(h, NULL);
}

static const struct io_accept_ops handshake_ops = {accepted, failed};

bool kit_handshake_begin(struct kit_handshake *h, struct io_conn *conn) {
    struct ht_errmsg err;
    h->accept = io_accept_server(h->kit->loop, conn, h->kit->tls->server, h->kit->opt->head_timeout_ms, &handshake_ops,
                                 h, &err);
    if (!h->accept)
        ht_log_stranger(HT_LOG_WARN, "kit", HT_LOG_FIELDS(log_peer(h->peer), log_reason(err.text)),
                        "a connection could not be accepted");
    return h->accept != NULL;
}

void kit_handshake_cancel(struct kit_handshake *h) { io_accept_cancel(&h->accept); }
