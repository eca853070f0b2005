/*
 * Requests with an absolute target (RFC 9112 3.2.2), such as GET http://host/, which the kit sends on itself. They use
 * the usual HTTP code: the client is a visitor and its destination an origin, with a session in memory between them.
 * Each request has a connection of its own to its destination, so a client holds at most two descriptors.
 */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "log_gen.h"
#include "relay/connect_priv.h"
#include "relay/inner.h"
#include "relay/names_priv.h"
#include "relay/origin.h"

#include <stdio.h>

#define KEEP_TARGETS 32 /* most targets that are kept without a request */
#define STREAMS 65535   /* the descriptors end before that */
#define NAMED 64        /* a power of two */

struct connect_plain {
    struct connect_plain *next;
    struct relay_connect *c;
    const void *user;       /* whose clients are here, and reach that user's names; NULL: nobody's */
    struct relay_port port; /* nobody listens there */
    struct relay_binding binding;
    struct relay_owner owner;
    struct relay_inner inner;
    struct ht_list targets; /* struct plain_target, the last one that was asked for first */
    unsigned n_targets;
    struct ht_list named[NAMED]; /* struct connect_client by `served`, by the id of its stream; the youngest first */
};

struct plain_target {
    struct ht_list node;
    struct connect_plain *p;
    struct relay_dest dest;
    struct relay_target *target;
    const char *denied; /* why its last address may not be dialled */
    bool named;         /* a driver has it */
    char by[64];        /* that driver's session; it may be over by now */
};

/* ---- destinations ---- */

static bool may_dial(void *ctx, const struct io_addr *a) {
    struct plain_target *t = ctx;
    return connect_may_dial(t->p->c, &t->dest, a, &t->denied);
}

static struct ht_list *bucket_of(struct connect_plain *p, uint32_t stream) {
    return &p->named[stream / 2 % NAMED]; /* ids are even */
}

/* Names first, as ever. */
static struct io_dial *dial(void *ctx, uint32_t stream, const struct io_dial_ops *ops, void *ops_ctx,
                            struct ht_errmsg *err) {
    struct plain_target *t = ctx;
    struct relay_connect *c = t->p->c;
    struct relay_binding *b;
    t->denied = NULL;
    t->named = relay_name_find(c->t, t->p->user, t->dest.host, t->dest.port, &b) != RELAY_NAME_NONE;
    snprintf(t->by, sizeof t->by, "%s", t->named && b->owner->id ? b->owner->id : "");
    if (t->named)
        return connect_by_name(c, t->p->user, &t->dest, bucket_of(t->p, stream), stream, ops, ops_ctx, err);
    return io_dial_start(c->t->cfg.loop, t->dest.host, t->dest.port, NULL, c->cfg.dial_timeout_ms, ops, ops_ctx, err);
}

static void request_over(void *ctx, const struct relay_request_info *info) {
    const struct plain_target *t = ctx;
    struct ht_metrics *m = t->p->c->t->cfg.metrics;
    bool denied = t->denied && info->error && info->status == answer_proxy_denied.status;
    m->connect_requests_total[!info->error ? t->named ? HT_METRIC_WAY_OUT_TUNNEL : HT_METRIC_WAY_OUT_DIRECT
                              : denied     ? HT_METRIC_WAY_OUT_DENIED
                                           : HT_METRIC_WAY_OUT_FAILED]++;
    bool there = !info->error || info->answered;
    connect_tell(t->p->c, &(struct relay_connect_told){.peer = info->peer_addr,
                                                       .target = t->dest.text,
                                                       .session = there && *t->by ? t->by : NULL,
                                                       .user = t->p->user,
                                                       .status = info->status,
                                                       .why = there    ? NULL
                                                              : denied ? t->denied
                                                                       : info->error});
    if (denied)
        ht_log_stranger(HT_LOG_WARN, "connect",
                        HT_LOG_FIELDS(log_peer_slice(info->peer_addr), log_target(t->dest.text), log_reason(t->denied)),
                        "a destination was denied");
    m->connect_bytes_total[HT_METRIC_DIRECTION_RECEIVED] += info->bytes_in;
    m->connect_bytes_total[HT_METRIC_DIRECTION_SENT] += info->bytes_out;
    ht_log_with(HT_LOG_DEBUG, "connect",
                HT_LOG_FIELDS(log_peer_slice(info->peer_addr), log_method_slice(info->method), log_target(t->dest.text),
                              log_status(info->status), log_bytes_in(info->bytes_in), log_bytes_out(info->bytes_out),
                              log_duration_us(info->duration_us), log_reason(info->error)),
                "a request is over");
}

static void target_free(struct plain_target *t) {
    relay_target_destroy(&t->target);
    ht_list_remove(&t->node);
    t->p->n_targets--;
    ht_free(t);
}

/* Frees the oldest targets without a request until at most `keep` targets are left. */
static void forget_targets(struct connect_plain *p, unsigned keep) {
    for (struct ht_list *it = p->targets.prev, *before; it != &p->targets && p->n_targets > keep; it = before) {
        struct plain_target *t = HT_LIST_ENTRY(it, struct plain_target, node);
        before = it->prev;
        if (relay_target_active(t->target) == 0)
            target_free(t);
    }
}

static struct plain_target *target_new(struct connect_plain *p, const struct relay_dest *dest) {
    const struct relay_kit_config *kit = &p->c->t->cfg;
    struct plain_target *t = ht_calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->p = p;
    t->dest = *dest;
    t->target = relay_target_create(&(struct relay_target_config){
        .loop = kit->loop,
        .host = t->dest.host,
        .port = dest->port,
        .kind = WIRE_KIND_HTTP,
        .connect_timeout_ms = p->c->cfg.dial_timeout_ms,
        .dial = dial,
        .allowed = may_dial,
        .head_limits = kit->head_limits,
        .finished = request_over,
        .ctx = t,
    });
    if (!t->target) {
        ht_free(t);
        return NULL;
    }
    ht_list_init(&t->node);
    p->n_targets++;
    return t;
}

static struct plain_target *target_for(struct connect_plain *p, const struct relay_dest *dest) {
    struct plain_target *t = NULL;
    HT_LIST_FOR (it, &p->targets) {
        t = HT_LIST_ENTRY(it, struct plain_target, node);
        if (strcmp(t->dest.text, dest->text) == 0)
            break;
        t = NULL;
    }
    if (!t) {
        forget_targets(p, KEEP_TARGETS);
        t = target_new(p, dest);
    }
    if (t) {
        ht_list_remove(&t->node);
        ht_list_push_front(&p->targets, &t->node);
    }
    return t;
}

/* connect_plain_check() has looked at the same field: it is the target's authority. */
static int dest_of(const struct wire_stream_open *open, struct relay_dest *dest) {
    const char *why;
    for (size_t i = 0; i < open->n_headers; i++)
        if (ht_slice_is(open->headers[i].name, "host"))
            return relay_dest_parse(dest, open->headers[i].value, 80, &why);
    return HT_EINVAL;
}

static void stream_open(void *ctx, struct mux_stream *st, const struct wire_stream_open *open) {
    struct relay_dest dest;
    int rc = dest_of(open, &dest);
    struct plain_target *t = rc ? NULL : target_for(ctx, &dest);
    if (t) {
        relay_target_serve(t->target, st, open);
        return;
    }
    mux_stream_reset(st, rc ? WIRE_CODE_PROTOCOL_ERROR : WIRE_CODE_REFUSED_STREAM,
                     rc ? "no destination" : "busy: out of memory");
    mux_stream_release(&st);
}

static void session_ended(void *ctx, const char *why) {
    (void)ctx;
    ht_log_with(HT_LOG_ERROR, "connect", HT_LOG_FIELDS(log_reason(why)), "the session for plain requests ended");
}

/* ---- clients ---- */

static struct connect_plain *plain_create(struct relay_connect *c, const void *user) {
    struct connect_plain *p = ht_calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->c = c;
    p->user = user;
    ht_list_init(&p->targets);
    for (size_t i = 0; i < NAMED; i++)
        ht_list_init(&p->named[i]);
    relay_owner_init(&p->owner, NULL);
    p->owner.own_peer = true;
    relay_port_init(&p->port, c->t, WIRE_KIND_HTTP, WIRE_MODE_EXPOSE, &c->addr);
    p->port.proxy = c;
    relay_binding_init(&p->binding, &p->owner, &p->port, 1);
    relay_inner_init(&p->inner, &(struct relay_inner_config){.t = c->t,
                                                             .owner = &p->owner,
                                                             .max_streams = STREAMS,
                                                             .stream_open = stream_open,
                                                             .ended = session_ended,
                                                             .ctx = p});
    p->next = c->plains;
    c->plains = p;
    return p;
}

static struct connect_plain *plain_of(struct relay_connect *c, const void *user) {
    struct connect_plain *p = c->plains;
    while (p && p->user != user)
        p = p->next;
    return p ? p : plain_create(c, user);
}

int connect_plain_begin(struct relay_connect *c, const void *user, struct io_conn **conn, const struct io_addr *peer,
                        struct ht_buf *said) {
    struct connect_plain *p = plain_of(c, user);
    if (!p || relay_inner_up(&p->inner))
        return HT_ENOMEM;
    c->n_clients++;
    c->t->cfg.metrics->connect_clients_active++;
    struct visitor_http *v = visitor_http_begin(&p->port, *conn, peer);
    *conn = NULL;
    if (v)
        visitor_http_said(v, said);
    else
        connect_left(c, CONNECT_PLAIN_PERMITS - 1); /* it has given one back */
    return HT_OK;
}

void connect_plain_drain(struct relay_connect *c) {
    for (struct connect_plain *p = c->plains; p; p = p->next)
        HT_LIST_FOR_SAFE (it, &p->port.visitors) {
            struct visitor_http *v = HT_LIST_ENTRY(it, struct visitor_http, node);
            if (v->state == VISITOR_HEAD && ht_buf_size(&v->in) == 0)
                visitor_lost(v, false, "the kit shuts down");
        }
}

void connect_plain_cut(struct relay_connect *c, bool (*which)(const struct relay_known *who), const char *why) {
    for (struct connect_plain *p = c->plains; p; p = p->next) {
        if (which && !which(&(struct relay_known){p->user, NULL}))
            continue;
        HT_LIST_FOR_SAFE (it, &p->port.visitors)
            visitor_http_destroy(HT_LIST_ENTRY(it, struct visitor_http, node), WIRE_CODE_CANCEL, why);
    }
}

void connect_plain_destroy(struct relay_connect *c) {
    for (struct connect_plain *p; (p = c->plains);) {
        c->plains = p->next;
        relay_owner_drop(c->t, &p->owner);
        relay_inner_down(&p->inner);
        forget_targets(p, 0);
        for (size_t i = 0; i < NAMED; i++) /* their connections have ended, which they have not seen yet */
            while (!ht_list_empty(&p->named[i]))
                ht_list_remove(p->named[i].next);
        ht_free(p);
    }
}

/* ---- for the visitor's code ---- */

static const struct visitor_answer *refuse(const struct visitor_http *v, const struct relay_dest *d,
                                           const struct visitor_answer *a, enum ht_metric_way_out outcome,
                                           const char *why) {
    v->port->t->cfg.metrics->connect_requests_total[outcome]++;
    connect_tell(v->port->proxy,
                 &(struct relay_connect_told){.peer = ht_slice_str(v->peer),
                                              .target = d->text,
                                              .user = ht_container_of(v->port, struct connect_plain, port)->user,
                                              .status = a->status,
                                              .why = why});
    ht_log_stranger(HT_LOG_WARN, "connect",
                    HT_LOG_FIELDS(log_peer(v->peer), log_target(d->text), log_status(a->status), log_reason(why)),
                    outcome == HT_METRIC_WAY_OUT_DENIED ? "a destination was denied" : "a client was refused");
    return a;
}

const struct visitor_answer *connect_plain_check(struct visitor_http *v, const struct http_head *h, const char *bytes) {
    struct relay_connect *c = v->port->proxy;
    const struct http_field *auth = http_field_find(h, bytes, "proxy-authorization");
    struct ht_slice target = http_text(bytes, h->target);
    struct relay_dest d = {.text = ""};
    const char *why = "the target is no http:// URL";
    const void *user = ht_container_of(v->port, struct connect_plain, port)->user;
    struct relay_known who;
    if (!connect_knows(c, auth ? http_text(bytes, auth->value) : ht_slice_of(NULL, 0), &who))
        return refuse(v, &d, &answer_proxy_token, HT_METRIC_WAY_OUT_REFUSED,
                      auth ? "the token is wrong" : "there is no token");
    if (who.user != user) /* decided by the connection's first request */
        return refuse(v, &d, &answer_proxy_token, HT_METRIC_WAY_OUT_REFUSED,
                      "the token is another user's than the connection's first one");
    if (h->n_fields > HTTP_MAX_HEADERS - CONNECT_PLAIN_FIELDS)
        return refuse(v, &d, &answer_head_too_large, HT_METRIC_WAY_OUT_REFUSED, answer_head_too_large.body);
    bool http = (h->flags & HTTP_TARGET_ABSOLUTE) && target.n > 7 && (target.p[4] == ':');
    if (!http || relay_dest_parse(&d, http_text(bytes, h->authority), 80, &why))
        return refuse(v, &d, &answer_proxy_bad_target, HT_METRIC_WAY_OUT_REFUSED, why);
    if (c->draining)
        return refuse(v, &d, &answer_proxy_ending, HT_METRIC_WAY_OUT_REFUSED, answer_proxy_ending.body);
    struct relay_binding *b;
    enum relay_name_state named = relay_name_find(c->t, user, d.host, d.port, &b);
    if (named == RELAY_NAME_PARKED)
        return refuse(v, &d, &answer_parked, HT_METRIC_WAY_OUT_REFUSED, answer_parked.body);
    why = named == RELAY_NAME_LIVE ? NULL : relay_policy_name(&c->cfg.policy, &d);
    return why ? refuse(v, &d, &answer_proxy_denied, HT_METRIC_WAY_OUT_DENIED, why) : NULL;
}

/* By whom the visitor's request reaches its destination; NULL: no driver has that, or its turn has not come yet. */
static const struct connect_client *client_of(const struct visitor_http *v) {
    struct connect_plain *p = ht_container_of(v->port, struct connect_plain, port);
    HT_LIST_FOR (it, bucket_of(p, v->stream_id)) {
        const struct connect_client *x = HT_LIST_ENTRY(it, struct connect_client, served);
        if (x->serves == v->stream_id)
            return x;
    }
    return NULL;
}

uint64_t connect_plain_paused_ms(const struct visitor_http *v) {
    const struct connect_client *x = client_of(v);
    return x ? connect_paused_ms(x) : 0;
}

bool connect_plain_is_paused(const struct visitor_http *v) {
    const struct connect_client *x = client_of(v);
    return x && connect_is_paused(x);
}

const struct visitor_answer *connect_plain_answer(struct ht_slice word) {
    static const struct {
        enum wire_origin_error error;
        const struct visitor_answer *answer;
    } known[] = {
        {WIRE_ORIGIN_ERROR_REFUSED, &answer_proxy_refused},
        {WIRE_ORIGIN_ERROR_NAME_UNKNOWN, &answer_proxy_unknown},
        {WIRE_ORIGIN_ERROR_UNREACHABLE, &answer_proxy_unreachable},
        {WIRE_ORIGIN_ERROR_TIMEOUT, &answer_proxy_timeout},
        {WIRE_ORIGIN_ERROR_NOT_COVERED, &answer_proxy_denied},
        {WIRE_ORIGIN_ERROR_BUSY, &answer_proxy_busy},
        {WIRE_ORIGIN_ERROR_TOO_MANY, &answer_proxy_busy},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(known); i++)
        if (ht_slice_is(word, wire_origin_error_text(known[i].error)))
            return known[i].answer;
    return &answer_proxy_bad_answer;
}

const struct visitor_answer *connect_plain_words(const struct visitor_answer *a) {
    static const struct {
        const struct visitor_answer *of_a_port, *here;
    } known[] = {
        {&answer_bad_gateway, &answer_proxy_bad_answer},
        {&answer_driver_error, &answer_proxy_bad_answer},
        {&answer_response_timeout, &answer_proxy_slow},
        {&answer_link_lost, &answer_proxy_busy}, /* the link is in memory: there was no more of that */
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(known); i++)
        if (known[i].of_a_port == a)
            return known[i].here;
    return a;
}
