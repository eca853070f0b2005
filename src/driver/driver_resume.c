/*
 * Streams that survive a lost link (stream-resume). The multiplexer keeps the session as it is, and each index of its
 * sockets has what was sent and not acknowledged. Local connections stay open meanwhile. They wait as long as the kit
 * keeps the session, and while the tunnel tries to reach it.
 */
#include "driver/driver.h"

#define LATE_MS 1000u /* how often to look again while HELLO waits for its answer */

bool driver_is_away(const struct ht_tunnel *t) { return t->now->mux && mux_session_is_away(t->now->mux); }

unsigned driver_resume_streams(const struct ht_tunnel *t) { return t->now->mux ? mux_session_streams(t->now->mux) : 0; }

/* ---- what is kept ---- */

size_t driver_kept_bytes(void *ctx) {
    const struct driver_sock *s = ctx;
    return ws_kept_full(s->of->kept[s->index]);
}

void driver_kept_acked(void *ctx, uint64_t count) {
    struct driver_sock *s = ctx;
    if (s->of->kept[s->index])
        ws_kept_forget(s->of->kept[s->index], count);
}

void driver_kept_replay(void *ctx, uint64_t count) {
    struct driver_sock *s = ctx;
    driver_kept_acked(s, count);
    if (s->ws)
        ws_conn_resend(s->ws);
}

uint64_t driver_drained(void *ctx, bool *waits) {
    const struct driver_sock *s = ctx;
    struct io_conn *conn = s->ws ? ws_conn_io(s->ws) : NULL;
    *waits = false;
    return conn ? io_conn_drained(conn, waits) : 0;
}

int driver_kept_begin(struct driver_sock *s) {
    struct ws_kept **k = &s->of->kept[s->index];
    if (!*k)
        *k = ws_kept_create(s->t->loop);
    if (*k && s->ws)
        ws_conn_set_kept(s->ws, *k);
    return *k ? HT_OK : HT_ENOMEM;
}

void driver_kept_drop(struct driver_session *ses, unsigned index) {
    if (ses->kept[index])
        ses->t->pause.resent += ws_kept_resent(ses->kept[index]);
    ws_kept_destroy(&ses->kept[index]);
}

static uint64_t resent_of(const struct driver_session *ses) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < HT_MAX_CONNECTIONS; i++)
        sum += ses->kept[i] ? ws_kept_resent(ses->kept[i]) : 0;
    return sum;
}

uint64_t driver_kept_resent(const struct ht_tunnel *t) {
    uint64_t sum = t->pause.resent + resent_of(t->now);
    HT_LIST_FOR (it, &t->past)
        sum += resent_of(HT_LIST_ENTRY(it, struct driver_session, node));
    return sum;
}

/* ---- the wait for another link ---- */

void driver_resume_give_up(struct ht_tunnel *t, const char *why) {
    unsigned n = driver_resume_streams(t);
    io_timer_stop(&t->pause.over);
    driver_guard_away(t, false);
    driver_bind_lost(t);
    mux_session_destroy(&t->now->mux);
    for (unsigned i = 0; i < HT_MAX_CONNECTIONS; i++)
        driver_kept_drop(t->now, i);
    if (n > 0)
        driver_say(t, HT_SEVERITY_WARNING, "%u open request%s or connection%s cut: %s", n, n > 1 ? "s" : "",
                   n > 1 ? "s were" : " was", why);
}

static void over_fired(struct io_timer *timer) {
    struct ht_tunnel *t = ht_container_of(timer, struct ht_tunnel, pause.over);
    if (t->state == DRIVER_HELLO) /* the kit may have it still, and says so in a moment */
        io_timer_set(timer, LATE_MS);
    else
        driver_resume_give_up(t, "the kit could not be reached in the time for which it keeps them");
}

bool driver_resume_wait(struct ht_tunnel *t) {
    if (!driver_is_away(t)) {
        driver_link_destroy(t);
        driver_bind_lost(t);
        return false;
    }
    driver_session_unlink(t->now);
    io_timer_stop(&t->close_timer);
    driver_handover_stop(t);
    if (!t->session_id[0]) {
        driver_resume_give_up(t, "the kit gave the session no id that could be kept");
        return false;
    }
    if (!t->told_up) /* an attempt has failed: the wait goes on */
        return true;
    t->pause.since = io_now_ms(t->loop);
    io_timer_init(t->loop, &t->pause.over, over_fired);
    io_timer_set(&t->pause.over, t->pause.grace_ms);
    driver_bind_away(t);
    driver_guard_away(t, true);
    return true;
}

int driver_resume_go_on(struct ht_tunnel *t, const struct wire_hello_ok *ok) {
    struct driver_sock *s = &t->now->socks[0];
    if (!t->pause.asked || !driver_is_away(t))
        return HT_EPROTO;
    int rc = driver_kept_begin(s);
    if (rc == HT_OK)
        rc = mux_session_resume(t->now->mux, s->link, ok->received, ok, io_now_ms(t->loop));
    if (rc < 0)
        return rc;
    io_timer_stop(&t->pause.over);
    driver_guard_away(t, false);
    t->pause.whole++;
    return HT_OK;
}

uint64_t driver_pause_over(struct ht_tunnel *t) {
    uint64_t took = t->up_at - t->pause.since;
    t->pause.all_ms += took;
    t->pause.longest_ms = ht_max64(t->pause.longest_ms, took);
    return took;
}
