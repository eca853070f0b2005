/* HELLO, the first frame of a WebSocket, which makes or resumes a session. (JOIN, the other first frame: shards.c.) */
#include "kit/bounds.h"
#include "kit/kit_priv.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "log_gen.h"

#include <stdio.h>

/* ---- refusals ---- */

static void refuse(struct kit_sock *s, enum ht_metric_handshake_failure why, uint16_t code, const char *message,
                   uint16_t ws_code) {
    struct wire_goaway frame = {.code = code, .message = ht_slice_str(message)};
    s->kit->metrics.handshake_failures_total[why]++;
    s->kit->metrics.goaways_total[ht_metric_code_of(code)][HT_METRIC_DIRECTION_SENT]++;
    ht_log_stranger(HT_LOG_WARN, "kit", HT_LOG_FIELDS(log_peer(s->peer), log_code(code), log_reason(message)),
                    "HELLO refused");
    event_refused(s, code, message);
    mux_link_refuse(s->link, &frame, ws_code, message);
}

void hello_busy(struct kit_sock *s, const char *why) {
    refuse(s, HT_METRIC_HANDSHAKE_FAILURE_SESSION_CAP, WIRE_CODE_RESOURCE_EXHAUSTED, why,
           WIRE_GOAWAY_SESSION_LIMIT_CLOSE);
}

static void refuse_as_late(struct kit_sock *s) {
    refuse(s, HT_METRIC_HANDSHAKE_FAILURE_BAD_HELLO, WIRE_GOAWAY_SUPERSEDED_CODE, WIRE_GOAWAY_SUPERSEDED_MESSAGE,
           WIRE_GOAWAY_SUPERSEDED_CLOSE);
}

static bool refused_as_draining(struct kit_sock *s) {
    if (s->kit->draining)
        refuse(s, HT_METRIC_HANDSHAKE_FAILURE_SESSION_CAP, WIRE_GOAWAY_SHUTDOWN_CODE, WIRE_GOAWAY_SHUTDOWN_MESSAGE,
               WIRE_GOAWAY_SHUTDOWN_CLOSE);
    return s->kit->draining;
}

/*
 * Which user the driver is (rules AUTH-1, USER-1). The token may be in the upgrade or in HELLO, since an edge proxy may
 * have put an Authorization of its own on the upgrade. Tokens of two different users are refused.
 */
static struct kit_who who_of(const struct kit_sock *s, const struct wire_hello *h) {
    struct kit *k = s->kit;
    struct kit_pass *pass = h->has_auth ? kit_pass_of_token(k, h->auth.token) : NULL;
    if (s->user)
        return pass && pass->user != s->user ? (struct kit_who){NULL, NULL} : (struct kit_who){s->user, s->pass};
    return pass ? (struct kit_who){pass->user, pass} : (struct kit_who){kit_user_of_nobody(k), NULL};
}

/* True: HELLO was refused. Otherwise *who is the driver's user. */
static bool refused(struct kit_sock *s, const struct wire_hello *h, struct kit_who *who) {
    struct kit *k = s->kit;
    if (refused_as_draining(s))
        return true;
    *who = who_of(s, h);
    if (!who->user) {
        k->metrics.auth_failures_total[HT_METRIC_SHOWN_AT_HELLO]
                                      [h->has_auth ? HT_METRIC_TOKEN_WRONG : HT_METRIC_TOKEN_MISSING]++;
        refuse(s, HT_METRIC_HANDSHAKE_FAILURE_AUTH, WIRE_GOAWAY_AUTH_CODE, WIRE_GOAWAY_AUTH_MESSAGE,
               WIRE_GOAWAY_AUTH_CLOSE);
        return true;
    }
    return false;
}

/* Rule EXT-1: the capabilities that the driver has named and that exist in its version. */
static unsigned named(const struct kit_sock *sock, const struct wire_hello *h) {
    return wire_caps_of(sock->version, h->capabilities, h->n_capabilities);
}

static struct ht_slice client_of(const struct kit_sock *sock, const struct wire_hello *h) {
    return h->has_client && named(sock, h) & WIRE_CAP_CLIENT ? h->client.id : ht_slice_of(NULL, 0);
}

static struct ht_slice name_of(const struct kit_sock *sock, const struct wire_hello *h) {
    return client_of(sock, h).n && h->client.has_name ? h->client.name : ht_slice_of(NULL, 0);
}

/* ---- a HELLO that waits: another session of its client has the last place, and was sent a PING ---- */

/* A copy of what is needed of HELLO after its token was checked. */
struct kit_held_hello {
    struct ht_list node; /* in kit.held */
    struct kit_sock *sock;
    struct kit_who who;
    struct wire_hello h;
    struct ht_slice capabilities[WIRE_MAX_HELLO_CAPABILITIES];
    char texts[]; /* WIRE_LIMIT_MAX_PREAUTH_MESSAGE at most: they come from one message */
};

/* False: out of memory. */
static bool hold(struct kit_sock *sock, struct kit_who who, const struct wire_hello *h) {
    size_t n = h->client.id.n + h->client.name.n + (h->has_resume ? h->resume.session_id.n : 0);
    for (size_t i = 0; i < h->n_capabilities; i++)
        n += h->capabilities[i].n;
    struct kit_held_hello *held = ht_calloc(1, sizeof *held + n);
    if (!held)
        return false;
    char *to = held->texts;
    held->sock = sock;
    held->who = who;
    held->h = (struct wire_hello){
        .version = h->version,
        .capabilities = held->capabilities,
        .n_capabilities = h->n_capabilities,
        .has_resume = h->has_resume,
        .resume = {.has_received = h->resume.has_received, .received = h->resume.received},
        .has_replay_buffer = h->has_replay_buffer,
        .replay_buffer = h->replay_buffer,
        .has_max_connections = h->has_max_connections,
        .max_connections = h->max_connections,
        .has_client = true,
        .client = {.id = ht_slice_copy(&to, h->client.id), .has_name = h->client.has_name},
    };
    held->h.client.name = ht_slice_copy(&to, h->client.name);
    if (h->has_resume)
        held->h.resume.session_id = ht_slice_copy(&to, h->resume.session_id);
    for (size_t i = 0; i < h->n_capabilities; i++)
        held->capabilities[i] = ht_slice_copy(&to, h->capabilities[i]);
    ht_list_push_back(&sock->kit->held, &held->node);
    hello_forget(sock);
    sock->held = held;
    io_timer_stop(&sock->hello_timer); /* the PING has a time limit of its own */
    return true;
}

const struct kit_pass *hello_held_pass(const struct kit_sock *s) { return s->held ? s->held->who.pass : NULL; }

void hello_forget(struct kit_sock *s) {
    if (!s->held)
        return;
    explicit_bzero(s->held->texts, s->held->h.client.id.n); /* the client's id, a secret, comes first */
    ht_list_remove(&s->held->node);
    ht_free(s->held);
    s->held = NULL;
}

/*
 * Why the user may not have one more session; NULL: it may. All users have equal parts of the places. Beyond its part a
 * user gets places only while the other users could still fill theirs.
 */
static const char *over_share(const struct kit *k, const struct kit_user *user, char out[192]) {
    unsigned n_users = 0, needed = 0, here = k->n_live + k->n_closing, most = k->opt->max_sessions;
    if (user->may.max_sessions && user->n_live >= user->may.max_sessions) {
        snprintf(out, 192, "%u sessions of the user %s (max-sessions)", user->n_live, user->name);
        return out;
    }
    HT_LIST_FOR (it, &k->users)
        n_users += HT_LIST_ENTRY(it, struct kit_user, node)->known;
    unsigned part = n_users ? most / n_users : 0;
    if (part == 0 || user->n_live < part)
        return NULL;
    HT_LIST_FOR (it, &k->users) {
        const struct kit_user *other = HT_LIST_ENTRY(it, struct kit_user, node);
        needed += other->known && other != user && other->n_live < part ? part - other->n_live : 0;
    }
    if (here + needed < most)
        return NULL;
    snprintf(out, 192, "%u sessions of the user %s, and the places that are left are for others (--max-sessions)",
             user->n_live, user->name);
    return out;
}

/* Rule HELLO-7. True: HELLO was refused, or waits. A resumed session that was not parked takes no new place. */
static bool over_cap(struct kit_sock *s, struct kit_who who, const struct wire_hello *h,
                     const struct kit_session *resumed) {
    struct kit *k = s->kit;
    char why[192];
    if (resumed && resumed->state != WIRE_SESSION_PARKED)
        return false;
    const char *share = over_share(k, who.user, why);
    if (!share && k->n_live + k->n_closing < k->opt->max_sessions)
        return false;
    enum relay_yield own = session_of_client_yields(k, who.user, client_of(s, h)); /* CLIENT-3 */
    if (own == RELAY_YIELDS || (own == RELAY_PENDING && hold(s, who, h)))
        return own == RELAY_PENDING;
    /* Published drivers may compare the text, so they get it as it is. Our driver shows it to people. */
    bool plain = (named(s, h) & WIRE_CAPS_OURS) == 0;
    struct ht_errmsg text;
    if (share)
        ht_fail(&text, 0, "%s: %s", WIRE_GOAWAY_SESSION_LIMIT_MESSAGE, share);
    else
        ht_fail(&text, 0, "%s: %u sessions (--max-sessions)", WIRE_GOAWAY_SESSION_LIMIT_MESSAGE, k->opt->max_sessions);
    refuse(s, HT_METRIC_HANDSHAKE_FAILURE_SESSION_CAP, WIRE_GOAWAY_SESSION_LIMIT_CODE,
           plain ? WIRE_GOAWAY_SESSION_LIMIT_MESSAGE : text.text, WIRE_GOAWAY_SESSION_LIMIT_CLOSE);
    return true;
}

/* ---- HELLO_OK ---- */

/* HELLO_OK, and what its lists point to until it is encoded. */
struct answer {
    struct wire_hello_ok ok;
    struct wire_resumed_bind binds[WIRE_MAX_HELLO_OK_RESUMED_BINDS];
    struct wire_join_ticket tickets[WIRE_LIMIT_MAX_CONNECTIONS];
    struct ht_slice capabilities[WIRE_N_CAPABILITIES];
    char proxy[IO_ADDR_TEXT];
};

/* vtunnel has no windows, so one stream whose visitor does not read may hold as much as a whole session (VFLOW-1). */
static uint32_t stream_window(const struct kit_sock *sock) {
    const struct opt_serve *o = sock->kit->opt;
    return (uint32_t)(sock->vt ? o->session_initial_window : o->stream_initial_window);
}

static void add_resumed_bind(void *ctx, const struct relay_binding_info *info) {
    struct answer *a = ctx;
    if (a->ok.n_resumed_binds == HT_ARRAY_LEN(a->binds))
        return;
    a->binds[a->ok.n_resumed_binds++] = (struct wire_resumed_bind){
        .bind_id = info->bind_id,
        .kind = info->kind,
        .mode = info->mode,
        .container_port = info->port,
    };
}

static void fill_answer(struct kit_session *s, struct kit_sock *sock, const struct wire_hello *h, struct answer *a) {
    const struct opt_serve *opt = s->kit->opt;
    struct wire_hello_ok *ok = &a->ok;
    memset(ok, 0, sizeof *ok);
    s->granted = 1;
    if (h->has_max_connections) /* v1 does not have this field */
        s->granted = (unsigned)ht_max(
            1, ht_min(h->max_connections, ht_min(opt->max_connections, WIRE_LIMIT_OF(sock->version, MAX_CONNECTIONS))));
    unsigned agreed = s->caps;
    s->shard_map = agreed & WIRE_CAP_SHARD_MAP;
    s->reissue_tickets = agreed & WIRE_CAP_REISSUE_TICKETS;
    ok->session_id = ht_slice_str(s->id);
    ok->resumed = s->resumed;
    ok->resumed_binds = a->binds;
    if (s->resumed)
        relay_each_binding(s->kit->table, &s->owner, add_resumed_bind, a);
    ok->stream_window = stream_window(sock);
    ok->session_window = (uint32_t)opt->session_initial_window;
    ok->connections_granted = (uint16_t)s->granted;
    ok->join_tickets = a->tickets;
    ok->n_join_tickets = shards_begin(s, a->tickets);
    ok->has_max_streams = true;
    ok->max_streams = opt->max_streams_per_session;
    ok->has_max_bindings = true;
    ok->max_bindings = opt->max_bindings_per_session;
    ok->capabilities = a->capabilities;
    ok->n_capabilities = wire_caps_names(agreed, a->capabilities);
    if (agreed & WIRE_CAP_NAMES && s->kit->connect) {
        struct io_addr at;
        relay_connect_addr(s->kit->connect, &at);
        ok->has_proxy = true;
        ok->proxy = ht_slice_str(io_addr_text(&at, a->proxy));
    }
    ok->has_user = !ht_list_empty(&s->kit->users);
    if (ok->has_user)
        ok->user = ht_slice_str(s->user->name);
    session_offer(s, ok);
    ok->has_server = true;
    ok->server = ht_slice_str("hoody-tunnel/" KIT_VERSION);
}

static struct mux_session *make_mux(struct kit_session *s, struct kit_sock *sock, const struct wire_hello *h) {
    struct kit *k = s->kit;
    const struct opt_serve *opt = k->opt;
    unsigned caps = named(sock, h);
    s->owner.own_peer = (caps & WIRE_CAPS_OURS) && !sock->vt; /* vtunnel's HELLO is made here; its peer is not ours */
    bool asks = !sock->vt;                                    /* a vtunnel client sends its own pings (VKEEP-1) */
    struct mux_config cfg = {
        .role = WIRE_ROLE_KIT,
        .version = sock->version,
        .stream_window = stream_window(sock),
        .session_window = (uint32_t)opt->session_initial_window,
        .max_window = (uint32_t)opt->max_window,
        .max_streams = opt->max_streams_per_session,
        .session_buffer = opt->session_buffer,
        .ping_interval_ms = asks ? opt->ping_interval_ms : 0,
        .pong_timeout_ms = asks ? opt->pong_timeout_ms : 0,
        .suspect_after_ms = asks ? opt->suspect_after_ms : 0,
        .idle_timeout_ms = opt->idle_timeout_ms,
        .first_stream_id = s->next_stream_id,
        .last_stream_id = session_last_stream(k),
        .own_peer = s->owner.own_peer || sock->vt,
        .caps = s->caps,
        .replay_buffer = kit_replay_buffer(opt),
        .peer_replay_buffer = h->has_replay_buffer ? h->replay_buffer : 0,
        .resume_grace_ms = opt->takeover_grace_ms,
        .metrics = &k->metrics,
        .quota = &s->user->quota,
        .random = ht_random_bytes,
    };
    return mux_session_create(&cfg, &session_mux_ops, s, io_now_ms(k->loop));
}

void session_let_settle(struct kit_session *s) {
    if (s->resumed && !s->owner.own_peer)
        s->owner.not_before_ms = io_now_ms(s->kit->loop) + WIRE_LIMIT_RESUME_SETTLE;
}

/* Rule HANDOVER-2. */
static struct kit_session *follow(struct kit_session *old) {
    struct kit_session *s = handover_successor(old);
    if (!s && old->state == WIRE_SESSION_LIVE) /* it was superseded by the caller, and has no mux session */
        session_park(old, "no memory to resume it");
    return s;
}

/* Makes a mux session for `s` and sends HELLO_OK. NULL: out of memory. */
static struct mux_session *begin(struct kit_session *s, struct kit_sock *sock, const struct wire_hello *h) {
    struct answer answer;
    s->caps = sock_caps(sock, named(sock, h));
    struct mux_session *mux = session_keep(s, 0) ? make_mux(s, sock, h) : NULL;
    if (mux) {
        fill_answer(s, sock, h, &answer);
        if (mux_session_attach(mux, sock->link, &answer.ok) < 0)
            mux_session_destroy(&mux);
    }
    if (!mux)
        session_forget_all_kept(s);
    return mux;
}

/* The same with the mux session that `s` has, whose streams go on. */
static struct mux_session *go_on(struct kit_session *s, struct kit_sock *sock, const struct wire_hello *h) {
    struct answer answer;
    s->resumed = true;
    fill_answer(s, sock, h, &answer);
    return session_go_on(s, sock, h->resume.received, &answer.ok) ? s->owner.mux : NULL;
}

/* There is no memory for a session. `resumed`: it existed before. */
static void refuse_session(struct kit_sock *sock, struct kit_session *s, bool resumed) {
    if (s && s->state == WIRE_SESSION_AWAITING && resumed) /* made by follow(), so it has the ports already */
        session_enter_state(s, WIRE_SESSION_LIVE);
    if (s && resumed)
        session_park(s, "no memory to resume it");
    else if (s)
        session_free(s);
    refuse(sock, HT_METRIC_HANDSHAKE_FAILURE_SESSION_CAP, WIRE_CODE_INTERNAL_ERROR, "out of memory",
           WIRE_CLOSE_INTERNAL_ERROR);
}

static void welcome(struct kit_session *s, struct mux_session *mux, struct kit_sock *sock, const struct wire_hello *h) {
    struct kit *k = s->kit;
    if (!s->resumed)
        k->metrics.sessions_total++;
    else
        k->metrics.resumes_total++;
    session_set_client(s, client_of(sock, h), name_of(sock, h));
    session_go_live(s, mux, sock);
    session_let_settle(s);
    event_session(s, s->resumed ? ADMIN_EVENT_TYPE_SESSION_RESUMED : ADMIN_EVENT_TYPE_SESSION_OPENED, NULL);
    session_log(s, HT_LOG_INFO,
                HT_LOG_FIELDS(log_session(s->id), log_peer(s->peer),
                              log_version(s->vtunnel ? "vtunnel" : wire_version_text(s->version)),
                              log_count(s->granted)),
                s->resumed ? "session resumed" : "session opened");
    relay_owner_room(k->table, &s->owner); /* visitors may have waited for the session */
}

/* What an elder has of the session; NULL: nothing. */
static const struct kit_past *past_of(struct kit *k, const struct kit_user *user, const struct wire_hello *h) {
    const struct kit_past *past = h->has_resume ? past_find(k, h->resume.session_id) : NULL;
    return past && past_is_of(k, past, user) ? past : NULL;
}

/* A HELLO that the kit that follows has handed over, to go on with what is under way here. */
static void admit_here(struct kit_sock *sock, struct kit_who who, const struct wire_hello *h) {
    struct kit *k = sock->kit;
    struct kit_session *s = h->has_resume ? session_find_own(k, who.user, h->resume.session_id) : NULL;
    enum resume_fate fate = s ? session_fate(s, sock, h, sock_caps(sock, named(sock, h))) : RESUME_ANEW;
    if (fate == RESUME_LATE) {
        refuse_as_late(sock);
        return;
    }
    struct mux_session *mux = fate == RESUME_WHOLE ? go_on(s, sock, h) : NULL;
    if (mux) {
        s->pass = who.pass;
        welcome(s, mux, sock, h);
        leave_resumed(s);
        return;
    }
    leave_over(k, s, h->resume.session_id);
    sock_drop(sock);
}

static void admit(struct kit_sock *sock, struct kit_who who, const struct wire_hello *h) {
    struct kit *k = sock->kit;
    struct kit_session *s = h->has_resume ? session_find_own(k, who.user, h->resume.session_id) : NULL;
    if (k->handing && hold(sock, who, h))
        return;
    const struct kit_past *past = past_of(k, who.user, h);
    if (past && h->resume.has_received && past_hand_hello(sock, past, who.pass, h))
        return;
    enum resume_fate fate = s ? session_fate(s, sock, h, sock_caps(sock, named(sock, h))) : RESUME_ANEW;
    if (fate == RESUME_LATE) {
        refuse_as_late(sock);
        return;
    }
    if (over_cap(sock, who, h, s))
        return;
    if (s &&
        s->state == WIRE_SESSION_GONE) /* PARK-3: over_cap() has parked another session, which pushed this one out */
        s = NULL;
    /* What an elder has of it keeps the id. */
    bool resumed = s != NULL, from_elder = s && (s->elsewhere || past);
    struct mux_session *mux = NULL;
    if (!s)
        s = session_new(k, who);
    if (from_elder)
        elsewhere_end(s, true);
    if (s) {
        kept_is_back(s);
        s->pass = who.pass;
        s->whole = false;
    }
    if (resumed && fate == RESUME_WHOLE)
        mux = go_on(s, sock, h);
    if (resumed && !mux && s->state == WIRE_SESSION_LIVE)
        session_supersede(s);
    if (resumed && !mux && (s->state == WIRE_SESSION_RESTARTING || session_used_up(s) || from_elder))
        s = follow(s);
    if (s && !mux) {
        if (s->state == WIRE_SESSION_PARKED)
            session_cut(s, "its driver has come back without them");
        s->resumed = resumed;
        mux = begin(s, sock, h);
    }
    if (mux)
        welcome(s, mux, sock, h);
    else
        refuse_session(sock, s, resumed);
}

void hello_received(struct kit_sock *sock, const struct wire_hello *h) {
    struct kit_who who;
    if ((sock->kit->leaving && !sock->taken) ||
        (sock->kit->handing && sock->vt)) { /* its driver tries again, and meets a kit that stays */
        sock_drop(sock);
        return;
    }
    if (refused(sock, h, &who))
        return;
    if (sock->taken)
        admit_here(sock, who, h);
    else
        admit(sock, who, h);
}

void hello_retry(struct kit *k) {
    struct ht_list again;
    ht_list_init(&again);
    ht_list_splice(&again, &k->held);
    while (!ht_list_empty(&again)) {
        struct kit_held_hello *held = HT_LIST_ENTRY(ht_list_pop_front(&again), struct kit_held_hello, node);
        struct kit_sock *sock = held->sock;
        sock->held = NULL; /* admit() may hold it again */
        if (!refused_as_draining(sock))
            admit(sock, held->who, &held->h);
        explicit_bzero(held->texts, held->h.client.id.n);
        ht_free(held);
    }
}
