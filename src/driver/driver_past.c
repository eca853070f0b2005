/*
 * Sessions that were replaced (HANDOVER-1), until their last stream has ended. After a restart of the kit they are with
 * the program before. When the link of one is lost, the tunnel dials the same address again, and the kit there passes
 * the connection on to whoever has the streams. Local connections stay open meanwhile, as with the present session
 * (driver_resume.c).
 */
#include "driver/driver.h"

#include "base/clock.h"
#include "base/log.h"
#include "log_gen.h"

#include <stdio.h>

#define PAST_MAX 64u /* most old sessions; for one more, the oldest is cut */

bool driver_is_past(const struct driver_session *ses) { return ses != ses->t->now && ses != ses->t->next; }

static void drop_past(struct driver_session *ses) {
    ht_list_remove(&ses->node);
    ses->t->n_past--;
    io_task_cancel(&ses->end);
    io_timer_stop(&ses->again);
    driver_session_free(&ses);
}

/* Its streams are cut. The callbacks of streams may change the tunnel's state. */
static void give_up(struct driver_session *ses, const char *why) {
    unsigned n = ses->mux ? mux_session_streams(ses->mux) : 0;
    ses->waits = false;
    mux_session_destroy(&ses->mux);
    for (unsigned i = 0; i < HT_MAX_CONNECTIONS; i++)
        driver_kept_drop(ses, i);
    if (n > 0)
        driver_say(ses->t, HT_SEVERITY_WARNING, "%u open request%s or connection%s of an earlier session %s cut: %s", n,
                   n > 1 ? "s" : "", n > 1 ? "s" : "", n > 1 ? "were" : "was", why);
}

/* ---- the wait for another link ---- */

/* An id that the present session has as well would lead there. */
static bool may_come_again(const struct driver_session *ses) {
    return ses->was.id[0] && strcmp(ses->was.id, ses->t->session_id) != 0;
}

/* Its link is lost, or an attempt to get another one has failed. False: it is given up. */
static bool wait_for_link(struct driver_session *ses) {
    struct ht_tunnel *t = ses->t;
    uint64_t now = io_now_ms(t->loop), random;
    driver_session_unlink(ses);
    for (unsigned i = 1; i < HT_MAX_CONNECTIONS; i++)
        ses->socks[i].state = SHARD_NONE;
    if (!ses->waits) {
        ses->waits = true;
        ses->lost_at = now;
        ses->attempts = 0;
        driver_say(t, HT_SEVERITY_INFO,
                   "the connection of an earlier session was lost; %u open requests and connections there wait for "
                   "another one",
                   mux_session_streams(ses->mux));
    }
    uint64_t until = ses->lost_at + ses->was.grace_ms;
    if (!may_come_again(ses) || now >= until) {
        give_up(ses, may_come_again(ses) ? "the kit could not be reached in the time for which it keeps them"
                                         : "the kit gave their session no id of its own");
        return false;
    }
    ht_random_bytes(&random, sizeof random);
    io_timer_set(&ses->again, ht_min64(driver_backoff(ses->attempts++, t->retry_min_ms, WIRE_LIMIT_RETRY_KEPT, random),
                                       until - now));
    return true;
}

/* At the end of the turn, because functions that use it may still be on the stack. */
static void settle(struct io_task *task) {
    struct driver_session *ses = ht_container_of(task, struct driver_session, end);
    if (!ses->mux || !mux_session_is_away(ses->mux) || !wait_for_link(ses))
        drop_past(ses);
}

void driver_past_look(struct driver_session *ses) { io_task_add(ses->t->loop, &ses->end); }

void driver_past_failed(struct driver_session *ses, const char *why) {
    ht_log_with(HT_LOG_DEBUG, "driver", HT_LOG_FIELDS(log_session(ses->was.id), log_reason(why)),
                "no link for an earlier session yet");
    driver_past_look(ses);
}

static void dial(struct io_timer *timer) {
    struct driver_session *ses = ht_container_of(timer, struct driver_session, again);
    struct ht_errmsg err = {""};
    if (driver_link_dial(ses, wire_version_text(ses->was.version), &err) < 0)
        driver_past_failed(ses, err.text);
}

void driver_past_now(struct ht_tunnel *t) {
    HT_LIST_FOR (it, &t->past) {
        struct driver_session *ses = HT_LIST_ENTRY(it, struct driver_session, node);
        if (io_timer_active(&ses->again))
            io_timer_set(&ses->again, 0);
    }
}

void driver_past_hello(struct driver_session *ses, struct wire_resume *resume) {
    resume->session_id = ht_slice_str(ses->was.id);
    resume->has_received = mux_session_counted(ses->mux, 0, &resume->received);
}

/* Whatever session the kit has made for this HELLO, nobody wants it. */
static void not_this_one(struct driver_sock *s, const char *why) {
    give_up(s->of, why);
    driver_sock_close(s, 0, "");
}

void driver_past_hello_ok(struct driver_sock *s, const struct wire_hello_ok *ok) {
    struct driver_session *ses = s->of;
    struct ht_tunnel *t = ses->t;
    uint64_t now = io_now_ms(t->loop);
    if (!ses->waits || !ok->has_received || !(driver_agreed(s, ok) & WIRE_CAP_STREAM_RESUME)) {
        not_this_one(s, "the kit no longer has their session");
        return;
    }
    int rc = driver_kept_begin(s);
    if (rc == HT_OK)
        rc = mux_session_resume(ses->mux, s->link, ok->received, ok, now);
    if (rc < 0) {
        not_this_one(s, rc == HT_ENOMEM ? ht_err_text(rc) : "the kit and this driver do not agree on what was sent");
        return;
    }
    ses->waits = false;
    t->pause.whole++;
    driver_say(t, HT_SEVERITY_INFO, "%u open requests and connections of an earlier session go on after %llu ms",
               mux_session_streams(ses->mux), (unsigned long long)(now - ses->lost_at));
    driver_session_touch(ses);
    driver_shards_open(ses, ok);
}

void driver_past_closed(struct driver_sock *s, uint16_t code, const char *text) {
    struct driver_session *ses = s->of;
    bool goodbye = code == WS_CLOSE_NO_CODE || code == WIRE_CLOSE_NORMAL;
    if (ses->waits) {
        driver_past_failed(ses, *text ? text : "the connection was closed");
        return;
    }
    /* The kit closes with another code when it has nothing for this session any more, and so may a proxy in between. */
    bool over = code != WS_CLOSE_DROPPED && (!ses->mux || mux_session_streams(ses->mux) == 0);
    mux_link_closed(s->link, goodbye || over);
    driver_past_look(ses);
}

/* ---- what mux says ---- */

static void past_over(void *ctx, enum mux_end why, const char *text) {
    (void)why, (void)text;
    driver_past_look(ctx);
}

static void past_away(void *ctx, const char *text) {
    (void)text;
    driver_past_look(ctx);
}

/* The kit has opened this stream before its GOAWAY, on another connection. */
static void past_stream_open(void *ctx, struct mux_stream *stream, const struct wire_stream_open *open) {
    struct driver_session *ses = ctx;
    driver_on_stream_open(ses->t, stream, open);
}

static void past_given_up(void *ctx, unsigned index) { driver_kept_drop(ctx, index); }

static void past_reissued(void *ctx, const struct wire_reissue *answer) { driver_shards_reissued(ctx, answer); }

static void past_shard_map(void *ctx, const struct wire_shard_map *map) { driver_shards_map(ctx, map); }

static const struct mux_session_ops past_ops = {
    .stream_open = past_stream_open,
    .reissued = past_reissued,
    .shard_map = past_shard_map,
    .away = past_away,
    .given_up = past_given_up,
    .over = past_over,
};

/* ---- life ---- */

void driver_past_begin(struct driver_session *ses) {
    struct ht_tunnel *t = ses->t;
    if (t->n_past == PAST_MAX)
        drop_past(HT_LIST_ENTRY(t->past.next, struct driver_session, node));
    ht_list_push_back(&t->past, &ses->node);
    t->n_past++;
    snprintf(ses->was.id, sizeof ses->was.id, "%s", t->session_id);
    ses->was.version = ses->socks[0].version;
    ses->was.granted = t->granted;
    ses->was.caps = t->caps;
    ses->was.reissues = t->reissues;
    ses->was.grace_ms = t->pause.grace_ms;
    io_task_init(&ses->end, settle);
    io_timer_init(t->loop, &ses->again, dial);
    mux_session_set_ops(ses->mux, &past_ops, ses);
}

void driver_past_probe(struct ht_tunnel *t, uint64_t patience_ms) {
    HT_LIST_FOR (it, &t->past) {
        struct driver_session *ses = HT_LIST_ENTRY(it, struct driver_session, node);
        if (!ses->mux)
            continue;
        mux_session_probe(ses->mux, ht_now_us(), patience_ms);
        driver_session_touch(ses);
    }
    driver_past_now(t);
}

void driver_past_destroy(struct ht_tunnel *t) {
    while (!ht_list_empty(&t->past))
        drop_past(HT_LIST_ENTRY(t->past.next, struct driver_session, node));
}
