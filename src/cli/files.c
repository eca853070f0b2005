/* Files that a tunnel writes for scripts: its URLs (--url-file) and its state (--state-file), and `ready`, which reads
 * the state. */
#include "cli/cli.h"

#include "base/clock.h"
#include "driver/driver.h"
#include "proc/files.h"
#include "proc/process.h"
#include "json/json.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int cli_replace_file(const char *path, mode_t mode, const struct ht_buf *text, struct stat *st) {
    char temporary[4096];
    struct stat unwanted;
    int n = snprintf(temporary, sizeof temporary, "%s.XXXXXX", path);
    if (n < 0 || (size_t)n >= sizeof temporary) {
        errno = ENAMETOOLONG;
        return -1;
    }
    int fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0)
        return -1;
    FILE *f = fdopen(fd, "w");
    bool ok = f && fchmod(fd, mode) == 0 && fstat(fd, st ? st : &unwanted) == 0 &&
              fwrite(ht_buf_head(text), 1, ht_buf_size(text), f) == ht_buf_size(text);
    if ((f ? fclose(f) : close(fd)) != 0)
        ok = false;
    if (ok && rename(temporary, path) == 0)
        return 0;
    int why = errno;
    unlink(temporary);
    errno = why;
    return -1;
}

/* ---- --url-file ---- */

static void give_up(struct cli_events *e, const char *path, const char *why) {
    cli_complain("cannot write %s: %s", path, why);
    e->file_failed = true;
    ht_tunnel_close(e->tunnel);
}

void cli_url_file_write(struct cli_events *e) {
    struct ht_buf text = {0};
    int rc = HT_OK;
    for (unsigned i = 0; rc == HT_OK && i < e->expected; i++)
        rc = ht_buf_printf(&text, "%s\n", e->urls[i]);
    errno = ENOMEM;
    if (rc < 0 || cli_replace_file(e->url_file, S_IRUSR | S_IWUSR | S_IRGRP | S_IROTH, &text, NULL) < 0)
        give_up(e, e->url_file, strerror(errno));
    ht_buf_free(&text);
}

/* ---- --state-file ---- */

/* Identifies the process that wrote the file: by its number, its start time and the id of the boot. */
static int put_state(struct ht_buf *b, unsigned ports) {
    struct proc_process self;
    char boot[PROC_BOOT_ID], when[HT_TIME_TEXT];
    int rc = proc_process_look((uint64_t)getpid(), &self);
    if (rc < 0)
        return rc;
    rc = ht_buf_printf(b, "{\"pid\":%ld,\"startTime\":%" PRIu64 ",\"bootId\":", (long)getpid(), self.started);
    if (rc == HT_OK)
        rc = cli_json_string(b, proc_boot_id(boot));
    return rc < 0 ? rc : ht_buf_printf(b, ",\"ports\":%u,\"since\":\"%s\"}\n", ports, ht_now_text(when));
}

static void state_write(struct cli_events *e) {
    struct cli_state *s = &e->state;
    struct ht_buf text = {0};
    struct stat st;
    const char *why = NULL;
    int rc = put_state(&text, e->expected);
    if (rc < 0)
        why = rc == HT_ENOMEM ? ht_err_text(rc) : "/proc does not say when this process started";
    else if (cli_replace_file(s->path, S_IRUSR | S_IWUSR, &text, &st) < 0)
        why = strerror(errno);
    ht_buf_free(&text);
    if (!why) {
        s->there = s->was_there = true;
        s->dev = st.st_dev;
        s->ino = st.st_ino;
    } else if (s->was_there) {
        cli_complain("cannot write %s: %s; health checks that read it fail, and the tunnel stands", s->path, why);
    } else {
        give_up(e, s->path, why);
    }
}

static bool is_ours(void *ctx, int fd) {
    const struct cli_state *s = ctx;
    struct stat st;
    return fstat(fd, &st) == 0 && st.st_dev == s->dev && st.st_ino == s->ino;
}

void cli_state_gone(struct cli_events *e) {
    struct cli_state *s = &e->state;
    io_task_cancel(&s->task);
    if (s->there && proc_files_remove(s->path, is_ours, s) < 0)
        cli_complain("cannot remove %s: %s", s->path, strerror(errno));
    s->there = false;
}

static void state_look(struct io_task *t) {
    struct cli_events *e = ht_container_of(t, struct cli_events, state.task);
    bool stands = driver_n_bound(e->tunnel) == e->expected;
    if (stands && !e->state.there)
        state_write(e);
    else if (!stands)
        cli_state_gone(e);
}

void cli_state_init(struct cli_events *e, struct io_loop *loop) {
    e->state.loop = loop;
    io_task_init(&e->state.task, state_look);
}

void cli_state_changed(struct cli_events *e) {
    if (e->state.path)
        io_task_add(e->state.loop, &e->state.task);
}

/* ---- ready --state-file ---- */

#define STATE_MAX 1024u

struct said {
    uint64_t pid, started, ports;
    struct ht_slice boot, since;
};

/* Reads the content of a state file. Unknown members are skipped. False: no driver has written it. */
static bool understand(const char *text, size_t n, struct json_arena *arena, struct said *s) {
    static const struct json_limits limits = {.max_depth = 4, .max_keys = 32, .refuse_nul = true};
    struct json_reader r;
    struct ht_slice key;
    int more, rc = 0;
    unsigned known = 0;
    json_begin(&r, text, n, &limits);
    if (json_object_begin(&r) < 0)
        return false;
    while (rc == 0 && (more = json_object_next(&r, &key)) > 0) {
        uint64_t *number = ht_slice_is(key, "pid")         ? &s->pid
                           : ht_slice_is(key, "startTime") ? &s->started
                           : ht_slice_is(key, "ports")     ? &s->ports
                                                           : NULL;
        struct ht_slice *string = ht_slice_is(key, "bootId") ? &s->boot : ht_slice_is(key, "since") ? &s->since : NULL;
        known += number || string;
        rc = number ? json_read_uint(&r, number) : string ? json_read_string(&r, false, arena, string) : json_skip(&r);
    }
    return rc == 0 && more == 0 && json_end(&r) == 0 && known == 5 && s->pid > 0;
}

/* Reads the file. Returns its length, or -1 with errno. */
static ssize_t read_state(const char *path, char *out, size_t cap) {
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return -1;
    errno = EINVAL;
    ssize_t n = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? read(fd, out, cap) : -1;
    int why = errno;
    close(fd);
    errno = why;
    return n;
}

/* Why the driver that wrote the file is not ready; NULL: it is. */
static const char *what_became(const struct said *s) {
    struct proc_process now;
    char boot[PROC_BOOT_ID];
    int rc = proc_process_look(s->pid, &now);
    if (rc == HT_EIO)
        return "cannot be seen in /proc";
    if (!ht_slice_is(s->boot, proc_boot_id(boot)))
        return "ended when the machine did, and left the file behind";
    if (rc < 0 || now.state == 'Z' || now.state == 'X')
        return "was killed or has crashed, and left the file behind";
    if (now.started != s->started)
        return "was killed or has crashed, and another process has its number now";
    if (now.state == 'T' || now.state == 't')
        return "is stopped; SIGCONT lets it go on";
    return NULL;
}

static int print_state(const struct said *s, struct ht_slice text, bool json) {
    char since[HT_TIME_TEXT];
    snprintf(since, sizeof since, "%.*s", HT_SLICE_ARG(s->since));
    struct ht_buf line = {0};
    int rc = json ? ht_buf_append(&line, text.p, text.n)
                  : ht_buf_printf(&line, "ready: process %" PRIu64 " is connected, with %" PRIu64 " port%s, since ",
                                  s->pid, s->ports, s->ports == 1 ? "" : "s");
    if (rc == HT_OK && !json)
        rc = cli_put_text(&line, since);
    if (rc == HT_OK && !json)
        rc = ht_buf_append_str(&line, "\n");
    bool ok = rc == HT_OK && fwrite(ht_buf_head(&line), 1, ht_buf_size(&line), stdout) == ht_buf_size(&line) &&
              fflush(stdout) == 0;
    if (!ok)
        cli_complain("standard output cannot be written");
    ht_buf_free(&line);
    return ok ? OPT_EXIT_OK : OPT_EXIT_FAILURE;
}

int cli_state_ask(const char *path, bool json) {
    char text[STATE_MAX + 1], decoded[STATE_MAX + 1];
    struct said s = {0};
    ssize_t n = read_state(path, text, sizeof text);
    if (n < 0 && errno == ENOENT) {
        cli_complain(
            "not ready: there is no %s; a driver with this --state-file writes it once it is connected and all "
            "its ports are bound",
            path);
        return OPT_EXIT_FAILURE;
    }
    if (n < 0) {
        cli_complain("cannot read %s: %s", path, errno == EINVAL ? "it is not a regular file" : strerror(errno));
        return OPT_EXIT_CONFIG;
    }
    if ((size_t)n > STATE_MAX ||
        !understand(text, (size_t)n, &(struct json_arena){.p = decoded, .cap = sizeof decoded}, &s)) {
        cli_complain("%s is not what a driver writes; name the file that its --state-file names", path);
        return OPT_EXIT_CONFIG;
    }
    const char *why = what_became(&s);
    if (!why)
        return print_state(&s, ht_slice_of(text, (size_t)n), json);
    cli_complain("not ready: process %" PRIu64 ", the driver that wrote %s, %s", s.pid, path, why);
    return OPT_EXIT_FAILURE;
}
