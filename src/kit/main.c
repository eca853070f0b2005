/* `hoody-tunnel serve`: options, log, signals, and the loop until it is over. */
#include "kit/kit.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct serve {
    struct io_loop *loop;
    struct kit *kit;
    struct io_signal term, intr;
    bool asked;
};

static void drained(void *ctx) {
    struct serve *s = ctx;
    ht_info("kit", "drained, bye");
    io_loop_break(s->loop);
}

static void asked_to_end(struct serve *s, const char *signal_name) {
    if (s->asked) {
        ht_warn("kit", "second signal: leaving at once");
        io_loop_break(s->loop);
        return;
    }
    s->asked = true;
    ht_info("kit", "%s: draining", signal_name);
    kit_drain(s->kit, drained, s);
}

static void on_term(struct io_signal *sig, int signo) {
    (void)signo;
    asked_to_end(ht_container_of(sig, struct serve, term), "SIGTERM");
}

static void on_intr(struct io_signal *sig, int signo) {
    (void)signo;
    asked_to_end(ht_container_of(sig, struct serve, intr), "SIGINT");
}

static int run(const struct opt_serve *opt) {
    struct serve s = {0};
    struct ht_errmsg err;
    s.loop = io_loop_create();
    if (!s.loop) {
        ht_error("kit", "the event loop could not be made: out of memory or of descriptors");
        return OPT_EXIT_FAILURE;
    }
    s.kit = kit_create(s.loop, opt, &err);
    if (!s.kit) {
        ht_error("kit", "%s", err.text);
        io_loop_destroy(&s.loop);
        return OPT_EXIT_CONFIG;
    }
    io_signal_start(s.loop, &s.term, SIGTERM, on_term);
    io_signal_start(s.loop, &s.intr, SIGINT, on_intr);
    io_loop_run(s.loop);
    io_signal_stop(&s.term);
    io_signal_stop(&s.intr);
    kit_destroy(&s.kit);
    io_loop_destroy(&s.loop);
    return OPT_EXIT_OK;
}

int kit_main(int argc, char **argv) {
    struct opt_serve opt;
    struct ht_errmsg err;
    int rc = opt_serve_parse(&opt, argc, argv, &err);
    if (rc == OPT_HELP) {
        opt_serve_help(stdout);
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
        fd = open(opt.log_file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
        if (fd < 0) {
            fprintf(stderr, "hoody-tunnel serve: log file %s: %s\n", opt.log_file, strerror(errno));
            opt_serve_free(&opt);
            return OPT_EXIT_CONFIG;
        }
    }
    ht_log_setup(fd, opt.log_level, opt.log_format);
    io_ignore_sigpipe();
    rc = run(&opt);
    if (fd != 2) {
        ht_log_setup(2, opt.log_level, opt.log_format);
        close(fd);
    }
    opt_serve_free(&opt);
    return rc;
}
