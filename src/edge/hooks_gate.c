#include "edge/hooks_gate.h"

#include "edge/policy_priv.h"

#include <stdio.h>

/* ---- a service that a hook forwards to ---- */

/* What another container's gate knows of a visitor is what he shows in this request, and nothing that the visited one
 * has found out. */
static struct edge_visit visit_of(const struct edge_hooking *h, const struct edge_visit *v, bool within) {
    struct edge_visit to = {.family = v->family, .target = v->target, .heads = v->heads};
    memcpy(to.addr, v->addr, sizeof to.addr);
    if (within)
        to = *v;
    to.program = ht_slice_str(h->to_program);
    to.index = h->did.to_index;
    to.also = ht_slice_of("", 0);
    return to;
}

/* The head as the gate of the visited service has left it: its lines, but Cookie as it is now. */
static int heads_left(const struct edge_visit *v, const struct edge_strip *strip, struct ht_buf *out) {
    struct ht_slice rest = v->heads;
    int rc = HT_OK;
    while (rest.n && rc == HT_OK) {
        const char *end = memchr(rest.p, '\n', rest.n);
        size_t n = end ? (size_t)(end - rest.p) + 1 : rest.n;
        bool cookie = n > 7 && ht_slice_case_eq(ht_slice_of(rest.p, 7), ht_slice_str("cookie:"));
        if (!cookie)
            rc = ht_buf_append(out, rest.p, n);
        rest = ht_slice_of(rest.p + n, rest.n - n);
    }
    if (rc == HT_OK && ht_buf_size(&strip->cookie))
        rc = ht_buf_printf(out, "cookie: %.*s\r\n", HT_SLICE_ARG(ht_buf_slice(&strip->cookie)));
    return rc;
}

static void take_over(bool *has, struct ht_buf *text, bool more, struct ht_buf *newer) {
    if (!more)
        return;
    ht_buf_free(text);
    *text = *newer;
    *newer = (struct ht_buf){0};
    *has = true;
}

/* Another container's gate has secrets of its own. They go from what is left, too. */
static int strip_more(struct edge_hooking *h, const struct edge_visit *v, struct edge_strip *strip) {
    struct edge_visit left = *v, rewritten = *v;
    struct edge_strip more = {.authorization = false}, path = {.authorization = false};
    struct ht_buf heads = {0};
    int rc = HT_OK;
    if (strip->has_target)
        left.target = ht_buf_slice(&strip->target);
    if (strip->has_cookie) {
        rc = heads_left(v, strip, &heads);
        left.heads = ht_buf_slice(&heads);
    }
    rewritten.target = ht_buf_slice(&h->did.path);
    rewritten.heads = ht_slice_of("", 0);
    if (rc == HT_OK)
        rc = edge_policy_strip(h->to_policy, &left, &more);
    if (rc == HT_OK && h->did.has_path)
        rc = edge_policy_strip(h->to_policy, &rewritten, &path);
    if (rc == HT_OK && ht_buf_size(&more.names))
        rc = ht_buf_printf(&strip->names, "%s%.*s", ht_buf_size(&strip->names) ? " " : "",
                           HT_SLICE_ARG(ht_buf_slice(&more.names)));
    strip->usual = strip->usual && more.usual; /* only both together are the usual ones for sure */
    strip->authorization |= more.authorization;
    take_over(&strip->has_cookie, &strip->cookie, more.has_cookie, &more.cookie);
    take_over(&strip->has_target, &strip->target, more.has_target, &more.target);
    take_over(&h->did.has_path, &h->did.path, path.has_target, &path.target);
    edge_strip_free(&more);
    edge_strip_free(&path);
    if (heads.data)
        explicit_bzero(heads.data, heads.cap);
    ht_buf_free(&heads);
    return rc;
}

/* The same project, by its name in the host: nothing else can be said. */
static int look_at_forward(struct edge_hooking *h, const struct edge_policies *policies, struct ht_slice container,
                           const struct edge_visit *v, struct edge_strip *strip, const struct edge_policy *own,
                           uint64_t now_s) {
    struct edge_policy *p;
    const char *to = h->did.to[0] ? h->did.to : container.p + EDGE_ID + 1;
    snprintf(h->to_scope, sizeof h->to_scope, "%.*s-%.*s", EDGE_ID, container.p, EDGE_ID, to);
    snprintf(h->to_program, sizeof h->to_program, "%.*s", HT_SLICE_ARG(h->did.to_program));
    struct ht_slice scope = ht_slice_str(h->to_scope);
    h->to_gated = edge_policies_find(policies, scope, &p);
    if (!h->to_gated || !p)
        return HT_OK;
    h->to_policy = edge_policy_keep(p);
    struct edge_visit visit = visit_of(h, v, !h->did.to[0] && p == own);
    edge_policies_also(policies, p, scope, &visit);
    edge_policy_decide(p, &visit, now_s, &h->to);
    return p == own ? HT_OK : strip_more(h, &visit, strip);
}

/* ---- what hooks do ---- */

int edge_hooking_run(struct edge_hooking *h, const struct edge_hooktable *hooks, const struct edge_policies *policies,
                     struct ht_slice container, struct ht_slice method, const struct edge_visit *v,
                     struct edge_strip *strip, const struct edge_policy *policy, uint64_t now_s) {
    const struct edge_hooks *these;
    if (!edge_hooktable_find(hooks, container, &these))
        return HT_OK;
    h->broken = !these;
    if (!these)
        return HT_OK;
    struct edge_hook_visit visit = {
        .container = ht_slice_of(container.p + EDGE_ID + 1, EDGE_ID),
        .program = v->program,
        .index = v->index,
        .method = method,
        .family = v->family,
        .target = strip->has_target ? ht_buf_slice(&strip->target) : v->target,
        .heads = v->heads,
    };
    memcpy(visit.addr, v->addr, sizeof visit.addr);
    int rc = edge_hooks_run(these, &visit, now_s, &h->did);
    if (rc == HT_OK && h->did.forwards)
        rc = look_at_forward(h, policies, container, v, strip, policy, now_s);
    return rc;
}

void edge_hooking_free(struct edge_hooking *h) {
    edge_hooked_free(&h->did);
    edge_policy_destroy(&h->to_policy);
    explicit_bzero(&h->to, sizeof h->to);
}

static void set_text(struct spop_set *sets, size_t *n, enum haproxy_answer name, struct ht_slice text) {
    sets[(*n)++] = (struct spop_set){haproxy_answers[name], SPOP_BYTES, 0, text};
}

static void set_number(struct spop_set *sets, size_t *n, enum haproxy_answer name, unsigned number) {
    sets[(*n)++] = (struct spop_set){haproxy_answers[name], SPOP_INT, number, {NULL, 0}};
}

size_t edge_hooking_sets(const struct edge_hooking *h, struct spop_set *sets) {
    static const enum haproxy_answer limits[HOOKS_LIMITS][3] = {
        {HAPROXY_ANSWER_LIMIT_1, HAPROXY_ANSWER_MOST_1, HAPROXY_ANSWER_AGAIN_1},
        {HAPROXY_ANSWER_LIMIT_2, HAPROXY_ANSWER_MOST_2, HAPROXY_ANSWER_AGAIN_2}};
    const struct edge_hooked *d = &h->did;
    size_t n = 0;
    if (ht_buf_size(&d->names))
        set_text(sets, &n, HAPROXY_ANSWER_HOOK, ht_buf_slice(&d->names));
    if (ht_buf_size(&d->request))
        set_text(sets, &n, HAPROXY_ANSWER_REQUEST, ht_buf_slice(&d->request));
    if (ht_buf_size(&d->response))
        set_text(sets, &n, HAPROXY_ANSWER_RESPONSE, ht_buf_slice(&d->response));
    if (d->has_path)
        set_text(sets, &n, HAPROXY_ANSWER_PATH, ht_buf_slice(&d->path));
    if (d->timeout_ms)
        set_number(sets, &n, HAPROXY_ANSWER_TIMEOUT, d->timeout_ms);
    if (d->forwards) {
        set_text(sets, &n, HAPROXY_ANSWER_TO, ht_slice_str(h->to_scope));
        set_text(sets, &n, HAPROXY_ANSWER_TO_PROGRAM, ht_slice_str(h->to_program));
        set_number(sets, &n, HAPROXY_ANSWER_TO_INDEX, d->to_index);
    }
    for (size_t i = 0; i < d->n_limits; i++) {
        set_text(sets, &n, limits[i][0], ht_slice_str(d->limits[i].key));
        set_number(sets, &n, limits[i][1], d->limits[i].most);
        set_number(sets, &n, limits[i][2], d->limits[i].again_s);
    }
    return n;
}
