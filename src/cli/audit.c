/* --audit: writes a line to a file for each decision about a request, and for each request that has ended. */
#include "cli/cli.h"

#include "audit_gen.h"
#include "base/clock.h"
#include "events_gen.h"
#include "proc/files.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define WAITING_MAX (256u * 1024u) /* most bytes of lines that wait to be written */
#define GAP_MAX 256u               /* most bytes of the line with the number of missing lines */
#define AGAIN_MS 1000u             /* between attempts to write, and between checks of the file's name */

static volatile sig_atomic_t reopen_asked;

void cli_audit_reopen(void) { reopen_asked = 1; }

/* ---- the file ---- */

static int open_file(struct cli_audit *a, struct ht_errmsg *err) {
    struct stat st;
    int fd = proc_files_open(PROC_FILES_AUDIT, a->path, NULL, err);
    if (fd < 0)
        return fd;
    if (fstat(fd, &st) < 0) {
        int why = errno;
        close(fd);
        return ht_fail(err, HT_EIO, "audit file %s: %s", a->path, strerror(why));
    }
    if (a->fd >= 0)
        close(a->fd);
    a->fd = fd;
    a->dev = st.st_dev;
    a->ino = st.st_ino;
    a->begun = 0; /* a line of which the old file has a part is written whole to the new one */
    return HT_OK;
}

/* True when the name no longer belongs to the open file: the file was renamed or removed, as by a log rotation. */
static bool was_moved(const struct cli_audit *a) {
    struct stat st;
    return stat(a->path, &st) < 0 ? errno == ENOENT : st.st_dev != a->dev || st.st_ino != a->ino;
}

static void look(struct cli_audit *a) {
    uint64_t now = io_now_ms(a->loop);
    struct ht_errmsg err;
    bool asked = reopen_asked;
    if (!asked && now - a->looked_ms < AGAIN_MS)
        return;
    reopen_asked = 0;
    a->looked_ms = now;
    if (!asked && !was_moved(a))
        return;
    bool failed = open_file(a, &err) < 0;
    if (failed && !a->lost_name)
        cli_complain("%s; the old one stays in use", err.text);
    a->lost_name = failed;
}

/* ---- lines ---- */

static void took(struct cli_audit *a, size_t n) {
    const uint8_t *head = ht_buf_head(&a->waiting);
    a->begun += n;
    const uint8_t *last = memrchr(head, '\n', a->begun);
    size_t whole = last ? (size_t)(last + 1 - head) : 0;
    a->begun -= whole;
    ht_buf_consume(&a->waiting, whole);
}

static void told(struct cli_audit *a, int why) {
    if (why && !a->failing)
        cli_complain("audit file %s: %s; until it can be written, requests for names whose requests are checked are "
                     "refused",
                     a->path, strerror(why));
    else if (!why && a->failing)
        cli_complain("audit file %s: it can be written again", a->path);
    a->failing = why != 0;
}

/* Writes the waiting lines. False: some of them still wait. */
static bool flush(struct cli_audit *a) {
    look(a);
    if (ht_buf_size(&a->waiting) == 0)
        return true;
    while (ht_buf_size(&a->waiting) > 0) {
        ssize_t n = write(a->fd, ht_buf_head(&a->waiting) + a->begun, ht_buf_size(&a->waiting) - a->begun);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            told(a, n < 0 ? errno : ENOSPC);
            io_timer_set(&a->again, AGAIN_MS);
            return false;
        }
        took(a, (size_t)n);
    }
    ht_buf_free(&a->waiting);
    told(a, 0);
    return true;
}

static void try_again(struct io_timer *t) { (void)flush(ht_container_of(t, struct cli_audit, again)); }

/* Adds a line with the number of lines that were dropped. False: there is no room for it either. */
static bool put_gap(struct cli_audit *a) {
    char when[HT_TIME_TEXT];
    struct ht_buf line = {0};
    if (a->missing == 0)
        return true;
    int rc = tell_audit_gap(&line, ht_now_text(when), &(struct tell_audit_gap){.lines = a->missing});
    if (rc == HT_OK)
        rc = ht_buf_append(&a->waiting, ht_buf_head(&line), ht_buf_size(&line));
    ht_buf_free(&line);
    if (rc == HT_OK)
        a->missing = 0;
    return rc == HT_OK;
}

static bool put(struct cli_audit *a, struct ht_slice line) {
    size_t room = WAITING_MAX - ht_min(WAITING_MAX, ht_buf_size(&a->waiting));
    return line.n + (a->missing ? GAP_MAX : 0) <= room && put_gap(a) && ht_buf_append(&a->waiting, line.p, line.n) == 0;
}

bool cli_audit_line(struct cli_audit *a, struct ht_slice line, bool now) {
    if (!put(a, line)) {
        bool out = flush(a) && put(a, line);
        if (!out) {
            a->missing += !now; /* with `now` the caller refuses the request, and reports that in another line */
            return false;
        }
    }
    if (flush(a) || !now)
        return true;
    /* The line is removed again, unless a part of it is in the file already. */
    if (ht_buf_size(&a->waiting) - a->begun >= line.n)
        a->waiting.len -= line.n;
    return false;
}

/* ---- life ---- */

int cli_audit_open(struct cli_audit *a, struct io_loop *loop, const char *path, struct ht_errmsg *err) {
    *a = (struct cli_audit){.path = path, .loop = loop, .fd = -1};
    io_timer_init(loop, &a->again, try_again);
    a->looked_ms = io_now_ms(loop);
    return path ? open_file(a, err) : HT_OK;
}

void cli_audit_close(struct cli_audit *a) {
    if (!a->path)
        return;
    io_timer_stop(&a->again);
    if (a->fd >= 0 && put_gap(a) && !flush(a))
        for (const uint8_t *p = ht_buf_head(&a->waiting), *end = p + ht_buf_size(&a->waiting); p < end; p++)
            a->missing += *p == '\n';
    if (a->missing > 0)
        cli_complain("audit file %s: %" PRIu64 " line%s missing at its end", a->path, a->missing,
                     a->missing == 1 ? " is" : "s are");
    ht_buf_free(&a->waiting);
    if (a->fd >= 0)
        close(a->fd);
    a->fd = -1;
    a->path = NULL;
}
