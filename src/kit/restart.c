/* The old kit of a restart, until the new one serves (restart.h). */
#include "kit/restart.h"

#include "kit/handoff.h"
#include "kit/kit_priv.h"

#include "base/log.h"
#include "base/mem.h"
#include "proc/seal.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define LOOK_MS 20        /* between two looks whether handovers are over */
#define SEND_WAIT_MS 1000 /* the new kit reads without a pause */
#define END_WAIT_MS 200   /* from the end of the socket to word of the end of the program, which says more */

enum state {
    IDLE,
    STARTING,  /* the starter was asked */
    MEETING,   /* the program runs, and has not said hello */
    PREPARING, /* it has the kit's own sockets */
    WAITING,   /* it is prepared, and handovers of before have to be over first */
    GIVING,    /* it has everything; nobody is accepted here */
    GOING,     /* it was told to serve */
    DYING,     /* it is killed, and this kit serves on */
    LEFT
};

struct restart {
    struct kit *kit;
    struct io_loop *loop;
    const struct proc_starter *starter;
    const struct restart_ops *ops;
    void *ctx;
    enum state state;
    bool again;        /* asked once more meanwhile */
    bool mute;         /* the starter is gone */
    bool hung_up;      /* the new program has closed the socket */
    unsigned sessions; /* that the new program has taken */
    pid_t pid;         /* of the new program; 0: none runs */
    int fd;            /* to it; -1: none */
    uint64_t begun_ms, paused_ms, until_ms;
    struct io_timer timer;
    struct io_watcher starter_watch, watch;
};

/* ---- ends of an attempt ---- */

static void close_channel(struct restart *r) {
    io_watcher_stop(&r->watch);
    if (r->fd >= 0)
        close(r->fd);
    r->fd = -1;
}

/* The kit accepts and answers again. */
static void serve_on(struct restart *r) {
    struct kit *k = r->kit;
    if (!k->handing)
        return;
    k->handing = false;
    kit_pause(k, false);
    elders_pause(k, false);
    hello_retry(k);
    io_task_add(k->loop, &k->binds_task);
}

static void report(struct restart *r, const char *why) {
    (void)!proc_starter_failed(r->starter, why);
    ht_error("kit", "restart: %s; this program serves on", why);
    r->ops->failed(r->ctx, why);
}

/* The program may still be told to serve, so it must be dead before this one serves on. */
static void kill_it_first(struct restart *r, const char *why) {
    ht_error("kit", "restart: %s; it is killed", why);
    r->state = GOING;
    io_timer_stop(&r->timer);
    close_channel(r);
    (void)!proc_starter_kill(r->starter);
}

static enum ht_metric_restart stage(const struct restart *r) {
    switch (r->state) {
    case STARTING:
        return HT_METRIC_RESTART_NOT_STARTED;
    case MEETING:
    case PREPARING:
        return HT_METRIC_RESTART_NOT_READY;
    case GOING:
        return HT_METRIC_RESTART_NOT_SERVING;
    default:
        return HT_METRIC_RESTART_NOT_TAKEN;
    }
}

static void fail(struct restart *r, const char *why) {
    if (r->state == IDLE || r->state == DYING || r->state == LEFT)
        return;
    if (r->state == GOING && r->pid) {
        kill_it_first(r, why);
        return;
    }
    r->kit->metrics.restarts_total[stage(r)]++;
    event_restart(r->kit, ADMIN_EVENT_TYPE_RESTART_FAILED, NULL, why);
    io_timer_stop(&r->timer);
    close_channel(r);
    if (r->pid)
        (void)!proc_starter_kill(r->starter);
    r->state = r->pid ? DYING : IDLE;
    serve_on(r);
    report(r, why);
}

static void over(struct restart *r) {
    bool again = r->again;
    r->again = false;
    r->state = IDLE;
    if (again && !r->kit->draining)
        restart_ask(r);
}

/* ---- what is handed over ---- */

static void send_own(void *ctx, const char *role, struct io_listener *l) {
    struct restart *r = ctx;
    int fd = io_listener_share(l);
    struct restart_message m = {.type = RESTART_LISTENER, .role = ht_slice_str(role)};
    if (r->fd >= 0 && handoff_send(r->fd, &m, &fd, 1, SEND_WAIT_MS) < 0)
        close_channel(r);
}

/* The kit's own sockets, and those to kits of earlier restarts. */
static void prepare(struct restart *r) {
    unsigned n = 0;
    kit_each_listener(r->kit, send_own, r);
    HT_LIST_FOR (it, &r->kit->elders) {
        struct kit_elder *e = HT_LIST_ENTRY(it, struct kit_elder, node);
        e->number = ++n;
        struct restart_message m = {.type = RESTART_ELDER};
        if (r->fd >= 0 && handoff_send(r->fd, &m, &e->fd, 1, SEND_WAIT_MS) < 0)
            close_channel(r);
    }
    struct restart_message m = {
        .type = RESTART_PREPARE, .format = RESTART_LIMIT_FORMAT, .program = ht_slice_str("hoody-tunnel/" KIT_VERSION)};
    int certificate = kit_tls_seal(r->kit);
    if (r->fd < 0 || handoff_send(r->fd, &m, &certificate, certificate >= 0, SEND_WAIT_MS) < 0)
        fail(r, "the new program does not take the kit's own sockets");
    else
        r->state = PREPARING;
    if (certificate >= 0)
        close(certificate);
}

/* Sockets of bindings, a message full at a time. */
struct sockets {
    int fd, rc;
    int all[RESTART_LIMIT_MAX_SOCKETS];
    size_t n;
};

static void send_sockets(struct sockets *s) {
    struct restart_message m = {.type = RESTART_SOCKETS, .count = (uint32_t)s->n};
    if (s->n && s->rc == HT_OK)
        s->rc = handoff_send(s->fd, &m, s->all, s->n, SEND_WAIT_MS);
    s->n = 0;
}

static void add_socket(void *ctx, const struct relay_kept *kept) {
    struct sockets *s = ctx;
    if (!kept->listener)
        return;
    s->all[s->n++] = io_listener_share(kept->listener);
    if (s->n == HT_ARRAY_LEN(s->all))
        send_sockets(s);
}

static int give_sockets(struct restart *r) {
    struct kit *k = r->kit;
    struct ht_list *lists[] = {&k->live, &k->parked};
    struct sockets s = {.fd = r->fd};
    for (size_t i = 0; i < HT_ARRAY_LEN(lists); i++)
        HT_LIST_FOR (it, lists[i]) {
            struct kit_session *session = HT_LIST_ENTRY(it, struct kit_session, node);
            session->handed = kept_is_written(session);
            relay_each_kept(k->table, &session->owner, add_socket, &s);
        }
    send_sockets(&s);
    return s.rc;
}

/* Whose streams stay where they are (RHAND-7). */
struct pasts {
    int fd, rc;
};

static void send_past(void *ctx, const struct restart_message *m) {
    struct pasts *p = ctx;
    if (p->rc == HT_OK)
        p->rc = handoff_send(p->fd, m, NULL, 0, SEND_WAIT_MS);
}

static int give_pasts(struct restart *r) {
    struct kit *k = r->kit;
    struct ht_list *lists[] = {&k->live, &k->parked};
    struct pasts p = {.fd = r->fd};
    past_each(k, send_past, &p);
    for (size_t i = 0; i < HT_ARRAY_LEN(lists); i++)
        HT_LIST_FOR (it, lists[i]) {
            struct kit_session *s = HT_LIST_ENTRY(it, struct kit_session, node);
            struct restart_message m = {.type = RESTART_PAST, .session = ht_slice_str(s->id)};
            if (s->pass)
                m.token = ht_slice_of(s->pass->digest, sizeof s->pass->digest);
            s->past = leave_keeps(s);
            if (s->past)
                send_past(&p, &m);
        }
    return p.rc;
}

static int give_records(struct restart *r) {
    struct ht_buf text = {0};
    struct ht_errmsg err;
    int rc = kept_write(r->kit, store_seq(r->kit) + 1, &text);
    int fd = rc == HT_OK ? proc_seal("hoody-tunnel-records", ht_buf_slice(&text), &err) : -1;
    ht_buf_free(&text);
    if (fd < 0)
        return rc < 0 ? rc : fd;
    struct restart_message m = {.type = RESTART_TAKE, .count = r->kit->n_live + r->kit->n_parked};
    rc = handoff_send(r->fd, &m, &fd, 1, SEND_WAIT_MS);
    close(fd);
    return rc;
}

/* All of it at one moment (RHAND-3). */
static void give(struct restart *r) {
    r->state = GIVING;
    r->kit->handing = true;
    r->paused_ms = io_now_ms(r->loop);
    kit_pause(r->kit, true);
    elders_pause(r->kit, true);
    int rc = give_sockets(r);
    if (rc == HT_OK)
        rc = give_pasts(r);
    if (rc == HT_OK)
        rc = give_records(r);
    if (rc < 0) {
        char why[160];
        snprintf(why, sizeof why, "the new program does not take the sessions: %s", ht_err_text(rc));
        fail(r, why);
        return;
    }
    io_timer_set(&r->timer, RESTART_LIMIT_TAKE_TIMEOUT);
}

/* A session whose driver is just moving within this kit, or from an older one, would be handed over in the middle. */
static bool moves_on(const struct kit *k) {
    bool moves = k->n_elsewhere > 0;
    HT_LIST_FOR (it, &k->live)
        moves = moves || HT_LIST_ENTRY(it, struct kit_session, node)->state == WIRE_SESSION_RESTARTING;
    return moves;
}

static void give_when_settled(struct restart *r) {
    r->state = WAITING;
    if (moves_on(r->kit) && io_now_ms(r->loop) < r->until_ms) {
        io_timer_set(&r->timer, LOOK_MS);
        return;
    }
    elsewhere_end_all(r->kit);
    give(r);
}

static void go(struct restart *r) {
    uint64_t now = io_now_ms(r->loop);
    struct restart_message m = {
        .type = RESTART_GO,
        .restarts = (uint32_t)r->kit->metrics.restarts_total[HT_METRIC_RESTART_DONE] + 1,
        .took = (uint32_t)ht_min64(now - r->begun_ms, UINT32_MAX),
        .paused = (uint32_t)ht_min64(now - r->paused_ms, UINT32_MAX),
    };
    r->ops->hands_over(r->ctx, r->pid);
    if (handoff_send(r->fd, &m, NULL, 0, SEND_WAIT_MS) < 0) {
        fail(r, "the new program is gone");
        return;
    }
    r->state = GOING;
    io_timer_set(&r->timer, RESTART_LIMIT_TAKE_TIMEOUT);
}

static void left(struct restart *r) {
    uint64_t now = io_now_ms(r->loop);
    io_timer_stop(&r->timer);
    r->state = LEFT;
    ht_info("kit",
            "restart: process %d serves since now, after %" PRIu64 " ms; visitors and HELLOs waited for %" PRIu64
            " ms; this program finishes what is under way",
            (int)r->pid, now - r->begun_ms, now - r->paused_ms);
    if (r->again) {
        struct restart_message m = {.type = RESTART_AGAIN};
        (void)!handoff_send(r->fd, &m, NULL, 0, SEND_WAIT_MS);
    }
    event_restart(r->kit, ADMIN_EVENT_TYPE_RESTARTED,
                  &(struct kit_restarted){r->sessions, 0, now - r->begun_ms, now - r->paused_ms}, NULL);
    r->ops->left(r->ctx, r->pid);
    leave_begin(r->kit, r->fd, r->ops->finished, r->ctx);
}

/* ---- what the new program says ---- */

static void met(struct restart *r, const struct restart_message *m) {
    char why[160];
    if (m->format < RESTART_LIMIT_FORMAT) {
        snprintf(why, sizeof why, "the new program is an older version, which does not understand this one (%.*s)",
                 HT_SLICE_ARG(m->program));
        fail(r, why);
        return;
    }
    ht_info("kit", "restart: process %d is %.*s", (int)r->pid, HT_SLICE_ARG(m->program));
    prepare(r);
}

/* True: the message fits the state. */
static bool hear(struct restart *r, struct handoff_got *got) {
    const struct restart_message *m = &got->m;
    char why[600];
    switch (m->type) {
    case RESTART_REFUSED:
        snprintf(why, sizeof why, "the new program says: %.*s", HT_SLICE_ARG(m->reason));
        if (r->state != LEFT)
            fail(r, why);
        return r->state != LEFT;
    case RESTART_HELLO:
        if (r->state != MEETING)
            return false;
        met(r, m);
        return true;
    case RESTART_PREPARED:
        if (r->state != PREPARING)
            return false;
        r->until_ms = io_now_ms(r->loop) + WIRE_LIMIT_HANDOVER_WAIT;
        give_when_settled(r);
        return true;
    case RESTART_TAKEN:
        if (r->state != GIVING)
            return false;
        r->sessions = m->count;
        go(r);
        return true;
    case RESTART_SERVING:
        if (r->state != GOING)
            return false;
        left(r);
        return true;
    case RESTART_MINE:
        if (r->state != LEFT)
            return false;
        leave_mine(r->kit, m->session);
        return true;
    case RESTART_HAND:
        if (r->state != LEFT)
            return false;
        leave_take(r->kit, got);
        return true;
    case RESTART_END:
        if (r->state != LEFT)
            return false;
        r->ops->end(r->ctx, "the service ends");
        return true;
    default:
        return false;
    }
}

static int hear_all(struct restart *r) {
    struct handoff_got *got = ht_malloc(sizeof *got);
    int rc = got ? HT_OK : HT_ENOMEM;
    while (rc == HT_OK && r->fd >= 0) {
        rc = handoff_receive(r->fd, RESTART_ROLE_CLIENT, got, 0);
        if (rc == HT_OK && !hear(r, got))
            rc = HT_EPROTO;
        if (rc == HT_OK)
            handoff_drop(got);
    }
    ht_free(got);
    return rc;
}

static void read_channel(struct restart *r) {
    int rc = hear_all(r);
    if (rc == HT_OK || rc == HT_EAGAIN || rc == HT_ENOMEM || r->fd < 0)
        return;
    if (r->state == LEFT) {
        ht_warn("kit", "restart: the kit that has taken over is gone");
        r->kit->heir = -1; /* nobody is told any more */
        io_watcher_stop(&r->watch);
    } else if (rc == HT_EPROTO) {
        fail(r, "the new program says what nobody understands");
    } else {
        io_watcher_stop(&r->watch);
        r->hung_up = true;
        io_timer_set(&r->timer, END_WAIT_MS);
    }
}

static void on_channel(struct io_watcher *w) { read_channel(ht_container_of(w, struct restart, watch)); }

/* ---- what the starter says ---- */

static void ended(struct restart *r, const struct proc_starter_event *e) {
    char why[320];
    if (e->pid != r->pid)
        return;
    if (r->fd >= 0 && r->state != LEFT)
        (void)hear_all(r); /* it may have said why */
    r->pid = 0;
    switch (r->state) {
    case DYING:
        over(r);
        break;
    case LEFT:
        ht_warn("kit", "restart: the kit that has taken over, process %d, %s", (int)e->pid, e->text);
        break;
    default:
        snprintf(why, sizeof why, "the new program %s before it served", e->text);
        fail(r, why);
        over(r);
        break;
    }
}

static void started(struct restart *r, const struct proc_starter_event *e) {
    if (r->state != STARTING) { /* given up meanwhile */
        close(e->fd);
        r->pid = e->pid;
        (void)!proc_starter_kill(r->starter);
        return;
    }
    r->pid = e->pid;
    r->fd = e->fd;
    r->hung_up = false;
    r->state = MEETING;
    io_watcher_start(r->loop, &r->watch, r->fd, on_channel);
}

static void starter_gone(struct restart *r) {
    io_watcher_stop(&r->starter_watch);
    r->mute = true;
    if (r->starter->parent) {
        r->ops->end(r->ctx, "its parent is gone");
        return;
    }
    ht_warn("kit", "the process that starts the kit anew is gone: there are no restarts until the next start");
    r->pid = 0;
    fail(r, "the process that starts the kit anew is gone");
    if (r->state == DYING)
        r->state = IDLE;
}

static void on_starter(struct io_watcher *w) {
    struct restart *r = ht_container_of(w, struct restart, starter_watch);
    struct proc_starter_event e;
    int rc;
    while ((rc = proc_starter_next(r->starter, &e)) == HT_OK)
        switch (e.said) {
        case PROC_STARTED:
            started(r, &e);
            break;
        case PROC_NOT_STARTED:
            if (r->state == STARTING)
                fail(r, e.text);
            over(r);
            break;
        case PROC_ENDED:
            ended(r, &e);
            break;
        case PROC_WARNING:
            ht_warn("kit", "%s", e.text);
            break;
        }
    if (rc != HT_EAGAIN)
        starter_gone(r);
}

/* ---- the rest ---- */

static void timer_fired(struct io_timer *t) {
    struct restart *r = ht_container_of(t, struct restart, timer);
    if (r->hung_up)
        fail(r, "the new program has hung up");
    else if (r->state == WAITING)
        give_when_settled(r);
    else if (r->state == GIVING || r->state == GOING)
        fail(r, "the new program did not take over in time");
    else
        fail(r, "the new program was not ready in time (--restart-timeout)");
}

struct restart *restart_create(struct kit *k, struct io_loop *loop, const struct proc_starter *starter,
                               const struct restart_ops *ops, void *ctx) {
    struct restart *r = ht_calloc(1, sizeof *r);
    if (!r)
        return NULL;
    *r = (struct restart){.kit = k, .loop = loop, .starter = starter, .ops = ops, .ctx = ctx, .fd = -1};
    io_timer_init(loop, &r->timer, timer_fired);
    k->restart = r;
    if (starter->fd >= 0)
        io_watcher_start(loop, &r->starter_watch, starter->fd, on_starter);
    else
        r->mute = true;
    return r;
}

void restart_destroy(struct restart **rp) {
    struct restart *r = *rp;
    *rp = NULL;
    if (!r)
        return;
    r->kit->restart = NULL;
    io_timer_stop(&r->timer);
    io_watcher_stop(&r->starter_watch);
    close_channel(r);
    ht_free(r);
}

pid_t restart_heir(const struct restart *r) { return r->state == LEFT ? r->pid : 0; }

void restart_ask(struct restart *r) {
    if (r->state == LEFT) {
        ht_warn("kit", "SIGUSR2: this program has handed over to process %d, which is the one to ask", (int)r->pid);
        return;
    }
    if (r->kit->draining) {
        ht_warn("kit", "SIGUSR2: not while the kit drains");
        return;
    }
    if (r->state != IDLE) {
        ht_info("kit", "SIGUSR2: a restart is under way; another one follows");
        r->again = true;
        return;
    }
    r->begun_ms = io_now_ms(r->loop);
    r->state = STARTING;
    ht_info("kit", "SIGUSR2: the program is started anew");
    r->ops->begins(r->ctx);
    event_restart(r->kit, ADMIN_EVENT_TYPE_RESTART_BEGUN, NULL, NULL);
    if (r->mute || proc_starter_start(r->starter) < 0) {
        fail(r, "there is no process that could start it (see the log of the start)");
        return;
    }
    io_timer_set(&r->timer, r->kit->opt->restart_timeout_ms);
}

void restart_service_ends(struct restart *r) {
    r->again = false;
    fail(r, "the service ends");
    elders_end(r->kit);
}
