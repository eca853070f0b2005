/*
 * Sessions whose streams outlive a lost link (stream-resume). mux keeps the streams. Here is what it needs of the kit:
 * the messages that the driver has not confirmed yet, and what happens when a link is lost and another one comes.
 */
#include "kit/bounds.h"
#include "kit/kit_priv.h"

#include "base/log.h"
#include "log_gen.h"

/* ---- what was agreed on ---- */

int kit_check_replay(const struct opt_serve *o, struct ht_errmsg *err) {
    if (o->replay_buffer == 0 || o->replay_buffer >= WIRE_LIMIT_MIN_REPLAY_BUFFER)
        return 0;
    return ht_fail(err, HT_EINVAL, "--replay-buffer: give 0, or at least %u bytes (1M)", WIRE_LIMIT_MIN_REPLAY_BUFFER);
}

unsigned sock_caps(const struct kit_sock *sock, unsigned named) {
    const struct opt_serve *o = sock->kit->opt;
    bool keeps = !sock->vt && o->takeover_grace_ms > 0 && kit_replay_buffer(o) > 0;
    return named & MUX_CAPS & ~(keeps ? 0 : (unsigned)WIRE_CAP_STREAM_RESUME);
}

void session_offer(const struct kit_session *s, struct wire_hello_ok *ok) {
    const struct opt_serve *o = s->kit->opt;
    if (!session_keeps(s))
        return;
    ok->has_replay_buffer = ok->has_resume_grace_ms = true;
    ok->replay_buffer = kit_replay_buffer(o);
    ok->resume_grace_ms = (uint32_t)o->takeover_grace_ms;
}

/* ---- the messages that are kept ---- */

bool session_keep(struct kit_session *s, unsigned index) {
    if (session_keeps(s) && !s->kept[index])
        s->kept[index] = ws_kept_create(s->kit->loop);
    return !session_keeps(s) || s->kept[index];
}

void session_forget_kept(struct kit_session *s, unsigned index) {
    if (!s->kept[index])
        return;
    s->resent_before += ws_kept_resent(s->kept[index]);
    ws_kept_destroy(&s->kept[index]);
}

void session_forget_all_kept(struct kit_session *s) {
    for (unsigned i = 0; i < WIRE_LIMIT_MAX_CONNECTIONS; i++)
        session_forget_kept(s, i);
    session_count_resent(s);
}

void session_count_resent(struct kit_session *s) {
    uint64_t all = s->resent_before;
    for (unsigned i = 0; i < WIRE_LIMIT_MAX_CONNECTIONS; i++)
        all += s->kept[i] ? ws_kept_resent(s->kept[i]) : 0;
    s->kit->metrics.replayed_bytes_total += all - s->resent_told;
    s->resent_told = all;
}

/* mux_link_ops; ctx: the sock. */

static struct ws_kept *kept_of(const struct kit_sock *sock) {
    return sock->session ? sock->session->kept[sock->index] : NULL;
}

size_t sock_kept(void *ctx) { return ws_kept_full(kept_of(ctx)); }

void sock_acked(void *ctx, uint64_t count) {
    struct ws_kept *k = kept_of(ctx);
    if (k)
        ws_kept_forget(k, count);
}

void sock_replay(void *ctx, uint64_t count) {
    struct kit_sock *sock = ctx;
    sock_acked(ctx, count);
    ws_conn_resend(sock->ws);
}

uint64_t sock_drained(void *ctx, bool *waits) {
    const struct kit_sock *sock = ctx;
    struct io_conn *conn = sock->ws ? ws_conn_io(sock->ws) : NULL;
    *waits = false;
    return conn ? io_conn_drained(conn, waits) : 0;
}

void sock_pulled(struct kit_sock *sock) {
    /* Also when a callback has taken the session away meanwhile: the message has its number. */
    if (mux_link_counts(sock->link))
        ws_conn_keep(sock->ws);
}

/* ---- a link is lost ---- */

void session_away(struct kit_session *s, const char *text) {
    if (s->changes_link)
        return;
    if (s->replaced)
        session_gone(s, text);
    else
        session_lose(s, text);
}

/* The peer is gone, or has another socket. Those that are not closing already, as mux has asked, end without a word. */
static void drop_socks(struct kit_session *s) {
    HT_LIST_FOR_SAFE (it, &s->kit->socks) {
        struct kit_sock *sock = HT_LIST_ENTRY(it, struct kit_sock, node);
        if (sock->session != s)
            continue;
        sock->session = NULL;
        if (!sock->closing)
            sock_drop(sock);
    }
}

bool session_leave_link(struct kit_session *s) {
    if (s->state != WIRE_SESSION_LIVE || !s->owner.mux || !mux_session_is_away(s->owner.mux))
        return false;
    session_end_probe(s);
    io_timer_stop(&s->timer);
    s->timer_at = UINT64_MAX;
    s->next_stream_id = mux_session_next_id(s->owner.mux);
    drop_socks(s);
    relay_owner_away(s->kit->table, &s->owner);
    return true;
}

/* ---- another link comes ---- */

enum resume_fate session_fate(const struct kit_session *s, const struct kit_sock *sock, const struct wire_hello *h,
                              unsigned caps) {
    bool stands = s->state == WIRE_SESSION_LIVE || s->state == WIRE_SESSION_PARKED;
    if (!h->resume.has_received || !stands || !s->owner.mux || !session_keeps(s))
        return RESUME_ANEW;
    if (sock->version != s->version || caps != s->caps)
        return RESUME_ANEW;
    int rc = mux_session_can_resume(s->owner.mux, 0, h->resume.received);
    if (rc == 0)
        return RESUME_WHOLE;
    if (rc == HT_EAGAIN)
        return RESUME_LATE;
    session_log(s, HT_LOG_WARN, HT_LOG_FIELDS(log_session(s->id), log_peer(sock->peer), log_reason(ht_err_text(rc))),
                "the driver's count of messages cannot be true: what was under way ends");
    return RESUME_ANEW;
}

/* Its driver has come back before its loss was noticed here. The old socket gets no GOAWAY: the queue in which that
 * would stand goes on (rule RESUME-3). */
static void leave_ghost(struct kit_session *s) {
    struct kit_sock *primary = NULL;
    HT_LIST_FOR (it, &s->kit->socks) {
        struct kit_sock *sock = HT_LIST_ENTRY(it, struct kit_sock, node);
        if (sock->session == s && sock->index == 0)
            primary = sock;
    }
    if (!primary)
        return;
    s->changes_link = true;
    mux_link_closed(primary->link, false);
    s->changes_link = false;
    (void)session_leave_link(s);
}

bool session_go_on(struct kit_session *s, struct kit_sock *sock, uint64_t received, const struct wire_hello_ok *ok) {
    struct kit *k = s->kit;
    uint64_t now = io_now_ms(k->loop);
    if (s->state == WIRE_SESSION_LIVE)
        leave_ghost(s);
    unsigned streams = mux_session_streams(s->owner.mux);
    int rc = mux_session_resume(s->owner.mux, sock->link, received, ok, now);
    if (rc < 0) {
        session_log(s, HT_LOG_WARN, HT_LOG_FIELDS(log_session(s->id), log_reason(ht_err_text(rc))),
                    "what was under way could not go on");
        session_cut(s, "what was under way could not go on");
        return false;
    }
    uint64_t paused = now - s->owner.away_since_ms;
    s->held = relay_owner_waiting(&s->owner);
    relay_owner_back(&s->owner);
    k->metrics.resumes_whole_total++;
    ht_metrics_observe_pause_seconds(&k->metrics, paused * 1000);
    io_task_add(k->loop, &k->binds_task); /* BINDs may have waited all the time */
    session_log(s, HT_LOG_INFO, HT_LOG_FIELDS(log_session(s->id), log_count(streams), log_duration_us(paused * 1000)),
                "%u requests and connections go on", streams);
    s->whole = true;
    s->paused_ms = paused;
    return true;
}
