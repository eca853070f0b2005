/*
 * The new kit of a restart: what it takes from the old one before it serves, and what old kits, its elders, still have
 * to say afterwards. Until it serves it does nothing else, so it simply waits for messages.
 */
#include "kit/restart.h"

#include "kit/handoff.h"
#include "kit/kit_priv.h"
#include "kit/records.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "log_gen.h"
#include "proc/seal.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define SEND_WAIT_MS 1000
/* The old kit may first wait for handovers of its own, and its own time for this ends before. */
#define TAKE_WAIT_MS (WIRE_LIMIT_HANDOVER_WAIT + 2 * (uint64_t)RESTART_LIMIT_TAKE_TIMEOUT)
#define ELDERS_MAX 64u

struct successor {
    struct io_loop *loop;
    int fd;
    uint64_t timeout_ms;
    int certificate; /* a memory file of the old kit; -1: none */
    int elders[ELDERS_MAX];
    unsigned n_elders;
    uint32_t restarts;          /* that have worked, with this one; 0: the old kit does not say */
    struct kit_restarted about; /* as of `go` ... */
    uint64_t go_ms;             /* ... which came then, monotonic */
    struct handoff_got got;
};

/* ---- messages ---- */

static int say(struct successor *s, enum restart_type type, uint32_t count) {
    struct restart_message m = {.type = type, .count = count};
    return handoff_send(s->fd, &m, NULL, 0, SEND_WAIT_MS);
}

/* The old kit's user learns it too. */
static int refuse(struct successor *s, struct ht_errmsg *err, int rc) {
    struct restart_message m = {.type = RESTART_REFUSED, .reason = ht_slice_str(err->text)};
    if (m.reason.n > 500)
        m.reason.n = 500;
    (void)!handoff_send(s->fd, &m, NULL, 0, SEND_WAIT_MS);
    return rc;
}

static int next(struct successor *s, uint64_t wait_ms, struct ht_errmsg *err) {
    int rc = handoff_receive(s->fd, RESTART_ROLE_SERVER, &s->got, wait_ms);
    if (rc == HT_ETIMEDOUT)
        return ht_fail(err, rc, "restart: the old program says nothing");
    if (rc < 0)
        return ht_fail(err, rc, "restart: %s",
                       rc == HT_ECLOSED ? "the old program has given up"
                                        : "the old program says what nobody "
                                          "understands");
    if (s->got.m.type != RESTART_REFUSED)
        return HT_OK;
    ht_fail(err, HT_ECLOSED, "restart: the old program says: %.*s", HT_SLICE_ARG(s->got.m.reason));
    handoff_drop(&s->got);
    return HT_ECLOSED;
}

static int unexpected(struct successor *s, struct ht_errmsg *err) {
    ht_fail(err, HT_EPROTO, "restart: the old program says \"%s\" too early or too late",
            restart_type_name(s->got.m.type));
    handoff_drop(&s->got);
    return refuse(s, err, HT_EPROTO);
}

/* ---- the old kit's own sockets ---- */

static int take_own(struct successor *s, struct ht_errmsg *err) {
    char role[IO_ROLE + 1];
    struct ht_slice said = s->got.m.role;
    snprintf(role, sizeof role, "%.*s", HT_SLICE_ARG(said));
    if (s->got.n_fds != 1)
        return unexpected(s, err);
    int fd = s->got.fds[0];
    s->got.fds[0] = -1;
    return io_inherit(s->loop, fd, role, err);
}

static int take_elder(struct successor *s, struct ht_errmsg *err) {
    if (s->got.n_fds != 1)
        return unexpected(s, err);
    if (s->n_elders < ELDERS_MAX) {
        s->elders[s->n_elders++] = s->got.fds[0];
        s->got.fds[0] = -1;
    }
    return HT_OK;
}

static int take_all_own(struct successor *s, struct ht_errmsg *err) {
    int rc = HT_OK;
    for (bool more = true; rc == HT_OK && more;) {
        rc = next(s, s->timeout_ms, err);
        if (rc < 0)
            return rc;
        switch (s->got.m.type) {
        case RESTART_LISTENER:
            rc = take_own(s, err);
            break;
        case RESTART_ELDER:
            rc = take_elder(s, err);
            break;
        case RESTART_PREPARE:
            more = false;
            if (s->got.n_fds == 1) {
                s->certificate = s->got.fds[0];
                s->got.fds[0] = -1;
            }
            break;
        default:
            return unexpected(s, err);
        }
        handoff_drop(&s->got);
    }
    return rc;
}

struct successor *successor_begin(struct io_loop *loop, int fd, uint64_t timeout_ms, struct ht_errmsg *err) {
    struct successor *s = ht_calloc(1, sizeof *s);
    if (!s) {
        close(fd);
        ht_fail(err, HT_ENOMEM, "restart: out of memory");
        return NULL;
    }
    *s = (struct successor){.loop = loop, .fd = fd, .timeout_ms = timeout_ms, .certificate = -1};
    struct restart_message hello = {.type = RESTART_HELLO,
                                    .format = RESTART_LIMIT_FORMAT,
                                    .program = ht_slice_str("hoody-tunnel/" KIT_VERSION),
                                    .pid = (uint32_t)getpid()};
    int rc = handoff_send(fd, &hello, NULL, 0, SEND_WAIT_MS);
    if (rc < 0)
        ht_fail(err, rc, "restart: the old program is gone");
    else
        rc = take_all_own(s, err);
    if (rc < 0)
        successor_destroy(&s);
    return s;
}

void successor_destroy(struct successor **sp) {
    struct successor *s = *sp;
    *sp = NULL;
    if (!s)
        return;
    if (s->fd >= 0)
        close(s->fd);
    if (s->certificate >= 0)
        close(s->certificate);
    for (unsigned i = 0; i < s->n_elders; i++)
        close(s->elders[i]);
    ht_free(s);
}

int successor_certificate(const struct successor *s) { return s->certificate; }

void successor_refuse(struct successor *s, const char *why) {
    struct ht_errmsg err;
    ht_fail(&err, 0, "%s", why);
    (void)refuse(s, &err, 0);
}

/* ---- elders ---- */

static void elder_free(struct kit_elder *e) {
    past_forget(e->kit, e);
    ht_list_remove(&e->node);
    io_watcher_stop(&e->watch);
    close(e->fd);
    ht_free(e);
}

/* What is over at the old kit, or is ours now. */
static void hear(struct kit *k, const struct kit_elder *e, const struct restart_message *m) {
    struct kit_session *s = session_find(k, m->session);
    switch (m->type) {
    case RESTART_YOURS:
        if (s && s->elsewhere)
            elsewhere_end(s, false);
        break;
    case RESTART_GONE:
        if (s && s->elsewhere) {
            elsewhere_end(s, false);
            session_gone(s, "its driver has said goodbye to the program before");
        }
        break;
    case RESTART_OVER:
        past_over(k, e, m->session);
        break;
    case RESTART_AGAIN:
        if (k->restart)
            restart_ask(k->restart);
        break;
    default:
        break;
    }
}

static void elder_said(struct io_watcher *w) {
    struct kit_elder *e = ht_container_of(w, struct kit_elder, watch);
    struct kit *k = e->kit;
    struct handoff_got *got = ht_malloc(sizeof *got);
    int rc = got ? HT_OK : HT_EAGAIN;
    while (rc == HT_OK) {
        rc = handoff_receive(e->fd, RESTART_ROLE_SERVER, got, 0);
        if (rc < 0)
            break;
        hear(k, e, &got->m);
        handoff_drop(got);
    }
    ht_free(got);
    if (rc == HT_EAGAIN)
        return;
    HT_LIST_FOR_SAFE (it, &k->parked) {
        struct kit_session *s = HT_LIST_ENTRY(it, struct kit_session, node);
        if (s->elder == e)
            elsewhere_end(s, false);
    }
    ht_info("kit", "restart: an old program has finished");
    elder_free(e);
}

static struct kit_elder *elder_new(struct kit *k, int fd) {
    struct kit_elder *e = ht_calloc(1, sizeof *e);
    if (!e) {
        close(fd);
        return NULL;
    }
    e->kit = k;
    e->fd = fd;
    ht_list_init(&e->node);
    ht_list_push_back(&k->elders, &e->node);
    io_watcher_start(k->loop, &e->watch, fd, elder_said);
    return e;
}

void elders_pause(struct kit *k, bool pause) {
    HT_LIST_FOR (it, &k->elders) {
        struct kit_elder *e = HT_LIST_ENTRY(it, struct kit_elder, node);
        if (pause)
            io_watcher_stop(&e->watch);
        else
            io_watcher_start(k->loop, &e->watch, e->fd, elder_said);
    }
}

void elders_end(struct kit *k) {
    HT_LIST_FOR (it, &k->elders) {
        const struct kit_elder *e = HT_LIST_ENTRY(it, struct kit_elder, node);
        struct restart_message m = {.type = RESTART_END};
        (void)!handoff_send(e->fd, &m, NULL, 0, 0);
    }
}

void elders_close(struct kit *k) {
    while (!ht_list_empty(&k->elders))
        elder_free(HT_LIST_ENTRY(k->elders.next, struct kit_elder, node));
}

/* ---- sessions that an old kit still serves ---- */

void elsewhere_begin(struct kit_session *s) {
    struct kit *k = s->kit;
    s->elsewhere = true;
    k->n_elsewhere++;
}

void elsewhere_end(struct kit_session *s, bool tell) {
    struct kit *k = s->kit;
    if (!s->elsewhere)
        return;
    struct restart_message m = {.type = RESTART_MINE, .session = ht_slice_str(s->id)};
    if (tell && s->elder && handoff_send(s->elder->fd, &m, NULL, 0, 0) < 0)
        ht_log_with(HT_LOG_WARN, "session", HT_LOG_FIELDS(log_session(s->id)), "the old kit could not be told");
    s->elsewhere = false;
    s->elder = NULL;
    k->n_elsewhere--;
    relay_owner_pause(&s->owner, false);
    io_task_add(k->loop, &k->binds_task);
    store_touch(k);
    if (s->state != WIRE_SESSION_PARKED)
        return;
    s->park_ends_ms = io_now_ms(k->loop) + k->opt->takeover_grace_ms;
    io_timer_set(&s->timer, k->opt->takeover_grace_ms);
    relay_owner_away(k->table, &s->owner);
}

void elsewhere_end_all(struct kit *k) {
    HT_LIST_FOR_SAFE (it, &k->parked)
        elsewhere_end(HT_LIST_ENTRY(it, struct kit_session, node), true);
}

bool elsewhere_waits(const struct kit_session *s) { return s->elsewhere && io_timer_active(&s->kit->elsewhere_timer); }

static void dropped(void *ctx, const struct io_addr *addr) {
    char text[IO_ADDR_TEXT];
    (void)ctx;
    ht_debug("kit", "nobody has asked for the old program's socket on %s", io_addr_text(addr, text));
}

void elsewhere_fired(struct io_timer *t) {
    struct kit *k = ht_container_of(t, struct kit, elsewhere_timer);
    io_inherit_drop(k->loop, dropped, NULL); /* those of vtunnel clients that did not come back */
    io_task_add(k->loop, &k->binds_task);
}

/* ---- taking over ---- */

static int take_sockets(struct successor *s) {
    struct ht_errmsg err;
    for (size_t i = 0; i < s->got.n_fds; i++) {
        int fd = s->got.fds[i];
        s->got.fds[i] = -1;
        if (io_inherit(s->loop, fd, "", &err) < 0)
            ht_warn("kit", "restart: a socket of the old program: %s", err.text);
    }
    return HT_OK;
}

static int take_records(struct successor *s, struct kit *k, struct kept_count *count, struct ht_errmsg *err) {
    struct ht_buf text = {0};
    struct records r = {.text = NULL};
    struct ht_errmsg why = {""};
    int rc = s->got.n_fds == 1 ? proc_seal_read(s->got.fds[0], RESTART_LIMIT_MAX_RECORDS, &text, &why) : HT_EPROTO;
    if (rc == HT_OK)
        rc = records_open(&r, ht_buf_slice(&text), &why);
    ht_buf_free(&text);
    if (rc == HT_OK) {
        k->records_seq = (uint64_t)r.head.seq;
        rc = kept_restore(k, &r, true, count);
    }
    records_free(&r);
    return rc < 0 ? ht_fail(err, rc, "restart: the records of the old program: %s",
                            why.text[0] ? why.text : ht_err_text(rc))
                  : HT_OK;
}

static int take_all(struct successor *s, struct kit *k, struct kept_count *count, struct ht_errmsg *err) {
    for (;;) {
        int rc = next(s, TAKE_WAIT_MS, err);
        if (rc < 0)
            return rc;
        switch (s->got.m.type) {
        case RESTART_SOCKETS:
            rc = take_sockets(s);
            break;
        case RESTART_PAST:
            past_add(k, &s->got.m);
            break;
        case RESTART_TAKE:
            rc = take_records(s, k, count, err);
            handoff_drop(&s->got);
            return rc;
        default:
            return unexpected(s, err);
        }
        handoff_drop(&s->got);
        if (rc < 0)
            return rc;
    }
}

/* Sessions may end at the old kit in the meantime. */
static int wait_for_go(struct successor *s, struct kit *k, struct ht_errmsg *err) {
    for (;;) {
        int rc = next(s, TAKE_WAIT_MS, err);
        if (rc < 0)
            return rc;
        bool go = s->got.m.type == RESTART_GO;
        if (!go)
            hear(k, NULL, &s->got.m);
        s->restarts = s->got.m.restarts;
        s->about.took_ms = s->got.m.took;
        s->about.paused_ms = s->got.m.paused;
        s->go_ms = ht_now_ms();
        handoff_drop(&s->got);
        if (go)
            return HT_OK;
    }
}

int successor_take(struct successor *s, struct kit *k, struct ht_errmsg *err) {
    struct kept_count count;
    int rc = say(s, RESTART_PREPARED, 0);
    if (rc < 0)
        return ht_fail(err, rc, "restart: the old program is gone");
    rc = take_all(s, k, &count, err);
    if (rc < 0)
        return refuse(s, err, rc);
    rc = say(s, RESTART_TAKEN, count.sessions);
    if (rc < 0)
        return ht_fail(err, rc, "restart: the old program is gone");
    s->about.sessions = count.sessions;
    s->about.left_out = count.left_out;
    rc = wait_for_go(s, k, err);
    if (rc < 0)
        return rc;
    ht_info("kit", "restart: %u sessions with %u bindings are taken over", count.sessions, count.bindings);
    return HT_OK;
}

/* The old kit lets them go as if they were here: their visitors would be nobody's, and their drivers come here, and
 * learn why they may not. */
static void give_up_left_out(struct kit *k, const struct kit_elder *e) {
    for (; e && ht_buf_size(&k->left_out) >= KIT_ID_LEN; ht_buf_consume(&k->left_out, KIT_ID_LEN)) {
        struct restart_message m = {.type = RESTART_MINE,
                                    .session = ht_slice_of(ht_buf_head(&k->left_out), KIT_ID_LEN)};
        (void)!handoff_send(e->fd, &m, NULL, 0, SEND_WAIT_MS);
    }
    ht_buf_free(&k->left_out);
}

static void told_of_it(struct successor *s, struct kit *k) {
    uint64_t since = ht_now_ms() - s->go_ms;
    k->metrics.restarts_total[HT_METRIC_RESTART_DONE] = ht_max(s->restarts, 1u);
    s->about.took_ms += since;
    s->about.paused_ms += since;
    if (s->restarts) {
        ht_metrics_observe_restart_seconds(&k->metrics, s->about.took_ms * 1000);
        ht_metrics_observe_restart_pause_seconds(&k->metrics, s->about.paused_ms * 1000);
    }
    event_restart(k, ADMIN_EVENT_TYPE_RESTARTED, &s->about, NULL);
}

void successor_serving(struct successor **sp, struct kit *k) {
    struct successor *s = *sp;
    for (unsigned i = 0; i < s->n_elders; i++)
        past_settle(k, i + 1, elder_new(k, s->elders[i]));
    s->n_elders = 0;
    if (say(s, RESTART_SERVING, 0) < 0) /* then it is dead, or kills this program at once */
        ht_warn("kit", "restart: the old program cannot be told that this one serves");
    struct kit_elder *e = elder_new(k, s->fd);
    s->fd = -1;
    past_settle(k, 0, e);
    past_forget(k, NULL);
    io_timer_set(&k->elsewhere_timer, WIRE_LIMIT_HANDOVER_WAIT);
    HT_LIST_FOR_SAFE (it, &k->parked) {
        struct kit_session *session = HT_LIST_ENTRY(it, struct kit_session, node);
        if (session->elsewhere)
            session->elder = e;
        if (session->elsewhere && e)
            relay_owner_pause(&session->owner, true);
        else if (session->elsewhere)
            elsewhere_end(session, false);
    }
    give_up_left_out(k, e);
    if (!k->opt->vtunnel) /* sockets of sessions that are not here; those of vtunnel clients wait for them a while */
        io_inherit_drop(k->loop, dropped, NULL);
    told_of_it(s, k);
    successor_destroy(sp);
}
