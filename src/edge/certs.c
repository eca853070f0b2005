#include "edge/certs.h"

#include "base/log.h"
#include "base/mem.h"
#include "edge/acme_plan.h"
#include "log_gen.h"

#include <dirent.h>
#include <stdio.h>
#include <time.h>

#define TIDY_MS 10000 /* until a file goes: a HAProxy that has read the list before still reads it */
#define AGAIN_MS 300  /* until HAProxy is asked again that was not reached */
#define OWN "edge"    /* the server's own certificate, which is in no list; a domain has a dot in its name */

const char *const edge_cert_folders[EDGE_CERT_FROM] = {[EDGE_CERT_ISSUED] = "certs", [EDGE_CERT_BROUGHT] = "brought"};

struct entry {
    struct ht_list queue;           /* in the certs'; empty: HAProxy has what is wanted */
    enum edge_cert_from want, live; /* EDGE_CERT_FROM: none */
    bool unsure;                    /* HAProxy may have loaded the list before or behind the change */
    bool again;                     /* it has changed once more while HAProxy is told */
    bool own;
    char name[];
};

enum step { STEP_NONE, STEP_SET, STEP_COMMIT, STEP_REMOVE };

struct edge_certs {
    struct io_loop *loop;
    const char *folder;
    struct edge_admin *admin;
    const struct edge_certs_ops *ops;
    void *ctx;
    struct entry **entries; /* sorted by name */
    size_t n, cap;
    struct ht_list queue; /* struct entry: what HAProxy has to be told */
    enum step step;       /* what it is told of the first one */
    unsigned generation;  /* answers to an older one do not count */
    bool held, stale;     /* `stale`: the list's file is to be written */
    struct io_task flush;
    struct io_timer again, tidy;
};

/* An answer comes to one of these, which knows what was asked. */
struct asked {
    struct edge_certs *c;
    unsigned generation;
};

static void go_on(struct edge_certs *c);

static char *path_of(enum edge_cert_from from, const char *name, char out[EDGE_PATH]) {
    snprintf(out, EDGE_PATH, "%s/%s.pem", edge_cert_folders[from], name);
    return out;
}

/* ---- the table ---- */

static size_t place_of(const struct edge_certs *c, const char *name) {
    size_t low = 0, high = c->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (strcmp(c->entries[mid]->name, name) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static struct entry *find(const struct edge_certs *c, const char *name) {
    size_t at = place_of(c, name);
    return at < c->n && strcmp(c->entries[at]->name, name) == 0 ? c->entries[at] : NULL;
}

static struct entry *add(struct edge_certs *c, const char *name) {
    struct entry *e = find(c, name);
    size_t at = place_of(c, name), n = strlen(name);
    if (e)
        return e;
    if (c->n == c->cap) {
        size_t cap = c->cap ? c->cap * 2 : 16;
        struct entry **more = ht_realloc(c->entries, cap * sizeof(struct entry *));
        if (!more)
            return NULL;
        c->entries = more;
        c->cap = cap;
    }
    e = ht_calloc(1, sizeof *e + n + 1);
    if (!e)
        return NULL;
    memcpy(e->name, name, n + 1);
    e->want = e->live = EDGE_CERT_FROM;
    ht_list_init(&e->queue);
    memmove(c->entries + at + 1, c->entries + at, (c->n - at) * sizeof(struct entry *));
    c->entries[at] = e;
    c->n++;
    return e;
}

static void forget(struct edge_certs *c, struct entry *e) {
    size_t at = place_of(c, e->name);
    ht_list_remove(&e->queue);
    memmove(c->entries + at, c->entries + at + 1, (c->n - at - 1) * sizeof(struct entry *));
    c->n--;
    ht_free(e);
}

/* HAProxy has to be told of it. */
static void changed(struct edge_certs *c, struct entry *e) {
    bool first = !ht_list_empty(&c->queue) && c->queue.next == &e->queue;
    if (ht_list_empty(&e->queue))
        ht_list_push_back(&c->queue, &e->queue);
    e->again = e->again || (first && c->step != STEP_NONE);
    e->unsure = e->unsure || c->held;
    c->stale = c->stale || !e->own;
    io_task_add(c->loop, &c->flush);
}

/* ---- certificates ---- */

static void take_facts(const struct io_site_facts *facts, struct edge_cert *out) {
    *out = (struct edge_cert){.begins = facts->begins, .ends = facts->ends};
    snprintf(out->issuer, sizeof out->issuer, "%.63s", facts->issuer);
}

int edge_certs_look(const char *name, struct ht_slice pem, struct edge_cert *out, struct ht_errmsg *err) {
    struct io_site_facts facts;
    struct ht_errmsg why;
    if (pem.n > ACME_PEM_MAX)
        return ht_fail(err, HT_EINVAL, "certificate, chain and key have %zu bytes together, and may have %u", pem.n,
                       ACME_PEM_MAX);
    if (io_site_look(pem, &facts, &why) < 0)
        return ht_fail(err, HT_EINVAL, "%s", why.text);
    if (!facts.fits_key)
        return ht_fail(err, HT_EINVAL, "the key is not there, or is that of another certificate");
    if (!io_site_is_for(pem, name))
        return ht_fail(err, HT_EINVAL, "the certificate, of %s, is not for %s", facts.subject, name);
    if (io_site_check(pem, &why) < 0)
        return ht_fail(err, HT_EINVAL, "%s", why.text);
    take_facts(&facts, out);
    return HT_OK;
}

int edge_certs_check(const char *name, struct ht_slice pem, struct edge_cert *out, struct ht_errmsg *err) {
    int rc = edge_certs_look(name, pem, out, err);
    return rc == HT_OK && out->ends <= (int64_t)time(NULL) ? ht_fail(err, HT_EINVAL, "the certificate has ended") : rc;
}

/* It was checked before it was written, and nobody else writes here: thousands are not checked at each start. */
int edge_certs_load(struct edge_certs *c, const char *name, enum edge_cert_from from, struct edge_cert *out) {
    char path[EDGE_PATH], pem[ACME_PEM_MAX + 2];
    struct io_site_facts facts;
    struct ht_errmsg err;
    int n = edge_folder_read(c->folder, path_of(from, name, path), pem, sizeof pem, &err);
    int rc = n < 0 ? n : io_site_glance(ht_slice_of(pem, (size_t)n), &facts, &err);
    explicit_bzero(pem, sizeof pem);
    if (rc < 0 && n != HT_EOF)
        ht_warn("edge", "%s/%s is not shown: %s", c->folder, path, err.text);
    if (rc < 0)
        return HT_EOF;
    take_facts(&facts, out);
    struct entry *e = add(c, name);
    if (!e)
        return HT_ENOMEM;
    e->want = e->live = from;
    c->stale = true;
    return HT_OK;
}

int edge_certs_put(struct edge_certs *c, const char *name, enum edge_cert_from from, struct ht_slice pem,
                   struct ht_errmsg *err) {
    char path[EDGE_PATH];
    struct entry *e = add(c, name);
    if (!e)
        return ht_fail(err, HT_ENOMEM, "out of memory");
    int rc = edge_folder_write(c->folder, path_of(from, name, path), pem, true, err);
    if (rc < 0) {
        if (e->want == EDGE_CERT_FROM && e->live == EDGE_CERT_FROM && ht_list_empty(&e->queue))
            forget(c, e);
        return rc;
    }
    e->want = from;
    changed(c, e);
    return HT_OK;
}

void edge_certs_drop(struct edge_certs *c, const char *name) {
    struct entry *e = find(c, name);
    if (!e)
        return;
    e->want = EDGE_CERT_FROM;
    changed(c, e);
}

void edge_certs_own_changed(struct edge_certs *c) {
    struct entry *e = add(c, OWN);
    if (!e) /* the next reload has it */
        return;
    e->own = true;
    e->want = EDGE_CERT_ISSUED;
    changed(c, e);
}

void edge_certs_tidy(const struct edge_certs *c) {
    for (int from = 0; from < EDGE_CERT_FROM; from++) {
        char path[EDGE_PATH], name[256], file[EDGE_PATH];
        struct ht_errmsg err;
        DIR *d = opendir(edge_path(c->folder, edge_cert_folders[from], path));
        for (const struct dirent *item; d && (item = readdir(d));) {
            const char *end = strrchr(item->d_name, '.');
            if (item->d_name[0] == '.' || !end || (strcmp(end, ".pem") != 0 && strcmp(end, ".part") != 0))
                continue;
            snprintf(name, sizeof name, "%.*s", (int)(end - item->d_name), item->d_name);
            const struct entry *e = find(c, name);
            bool kept = strcmp(name, OWN) == 0 || (e ? (int)e->want == from : c->ops->known(c->ctx, name, from));
            kept = kept && strcmp(end, ".pem") == 0;
            snprintf(file, sizeof file, "%s/%.120s", edge_cert_folders[from], item->d_name);
            if (!kept && edge_folder_remove(c->folder, file, &err) < 0)
                ht_warn("edge", "%s", err.text);
        }
        if (d)
            closedir(d);
    }
}

static void on_tidy(struct io_timer *t) {
    struct edge_certs *c = ht_container_of(t, struct edge_certs, tidy);
    if (c->held)
        io_timer_set(t, TIDY_MS);
    else
        edge_certs_tidy(c);
}

/* ---- the list ---- */

int edge_certs_write(struct edge_certs *c, struct ht_errmsg *err) {
    struct ht_buf text = {0};
    char path[EDGE_PATH];
    int rc = HT_OK;
    for (size_t i = 0; rc == HT_OK && i < c->n; i++) {
        const struct entry *e = c->entries[i];
        if (e->want != EDGE_CERT_FROM && !e->own)
            rc = ht_buf_printf(&text, "%s/%s %s\n", c->folder, path_of(e->want, e->name, path), e->name);
    }
    rc = rc < 0 ? ht_fail(err, rc, "out of memory")
                : edge_folder_write(c->folder, HAPROXY_ACME_LIST, ht_buf_slice(&text), true, err);
    ht_buf_free(&text);
    c->stale = c->stale && rc < 0;
    return rc;
}

/* ---- HAProxy ---- */

static void tell_settled(struct edge_certs *c) {
    if (c->ops->settled)
        c->ops->settled(c->ctx);
}

/* HAProxy has been told all of the first one. */
static void finish(struct edge_certs *c, struct entry *e) {
    c->step = STEP_NONE;
    e->live = e->want;
    e->unsure = false;
    if (!e->again) {
        ht_list_remove(&e->queue);
        if (!e->own)
            io_timer_set(&c->tidy, TIDY_MS);
        if (e->want == EDGE_CERT_FROM)
            forget(c, e);
    }
    if (ht_list_empty(&c->queue))
        tell_settled(c);
}

static void refuse(struct edge_certs *c, struct entry *e, struct ht_slice answer) {
    char why[200], name[256];
    size_t n = 0;
    for (size_t i = 0; i < answer.n && n + 1 < sizeof why; i++)
        if (answer.p[i] != '\n' || (n && why[n - 1] != ' '))
            why[n++] = answer.p[i] == '\n' ? ' ' : answer.p[i];
    why[n] = '\0';
    snprintf(name, sizeof name, "%s", e->name);
    ht_log_with(HT_LOG_ERROR, "edge", HT_LOG_FIELDS(log_reason(why)), "HAProxy does not take the certificate of %s",
                name);
    if (!e->own) {
        e->want = EDGE_CERT_FROM;
        e->unsure = true;
        c->stale = true;
        e->again = false;
        if (c->ops->refused)
            c->ops->refused(c->ctx, name, why);
    } else {
        finish(c, e);
    }
}

static size_t count(struct ht_slice text, const char *what) {
    size_t n = strlen(what), found = 0;
    for (size_t i = 0; i + n <= text.n; i++)
        found += memcmp(text.p + i, what, n) == 0;
    return found;
}

static void next_step(struct edge_certs *c, struct entry *e, struct ht_slice answer) {
    bool fresh = e->live != e->want || e->unsure; /* to be put into the list */
    switch (c->step) {
    case STEP_SET:
        c->step = STEP_COMMIT;
        if (count(answer, "Transaction created") + count(answer, "Transaction updated") == 0) {
            c->step = STEP_NONE;
            refuse(c, e, answer);
        }
        return;
    case STEP_COMMIT:
        c->step = STEP_REMOVE;
        if (count(answer, "Success!") < (fresh && !e->own ? 2 : 1)) {
            c->step = STEP_NONE;
            refuse(c, e, answer);
        } else if (e->own || !fresh || (e->live == EDGE_CERT_FROM && !e->unsure)) {
            finish(c, e);
        }
        return;
    case STEP_REMOVE:
    case STEP_NONE:
        finish(c, e);
    }
}

static void on_answer(void *ctx, int rc, const struct edge_answer *a) {
    struct asked *asked = ctx;
    struct edge_certs *c = asked->c;
    bool ours = asked->generation == c->generation;
    ht_free(asked);
    if (!ours || rc == HT_ECLOSED || ht_list_empty(&c->queue))
        return;
    if (rc < 0) {
        c->step = STEP_NONE;
        HT_LIST_ENTRY(c->queue.next, struct entry, queue)->unsure = true;
        io_timer_set(&c->again, AGAIN_MS);
        return;
    }
    next_step(c, HT_LIST_ENTRY(c->queue.next, struct entry, queue), a->text);
    go_on(c);
}

static int tell(struct edge_certs *c, struct ht_buf *commands, struct ht_slice payload) {
    struct asked *asked = ht_calloc(1, sizeof *asked);
    int rc = asked ? HT_OK : HT_ENOMEM;
    if (asked) {
        *asked = (struct asked){c, c->generation};
        rc = payload.n ? edge_admin_send_with(c->admin, ht_buf_slice(commands), payload, on_answer, asked)
                       : edge_admin_send(c->admin, ht_buf_slice(commands), on_answer, asked);
        if (rc < 0)
            ht_free(asked);
    }
    return rc;
}

static int send_set(struct edge_certs *c, const struct entry *e, struct ht_buf *b) {
    char path[EDGE_PATH], pem[ACME_PEM_MAX + 4096];
    struct ht_errmsg err;
    struct ht_buf clean = {0};
    int n = edge_folder_read(c->folder, path_of(e->want, e->name, path), pem, sizeof pem, &err);
    int rc = n < 0 ? HT_EIO : acme_pem_clean(ht_slice_of(pem, (size_t)n), &clean, &err);
    for (int from = 0; rc == HT_OK && e->unsure && from < EDGE_CERT_FROM; from++) { /* what was begun and not ended */
        char other[EDGE_PATH];
        rc = ht_buf_printf(b, "abort ssl cert %s/%s;", c->folder, path_of(from, e->name, other));
    }
    if (rc == HT_OK && !e->own)
        rc = ht_buf_printf(b, "new ssl cert %s/%s;", c->folder, path);
    if (rc == HT_OK)
        rc = ht_buf_printf(b, "set ssl cert %s/%s", c->folder, path);
    if (rc == HT_OK)
        rc = tell(c, b, ht_buf_slice(&clean));
    else if (rc != HT_ENOMEM)
        ht_error("edge", "%s", err.text);
    explicit_bzero(pem, sizeof pem);
    if (clean.data)
        explicit_bzero(clean.data, clean.cap);
    ht_buf_free(&clean);
    return rc;
}

static int send_commit(struct edge_certs *c, const struct entry *e, struct ht_buf *b) {
    char path[EDGE_PATH], line[2 * EDGE_PATH + 8];
    path_of(e->want, e->name, path);
    int rc = ht_buf_printf(b, "commit ssl cert %s/%s", c->folder, path);
    if (e->own || (e->live == e->want && !e->unsure))
        return rc == HT_OK ? tell(c, b, ht_slice_of(NULL, 0)) : rc;
    if (rc == HT_OK && e->unsure) /* it may be there already, and must not be there twice */
        rc = ht_buf_printf(b, ";del ssl crt-list %s/" HAPROXY_ACME_LIST " %s/%s", c->folder, c->folder, path);
    if (rc == HT_OK)
        rc = ht_buf_printf(b, ";add ssl crt-list %s/" HAPROXY_ACME_LIST, c->folder);
    snprintf(line, sizeof line, "%s/%s %s\n", c->folder, path, e->name);
    return rc == HT_OK ? tell(c, b, ht_slice_str(line)) : rc;
}

/* What is not wanted, of both folders where it is not known which one HAProxy has. */
static int send_remove(struct edge_certs *c, const struct entry *e, struct ht_buf *b) {
    char path[EDGE_PATH];
    int rc = HT_OK;
    for (int from = 0; rc == HT_OK && from < EDGE_CERT_FROM; from++) {
        if (from == (int)e->want || (!e->unsure && from != (int)e->live))
            continue;
        path_of(from, e->name, path);
        rc = ht_buf_printf(b,
                           "%sabort ssl cert %s/%s;del ssl crt-list %s/" HAPROXY_ACME_LIST " %s/%s;del ssl cert %s/%s",
                           ht_buf_size(b) ? ";" : "", c->folder, path, c->folder, c->folder, path, c->folder, path);
    }
    return rc == HT_OK ? tell(c, b, ht_slice_of(NULL, 0)) : rc;
}

/* Tells HAProxy the next thing. */
static void go_on(struct edge_certs *c) {
    struct ht_errmsg err;
    struct ht_buf b = {0};
    if (c->held || ht_list_empty(&c->queue) || io_timer_active(&c->again))
        return;
    struct entry *e = HT_LIST_ENTRY(c->queue.next, struct entry, queue);
    int rc = c->stale ? edge_certs_write(c, &err) : HT_OK;
    if (rc < 0)
        ht_error("edge", "%s", err.text);
    if (e->again) { /* from the beginning */
        c->step = STEP_NONE;
        e->again = false;
        e->unsure = true;
    }
    if (c->step == STEP_NONE)
        c->step = e->want == EDGE_CERT_FROM ? STEP_REMOVE : STEP_SET;
    if (rc == HT_OK)
        rc = c->step == STEP_SET      ? send_set(c, e, &b)
             : c->step == STEP_COMMIT ? send_commit(c, e, &b)
                                      : send_remove(c, e, &b);
    ht_buf_free(&b);
    if (rc < 0) { /* it may be in HAProxy's list already, and is begun from the beginning */
        e->unsure = e->unsure || c->step != STEP_SET;
        c->step = STEP_NONE;
        io_timer_set(&c->again, AGAIN_MS);
    }
}

static void on_flush(struct io_task *t) {
    struct edge_certs *c = ht_container_of(t, struct edge_certs, flush);
    struct ht_errmsg err;
    if (c->stale && edge_certs_write(c, &err) < 0)
        ht_error("edge", "%s", err.text);
    if (c->step == STEP_NONE)
        go_on(c);
}

static void on_again(struct io_timer *t) { go_on(ht_container_of(t, struct edge_certs, again)); }

void edge_certs_hold(struct edge_certs *c) {
    c->held = true;
    c->generation++;
    c->step = STEP_NONE;
    io_timer_stop(&c->again);
    HT_LIST_FOR (it, &c->queue) {
        struct entry *e = HT_LIST_ENTRY(it, struct entry, queue);
        e->unsure = true;
        e->again = false;
    }
}

void edge_certs_go(struct edge_certs *c) {
    edge_certs_hold(c);
    c->held = false;
    go_on(c);
}

/* ---- beginning and end ---- */

struct edge_certs *edge_certs_create(struct io_loop *loop, const char *folder, struct edge_admin *admin,
                                     const struct edge_certs_ops *ops, void *ctx) {
    struct edge_certs *c = ht_calloc(1, sizeof *c);
    if (!c)
        return NULL;
    *c = (struct edge_certs){
        .loop = loop, .folder = folder, .admin = admin, .ops = ops, .ctx = ctx, .held = true, .stale = true};
    ht_list_init(&c->queue);
    io_task_init(&c->flush, on_flush);
    io_timer_init(loop, &c->again, on_again);
    io_timer_init(loop, &c->tidy, on_tidy);
    return c;
}

void edge_certs_destroy(struct edge_certs **cp) {
    struct edge_certs *c = *cp;
    *cp = NULL;
    if (!c)
        return;
    io_task_cancel(&c->flush);
    io_timer_stop(&c->again);
    io_timer_stop(&c->tidy);
    for (size_t i = 0; i < c->n; i++)
        ht_free(c->entries[i]);
    ht_free(c->entries);
    ht_free(c);
}
