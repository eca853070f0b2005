/*
 * A session has a limited number of stream ids (hardening case 33). Before they are used up, the session is handed over
 * to a new one (rules HANDOVER-1 and HANDOVER-2). From its last stream until the driver has opened the new session it
 * is RESTARTING, and visitors wait. Then its bindings move to the new session. Open streams stay on the old sockets
 * until they end, however long that takes.
 */
#include "kit/kit_priv.h"

#include "base/log.h"
#include "log_gen.h"

static const char used_up_text[] = "its stream ids are used up";

uint32_t session_last_stream(const struct kit *k) { return 2 * k->opt->session_streams; }

bool session_used_up(const struct kit_session *s) { return s->next_stream_id > session_last_stream(s->kit); }

void handover_due(struct kit_session *s) {
    s->owner.restarting = true;
    session_touch(s); /* mux is opening a stream just now: the rest follows at the end of the turn */
}

static void begin(struct kit_session *s) {
    struct wire_goaway goaway = {
        .code = WIRE_GOAWAY_RESTARTING_CODE,
        .message = ht_slice_str(WIRE_GOAWAY_RESTARTING_MESSAGE),
        .last_stream_id = session_last_stream(s->kit),
    };
    if (mux_session_agreed(s->owner.mux, WIRE_CAP_HANDOVER)) {
        if (mux_session_send(s->owner.mux, WIRE_GOAWAY, &goaway) < 0)
            ht_log_with(HT_LOG_WARN, "session", HT_LOG_FIELDS(log_session(s->id)), "GOAWAY could not be sent");
        event_goaway(s, ADMIN_SENDER_KIT, goaway.code, goaway.message);
    }
    session_log(s, HT_LOG_INFO, HT_LOG_FIELDS(log_session(s->id), log_reason(used_up_text)),
                "the session is handed over to a new one");
    session_enter_state(s, WIRE_SESSION_RESTARTING);
    io_timer_set(&s->handover_timer, WIRE_LIMIT_HANDOVER_WAIT);
}

void handover_look(struct kit_session *s) {
    if (s->state == WIRE_SESSION_LIVE && s->owner.restarting)
        begin(s);
    /* Published drivers give up after a GOAWAY, but come back after a lost connection. So they get no GOAWAY, and the
     * connection is cut once no streams are left. */
    if (s->state == WIRE_SESSION_RESTARTING && !mux_session_agreed(s->owner.mux, WIRE_CAP_HANDOVER) &&
        mux_session_streams(s->owner.mux) == 0)
        session_lose(s, used_up_text);
}

void handover_late(struct io_timer *t) {
    struct kit_session *s = ht_container_of(t, struct kit_session, handover_timer);
    if (s->state == WIRE_SESSION_RESTARTING)
        session_lose(s, "its driver did not open the next session");
}

void handover_forget(struct kit_session *s, const char *why) {
    struct kit_session *before = s->before, *after = s->after;
    io_timer_stop(&s->handover_timer);
    s->before = s->after = NULL;
    if (after)
        after->before = before;
    if (before)
        before->after = after;
    if (before && !after) /* the newest session is over, and with it the streams in its predecessors */
        session_gone(before, why);
    if (after && !before && after->state == WIRE_SESSION_DRAINING && !after->owner.mux)
        session_gone(after, why);
}

/* Sessions that were handed over may finish their streams, but there are never more of them than --max-sessions
 * (bounds.h). */
static void cut_oldest(struct kit *k) {
    struct kit_session *oldest = NULL;
    unsigned n = 0;
    HT_LIST_FOR (it, &k->live) {
        struct kit_session *s = HT_LIST_ENTRY(it, struct kit_session, node);
        n += s->after != NULL;
        if (s->after && !oldest)
            oldest = s;
    }
    if (n > k->opt->max_sessions)
        session_gone(oldest, "later sessions were handed over as well");
}

struct kit_session *handover_successor(struct kit_session *old) {
    struct kit_session *s = session_new(old->kit, (struct kit_who){old->user, old->pass});
    if (!s)
        return NULL;
    session_set_client(s, ht_slice_of(NULL, 0), ht_slice_str(old->name)); /* the hosts that move have that name */
    relay_owner_move(old->kit->table, &old->owner, &s->owner);
    status_follow(s, old);
    old->owner.restarting = false;
    session_log(s, HT_LOG_INFO, HT_LOG_FIELDS(log_session(s->id)), "continues the session %s", old->id);
    if (old->state != WIRE_SESSION_RESTARTING) {
        session_gone(old, session_used_up(old) ? used_up_text : "its driver has come from the program before");
        return s;
    }
    io_timer_stop(&old->handover_timer);
    old->after = s;
    s->before = old;
    session_enter_state(old, WIRE_SESSION_DRAINING);
    session_touch(old);
    mux_session_shutdown(old->owner.mux, WIRE_GOAWAY_RESTARTING_CODE, NULL, UINT64_MAX, WIRE_GOAWAY_RESTARTING_CLOSE);
    cut_oldest(old->kit);
    return s;
}
