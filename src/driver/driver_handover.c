/*
 * Replaces a session by the next one while it is still up (rule HANDOVER-1). The kit asks for it. The driver opens a
 * second socket beside the first, and its HELLO resumes the session there. When that HELLO is answered, the new session
 * is the present one and has the bindings. The old one gets no new streams; the kit closes it after its last stream.
 */
#include "driver/driver.h"

#include "base/clock.h"

static void attempt(struct ht_tunnel *t) {
    struct ht_errmsg err = {"out of memory"};
    t->next = driver_session_new(t);
    if (!t->next || driver_link_dial(t->next, wire_version_text(t->now->socks[0].version), &err) < 0)
        driver_handover_failed(t, err.text);
}

static void timer_fired(struct io_timer *timer) {
    struct ht_tunnel *t = ht_container_of(timer, struct ht_tunnel, handover_timer);
    driver_session_free(&t->next);
    if (t->state == DRIVER_UP && !t->session_over)
        attempt(t);
}

bool driver_handover_is_near(const struct ht_tunnel *t) {
    return t->state == DRIVER_UP && t->restarting && t->next && !io_timer_active(&t->handover_timer);
}

void driver_handover_begin(struct ht_tunnel *t) {
    if (t->restarting)
        return;
    t->restarting = true;
    t->handover_attempts = 0;
    io_timer_init(t->loop, &t->handover_timer, timer_fired);
    attempt(t);
}

void driver_handover_failed(struct ht_tunnel *t, const char *why) {
    uint64_t random;
    if (io_timer_active(&t->handover_timer))
        return;
    if (driver_is_away(t)) { /* there is neither this session's link nor the next one's */
        driver_end_reason(t, HT_TUNNEL_ELOST, "the connection to the kit was lost");
        driver_end(t);
        return;
    }
    ht_random_bytes(&random, sizeof random);
    driver_say(t, HT_SEVERITY_WARNING, "the session that follows this one could not be opened yet: %s", why);
    io_timer_set(&t->handover_timer,
                 driver_backoff(t->handover_attempts++, t->retry_min_ms, WIRE_LIMIT_RETRY_KEPT, random));
}

void driver_handover_switch(struct ht_tunnel *t) {
    struct driver_session *old = t->now;
    driver_past_begin(old);
    t->now = t->next;
    t->next = NULL;
    t->restarting = false;
    io_timer_stop(&t->handover_timer);
    for (unsigned i = 1; i < t->granted; i++) {
        struct driver_sock *s = &old->socks[i];
        if (s->state == SHARD_UP && s->ws) {
            ws_conn_pause(s->ws, false);
        } else if (!driver_shards_go_on(old)) {
            s->state = SHARD_NONE;
            driver_sock_drop(s);
        }
    }
    if (mux_session_is_away(old->mux))
        driver_past_look(old);
    driver_bind_lost(t);
    driver_say(t, HT_SEVERITY_DEBUG, "another session takes over from this one");
}

void driver_handover_stop(struct ht_tunnel *t) {
    io_timer_stop(&t->handover_timer);
    driver_session_free(&t->next);
    t->restarting = false;
}
