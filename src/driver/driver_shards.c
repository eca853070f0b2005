/*
 * The secondary sockets of a v2 session. They are all opened at once, with the tickets of HELLO_OK. A secondary that is
 * lost, or could not be opened, is replaced alone, if the kit reissues tickets.
 */
#include "driver/driver.h"

#include "base/clock.h"
#include "base/text.h"

#include <stdio.h>

static void shard_gone(struct driver_sock *s, const char *why);

/* ---- the session, present or past ---- */

static unsigned granted_of(const struct driver_session *ses) {
    return driver_is_past(ses) ? ses->was.granted : ses->t->granted;
}

static bool reissues_of(const struct driver_session *ses) {
    return driver_is_past(ses) ? ses->was.reissues : ses->t->reissues;
}

static bool keeps(const struct driver_session *ses) {
    return (driver_is_past(ses) ? ses->was.caps : ses->t->caps) & WIRE_CAP_STREAM_RESUME;
}

static bool session_goes_on(const struct driver_session *ses) {
    const struct ht_tunnel *t = ses->t;
    if (driver_is_past(ses))
        return t->state != DRIVER_ENDED && ses->mux && !mux_session_is_away(ses->mux) && driver_shards_go_on(ses);
    return t->state == DRIVER_UP && ses->mux && !t->session_over && !t->goaway && !t->restarting;
}

bool driver_shards_go_on(const struct driver_session *ses) { return keeps(ses) && reissues_of(ses); }

/* ---- whether a secondary is alive ---- */

/*
 * The session's PING travels on the primary (FRAME-10), so a quiet secondary is checked with a PING of WebSocket
 * itself, which every server answers. It also keeps routers in between from dropping the connection.
 */
static void check_life(struct driver_sock *s) {
    struct ht_tunnel *t = s->t;
    uint64_t in, out, now = io_now_ms(t->loop), wait = t->ping_interval_ms, patience = t->pong_timeout_ms;
    if (mux_link_is_busy(s->link) || s->probing) { /* KEEP-5 */
        wait = ht_min64(wait, t->suspect_after_ms);
        patience = ht_min64(patience, s->probing ? s->patience : t->suspect_after_ms);
    }
    io_conn_counts(ws_conn_io(s->ws), &in, &out);
    if (in != s->heard ||
        (s->of == t->now && driver_bind_asked(t))) { /* while a BIND waits, secondaries are not read (see JOIN below) */
        s->heard = in;
        s->pinged_at = 0;
        s->probing = false;
    } else if (s->pinged_at && now >= s->pinged_at + patience) {
        shard_gone(s, "it no longer answers");
        return;
    } else if (!s->pinged_at) {
        s->pinged_at = now;
        ws_conn_ping(s->ws);
    }
    if (s->pinged_at)
        wait = ht_min(wait, s->pinged_at + patience - now);
    io_timer_set(&s->timer, wait);
}

void driver_shards_probe(struct ht_tunnel *t, uint64_t patience_ms) {
    for (unsigned i = 1; i < t->granted; i++) {
        struct driver_sock *s = &t->now->socks[i];
        if (s->state != SHARD_UP || s->probing)
            continue;
        s->probing = true;
        s->patience = patience_ms ? patience_ms : t->suspect_after_ms;
        s->pinged_at = io_now_ms(t->loop);
        ws_conn_ping(s->ws);
        io_timer_set(&s->timer, s->patience);
    }
}

/* ---- JOIN ---- */

/*
 * A STREAM_OPEN on a secondary can arrive before the BIND_OK on the primary that it needs. So secondaries are not read
 * while a BIND waits for its answer.
 */
void driver_shards_bind_changed(struct ht_tunnel *t) {
    bool hold = driver_bind_asked(t);
    for (unsigned i = 1; i < t->granted; i++)
        if (t->now->socks[i].state == SHARD_UP && t->now->socks[i].ws)
            ws_conn_pause(t->now->socks[i].ws, hold);
}

static int shard_greet(struct driver_sock *s) {
    struct wire_join join = {
        .session_id = ht_slice_str(driver_is_past(s->of) ? s->of->was.id : s->t->session_id),
        .index = (uint16_t)s->index,
        .nonce = ht_slice_str(s->nonce),
        .has_received_bytes = reissues_of(s->of),
        .received_bytes = mux_session_received(s->of->mux, s->index),
    };
    join.has_received = mux_session_counted(s->of->mux, s->index, &join.received);
    s->state = SHARD_JOINING;
    return mux_link_send_join(s->link, &join);
}

static void link_join_ok(void *ctx, const struct wire_join_ok *ok) {
    struct driver_sock *s = ctx;
    struct ht_tunnel *t = s->t;
    /* The kit checks that the index is the ticket's. */
    const uint64_t *bytes = reissues_of(s->of) && ok->has_received_bytes ? &ok->received_bytes : NULL;
    const uint64_t *messages = keeps(s->of) && ok->has_received ? &ok->received : NULL;
    if (!s->of->mux || mux_session_join(s->of->mux, s->link, s->index, bytes, messages) < 0 ||
        (keeps(s->of) && driver_kept_begin(s) < 0)) {
        shard_gone(s, "the session is over");
        return;
    }
    s->state = SHARD_UP;
    s->up_at = io_now_ms(t->loop);
    s->heard = 0;
    s->pinged_at = 0;
    s->probing = false;
    s->seen_up = false;
    io_timer_set(&s->timer, ht_min64(t->ping_interval_ms, t->suspect_after_ms));
    driver_shards_bind_changed(t);
    driver_say(t, HT_SEVERITY_DEBUG, "connection %u of %u is open", s->index + 1, granted_of(s->of));
}

static void link_join_err(void *ctx, const struct wire_join_err *err) {
    struct driver_sock *s = ctx;
    char message[256], text[320];
    const char *code = wire_join_error_text(err->code);
    ht_text_clean(err->message, message, sizeof message);
    snprintf(text, sizeof text, "%s%s%s", code ? code : "refused", *message ? ": " : "", message);
    shard_gone(s, text);
}

static void link_refused(void *ctx, const struct wire_goaway *goaway) {
    char message[256];
    shard_gone(ctx, ht_text_clean(goaway->message, message, sizeof message));
}

static void link_close(void *ctx, uint16_t ws_code, const char *reason) { driver_sock_close(ctx, ws_code, reason); }

static const struct mux_link_ops shard_link_ops = {
    .join_ok = link_join_ok,
    .join_err = link_join_err,
    .refused = link_refused,
    .output = driver_sock_output,
    .close = link_close,
    .kept = driver_kept_bytes,
    .acked = driver_kept_acked,
    .replay = driver_kept_replay,
    .drained = driver_drained,
};

static void shard_failed(struct driver_sock *s, int error, uint16_t status, uint64_t retry_after_ms, const char *text) {
    (void)error, (void)status, (void)retry_after_ms;
    shard_gone(s, text);
}

static void shard_closed(struct driver_sock *s, uint16_t code, const char *text, bool broken) {
    char why[256];
    if (code == WS_CLOSE_DROPPED || broken)
        snprintf(why, sizeof why, "%s", *text ? text : "the connection was lost");
    else
        snprintf(why, sizeof why, "the kit closed it with code %u%s%s", code, *text ? ": " : "", text);
    shard_gone(s, why);
}

static const struct driver_sock_ops shard_ops = {
    .link = &shard_link_ops, .greet = shard_greet, .failed = shard_failed, .closed = shard_closed};

static void shard_connect(struct driver_sock *s) {
    struct ht_errmsg err;
    s->state = SHARD_CONNECTING;
    if (driver_sock_connect(s, wire_version_text(s->t->now->socks[0].version), &err) < 0)
        shard_gone(s, err.text);
}

/* ---- tickets ---- */

/* Connects a secondary in state `from` with the ticket. False: there is none, or the nonce is too long. */
static bool take_ticket(struct driver_session *ses, const struct wire_join_ticket *ticket, enum shard_state from) {
    if (ticket->index == 0 || ticket->index >= granted_of(ses))
        return false;
    struct driver_sock *s = &ses->socks[ticket->index];
    if (s->state != from || ticket->nonce.n >= sizeof s->nonce)
        return false;
    memcpy(s->nonce, ticket->nonce.p, ticket->nonce.n);
    s->nonce[ticket->nonce.n] = '\0';
    io_timer_stop(&s->timer);
    shard_connect(s);
    return true;
}

/* Rule SHARD-2. */
static void ask_for_ticket(struct driver_sock *s) {
    uint16_t index = (uint16_t)s->index;
    struct wire_reissue ask = {.indexes = &index, .n_indexes = 1};
    s->state = mux_session_send(s->of->mux, WIRE_REISSUE_JOIN_TICKETS, &ask) < 0 ? SHARD_LOST : SHARD_ASKED;
    io_timer_set(&s->timer, WIRE_LIMIT_BIND_TIMEOUT);
}

void driver_shards_reissued(struct driver_session *ses, const struct wire_reissue *answer) {
    for (size_t i = 0; i < answer->n_join_tickets; i++)
        (void)take_ticket(ses, &answer->join_tickets[i], SHARD_ASKED);
}

void driver_on_reissued(void *ctx, const struct wire_reissue *answer) {
    struct ht_tunnel *t = ctx;
    driver_shards_reissued(t->now, answer);
}

/*
 * Rule SHARD-1: which sockets the kit has. It may have lost one that looks alive from here. But a map that was made
 * before a JOIN arrived does not have that socket either, so "down" counts only after "up".
 */
void driver_shards_map(struct driver_session *ses, const struct wire_shard_map *map) {
    for (size_t i = 0; i < map->n_shards; i++) {
        unsigned index = map->shards[i].index;
        struct driver_sock *s = index > 0 && index < granted_of(ses) ? &ses->socks[index] : NULL;
        if (!s || s->state != SHARD_UP)
            continue;
        if (map->shards[i].up)
            s->seen_up = true;
        else if (s->seen_up)
            shard_gone(s, "the kit has lost it");
    }
}

void driver_on_shard_map(void *ctx, const struct wire_shard_map *map) {
    struct ht_tunnel *t = ctx;
    driver_shards_map(t->now, map);
}

/* ---- life ---- */

static void timer_fired(struct io_timer *timer) {
    struct driver_sock *s = ht_container_of(timer, struct driver_sock, timer);
    switch (s->state) {
    case SHARD_JOINING:
        shard_gone(s, "the kit did not answer JOIN in time");
        break;
    case SHARD_UP:
        check_life(s);
        break;
    case SHARD_LOST:
    case SHARD_ASKED:
        ask_for_ticket(s);
        break;
    case SHARD_NONE:
    case SHARD_CONNECTING:
        break;
    }
}

static void shard_gone(struct driver_sock *s, const char *why) {
    struct ht_tunnel *t = s->t;
    char text[320]; /* a copy, since `why` may be freed with the socket */
    bool was_up = s->state == SHARD_UP;
    uint64_t random;
    snprintf(text, sizeof text, "%s", why);
    s->state = SHARD_NONE; /* before the streams are closed, whose callbacks may look at it */
    driver_sock_drop(s);
    if (!session_goes_on(s->of))
        return;
    if (reissues_of(s->of)) {
        driver_say(t, HT_SEVERITY_INFO, "connection %u of %u was lost and is opened again: %s", s->index + 1,
                   granted_of(s->of), text);
        if (was_up && io_now_ms(t->loop) - s->up_at >= DRIVER_STEADY_MS)
            s->attempts = 0;
        ht_random_bytes(&random, sizeof random);
        s->state = SHARD_LOST;
        io_timer_set(&s->timer,
                     driver_backoff(s->attempts++, t->retry_min_ms,
                                    t->now->kept[s->index] ? WIRE_LIMIT_RETRY_KEPT : WIRE_LIMIT_RETRY_MAX, random));
    } else if (was_up) {
        driver_say(t, HT_SEVERITY_WARNING, "connection %u of %u was lost, and this session goes on without it: %s",
                   s->index + 1, t->granted, text);
    } else { /* rule JOIN-3 */
        driver_end_reason(t, HT_TUNNEL_ELOST, "connection %u of the %u of the session could not be opened: %s",
                          s->index + 1, t->granted, text);
        t->session_id[0] = '\0'; /* the close is a goodbye, so the session cannot be resumed */
        mux_session_close(t->now->mux);
    }
}

static void replace_now(struct driver_session *ses) {
    for (unsigned i = 1; session_goes_on(ses) && i < granted_of(ses); i++)
        if (ses->socks[i].state == SHARD_LOST)
            io_timer_set(&ses->socks[i].timer, 0);
}

void driver_shards_now(struct ht_tunnel *t) {
    replace_now(t->now);
    HT_LIST_FOR (it, &t->past)
        replace_now(HT_LIST_ENTRY(it, struct driver_session, node));
}

void driver_shards_open(struct driver_session *ses, const struct wire_hello_ok *ok) {
    for (unsigned i = 1; i < granted_of(ses); i++) {
        struct driver_sock *s = &ses->socks[i];
        driver_sock_init(s, ses, i, &shard_ops, timer_fired);
        s->state = SHARD_NONE;
        s->attempts = 0;
    }
    uint64_t count;
    for (size_t i = 0; i < ok->n_join_tickets && session_goes_on(ses); i++)
        if (!driver_is_past(ses) || (ok->join_tickets[i].index < granted_of(ses) &&
                                     mux_session_counted(ses->mux, ok->join_tickets[i].index, &count)))
            (void)take_ticket(ses, &ok->join_tickets[i], SHARD_NONE);
}
