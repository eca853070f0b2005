/*
 * The answers for the status page: /me, /status, and the samples that bring the page up to date.
 */
#include "admin/admin_priv.h"

#include "base/mem.h"

#include <stdio.h>
#include <time.h>

int admin_me(void *ctx, const struct admin_request *req, struct admin_response *res) {
    (void)ctx;
    struct admin_me v = {.name = ht_slice_str(req->viewer.name), .admin = req->viewer.admin};
    return admin_reply_me_200(res, &v);
}

/* ---- the kit ---- */

/* The sums over the sessions that the viewer may see. */
struct load {
    struct admin_snap_kit kit;
    uint64_t live, parked, bindings, exposed, streams;
    double requests_per_second;
};

static void load_of(struct admin *a, const struct admin_viewer *viewer, const struct admin_snapshot *snap,
                    struct load *out) {
    *out = (struct load){.live = snap->n_live, .parked = snap->n_sessions - snap->n_live};
    a->source.kit(a->source.ctx, &out->kit);
    for (size_t i = 0; i < snap->n_sessions; i++) {
        out->bindings += snap->sessions[i].n_bindings;
        out->streams += snap->sessions[i].streams;
        out->requests_per_second += snap->sessions[i].requests_per_second;
    }
    for (size_t i = 0; i < snap->n_bindings; i++)
        out->exposed += snap->bindings[i].mode == ADMIN_MODE_EXPOSE;
    if (viewer->admin)
        return;
    out->kit.n_limits = 0;
    out->kit.descriptors = (struct admin_usage){0, 0};
}

static enum admin_kit_state state_of(const struct load *l) {
    return l->kit.draining ? ADMIN_KIT_STATE_DRAINING : ADMIN_KIT_STATE_OK;
}

static uint64_t uptime_of(const struct admin *a) {
    int64_t now = (int64_t)time(NULL);
    return now > a->started_s ? (uint64_t)(now - a->started_s) : 0;
}

static struct admin_kit kit_of(const struct admin *a, const struct load *l, struct ht_slice url) {
    return (struct admin_kit){
        .state = state_of(l),
        .url = url,
        .version = ht_slice_str(l->kit.version),
        .built = ht_slice_str(a->built),
        .uptime_s = uptime_of(a),
        .sessions = {l->live, l->kit.max_sessions},
        .parked = l->parked,
        .bindings = {l->bindings, l->kit.max_bindings},
        .exposed = l->exposed,
        .streams = {l->streams, l->kit.max_streams},
        .requests_per_second = l->requests_per_second,
        .descriptors = l->kit.descriptors,
        .limits = l->kit.limits,
        .n_limits = l->kit.n_limits,
    };
}

/* ---- the sessions ---- */

/* Memory that the rows of the answer point to. */
struct rows {
    struct admin_lists lists; /* of_sessions: struct admin_session_row; of_bindings: struct admin_row_binding */
    uint64_t (*traffic)[ADMIN_TRAFFIC_SECONDS];
    struct admin_connection connections[WIRE_LIMIT_MAX_CONNECTIONS];
};

static int rows_take(struct admin *a, const struct admin_viewer *viewer, struct rows *r) {
    *r = (struct rows){.traffic = NULL};
    r->lists.snap.closing = true;
    int rc = admin_lists_take(a, viewer, &r->lists, sizeof(struct admin_session_row), sizeof(struct admin_row_binding));
    if (rc < 0)
        return rc;
    r->traffic = ht_calloc(r->lists.snap.n_sessions + 1, sizeof *r->traffic);
    for (unsigned i = 0; i < WIRE_LIMIT_MAX_CONNECTIONS; i++)
        r->connections[i].index = i;
    return r->traffic ? 0 : HT_ENOMEM;
}

static void rows_free(struct rows *r) {
    admin_lists_free(&r->lists);
    ht_free(r->traffic);
}

static void fill_binding(struct admin *a, const struct admin_snap_binding *b, struct admin_row_binding *out) {
    *out = (struct admin_row_binding){.bind_id = b->bind_id,
                                      .port = b->port,
                                      .kind = b->kind,
                                      .mode = b->mode,
                                      .label = admin_label_of(b),
                                      .names = b->n_names ? b->names : NULL,
                                      .n_names = b->n_names};
    if (!b->url || !b->url[0])
        return;
    const struct admin_qr *qr = admin_qr_of(a, b->url);
    out->url = ht_slice_str(b->url);
    out->has_qr = qr != NULL;
    if (qr)
        out->qr = *qr;
}

static void fill_session(struct rows *r, size_t i) {
    const struct admin_snapshot *snap = &r->lists.snap;
    const struct admin_snap_session *s = &snap->sessions[i];
    const struct admin_row_binding *bindings = r->lists.of_bindings;
    struct admin_session_row *out = &((struct admin_session_row *)r->lists.of_sessions)[i];
    for (unsigned n = 0; s->traffic && n < ADMIN_TRAFFIC_SECONDS; n++)
        r->traffic[i][n] = s->traffic[(s->oldest + n) % ADMIN_TRAFFIC_SECONDS];
    *out = (struct admin_session_row){
        .session_id = ht_slice_str(s->id),
        .owner = ht_slice_str(s->owner ? s->owner : ""),
        .peer_addr = ht_slice_str(s->peer),
        .protocol = s->protocol,
        .is_v2 = s->v2,
        .state = s->parked    ? ADMIN_SESSION_STATE_PARKED
                 : s->closing ? ADMIN_SESSION_STATE_DRAINING
                              : ADMIN_SESSION_STATE_LIVE,
        .has_grace_ms = s->parked,
        .grace_ms = s->grace_ms,
        .has_parked = true,
        .parked = s->parked,
        .parked_until = admin_until_of(&r->lists, i),
        .has_keeps_streams = true,
        .keeps_streams = s->keeps_streams,
        .has_waiting = true,
        .waiting = s->waiting,
        .connections_granted = s->granted,
        .connections = r->connections,
        .n_connections = ht_min(s->links, WIRE_LIMIT_MAX_CONNECTIONS),
        .active_streams = s->streams,
        .streams = s->streams,
        .max_streams = snap->max_streams,
        .has_rtt_ms = s->rtt_known,
        .rtt_ms = s->rtt_ms,
        .age_s = s->age_s,
        .bytes_in = s->bytes_in,
        .bytes_out = s->bytes_out,
        .requests = s->requests,
        .rate = r->traffic[i][ADMIN_TRAFFIC_SECONDS - 1],
        .traffic = r->traffic[i],
        .n_traffic = ADMIN_TRAFFIC_SECONDS,
        .bindings = bindings + s->first_binding,
        .n_bindings = s->n_bindings,
    };
}

static int reply(struct admin *a, struct rows *r, const struct admin_request *req, struct admin_response *res) {
    const struct admin_snapshot *snap = &r->lists.snap;
    struct admin_row_binding *bindings = r->lists.of_bindings;
    struct admin_event events[ADMIN_EVENTS_KEPT];
    struct load load;
    admin_qr_begin(a);
    for (size_t i = 0; i < snap->n_bindings; i++)
        fill_binding(a, &snap->bindings[i], &bindings[i]);
    for (size_t i = 0; i < snap->n_sessions; i++)
        fill_session(r, i);
    load_of(a, &req->viewer, snap, &load);
    struct admin_status v = {
        .kit = kit_of(a, &load, req->url),
        .sessions = r->lists.of_sessions,
        .n_sessions = snap->n_sessions,
        .events = events,
        .n_events = a->source.recent(a->source.ctx, &req->viewer, events),
    };
    return admin_reply_status_200(res, &v);
}

int admin_status(void *ctx, const struct admin_request *req, struct admin_response *res) {
    struct rows r;
    int rc = rows_take(ctx, &req->viewer, &r);
    if (rc == 0)
        rc = reply(ctx, &r, req, res);
    rows_free(&r);
    return rc;
}

/* ---- samples ---- */

int admin_sample_append(struct admin *a, const struct admin_viewer *viewer, struct ht_buf *out) {
    struct admin_snapshot snap = {.closing = true, .no_bindings = true};
    struct admin_session_sample rows[ADMIN_SAMPLE_SESSIONS];
    struct load load;
    size_t n = 0;
    int rc = a->source.snapshot(a->source.ctx, viewer, &snap);
    if (rc == 0)
        load_of(a, viewer, &snap, &load);
    for (size_t i = 0; rc == 0 && i < snap.n_sessions && n < ADMIN_SAMPLE_SESSIONS; i++) {
        const struct admin_snap_session *s = &snap.sessions[i];
        uint64_t rate = s->traffic ? s->traffic[(s->oldest + ADMIN_TRAFFIC_SECONDS - 1) % ADMIN_TRAFFIC_SECONDS] : 0;
        if (rate == 0 && s->streams == 0)
            continue;
        rows[n++] = (struct admin_session_sample){.session_id = ht_slice_str(s->id),
                                                  .rate = rate,
                                                  .streams = s->streams,
                                                  .has_rtt_ms = s->rtt_known,
                                                  .rtt_ms = s->rtt_ms};
    }
    if (rc == 0)
        rc = ht_buf_append_str(out, "event: sample\ndata: ");
    if (rc == 0) {
        struct admin_sample v = {
            .kit = {.state = state_of(&load),
                    .uptime_s = uptime_of(a),
                    .sessions = {load.live, load.kit.max_sessions},
                    .parked = load.parked,
                    .streams = {load.streams, load.kit.max_streams},
                    .requests_per_second = load.requests_per_second,
                    .descriptors = load.kit.descriptors,
                    .limits = load.kit.limits,
                    .n_limits = load.kit.n_limits},
            .sessions = rows,
            .n_sessions = n,
        };
        rc = admin_write_sample(out, &v);
    }
    admin_snapshot_free(&snap);
    return rc ? rc : ht_buf_append_str(out, "\n\n");
}
