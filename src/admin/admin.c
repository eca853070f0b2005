#include "admin/admin_priv.h"

#include "base/mem.h"

#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

void admin_snapshot_free(struct admin_snapshot *snap) {
    ht_free(snap->sessions);
    ht_free(snap->bindings);
    *snap = (struct admin_snapshot){0};
}

void admin_time_text(int64_t unix_seconds, char out[32]) {
    time_t t = (time_t)unix_seconds;
    struct tm tm;
    if (!gmtime_r(&t, &tm) || strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        strcpy(out, "1970-01-01T00:00:00Z");
}

void admin_init(struct admin *a, const struct admin_source *source, const char *ip) {
    struct stat st;
    a->source = *source;
    snprintf(a->ip, sizeof a->ip, "%s", ip);
    a->started_s = (int64_t)time(NULL);
    admin_time_text(a->started_s, a->started);
    admin_time_text(stat("/proc/self/exe", &st) == 0 ? (int64_t)st.st_mtime : 0, a->built);
}

/* ---- health ---- */

/* The second number of /proc/self/statm, in pages (proc(5)). */
uint64_t admin_resident_bytes(void) {
    unsigned long long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f)
        return 0;
    if (fscanf(f, "%*u %llu", &pages) != 1)
        pages = 0;
    fclose(f);
    return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static int health(void *ctx, const struct admin_request *req, struct admin_response *res) {
    struct admin *a = ctx;
    int fds = a->source.count_fds(a->source.ctx);
    struct admin_health v = {
        .built = ht_slice_str(a->built),
        .started = ht_slice_str(a->started),
        .memory = {.rss = admin_resident_bytes()},
        .fds = fds > 0 ? (uint64_t)fds : 0,
        .has_fds = fds >= 0,
        .pid = (uint64_t)getpid(),
        .ip = ht_slice_str(a->ip),
        .user_agent = req->user_agent,
    };
    return admin_reply_health_200(res, &v);
}

static int livez(void *ctx, const struct admin_request *req, struct admin_response *res) {
    struct admin *a = ctx;
    struct admin_probe yes = {.started = ht_slice_str(a->started)};
    (void)req;
    return admin_reply_livez_200(res, &yes);
}

static int readyz(void *ctx, const struct admin_request *req, struct admin_response *res) {
    struct admin *a = ctx;
    struct admin_ready yes = {.started = ht_slice_str(a->started)};
    const char *why = a->source.not_ready(a->source.ctx);
    char address[ADMIN_ADDR_TEXT];
    struct ht_slice warnings[ADMIN_WARNINGS];
    bool wants_token;
    (void)req;
    if (a->source.proxy(a->source.ctx, address, &wants_token))
        yes.proxy = ht_slice_str(address);
    yes.warnings = warnings;
    yes.n_warnings = a->source.warnings ? a->source.warnings(a->source.ctx, warnings) : 0;
    return why ? admin_reply_error(res, 503, "%s", why) : admin_reply_readyz_200(res, &yes);
}

static int certificates(void *ctx, const struct admin_request *req, struct admin_response *res) {
    struct admin *a = ctx;
    admin_reply_certificates_200(res);
    int rc = a->source.certificates(a->source.ctx, &req->viewer, &res->body);
    if (rc == 0 && ht_buf_size(&res->body) == 0)
        rc = admin_reply_error(res, 404, "no connected driver offers a certificate");
    return rc;
}

static int metrics(void *ctx, const struct admin_request *req, struct admin_response *res) {
    struct admin *a = ctx;
    if (!req->viewer.admin) /* they count what all users do */
        return admin_reply_error(res, 403, "the metrics are of all users, so they are for admins");
    admin_reply_metrics_200(res);
    return a->source.metrics(a->source.ctx, &res->body);
}

static int proxy(void *ctx, const struct admin_request *req, struct admin_response *res) {
    struct admin *a = ctx;
    struct admin_proxy v = {.wants_token = false};
    char address[ADMIN_ADDR_TEXT];
    (void)req;
    if (a->source.proxy(a->source.ctx, address, &v.wants_token))
        v.address = ht_slice_str(address);
    return admin_reply_proxy_200(res, &v);
}

/* ---- lists ---- */

int admin_lists_take(struct admin *a, const struct admin_viewer *viewer, struct admin_lists *l, size_t session_item,
                     size_t binding_item) {
    int rc = a->source.snapshot(a->source.ctx, viewer, &l->snap);
    if (rc < 0)
        return rc;
    /* One more than needed: an empty list is no failed allocation. */
    l->of_sessions = ht_calloc(l->snap.n_sessions + 1, session_item);
    l->of_bindings = ht_calloc(l->snap.n_bindings + 1, binding_item);
    l->until = ht_calloc(l->snap.n_sessions + 1, sizeof *l->until);
    l->since = ht_calloc(l->snap.n_bindings + 1, sizeof *l->since);
    return l->of_sessions && l->of_bindings && l->until && l->since ? 0 : HT_ENOMEM;
}

struct ht_slice admin_until_of(const struct admin_lists *l, size_t i) {
    if (!l->snap.sessions[i].parked)
        return ht_slice_of(NULL, 0);
    admin_time_text(l->snap.sessions[i].parked_until, l->until[i].text);
    return ht_slice_str(l->until[i].text);
}

struct ht_slice admin_label_of(const struct admin_snap_binding *b) {
    return b->label && b->label[0] ? ht_slice_str(b->label) : ht_slice_of(NULL, 0);
}

static const struct ht_slice *names_of(const struct admin_snap_binding *b) { return b->n_names ? b->names : NULL; }

void admin_lists_free(struct admin_lists *l) {
    admin_snapshot_free(&l->snap);
    ht_free(l->of_sessions);
    ht_free(l->of_bindings);
    ht_free(l->until);
    ht_free(l->since);
}

/* Gathers a session's bindings of one mode behind `out`; returns how many. */
static size_t ports_of(const struct admin_snapshot *snap, const struct admin_snap_session *s, enum admin_mode mode,
                       struct admin_binding_port *out) {
    size_t n = 0;
    for (size_t i = 0; i < s->n_bindings; i++) {
        const struct admin_snap_binding *b = &snap->bindings[s->first_binding + i];
        if (b->mode == mode)
            out[n++] = (struct admin_binding_port){
                .bind_id = b->bind_id, .container_port = b->port, .names = names_of(b), .n_names = b->n_names};
    }
    return n;
}

static int reply_tunnels(struct admin_lists *l, struct admin_response *res) {
    const struct admin_snapshot *snap = &l->snap;
    struct admin_tunnel *tunnels = l->of_sessions;
    struct admin_binding_port *ports = l->of_bindings;
    struct admin_tunnels v = {
        .sessions = tunnels,
        .n_sessions = snap->n_live,
        .orphaned_sessions = snap->n_sessions - snap->n_live,
        .total_bindings = snap->n_bindings,
        .fd_permits_available = snap->fd_permits,
    };
    for (size_t i = 0; i < snap->n_live; i++) {
        const struct admin_snap_session *s = &snap->sessions[i];
        struct admin_tunnel *t = &tunnels[i];
        t->session_id = ht_slice_str(s->id);
        t->peer_addr = ht_slice_str(s->peer);
        t->protocol = s->protocol;
        t->connections_granted = s->granted;
        t->active_streams = s->streams;
        t->expose_bindings = ports;
        t->n_expose_bindings = ports_of(snap, s, ADMIN_MODE_EXPOSE, ports);
        ports += t->n_expose_bindings;
        t->pull_bindings = ports;
        t->n_pull_bindings = ports_of(snap, s, ADMIN_MODE_PULL, ports);
        ports += t->n_pull_bindings;
        v.total_streams += s->streams;
    }
    return admin_reply_list_tunnels_200(res, &v);
}

static int list_tunnels(void *ctx, const struct admin_request *req, struct admin_response *res) {
    struct admin_lists l = {.of_sessions = NULL};
    int rc = admin_lists_take(ctx, &req->viewer, &l, sizeof(struct admin_tunnel), sizeof(struct admin_binding_port));
    if (rc == 0)
        rc = reply_tunnels(&l, res);
    admin_lists_free(&l);
    return rc;
}

static int reply_sessions(struct admin_lists *l, struct admin_response *res) {
    const struct admin_snapshot *snap = &l->snap;
    struct admin_session *sessions = l->of_sessions;
    struct admin_session_binding *bindings = l->of_bindings;
    struct admin_sessions v = {.sessions = sessions, .n_sessions = snap->n_sessions, .total = snap->n_sessions};
    for (size_t i = 0; i < snap->n_bindings; i++) {
        const struct admin_snap_binding *b = &snap->bindings[i];
        bindings[i] = (struct admin_session_binding){.bind_id = b->bind_id,
                                                     .container_port = b->port,
                                                     .kind = b->kind,
                                                     .mode = b->mode,
                                                     .label = admin_label_of(b),
                                                     .names = names_of(b),
                                                     .n_names = b->n_names};
    }
    for (size_t i = 0; i < snap->n_sessions; i++) {
        const struct admin_snap_session *s = &snap->sessions[i];
        sessions[i] = (struct admin_session){
            .session_id = ht_slice_str(s->id),
            .peer_addr = ht_slice_str(s->peer),
            .is_v2 = s->v2,
            .connections_granted = s->granted,
            .active_streams = s->streams,
            .max_streams = snap->max_streams,
            .has_parked = true,
            .parked = s->parked,
            .parked_until = admin_until_of(l, i),
            .has_keeps_streams = true,
            .keeps_streams = s->keeps_streams,
            .has_waiting = true,
            .waiting = s->waiting,
            .bindings = bindings + s->first_binding,
            .n_bindings = s->n_bindings,
        };
    }
    return admin_reply_list_sessions_200(res, &v);
}

static int list_sessions(void *ctx, const struct admin_request *req, struct admin_response *res) {
    struct admin_lists l = {.of_sessions = NULL};
    int rc =
        admin_lists_take(ctx, &req->viewer, &l, sizeof(struct admin_session), sizeof(struct admin_session_binding));
    if (rc == 0)
        rc = reply_sessions(&l, res);
    admin_lists_free(&l);
    return rc;
}

static int reply_bindings(struct admin_lists *l, struct admin_response *res) {
    const struct admin_snapshot *snap = &l->snap;
    struct admin_binding *bindings = l->of_bindings;
    size_t n = 0;
    for (size_t i = 0; i < snap->n_sessions; i++) {
        const struct admin_snap_session *s = &snap->sessions[i];
        for (size_t j = 0; j < s->n_bindings; j++) {
            const struct admin_snap_binding *b = &snap->bindings[s->first_binding + j];
            admin_time_text(b->since, l->since[n].text);
            bindings[n] = (struct admin_binding){
                .session_id = ht_slice_str(s->id),
                .bind_id = b->bind_id,
                .port = b->port,
                .kind = b->kind,
                .mode = b->mode,
                .bind_addr = b->mode == ADMIN_MODE_PULL && b->port ? ht_slice_str(b->bind_addr) : ht_slice_of(NULL, 0),
                .label = admin_label_of(b),
                .names = names_of(b),
                .n_names = b->n_names,
                .hosts = b->n_hosts ? b->hosts : NULL,
                .n_hosts = b->n_hosts,
                .url = b->url && b->url[0] ? ht_slice_str(b->url) : ht_slice_of(NULL, 0),
                .since = ht_slice_str(l->since[n].text),
                .has_parked = true,
                .parked = s->parked,
                .parked_until = admin_until_of(l, i),
            };
            n++;
        }
    }
    struct admin_bindings v = {.bindings = bindings, .n_bindings = n, .total = n};
    return admin_reply_list_bindings_200(res, &v);
}

static int list_bindings(void *ctx, const struct admin_request *req, struct admin_response *res) {
    struct admin_lists l = {.of_sessions = NULL};
    int rc = admin_lists_take(ctx, &req->viewer, &l, 1, sizeof(struct admin_binding));
    if (rc == 0)
        rc = reply_bindings(&l, res);
    admin_lists_free(&l);
    return rc;
}

/* ---- events ---- */

static int events(void *ctx, const struct admin_request *req, struct admin_response *res) {
    struct admin *a = ctx;
    if (!a->source.takes_reader(a->source.ctx, &req->viewer))
        return admin_reply_error(res, 503, "too many readers of events");
    admin_reply_events_200(res);
    return 0;
}

static int page(void *ctx, const struct admin_request *req, struct admin_response *res) {
    (void)ctx, (void)req;
    admin_reply_front_page_200(res);
    return 0;
}

bool admin_is_page(const struct admin_request *req, const struct admin_response *res) {
    return req->route && (req->route->op == ADMIN_OP_FRONT_PAGE || req->route->op == ADMIN_OP_STATUS_PAGE) &&
           res->status == 200;
}

bool admin_is_stream(const struct admin_request *req, const struct admin_response *res) {
    return req->route && req->route->op == ADMIN_OP_EVENTS && res->status == 200 && !ht_slice_is(req->method, "HEAD");
}

int admin_event_append(struct ht_buf *out, uint64_t id, const struct admin_event *e) {
    /* The JSON is one line: no value of a string can hold a bare newline. */
    int rc = ht_buf_printf(out, "id: %llu\nevent: %s\ndata: ", (unsigned long long)id, admin_event_type_text(e->event));
    if (rc == 0)
        rc = admin_write_event(out, e);
    return rc ? rc : ht_buf_append_str(out, "\n\n");
}

/* ---- the kill ---- */

static int kill_session(void *ctx, const struct admin_request *req, struct admin_response *res) {
    struct admin *a = ctx;
    const struct admin_params *p = &req->params;
    int rc = a->source.kill(a->source.ctx, &req->viewer, p->session_id, (uint64_t)p->grace_ms);
    if (rc == HT_EINVAL)
        return admin_reply_error(res, 404, "there is no session %s", p->session_id);
    if (rc < 0)
        return rc;
    struct admin_closing v = {.session_id = ht_slice_str(p->session_id)};
    return admin_reply_kill_session_202(res, &v);
}

int admin_serve(struct admin *a, struct admin_request *req, struct admin_response *res) {
    static const struct admin_handlers handlers = {
        .front_page = page,
        .status_page = page,
        .me = admin_me,
        .status = admin_status,
        .health = health,
        .livez = livez,
        .readyz = readyz,
        .metrics = metrics,
        .proxy = proxy,
        .certificates = certificates,
        .list_tunnels = list_tunnels,
        .list_sessions = list_sessions,
        .kill_session = kill_session,
        .list_bindings = list_bindings,
        .events = events,
    };
    return admin_dispatch(&handlers, a, req, res);
}
