/*
 * A client of the CONNECT proxy: its head, the dial, and then bytes both ways (splice.c). Each client holds a permit
 * for its own descriptor and, from the dial on, one for the destination's. What a driver has registered is reached in
 * connect_name.c.
 */
#include "relay/connect_priv.h"

#include "base/base64.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "log_gen.h"
#include "relay/splice.h"

#include <assert.h>
#include <stdio.h>

/* ---- life ---- */

void connect_set_state(struct connect_client *x, enum client_state to) {
    static const uint8_t transitions[CLIENT_STATES] = {
        [CLIENT_HEAD] = 1u << CLIENT_DIALLING | 1u << CLIENT_WAITING | 1u << CLIENT_OPENING | 1u << CLIENT_ENDING,
        [CLIENT_DIALLING] = 1u << CLIENT_SPLICED | 1u << CLIENT_ENDING,
        [CLIENT_WAITING] = 1u << CLIENT_OPENING | 1u << CLIENT_ENDING,
        [CLIENT_OPENING] = 1u << CLIENT_PIPED | 1u << CLIENT_ENDING,
    };
    assert(transitions[x->state] & 1u << to);
    if (x->state == CLIENT_HEAD)
        crowd_leave(&x->c->heads, &x->member);
    x->state = to;
}

bool connect_permit(struct connect_client *x) {
    struct relay_connect *c = x->c;
    if (c->n_permits >= c->t->cfg.fds->total / 2 || !relay_permit(c->t))
        return false;
    x->permits++;
    c->n_permits++;
    return true;
}

void connect_enlist(struct connect_client *x, const struct io_addr *from) {
    struct relay_connect *c = x->c;
    x->began_us = ht_now_us();
    ht_list_init(&x->node);
    ht_list_init(&x->served);
    ht_list_push_back(&c->clients, &x->node);
    c->n_clients++;
    c->t->cfg.metrics->connect_clients_active++;
    crowd_join(&c->heads, &x->member, crowd_by_address(from));
}

void connect_left(struct relay_connect *c, unsigned permits) {
    c->n_permits -= permits;
    for (; permits; permits--)
        io_fds_give(c->t->cfg.fds);
    c->n_clients--;
    c->t->cfg.metrics->connect_clients_active--;
    if (c->cfg.left)
        c->cfg.left(c->cfg.ctx);
}

static void drop_head(struct connect_client *x) {
    ht_pool_put(&x->c->t->partial_heads, x->head);
    x->head = NULL;
}

void connect_free(struct connect_client *x) {
    struct relay_connect *c = x->c;
    io_dial_cancel(&x->dial);
    relay_splice_destroy(&x->splice);
    relay_wait_end(&x->waiter);
    relay_pipe_destroy(&x->pipe);
    mux_stream_release(&x->st);
    relay_name_leave(&x->name);
    io_timer_stop(&x->timer);
    if (x->asked)
        io_dial_give_up(x->asked, HT_ECLOSED, "the proxy's client is gone");
    io_conn_abort(&x->far);
    io_conn_abort(&x->conn);
    drop_head(x);
    ht_free(x->socks);
    io_out_free(&x->out);
    ht_buf_free(&x->in);
    if (x->state == CLIENT_HEAD)
        crowd_leave(&c->heads, &x->member);
    unsigned permits = x->permits;
    ht_list_remove(&x->node);
    ht_list_remove(&x->served);
    ht_free(x);
    connect_left(c, permits);
}

/* ---- answers ---- */

/* What a dial can come to: as an error, as an answer, and in the words of SOCKS. */
static const struct outcome {
    int err;
    const struct visitor_answer *answer;
    enum relay_socks_code socks;
} outcomes[] = {
    {HT_EACCESS, &answer_proxy_denied, RELAY_SOCKS_DENIED},
    {HT_ERESOLVE, &answer_proxy_unknown, RELAY_SOCKS_UNREACHABLE},
    {HT_EREFUSED, &answer_proxy_refused, RELAY_SOCKS_REFUSED},
    {HT_ETIMEDOUT, &answer_proxy_timeout, RELAY_SOCKS_TIMEOUT},
    {HT_EFDS, &answer_proxy_busy, RELAY_SOCKS_FAILED},
    {HT_ENOMEM, &answer_proxy_busy, RELAY_SOCKS_FAILED},
    {HT_ELIMIT, &answer_proxy_busy, RELAY_SOCKS_FAILED},
    {HT_EUNREACH, &answer_proxy_unreachable, RELAY_SOCKS_UNREACHABLE}, /* and any other error */
};

static const struct outcome *outcome_of_error(int err) {
    size_t i = 0;
    while (i < HT_ARRAY_LEN(outcomes) - 1 && outcomes[i].err != err)
        i++;
    return &outcomes[i];
}

/* NULL: it has nothing to do with a dial. */
static const struct outcome *outcome_of_answer(const struct visitor_answer *a) {
    for (size_t i = 0; i < HT_ARRAY_LEN(outcomes); i++)
        if (outcomes[i].answer == a)
            return &outcomes[i];
    return NULL;
}

/* What it does not take at once waits for it. */
static bool tell(struct connect_client *x, const void *p, size_t n) {
    return io_out_add(&x->out, p, n) == HT_OK && io_out_flush(&x->out, x->conn) >= 0;
}

static bool tell_answer(struct connect_client *x, const struct visitor_answer *a) {
    uint8_t reply[RELAY_SOCKS_REPLY];
    struct ht_buf text = {0};
    if (x->socks && x->socks->step != SOCKS_DONE) /* it has its reply */
        return true;
    if (x->socks) {
        const struct outcome *o = outcome_of_answer(a);
        relay_socks_put(reply, o ? o->socks : RELAY_SOCKS_FAILED);
        return tell(x, reply, sizeof reply);
    }
    bool told = visitor_answer_put(x->c->t, a, &text) == HT_OK && tell(x, ht_buf_head(&text), ht_buf_size(&text));
    ht_buf_free(&text);
    return told;
}

static void end_told(struct connect_client *x) {
    io_conn_linger(
        &x->conn,
        &(struct io_linger){.quiet_ms = RELAY_LINGER_QUIET_MS, .all_ms = RELAY_LINGER_MS, .fds = x->c->t->cfg.fds});
    connect_free(x);
}

static void told_late(struct io_timer *timer) {
    connect_gone(ht_container_of(timer, struct connect_client, timer), "the client does not read its answer");
}

/* The end, behind what has been said. */
static void end_when_told(struct connect_client *x) {
    if (io_out_pending(&x->out) == 0) {
        end_told(x);
        return;
    }
    io_dial_cancel(&x->dial);
    relay_wait_end(&x->waiter);
    mux_stream_release(&x->st);
    relay_name_leave(&x->name);
    connect_set_state(x, CLIENT_ENDING);
    io_conn_read_on(x->conn, false);
    io_timer_stop(&x->timer);
    io_timer_init(x->c->t->cfg.loop, &x->timer, told_late);
    io_timer_set(&x->timer, x->c->t->cfg.send_timeout_ms);
}

void connect_answer(struct connect_client *x, const struct visitor_answer *a, enum ht_metric_way_out outcome,
                    const char *why) {
    if (x->asked) { /* who asked counts it, and tells his own client */
        struct io_dial *asked = x->asked;
        x->asked = NULL;
        const struct outcome *o = outcome_of_answer(a);
        io_dial_give_up(asked, o ? o->err : a->status == 503 ? HT_EFDS : HT_EUNREACH, why);
        connect_free(x);
        return;
    }
    struct relay_table *t = x->c->t;
    t->cfg.metrics->connect_requests_total[outcome]++;
    connect_tell(x->c, &(struct relay_connect_told){.peer = ht_slice_str(x->peer),
                                                    .target = x->dest.text,
                                                    .user = x->who.user,
                                                    .status = a->status,
                                                    .why = why});
    ht_log_stranger(a->status >= 500 ? HT_LOG_INFO : HT_LOG_WARN, "connect",
                    HT_LOG_FIELDS(log_peer(x->peer), log_target(x->dest.text), log_status(a->status), log_reason(why)),
                    outcome == HT_METRIC_WAY_OUT_DENIED   ? "a destination was denied"
                    : outcome == HT_METRIC_WAY_OUT_FAILED ? "a destination was not reached"
                                                          : "a client was refused");
    if (tell_answer(x, a))
        end_when_told(x);
    else
        connect_free(x);
}

void connect_refuse(struct connect_client *x, const struct visitor_answer *a, const char *why) {
    connect_answer(x, a, HT_METRIC_WAY_OUT_REFUSED, why);
}

/* ---- bytes both ways ---- */

static void splice_done(void *ctx, int rc, const char *text) {
    struct connect_client *x = ctx;
    struct ht_metrics *m = x->c->t->cfg.metrics;
    uint64_t in, out;
    relay_splice_counts(x->splice, &in, &out);
    m->connect_bytes_total[HT_METRIC_DIRECTION_SENT] += out;
    m->connect_bytes_total[HT_METRIC_DIRECTION_RECEIVED] += in;
    ht_log_with(HT_LOG_DEBUG, "connect",
                HT_LOG_FIELDS(log_peer(x->peer), log_target(x->dest.text), log_bytes_in(in), log_bytes_out(out),
                              log_duration_us(ht_now_us() - x->began_us), log_reason(rc ? text : "in order")),
                "connection over");
    connect_free(x);
}

struct io_out connect_established(struct connect_client *x, uint8_t room[RELAY_SOCKS_REPLY]) {
    static const char http[] = "HTTP/1.1 200 Connection established\r\n\r\n"; /* CONNECT_ESTABLISHED */
    struct io_out first = x->out;                                             /* nothing is borrowed there */
    x->out = (struct io_out){.n_iov = 0};
    first.n_iov = 1;
    relay_socks_put(room, RELAY_SOCKS_GOOD);
    first.iov[0] = x->socks ? (struct iovec){.iov_base = room, .iov_len = RELAY_SOCKS_REPLY}
                            : (struct iovec){.iov_base = (void *)(uintptr_t)http, .iov_len = sizeof http - 1};
    first.borrowed = first.iov[0].iov_len;
    return first;
}

static void begin_splice(struct connect_client *x, struct io_conn *to) {
    static const struct relay_splice_ops ops = {.done = splice_done};
    const struct relay_kit_config *cfg = &x->c->t->cfg;
    struct relay_splice_config how = {.loop = cfg->loop,
                                      .idle_timeout_ms = x->c->cfg.idle_timeout_ms,
                                      .half_close_timeout_ms = cfg->half_close_timeout_ms};
    uint8_t reply[RELAY_SOCKS_REPLY];
    struct io_out first = connect_established(x, reply);
    struct io_conn *conn = x->conn;
    char text[IO_ADDR_TEXT];
    struct io_addr addr;
    io_conn_peer(to, &addr);
    ht_log_with(HT_LOG_DEBUG, "connect",
                HT_LOG_FIELDS(log_peer(x->peer), log_target(x->dest.text), log_by(io_addr_text(&addr, text)),
                              log_duration_us(ht_now_us() - x->began_us)),
                "connected");
    cfg->metrics->connect_requests_total[HT_METRIC_WAY_OUT_DIRECT]++;
    connect_tell(x->c, &(struct relay_connect_told){.peer = ht_slice_str(x->peer),
                                                    .target = x->dest.text,
                                                    .user = x->who.user,
                                                    .status = CONNECT_ESTABLISHED});
    x->conn = NULL;
    io_timer_stop(&x->timer);
    connect_set_state(x, CLIENT_SPLICED);
    x->splice = relay_splice_start(&how, conn, to, ht_buf_slice(&x->in), &first, &ops, x);
    if (!x->splice) {
        io_out_free(&first);
        connect_free(x);
        return;
    }
    ht_buf_free(&x->in);
}

/* ---- the dial ---- */

static void dial_connected(void *ctx, struct io_conn *to) {
    struct connect_client *x = ctx;
    x->dial = NULL;
    begin_splice(x, to);
}

static void dial_failed(void *ctx, int err, const char *text) {
    struct connect_client *x = ctx;
    bool denied = err == HT_EACCESS && x->denied;
    x->dial = NULL;
    if (denied) /* else the machine's own rules forbid it */
        connect_answer(x, &answer_proxy_denied, HT_METRIC_WAY_OUT_DENIED, x->denied);
    else
        connect_answer(x, outcome_of_error(err == HT_EACCESS ? HT_EUNREACH : err)->answer, HT_METRIC_WAY_OUT_FAILED,
                       text);
}

/* Hardening case 35: what is dialled is what was looked at, so that a name cannot mean something else a moment later.
 */
bool connect_may_dial(const struct relay_connect *c, const struct relay_dest *dest, const struct io_addr *a,
                      const char **denied) {
    const char *why = relay_policy_addr(&c->cfg.policy, dest, a, io_addr_is_own(a));
    if (why)
        *denied = why;
    return !why;
}

static bool dial_allowed(void *ctx, const struct io_addr *a) {
    struct connect_client *x = ctx;
    return connect_may_dial(x->c, &x->dest, a, &x->denied);
}

void connect_gone(struct connect_client *x, const char *why) {
    if (x->state == CLIENT_HEAD && ht_buf_size(&x->in) == 0)
        io_conn_close(&x->conn);
    ht_log_with(HT_LOG_DEBUG, "connect", HT_LOG_FIELDS(log_peer(x->peer), log_target(x->dest.text), log_reason(why)),
                "a client left");
    connect_free(x);
}

/* While it waits, one that is gone is noticed; what it sends stays where it is, and so does its end. */
static void look(struct io_timer *timer) {
    struct connect_client *x = ht_container_of(timer, struct connect_client, timer);
    int rc = io_conn_look(x->conn);
    if (rc && rc != HT_EOF)
        connect_gone(x, ht_err_text(rc));
    else
        io_timer_set(&x->timer, RELAY_HALF_CLOSED_MS);
}

static void go_direct(struct connect_client *x) {
    static const struct io_dial_ops ops = {.connected = dial_connected, .failed = dial_failed, .allowed = dial_allowed};
    struct relay_connect *c = x->c;
    struct ht_errmsg err;
    const char *why = relay_policy_name(&c->cfg.policy, &x->dest);
    char text[RELAY_FULL_TEXT];
    if (why) {
        connect_answer(x, &answer_proxy_denied, HT_METRIC_WAY_OUT_DENIED, why);
        return;
    }
    if (!connect_permit(x)) {
        connect_refuse(x, &answer_proxy_busy, relay_no_permit_text(c->t, text));
        return;
    }
    connect_set_state(x, CLIENT_DIALLING);
    io_conn_read_on(x->conn, false);
    io_timer_init(c->t->cfg.loop, &x->timer, look);
    io_timer_set(&x->timer, RELAY_HALF_CLOSED_MS);
    x->dial = io_dial_start(c->t->cfg.loop, x->dest.host, x->dest.port, NULL, c->cfg.dial_timeout_ms, &ops, x, &err);
    if (!x->dial)
        connect_answer(x, &answer_proxy_busy, HT_METRIC_WAY_OUT_FAILED, err.text);
}

/* ---- where to ---- */

/* Names first: what a driver has registered is its to reach, whatever the policy for the rest says. */
static void go(struct connect_client *x) {
    struct relay_binding *b;
    switch (relay_name_find(x->c->t, x->who.user, x->dest.host, x->dest.port, &b)) {
    case RELAY_NAME_LIVE:
        connect_through(x, b);
        break;
    case RELAY_NAME_PARKED:
        connect_refuse(x, &answer_parked, answer_parked.body);
        break;
    case RELAY_NAME_NONE:
        go_direct(x);
        break;
    }
}

/* ---- the head ---- */

/* Reads Basic, with the token as the password of any user, or Bearer (RFC 9110 11.7.2). */
static bool has_token(const struct relay_connect *c, struct ht_slice value, struct relay_known *out) {
    static const char basic[] = "Basic ", bearer[] = "Bearer ";
    char plain[WIRE_LIMIT_MAX_TOKEN + 512];
    const struct relay_connect_config *cfg = &c->cfg;
    if (value.n > sizeof bearer - 1 && ht_slice_case_eq(ht_slice_of(value.p, sizeof bearer - 1), ht_slice_str(bearer)))
        return cfg->knows(cfg->ctx, ht_slice_of(value.p + sizeof bearer - 1, value.n - (sizeof bearer - 1)), out);
    if (value.n <= sizeof basic - 1 || !ht_slice_case_eq(ht_slice_of(value.p, sizeof basic - 1), ht_slice_str(basic)))
        return false;
    const char *text = value.p + sizeof basic - 1;
    size_t text_n = value.n - (sizeof basic - 1);
    ssize_t n = text_n / 4 * 3 <= sizeof plain ? ht_base64_get((uint8_t *)plain, text, text_n) : -1;
    const char *colon = n > 0 ? memchr(plain, ':', (size_t)n) : NULL;
    bool good = colon && cfg->knows(cfg->ctx, ht_slice_of(colon + 1, (size_t)(plain + n - (colon + 1))), out);
    explicit_bzero(plain, sizeof plain);
    return good;
}

static void count_bad_token(struct relay_connect *c, bool shown) {
    c->t->cfg.metrics
        ->auth_failures_total[HT_METRIC_SHOWN_AT_PROXY][shown ? HT_METRIC_TOKEN_WRONG : HT_METRIC_TOKEN_MISSING]++;
}

bool connect_knows(struct relay_connect *c, struct ht_slice shown, struct relay_known *out) {
    *out = (struct relay_known){c->cfg.wants_token ? NULL : c->cfg.nobody, NULL};
    if (!c->cfg.wants_token || has_token(c, shown, out))
        return true;
    count_bad_token(c, shown.n > 0);
    return false;
}

/* It has said a request that is no CONNECT: from here on the visitor's code reads what it says. */
static void become_plain(struct connect_client *x, const void *user) {
    struct relay_connect *c = x->c;
    struct io_addr peer;
    char text[RELAY_FULL_TEXT];
    if (!connect_permit(x)) {
        connect_refuse(x, &answer_proxy_busy, relay_no_permit_text(c->t, text));
        return;
    }
    io_timer_stop(&x->timer);
    io_conn_peer(x->conn, &peer);
    if (connect_plain_begin(c, user, &x->conn, &peer, &x->in)) {
        connect_refuse(x, &answer_proxy_busy, ht_err_text(HT_ENOMEM));
        return;
    }
    x->permits = 0; /* they went along */
    connect_free(x);
}

static void head_complete(struct connect_client *x, size_t head_len) {
    const struct http_head *h = x->head;
    const char *bytes = (const char *)ht_buf_head(&x->in), *why = "";
    const struct http_field *auth = http_field_find(h, bytes, "proxy-authorization");
    struct relay_connect *c = x->c;
    struct ht_slice shown = auth ? http_text(bytes, auth->value) : ht_slice_of(NULL, 0);
    if (!(h->flags & HTTP_CONNECT)) { /* where each request is asked for its token */
        struct relay_known who = {c->cfg.nobody, NULL};
        if (c->cfg.wants_token && !has_token(c, shown, &who))
            who.user = NULL;
        become_plain(x, who.user);
        return;
    }
    int rc = relay_dest_parse(&x->dest, http_text(bytes, h->authority), 0, &why);
    bool known = connect_knows(c, shown, &x->who);
    drop_head(x);
    ht_buf_consume(&x->in, head_len);
    io_timer_stop(&x->timer);
    if (!known) {
        connect_refuse(x, &answer_proxy_token, auth ? "the token is wrong" : "there is no token");
    } else if (rc) {
        connect_refuse(x, &answer_proxy_bad_target, why);
    } else if (c->draining) {
        connect_refuse(x, &answer_proxy_ending, answer_proxy_ending.body);
    } else {
        go(x);
    }
}

static void head_refused(struct connect_client *x, const struct http_error *e) {
    static const struct visitor_answer *const known[] = {&answer_target_too_long, &answer_head_too_large,
                                                         &answer_version};
    struct visitor_answer a = answer_bad_request;
    for (size_t i = 0; i < HT_ARRAY_LEN(known); i++)
        if (known[i]->status == e->status)
            a = *known[i];
    if (a.status == answer_bad_request.status) {
        a.status = e->status;
        a.body = e->text;
    }
    connect_refuse(x, &a, e->text);
}

/* No method of HTTP begins with the first byte of SOCKS5. */
static void take_socks(struct connect_client *x) {
    struct relay_connect *c = x->c;
    if (!x->socks) {
        x->socks = ht_calloc(1, sizeof *x->socks);
        if (!x->socks) {
            connect_gone(x, ht_err_text(HT_ENOMEM));
            return;
        }
        *x->socks = (struct relay_socks){.wants_token = c->cfg.wants_token, .knows = c->cfg.knows, .ctx = c->cfg.ctx};
    }
    struct relay_socks *s = x->socks;
    int n;
    while ((n = relay_socks_feed(s, ht_buf_head(&x->in), ht_buf_size(&x->in))) > 0) {
        if (!tell(x, s->reply, s->reply_len)) {
            connect_gone(x, "the client does not read the SOCKS reply");
            return;
        }
        ht_buf_consume(&x->in, (size_t)n);
    }
    if (s->step == SOCKS_BAD) {
        if (s->wrong_token || s->no_token)
            count_bad_token(c, s->wrong_token);
        connect_refuse(x, &answer_proxy_bad_target, s->why);
    } else if (s->step == SOCKS_DONE) {
        x->dest = s->dest;
        x->who = s->wants_token ? s->who : (struct relay_known){c->cfg.nobody, NULL};
        io_timer_stop(&x->timer);
        if (c->draining)
            connect_refuse(x, &answer_proxy_ending, answer_proxy_ending.body);
        else
            go(x);
    }
}

static void readable(void *ctx) {
    struct connect_client *x = ctx;
    struct relay_table *t = x->c->t;
    uint8_t *to = ht_buf_reserve(&x->in, RELAY_SCRATCH);
    ssize_t n = to ? io_conn_read(x->conn, to, RELAY_SCRATCH) : HT_ENOMEM;
    if (n == HT_EAGAIN)
        return;
    if (n < 0) {
        connect_gone(x, ht_err_text((int)n));
        return;
    }
    ht_buf_commit(&x->in, (size_t)n);
    if (x->socks || *ht_buf_head(&x->in) == RELAY_SOCKS_VERSION) {
        take_socks(x);
        return;
    }
    if (!x->head) {
        x->head = ht_pool_get(&t->partial_heads);
        if (!x->head) {
            connect_gone(x, ht_err_text(HT_ENOMEM));
            return;
        }
        http_proxy_request_begin(x->head, &t->cfg.head_limits);
    }
    struct http_error e;
    int len = http_head_parse(x->head, (const char *)ht_buf_head(&x->in), ht_buf_size(&x->in), &e);
    if (len > 0)
        head_complete(x, (size_t)len);
    else if (len != HT_EAGAIN)
        head_refused(x, &e);
}

static void writable(void *ctx) {
    struct connect_client *x = ctx;
    if (io_out_flush(&x->out, x->conn) < 0)
        connect_gone(x, "the answer could not be written to the client");
    else if (x->state == CLIENT_ENDING && io_out_pending(&x->out) == 0)
        end_told(x);
}

static const struct io_conn_ops conn_ops = {.readable = readable, .writable = writable};

/* ---- coming in ---- */

static void head_late(struct io_timer *timer) {
    struct connect_client *x = ht_container_of(timer, struct connect_client, timer);
    if (ht_buf_size(&x->in))
        connect_refuse(x, &answer_head_timeout, answer_head_timeout.body);
    else
        connect_gone(x, "the client sent nothing in the time that it had (--head-timeout)");
}

/* The address that holds most of the places of those without a head gives its oldest back (hardening case 28). */
static void make_room(struct relay_connect *c) {
    if (c->heads.n < RELAY_CONNECT_HEADS)
        return;
    struct connect_client *gives = ht_container_of(crowd_heaviest(&c->heads), struct connect_client, member);
    c->t->cfg.metrics->connect_requests_total[HT_METRIC_WAY_OUT_REFUSED]++;
    static const char why[] = "too many clients have not named a destination yet, and most of them have this address";
    connect_tell(c, &(struct relay_connect_told){.peer = ht_slice_str(gives->peer), .target = "", .why = why});
    connect_gone(gives, why);
}

static void turn_away(struct relay_connect *c, struct io_conn *conn, const struct io_addr *peer,
                      const struct visitor_answer *a, const char *why) {
    char text[IO_ADDR_TEXT];
    struct relay_table *t = c->t;
    io_addr_text(peer, text);
    t->cfg.metrics->connect_requests_total[HT_METRIC_WAY_OUT_REFUSED]++;
    connect_tell(
        c, &(struct relay_connect_told){.peer = ht_slice_str(text), .target = "", .status = a->status, .why = why});
    ht_log_stranger(HT_LOG_WARN, "connect", HT_LOG_FIELDS(log_peer(text), log_reason(why)), "a client was turned away");
    if (io_fds_available(&t->refused) && visitor_answer_write(t, conn, a))
        io_conn_linger(&conn, &(struct io_linger){.quiet_ms = RELAY_REFUSED_LINGER_MS,
                                                  .all_ms = RELAY_REFUSED_LINGER_MS,
                                                  .fds = &t->refused});
    io_conn_close(&conn);
}

static void accepted(void *ctx, struct io_conn *conn, const struct io_addr *peer) {
    struct relay_connect *c = ctx;
    char text[RELAY_FULL_TEXT];
    if (c->cfg.may_come && !c->cfg.may_come(c->cfg.ctx, peer)) {
        turn_away(c, conn, peer, &answer_proxy_untrusted, "it comes from outside --trusted-proxy");
        return;
    }
    make_room(c);
    struct connect_client *x = ht_calloc(1, sizeof *x);
    if (!x) {
        io_conn_close(&conn);
        return;
    }
    x->c = c;
    if (!connect_permit(x)) {
        ht_free(x);
        turn_away(c, conn, peer, &answer_fd_cap, relay_no_permit_text(c->t, text));
        return;
    }
    x->conn = conn;
    io_addr_text(peer, x->peer);
    connect_enlist(x, peer);
    io_timer_init(c->t->cfg.loop, &x->timer, head_late);
    io_timer_set(&x->timer, c->t->cfg.head_timeout_ms);
    io_conn_set_ops(conn, &conn_ops, x);
    io_conn_read_on(conn, true);
}

static void accept_failed(void *ctx, int err) {
    struct relay_connect *c = ctx;
    c->t->cfg.metrics->accept_errors_total++;
    ht_log_stranger(HT_LOG_WARN, "connect", HT_LOG_FIELDS(log_reason(ht_err_text(err))),
                    "a client could not be accepted");
}

/* ---- all of it ---- */

int relay_connect_open(struct relay_table *t, const struct relay_connect_config *cfg, struct relay_connect **out,
                       struct ht_errmsg *err) {
    static const struct io_listener_ops ops = {.accepted = accepted, .accept_failed = accept_failed};
    struct relay_connect *c = ht_calloc(1, sizeof *c);
    if (!c)
        return ht_fail(err, HT_ENOMEM, "out of memory");
    c->t = t;
    c->cfg = *cfg;
    ht_list_init(&c->clients);
    crowd_init(&c->heads);
    int rc = relay_permit(t) ? HT_OK : ht_fail(err, HT_EFDS, "no file descriptor is left for the proxy's listener");
    if (rc == HT_OK) {
        rc = io_listen(t->cfg.loop, &cfg->addr, &ops, c, &c->listener, err);
        if (rc)
            io_fds_give(t->cfg.fds);
    }
    if (rc) {
        ht_free(c);
        return rc;
    }
    io_listener_local(c->listener, &c->addr);
    t->proxy_port = io_addr_port(&c->addr);
    for (size_t i = 0; i < HT_ARRAY_LEN(c->cfg.policy.own_ports); i++)
        if (c->cfg.policy.own_ports[i] == 0) {
            c->cfg.policy.own_ports[i] = io_addr_port(&c->addr);
            break;
        }
    *out = c;
    return HT_OK;
}

void relay_connect_cut(struct relay_connect *c, bool (*which)(const struct relay_known *who), const char *why) {
    HT_LIST_FOR_SAFE (it, &c->clients) {
        struct connect_client *x = HT_LIST_ENTRY(it, struct connect_client, node);
        if (!which || which(&x->who))
            connect_gone(x, why);
    }
    connect_plain_cut(c, which, why);
}

void relay_connect_close(struct relay_connect **cp) {
    struct relay_connect *c = *cp;
    if (!c)
        return;
    *cp = NULL;
    c->cfg.left = NULL;
    c->cfg.told = NULL;
    c->t->proxy_port = 0;
    io_listener_close(&c->listener);
    io_fds_give(c->t->cfg.fds);
    relay_connect_cut(c, NULL, "the kit ends");
    connect_plain_destroy(c);
    ht_free(c);
}

void relay_connect_drain(struct relay_connect *c) {
    c->draining = true;
    HT_LIST_FOR_SAFE (it, &c->clients) {
        struct connect_client *x = HT_LIST_ENTRY(it, struct connect_client, node);
        if (x->state == CLIENT_HEAD && ht_buf_size(&x->in) == 0)
            connect_gone(x, "the kit shuts down");
    }
    connect_plain_drain(c);
}

void relay_connect_let_go(struct relay_connect *c) { io_listener_close(&c->listener); }

struct io_listener *relay_connect_listener(const struct relay_connect *c) {
    return c->listener;
}

unsigned relay_connect_clients(const struct relay_connect *c) { return c->n_clients; }
void relay_connect_addr(const struct relay_connect *c, struct io_addr *out) { *out = c->addr; }
