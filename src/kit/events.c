/*
 * GET /api/v1/tunnel/events: sends each event to all readers at the end of the turn. A reader that reads too slowly is
 * cut off.
 */
#include "kit/bounds.h"
#include "kit/kit_priv.h"

#include "base/log.h"
#include "base/mem.h"
#include "log_gen.h"

#include <time.h>

#define EVENTS_HELLO ": hoody-tunnel events\n\n"

bool events_room(const struct kit *k, const struct kit_user *user) {
    return k->readers.n < EVENTS_MAX_READERS || crowd_gives(&k->readers, crowd_by_user(user));
}

static void end_reader(struct base_client *c, const char *why) {
    c->kit->metrics.event_readers_dropped_total++;
    ht_log_stranger(HT_LOG_INFO, "kit", HT_LOG_FIELDS(log_peer(c->peer)), "%s", why);
    web_conn_close(&c->web);
}

static void make_room(struct kit *k, const struct kit_user *user) {
    struct crowd_member *gives =
        k->readers.n < EVENTS_MAX_READERS ? NULL : crowd_gives(&k->readers, crowd_by_user(user));
    if (gives)
        end_reader(HT_LIST_ENTRY(gives, struct base_client, reader),
                   "gives its place of a reader of events to another user");
}

bool events_begin(struct base_client *c, bool samples) {
    /* No length and no chunks: the end of the connection is the end of the answer (RFC 9112 6.3, case 8). */
    static const struct web_reply begin = {
        .status = 200,
        .type = "text/event-stream",
        .body = {EVENTS_HELLO, sizeof EVENTS_HELLO - 1},
        .extra = "Cache-Control: no-store\r\nX-Accel-Buffering: no\r\nConnection: close\r\n",
    };
    struct kit *k = c->kit;
    if (!web_stream(&c->web, &begin))
        return false;
    c->web.close_after = k->draining;
    make_room(k, c->user);
    crowd_join(&k->readers, &c->reader, crowd_by_user(c->user));
    c->samples = samples;
    k->n_samplers += samples;
    if (samples && !k->ticking)
        status_wake(k);
    return true;
}

void events_end(struct base_client *c) {
    if (!ht_list_linked(&c->reader.node))
        return;
    crowd_leave(&c->kit->readers, &c->reader);
    c->kit->n_samplers -= c->samples;
}

void events_add(struct base_client *c, struct ht_slice text) {
    struct ht_buf *out = &c->web.out.queue;
    if (ht_buf_size(out) + text.n > KIT_BOUND_BACKLOG || ht_buf_append(out, text.p, text.n) < 0)
        c->overrun = true;
    io_task_add(c->kit->loop, &c->kit->events_task);
}

void events_heartbeat(struct base_client *c) { events_add(c, ht_slice_str(":\n\n")); }

void events_flush(struct io_task *t) {
    struct kit *k = ht_container_of(t, struct kit, events_task);
    HT_LIST_FOR_SAFE (it, &k->readers.members) {
        struct base_client *c = HT_LIST_ENTRY(it, struct base_client, reader.node);
        if (c->overrun) {
            end_reader(c, "reads events too slowly, closed");
        } else {
            web_conn_flush(&c->web);
        }
    }
}

/* The text of an event for admins, or for its owner: their event ids differ. It is made when the first reader needs it.
 */
struct told {
    struct ht_buf text;
    int rc; /* HT_EAGAIN: not made yet; HT_OK; else the error of making it */
};

static int tell(struct base_client *c, struct told *t, uint64_t id, const struct admin_event *e) {
    if (t->rc == HT_EAGAIN)
        t->rc = admin_event_append(&t->text, id, e);
    if (t->rc == 0)
        events_add(c, ht_buf_slice(&t->text));
    return t->rc;
}

void kit_event(struct kit *k, struct kit_user *owner, struct admin_event *e) {
    struct told admins = {.rc = HT_EAGAIN}, own = {.rc = HT_EAGAIN};
    char when[32];
    k->event_id++;
    if (owner)
        owner->event_id++;
    bool proxy = e->event == ADMIN_EVENT_TYPE_PROXY_OPENED || e->event == ADMIN_EVENT_TYPE_PROXY_REFUSED;
    if (k->readers.n == 0 && proxy)
        return;
    admin_time_text((int64_t)time(NULL), when);
    e->time = ht_slice_str(when);
    if (owner)
        e->owner = ht_slice_str(owner->name);
    if (!proxy) /* one with each connection of the proxy would push all others out */
        status_remember(k, e);
    HT_LIST_FOR (it, &k->readers.members) {
        struct base_client *c = HT_LIST_ENTRY(it, struct base_client, reader.node);
        int rc = 0;
        if (c->user->admin)
            rc = tell(c, &admins, k->event_id, e);
        else if (c->user == owner)
            rc = tell(c, &own, owner->event_id, e);
        if (rc < 0)
            c->overrun = true; /* closing shows the reader that it has missed something */
    }
    io_task_add(k->loop, &k->events_task);
    ht_buf_free(&admins.text);
    ht_buf_free(&own.text);
}

/* ---- the events ---- */

static struct admin_event of_session(const struct kit_session *s, enum admin_event_type type) {
    return (struct admin_event){
        .event = type,
        .session_id = ht_slice_str(s->id),
        .peer_addr = s->peer[0] ? ht_slice_str(s->peer) : ht_slice_of(NULL, 0),
    };
}

void event_session(const struct kit_session *s, enum admin_event_type type, const char *reason) {
    struct admin_event e = of_session(s, type);
    e.has_protocol = true;
    e.protocol = session_protocol(s);
    e.has_streams = type == ADMIN_EVENT_TYPE_SESSION_PARKED ? s->owner.mux != NULL
                                                            : type == ADMIN_EVENT_TYPE_SESSION_RESUMED && s->whole;
    e.streams = e.has_streams ? mux_session_streams(s->owner.mux) : 0;
    e.has_paused_ms = type == ADMIN_EVENT_TYPE_SESSION_RESUMED && s->whole;
    e.paused_ms = s->paused_ms;
    e.has_held = e.has_paused_ms;
    e.held = s->held;
    e.reason = ht_slice_str(reason);
    kit_event(s->kit, s->user, &e);
}

void event_binding(const struct kit_session *s, enum admin_event_type type, const struct relay_binding_info *b,
                   const struct kit_session *from) {
    struct admin_event e = of_session(s, type);
    e.has_bind_id = e.has_port = e.has_kind = e.has_mode = true;
    e.bind_id = b->bind_id;
    e.port = b->port;
    e.kind = b->kind == WIRE_KIND_HTTP ? ADMIN_KIND_HTTP : ADMIN_KIND_TCP;
    e.mode = b->mode == WIRE_MODE_EXPOSE ? ADMIN_MODE_EXPOSE : ADMIN_MODE_PULL;
    if (b->url && b->url[0])
        e.url = ht_slice_str(b->url);
    if (b->label[0])
        e.label = ht_slice_str(b->label);
    e.names = b->n_names ? b->names : NULL;
    e.n_names = b->n_names;
    if (from)
        e.from_session_id = ht_slice_str(from->id);
    kit_event(s->kit, s->user, &e);
}

void event_goaway(const struct kit_session *s, enum admin_sender sender, int code, struct ht_slice reason) {
    struct admin_event e = of_session(s, ADMIN_EVENT_TYPE_GOAWAY);
    e.has_sender = true;
    e.sender = sender;
    e.has_code = code >= 0;
    e.code = (uint64_t)code;
    e.reason = reason;
    kit_event(s->kit, s->user, &e);
}

void event_refused(const struct kit_sock *sock, uint16_t code, const char *reason) {
    struct admin_event e = {
        .event = ADMIN_EVENT_TYPE_GOAWAY,
        .peer_addr = ht_slice_str(sock->peer),
        .has_sender = true,
        .sender = ADMIN_SENDER_KIT,
        .has_code = true,
        .code = code,
        .reason = ht_slice_str(reason),
    };
    kit_event(sock->kit, sock->user, &e);
}

void event_restart(struct kit *k, enum admin_event_type type, const struct kit_restarted *about, const char *reason) {
    struct admin_event e = {.event = type, .reason = ht_slice_str(reason)};
    if (about) {
        e.has_sessions = true;
        e.sessions = about->sessions;
        e.has_left_out = about->left_out > 0;
        e.left_out = about->left_out;
    }
    if (about && type == ADMIN_EVENT_TYPE_RESTARTED) {
        e.has_took_ms = e.has_paused_ms = true;
        e.took_ms = about->took_ms;
        e.paused_ms = about->paused_ms;
    }
    kit_event(k, NULL, &e);
}

void event_proxy(struct kit *k, const struct relay_connect_told *told) {
    struct admin_event e = {
        .event = told->why ? ADMIN_EVENT_TYPE_PROXY_REFUSED : ADMIN_EVENT_TYPE_PROXY_OPENED,
        .session_id = ht_slice_str(told->session),
        .peer_addr = told->peer,
        .target = *told->target ? ht_slice_str(told->target) : ht_slice_of(NULL, 0),
        .has_status = told->status != 0,
        .status = told->status,
        .reason = ht_slice_str(told->why),
    };
    kit_event(k, (struct kit_user *)(uintptr_t)told->user, &e);
}
