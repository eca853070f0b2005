/*
 * Sessions as records (records.h), and records as sessions. A session from records is PARKED. One whose driver an old
 * kit still serves is `elsewhere` as well: its ports are there, and its grace has not begun (restart.c).
 */
#include "kit/kit_priv.h"

#include "base/log.h"
#include "base/mem.h"
#include "kit/records.h"
#include "log_gen.h"

#include <stdio.h>
#include <time.h>

#define LATE_MS 1000 /* between two attempts to get a port that another program has */

static int64_t unix_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- writing ---- */

struct writing {
    struct kit *kit;
    struct records_writer w;
};

static void add_texts(struct records_writer *w, enum restart_type type, const struct ht_slice *texts, size_t n) {
    for (size_t i = 0; i < n; i++)
        records_add(w, &(struct restart_message){.type = type, .text = texts[i]});
}

static void add_binding(void *ctx, const struct relay_kept *kept) {
    struct records_writer *w = ctx;
    const struct wire_bind *b = &kept->bind;
    char host[IO_ADDR_TEXT];
    records_add(w, &(struct restart_message){
                       .type = RESTART_BINDING,
                       .bind_id = kept->bind_id,
                       .kind = b->kind,
                       .mode = b->mode,
                       .port = b->container_port,
                       .address = ht_slice_str(kept->addr.len ? io_addr_host(&kept->addr, host) : ""),
                       .since = ht_max64((uint64_t)kept->since, 0),
                       .label = b->label,
                       .name = b->name,
                   });
    add_texts(w, RESTART_HOSTNAME, b->hostnames, b->n_hostnames);
    add_texts(w, RESTART_NAMED, b->names, b->n_names);
    if (b->has_ca)
        add_texts(w, RESTART_CA, &b->ca, 1);
}

/* Bindings whose ports another program still has. */
static void add_late(const struct kit_session *s, struct records_writer *w) {
    HT_LIST_FOR (it, &s->late) {
        const struct kit_late_bind *l = HT_LIST_ENTRY(it, struct kit_late_bind, node);
        add_binding(w, &(struct relay_kept){.bind = l->copy->bind, .bind_id = l->bind_id, .since = l->since});
    }
}

/* A session that is going away is not kept, and a vtunnel client could not come back to one (VLISTEN-5). */
bool kept_is_written(const struct kit_session *s) {
    return !s->vtunnel &&
           (s->state == WIRE_SESSION_LIVE || s->state == WIRE_SESSION_RESTARTING || s->state == WIRE_SESSION_PARKED);
}

static void add_session(struct kit_session *s, struct records_writer *w) {
    uint8_t client[KIT_DIGEST];
    uint64_t now = io_now_ms(s->kit->loop);
    bool parked = s->state == WIRE_SESSION_PARKED && !s->elsewhere;
    uint64_t grace = s->kit->opt->takeover_grace_ms;
    struct restart_message m = {
        .type = RESTART_SESSION,
        .session = ht_slice_str(s->id),
        .driver = ht_slice_str(s->name),
        .peer = ht_slice_str(s->peer),
        .version = s->version,
        .next_stream = s->owner.mux ? mux_session_next_id(s->owner.mux) : s->next_stream_id,
        .next_bind = s->owner.next_bind_id,
    };
    if (s->pass)
        m.token = ht_slice_of(s->pass->digest, sizeof s->pass->digest);
    if (kit_client_digest(&s->client, client))
        m.client = ht_slice_of(client, sizeof client);
    if (parked)
        m.until = unix_ms() + (int64_t)(s->park_ends_ms > now ? s->park_ends_ms - now : 0);
    else if (s->kit->ending)
        m.until = unix_ms() + (int64_t)grace;
    records_add(w, &m);
    relay_each_kept(s->kit->table, &s->owner, add_binding, w);
    add_late(s, w);
}

int kept_write(struct kit *k, uint64_t seq, struct ht_buf *out) {
    struct records_writer w = {.lines = 0};
    struct restart_message head = {
        .seq = (int64_t)seq, .saved = unix_ms(), .program = ht_slice_str("hoody-tunnel/" KIT_VERSION)};
    struct ht_list *lists[] = {&k->parked, &k->live}; /* when there are too many, the first ones go (PARK-3) */
    for (size_t i = 0; i < HT_ARRAY_LEN(lists); i++)
        HT_LIST_FOR (it, lists[i]) {
            struct kit_session *s = HT_LIST_ENTRY(it, struct kit_session, node);
            if (kept_is_written(s))
                add_session(s, &w);
        }
    return records_finish(&w, &head, out);
}

/* ---- bindings whose ports another program has ---- */

static void late_free(struct kit_late_bind *l) {
    ht_list_remove(&l->node);
    ht_free(l->copy);
    ht_free(l);
}

void kept_forget(struct kit_session *s) {
    while (!ht_list_empty(&s->late))
        late_free(HT_LIST_ENTRY(s->late.next, struct kit_late_bind, node));
}

/* False: out of memory; the binding is lost. */
static bool try_later(struct kit_session *s, const struct relay_kept *kept) {
    struct kit_late_bind *l = ht_calloc(1, sizeof *l);
    if (l)
        l->copy = bind_copy(&kept->bind);
    if (!l || !l->copy) {
        ht_free(l);
        return false;
    }
    l->bind_id = kept->bind_id;
    l->since = kept->since;
    ht_list_init(&l->node);
    ht_list_push_back(&s->late, &l->node);
    if (!io_timer_active(&s->kit->late_timer))
        io_timer_set(&s->kit->late_timer, LATE_MS);
    return true;
}

/* One attempt. True: it is settled, in either way. */
static bool try_late(struct kit_session *s, struct kit_late_bind *l) {
    struct ht_errmsg err = {""};
    struct relay_kept kept = {.bind = l->copy->bind, .bind_id = l->bind_id, .since = l->since};
    int rc = relay_restore(s->kit->table, &s->owner, &kept, &err);
    if (rc == HT_EINUSE || rc == HT_ENOMEM)
        return false;
    if (rc == HT_OK)
        session_log(s, HT_LOG_INFO, HT_LOG_FIELDS(log_session(s->id), log_port(kept.bind.container_port)),
                    "the port is free again, and kept for its driver");
    else
        session_log(s, HT_LOG_WARN,
                    HT_LOG_FIELDS(log_session(s->id), log_port(kept.bind.container_port), log_reason(err.text)),
                    "a binding of the kit before cannot be had here");
    store_touch(s->kit);
    return true;
}

void kept_retry(struct io_timer *timer) {
    struct kit *k = ht_container_of(timer, struct kit, late_timer);
    bool waits = false;
    HT_LIST_FOR (it, &k->parked) {
        struct kit_session *s = HT_LIST_ENTRY(it, struct kit_session, node);
        HT_LIST_FOR_SAFE (at, &s->late) {
            struct kit_late_bind *l = HT_LIST_ENTRY(at, struct kit_late_bind, node);
            if (try_late(s, l))
                late_free(l);
        }
        waits = waits || !ht_list_empty(&s->late);
    }
    if (waits)
        io_timer_set(timer, LATE_MS);
}

/* ---- what becomes of them ---- */

static void settled(struct kit_session *s, enum ht_metric_kept_session how) {
    s->kit->metrics.kept_sessions_total[how] += s->restored;
    s->restored = false;
}

void kept_is_back(struct kit_session *s) { settled(s, HT_METRIC_KEPT_SESSION_BACK); }

void kept_is_lost(struct kit_session *s) { settled(s, HT_METRIC_KEPT_SESSION_LOST); }

/* ---- reading ---- */

/* A binding while its lines are read. */
struct reading {
    struct kit *kit;
    bool elsewhere; /* an old kit serves those that are not parked */
    struct kept_count *count;
    struct kit_session *s; /* NULL: there is none, or it is left out */
    bool has_binding;
    struct relay_kept kept;
    struct ht_slice names[WIRE_LIMIT_MAX_NAMES], hostnames[WIRE_LIMIT_MAX_HOSTNAMES];
};

static void left_out(struct reading *r, struct ht_slice id, const char *why) {
    r->count->left_out++;
    if (r->elsewhere && id.n == KIT_ID_LEN) /* without memory the old kit serves it on until it is cut */
        (void)!ht_buf_append(&r->kit->left_out, id.p, id.n);
    ht_log_with(HT_LOG_WARN, "session", HT_LOG_FIELDS(log_session_slice(id), log_reason(why)),
                "a session of the kit before is left out");
}

static void restore_binding(struct reading *r) {
    struct ht_errmsg err = {""};
    struct kit_session *s = r->s;
    bool there = r->has_binding;
    r->has_binding = false; /* that of a session which is left out is not the next one's */
    if (!there || !s)
        return;
    r->kept.bind.names = r->names;
    r->kept.bind.hostnames = r->hostnames;
    int rc = relay_restore(r->kit->table, &s->owner, &r->kept, &err);
    r->count->bindings += rc == HT_OK;
    if (rc == HT_OK)
        return;
    bool later = rc == HT_EINUSE && try_later(s, &r->kept);
    r->count->late += later;
    session_log(s, HT_LOG_WARN,
                HT_LOG_FIELDS(log_session(s->id), log_port(r->kept.bind.container_port), log_reason(err.text)),
                later ? "a port of the kit before is in use, and is tried again until its driver is back"
                      : "a binding of the kit before cannot be had here");
}

/* The token of a session; NULL with *why: it may not come back (RREC-6). */
static struct kit_user *owner_of(struct reading *r, const struct restart_message *m, const struct kit_pass **pass,
                                 const char **why) {
    struct kit_user *nobody = kit_user_of_nobody(r->kit);
    *pass = NULL;
    *why = m->token.n ? "its token is no longer valid" : "it has shown no token, and now one is needed";
    if (nobody)
        return nobody;
    if (m->token.n == KIT_DIGEST)
        *pass = kit_pass_of_digest(r->kit, (const uint8_t *)m->token.p);
    return *pass ? (*pass)->user : NULL;
}

/* How long it is kept. False: its time is over. */
static bool grace_of(const struct reading *r, const struct restart_message *m, uint64_t *ms) {
    uint64_t grace = r->kit->opt->takeover_grace_ms;
    int64_t now = unix_ms();
    *ms = grace;
    if (m->until == 0) /* its link was there until now */
        return grace > 0 || r->elsewhere;
    if (m->until <= now)
        return false;
    *ms = ht_min64(grace, (uint64_t)(m->until - now));
    return *ms > 0;
}

static void restore_session(struct reading *r, const struct restart_message *m) {
    struct kit *k = r->kit;
    const struct kit_pass *pass;
    const char *why;
    uint64_t grace;
    r->s = NULL;
    struct kit_user *user = owner_of(r, m, &pass, &why);
    if (!user || !grace_of(r, m, &grace)) {
        left_out(r, m->session, user ? "its grace is over" : why);
        return;
    }
    bool good = m->session.n == KIT_ID_LEN && wire_version_text((enum wire_version)m->version);
    if (!good || session_find(k, m->session)) {
        left_out(r, m->session, good ? "there is one with its id" : "it is of a version that this kit does not speak");
        return;
    }
    struct kit_session *s = session_new(k, (struct kit_who){user, pass});
    if (!s) {
        left_out(r, m->session, "out of memory");
        return;
    }
    memcpy(s->id, m->session.p, KIT_ID_LEN);
    s->version = (enum wire_version)m->version;
    s->next_stream_id = m->next_stream;
    s->owner.next_bind_id = m->next_bind;
    snprintf(s->peer, sizeof s->peer, "%.*s", HT_SLICE_ARG(m->peer));
    session_set_client(s, ht_slice_of(NULL, 0), m->driver);
    kit_client_set(&s->client, m->client, true);
    session_enter_state(s, WIRE_SESSION_PARKED);
    s->park_ends_ms = io_now_ms(k->loop) + grace;
    if (r->elsewhere && m->until == 0)
        elsewhere_begin(s);
    else
        io_timer_set(&s->timer, grace);
    relay_owner_away(k->table, &s->owner);
    s->restored = true;
    r->s = s;
    r->count->sessions++;
}

static void begin_binding(struct reading *r, const struct restart_message *m) {
    bool portless = m->mode == WIRE_MODE_PULL && m->port == 0;
    r->has_binding = true;
    r->kept = (struct relay_kept){
        .bind = {.kind = (enum wire_kind)m->kind,
                 .mode = (enum wire_mode)m->mode,
                 .container_port = (uint16_t)m->port,
                 .has_label = m->label.n > 0,
                 .label = m->label,
                 .has_host = m->mode == WIRE_MODE_PULL && m->address.n > 0,
                 .host = m->mode == WIRE_MODE_PULL ? m->address : ht_slice_of(NULL, 0),
                 .has_name = m->name.n > 0,
                 .name = m->name,
                 .has_portless = portless,
                 .portless = portless},
        .bind_id = m->bind_id,
        .since = m->since,
    };
}

static void add_text(struct ht_slice *list, size_t *n, size_t most, struct ht_slice text) {
    if (*n < most)
        list[(*n)++] = text;
}

static void read_one(struct reading *r, const struct restart_message *m) {
    struct wire_bind *b = &r->kept.bind;
    switch (m->type) {
    case RESTART_SESSION:
        restore_binding(r);
        restore_session(r, m);
        break;
    case RESTART_BINDING:
        restore_binding(r);
        begin_binding(r, m);
        break;
    case RESTART_NAMED:
        add_text(r->names, &b->n_names, HT_ARRAY_LEN(r->names), m->text);
        break;
    case RESTART_HOSTNAME:
        add_text(r->hostnames, &b->n_hostnames, HT_ARRAY_LEN(r->hostnames), m->text);
        break;
    case RESTART_CA:
        b->has_ca = true;
        b->ca = m->text;
        break;
    default:
        break;
    }
}

int kept_restore(struct kit *k, struct records *records, bool elsewhere, struct kept_count *count) {
    struct reading *r = ht_calloc(1, sizeof *r);
    struct restart_message m;
    *count = (struct kept_count){0};
    if (!r)
        return HT_ENOMEM;
    r->kit = k;
    r->elsewhere = elsewhere;
    r->count = count;
    while (records_next(records, &m))
        read_one(r, &m);
    restore_binding(r);
    ht_free(r);
    uint64_t *total = k->metrics.kept_sessions_total;
    total[elsewhere ? HT_METRIC_KEPT_SESSION_HANDED_OVER : HT_METRIC_KEPT_SESSION_RESTORED] += count->sessions;
    total[HT_METRIC_KEPT_SESSION_LEFT_OUT] += count->left_out;
    session_trim_parked(k);
    return HT_OK;
}
