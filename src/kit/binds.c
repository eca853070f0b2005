/*
 * BIND and UNBIND, and which session gets a port that another one holds (rules CLIENT-1 to CLIENT-4).
 *
 * A driver that died leaves a session that holds its ports. The session is parked, or still live if the kit has not
 * noticed the death. The driver's next process has a new session and the same client id. It gets the ports of a parked
 * session at once. A live session is sent a PING first, and the BIND waits: a driver that answers keeps its port.
 */
#include "kit/kit_priv.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "log_gen.h"
#include "relay/front.h"

#include <stdio.h>
#include <time.h>

/* How many refused BINDs of one session get a line in the log. */
#define REFUSALS_TOLD 32
/* While bytes come but no PONG, the link is slow and not dead. After this time it counts as alive. */
#define PROBE_MAX_MS (5 * (uint64_t)WIRE_LIMIT_CLIENT_SILENCE)

/* ---- clients ---- */

void session_set_client(struct kit_session *s, struct ht_slice id, struct ht_slice name) {
    kit_client_set(&s->client, id, false);
    if (s->owner.n_named)
        return;
    snprintf(s->name, sizeof s->name, "%.*s", (int)name.n, name.n ? name.p : "");
    s->owner.name = s->name[0] ? s->name : NULL;
}

/* Rule CLIENT-2. */
static bool same_client(const struct kit_session *a, const struct kit_session *b) {
    return a->user == b->user && kit_client_same(&a->client, &b->client);
}

static bool is_client(const struct kit_session *s, const struct kit_user *user, struct ht_slice id) {
    struct kit_client asked;
    kit_client_set(&asked, id, false);
    bool same = s->user == user && kit_client_same(&s->client, &asked);
    explicit_bzero(&asked, sizeof asked);
    return same;
}

static bool stands(const struct kit_session *s) {
    return s->state == WIRE_SESSION_LIVE || s->state == WIRE_SESSION_RESTARTING;
}

/* ---- finding out whether a driver is alive ---- */

static void probe_begin(struct kit_session *s) {
    s->probe = PROBE_ASKED;
    s->probed_at = io_now_ms(s->kit->loop);
    mux_session_ping(s->owner.mux, ht_now_us());
    session_touch(s);
    io_timer_set(&s->probe_timer, WIRE_LIMIT_CLIENT_SILENCE);
}

static void probe_ends(struct kit_session *s, enum kit_probe result) {
    io_timer_stop(&s->probe_timer);
    s->probe = result;
    io_task_add(s->kit->loop, &s->kit->binds_task);
}

void session_probe_fired(struct io_timer *t) {
    struct kit_session *s = ht_container_of(t, struct kit_session, probe_timer);
    uint64_t now = io_now_ms(s->kit->loop), heard = mux_session_heard_ms(s->owner.mux);
    s->silent_since = heard;
    if (heard < s->probed_at || now - heard >= WIRE_LIMIT_CLIENT_SILENCE)
        probe_ends(s, PROBE_SILENT);
    else if (now - s->probed_at >= PROBE_MAX_MS)
        probe_ends(s, PROBE_ANSWERED);
    else
        io_timer_set(&s->probe_timer, heard + WIRE_LIMIT_CLIENT_SILENCE - now);
}

void session_probe_answered(struct kit_session *s) {
    if (s->probe == PROBE_ASKED)
        probe_ends(s, PROBE_ANSWERED);
}

/* Each BIND needs a fresh answer. Only silence is remembered, while the driver stays silent and a BIND waits: that BIND
 * may depend on several sessions, which are not probed at the same time. */
static void probe_forget(struct kit_session *s, bool waits) {
    bool silent = s->probe == PROBE_SILENT && s->owner.mux && mux_session_heard_ms(s->owner.mux) == s->silent_since;
    if (s->probe != PROBE_ASKED && !(silent && waits))
        s->probe = PROBE_NONE;
}

/* ---- what the relay asks (relay_owner_ops) ---- */

/* Returns whether `holder` gives its port to the next process of its client. Sends a PING unless one is on its way. */
static enum relay_yield ask_holder(struct kit_session *holder) {
    switch (holder->probe) {
    case PROBE_NONE:
        probe_begin(holder);
        break;
    case PROBE_ASKED:
        break;
    case PROBE_ANSWERED:
        return RELAY_KEEPS;
    case PROBE_SILENT:
        return RELAY_YIELDS;
    }
    return RELAY_PENDING;
}

static enum relay_yield owner_yields(struct relay_owner *o, const struct relay_owner *to) {
    struct kit_session *holder = ht_container_of(o, struct kit_session, owner);
    if (!same_client(holder, ht_container_of(to, const struct kit_session, owner)))
        return RELAY_KEEPS;
    if (elsewhere_waits(holder))
        return RELAY_PENDING;
    /* Kit or driver has said goodbye in a session that closes: nobody needs its ports any more. */
    if (!stands(holder))
        return RELAY_YIELDS;
    return ask_holder(holder);
}

enum relay_yield session_of_client_yields(struct kit *k, const struct kit_user *user, struct ht_slice client) {
    enum relay_yield answer = RELAY_KEEPS;
    HT_LIST_FOR_SAFE (it, &k->live) {
        struct kit_session *s = HT_LIST_ENTRY(it, struct kit_session, node);
        if (!stands(s) || !is_client(s, user, client))
            continue;
        enum relay_yield one = ask_holder(s);
        if (one == RELAY_YIELDS)
            session_lose(s, "silent, and its driver came back as another process");
        if (one != RELAY_KEEPS)
            answer = one;
        if (one == RELAY_YIELDS)
            break;
    }
    return answer;
}

int64_t session_parked_until(const struct kit_session *s) {
    uint64_t now = io_now_ms(s->kit->loop);
    uint64_t left = s->park_ends_ms > now ? s->park_ends_ms - now : 0;
    return (int64_t)time(NULL) + (int64_t)((left + 999) / 1000);
}

/* The message helps people to find their other driver. It never contains an id, which is a secret. */
static void owner_keeps(const struct relay_owner *o, const struct relay_owner *to, const char *what,
                        const struct relay_binding_info *b, struct ht_errmsg *err) {
    const struct kit_session *holder = ht_container_of(o, const struct kit_session, owner);
    if (o->user != to->user) { /* rule USER-2: no more than can be seen from outside */
        ht_fail(err, 0, "%s is another user's", what);
        return;
    }
    char since[32], until[32], label[RELAY_LABEL_MAX + 8] = "";
    admin_time_text(b->since, since);
    if (b->label[0])
        snprintf(label, sizeof label, " (\"%s\")", b->label);
    if (same_client(holder, ht_container_of(to, const struct kit_session, owner))) {
        ht_fail(err, 0, "%s is held by another driver of yours, which is alive%s, since %s: stop that one first", what,
                label, since);
    } else if (holder->state == WIRE_SESSION_PARKED) {
        admin_time_text(session_parked_until(holder), until);
        ht_fail(err, 0,
                "%s is bound by another session%s, since %s; its driver is away, and %s is kept for it until %s", what,
                label, since, strncmp(what, "port ", 5) == 0 ? "the port" : "the name", until);
    } else {
        ht_fail(err, 0, "%s is bound by another session%s, since %s", what, label, since);
    }
}

static void owner_revoked(struct relay_owner *o, uint32_t bind_id, const char *reason) {
    struct kit_session *s = ht_container_of(o, struct kit_session, owner);
    session_log(s, HT_LOG_INFO, HT_LOG_FIELDS(log_session(s->id), log_binding(bind_id)),
                "another session has taken a binding over");
    s->kit->taken_from = s;
    elsewhere_end(s, true);
    store_touch(s->kit);
    if (!o->mux)
        return;
    struct wire_bind_revoked frame = {.bind_id = bind_id, .reason = ht_slice_str(reason)};
    if (mux_session_send(o->mux, WIRE_BIND_REVOKED, &frame) < 0)
        ht_log_with(HT_LOG_WARN, "session", HT_LOG_FIELDS(log_session(s->id)), "BIND_REVOKED could not be sent");
    mux_session_set_bindings(o->mux, o->n_bindings);
    session_touch(s);
}

static bool owner_same(const struct relay_owner *o, const struct relay_owner *other) {
    return same_client(ht_container_of(o, const struct kit_session, owner),
                       ht_container_of(other, const struct kit_session, owner));
}

static const struct kit_session *session_of(const struct relay_owner *o) {
    return ht_container_of(o, const struct kit_session, owner);
}

static bool owner_may_name(const struct relay_owner *o, const char *host, const char *domain, struct ht_errmsg *err) {
    return user_may_name(session_of(o)->user, host, domain, err);
}

static uint16_t owner_pick(const struct relay_owner *o) { return user_pick_port(session_of(o)->user); }

static bool owner_may_add(const struct relay_owner *o, struct ht_errmsg *err) {
    const struct kit_session *s = session_of(o);
    unsigned most = s->user->may.max_bindings, n = 0;
    struct ht_list *lists[] = {&s->kit->live, &s->kit->parked};
    if (most == 0)
        return true;
    for (size_t i = 0; i < HT_ARRAY_LEN(lists); i++)
        HT_LIST_FOR (it, lists[i]) {
            const struct kit_session *one = HT_LIST_ENTRY(it, struct kit_session, node);
            n += one->user == s->user ? one->owner.n_bindings : 0;
        }
    if (n < most)
        return true;
    ht_fail(err, 0, "the user %s has %u bindings already, and may have no more (max-bindings)", s->user->name, n);
    return false;
}

const struct relay_owner_ops session_owner_ops = {
    .same = owner_same,
    .revoked = owner_revoked,
    .yields = owner_yields,
    .keeps = owner_keeps,
    .may_name = owner_may_name,
    .pick = owner_pick,
    .may_add = owner_may_add,
};

/* ---- BIND ---- */

static void refuse_bind(struct kit_session *s, const struct wire_bind *bind, enum wire_bind_error code,
                        const char *text) {
    struct wire_bind_err frame = {
        .has_client_bind_ref = bind && bind->has_client_bind_ref,
        .client_bind_ref = bind ? bind->client_bind_ref : 0,
        .code = code,
        .message = ht_slice_str(text),
    };
    s->kit->metrics.bind_errors_total[ht_metric_bind_error_of(code)]++;
    /* A driver that repeats a BIND which is refused must not fill the log. */
    if (s->refusals < REFUSALS_TOLD)
        session_log(s, HT_LOG_INFO,
                    HT_LOG_FIELDS(log_session(s->id), log_port(bind ? bind->container_port : 0), log_reason(text)),
                    ++s->refusals == REFUSALS_TOLD
                        ? "BIND refused; further refusals of this session are only counted in the metrics"
                        : "BIND refused");
    session_send_or_end(s, WIRE_BIND_ERR, &frame);
}

/*
 * `s` has taken a port from the session `from`. If `from` has no ports left and belongs to the same client, its driver
 * has become `s`, and `from` is not kept. With `takeover` its driver may still exist: it must be able to resume `from`,
 * now without the port. Otherwise it would begin a new session and take the port back.
 */
static void succeed(struct kit_session *from, const struct kit_session *s, const struct wire_bind *bind) {
    if (!from || from->owner.n_bindings > 0 || bind->takeover || !same_client(from, s))
        return;
    if (from->state == WIRE_SESSION_PARKED)
        session_gone(from, "its driver came back as another process");
    else
        from->replaced = true;
}

/* BIND_OK.urls points to this until the frame is encoded. */
struct urls {
    struct ht_slice texts[WIRE_MAX_BIND_OK_URLS];
    char room[WIRE_MAX_BIND_OK_URLS][RELAY_URL_MAX];
};

static void put_urls(const struct kit_session *s, const struct relay_bound *bound, struct urls *urls,
                     struct wire_bind_ok *frame) {
    const struct relay_front *f = relay_table_front(s->kit->table);
    for (size_t i = 0; i < ht_min(bound->n_hosts, WIRE_MAX_BIND_OK_URLS); i++)
        urls->texts[frame->n_urls++] = ht_slice_str(relay_front_url(f, bound->hosts[i], urls->room[i]));
    frame->urls = urls->texts;
}

/* 0: the BIND was answered. HT_EAGAIN: the answer has to wait. */
static int try_bind(struct kit_session *s, const struct wire_bind *bind) {
    struct relay_bound bound;
    struct ht_errmsg text = {""};
    enum wire_bind_error code = WIRE_BIND_ERROR_INTERNAL;
    if (s->after || s->kit->leaving) /* the driver sends its BINDs to the session that follows as well, which answers */
        return 0;
    if (s->kit->handing)
        return HT_EAGAIN;
    if (!stands(s)) {
        refuse_bind(s, bind, WIRE_BIND_ERROR_INTERNAL, "the session is closing");
        return 0;
    }
    s->kit->taken_from = NULL;
    if (!user_may_bind(s->user, bind, &text)) {
        refuse_bind(s, bind, WIRE_BIND_ERROR_NOT_ALLOWED, text.text);
        return 0;
    }
    int rc = relay_bind(s->kit->table, &s->owner, bind, &bound, &code, &text);
    if (rc == HT_EAGAIN)
        return rc;
    struct kit_session *from = s->kit->taken_from;
    if (rc < 0) {
        succeed(from, s, bind);
        refuse_bind(s, bind, code, text.text);
        return 0;
    }
    struct relay_binding_info info = {.bind_id = bound.bind_id,
                                      .port = bound.port,
                                      .kind = bind->kind,
                                      .mode = bind->mode,
                                      .label = bound.label,
                                      .names = bound.names,
                                      .n_names = bound.n_names,
                                      .hosts = bound.hosts,
                                      .n_hosts = bound.n_hosts,
                                      .url = bound.public_url};
    event_binding(s, from ? ADMIN_EVENT_TYPE_TAKEOVER : ADMIN_EVENT_TYPE_BIND, &info, from);
    session_log(s, HT_LOG_INFO, HT_LOG_FIELDS(log_session(s->id), log_port(bound.port), log_binding(bound.bind_id)),
                "%s bound (%s %s)%s%s", bound.port ? "port" : "names", wire_kind_text(bind->kind),
                wire_mode_text(bind->mode), from ? ", taken over from " : "", from ? from->id : "");
    succeed(from, s, bind);
    s->replaced = false;
    struct wire_bind_ok frame = {
        .client_bind_ref = bind->client_bind_ref,
        .bind_id = bound.bind_id,
        .container_port = bound.port,
        .has_public_url = bound.public_url[0] != '\0',
        .public_url = ht_slice_str(bound.public_url),
    };
    struct urls urls;
    if (bound.n_hosts && s->owner.mux && mux_session_agreed(s->owner.mux, WIRE_CAP_HOSTS))
        put_urls(s, &bound, &urls, &frame);
    store_touch(s->kit);
    mux_session_set_bindings(s->owner.mux, s->owner.n_bindings);
    session_send_or_end(s, WIRE_BIND_OK, &frame);
    if (s->granted > 1 && s->owner.mux)
        mux_session_in_order(s->owner.mux);
    return 0;
}

struct waiting_bind *bind_copy(const struct wire_bind *bind) {
    size_t size = bind->label.n + bind->host.n + bind->ca.n + bind->name.n, n = bind->n_names + bind->n_hostnames;
    for (size_t i = 0; i < bind->n_names; i++)
        size += bind->names[i].n;
    for (size_t i = 0; i < bind->n_hostnames; i++)
        size += bind->hostnames[i].n;
    struct waiting_bind *w = ht_malloc(sizeof *w + n * sizeof w->names[0] + size);
    if (!w)
        return NULL;
    ht_list_init(&w->node);
    char *at = (char *)(w->names + n);
    for (size_t i = 0; i < bind->n_names; i++)
        w->names[i] = ht_slice_copy(&at, bind->names[i]);
    for (size_t i = 0; i < bind->n_hostnames; i++)
        w->names[bind->n_names + i] = ht_slice_copy(&at, bind->hostnames[i]);
    w->bind = *bind;
    w->bind.label = ht_slice_copy(&at, bind->label);
    w->bind.host = ht_slice_copy(&at, bind->host);
    w->bind.ca = ht_slice_copy(&at, bind->ca);
    w->bind.name = ht_slice_copy(&at, bind->name);
    w->bind.names = w->names;
    w->bind.hostnames = w->names + bind->n_names;
    return w;
}

void session_bind(struct kit_session *s, const struct wire_bind *bind, const struct wire_error *err) {
    if (err) {
        refuse_bind(s, bind, WIRE_BIND_ERROR_INTERNAL, err->text);
        return;
    }
    /* The kit remembers no more BINDs of a driver than it may have bindings. */
    if (s->n_waiting >= s->kit->opt->max_bindings_per_session) {
        struct ht_errmsg text;
        ht_fail(&text, 0, "%u BINDs wait for an answer, and no more may (--max-bindings-per-session)", s->n_waiting);
        refuse_bind(s, bind, WIRE_BIND_ERROR_BIND_CAP_EXCEEDED, text.text);
        return;
    }
    if (try_bind(s, bind) == 0)
        return;
    struct waiting_bind *w = bind_copy(bind);
    if (!w) {
        refuse_bind(s, bind, WIRE_BIND_ERROR_INTERNAL, "out of memory");
        return;
    }
    ht_list_push_back(&s->waiting, &w->node);
    s->n_waiting++;
}

/* Tries each waiting BIND once. A BIND that still has to wait goes back to the end of the list. */
static void try_waiting(struct kit_session *s) {
    for (unsigned n = s->n_waiting; n > 0 && !ht_list_empty(&s->waiting); n--) {
        struct waiting_bind *w = HT_LIST_ENTRY(ht_list_pop_front(&s->waiting), struct waiting_bind, node);
        s->n_waiting--;
        if (try_bind(s, &w->bind) == HT_EAGAIN) {
            ht_list_push_back(&s->waiting, &w->node);
            s->n_waiting++;
        } else {
            ht_free(w);
        }
    }
}

void binds_retry(struct io_task *t) {
    struct kit *k = ht_container_of(t, struct kit, binds_task);
    hello_retry(k);
    HT_LIST_FOR_SAFE (it, &k->live)
        try_waiting(HT_LIST_ENTRY(it, struct kit_session, node));
    bool waits = false;
    HT_LIST_FOR (it, &k->live)
        waits = waits || HT_LIST_ENTRY(it, struct kit_session, node)->n_waiting > 0;
    HT_LIST_FOR (it, &k->live)
        probe_forget(HT_LIST_ENTRY(it, struct kit_session, node), waits);
}

void session_end_probe(struct kit_session *s) {
    if (s->probe == PROBE_ASKED)
        probe_ends(s, PROBE_NONE);
    s->probe = PROBE_NONE;
}

void session_forget_binds(struct kit_session *s) {
    while (!ht_list_empty(&s->waiting))
        ht_free(HT_LIST_ENTRY(ht_list_pop_front(&s->waiting), struct waiting_bind, node));
    s->n_waiting = 0;
    session_end_probe(s);
}

/* ---- UNBIND ---- */

/* The binding that an UNBIND means. */
struct wanted {
    uint32_t bind_id;
    struct relay_binding_info info; /* its bind_id is 0: not found */
    char label[RELAY_LABEL_MAX];
};

static void find_binding(void *ctx, const struct relay_binding_info *info) {
    struct wanted *w = ctx;
    if (info->bind_id != w->bind_id)
        return;
    w->info = *info;
    snprintf(w->label, sizeof w->label, "%s", info->label);
    w->info.label = w->label;
}

void session_unbind(struct kit_session *s, const struct wire_unbind *unbind) {
    struct wanted w = {.bind_id = unbind->bind_id, .info = {.label = ""}};
    relay_each_binding(s->kit->table, &s->owner, find_binding, &w);
    if (w.info.bind_id)
        event_binding(s, ADMIN_EVENT_TYPE_UNBIND, &w.info, NULL); /* now, while its names still exist */
    if (relay_unbind(s->kit->table, &s->owner, unbind->bind_id) < 0) {
        struct wire_unbind_err frame = {
            .bind_id = unbind->bind_id,
            .code = WIRE_BIND_ERROR_INTERNAL,
            .message = ht_slice_str("no such binding"),
        };
        session_send_or_end(s, WIRE_UNBIND_ERR, &frame);
        return;
    }
    session_log(s, HT_LOG_INFO, HT_LOG_FIELDS(log_session(s->id), log_port(w.info.port), log_binding(unbind->bind_id)),
                "%s unbound", w.info.port ? "port" : "names");
    struct wire_unbind_ok frame = {.bind_id = unbind->bind_id};
    store_touch(s->kit);
    mux_session_set_bindings(s->owner.mux, s->owner.n_bindings);
    session_send_or_end(s, WIRE_UNBIND_OK, &frame);
}
