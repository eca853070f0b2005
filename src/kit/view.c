/* What the admin API shows of the kit. */
#include "kit/kit_priv.h"

#include "base/log.h"
#include "base/mem.h"
#include "log_gen.h"

#include <stdio.h>

struct gather {
    struct admin_snapshot *snap;
    size_t room; /* for so many bindings snap->bindings has memory */
};

static void add_binding(void *ctx, const struct relay_binding_info *info) {
    struct gather *g = ctx;
    if (g->snap->n_bindings == g->room)
        return;
    struct admin_snap_binding *b = &g->snap->bindings[g->snap->n_bindings++];
    b->bind_id = info->bind_id;
    b->port = info->port;
    b->kind = info->kind == WIRE_KIND_HTTP ? ADMIN_KIND_HTTP : ADMIN_KIND_TCP;
    b->mode = info->mode == WIRE_MODE_EXPOSE ? ADMIN_MODE_EXPOSE : ADMIN_MODE_PULL;
    snprintf(b->bind_addr, sizeof b->bind_addr, "%s", info->bind_addr);
    b->label = info->label;
    b->names = info->names;
    b->n_names = info->n_names;
    b->hosts = info->hosts;
    b->n_hosts = info->n_hosts;
    b->url = info->url;
    b->since = info->since;
}

static void add_session(struct kit *k, struct gather *g, struct kit_session *s) {
    struct admin_snapshot *snap = g->snap;
    struct admin_snap_session *out = &snap->sessions[snap->n_sessions++];
    out->id = s->id;
    out->peer = s->peer;
    out->owner = s->user->name;
    out->parked = s->state == WIRE_SESSION_PARKED;
    out->parked_until = out->parked ? session_parked_until(s) : 0;
    out->v2 = wire_frame_in(s->version, WIRE_JOIN);
    out->protocol = session_protocol(s);
    out->granted = s->granted;
    out->streams = s->owner.mux ? mux_session_streams(s->owner.mux) : 0;
    out->keeps_streams = session_keeps(s);
    out->waiting = relay_owner_waiting(&s->owner);
    out->first_binding = snap->n_bindings;
    status_fill(s, out);
    if (snap->no_bindings)
        return;
    relay_each_binding(k->table, &s->owner, add_binding, g);
    out->n_bindings = snap->n_bindings - out->first_binding;
}

static unsigned permits_of(const struct kit *k, const struct kit_user *user) {
    return relay_permits_left(k->table, user->up.loop ? &user->up : NULL);
}

/* Sessions that are closing are left out unless out->closing is set: they can no longer be killed or resumed. */
static int snapshot(void *ctx, const struct admin_viewer *viewer, struct admin_snapshot *out) {
    struct kit *k = ctx;
    struct ht_list *lists[] = {&k->live, &k->parked};
    size_t sessions = 0, bindings = 0;
    for (size_t i = 0; i < HT_ARRAY_LEN(lists); i++) {
        HT_LIST_FOR (it, lists[i]) {
            sessions++;
            bindings += HT_LIST_ENTRY(it, struct kit_session, node)->owner.n_bindings;
        }
    }
    out->max_streams = k->opt->max_streams_per_session;
    out->fd_permits = viewer->admin || !viewer->user ? io_fds_available(&k->fds) : permits_of(k, viewer->user);
    out->sessions = ht_calloc(sessions + 1, sizeof *out->sessions);
    out->bindings = ht_calloc(out->no_bindings ? 1 : bindings + 1, sizeof *out->bindings);
    if (!out->sessions || !out->bindings)
        return HT_ENOMEM;
    struct gather g = {out, bindings};
    for (size_t i = 0; i < HT_ARRAY_LEN(lists); i++) {
        HT_LIST_FOR (it, lists[i]) {
            struct kit_session *s = HT_LIST_ENTRY(it, struct kit_session, node);
            if ((s->state != WIRE_SESSION_DRAINING || out->closing) && kit_may_see(viewer, s->user))
                add_session(k, &g, s);
        }
        if (i == 0)
            out->n_live = out->n_sessions;
    }
    return 0;
}

static int kill_one(void *ctx, const struct admin_viewer *viewer, const char *session_id, uint64_t grace_ms) {
    struct kit_session *s = session_find(ctx, ht_slice_str(session_id));
    if (!s || !kit_may_see(viewer, s->user))
        return HT_EINVAL;
    ht_log_with(HT_LOG_INFO, "session", HT_LOG_FIELDS(log_session(s->id), log_peer(s->peer), log_by(s->kit->asked_by)),
                "session ended by an admin");
    /* Rule KILL-1. A parked session has no streams that could finish. */
    if (s->state == WIRE_SESSION_PARKED)
        session_gone(s, WIRE_GOAWAY_KILLED_MESSAGE);
    else
        session_shutdown(s, WIRE_GOAWAY_KILLED_CODE, WIRE_GOAWAY_KILLED_MESSAGE, grace_ms, WIRE_GOAWAY_KILLED_CLOSE);
    return 0;
}

struct certificates {
    struct ht_buf *out;
    int rc;
};

static void count_binding(void *ctx, const struct relay_binding_info *info) {
    struct ht_metrics *m = ctx;
    m->bindings_active[ht_metric_kind_of(info->kind)][ht_metric_mode_of(info->mode)]++;
}

/* Gauges are set when the metrics are read, so no code has to keep them up to date. */
static int metrics(void *ctx, struct ht_buf *out) {
    struct kit *k = ctx;
    struct ht_metrics *m = &k->metrics;
    m->sessions_active = (int64_t)k->n_live + k->n_closing;
    m->sessions_parked = k->n_parked;
    m->names_active = 0;
    m->restart_elders_active = 0;
    HT_LIST_FOR (it, &k->elders)
        m->restart_elders_active++;
    HT_LIST_FOR (it, &k->live)
        m->names_active += HT_LIST_ENTRY(it, struct kit_session, node)->owner.n_names;
    m->event_readers = k->readers.n;
    m->fd_permits_available = io_fds_available(&k->fds);
    memset(m->bindings_active, 0, sizeof m->bindings_active);
    HT_LIST_FOR (it, &k->live)
        relay_each_binding(k->table, &HT_LIST_ENTRY(it, struct kit_session, node)->owner, count_binding, m);
    HT_LIST_FOR (it, &k->live)
        session_count_resent(HT_LIST_ENTRY(it, struct kit_session, node));
    ht_metrics_observe_loop_lag_seconds(m, io_loop_take_lag_us(k->loop));
    return ht_metrics_write(m, out);
}

/* Certificates that are in `out` already are left out: drivers of one machine offer the same one. */
static void add_ca(void *ctx, const struct relay_binding_info *info) {
    struct certificates *c = ctx;
    size_t n = ht_buf_size(c->out);
    if (c->rc < 0 || info->ca.n == 0 || (n && memmem(ht_buf_head(c->out), n, info->ca.p, info->ca.n)))
        return;
    c->rc = ht_buf_append(c->out, info->ca.p, info->ca.n);
    if (c->rc == 0 && info->ca.p[info->ca.n - 1] != '\n')
        c->rc = ht_buf_append_str(c->out, "\n");
}

/* admin_source.certificates: those that live sessions offer (rule NAME-8). */
static int certificates(void *ctx, const struct admin_viewer *viewer, struct ht_buf *out) {
    struct kit *k = ctx;
    struct certificates c = {.out = out};
    HT_LIST_FOR (it, &k->live) {
        struct kit_session *s = HT_LIST_ENTRY(it, struct kit_session, node);
        if (s->state == WIRE_SESSION_LIVE && kit_may_see(viewer, s->user))
            relay_each_binding(k->table, &s->owner, add_ca, &c);
    }
    return c.rc;
}

static const char *not_ready(void *ctx) {
    const struct kit *k = ctx;
    if (k->draining)
        return "draining";
    /* Lingering connections count as free, since they are closed when a descriptor is needed. */
    return io_fds_available(&k->fds) + k->fds.lingering == 0 ? "no file descriptors left" : NULL;
}

static int count_fds(void *ctx) {
    const struct kit *k = ctx;
    return k->other_fds < 0 ? -1 : k->other_fds + (int)io_loop_fds(k->loop);
}

static size_t warnings(void *ctx, struct ht_slice out[ADMIN_WARNINGS]) {
    const struct kit *k = ctx;
    return kit_tls_warnings(k, out);
}

static bool takes_reader(void *ctx, const struct admin_viewer *viewer) { return events_room(ctx, viewer->user); }

static bool proxy(void *ctx, char address[ADMIN_ADDR_TEXT], bool *wants_token) {
    return way_out_address(ctx, address, wants_token);
}

void kit_admin_source(struct kit *k, struct admin_source *out) {
    *out = (struct admin_source){.ctx = k,
                                 .snapshot = snapshot,
                                 .kill = kill_one,
                                 .metrics = metrics,
                                 .certificates = certificates,
                                 .count_fds = count_fds,
                                 .not_ready = not_ready,
                                 .takes_reader = takes_reader,
                                 .warnings = warnings,
                                 .proxy = proxy,
                                 .kit = status_kit,
                                 .recent = status_recent};
}
