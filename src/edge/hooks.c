/* What hooks do to a request. */
#include "edge/hooks_priv.h"

#include "base/mem.h"
#include "http/http.h"

#include <stdio.h>

#define LOGGED_MAX 200      /* bytes of the names of hooks in a line of the log */
#define REWRITTEN_MAX 12000 /* bytes of a path and query that a service gets */

size_t edge_hooks_count(const struct edge_hooks *h) { return h->n; }

const char *edge_hooks_forward(const struct edge_hooks *h, size_t i) {
    return i < h->n_forwards ? h->forwards[i] : NULL;
}

bool edge_hooks_forward_within(const struct edge_hooks *h) { return h->within; }

void edge_hooked_free(struct edge_hooked *o) {
    ht_buf_free(&o->names);
    ht_buf_free(&o->request);
    ht_buf_free(&o->response);
    ht_buf_free(&o->path);
}

/* A request that hooks look at, and what they have made of it. */
struct running {
    const struct edge_hooks *h;
    const struct edge_hook_visit *v;
    struct edge_hooked *out;
    uint64_t now_s;
    struct edge_field *fields; /* of the head */
    size_t n_fields;
    struct ht_slice path, query; /* in the normal form; query with its ? */
    bool odd;
    struct ht_buf normal, now, value; /* now: the path as it is by now, when has_path */
    struct hook_filling fill;
    char client[IO_ADDR_TEXT];
    bool over; /* a reply ends it */
};

/* ---- whether a hook is for a request ---- */

static bool is_one_of(const struct ht_slice *all, size_t n, struct ht_slice s) {
    for (size_t i = 0; i < n; i++)
        if (ht_slice_eq(all[i], s))
            return true;
    return n == 0;
}

static bool is_around(const struct hook_want *w, struct ht_slice s) {
    return s.n >= w->before.n + w->after.n && memcmp(s.p, w->before.p, w->before.n) == 0 &&
           memcmp(s.p + s.n - w->after.n, w->after.p, w->after.n) == 0;
}

static bool is_wanted(const struct running *r, const struct hook_want *w) {
    bool there = false, fits = false;
    for (size_t i = 0; i < r->n_fields; i++) {
        if (!ht_slice_case_eq(r->fields[i].name, w->name))
            continue;
        there = true;
        fits |= w->kind == HOOK_WANT_TEXT     ? ht_slice_eq(r->fields[i].value, w->before)
                : w->kind == HOOK_WANT_AROUND ? is_around(w, r->fields[i].value)
                                              : true;
    }
    return w->kind == HOOK_WANT_ABSENT ? !there : there && fits;
}

static bool has_index(const struct hook *h, unsigned index) {
    for (size_t i = 0; i < h->n_indexes; i++)
        if (h->indexes[i] == index)
            return true;
    return h->n_indexes == 0;
}

static bool matches(struct running *r, const struct hook *h) {
    const struct edge_hook_visit *v = r->v;
    bool it = is_one_of(h->methods, h->n_methods, v->method) && has_index(h, v->index) &&
              (h->n_nets == 0 || (v->family && ht_cidrs_match(h->nets, h->n_nets, v->family, v->addr))) &&
              hook_path_matches(&h->path, r->path, &r->fill.captures);
    for (size_t i = 0; it && i < h->n_wants; i++)
        it = is_wanted(r, &h->wants[i]);
    return it;
}

/* ---- what it does ---- */

static int put_record(struct running *r, struct ht_buf *to, char what, struct ht_slice name, struct ht_slice value) {
    const uint8_t size[2] = {(uint8_t)(value.n >> 8), (uint8_t)value.n};
    const char head[2] = {what, (char)name.n};
    size_t all = ht_buf_size(&r->out->request) + ht_buf_size(&r->out->response) + name.n + value.n + 4;
    if (all > HOOKS_RECORDS_MAX || name.n > UINT8_MAX) {
        r->out->fault = HT_EINVAL;
        return HT_OK;
    }
    int rc = ht_buf_append(to, head, sizeof head);
    if (rc == HT_OK)
        rc = ht_buf_append(to, name.p, name.n);
    if (rc == HT_OK)
        rc = ht_buf_append(to, size, sizeof size);
    return rc == HT_OK ? ht_buf_append(to, value.p, value.n) : rc;
}

/* The document was looked at when it was read. What is filled in comes from a visitor, and nothing that was kept is
 * believed twice: a line end in a value would be another field, or another request. */
static int put_field(struct running *r, struct ht_buf *to, char what, const struct hook_field *f, bool on_response) {
    ht_buf_consume(&r->value, ht_buf_size(&r->value));
    int rc = hook_text_fill(&f->value, &r->fill, &r->value);
    struct ht_slice value = ht_buf_slice(&r->value);
    if (rc < 0)
        return rc;
    if (value.n > HOOKS_VALUE_MAX || !http_is_field_value(value) || hook_field_fault(f->name, on_response)) {
        r->out->fault = HT_EINVAL;
        return HT_OK;
    }
    return put_record(r, to, what, f->name, value);
}

static int put_fields(struct running *r, const struct hook_action *a) {
    static const char whats[] = {[HOOK_SET] = 's', [HOOK_ADD] = 'a', [HOOK_DEL] = 'd'};
    struct ht_buf *to = a->on_response ? &r->out->response : &r->out->request;
    int rc = HT_OK;
    for (size_t i = 0; rc == HT_OK && i < a->n; i++)
        rc = put_field(r, to, whats[a->kind], &a->fields[i], a->on_response);
    return rc;
}

static int reply(struct running *r, const struct hook_action *a) {
    struct ht_buf *to = &r->out->request;
    char status[16];
    bool typed = a->body.n == 0;
    r->over = true;
    ht_buf_consume(to, ht_buf_size(to)); /* nobody gets the request */
    r->out->has_path = r->out->forwards = false;
    snprintf(status, sizeof status, "%u", a->status);
    int rc = put_record(r, to, 'r', ht_slice_str(status), ht_slice_of("", 0));
    for (size_t i = 0; rc == HT_OK && i < a->n; i++) {
        typed |= ht_slice_is(a->fields[i].name, "content-type");
        rc = put_field(r, to, 'h', &a->fields[i], true);
    }
    if (rc == HT_OK && !typed)
        rc = put_record(r, to, 'h', ht_slice_str("content-type"), ht_slice_str("text/plain; charset=utf-8"));
    return rc == HT_OK && a->body.n ? put_record(r, to, 'b', ht_slice_of("", 0), a->body) : rc;
}

static int rewrite(struct running *r, const struct hook_action *a) {
    struct ht_slice now = r->out->has_path ? ht_buf_slice(&r->now) : r->path, rest = {"", 0};
    struct ht_buf next = {0};
    if (a->prefix.p && (now.n == 0 || now.p[0] != '/' || !hook_path_below(now, a->prefix, &rest)))
        return HT_OK;
    if (r->odd) {
        r->out->fault = HT_EINVAL;
        return HT_OK;
    }
    int rc = hook_text_fill(&a->to, &r->fill, &next);
    struct ht_slice begun = ht_buf_slice(&next);
    size_t doubled = begun.n && rest.n && begun.p[begun.n - 1] == '/' ? 1 : 0;
    if (rc == HT_OK)
        rc = ht_buf_append(&next, rest.p + doubled, rest.n - doubled);
    if (rc == HT_OK && (!hook_path_is_good(ht_buf_slice(&next)) || ht_buf_size(&next) + r->query.n > REWRITTEN_MAX))
        r->out->fault = HT_EINVAL;
    ht_buf_free(&r->now);
    r->now = next;
    r->out->has_path = true;
    return rc;
}

static uint64_t hash_text(uint64_t h, struct ht_slice s) {
    for (size_t i = 0; i < s.n; i++)
        h = ht_hash_char(h, s.p[i]);
    return ht_hash_char(h, '/');
}

/* The key is of a span of time, so that what is counted needs no length of its own. Spans of visitors begin at
 * different moments. */
static void limit(struct running *r, const struct hook *h, const struct hook_action *a) {
    struct edge_hook_limit *l = &r->out->limits[r->out->n_limits];
    const struct edge_hook_visit *v = r->v;
    size_t bytes = v->family == 4 ? 4 : v->family == 6 ? 8 : 0, n;
    uint64_t hash = hash_text(hash_text(HT_HASH, h->service), h->id);
    n = (size_t)snprintf(l->key, sizeof l->key, "%.*s%08x", (int)ht_min(v->container.n, EDGE_ID), v->container.p,
                         (unsigned)hash);
    for (size_t i = 0; i < bytes; i++) {
        n += (size_t)snprintf(l->key + n, sizeof l->key - n, "%02x", v->addr[i]);
        hash = ht_hash_char(hash, (char)v->addr[i]);
    }
    uint64_t at = r->now_s + hash % a->seconds;
    snprintf(l->key + n, sizeof l->key - n, "%u", (unsigned)(at / a->seconds));
    l->most = a->requests;
    l->again_s = a->seconds - (unsigned)(at % a->seconds);
    r->out->n_limits++;
}

static int act(struct running *r, const struct hook *h, const struct hook_action *a) {
    struct edge_hooked *o = r->out;
    switch (a->kind) {
    case HOOK_SET:
    case HOOK_ADD:
    case HOOK_DEL:
        return put_fields(r, a);
    case HOOK_REWRITE:
        return rewrite(r, a);
    case HOOK_REPLY:
        return reply(r, a);
    case HOOK_LIMIT:
        if (o->n_limits < HOOKS_LIMITS)
            limit(r, h, a);
        return HT_OK;
    case HOOK_FORWARD:
        o->forwards = true;
        memcpy(o->to, a->container, sizeof o->to);
        o->to_program = a->program;
        o->to_index = a->index;
        return HT_OK;
    }
    return HT_OK;
}

static int put_name(struct edge_hooked *o, const struct hook *h) {
    size_t n = ht_buf_size(&o->names);
    if (n + h->service.n + h->id.n + 2 > LOGGED_MAX)
        return HT_OK;
    return ht_buf_printf(&o->names, "%s%s/%s", n ? "," : "", h->service.p, h->id.p);
}

static int run_hooks(struct running *r, struct ht_slice service) {
    int rc = HT_OK;
    for (size_t i = 0; rc == HT_OK && !r->over && r->out->fault == 0 && i < r->h->n; i++) {
        const struct hook *h = &r->h->hooks[i];
        if (!ht_slice_eq(h->service, service) || !matches(r, h))
            continue;
        rc = put_name(r->out, h);
        if (h->timeout_ms)
            r->out->timeout_ms = h->timeout_ms;
        for (size_t k = 0; rc == HT_OK && !r->over && r->out->fault == 0 && k < h->n_actions; k++)
            rc = act(r, h, &h->actions[k]);
    }
    return rc;
}

static int begin(struct running *r) {
    const struct edge_hook_visit *v = r->v;
    const char *mark = v->target.n ? memchr(v->target.p, '?', v->target.n) : NULL;
    size_t n = mark ? (size_t)(mark - v->target.p) : v->target.n;
    r->query = ht_slice_of(v->target.p + n, v->target.n - n);
    r->fields = ht_calloc(POLICY_FIELDS_MAX, sizeof *r->fields);
    if (!r->fields || hook_path_normal(ht_slice_of(v->target.p, n), &r->normal, &r->odd) < 0)
        return HT_ENOMEM;
    r->n_fields = edge_fields_read(v->heads, r->fields, POLICY_FIELDS_MAX);
    r->path = ht_buf_slice(&r->normal);
    if (v->family) {
        struct io_addr from = io_addr_of_bytes(v->family, v->addr, 0);
        io_addr_host(&from, r->client);
    }
    r->fill = (struct hook_filling){.path = r->path, .method = v->method, .client = ht_slice_str(r->client)};
    return HT_OK;
}

int edge_hooks_run(const struct edge_hooks *h, const struct edge_hook_visit *v, uint64_t now_s,
                   struct edge_hooked *out) {
    struct running r = {.h = h, .v = v, .out = out, .now_s = now_s};
    int rc = begin(&r);
    if (rc == HT_OK)
        rc = run_hooks(&r, ht_slice_str("*"));
    if (rc == HT_OK)
        rc = run_hooks(&r, v->program);
    if (rc == HT_OK && out->has_path)
        rc = ht_buf_append(&out->path, ht_buf_head(&r.now), ht_buf_size(&r.now));
    if (rc == HT_OK && out->has_path)
        rc = ht_buf_append(&out->path, r.query.p, r.query.n);
    ht_free(r.fields);
    ht_buf_free(&r.normal);
    ht_buf_free(&r.now);
    ht_buf_free(&r.value);
    return rc;
}
