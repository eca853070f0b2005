/*
 * The load that the status page shows: traffic of the last minute, limits, the latest events. Counters of bytes and
 * requests exist anyway; they are read once a second while they change or a reader wants samples. In an idle kit no
 * timer runs.
 */
#include "kit/bounds.h"
#include "kit/kit_priv.h"

#include "base/mem.h"
#include "proc/process.h"

#define SECOND_MS 1000

/* ---- counts ---- */

static void bytes_of(const struct kit_session *s, uint64_t *in, uint64_t *out) {
    *in = *out = 0;
    if (s->owner.mux)
        mux_session_bytes(s->owner.mux, in, out);
    *in += s->load.before_in;
    *out += s->load.before_out;
}

static uint64_t requests_of(const struct kit_session *s) {
    uint32_t next = s->owner.mux ? mux_session_next_id(s->owner.mux) : s->next_stream_id;
    return s->load.before_requests + (next - 2) / 2; /* rule STREAM-1: even, from 2 */
}

void status_keep(struct kit_session *s) {
    uint64_t in, out;
    bytes_of(s, &in, &out);
    s->load.before_in = in;
    s->load.before_out = out;
}

void status_follow(struct kit_session *s, const struct kit_session *old) {
    struct session_load *l = &s->load;
    *l = old->load;
    bytes_of(old, &l->before_in, &l->before_out);
    l->before_requests = requests_of(old);
    l->seen_bytes = l->before_in + l->before_out;
    l->seen_requests = l->before_requests;
}

/* Stores what the session has carried since the last second. True: it has carried something. */
static bool look_at(struct kit_session *s, unsigned tick) {
    struct session_load *l = &s->load;
    uint64_t in, out, requests = requests_of(s);
    bytes_of(s, &in, &out);
    uint64_t moved = in + out - l->seen_bytes, begun = requests - l->seen_requests;
    l->seen_bytes = in + out;
    l->seen_requests = requests;
    l->traffic[tick % ADMIN_TRAFFIC_SECONDS] = (uint32_t)ht_min64(moved, UINT32_MAX);
    l->requests_per_second += ((double)begun - l->requests_per_second) / 4;
    if (l->requests_per_second < 0.01)
        l->requests_per_second = 0;
    return moved || begun;
}

/* ---- once a second ---- */

/* A reader that is still behind gets no sample this time. Readers of one user get the same text. */
static void send_samples(struct kit *k) {
    struct ht_buf text = {0};
    const struct kit_user *of = NULL;
    int rc = 0;
    HT_LIST_FOR (it, &k->readers.members) {
        struct base_client *c = HT_LIST_ENTRY(it, struct base_client, reader.node);
        if (!c->samples || web_conn_busy(&c->web))
            continue;
        if (ht_buf_size(&text) == 0 || of != c->user) {
            struct admin_viewer viewer = kit_viewer(c->user);
            ht_buf_free(&text);
            of = c->user;
            rc = admin_sample_append(&k->admin, &viewer, &text);
        }
        if (rc == 0)
            events_add(c, ht_buf_slice(&text));
    }
    ht_buf_free(&text);
}

static void second_over(struct io_timer *t) {
    struct kit *k = ht_container_of(t, struct kit, second);
    struct ht_list *lists[] = {&k->live, &k->parked};
    k->tick++;
    k->quiet++;
    for (size_t i = 0; i < HT_ARRAY_LEN(lists); i++)
        HT_LIST_FOR (it, lists[i])
            if (look_at(HT_LIST_ENTRY(it, struct kit_session, node), k->tick))
                k->quiet = 0;
    if (k->n_samplers)
        send_samples(k);
    /* The timer stops only when the traffic that each session remembers is all zeros. */
    k->ticking = k->n_samplers > 0 || k->quiet < ADMIN_TRAFFIC_SECONDS;
    if (k->ticking)
        io_timer_set(&k->second, SECOND_MS);
}

void status_set_up(struct kit *k) {
    io_timer_init(k->loop, &k->second, second_over);
    k->memory = proc_memory_limit();
}

void status_wake(struct kit *k) {
    k->ticking = true;
    k->quiet = 0;
    io_timer_set(&k->second, SECOND_MS);
}

void status_end(struct kit *k) {
    io_timer_stop(&k->second);
    for (unsigned i = 0; i < ADMIN_EVENTS_KEPT; i++)
        ht_free(k->recent[i]);
}

/* ---- what is told ---- */

void status_fill(const struct kit_session *s, struct admin_snap_session *out) {
    const struct kit *k = s->kit;
    uint64_t now = io_now_ms(k->loop);
    out->closing = s->state == WIRE_SESSION_DRAINING;
    out->links = s->owner.mux ? mux_session_links(s->owner.mux) : 0;
    out->grace_ms = out->parked && s->park_ends_ms > now ? s->park_ends_ms - now : 0;
    out->age_s = now > s->load.since_ms ? (now - s->load.since_ms) / 1000 : 0;
    bytes_of(s, &out->bytes_in, &out->bytes_out);
    out->requests = requests_of(s);
    out->rtt_known = s->owner.mux && s->load.rtt_us > 0;
    out->rtt_ms = (double)s->load.rtt_us / 1000;
    out->requests_per_second = s->load.requests_per_second;
    out->traffic = s->load.traffic;
    out->oldest = (k->tick + 1) % ADMIN_TRAFFIC_SECONDS;
}

static void add_limit(struct admin_snap_kit *out, const char *name, uint64_t used, uint64_t max, const char *unit) {
    if (max == 0 || out->n_limits == ADMIN_LIMITS_MAX)
        return;
    out->limits[out->n_limits++] = (struct admin_limit){
        .name = ht_slice_str(name), .used = used, .max = max, .unit = unit ? ht_slice_str(unit) : ht_slice_of(NULL, 0)};
}

void status_kit(void *ctx, struct admin_snap_kit *out) {
    struct kit *k = ctx;
    const struct opt_serve *o = k->opt;
    unsigned strangers = k->strangers[SHOWN_NOTHING].n + k->strangers[SHOWN_TOKEN].n;
    *out = (struct admin_snap_kit){
        .draining = k->draining,
        .version = KIT_VERSION,
        .max_sessions = o->max_sessions,
        .max_bindings = (uint64_t)o->max_sessions * o->max_bindings_per_session,
        .max_streams = (uint64_t)o->max_sessions * o->max_streams_per_session,
        .descriptors = {k->fds.used, k->fds.total},
    };
    add_limit(out, "Sessions", k->n_live + k->n_closing, o->max_sessions, NULL);
    add_limit(out, "Parked sessions", k->n_parked, o->max_sessions, NULL);
    add_limit(out, "Streams", kit_streams(k), out->max_streams, NULL);
    add_limit(out, "File descriptors", k->fds.used, k->fds.total, NULL);
    add_limit(out, "Memory", admin_resident_bytes(), k->memory, "bytes");
    add_limit(out, "Drivers before HELLO", strangers, (uint64_t)SHOWN_KINDS * o->max_pre_auth_connections, NULL);
    add_limit(out, "Connections to this API", k->clients.n, KIT_BOUND_CLIENTS, NULL);
    add_limit(out, "Readers of events", k->readers.n, EVENTS_MAX_READERS, NULL);
}

/* ---- the latest events ---- */

#define KEPT_TEXT 256 /* most bytes of a text that are kept; the message of a GOAWAY may be longer */

/* An event that is kept. Its texts follow it. */
struct kit_recent {
    struct admin_event e;
    char text[];
};

/* The text number `i` of an event; NULL: there are no more. */
static struct ht_slice *text_of(struct admin_event *e, unsigned i) {
    struct ht_slice *all[] = {&e->time,  &e->owner, &e->session_id,      &e->peer_addr,
                              &e->label, &e->url,   &e->from_session_id, &e->reason};
    return i < HT_ARRAY_LEN(all) ? all[i] : NULL;
}

void status_remember(struct kit *k, const struct admin_event *e) {
    struct admin_event copy = *e;
    struct ht_slice *s;
    size_t n = 0;
    copy.names = NULL;
    copy.n_names = 0;
    for (unsigned i = 0; (s = text_of(&copy, i)); i++)
        n += s->n = ht_min(s->n, KEPT_TEXT);
    struct kit_recent *r = ht_malloc(sizeof *r + n);
    if (!r)
        return;
    r->e = copy;
    char *at = r->text;
    for (unsigned i = 0; (s = text_of(&r->e, i)); i++) {
        if (!s->p)
            continue;
        memcpy(at, s->p, s->n);
        s->p = at;
        at += s->n;
    }
    struct kit_recent **slot = &k->recent[k->n_recent++ % ADMIN_EVENTS_KEPT];
    ht_free(*slot);
    *slot = r;
}

size_t status_recent(void *ctx, const struct admin_viewer *viewer, struct admin_event out[ADMIN_EVENTS_KEPT]) {
    struct kit *k = ctx;
    size_t n = 0;
    for (size_t i = 1; i <= ADMIN_EVENTS_KEPT && i <= k->n_recent; i++) {
        const struct kit_recent *r = k->recent[(k->n_recent - i) % ADMIN_EVENTS_KEPT];
        if (r && (viewer->admin || (viewer->user && ht_slice_is(r->e.owner, viewer->name))))
            out[n++] = r->e;
    }
    return n;
}
