/* A request: it is checked, then refused or sent on with its secrets, and reported to the audit. */
#include "guard/guard_priv.h"

#include "base/clock.h"
#include "base/mem.h"
#include "relay/reply.h"

#include <stdio.h>

/* ---- told ---- */

/* With the request's texts; NULL: out of memory. */
static struct guard_running *running_new(const struct wire_stream_open *open) {
    const struct ht_slice parts[] = {open->method, open->target, open->peer_addr};
    struct guard_running *r = ht_malloc(sizeof *r + open->method.n + open->target.n + open->peer_addr.n + 3);
    char *texts[3], *at = r ? r->texts : NULL;
    if (!r)
        return NULL;
    for (size_t i = 0; i < HT_ARRAY_LEN(parts); i++) {
        texts[i] = at;
        if (parts[i].n)
            memcpy(at, parts[i].p, parts[i].n);
        at += parts[i].n;
        *at++ = '\0';
    }
    char *query = strchr(texts[1], '?');
    if (query)
        *query++ = '\0';
    *r = (struct guard_running){.began_us = ht_now_us(),
                                .event = {.method = texts[0], .path = texts[1], .query = query, .peer = texts[2]}};
    ht_list_init(&r->node);
    return r;
}

static const char *without_secret(const struct guard_door *d, const char *text) {
    return text && guard_policy_is_secret(d->h->policy, ht_slice_str(text)) ? "(withheld: it holds a secret)" : text;
}

/* A program that has come to know a secret, or a service that repeats it, does not get it into what is written here. */
static bool tell(const struct guard_door *d, const struct guard_event *event) {
    const struct guard *g = d->h->g;
    struct guard_event e = *event;
    if (!g->cfg.audit)
        return true;
    e.method = without_secret(d, e.method);
    e.path = without_secret(d, e.path);
    e.query = without_secret(d, e.query);
    e.error = without_secret(d, e.error);
    return g->cfg.audit(g->cfg.ctx, &e);
}

static void tell_over(const struct guard_door *d, struct guard_event *e, const char *error) {
    e->over = true;
    e->error = error;
    (void)tell(d, e);
}

static struct guard_event event_of(const struct guard_door *d, const struct guard_running *texts, uint64_t id,
                                   const struct guard_decision *decision) {
    struct guard_event e = texts ? texts->event : (struct guard_event){.method = "", .path = "", .peer = ""};
    e.ctx = d->h->ctx;
    e.id = id;
    e.host = d->h->name;
    e.port = d->port;
    e.reason = decision->reason;
    e.rule = decision->rule;
    e.injects = decision->injects;
    return e;
}

/* ---- refused ---- */

static void refuse(struct guard *g, struct mux_stream *st, bool head, const struct guard_decision *d) {
    char text[400], error[64], later[24];
    int n_text =
        snprintf(text, sizeof text, "refused by hoody-tunnel on the other machine: %s\n", guard_reason_text(d->reason));
    struct wire_header h[RELAY_REPLY_FIELDS] = {
        {ht_slice_str("content-type"), ht_slice_str(relay_form_type(RELAY_TEXT))},
        {ht_slice_str("cache-control"), ht_slice_str("no-store")},
        {ht_slice_str("x-hoody-tunnel"),
         ht_slice_of(error, (size_t)snprintf(error, sizeof error, "error=guard-%s", guard_reason_word(d->reason)))},
    };
    struct relay_reply r = {.status = guard_reason_status(d->reason),
                            .fields = h,
                            .n_fields = 3,
                            .body = ht_slice_of(text, (size_t)n_text),
                            .head = head};
    if (d->reason == GUARD_METHOD)
        h[r.n_fields++] =
            (struct wire_header){ht_slice_str("allow"), ht_slice_str("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")};
    if (d->retry_after)
        h[r.n_fields++] =
            (struct wire_header){ht_slice_str("retry-after"),
                                 ht_slice_of(later, (size_t)snprintf(later, sizeof later, "%u", d->retry_after))};
    relay_reply(&g->refusals, st, &r);
}

/* ---- decided ---- */

static bool is_for_another(const struct guard_host *h, const struct guard_request *r) {
    HT_LIST_FOR (it, &h->g->hosts) {
        const struct guard_host *other = HT_LIST_ENTRY(it, struct guard_host, node);
        if (other != h && guard_policy_is_mentioned(other->policy, r))
            return true;
    }
    return false;
}

static void decide(struct guard_door *d, const struct guard_request *r, struct guard_decision *out) {
    if (is_for_another(d->h, r))
        *out = (struct guard_decision){.reason = GUARD_PLACEHOLDER};
    else
        guard_policy_check(d->h->policy, r, io_now_ms(d->h->g->cfg.loop), out);
}

int guard_request_load(struct guard_door *d, struct guard_decision *decision, struct ht_errmsg *why) {
    why->text[0] = '\0';
    if (decision->reason != GUARD_ALLOWED)
        return HT_OK;
    int rc = guard_policy_load(d->h->policy, io_now_ms(d->h->g->cfg.loop), true, why);
    if (rc < 0 && rc != HT_EAGAIN) {
        decision->reason = GUARD_SECRET;
        decision->injects = false;
    }
    return rc == HT_EAGAIN ? rc : HT_OK;
}

/* ---- sent on ---- */

static struct guard_running *running_find(struct guard_door *d, uint32_t stream_id) {
    HT_LIST_FOR (it, &d->requests) {
        struct guard_running *r = HT_LIST_ENTRY(it, struct guard_running, node);
        if (r->stream_id == stream_id)
            return r;
    }
    return NULL;
}

/* Once, until a request has got its answer: a program may try again and again. */
static void tell_down(struct guard_host *h, const struct relay_request_info *info) {
    bool down = info->reset_code && info->error && info->status >= 500;
    if (down && !h->down)
        h->g->cfg.trouble(h->g->cfg.ctx, h->name, info->error);
    h->down = down || (h->down && info->reset_code);
}

void guard_request_finished(void *ctx, const struct relay_request_info *info) {
    struct guard_door *d = ctx;
    struct guard_running *r = running_find(d, info->stream_id);
    if (!r)
        return;
    if (r->event.injects && info->status == 401)
        guard_policy_refused(d->h->policy);
    tell_down(d->h, info);
    ht_list_remove(&r->node);
    r->event.status = info->status;
    r->event.bytes_in = info->bytes_in;
    r->event.bytes_out = info->bytes_out;
    r->event.duration_us = ht_now_us() - r->began_us;
    tell_over(d, &r->event, info->error);
    ht_free(r);
}

bool guard_request_hides(void *ctx, struct ht_slice value) {
    const struct guard_door *d = ctx;
    return guard_policy_is_secret(d->h->policy, value);
}

/* What is upgraded is bytes that nobody looks into. A WebSocket stays with the path that it was allowed for; h2c would
 * be a way to all the others. */
static bool is_websocket(const struct wire_stream_open *open) {
    for (size_t i = 0; i < open->n_headers; i++)
        if (ht_slice_is(open->headers[i].name, "upgrade") &&
            !ht_slice_case_eq(open->headers[i].value, ht_slice_str("websocket")))
            return false;
    return true;
}

static void send_on(struct guard_door *d, struct mux_stream *st, const struct wire_stream_open *open,
                    struct guard_running *running, size_t n) {
    struct guard *g = d->h->g;
    for (size_t i = 0; d->h->host_field[0] && i < n; i++)
        if (ht_slice_is(g->fields[i].name, "host"))
            g->fields[i].value = ht_slice_str(d->h->host_field);
    running->stream_id = mux_stream_id(st);
    ht_list_push_front(&d->requests, &running->node);
    struct wire_stream_open with = *open;
    with.headers = g->fields;
    with.n_headers = n;
    with.is_upgrade = open->is_upgrade && is_websocket(open); /* else the service never hears of it (RFC 9110 7.8) */
    relay_target_serve(d->target, st, &with);
}

static struct guard_request request_of(const struct guard_door *d, const struct wire_stream_open *open) {
    return (struct guard_request){
        .method = open->method,
        .target = open->target,
        .headers = open->headers,
        .n_headers = open->n_headers,
        .port = d->port,
        .secure = d->secure,
    };
}

void guard_request_go(struct guard_door *d, struct mux_stream *st, const struct wire_stream_open *open, uint64_t id,
                      const struct guard_decision *decided, const char *why) {
    struct guard *g = d->h->g;
    struct guard_decision decision = *decided;
    struct guard_request r = request_of(d, open);
    struct guard_running *running = running_new(open);
    ssize_t n = 0;
    if (*why)
        g->cfg.trouble(g->cfg.ctx, d->h->name, why);
    if (decision.reason == GUARD_ALLOWED)
        n = guard_policy_headers(d->h->policy, &r, g->fields, HT_ARRAY_LEN(g->fields));
    if (decision.reason == GUARD_ALLOWED && (!running || n < 0))
        decision = (struct guard_decision){.reason = GUARD_MEMORY};
    struct guard_event e = event_of(d, running, id, &decision);
    if (decision.reason == GUARD_ALLOWED && !tell(d, &e)) {
        decision = (struct guard_decision){.reason = GUARD_AUDIT};
        e = event_of(d, running, id, &decision);
    }
    if (decision.reason == GUARD_ALLOWED) {
        running->event = e;
        send_on(d, st, open, running, (size_t)n);
        return;
    }
    e.status = guard_reason_status(decision.reason);
    tell_over(d, &e, *why ? why : NULL);
    refuse(g, st, ht_slice_is(open->method, "HEAD"), &decision);
    ht_free(running);
}

void guard_request_open(void *ctx, struct mux_stream *st, const struct wire_stream_open *open) {
    struct guard *g = ctx;
    struct guard_door *d = guard_door_find(g, open->bind_id);
    struct guard_decision decision;
    struct ht_errmsg why;
    if (!d) {
        mux_stream_reset(st, WIRE_CODE_BIND_ERROR, "no such binding");
        mux_stream_release(&st);
        return;
    }
    struct guard_request r = request_of(d, open);
    uint64_t id = ++g->last_id;
    decide(d, &r, &decision);
    if (guard_request_load(d, &decision, &why) == HT_EAGAIN)
        guard_waiting_add(d, st, open, id, &decision);
    else
        guard_request_go(d, st, open, id, &decision, why.text);
}
