#include "edge/domains.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "edge/acme.h"
#include "edge/look.h"
#include "log_gen.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

#define LEDGER "acme/orders.json"
#define OWN_FILE "acme/edge.pem"
#define LOOK_MS 3600000 /* at least so often: the wall clock may be set */
#define SOON_MS 50
#define NEVER INT64_MAX

struct record {
    char *name;
    bool own; /* the server's wildcard */
    bool brought, has, wanted_now;
    struct edge_cert cert;
    struct acme_record *tries; /* NULL: nothing has failed */
};

enum job { JOB_NONE, JOB_LOOKS_UP, JOB_ORDERS };

struct edge_domains {
    struct edge_domains_config cfg;
    struct edge_certs *certs;
    struct edge_acme *acme; /* NULL: no server may be asked */
    struct edge_observer observer;
    struct record **records; /* sorted by name */
    size_t n, cap;
    struct acme_ledger ledger;
    struct io_timer look;
    bool serves, left;
    enum job job;
    struct record *at; /* whose job it is; NULL: it is gone */
    struct io_resolve *resolve;
};

static int64_t now_ms(void) { return (int64_t)ht_now_ms() + ht_wall_offset_ms(); }

/* ---- the table ---- */

static size_t place_of(const struct edge_domains *d, const char *name) {
    size_t low = 0, high = d->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (strcmp(d->records[mid]->name, name) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static struct record *find(const struct edge_domains *d, const char *name) {
    size_t at = place_of(d, name);
    return at < d->n && strcmp(d->records[at]->name, name) == 0 ? d->records[at] : NULL;
}

static struct record *add(struct edge_domains *d, const char *name) {
    size_t at = place_of(d, name);
    if (d->n == d->cap) {
        size_t cap = d->cap ? d->cap * 2 : 16;
        struct record **more = ht_realloc(d->records, cap * sizeof(struct record *));
        if (!more)
            return NULL;
        d->records = more;
        d->cap = cap;
    }
    struct record *r = ht_calloc(1, sizeof *r);
    char *copy = ht_strndup(name, strlen(name));
    if (!r || !copy) {
        ht_free(r);
        ht_free(copy);
        return NULL;
    }
    r->name = copy;
    memmove(d->records + at + 1, d->records + at, (d->n - at) * sizeof(struct record *));
    d->records[at] = r;
    d->n++;
    return r;
}

static void record_free(struct record *r) {
    ht_free(r->name);
    ht_free(r->tries);
    ht_free(r);
}

/* ---- what is kept of attempts ---- */

static char *tries_path(const struct record *r, char out[EDGE_PATH]) {
    snprintf(out, EDGE_PATH, "acme/tries/%s.json", r->own ? "own" : r->name);
    return out;
}

static bool need_tries(struct record *r) {
    if (!r->tries)
        r->tries = ht_calloc(1, sizeof *r->tries);
    return r->tries;
}

static int keep_tries(const struct edge_domains *d, const struct record *r, struct ht_errmsg *err) {
    char path[EDGE_PATH];
    struct ht_buf text = {0};
    int rc = acme_record_put(r->tries, &text);
    rc = rc < 0 ? ht_fail(err, rc, "out of memory")
                : edge_folder_write(d->cfg.folder, tries_path(r, path), ht_buf_slice(&text), true, err);
    ht_buf_free(&text);
    return rc;
}

static void forget_tries(const struct edge_domains *d, struct record *r) {
    char path[EDGE_PATH];
    struct ht_errmsg err;
    if (edge_folder_remove(d->cfg.folder, tries_path(r, path), &err) < 0)
        ht_warn("edge", "%s", err.text);
    ht_free(r->tries);
    r->tries = NULL;
}

/* HT_OK or HT_ENOMEM. */
static int load_tries(const struct edge_domains *d, struct record *r) {
    char path[EDGE_PATH], text[8 * ACME_ERROR];
    struct ht_errmsg err;
    int n = edge_folder_read(d->cfg.folder, tries_path(r, path), text, sizeof text, &err);
    if (n == HT_EOF)
        return HT_OK;
    if (!need_tries(r))
        return HT_ENOMEM;
    if (n < 0 || acme_record_read(r->tries, ht_slice_of(text, (size_t)n)) < 0) {
        ht_warn("edge", "%s/%s cannot be read, and counts for nothing", d->cfg.folder, path);
        forget_tries(d, r);
    } else if (r->tries->running) {
        r->tries->running = false;
        snprintf(r->tries->error, sizeof r->tries->error, "the edge ended while a certificate was being asked for");
    }
    return HT_OK;
}

static int keep_ledger(struct edge_domains *d, struct ht_errmsg *err) {
    struct ht_buf text = {0};
    int rc = acme_ledger_put(&d->ledger, &text);
    rc = rc < 0 ? ht_fail(err, rc, "out of memory")
                : edge_folder_write(d->cfg.folder, LEDGER, ht_buf_slice(&text), true, err);
    ht_buf_free(&text);
    return rc;
}

static int load_ledger(struct edge_domains *d, struct ht_errmsg *err) {
    size_t cap = 32 * 20000;
    char *text = ht_malloc(cap);
    int n = text ? edge_folder_read(d->cfg.folder, LEDGER, text, cap, err) : ht_fail(err, HT_ENOMEM, "out of memory");
    int rc = n == HT_EOF ? HT_OK : n < 0 ? n : acme_ledger_read(&d->ledger, ht_slice_of(text, (size_t)n));
    ht_free(text);
    if (rc == HT_EPROTO)
        return ht_fail(err, HT_EINVAL,
                       "%s/" LEDGER
                       " is not what this program has written; take it away, and the daily cap begins anew",
                       d->cfg.folder);
    return rc == HT_ENOMEM ? ht_fail(err, rc, "out of memory") : rc;
}

/* ---- when ---- */

static int64_t renew_at(const struct record *r) {
    return acme_renew_at(r->cert.begins * 1000, r->cert.ends * 1000, acme_spread(r->name));
}

static int64_t due_of(const struct edge_domains *d, const struct record *r) {
    if (!d->acme || (r->brought && !r->own))
        return NEVER;
    if (r->wanted_now)
        return 0;
    if (r->tries && r->tries->failures)
        return r->tries->next;
    return r->has ? renew_at(r) : 0;
}

/* What goes first: the server's own, then what has a certificate that ends, the soonest first, then what has waited
 * longest. */
static bool before(const struct edge_domains *d, const struct record *a, const struct record *b) {
    if (a->own != b->own)
        return a->own;
    if (a->has != b->has)
        return a->has;
    return a->has ? a->cert.ends < b->cert.ends : due_of(d, a) < due_of(d, b);
}

static int64_t free_at(struct edge_domains *d) {
    return acme_ledger_free_at(&d->ledger, now_ms(), d->cfg.acme->daily_cap);
}

static void begin_job(struct edge_domains *d, struct record *r);

static void look(struct edge_domains *d) {
    struct record *best = NULL;
    int64_t now = now_ms(), soonest = NEVER;
    if (!d->acme || !d->serves || d->left || d->job != JOB_NONE)
        return;
    for (size_t i = 0; i < d->n; i++) {
        int64_t due = due_of(d, d->records[i]);
        if (due <= now && (!best || before(d, d->records[i], best)))
            best = d->records[i];
        soonest = due < soonest ? due : soonest;
    }
    int64_t at = best ? free_at(d) : soonest;
    if (best && at <= now) {
        begin_job(d, best);
        return;
    }
    uint64_t wait = at == NEVER || at - now > LOOK_MS ? LOOK_MS : (uint64_t)(at - now);
    io_timer_set(&d->look, ht_max64(wait, SOON_MS));
}

static void on_look(struct io_timer *t) { look(ht_container_of(t, struct edge_domains, look)); }

/* At the end of the turn, for who may be inside a callback of the job. */
static void look_soon(struct edge_domains *d) { io_timer_set(&d->look, 0); }

/* ---- a job ---- */

static void end_job(struct edge_domains *d) {
    d->job = JOB_NONE;
    d->at = NULL;
    look_soon(d);
}

/* One more failure, counted already when an order had begun. */
static void failed(struct edge_domains *d, struct record *r, const char *why, bool counted) {
    struct ht_errmsg err;
    if (!need_tries(r))
        return; /* without memory it is tried again at the next look */
    struct acme_record *t = r->tries;
    if (!counted)
        t->failures++;
    uint32_t spread;
    ht_random_bytes(&spread, sizeof spread);
    t->running = false;
    t->next = now_ms() + (int64_t)acme_wait_ms(d->cfg.acme->retry_ms, t->failures, spread);
    snprintf(t->error, sizeof t->error, "%.*s", (int)sizeof t->error - 1, why);
    ht_log_with(HT_LOG_WARN, "edge", HT_LOG_FIELDS(log_reason(t->error), log_wait_ms((uint64_t)(t->next - now_ms()))),
                "there is no new certificate for %s", r->name);
    if (keep_tries(d, r, &err) < 0)
        ht_error("edge", "%s", err.text);
}

static int own_took(struct edge_domains *d, struct record *r, struct ht_slice pem, struct ht_errmsg *err) {
    char host[300];
    snprintf(host, sizeof host, "x%s", r->name + 1);
    int rc = edge_certs_check(host, pem, &r->cert, err);
    if (rc == HT_OK)
        rc = edge_folder_write(d->cfg.folder, OWN_FILE, pem, true, err);
    if (rc == HT_OK)
        rc = edge_folder_write(d->cfg.folder, "certs/edge.pem", pem, true, err);
    if (rc == HT_OK)
        edge_certs_own_changed(d->certs);
    return rc;
}

static void on_ordered(void *ctx, struct ht_slice pem, const char *why) {
    struct edge_domains *d = ctx;
    struct record *r = d->at;
    struct ht_errmsg err;
    struct edge_cert cert;
    if (!r || (r->brought && !r->own)) { /* nobody wants it any more */
        end_job(d);
        return;
    }
    int rc = pem.p ? HT_OK : ht_fail(&err, HT_EIO, "%s", why);
    if (rc == HT_OK && r->own)
        rc = own_took(d, r, pem, &err);
    else if (rc == HT_OK && (rc = edge_certs_check(r->name, pem, &cert, &err)) == HT_OK) {
        rc = edge_certs_put(d->certs, r->name, EDGE_CERT_ISSUED, pem, &err);
        r->cert = rc == HT_OK ? cert : r->cert;
    }
    if (rc < 0) {
        failed(d, r, err.text, true);
    } else {
        r->has = true;
        forget_tries(d, r);
        ht_info("edge", "%s has a new certificate", r->name);
    }
    end_job(d);
}

/* What it costs is on the disk before. */
static int pay(struct edge_domains *d, struct record *r, struct ht_errmsg *err) {
    uint32_t spread;
    ht_random_bytes(&spread, sizeof spread);
    if (!need_tries(r) || acme_ledger_add(&d->ledger, now_ms()) < 0)
        return ht_fail(err, HT_ENOMEM, "out of memory");
    r->tries->failures++;
    r->tries->running = true;
    r->tries->next = now_ms() + (int64_t)acme_wait_ms(d->cfg.acme->retry_ms, r->tries->failures, spread);
    int rc = keep_ledger(d, err);
    return rc == HT_OK ? keep_tries(d, r, err) : rc;
}

static void order(struct edge_domains *d, struct record *r) {
    char site[300];
    const char *names[] = {r->name, site};
    struct ht_errmsg err;
    snprintf(site, sizeof site, "*.%s", d->cfg.domain);
    d->job = JOB_ORDERS;
    int rc = pay(d, r, &err);
    if (rc == HT_OK)
        rc = edge_acme_order(d->acme, names, r->own ? 2 : 1, r->own, on_ordered, d, &err);
    if (rc < 0) {
        failed(d, r, err.text, true);
        end_job(d);
    }
}

/* ---- whether it leads here ---- */

static bool leads_here(const struct edge_domains *d, const struct io_addr *a) {
    const struct edge_nets *nets = &d->cfg.acme->addresses;
    uint8_t bytes[16];
    int family = io_addr_bytes(a, bytes);
    if (nets->n)
        return ht_cidrs_match(nets->list, nets->n, family, bytes);
    return !io_addr_is_loopback(a) && edge_look_is_own(family == 4 ? AF_INET : AF_INET6, bytes);
}

static void on_resolved(void *ctx, const struct io_addr *addr, unsigned n, const char *why) {
    struct edge_domains *d = ctx;
    struct record *r = d->at;
    char text[200] = "", host[IO_ADDR_TEXT];
    d->resolve = NULL;
    if (!r || r->brought) {
        end_job(d);
        return;
    }
    if (n == 0)
        snprintf(text, sizeof text, "its address cannot be found: %s", why);
    for (unsigned i = 0; i < n && !text[0]; i++)
        if (!leads_here(d, &addr[i]))
            snprintf(text, sizeof text, "%s is one of its addresses, and does not lead to this server",
                     io_addr_host(&addr[i], host));
    if (!text[0]) {
        order(d, r);
        return;
    }
    failed(d, r, text, false);
    end_job(d);
}

static void begin_job(struct edge_domains *d, struct record *r) {
    d->at = r;
    r->wanted_now = false;
    d->job = JOB_LOOKS_UP;
    if (r->own) {
        order(d, r);
        return;
    }
    d->resolve = io_resolve_start(d->cfg.loop, r->name, on_resolved, d);
    if (!d->resolve) {
        failed(d, r, "its address cannot be looked up just now", false);
        end_job(d);
    }
}

/* ---- documents ---- */

static int load_cert(struct edge_domains *d, struct record *r) {
    int rc = edge_certs_load(d->certs, r->name, r->brought ? EDGE_CERT_BROUGHT : EDGE_CERT_ISSUED, &r->cert);
    r->has = rc == HT_OK;
    return rc == HT_EOF ? HT_OK : rc;
}

static int load_one(void *ctx, const struct edge_doc *doc) {
    struct edge_domains *d = ctx;
    if (!edge_doc_part(doc, EDGE_DOMAIN_PART).p)
        return 0;
    struct record *r = add(d, edge_doc_id(doc));
    if (!r)
        return HT_ENOMEM;
    r->brought = edge_doc_part(doc, EDGE_DOMAIN_BROUGHT).p;
    int rc = load_cert(d, r);
    return rc == HT_OK ? load_tries(d, r) : rc;
}

static void leave_job(struct edge_domains *d, const struct record *r) {
    if (d->at != r || d->job == JOB_NONE)
        return;
    d->at = NULL;
    if (d->job == JOB_ORDERS) {
        edge_acme_kill(d->acme); /* on_ordered() comes */
        return;
    }
    io_resolve_cancel(&d->resolve);
    end_job(d);
}

static void remove_record(struct edge_domains *d, struct record *r) {
    size_t at = place_of(d, r->name);
    leave_job(d, r);
    edge_certs_drop(d->certs, r->name);
    forget_tries(d, r);
    memmove(d->records + at, d->records + at + 1, (d->n - at - 1) * sizeof(struct record *));
    d->n--;
    record_free(r);
}

static void on_changed(struct edge_observer *o, enum edge_kind kind, const char *id, const struct edge_doc *doc) {
    struct edge_domains *d = ht_container_of(o, struct edge_domains, observer);
    if (kind != EDGE_DOMAIN)
        return;
    struct record *r = find(d, id);
    if (!edge_doc_part(doc, EDGE_DOMAIN_PART).p) {
        if (r)
            remove_record(d, r);
        return;
    }
    if (!r && !(r = add(d, id))) {
        ht_error("edge", "out of memory: %s has no certificate until the edge starts again", id);
        return;
    }
    bool brought = edge_doc_part(doc, EDGE_DOMAIN_BROUGHT).p;
    if (r->brought && !brought) {
        edge_certs_drop(d->certs, r->name);
        r->has = false;
    }
    if (!r->brought && brought)
        leave_job(d, r);
    if (r->brought != brought)
        forget_tries(d, r);
    r->brought = brought;
    look_soon(d);
}

/* ---- what the API asks ---- */

size_t edge_domains_count(const struct edge_domains *d) { return d->n; }

static void add_words(struct edge_domain *out, struct edge_domains *d, const struct record *r) {
    int64_t now = now_ms(), due = due_of(d, r);
    if (r->tries)
        snprintf(out->error, sizeof out->error, "%s", r->tries->error);
    if (!out->error[0] && out->state == EDGE_DOMAIN_NONE)
        snprintf(out->error, sizeof out->error,
                 r->brought ? "the certificate that was brought cannot be shown; put it again"
                            : "no ACME server may be asked: edge up has no --acme-email");
    if (d->acme && due <= now && out->state != EDGE_DOMAIN_ISSUING && free_at(d) > now) {
        snprintf(out->error, sizeof out->error, "the daily cap of %u orders is used up", d->cfg.acme->daily_cap);
        due = free_at(d);
    }
    out->next = due == NEVER ? 0 : (due > now ? due : now) / 1000;
}

void edge_domains_at(struct edge_domains *d, size_t i, struct edge_domain *out) {
    const struct record *r = d->records[i];
    bool good = r->has && r->cert.ends * 1000 > now_ms();
    *out = (struct edge_domain){.name = r->name,
                                .state = d->at == r                       ? EDGE_DOMAIN_ISSUING
                                         : good                           ? EDGE_DOMAIN_ISSUED
                                         : due_of(d, r) == NEVER          ? EDGE_DOMAIN_NONE
                                         : r->tries && r->tries->failures ? EDGE_DOMAIN_FAILED
                                                                          : EDGE_DOMAIN_WAITING,
                                .brought = r->brought,
                                .has_cert = r->has,
                                .cert = r->cert,
                                .failures = r->tries ? r->tries->failures : 0};
    add_words(out, d, r);
}

size_t edge_domains_behind(const struct edge_domains *d, const char *name) {
    size_t at = place_of(d, name);
    return at + (at < d->n && strcmp(d->records[at]->name, name) == 0);
}

bool edge_domains_find(struct edge_domains *d, const char *name, struct edge_domain *out) {
    bool there = find(d, name);
    if (there)
        edge_domains_at(d, place_of(d, name), out);
    return there;
}

bool edge_domains_acme(const struct edge_domains *d) { return d->acme; }

size_t edge_domains_orders(struct edge_domains *d) { return acme_ledger_count(&d->ledger, now_ms()); }

size_t edge_domains_cap(const struct edge_domains *d) { return d->cfg.acme->daily_cap; }

int edge_domains_renew(struct edge_domains *d, const char *name, struct ht_errmsg *err) {
    struct record *r = find(d, name);
    if (!r)
        return HT_EOF;
    if (!d->acme)
        return ht_fail(err, HT_EINVAL, "no ACME server may be asked: edge up has no --acme-email");
    if (r->brought && !r->own)
        return ht_fail(err, HT_EINVAL, "its certificate was brought; delete that, and the ACME server is asked");
    if (free_at(d) > now_ms())
        return ht_fail(err, HT_ELIMIT, "the daily cap of %u orders is used up; --acme-daily-cap changes it",
                       d->cfg.acme->daily_cap);
    if (d->at == r)
        return HT_OK;
    r->wanted_now = true;
    look(d);
    return HT_OK;
}

int edge_domains_bring(struct edge_domains *d, const char *name, struct ht_slice pem, struct ht_errmsg *err) {
    struct record *r = find(d, name);
    struct edge_cert cert;
    if (!r || !r->brought)
        return ht_fail(err, HT_EINVAL, "there is no such domain any more");
    int rc = edge_certs_check(name, pem, &cert, err);
    if (rc == HT_OK)
        rc = edge_certs_put(d->certs, name, EDGE_CERT_BROUGHT, pem, err);
    if (rc == HT_OK) {
        r->has = true;
        r->cert = cert;
    }
    return rc;
}

/* ---- HAProxy ---- */

static void on_settled(void *ctx) {
    const struct edge_domains *d = ctx;
    d->cfg.settled(d->cfg.ctx);
}

static void on_refused(void *ctx, const char *name, const char *why) {
    struct edge_domains *d = ctx;
    struct record *r = find(d, name);
    char text[ACME_ERROR];
    if (!r)
        return;
    r->has = false;
    snprintf(text, sizeof text, "HAProxy does not take the certificate: %.300s", why);
    failed(d, r, text, false);
    look_soon(d);
}

int edge_domains_write(struct edge_domains *d, struct ht_errmsg *err) { return edge_certs_write(d->certs, err); }

void edge_domains_hold(struct edge_domains *d) { edge_certs_hold(d->certs); }

void edge_domains_go(struct edge_domains *d) {
    d->serves = true;
    edge_certs_go(d->certs);
    look_soon(d);
}

/* ---- beginning and end ---- */

bool edge_domains_own(const char *folder, const char *node, const char *domain, struct ht_buf *pem,
                      struct edge_cert *out) {
    char host[300], text[ACME_PEM_MAX + 2];
    struct ht_errmsg err;
    snprintf(host, sizeof host, "x.%s.containers.%s", node, domain);
    int n = edge_folder_read(folder, OWN_FILE, text, sizeof text, &err);
    bool good = n > 0 && edge_certs_look(host, ht_slice_of(text, (size_t)n), out, &err) == HT_OK &&
                (!pem || ht_buf_append(pem, text, (size_t)n) == HT_OK);
    explicit_bzero(text, sizeof text);
    return good;
}

static int add_own(struct edge_domains *d, struct ht_errmsg *err) {
    char name[300];
    snprintf(name, sizeof name, "*.%s.containers.%s", d->cfg.node, d->cfg.domain);
    struct record *r = add(d, name);
    if (!r)
        return ht_fail(err, HT_ENOMEM, "out of memory");
    r->own = true;
    r->has = edge_domains_own(d->cfg.folder, d->cfg.node, d->cfg.domain, NULL, &r->cert);
    return load_tries(d, r) == HT_OK ? HT_OK : ht_fail(err, HT_ENOMEM, "out of memory");
}

static bool is_known(void *ctx, const char *name, enum edge_cert_from from) {
    const struct record *r = find(ctx, name);
    return r && from == (r->brought ? EDGE_CERT_BROUGHT : EDGE_CERT_ISSUED);
}

int edge_domains_start(struct edge_domains **out, const struct edge_domains_config *cfg, struct ht_errmsg *err) {
    static const struct edge_certs_ops ops = {.settled = on_settled, .refused = on_refused, .known = is_known};
    struct edge_domains *d = ht_calloc(1, sizeof *d);
    *out = NULL;
    if (!d)
        return ht_fail(err, HT_ENOMEM, "out of memory");
    d->cfg = *cfg;
    io_timer_init(cfg->loop, &d->look, on_look);
    d->observer.changed = on_changed;
    d->certs = edge_certs_create(cfg->loop, cfg->folder, cfg->admin, &ops, d);
    int rc = d->certs ? load_ledger(d, err) : ht_fail(err, HT_ENOMEM, "out of memory");
    if (rc == HT_OK && cfg->acme->email)
        rc = edge_acme_start(&d->acme, cfg->loop, cfg->folder, cfg->acme, err);
    if (rc == HT_OK && edge_state_each(cfg->state, EDGE_DOMAIN, load_one, d) != 0)
        rc = ht_fail(err, HT_ENOMEM, "out of memory");
    if (rc == HT_OK && d->acme && cfg->acme->dns)
        rc = add_own(d, err);
    if (rc < 0) {
        edge_domains_stop(&d);
        return rc;
    }
    edge_certs_tidy(d->certs);
    edge_state_watch(cfg->state, &d->observer);
    *out = d;
    return HT_OK;
}

void edge_domains_leave(struct edge_domains *d) {
    if (!d || d->left)
        return;
    d->left = true;
    io_timer_stop(&d->look);
    io_resolve_cancel(&d->resolve);
    edge_acme_stop(&d->acme);
    edge_state_unwatch(d->cfg.state, &d->observer);
}

void edge_domains_stop(struct edge_domains **dp) {
    struct edge_domains *d = *dp;
    *dp = NULL;
    if (!d)
        return;
    edge_domains_leave(d);
    edge_certs_destroy(&d->certs);
    for (size_t i = 0; i < d->n; i++)
        record_free(d->records[i]);
    ht_free(d->records);
    acme_ledger_free(&d->ledger);
    ht_free(d);
}
