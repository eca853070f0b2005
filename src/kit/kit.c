/* The daemon as a whole: makes its parts and connects them, reads tokens again, drains, and ends. */
#include "kit/bounds.h"
#include "kit/kit_priv.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "proc/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Descriptors that visitors never get: the base listener and its HTTP clients, the log, epoll, and a few to spare. */
#define FD_RESERVE 96

/* ---- the end of a turn ---- */

static void reap_socks(struct kit *k) {
    struct ht_list *n;
    while ((n = ht_list_pop_front(&k->dead_socks)))
        sock_free(HT_LIST_ENTRY(n, struct kit_sock, node));
}

static void reap_sessions(struct kit *k) {
    struct ht_list *n;
    while ((n = ht_list_pop_front(&k->dead_sessions)))
        session_free(HT_LIST_ENTRY(n, struct kit_session, node));
}

static void drain_over(struct kit *k) {
    void (*done)(void *) = k->drained;
    if (!done)
        return;
    k->drained = NULL;
    io_timer_stop(&k->drain_timer);
    done(k->drained_ctx);
}

static void reap(struct io_task *t) {
    struct kit *k = ht_container_of(t, struct kit, reap);
    reap_socks(k);
    bool all_over = k->n_live + k->n_closing + k->n_parked + k->n_socks + k->n_spliced == 0;
    /* During a drain sessions that have ended keep their ports, which answer 503. A closed port would look like a
     * crash.
     */
    if (!k->draining || all_over)
        reap_sessions(k);
    if (k->leaving)
        leave_if_over(k);
    if (!k->draining || !all_over || (k->connect && relay_connect_clients(k->connect)))
        return;
    way_out_close(k);
    public_close(k);
    if (k->listener) {
        io_listener_close(&k->listener);
        base_clients_close(k, BASE_CLOSE_FINISHED);
    }
    if (k->clients.n == 0)
        drain_over(k);
}

void kit_reap_later(struct kit *k) { io_task_add(k->loop, &k->reap); }

static bool anybody(const struct kit_session *s) { return s != NULL; }

static bool pass_gone(const struct kit_session *s) { return kit_pass_gone(s->pass); }

/* Shuts down every session for which which() is true: GOAWAY, and `grace_ms` for open streams. */
static void shut_down_all(struct kit *k, bool (*which)(const struct kit_session *s), uint16_t code, const char *message,
                          uint64_t grace_ms, uint16_t ws_code) {
    /* session_shutdown() moves a session to the end of kit.live, so the loop works on a list of its own. */
    struct ht_list all;
    ht_list_init(&all);
    ht_list_splice(&all, &k->live);
    while (!ht_list_empty(&all)) {
        struct kit_session *s = HT_LIST_ENTRY(all.next, struct kit_session, node);
        if (which(s) && (s->state == WIRE_SESSION_LIVE || s->state == WIRE_SESSION_RESTARTING)) {
            session_shutdown(s, code, message, grace_ms, ws_code);
        } else {
            ht_list_remove(&s->node);
            ht_list_push_back(&k->live, &s->node);
        }
    }
}

/* ---- start-up ---- */

static bool all_space(const char *s) { return s[strspn(s, " \t\r\n")] == '\0'; }

/* The first line of --token-file, else HOODY_TUNNEL_TOKEN. */
static int load_token(struct kit *k, bool *changed, struct ht_errmsg *err) {
    const char *file = k->opt->token_file;
    uint8_t digest[KIT_DIGEST];
    *changed = false;
    char text[WIRE_LIMIT_MAX_TOKEN + 2];
    size_t n = 0;
    if (!file) {
        if (!k->opt->token)
            return 0;
        n = strlen(k->opt->token);
        if (n > WIRE_LIMIT_MAX_TOKEN)
            return ht_fail(err, HT_EINVAL, "the token is longer than %u bytes", WIRE_LIMIT_MAX_TOKEN);
        memcpy(text, k->opt->token, n + 1);
    } else {
        int fd = proc_files_open(PROC_FILES_TOKEN, file, k->opt->user, err);
        if (fd < 0)
            return fd;
        ssize_t got = 0;
        while (n < sizeof text - 1 && (got = read(fd, text + n, sizeof text - 1 - n)) > 0)
            n += (size_t)got;
        int e = errno;
        close(fd);
        if (got < 0) /* a part of the token may have been read: it is another token */
            return ht_fail(err, HT_EIO, "token file %s: %s", file, strerror(e));
        size_t line = 0;
        while (line < n && text[line] != '\r' && text[line] != '\n')
            line++;
        if (memchr(text, '\0', line)) /* a text function would take the part before it for the token */
            return ht_fail(err, HT_EINVAL, "token file %s: its first line holds a NUL byte", file);
        n = line;
        text[n] = '\0';
        if (n == 0)
            return ht_fail(err, HT_EINVAL, "token file %s: its first line is empty", file);
        if (n > WIRE_LIMIT_MAX_TOKEN)
            return ht_fail(err, HT_EINVAL, "token file %s: the token is longer than %u bytes", file,
                           WIRE_LIMIT_MAX_TOKEN);
    }
    if (all_space(text))
        return ht_fail(err, HT_EINVAL, "the token is blank");
    kit_token_digest(ht_slice_of(text, n), digest);
    explicit_bzero(text, sizeof text);
    int rc = users_set_token(k, digest, changed);
    return rc < 0 ? ht_fail(err, rc, "out of memory") : rc;
}

/* Reads who may come: the users of --users, whoever has the token, or anybody. */
static int load_users(struct kit *k, struct ht_errmsg *err) {
    const struct opt_serve *o = k->opt;
    bool changed;
    if (!o->users)
        return load_token(k, &changed, err);
    if (o->token_file || o->token)
        return ht_fail(err, HT_EINVAL,
                       "--users and %s both say who may come; keep one: the token's user may be an admin of the file",
                       o->token_file ? "--token-file" : "HOODY_TUNNEL_TOKEN");
    return users_load(k, &changed, err);
}

/* Ends everything that was opened with a token that is no longer valid. */
static void end_what_it_opened(struct kit *k) {
    base_readers_of_gone(k);
    way_out_tokens_changed(k);
    HT_LIST_FOR_SAFE (it, &k->socks) {
        struct kit_sock *s = HT_LIST_ENTRY(it, struct kit_sock, node);
        if (!s->session && (kit_pass_gone(s->pass) || kit_pass_gone(hello_held_pass(s))))
            sock_drop(s);
    }
    HT_LIST_FOR_SAFE (it, &k->parked) {
        struct kit_session *s = HT_LIST_ENTRY(it, struct kit_session, node);
        if (kit_pass_gone(s->pass))
            session_gone(s, "its token is no longer valid");
    }
    shut_down_all(k, pass_gone, WIRE_GOAWAY_AUTH_CODE, WIRE_GOAWAY_AUTH_MESSAGE, 0, WIRE_GOAWAY_AUTH_CLOSE);
}

int kit_reload_token(struct kit *k, struct ht_errmsg *err) {
    bool changed = false;
    if (!k->opt->token_file && !k->opt->users)
        return KIT_TOKEN_NO_FILE;
    int rc = k->opt->users ? users_load(k, &changed, err) : load_token(k, &changed, err);
    if (changed)
        end_what_it_opened(k);
    if (rc < 0)
        return rc;
    if (k->opt->users)
        return changed ? KIT_USERS_CHANGED : KIT_USERS_SAME;
    return changed ? KIT_TOKEN_CHANGED : KIT_TOKEN_SAME;
}

/* Whoever reaches the base listener can open ports on this machine. Without protection only loopback is safe. */
int kit_check_address(const struct kit *k, const struct io_addr *a, const char *text, struct ht_errmsg *err) {
    const struct opt_serve *o = k->opt;
    if (io_addr_is_loopback(a) || k->has_token || o->n_trusted_proxy || o->insecure_listen)
        return 0;
    return ht_fail(
        err, HT_EACCESS,
        "%s is not a loopback address: set a token (--token-file or HOODY_TUNNEL_TOKEN), --users, --trusted-proxy, or "
        "--insecure-listen to let anybody open ports here",
        text);
}

static int open_listener(struct kit *k, struct ht_errmsg *err) {
    const struct opt_addr *l = &k->opt->listen;
    const char *host = strcmp(l->host, "localhost") == 0 || !l->host[0] ? "127.0.0.1" : l->host;
    if (io_addr_parse(&k->listen_addr, host, l->port) < 0)
        return ht_fail(err, HT_EINVAL, "--listen %s: give a numeric address, such as 127.0.0.1:50", l->text);
    io_inherited_port(k->loop, "listen", &k->listen_addr);
    int rc = kit_check_address(k, &k->listen_addr, l->text, err);
    if (rc < 0)
        return rc;
    struct ht_errmsg why = {""};
    rc = io_listen(k->loop, &k->listen_addr, &base_listener_ops, k, &k->listener, &why);
    if (rc < 0)
        return ht_fail(err, rc, "%s", why.text[0] ? why.text : ht_err_text(rc));
    io_listener_local(k->listener, &k->listen_addr);
    return 0;
}

/* Divides the descriptors of the process: a reserve for drivers and the kit itself, the rest for visitors. */
static void budget_descriptors(struct kit *k) {
    const struct opt_serve *o = k->opt;
    unsigned limit = io_raise_fd_limit();
    unsigned reserve = FD_RESERVE + RELAY_REFUSED + SHOWN_KINDS * o->max_pre_auth_connections +
                       o->max_sessions * o->max_connections + 2 * kit_bound_spliced(o);
    /* Even if the process may have very few descriptors, visitors get half of them. */
    if (reserve > limit / 2)
        reserve = limit / 2;
    k->fds.total = limit - reserve;
    if (o->max_fds && o->max_fds < k->fds.total)
        k->fds.total = o->max_fds;
}

/* Fills kit.reserved with each port of --reserved-ports, and the port of the base listener. */
static int reserve_ports(struct kit *k, size_t *n) {
    const struct opt_serve *o = k->opt;
    size_t count = 1;
    for (size_t i = 0; i < o->n_reserved_ports; i++)
        count += (size_t)(o->reserved_ports[i].last - o->reserved_ports[i].first) + 1;
    k->reserved = ht_malloc(count * sizeof *k->reserved);
    if (!k->reserved)
        return HT_ENOMEM;
    size_t at = 0;
    k->reserved[at++] = io_addr_port(&k->listen_addr);
    for (size_t i = 0; i < o->n_reserved_ports; i++)
        for (unsigned p = o->reserved_ports[i].first; p <= o->reserved_ports[i].last; p++)
            k->reserved[at++] = (uint16_t)p;
    *n = at;
    return 0;
}

static int open_table(struct kit *k, struct ht_errmsg *err) {
    const struct opt_serve *o = k->opt;
    size_t n_reserved = 0;
    if (reserve_ports(k, &n_reserved) < 0)
        return ht_fail(err, HT_ENOMEM, "out of memory");
    struct relay_kit_config cfg = {
        .loop = k->loop,
        .fds = &k->fds,
        .metrics = &k->metrics,
        .head_limits = {WIRE_LIMIT_MAX_HEAD, WIRE_LIMIT_MAX_HEADERS, WIRE_LIMIT_MAX_TARGET},
        .head_timeout_ms = o->head_timeout_ms,
        .keepalive_timeout_ms = o->keepalive_timeout_ms,
        .response_timeout_ms = o->response_timeout_ms,
        .half_close_timeout_ms = o->half_close_timeout_ms,
        .send_timeout_ms = o->send_timeout_ms,
        .hold_ms = o->hold_ms,
        .body_grace_ms = WIRE_LIMIT_BODY_GRACE,
        .min_body_rate = (uint32_t)o->min_body_rate,
        .max_bindings_per_session = o->max_bindings_per_session,
        .max_names_per_session = o->max_names_per_session,
        .allow_privileged_expose = o->allow_privileged_expose,
        .allow_privileged_pull = o->allow_privileged_pull,
        .no_ports = !o->ports,
        .reserved_ports = k->reserved,
        .n_reserved_ports = n_reserved,
        .public_url_pattern = public_pattern(o) ? NULL : o->public_url_pattern,
    };
    io_outgoing_ports(&cfg.outgoing_first, &cfg.outgoing_last);
    if (io_addr_parse(&cfg.expose_address, o->expose_address, 0) < 0)
        return ht_fail(err, HT_EINVAL, "--expose-address %s: give a numeric address", o->expose_address);
    k->table = relay_table_create(&cfg);
    return k->table ? 0 : ht_fail(err, HT_ENOMEM, "out of memory");
}

static void drain_late(struct io_timer *t);

/* While the machine slept, drivers may have gone away unnoticed. */
static void woke(struct io_wake *w) {
    struct kit *k = ht_container_of(w, struct kit, sleep);
    ht_info("kit", "the machine was asleep, or its clock was set: asking whether the drivers are still there");
    HT_LIST_FOR (it, &k->live) {
        struct kit_session *s = HT_LIST_ENTRY(it, struct kit_session, node);
        if (s->owner.mux)
            mux_session_probe(s->owner.mux, ht_now_us(), 0);
        session_touch(s);
    }
}

/* Runs at the end of the first turn: by then the program has opened all descriptors that it keeps. */
static void count_other_fds(struct io_task *t) {
    struct kit *k = ht_container_of(t, struct kit, count_task);
    int all = io_count_fds();
    k->other_fds = all < 0 ? -1 : all - (int)io_loop_fds(k->loop);
}

static void set_up(struct kit *k, struct io_loop *loop, const struct opt_serve *opt) {
    k->loop = loop;
    k->opt = opt;
    k->metrics.build_info = KIT_VERSION;
    users_set_up(k);
    base_set_up(k);
    for (int i = 0; i < SHOWN_KINDS; i++)
        crowd_init(&k->strangers[i]);
    ht_list_init(&k->socks);
    ht_list_init(&k->held);
    ht_list_init(&k->live);
    ht_list_init(&k->parked);
    ht_list_init(&k->dead_socks);
    ht_list_init(&k->dead_sessions);
    crowd_init(&k->readers);
    ht_list_init(&k->publics);
    crowd_init(&k->guests);
    ht_list_init(&k->redirected);
    ht_list_init(&k->proxied);
    ht_list_init(&k->elders);
    ht_list_init(&k->pasts);
    ht_list_init(&k->spliced);
    io_task_init(&k->hand_task, past_hand_all);
    io_timer_init(loop, &k->late_timer, kept_retry);
    io_timer_init(loop, &k->leave_timer, leave_look);
    io_timer_init(loop, &k->elsewhere_timer, elsewhere_fired);
    io_task_init(&k->events_task, events_flush);
    io_task_init(&k->binds_task, binds_retry);
    io_task_init(&k->reap, reap);
    io_task_init(&k->count_task, count_other_fds);
    io_timer_init(loop, &k->drain_timer, drain_late);
    status_set_up(k);
    io_wake_start(loop, &k->sleep, woke);
}

struct kit *kit_create(struct io_loop *loop, const struct opt_serve *opt, struct ht_errmsg *err) {
    return kit_create_after(loop, opt, -1, err);
}

struct kit *kit_create_after(struct io_loop *loop, const struct opt_serve *opt, int certificate,
                             struct ht_errmsg *err) {
    struct kit *k = ht_calloc(1, sizeof *k);
    if (!k) {
        ht_fail(err, HT_ENOMEM, "out of memory");
        return NULL;
    }
    set_up(k, loop, opt);
    budget_descriptors(k);
    int rc = kit_check_replay(opt, err);
    if (rc == 0)
        rc = load_users(k, err);
    if (rc == 0)
        rc = open_listener(k, err);
    if (rc == 0)
        rc = kit_tls_open(k, certificate, err);
    if (rc == 0)
        rc = open_table(k, err);
    if (rc == 0)
        rc = public_open(k, err);
    if (rc == 0)
        rc = way_out_open(k, err);
    if (rc < 0) {
        kit_destroy(&k);
        return NULL;
    }
    struct admin_source source;
    char text[IO_ADDR_TEXT];
    count_other_fds(&k->count_task);
    io_task_add(loop, &k->count_task);
    kit_admin_source(k, &source);
    admin_init(&k->admin, &source, io_addr_host(&k->listen_addr, text));
    ht_info("kit", "listening on %s://%s", k->tls ? "https" : "http", io_addr_text(&k->listen_addr, text));
    ht_debug("kit", "%u descriptors for visitors", k->fds.total);
    return k;
}

/* ---- the end ---- */

static void end_sessions(struct ht_list *list) {
    while (!ht_list_empty(list)) /* one session may take others of the list with it (handover_forget) */
        session_gone(HT_LIST_ENTRY(list->next, struct kit_session, node), "the kit ends");
}

static void drop_all_socks(struct kit *k) {
    HT_LIST_FOR_SAFE (it, &k->socks)
        sock_drop(HT_LIST_ENTRY(it, struct kit_sock, node));
}

void kit_destroy(struct kit **kp) {
    struct kit *k = *kp;
    if (!k)
        return;
    *kp = NULL;
    k->drained = k->left = NULL;
    k->leaving = false; /* the end of its sessions is not theirs */
    store_close(k);
    elders_close(k);
    past_forget(k, NULL);
    past_cut(k);
    io_timer_stop(&k->drain_timer);
    io_timer_stop(&k->late_timer);
    io_timer_stop(&k->leave_timer);
    io_timer_stop(&k->elsewhere_timer);
    io_wake_stop(&k->sleep);
    io_listener_close(&k->listener);
    proxied_cancel(k, k);
    base_clients_close(k, BASE_CLOSE_ALL);
    drop_all_socks(k);
    end_sessions(&k->live);
    end_sessions(&k->parked);
    reap_socks(k);
    reap_sessions(k);
    io_task_cancel(&k->reap);
    io_task_cancel(&k->hand_task);
    io_task_cancel(&k->count_task);
    io_task_cancel(&k->events_task);
    io_task_cancel(&k->binds_task);
    status_end(k);
    admin_free(&k->admin);
    way_out_close(k);
    public_close(k);
    relay_table_destroy(&k->table);
    kit_tls_close(k);
    ht_free(k->reserved);
    ht_buf_free(&k->left_out);
    users_tear_down(k);
    ht_free(k);
}

/* --drain-timeout is over: cuts the sessions and WebSockets that are left. */
static void drain_late(struct io_timer *t) {
    struct kit *k = ht_container_of(t, struct kit, drain_timer);
    io_listener_close(&k->listener);
    ht_warn("kit", "the drain took too long: %u sessions and %u WebSockets are cut", k->n_live + k->n_closing,
            k->n_socks);
    base_clients_close(k, BASE_CLOSE_ALL);
    if (k->connect)
        relay_connect_cut(k->connect, NULL, "the kit ends");
    end_sessions(&k->live);
    drop_all_socks(k);
    past_cut(k);
    kit_reap_later(k);
}

void kit_drain(struct kit *k, void (*done)(void *ctx), void *ctx) {
    if (k->draining)
        return;
    store_flush(k, true);
    k->draining = true;
    k->drained = done;
    k->drained_ctx = ctx;
    relay_table_drain(k->table);
    if (k->connect)
        relay_connect_drain(k->connect);
    public_drain(k);
    base_clients_close(k, BASE_CLOSE_QUIET);
    end_sessions(&k->parked);
    HT_LIST_FOR_SAFE (it, &k->socks) {
        struct kit_sock *s = HT_LIST_ENTRY(it, struct kit_sock, node);
        if (!s->session)
            sock_close(s, WIRE_GOAWAY_SHUTDOWN_CLOSE, WIRE_GOAWAY_SHUTDOWN_MESSAGE);
    }
    shut_down_all(k, anybody, WIRE_GOAWAY_SHUTDOWN_CODE, WIRE_GOAWAY_SHUTDOWN_MESSAGE, k->opt->drain_timeout_ms,
                  WIRE_GOAWAY_SHUTDOWN_CLOSE);
    io_timer_set(&k->drain_timer, k->opt->drain_timeout_ms + KIT_CLOSE_ALLOWANCE_MS);
    kit_reap_later(k);
}

/* ---- all listeners ---- */

void kit_each_listener(struct kit *k, void (*each)(void *ctx, const char *role, struct io_listener *l), void *ctx) {
    if (k->listener)
        each(ctx, "listen", k->listener);
    public_each_listener(k, each, ctx);
    if (k->connect && relay_connect_listener(k->connect))
        each(ctx, "proxy", relay_connect_listener(k->connect));
}

static void pause_one(void *ctx, const char *role, struct io_listener *l) {
    (void)role;
    io_listener_pause(l, *(const bool *)ctx);
}

void kit_pause(struct kit *k, bool pause) {
    struct ht_list *lists[] = {&k->live, &k->parked};
    kit_each_listener(k, pause_one, &pause);
    for (size_t i = 0; i < HT_ARRAY_LEN(lists); i++)
        HT_LIST_FOR (it, lists[i])
            relay_owner_pause(&HT_LIST_ENTRY(it, struct kit_session, node)->owner, pause);
}

void kit_close_listeners(struct kit *k) {
    io_listener_close(&k->listener);
    public_close_listeners(k);
    if (k->connect)
        relay_connect_let_go(k->connect);
}

/* ---- accessors ---- */

void kit_status(const struct kit *k, char out[KIT_STATUS_TEXT]) {
    char at[IO_ADDR_TEXT];
    snprintf(out, KIT_STATUS_TEXT, "%s %s: %u sessions, %u parked, %u streams, %u visitors",
             k->draining ? "draining" : "listening on", io_addr_text(&k->listen_addr, at), kit_sessions_live(k),
             k->n_parked, kit_streams(k), kit_visitors(k));
}

void kit_listen_addr(const struct kit *k, struct io_addr *out) { *out = k->listen_addr; }
unsigned kit_sessions_live(const struct kit *k) { return k->n_live + k->n_closing; }
unsigned kit_sessions_parked(const struct kit *k) { return k->n_parked; }
unsigned kit_websockets(const struct kit *k) { return k->n_socks; }
unsigned kit_websockets_pre_auth(const struct kit *k) {
    return k->strangers[SHOWN_NOTHING].n + k->strangers[SHOWN_TOKEN].n;
}
unsigned kit_http_clients(const struct kit *k) { return k->clients.n; }
unsigned kit_visitors(const struct kit *k) { return relay_count_visitors(k->table); }
unsigned kit_fd_permits_used(const struct kit *k) { return k->fds.used; }
bool kit_counts_seconds(const struct kit *k) { return k->ticking; }
struct ht_metrics *kit_metrics(struct kit *k) {
    return &k->metrics;
}

unsigned kit_streams(const struct kit *k) {
    const struct ht_list *lists[] = {&k->live, &k->parked};
    unsigned n = 0;
    for (size_t i = 0; i < HT_ARRAY_LEN(lists); i++) {
        HT_LIST_FOR (it, lists[i]) {
            const struct kit_session *s = HT_LIST_ENTRY(it, struct kit_session, node);
            if (s->owner.mux)
                n += mux_session_streams(s->owner.mux);
        }
    }
    return n;
}
