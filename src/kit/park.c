/*
 * Parking: the session of a lost driver keeps its ports for a while, so that the driver finds them when it comes back
 * (section 7 of the protocol). The listeners stay open. If owner.mux is NULL, the relay answers visitors by itself; if
 * the streams were kept (resume.c), new visitors wait for a moment first (rule PARK-2).
 */
#include "kit/kit_priv.h"

#include "base/log.h"
#include "log_gen.h"

static unsigned parked_of(const struct kit *k, const struct kit_user *user) {
    unsigned n = 0;
    HT_LIST_FOR (it, &k->parked)
        n += HT_LIST_ENTRY(it, struct kit_session, node)->user == user;
    return n;
}

/* The session to end when there are too many: the oldest of the user with the most parked sessions. */
static struct kit_session *one_too_many(struct kit *k) {
    struct kit_session *found = NULL;
    unsigned most = 0;
    HT_LIST_FOR (it, &k->parked) {
        struct kit_session *s = HT_LIST_ENTRY(it, struct kit_session, node);
        if (s->elsewhere)
            continue;
        unsigned n = ht_list_empty(&k->users) ? 1 : parked_of(k, s->user);
        if (n > most)
            found = s;
        most = n > most ? n : most;
    }
    return found;
}

void session_park(struct kit_session *s, const char *why) {
    struct kit *k = s->kit;
    io_timer_stop(&s->handover_timer);
    if (!session_leave_link(s))
        session_cut(s, "parked");
    session_enter_state(s, WIRE_SESSION_PARKED);
    io_timer_set(&s->timer, k->opt->takeover_grace_ms);
    s->park_ends_ms = io_now_ms(k->loop) + k->opt->takeover_grace_ms;
    event_session(s, ADMIN_EVENT_TYPE_SESSION_PARKED, why);
    session_log(s, HT_LOG_INFO,
                HT_LOG_FIELDS(log_session(s->id), log_peer(s->peer), log_count(s->owner.n_bindings),
                              log_reason(why ? why : "the driver was lost")),
                "session parked with %u ports", s->owner.n_bindings);
    session_trim_parked(k);
}

void session_trim_parked(struct kit *k) {
    while (k->n_parked - k->n_elsewhere > k->opt->max_sessions)
        session_gone(one_too_many(k), "too many parked sessions");
}

void session_lose(struct kit_session *s, const char *why) {
    if (leave_lost(s, why))
        return;
    if (s->kit->opt->takeover_grace_ms > 0 && !s->kit->draining && !s->vtunnel)
        session_park(s, why);
    else
        session_gone(s, why ? why : "closed");
}

void session_grace_over(struct kit_session *s) {
    kept_is_lost(s);
    session_gone(s, "the driver did not come back");
}
