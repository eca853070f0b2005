#include "edge/gate.h"

#include "auth/login.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "edge/hooks_gate.h"
#include "edge/spop.h"

#define READ_PIECE 32768u
#define PENDING_MAX (1024u * 1024u) /* answers that HAProxy does not take; then no more questions are read */
#define LINKS_MAX 4096
#define WAITS_MAX 64 /* questions of a connection that wait for a password */

struct edge_gate {
    struct io_loop *loop;
    const struct edge_policies *policies;
    const struct edge_hooktable *hooks;
    struct auth_login *login;
    struct edge_tickets *tickets;
    struct ht_list conns;
    unsigned n_conns;
};

struct link {
    struct ht_list node;
    struct edge_gate *g;
    struct io_conn *conn;
    struct ht_buf in, reply;
    struct io_out out;
    struct ht_list waits;
    unsigned n_waits;
    size_t max_frame;
    bool greeted, over; /* over: closed once all is written */
};

/* What came with a question. */
struct question {
    enum haproxy_question kind;
    uint64_t stream, frame;
    struct spop_value args[HAPROXY_ARGS];
    struct ht_slice container, method;
    struct edge_visit visit;
};

/* A question until its answer: a password may have to be checked for it. */
struct wait {
    struct ht_list node;
    struct link *l;
    uint64_t stream, frame;
    struct auth_login_wait login;
    struct edge_policy *policy; /* NULL: there is none */
    struct edge_decision d;
    struct edge_strip strip;
    enum haproxy_verdict refused; /* how the password is asked for once more, when this one is wrong */
    struct edge_hooking hooking;
};

/* ---- answers ---- */

/* How a password is asked for: a browser that would show a page gets one. */
static enum haproxy_verdict asks_for_password(const struct edge_visit *v) {
    switch (edge_policy_reader(v)) {
    case EDGE_READER_PERSON:
        return HAPROXY_VERDICT_PAGE;
    case EDGE_READER_PAGE:
        return HAPROXY_VERDICT_SESSION;
    case EDGE_READER_PROGRAM:
        break;
    }
    return HAPROXY_VERDICT_BASIC;
}

static enum haproxy_verdict verdict_of(const struct edge_decision *d, const struct edge_visit *v) {
    switch (d->verdict) {
    case EDGE_ALLOW:
        return HAPROXY_VERDICT_ALLOW;
    case EDGE_LOGIN: /* a token that is wrong is mended by another one */
        return !(d->challenge & EDGE_BASIC) || (d->failed && d->challenge & EDGE_BEARER) ? HAPROXY_VERDICT_BEARER
                                                                                         : asks_for_password(v);
    case EDGE_PASSWORD:
        return HAPROXY_VERDICT_LOGIN;
    case EDGE_DENY:
        break;
    }
    return HAPROXY_VERDICT_DENY;
}

static void set_text(struct spop_set *sets, size_t *n, enum haproxy_answer name, struct ht_slice text) {
    sets[(*n)++] = (struct spop_set){haproxy_answers[name], SPOP_BYTES, 0, text};
}

struct answer {
    enum haproxy_verdict verdict;
    const char *why;
    struct ht_slice group;
    unsigned wait_s;
};

/* HAProxy takes no frame that is longer than what was agreed on. */
static bool fits(const struct link *l, const struct spop_set *sets, size_t n) {
    size_t all = 32;
    for (size_t i = 0; i < n; i++)
        all += strlen(sets[i].name) + sets[i].bytes.n + 20;
    return all <= l->max_frame;
}

/* Without memory HAProxy is left without an answer, and refuses by itself. */
static int put_answer(struct link *l, uint64_t stream, uint64_t frame, const struct answer *a,
                      const struct edge_strip *s, const struct edge_hooking *h) {
    static const struct answer too_long = {.verdict = HAPROXY_VERDICT_HOOK, .why = "hook", .group = {"", 0}};
    struct spop_set sets[HAPROXY_ANSWERS];
    size_t n = 0;
    set_text(sets, &n, HAPROXY_ANSWER_VERDICT, ht_slice_str(haproxy_verdicts[a->verdict]));
    set_text(sets, &n, HAPROXY_ANSWER_WHY, ht_slice_str(a->why));
    set_text(sets, &n, HAPROXY_ANSWER_GROUP, a->group);
    if (a->verdict == HAPROXY_VERDICT_SLOW)
        sets[n++] = (struct spop_set){haproxy_answers[HAPROXY_ANSWER_WAIT], SPOP_INT, a->wait_s, {NULL, 0}};
    if (s && s->has_target) /* the log has no secrets of those that are refused either */
        set_text(sets, &n, HAPROXY_ANSWER_TARGET, ht_buf_slice(&s->target));
    if (a->verdict == HAPROXY_VERDICT_ALLOW && s) {
        if (s->authorization)
            sets[n++] = (struct spop_set){haproxy_answers[HAPROXY_ANSWER_AUTHORIZATION], SPOP_BOOL, 1, {NULL, 0}};
        if (s->has_cookie)
            set_text(sets, &n, HAPROXY_ANSWER_COOKIE, ht_buf_slice(&s->cookie));
        if (ht_buf_size(&s->names) && s->usual)
            sets[n++] = (struct spop_set){haproxy_answers[HAPROXY_ANSWER_USUAL], SPOP_BOOL, 1, {NULL, 0}};
        else if (ht_buf_size(&s->names))
            set_text(sets, &n, HAPROXY_ANSWER_NAMES, ht_buf_slice(&s->names));
    }
    if (a->verdict == HAPROXY_VERDICT_ALLOW && h)
        n += edge_hooking_sets(h, sets + n);
    if (!fits(l, sets, n) && h)
        return put_answer(l, stream, frame, &too_long, NULL, NULL);
    return spop_put_ack(&l->reply, stream, frame, sets, n);
}

/* ---- a connection's end, and what is written ---- */

static void wait_free(struct wait *w) {
    auth_login_cancel(&w->login);
    ht_list_remove(&w->node);
    w->l->n_waits--;
    edge_policy_destroy(&w->policy);
    edge_strip_free(&w->strip);
    edge_hooking_free(&w->hooking);
    explicit_bzero(&w->d, sizeof w->d);
    ht_free(w);
}

static void wipe(struct ht_buf *b) {
    if (b->data)
        explicit_bzero(b->data, b->cap);
    ht_buf_free(b);
}

static void link_free(struct link *l) {
    while (!ht_list_empty(&l->waits))
        wait_free(HT_LIST_ENTRY(l->waits.next, struct wait, node));
    ht_list_remove(&l->node);
    l->g->n_conns--;
    io_conn_close(&l->conn);
    wipe(&l->in);
    wipe(&l->reply);
    io_out_free(&l->out);
    ht_free(l);
}

/* Writes what there is. False: the connection has ended, and is no more. */
static bool flush(struct link *l) {
    struct ht_slice all = ht_buf_slice(&l->reply);
    ssize_t n = all.n ? io_out_add(&l->out, all.p, all.n) : HT_OK;
    if (n == HT_OK)
        n = io_out_flush(&l->out, l->conn);
    ht_buf_consume(&l->reply, all.n);
    size_t pending = io_out_pending(&l->out);
    if (n < 0 || (l->over && pending == 0)) {
        link_free(l);
        return false;
    }
    io_conn_read_on(l->conn, !l->over && pending < PENDING_MAX);
    return true;
}

static void disconnect(struct link *l, enum spop_status why) {
    if (why != SPOP_NORMAL)
        ht_warn("edge", "HAProxy asked the gate what it does not understand: %s", spop_status_text(why));
    l->over = true;
    (void)!spop_put_disconnect(&l->reply, why); /* without memory it just ends */
}

/* ---- questions ---- */

static const struct io_addr *addr_of(const struct edge_visit *v, struct io_addr *out) {
    if (!v->family)
        return NULL;
    *out = io_addr_of_bytes(v->family, v->addr, 0);
    return out;
}

/* Tokens are guessed at, too. What is right passes however much was wrong. */
static void slow_down(struct edge_gate *g, const struct question *q, const struct edge_decision *d, struct answer *a) {
    struct io_addr from;
    char scope[80];
    const struct io_addr *visitor = addr_of(&q->visit, &from);
    if (d->verdict == EDGE_ALLOW || d->verdict == EDGE_PASSWORD || !d->failed)
        return;
    size_t n = ht_min(q->container.n, sizeof scope - 1);
    memcpy(scope, q->container.p, n);
    scope[n++] = '!'; /* passwords of the container are counted apart */
    if (auth_login_waits(g->login, ht_slice_of(scope, n), visitor, &a->wait_s))
        a->verdict = HAPROXY_VERDICT_SLOW;
    else
        auth_login_failed(g->login, ht_slice_of(scope, n), visitor);
}

static struct answer answer_of(const struct edge_decision *d, const struct edge_visit *v) {
    return (struct answer){.verdict = verdict_of(d, v), .why = d->why, .group = d->group};
}

/* What hooks cannot do, or may not, closes an open gate; they never open one. */
static void look_at_hooks(struct edge_gate *g, struct wait *w, struct answer *a) {
    struct edge_hooking *h = &w->hooking;
    const char *why = NULL;
    if (a->verdict != HAPROXY_VERDICT_ALLOW)
        return;
    bool may = !h->to_gated ||
               (h->to_policy && (h->to.verdict == EDGE_ALLOW ||
                                 (h->to.verdict == EDGE_PASSWORD && auth_login_known(g->login, &h->to.claim))));
    if (h->broken)
        why = "broken";
    else if (!may)
        why = "forward";
    if (why)
        *a = (struct answer){.verdict = HAPROXY_VERDICT_DENY, .why = why, .group = {"", 0}};
    else if (h->did.fault)
        *a = (struct answer){.verdict = HAPROXY_VERDICT_HOOK, .why = "hook", .group = {"", 0}};
}

static void on_login(struct auth_login_wait *lw, enum auth_login_result result) {
    struct wait *w = ht_container_of(lw, struct wait, login);
    struct link *l = w->l;
    edge_policy_login(&w->d, result == AUTH_LOGIN_GOOD);
    struct answer a = {.verdict = w->d.verdict == EDGE_ALLOW ? HAPROXY_VERDICT_ALLOW : w->refused,
                       .why = w->d.why,
                       .group = w->d.group};
    if (result == AUTH_LOGIN_BUSY)
        a = (struct answer){.verdict = HAPROXY_VERDICT_BUSY, .why = "busy"};
    look_at_hooks(l->g, w, &a);
    (void)!put_answer(l, w->stream, w->frame, &a, &w->strip, &w->hooking);
    wait_free(w);
    flush(l);
}

/* Has the password of w->d checked. True: on_login() follows, and *w is its own. */
static bool check_password(struct edge_gate *g, struct wait *w, const struct question *q, struct answer *a) {
    struct io_addr from;
    w->d.claim.scope = q->container;
    w->login.done = on_login;
    w->refused = asks_for_password(&q->visit);
    enum auth_login_result rc =
        auth_login_check(g->login, &w->d.claim, addr_of(&q->visit, &from), &w->login, &a->wait_s);
    if (rc == AUTH_LOGIN_ASKED)
        return true;
    if (rc == AUTH_LOGIN_SLOW || rc == AUTH_LOGIN_BUSY) {
        a->verdict = rc == AUTH_LOGIN_SLOW ? HAPROXY_VERDICT_SLOW : HAPROXY_VERDICT_BUSY;
        a->why = rc == AUTH_LOGIN_SLOW ? "slow" : "busy";
        a->group = ht_slice_of("", 0);
        return false;
    }
    edge_policy_login(&w->d, rc == AUTH_LOGIN_GOOD);
    *a = answer_of(&w->d, &q->visit);
    return false;
}

/* The group that a browser's ticket is of. */
static void find_login(struct edge_gate *g, const struct edge_policy *p, struct question *q) {
    struct ht_slice ticket;
    if (!edge_policy_ticket(p, &q->visit, &ticket) ||
        !edge_tickets_use(g->tickets, ticket, q->container, edge_policy_serial(p), &q->visit.login))
        q->visit.login = ht_slice_of("", 0);
}

/* The policy is NULL where everybody may. */
static int decide(struct link *l, struct edge_policy *p, struct question *q) {
    struct edge_gate *g = l->g;
    uint64_t now_s = (uint64_t)((int64_t)ht_now_ms() + ht_wall_offset_ms()) / 1000;
    struct wait *w = ht_calloc(1, sizeof *w);
    if (!w)
        return HT_ENOMEM;
    w->l = l;
    w->stream = q->stream;
    w->frame = q->frame;
    w->policy = p ? edge_policy_keep(p) : NULL;
    ht_list_init(&w->login.node);
    ht_list_init(&w->node);
    ht_list_push_back(&l->waits, &w->node);
    l->n_waits++;
    if (p) {
        edge_policies_also(g->policies, p, q->container, &q->visit);
        find_login(g, p, q);
        edge_policy_decide(p, &q->visit, now_s, &w->d);
    } else {
        w->d = (struct edge_decision){.verdict = EDGE_ALLOW, .why = "open", .group = {"", 0}};
    }
    int rc = p ? edge_policy_strip(p, &q->visit, &w->strip) : HT_OK;
    bool may = w->d.verdict == EDGE_ALLOW || w->d.verdict == EDGE_PASSWORD;
    if (rc == HT_OK && may) /* who may not sees no hook */
        rc = edge_hooking_run(&w->hooking, g->hooks, g->policies, q->container, q->method, &q->visit, &w->strip, p,
                              now_s);
    struct answer a = answer_of(&w->d, &q->visit);
    slow_down(g, q, &w->d, &a);
    if (rc == HT_OK && w->d.verdict == EDGE_PASSWORD) {
        bool now = q->kind == HAPROXY_QUESTION_LOGIN && l->n_waits <= WAITS_MAX;
        if (now && check_password(g, w, q, &a))
            return HT_OK;
        if (!now && auth_login_known(g->login, &w->d.claim)) {
            edge_policy_login(&w->d, true);
            a = answer_of(&w->d, &q->visit);
        }
    }
    look_at_hooks(g, w, &a);
    if (rc == HT_OK)
        rc = put_answer(l, q->stream, q->frame, &a, &w->strip, &w->hooking);
    wait_free(w);
    return rc;
}

static bool read_index(struct ht_slice s, unsigned *out) {
    *out = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (!ht_is_digit(s.p[i]) || i == 5)
            return false;
        *out = 10 * *out + (unsigned)(s.p[i] - '0');
    }
    return s.n > 0;
}

/* False: it lacks what a question must have. */
static bool read_args(struct question *q) {
    const struct spop_value *v = q->args;
    struct edge_visit *visit = &q->visit;
    const struct ht_slice addr = v[HAPROXY_ARG_VISITOR].bytes;
    static const enum haproxy_arg texts[] = {HAPROXY_ARG_CONTAINER, HAPROXY_ARG_PROGRAM, HAPROXY_ARG_INDEX,
                                             HAPROXY_ARG_METHOD,    HAPROXY_ARG_TARGET,  HAPROXY_ARG_HEADS};
    for (size_t i = 0; i < HT_ARRAY_LEN(texts); i++)
        if (v[texts[i]].kind != SPOP_BYTES)
            return false;
    q->container = v[HAPROXY_ARG_CONTAINER].bytes;
    q->method = v[HAPROXY_ARG_METHOD].bytes;
    visit->program = v[HAPROXY_ARG_PROGRAM].bytes;
    visit->target = v[HAPROXY_ARG_TARGET].bytes;
    visit->heads = v[HAPROXY_ARG_HEADS].bytes;
    if (v[HAPROXY_ARG_VISITOR].kind == SPOP_ADDRESS) {
        visit->family = addr.n == 4 ? 4 : 6;
        memcpy(visit->addr, addr.p, addr.n);
    }
    return read_index(v[HAPROXY_ARG_INDEX].bytes, &visit->index);
}

/* The index of a name in a table; `n`: it is not there. */
static unsigned index_of(const char *const *names, unsigned n, struct ht_slice name) {
    unsigned i = 0;
    while (i < n && !ht_slice_is(name, names[i]))
        i++;
    return i;
}

static int read_question(struct question *q, struct ht_slice payload) {
    struct ht_slice name;
    struct spop_value value;
    unsigned n;
    if (spop_next_message(&payload, &name, &n) <= 0)
        return HT_EPROTO;
    unsigned kind = index_of(haproxy_questions, HAPROXY_QUESTIONS, name);
    if (kind == HAPROXY_QUESTIONS)
        return HT_EPROTO;
    q->kind = kind;
    for (unsigned arg = 0; n > 0; n--) {
        if (spop_next_pair(&payload, &name, &value) <= 0)
            return HT_EPROTO;
        if (arg >= HAPROXY_ARGS || !ht_slice_is(name, haproxy_args[arg])) /* usually they come in their order */
            arg = index_of(haproxy_args, HAPROXY_ARGS, name);
        if (arg < HAPROXY_ARGS)
            q->args[arg++] = value;
    }
    return payload.n == 0 && read_args(q) ? HT_OK : HT_EPROTO;
}

static int on_notify(struct link *l, const struct spop_frame *f) {
    struct question q = {.stream = f->stream, .frame = f->frame};
    struct edge_policy *p;
    if (read_question(&q, f->payload) < 0) {
        disconnect(l, SPOP_INVALID);
        return HT_OK;
    }
    if (!edge_policies_find(l->g->policies, q.container, &p) || p)
        return decide(l, p, &q);
    struct answer a = {.verdict = HAPROXY_VERDICT_DENY, .why = "broken"};
    return put_answer(l, q.stream, q.frame, &a, NULL, NULL);
}

static int on_hello(struct link *l, const struct spop_frame *f) {
    struct spop_hello hello;
    enum spop_status why;
    if (spop_hello_read(f->payload, &hello, &why) < 0) {
        disconnect(l, why);
        return HT_OK;
    }
    l->greeted = true;
    l->max_frame = hello.max_frame;
    l->over = hello.check;
    return spop_put_hello(&l->reply, &hello);
}

static int on_frame(struct link *l, const struct spop_frame *f) {
    if (f->type == SPOP_DISCONNECT) {
        disconnect(l, SPOP_NORMAL);
    } else if (f->type == SPOP_HELLO && !l->greeted) {
        return on_hello(l, f);
    } else if (f->type == SPOP_NOTIFY && l->greeted) {
        return on_notify(l, f);
    } else if (f->type == SPOP_HELLO || !l->greeted) {
        disconnect(l, SPOP_INVALID);
    }
    return HT_OK; /* others are left aside, as the specification says */
}

/* ---- connections ---- */

static void readable(void *ctx) {
    struct link *l = ctx;
    struct spop_frame f;
    enum spop_status why;
    uint8_t *to = ht_buf_reserve(&l->in, READ_PIECE);
    ssize_t n = to ? io_conn_read(l->conn, to, READ_PIECE) : HT_ENOMEM;
    if (n == HT_EAGAIN)
        return;
    if (n < 0) {
        link_free(l);
        return;
    }
    ht_buf_commit(&l->in, (size_t)n);
    int rc = HT_OK;
    while (rc == HT_OK && !l->over && (n = spop_frame_read(ht_buf_slice(&l->in), l->max_frame, &f, &why)) > 0) {
        rc = on_frame(l, &f);
        explicit_bzero(ht_buf_head(&l->in), (size_t)n); /* there may be passwords in it */
        ht_buf_consume(&l->in, (size_t)n);
    }
    if (rc == HT_OK && !l->over && n == HT_EPROTO)
        disconnect(l, why);
    if (rc < 0)
        link_free(l);
    else
        flush(l);
}

static void writable(void *ctx) { flush(ctx); }

void edge_gate_accept(struct edge_gate *g, struct io_conn *conn) {
    static const struct io_conn_ops ops = {.readable = readable, .writable = writable};
    struct link *l = g->n_conns < LINKS_MAX ? ht_calloc(1, sizeof *l) : NULL;
    if (!l) {
        io_conn_close(&conn);
        return;
    }
    l->g = g;
    l->conn = conn;
    l->max_frame = SPOP_FRAME_MAX;
    ht_list_init(&l->waits);
    ht_list_init(&l->node);
    ht_list_push_back(&g->conns, &l->node);
    g->n_conns++;
    io_conn_set_ops(conn, &ops, l);
    io_conn_read_on(conn, true);
}

struct edge_gate *edge_gate_create(struct io_loop *loop, const struct edge_policies *policies,
                                   const struct edge_hooktable *hooks) {
    struct auth_passwords none = {.n = 0};
    struct edge_gate *g = ht_calloc(1, sizeof *g);
    if (!g)
        return NULL;
    g->loop = loop;
    g->policies = policies;
    g->hooks = hooks;
    ht_list_init(&g->conns);
    g->login = auth_login_create(loop, &none);
    g->tickets = edge_tickets_create(loop);
    if (!g->login || !g->tickets)
        edge_gate_destroy(&g);
    return g;
}

struct auth_login *edge_gate_logins(struct edge_gate *g) {
    return g->login;
}

struct edge_tickets *edge_gate_tickets(struct edge_gate *g) {
    return g->tickets;
}

void edge_gate_destroy(struct edge_gate **gp) {
    struct edge_gate *g = *gp;
    *gp = NULL;
    if (!g)
        return;
    while (!ht_list_empty(&g->conns))
        link_free(HT_LIST_ENTRY(g->conns.next, struct link, node));
    auth_login_destroy(&g->login);
    edge_tickets_destroy(&g->tickets);
    ht_free(g);
}
