/* `hoody-tunnel serve`: options, log, signals, the service manager, and the loop until it is over. */
#include "kit/kit.h"

#include "base/clock.h"
#include "base/log.h"
#include "kit/restart.h"
#include "proc/files.h"
#include "proc/inherit.h"
#include "proc/notify.h"
#include "proc/sandbox.h"
#include "proc/slots.h"
#include "proc/starter.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

/* How often the service manager is told how things stand, when that has changed. */
#define STATUS_MS 5000

struct serve {
    const struct opt_serve *opt;
    struct io_loop *loop;
    struct kit *kit;
    struct io_signal term, intr, hup, usr2;
    struct io_end_requests asked;
    int log_fd;
    struct proc_notify notify;
    struct proc_inheritance inherited;
    struct proc_slots slots;
    struct io_timer claim; /* until the files are this kit's alone */
    unsigned claims;       /* tries */
    struct proc_starter starter;
    struct restart *restart;
    int channel;                 /* to the kit before, which has started this one; -1: there is none */
    struct successor *successor; /* until this kit serves in its place; NULL: it has started by itself */
    bool handed;                 /* the manager was told of another main process */
    uint64_t watchdog_ms;        /* 0: there is none */
    uint64_t watched_at;
    struct io_timer pulse;
    struct io_timer left_out;     /* until the log tells how many lines of strangers it has left out */
    char status[KIT_STATUS_TEXT]; /* the last one that was sent */
};

/* ---- the log ---- */

/* After a rotation the file's name stands for a new file. */
static void reopen_log(struct serve *s) {
    if (!s->opt->log_file)
        return;
    struct ht_errmsg err;
    int fd = proc_files_open(PROC_FILES_LOG, s->opt->log_file, NULL, &err); /* with the present rights */
    if (fd < 0) {
        ht_error("kit", "%s; the log goes on in the old file", err.text);
        return;
    }
    int old = s->log_fd;
    s->log_fd = fd;
    ht_log_setup(fd, s->opt->log_level, s->opt->log_format);
    close(old);
}

/* ---- the service manager ---- */

static void tell_status(struct serve *s, const char *before) {
    char now[KIT_STATUS_TEXT];
    kit_status(s->kit, now);
    if (!*before && strcmp(now, s->status) == 0)
        return;
    memcpy(s->status, now, sizeof now);
    if (proc_notify_send(&s->notify, "%sSTATUS=%s", before, now) < 0)
        ht_warn("kit", "the service manager cannot be told: %s", strerror(errno));
}

/* The watchdog is fed from the loop that does the work, so that it notices when that loop hangs. */
static void pulse(struct io_timer *t) {
    struct serve *s = ht_container_of(t, struct serve, pulse);
    if (s->watchdog_ms)
        (void)proc_notify_send(&s->notify, "WATCHDOG=1");
    tell_status(s, "");
    io_timer_set(t, s->watchdog_ms ? ht_min64(s->watchdog_ms / 2, STATUS_MS) : STATUS_MS);
}

static void begin_notifying(struct serve *s) {
    io_timer_init(s->loop, &s->pulse, pulse);
    if (!proc_notify_wanted(&s->notify))
        return;
    s->watchdog_ms = proc_notify_watchdog_ms();
    tell_status(s, "READY=1\n");
    pulse(&s->pulse);
}

static void end_notifying(struct serve *s) {
    io_timer_stop(&s->pulse);
    proc_notify_close(&s->notify);
}

/* ---- the folder of the records ---- */

/* The kit before gives it up once it has heard that this one serves. */
#define CLAIM_MS 20
#define CLAIMS 100u /* then it is told, and asked for from time to time */
#define CLAIM_LATER_MS 1000

static void claim(struct io_timer *t) {
    struct serve *s = ht_container_of(t, struct serve, claim);
    if (proc_slots_claim(&s->slots) == HT_OK)
        return;
    if (++s->claims == CLAIMS)
        ht_error("kit", "--state-dir %s: another kit keeps its records there, too; end one of the two",
                 s->opt->state_dir);
    io_timer_set(t, s->claims < CLAIMS ? CLAIM_MS : CLAIM_LATER_MS);
}

static void unclaim(struct serve *s) {
    io_timer_stop(&s->claim);
    if (s->opt->state_dir)
        proc_slots_unclaim(&s->slots);
    proc_slots_close(&s->slots);
}

/* ---- restarts (kit/restart.h) ---- */

static void asked_to_end(struct serve *s, const char *why);

static void restart_begins(void *ctx) {
    const struct serve *s = ctx;
    (void)proc_notify_send(&s->notify, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64 "\nSTATUS=restarting", ht_now_us());
}

/* Before the new kit says anything to the manager, which listens to its main process alone. A parent stays what it is.
 */
static void hands_over(void *ctx, pid_t pid) {
    struct serve *s = ctx;
    s->handed = !s->starter.parent;
    if (s->handed)
        (void)proc_notify_send(&s->notify, "MAINPID=%d", (int)pid);
}

static void restart_failed(void *ctx, const char *why) {
    struct serve *s = ctx;
    char at[HT_TIME_TEXT];
    if (s->handed)
        (void)proc_notify_send(&s->notify, "MAINPID=%d", (int)getpid());
    s->handed = false;
    if (s->asked.n == 0)
        (void)proc_notify_send(&s->notify, "READY=1\nSTATUS=the restart failed at %s: %.300s", ht_now_text(at), why);
}

static void left(void *ctx, pid_t pid) {
    struct serve *s = ctx;
    struct ht_errmsg err;
    (void)pid;
    end_notifying(s);
    (void)!proc_starter_left(&s->starter);
    /* The new kit has read them anew. Whoever it turns away has no business here either. */
    if (kit_reload_token(s->kit, &err) < 0)
        ht_warn("kit", "%s; sessions of the old token stay until they have nothing under way here", err.text);
    unclaim(s);
}

static void finished(void *ctx) {
    struct serve *s = ctx;
    ht_info("kit", "restart: this program has finished, bye");
    io_loop_break(s->loop);
}

static void told_to_end(void *ctx, const char *why) { asked_to_end(ctx, why); }

static const struct restart_ops restart_calls = {
    .begins = restart_begins,
    .hands_over = hands_over,
    .failed = restart_failed,
    .left = left,
    .finished = finished,
    .end = told_to_end,
};

/* ---- signals ---- */

static void drained(void *ctx) {
    struct serve *s = ctx;
    ht_info("kit", "drained, bye");
    io_loop_break(s->loop);
}

static void asked_to_end(struct serve *s, const char *signal_name) {
    unsigned n = io_end_request(&s->asked);
    if (n == 0)
        return;
    if (n > 1) {
        ht_warn("kit", "second signal: ending at once");
        io_loop_break(s->loop);
        return;
    }
    ht_info("kit", "%s: draining", signal_name);
    if (s->restart)
        restart_service_ends(s->restart);
    /* The service manager must not kill the kit before the drain can be over. */
    char before[96];
    snprintf(before, sizeof before, "STOPPING=1\nEXTEND_TIMEOUT_USEC=%" PRIu64 "\n",
             (s->opt->drain_timeout_ms + KIT_CLOSE_ALLOWANCE_MS + STATUS_MS) * 1000);
    kit_drain(s->kit, drained, s);
    tell_status(s, before);
}

/* Whoever meant the service has sent it to the wrong process. */
static void signalled(struct serve *s, const char *signal_name) {
    pid_t heir = s->restart ? restart_heir(s->restart) : 0;
    if (heir)
        ht_warn("kit", "%s: this program has handed over to process %d, which serves on", signal_name, (int)heir);
    asked_to_end(s, signal_name);
}

static void on_term(struct io_signal *sig, int signo) {
    (void)signo;
    signalled(ht_container_of(sig, struct serve, term), "SIGTERM");
}

static void on_intr(struct io_signal *sig, int signo) {
    (void)signo;
    signalled(ht_container_of(sig, struct serve, intr), "SIGINT");
}

static void on_hup(struct io_signal *sig, int signo) {
    struct serve *s = ht_container_of(sig, struct serve, hup);
    struct ht_errmsg err;
    (void)signo;
    if (s->asked.n == 0)
        (void)proc_notify_send(&s->notify, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, ht_now_us());
    reopen_log(s);
    kit_tls_reload(s->kit);
    static const char *const token_is[] = {
        [KIT_TOKEN_NO_FILE] = "the token does not come from a file",
        [KIT_TOKEN_SAME] = "the token is the same",
        [KIT_TOKEN_CHANGED] = "the token has changed; sessions of the old one end",
        [KIT_USERS_SAME] = "no token of the users is gone",
        [KIT_USERS_CHANGED] = "tokens of users are gone; their sessions end",
    };
    int rc = kit_reload_token(s->kit, &err);
    if (rc < 0)
        ht_error("kit", "%s; %s", err.text,
                 s->opt->users ? "the users stay as they were" : "the old token stays in force");
    else
        ht_info("kit", "SIGHUP: reloaded; %s", token_is[rc]);
    if (s->asked.n == 0)
        tell_status(s, "READY=1\n");
}

static void on_usr2(struct io_signal *sig, int signo) {
    (void)signo;
    restart_ask(ht_container_of(sig, struct serve, usr2)->restart);
}

/* ---- rights that it gives up (proc/sandbox.h) ---- */

static void warn_of_lost_file(enum proc_files_kind kind, const char *file) {
    struct ht_errmsg err;
    int fd = file ? proc_files_open(kind, file, NULL, &err) : -1;
    if (file && fd < 0)
        ht_warn("kit", "%s for the user of --user; SIGHUP will not be able to read it again", err.text);
    if (fd >= 0)
        close(fd);
}

/* Warns at the start, and not at three in the morning when the log is rotated or the token has changed. */
static void warn_of_lost_files(const struct opt_serve *opt) {
    struct ht_errmsg err;
    int fd = opt->log_file ? proc_files_open(PROC_FILES_LOG, opt->log_file, NULL, &err) : -1;
    if (opt->log_file && fd < 0)
        ht_warn("kit", "%s for the user of --user; SIGHUP will not be able to reopen it", err.text);
    if (fd >= 0)
        close(fd);
    warn_of_lost_file(PROC_FILES_TOKEN, opt->token_file);
    warn_of_lost_file(PROC_FILES_USERS, opt->users);
}

static int become_user(struct serve *s, const struct proc_sandbox_user *u, struct ht_errmsg *err) {
    bool low_ports = s->opt->allow_privileged_expose || s->opt->allow_privileged_pull;
    int rc = proc_sandbox_become(u, low_ports, err);
    if (rc < 0)
        return rc;
#ifdef HT_SANITIZED
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); /* the leak check attaches to its own process */
#endif
    ht_info("kit", "sandbox: user %u:%u %s", (unsigned)u->uid, (unsigned)u->gid, u->name);
    warn_of_lost_files(s->opt);
    kit_tls_own_rights(s->kit);
    return HT_OK;
}

/* Called when all listeners are open, and before the first byte is read from anybody. */
static int give_up_rights(struct serve *s, const struct proc_sandbox_user *u, struct ht_errmsg *err) {
    int rc = s->opt->user ? become_user(s, u, err) : HT_OK;
    if (rc < 0)
        return rc;
    if (!s->opt->sandbox) {
        ht_info("kit", "sandbox: switched off");
        return HT_OK;
    }
    rc = proc_sandbox_no_new_privs(err);
    if (rc < 0)
        return rc;
    struct ht_errmsg why;
    rc = proc_sandbox_filter_calls(
        &(struct proc_sandbox_calls){.append_files = s->opt->log_file != NULL, .connects = s->opt->set_connect_proxy},
        &why);
    if (rc < 0) /* some kernels and container runtimes have no filters: serve without */
        ht_warn("kit", "sandbox: no new privileges, but system calls are not filtered: %s", why.text);
    else
        ht_info("kit", "sandbox: no new privileges, few system calls (%d rules)", rc);
    return HT_OK;
}

/* ---- lines that the log leaves out (base/log.h) ---- */

#define LEFT_OUT_MS 5000

static void tell_left_out(struct io_timer *t) {
    (void)t;
    ht_log_tell_left_out();
}

static void on_left_out(void *ctx) {
    struct serve *s = ctx;
    io_timer_set(&s->left_out, LEFT_OUT_MS);
}

/* ---- from start to end ---- */

/* Before the kit can be seen from outside: whoever sees it may send a signal at once, which then waits for the loop. */
static void begin_signals(struct serve *s) {
    io_signal_start(s->loop, &s->term, SIGTERM, on_term);
    io_signal_start(s->loop, &s->intr, SIGINT, on_intr);
    io_signal_start(s->loop, &s->hup, SIGHUP, on_hup);
}

/* Once everything is there that a restart needs. Before, the signal is ignored. */
static int begin_restarts(struct serve *s) {
    s->restart = restart_create(s->kit, s->loop, &s->starter, &restart_calls, s);
    if (!s->restart)
        return HT_ENOMEM;
    io_signal_start(s->loop, &s->usr2, SIGUSR2, on_usr2);
    (void)!proc_starter_serving(&s->starter);
    return HT_OK;
}

static void end_signals(struct serve *s) {
    io_block_end_signals();
    io_signal_stop(&s->term);
    io_signal_stop(&s->intr);
    io_signal_stop(&s->hup);
    io_signal_stop(&s->usr2);
}

static void serve_until_over(struct serve *s) {
    io_timer_init(s->loop, &s->left_out, tell_left_out);
    ht_log_on_left_out(on_left_out, s);
    begin_notifying(s);
    io_loop_run(s->loop);
    ht_log_on_left_out(NULL, NULL);
    io_timer_stop(&s->left_out);
    ht_log_tell_left_out();
    end_notifying(s);
}

/* What outlives the process. Before the sandbox, and before the starter, which shares the files. */
static int open_state(struct serve *s, struct ht_errmsg *err) {
    const struct opt_serve *o = s->opt;
    s->slots = (struct proc_slots){{-1, -1}};
    s->starter.fd = s->channel = -1;
    if (proc_notify_open(&s->notify, err) < 0)
        ht_warn("kit", "%s", err->text);
    int rc = proc_inherit_take(&s->inherited, err);
    if (rc == HT_OK && o->state_dir)
        rc = proc_slots_open(&s->slots, o->state_dir, o->user, err);
    if (rc < 0)
        return rc;
    s->channel = proc_starter_channel(err);
    if (s->channel < -1)
        return s->channel;
    if (o->state_dir && s->channel < 0 && proc_slots_claim(&s->slots) < 0)
        return ht_fail(err, HT_EINUSE, "--state-dir %s: another kit keeps its records there", o->state_dir);
    bool keep = o->keep_pid || getpid() == 1;
    const struct proc_starter_config cfg = {.keep_pid = keep, .pid_file = o->pid_file, .slots = &s->slots};
    struct ht_errmsg why;
    if (proc_starter_begin(&s->starter, &cfg, &why) < 0)
        ht_warn("kit", "this kit cannot be restarted without a stop: %s", why.text);
    return HT_OK;
}

static void close_state(struct serve *s) {
    proc_starter_close(&s->starter);
    proc_slots_close(&s->slots);
    proc_inherit_free(&s->inherited);
    proc_notify_close(&s->notify);
}

/* The kit, with what it has of an earlier one. */
static int make_kit(struct serve *s, struct ht_errmsg *err) {
    kit_inherit_sockets(s->loop, &s->inherited);
    if (s->channel >= 0) {
        s->successor = successor_begin(s->loop, s->channel, s->opt->restart_timeout_ms, err);
        if (!s->successor)
            return HT_ECLOSED;
    }
    int certificate = s->successor ? successor_certificate(s->successor) : kit_certificate_of(&s->inherited);
    s->kit = kit_create_after(s->loop, s->opt, certificate, err);
    return s->kit ? HT_OK : HT_EINVAL;
}

/* All rights are given up. The sessions of an earlier kit come before anybody hears that this one is ready. */
static int take_over(struct serve *s, struct ht_errmsg *err) {
    const struct kit_keep keep = {.slots = s->opt->state_dir ? &s->slots : NULL,
                                  .manager = proc_notify_wanted(&s->notify) ? &s->notify : NULL,
                                  .starter = &s->starter};
    if (s->successor) {
        int rc = successor_take(s->successor, s->kit, err);
        if (rc < 0)
            return rc;
        successor_serving(&s->successor, s->kit);
        if (s->opt->state_dir)
            claim(&s->claim);
    } else {
        kit_restore(s->kit, &s->inherited, keep.slots, keep.manager);
    }
    proc_inherit_free(&s->inherited);
    if (kit_keep_records(s->kit, &keep) < 0 || begin_restarts(s) < 0)
        return ht_fail(err, HT_ENOMEM, "out of memory");
    return HT_OK;
}

static int run(const struct opt_serve *opt, int *log_fd) {
    struct serve s = {.opt = opt, .log_fd = *log_fd};
    struct proc_sandbox_user user = {0};
    struct ht_errmsg err;
    if (opt->user && proc_sandbox_find_user(opt->user, &user, &err) < 0) {
        ht_error("kit", "%s", err.text);
        return OPT_EXIT_CONFIG;
    }
    int rc = open_state(&s, &err);
    if (rc < 0) {
        ht_error("kit", "%s", err.text);
        close_state(&s);
        return OPT_EXIT_CONFIG;
    }
    s.loop = io_loop_create();
    if (!s.loop) {
        close_state(&s);
        ht_error("kit", "the event loop could not be made: out of memory or of descriptors");
        return OPT_EXIT_FAILURE;
    }
    io_timer_init(s.loop, &s.claim, claim);
    begin_signals(&s);
    rc = make_kit(&s, &err);
    if (rc == HT_OK)
        rc = give_up_rights(&s, &user, &err);
    if (rc == HT_OK)
        rc = take_over(&s, &err);
    if (rc == HT_OK) {
        serve_until_over(&s);
    } else {
        ht_error("kit", "%s", err.text);
        if (s.successor)
            successor_refuse(s.successor, err.text);
    }
    end_signals(&s);
    io_timer_stop(&s.claim);
    restart_destroy(&s.restart);
    successor_destroy(&s.successor);
    kit_destroy(&s.kit);
    close_state(&s);
    io_loop_destroy(&s.loop);
    *log_fd = s.log_fd;
    return rc < 0 ? OPT_EXIT_CONFIG : OPT_EXIT_OK;
}

int kit_main(int argc, char **argv) {
    struct opt_serve opt;
    struct ht_errmsg err;
    int rc = opt_serve_parse(&opt, argc, argv, &err);
    if (rc == OPT_HELP) {
        opt_help(&opt_commands[OPT_CMD_SERVE], stdout);
        return OPT_EXIT_OK;
    }
    if (rc == OPT_VERSION) {
        printf("hoody-tunnel %s\n", KIT_VERSION);
        return OPT_EXIT_OK;
    }
    if (rc < 0) {
        fprintf(stderr, "hoody-tunnel serve: %s\n", err.text);
        return rc == HT_EINVAL ? OPT_EXIT_USAGE : OPT_EXIT_FAILURE;
    }
    int fd = 2;
    if (opt.log_file) {
        fd = proc_files_open(PROC_FILES_LOG, opt.log_file, opt.user, &err);
        if (fd < 0) {
            fprintf(stderr, "hoody-tunnel serve: %s\n", err.text);
            opt_serve_free(&opt);
            return OPT_EXIT_CONFIG;
        }
    }
    ht_log_setup(fd, opt.log_level, opt.log_format);
    io_ignore_signals();
    rc = run(&opt, &fd);
    if (fd != 2) {
        ht_log_setup(2, opt.log_level, opt.log_format);
        close(fd);
    }
    opt_serve_free(&opt);
    return rc;
}
