#include "driver/driver.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "options_gen.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

static _Thread_local struct ht_errmsg last_error;

/* ---- errors and texts ---- */

const char *ht_version(void) { return HT_VERSION; }

const char *ht_strerror(int error) {
    switch (error) {
    case HT_TUNNEL_OK:
        return "no error";
    case HT_TUNNEL_STOPPED:
        return "stopped";
#define ERROR_CASE(name, value, text)                                                                                  \
    case name:                                                                                                         \
        return text;
        HT_TUNNEL_ERRORS(ERROR_CASE)
#undef ERROR_CASE
    default:
        return "unknown error";
    }
}

int ht_exit_status(int error) {
    switch (error) {
    case HT_TUNNEL_OK:
    case HT_TUNNEL_STOPPED:
        return OPT_EXIT_OK;
    case HT_TUNNEL_EINVAL:
    case HT_TUNNEL_EURL:
        return OPT_EXIT_USAGE;
    case HT_TUNNEL_ETLS:
    case HT_TUNNEL_EINSPECT:
        return OPT_EXIT_CONFIG;
    case HT_TUNNEL_EAUTH:
        return OPT_EXIT_AUTH;
    case HT_TUNNEL_EBIND:
        return OPT_EXIT_BIND;
    case HT_TUNNEL_ECONNECT:
    case HT_TUNNEL_EHANDSHAKE:
    case HT_TUNNEL_ELIMIT:
    case HT_TUNNEL_ELOST:
    case HT_TUNNEL_EGOAWAY:
        return OPT_EXIT_GAVE_UP;
    case HT_TUNNEL_EREVOKED:
        return OPT_EXIT_REVOKED;
    default:
        return OPT_EXIT_FAILURE;
    }
}

const char *ht_tunnel_last_error(void) { return last_error.text; }

void driver_say(struct ht_tunnel *t, enum ht_log_severity severity, const char *fmt, ...) {
    char raw[512], text[1024];
    va_list ap;
    if (!t->calls.log)
        return;
    va_start(ap, fmt);
    vsnprintf(raw, sizeof raw, fmt, ap);
    va_end(ap);
    t->calls.log(t->user, severity, ht_text_clean(ht_slice_str(raw), text, sizeof text));
}

void driver_end_reason(struct ht_tunnel *t, int error, const char *fmt, ...) {
    char raw[sizeof t->end_text];
    va_list ap;
    if (t->end_known)
        return;
    t->end_known = true;
    t->end_error = error;
    va_start(ap, fmt);
    vsnprintf(raw, sizeof raw, fmt, ap);
    va_end(ap);
    ht_text_clean(ht_slice_str(raw), t->end_text, sizeof t->end_text);
}

/* ---- the state ---- */

void driver_set_state(struct ht_tunnel *t, enum driver_state to) {
#define TO(state) (1u << DRIVER_##state)
    static const unsigned transitions[] = {
        [DRIVER_NEW] = TO(CONNECTING) | TO(ENDED),
        [DRIVER_CONNECTING] = TO(CONNECTING) | TO(HELLO) | TO(DOWN) | TO(ENDED),
        [DRIVER_HELLO] = TO(UP) | TO(DOWN) | TO(CLOSING) | TO(ENDED),
        [DRIVER_UP] = TO(UP) | TO(DOWN) | TO(CLOSING) | TO(ENDED), /* UP again: the next session took over */
        [DRIVER_DOWN] = TO(DOWN) | TO(WAITING) | TO(CLOSING) | TO(ENDED),
        [DRIVER_WAITING] = TO(CONNECTING) | TO(ENDED),
        [DRIVER_CLOSING] = TO(CLOSING) | TO(DOWN) | TO(ENDED),
        [DRIVER_ENDED] = 0,
    };
#undef TO
    assert(transitions[t->state] & 1u << to);
    t->state = to;
    driver_inspect_link_changed(t);
}

/* ---- the end ---- */

static void end_task(struct io_task *task) {
    struct ht_tunnel *t = ht_container_of(task, struct ht_tunnel, end);
    if (t->state == DRIVER_DOWN) {
        driver_retry_begin(t);
        return;
    }
    driver_network_stop(t);
    driver_link_destroy(t);
    driver_past_destroy(t);
    driver_bind_destroy_all(t);
    if (t->told_up && t->end_error != HT_TUNNEL_OK && t->calls.disconnected)
        t->calls.disconnected(t->user, &(struct ht_disconnected){.error = t->end_error, .text = t->end_text});
    if (t->calls.ended)
        t->calls.ended(t->user, t->end_error, t->end_text);
    io_loop_break(t->loop);
}

void driver_end(struct ht_tunnel *t) {
    if (t->state == DRIVER_ENDED)
        return;
    driver_set_state(t, driver_retry_wanted(t) ? DRIVER_DOWN : DRIVER_ENDED);
    io_task_add(t->loop, &t->end);
}

/* ---- making one ---- */

static void wake_readable(void *ctx) {
    struct ht_tunnel *t = ctx;
    char drop[64];
    while (io_conn_read(t->wake, drop, sizeof drop) > 0)
        continue;
    driver_thread_calls(t);
    if (atomic_exchange(&t->retry_asked, false))
        driver_retry_now(t);
    if (atomic_exchange(&t->reload_asked, false))
        driver_gate_reload(t);
    if (atomic_exchange(&t->stop_asked, false)) {
        t->stopped = true;
        io_loop_break(t->loop);
    }
}

static const struct io_conn_ops wake_ops = {.readable = wake_readable};

static int make_wake(struct ht_tunnel *t, struct ht_errmsg *err) {
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
        return ht_fail(err, HT_TUNNEL_ENOMEM, "no file descriptors are left: %s", strerror(errno));
    t->wake_fd = fds[1];
    t->wake = io_conn_adopt(t->loop, fds[0], &wake_ops, t);
    if (!t->wake)
        return ht_fail(err, HT_TUNNEL_ENOMEM, "out of memory");
    io_conn_read_on(t->wake, true);
    return HT_TUNNEL_OK;
}

/* Copies as much of a caller's structure as it has, and leaves the rest zero. */
static bool copy_sized(void *to, size_t size, const void *from, size_t from_size) {
    memset(to, 0, size);
    if (from_size < sizeof(size_t))
        return false;
    memcpy(to, from, ht_min(size, from_size));
    return true;
}

static int make_loop(struct ht_tunnel *t, struct ht_errmsg *err) {
    if (!t->loop) {
        t->loop = io_loop_create();
        t->own_loop = true;
    }
    if (!t->loop)
        return ht_fail(err, HT_TUNNEL_ENOMEM, "the event loop could not be made: out of memory or of file descriptors");
    return make_wake(t, err);
}

int driver_create_on(struct io_loop *loop, struct ht_tunnel **out, const struct ht_tunnel_options *options,
                     const struct ht_tunnel_callbacks *calls, void *user) {
    struct ht_tunnel_options o;
    *out = NULL;
    last_error.text[0] = '\0';
    struct ht_tunnel *t = ht_calloc(1, sizeof *t);
    if (!t)
        return ht_fail(&last_error, HT_TUNNEL_ENOMEM, "out of memory");
    t->loop = loop;
    t->wake_fd = -1;
    t->user = user;
    ht_list_init(&t->bindings);
    ht_list_init(&t->target_tls);
    ht_list_init(&t->past);
    t->now = driver_session_new(t);
    int rc = t->now ? HT_TUNNEL_OK : ht_fail(&last_error, HT_TUNNEL_ENOMEM, "out of memory");
    if (rc == HT_TUNNEL_OK && (!options || !copy_sized(&o, sizeof o, options, options->size) ||
                               (calls && !copy_sized(&t->calls, sizeof t->calls, calls, calls->size))))
        rc = ht_fail(&last_error, HT_TUNNEL_EINVAL, "the field `size` of a structure is not set; set it with sizeof");
    if (rc == HT_TUNNEL_OK)
        rc = driver_options_set(t, &o, &last_error);
    if (rc == HT_TUNNEL_OK)
        rc = make_loop(t, &last_error);
    if (rc == HT_TUNNEL_OK)
        io_task_init(&t->end, end_task);
    if (rc == HT_TUNNEL_OK)
        rc = driver_inspect_start(t, &o, &last_error);
    if (rc != HT_TUNNEL_OK)
        ht_tunnel_destroy(&t);
    *out = t;
    return rc;
}

int ht_tunnel_create(struct ht_tunnel **out, const struct ht_tunnel_options *options,
                     const struct ht_tunnel_callbacks *calls, void *user) {
    return driver_create_on(NULL, out, options, calls, user);
}

void ht_tunnel_destroy(struct ht_tunnel **tunnel) {
    struct ht_tunnel *t = *tunnel;
    *tunnel = NULL;
    if (!t)
        return;
    driver_thread_free(t);
    t->calls.audit = NULL; /* requests that are cut here are not reported */
    if (t->loop) {
        driver_inspect_stop(t);
        driver_network_stop(t);
        driver_link_destroy(t);
        driver_past_destroy(t);
        driver_bind_destroy_all(t);
        driver_guard_destroy(t);
        driver_inspect_free(t);
        if (t->end.run)
            io_task_cancel(&t->end);
        io_conn_close(&t->wake);
    }
    if (t->wake_fd >= 0)
        close(t->wake_fd);
    if (t->own_loop)
        io_loop_destroy(&t->loop);
    driver_options_free(t);
    ht_free(t->now);
    ht_free(t);
}

/* ---- the other public calls ---- */

static int do_connect(struct ht_tunnel *t, void *arg, struct ht_errmsg *err) {
    (void)arg;
    if (t->state != DRIVER_NEW)
        return ht_fail(err, HT_TUNNEL_ESTATE, "ht_tunnel_connect() can be called once for a tunnel");
    t->lost_at = io_now_ms(t->loop);
    driver_network_start(t);
    return driver_link_start(t);
}

static int do_bind(struct ht_tunnel *t, void *arg, struct ht_errmsg *err) { return driver_bind_add(t, arg, err); }

static int do_unbind(struct ht_tunnel *t, void *arg, struct ht_errmsg *err) {
    return driver_bind_remove(t, *(int *)arg, err);
}

static int do_close(struct ht_tunnel *t, void *arg, struct ht_errmsg *err) {
    (void)arg, (void)err;
    /* A loss after which the driver would have tried again is not the reason of this end. */
    if (t->state == DRIVER_DOWN || t->state == DRIVER_WAITING || driver_retry_wanted(t))
        t->end_known = false;
    driver_end_reason(t, HT_TUNNEL_OK, "closed");
    switch (t->state) {
    case DRIVER_UP:
        driver_set_state(t, DRIVER_CLOSING);
        if (driver_unbind_all(t))
            io_timer_set(&t->close_timer, WIRE_LIMIT_CLOSE_UNBIND_TIMEOUT);
        else
            driver_link_close(t);
        break;
    case DRIVER_HELLO: /* a clean close, since the kit may have made a session, which it would park otherwise */
        driver_set_state(t, DRIVER_CLOSING);
        driver_sock_close(&t->now->socks[0], 0, "");
        break;
    case DRIVER_CLOSING:
        driver_link_hurry(t);
        break;
    case DRIVER_NEW:
    case DRIVER_CONNECTING:
    case DRIVER_DOWN:
    case DRIVER_WAITING:
        driver_end(t);
        break;
    case DRIVER_ENDED:
        break;
    }
    return HT_TUNNEL_OK;
}

static int call(struct ht_tunnel *t, int (*run)(struct ht_tunnel *t, void *arg, struct ht_errmsg *err), void *arg) {
    last_error.text[0] = '\0';
    return driver_thread_call(t, run, arg, &last_error);
}

int ht_tunnel_connect(struct ht_tunnel *t) { return call(t, do_connect, NULL); }

int ht_tunnel_bind(struct ht_tunnel *t, const struct ht_bind_options *options) {
    struct ht_bind_options o;
    last_error.text[0] = '\0';
    if (!options || !copy_sized(&o, sizeof o, options, options->size))
        return ht_fail(&last_error, HT_TUNNEL_EINVAL, "the field `size` of a structure is not set; set it with sizeof");
    return call(t, do_bind, &o);
}

int ht_tunnel_unbind(struct ht_tunnel *t, int binding) { return call(t, do_unbind, &binding); }

int ht_tunnel_close(struct ht_tunnel *t) { return call(t, do_close, NULL); }

/* ---- running it ---- */

static int outcome(struct ht_tunnel *t) {
    if (t->state == DRIVER_ENDED)
        return t->end_error;
    if (!t->stopped)
        return HT_TUNNEL_OK;
    t->stopped = false;
    return HT_TUNNEL_STOPPED;
}

static int not_here(struct ht_tunnel *t) {
    if (driver_thread_is_ours(t))
        return HT_TUNNEL_OK;
    return ht_fail(&last_error, HT_TUNNEL_ESTATE, "the tunnel is run by a thread of its own");
}

int ht_tunnel_run(struct ht_tunnel *t) {
    if (not_here(t) < 0)
        return HT_TUNNEL_ESTATE;
    /* In state ENDED the task `end` may still have to run. */
    while (!t->stopped && (t->state != DRIVER_ENDED || ht_list_linked(&t->end.node)))
        io_loop_turn(t->loop, true);
    return outcome(t);
}

int ht_tunnel_turn(struct ht_tunnel *t, int wait) {
    if (not_here(t) < 0)
        return HT_TUNNEL_ESTATE;
    if (!t->stopped && (t->state != DRIVER_ENDED || ht_list_linked(&t->end.node)))
        io_loop_turn(t->loop, wait != 0);
    return outcome(t);
}

int ht_tunnel_process(struct ht_tunnel *t) { return ht_tunnel_turn(t, 0); }

int ht_tunnel_fd(struct ht_tunnel *t) { return not_here(t) < 0 ? HT_TUNNEL_ESTATE : io_loop_fd(t->loop); }

int ht_tunnel_timeout_ms(struct ht_tunnel *t) {
    /* A tunnel with a thread of its own needs no time of the caller, nor does one that has ended. */
    bool over = t->state == DRIVER_ENDED && !ht_list_linked(&t->end.node);
    return !driver_thread_is_ours(t) || over ? -1 : io_loop_timeout_ms(t->loop);
}

void driver_abandon(struct ht_tunnel *t) {
    if (t->state == DRIVER_ENDED)
        return;
    io_task_cancel(&t->end);
    driver_network_stop(t);
    driver_link_destroy(t);
    driver_past_destroy(t);
    driver_bind_destroy_all(t);
    driver_set_state(t, DRIVER_ENDED);
    t->end_error = HT_TUNNEL_STOPPED;
}

int ht_tunnel_start(struct ht_tunnel *t) {
    last_error.text[0] = '\0';
    if (t->now->socks[0].link)
        return ht_fail(&last_error, HT_TUNNEL_ESTATE, "the tunnel belongs to the thread that has run it until now");
    return driver_thread_start(t, &last_error);
}

int ht_tunnel_join(struct ht_tunnel *t) {
    last_error.text[0] = '\0';
    return driver_thread_join(t, &last_error);
}

void driver_wake(struct ht_tunnel *t) {
    int saved = errno;
    /* EAGAIN is fine: the bytes that fill the socket wake the loop. */
    ssize_t n = send(t->wake_fd, "", 1, MSG_NOSIGNAL);
    (void)n;
    errno = saved;
}

void ht_tunnel_stop(struct ht_tunnel *t) {
    if (!t)
        return;
    atomic_store(&t->stop_asked, true);
    driver_wake(t);
}

void ht_tunnel_retry_now(struct ht_tunnel *t) {
    if (!t)
        return;
    atomic_store(&t->retry_asked, true);
    driver_wake(t);
}

void ht_tunnel_reload(struct ht_tunnel *t) {
    if (!t)
        return;
    atomic_store(&t->reload_asked, true);
    driver_wake(t);
}

/* ---- questions ---- */

static int do_count(struct ht_tunnel *t, void *arg, struct ht_errmsg *err) {
    (void)err;
    *(unsigned *)arg = driver_bind_streams(t);
    return HT_TUNNEL_OK;
}

/* Takes the const away: the question does not change the tunnel, but its thread has to answer it. */
static struct ht_tunnel *ask(const struct ht_tunnel *t) { return (struct ht_tunnel *)(uintptr_t)t; }

unsigned ht_tunnel_streams(const struct ht_tunnel *t) {
    unsigned n = 0;
    (void)call(ask(t), do_count, &n);
    return n;
}

static enum ht_tunnel_state state_of(const struct ht_tunnel *t) {
    switch (t->state) {
    case DRIVER_NEW:
        return HT_TUNNEL_NEW;
    case DRIVER_CONNECTING:
    case DRIVER_HELLO:
        return HT_TUNNEL_CONNECTING;
    case DRIVER_UP:
        return HT_TUNNEL_UP;
    case DRIVER_DOWN:
    case DRIVER_WAITING:
        return HT_TUNNEL_RETRYING;
    case DRIVER_CLOSING:
        return HT_TUNNEL_CLOSING;
    case DRIVER_ENDED:
        break;
    }
    return HT_TUNNEL_ENDED;
}

static uint64_t sum_of(uint64_t by_mode[][HT_METRIC_DIRECTION_COUNT], enum ht_metric_direction direction) {
    uint64_t sum = 0;
    for (int mode = 0; mode < HT_METRIC_MODE_COUNT; mode++)
        sum += by_mode[mode][direction];
    return sum;
}

static int do_status(struct ht_tunnel *t, void *arg, struct ht_errmsg *err) {
    (void)err;
    bool up = t->state == DRIVER_UP;
    uint64_t now = ht_now_ms(), due = t->retry_timer.due / 1000;
    struct ht_tunnel_status *s = arg;
    *s = (struct ht_tunnel_status){
        .state = state_of(t),
        .attempt = up ? 0 : t->attempts,
        .retry_in_ms = t->state == DRIVER_WAITING && due > now ? due - now : 0,
        .version = !up                                   ? 0
                   : t->now->socks[0].version == WIRE_V2 ? 2
                                                         : 1,
        .connections = up ? mux_session_links(t->now->mux) : 0,
        .granted = up ? t->granted : 0,
        .bindings = driver_bind_standing(t),
        .streams = driver_bind_streams(t),
        .up_ms = up ? now - t->up_at : 0,
        .round_trip_us = t->rtt_us,
        .bytes_in = sum_of(t->metrics.bytes_total, HT_METRIC_DIRECTION_RECEIVED),
        .bytes_out = sum_of(t->metrics.bytes_total, HT_METRIC_DIRECTION_SENT),
        .sessions = t->sessions,
        .whole = t->pause.whole,
        .resent = driver_kept_resent(t),
        .paused_ms = t->pause.all_ms,
        .longest_pause_ms = t->pause.longest_ms,
        .paused_left_ms = io_timer_active(&t->pause.over) ? ht_max64(t->pause.over.due / 1000, now + 1) - now : 0,
    };
    for (int mode = 0; mode < HT_METRIC_MODE_COUNT; mode++)
        s->streams_total += t->metrics.streams_total[mode];
    return HT_TUNNEL_OK;
}

int ht_tunnel_get_status(const struct ht_tunnel *t, struct ht_tunnel_status *status) {
    struct ht_tunnel_status s;
    size_t size = status ? status->size : 0;
    if (size < sizeof size)
        return ht_fail(&last_error, HT_TUNNEL_EINVAL, "the field `size` of a structure is not set; set it with sizeof");
    int rc = call(ask(t), do_status, &s);
    s.size = size;
    if (rc == HT_TUNNEL_OK)
        memcpy(status, &s, ht_min(size, sizeof s));
    return rc;
}

struct io_loop *driver_loop(struct ht_tunnel *t) {
    return t->loop;
}
