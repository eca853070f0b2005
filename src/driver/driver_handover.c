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
    ht_random_bytes(&random, sizeof random);
    driver_say(t, HT_SEVERITY_WARNING, "the session that follows this one could not be opened yet: %s", why);
    io_timer_set(&t->handover_timer, driver_backoff(t->handover_attempts++, t->retry_min_ms, random));
}

/* ---- the old session, until its last stream has ended ---- */

#define PAST_MAX 8u /* most old sessions; for one more, the oldest is cut */

static void drop_past(struct driver_session *ses) {
    ht_list_remove(&ses->node);
    ses->t->n_past--;
    if (ses->end.run)
        io_task_cancel(&ses->end);
    driver_session_free(&ses);
}

static void end_past(struct io_task *task) { drop_past(ht_container_of(task, struct driver_session, end)); }

/* At the end of the turn, because functions that use it may still be on the stack. */
void driver_handover_past_over(struct driver_session *ses) { io_task_add(ses->t->loop, &ses->end); }

static void past_over(void *ctx, enum mux_end why, const char *text) {
    (void)why, (void)text;
    driver_handover_past_over(ctx);
}

/* The kit has opened this stream before its GOAWAY, on another connection. */
static void past_stream_open(void *ctx, struct mux_stream *stream, const struct wire_stream_open *open) {
    struct driver_session *ses = ctx;
    driver_on_stream_open(ses->t, stream, open);
}

static void past_given_up(void *ctx, unsigned index) { driver_kept_drop(ctx, index); }

/* Without away(): nobody goes on with a session that was replaced. */
static const struct mux_session_ops past_ops = {
    .stream_open = past_stream_open, .given_up = past_given_up, .over = past_over};

void driver_handover_switch(struct ht_tunnel *t) {
    struct driver_session *old = t->now;
    if (t->n_past == PAST_MAX)
        drop_past(HT_LIST_ENTRY(t->past.next, struct driver_session, node));
    ht_list_push_back(&t->past, &old->node);
    t->n_past++;
    io_task_init(&old->end, end_past);
    mux_session_set_ops(old->mux, &past_ops, old);
    t->now = t->next;
    t->next = NULL;
    t->restarting = false;
    io_timer_stop(&t->handover_timer);
    for (unsigned i = 1; i < t->granted; i++) {
        struct driver_sock *s = &old->socks[i];
        if (s->state == SHARD_UP && s->ws) {
            ws_conn_pause(s->ws, false);
        } else {
            s->state = SHARD_NONE;
            driver_sock_drop(s);
        }
    }
    driver_bind_lost(t);
    driver_say(t, HT_SEVERITY_DEBUG, "another session takes over from this one");
}

void driver_handover_stop(struct ht_tunnel *t) {
    io_timer_stop(&t->handover_timer);
    driver_session_free(&t->next);
    t->restarting = false;
}

void driver_handover_probe(struct ht_tunnel *t, uint64_t patience_ms) {
    HT_LIST_FOR (it, &t->past) {
        struct driver_session *ses = HT_LIST_ENTRY(it, struct driver_session, node);
        mux_session_probe(ses->mux, patience_ms);
        driver_session_touch(ses);
    }
}

void driver_handover_destroy(struct ht_tunnel *t) {
    while (!ht_list_empty(&t->past))
        drop_past(HT_LIST_ENTRY(t->past.next, struct driver_session, node));
}
