#include "cli/cli.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#define OUTPUT_MAX (256u * 1024u) /* what waits for a slow reader */
#define OUTPUT_PIECE 4096u        /* PIPE_BUF: a pipe that polls writable takes as much without blocking */
#define OUTPUT_RETRY_MS 50

/* Writes what standard output takes now, or within `wait_ms`. Standard output is left in its blocking mode, because
 * others may share it. */
static void output_write(struct cli_output *o, int wait_ms) {
    while (ht_buf_size(&o->buf) > 0 && !o->dead) {
        struct pollfd p = {.fd = STDOUT_FILENO, .events = POLLOUT};
        int ready = poll(&p, 1, wait_ms);
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready <= 0)
            return;
        ssize_t n = write(STDOUT_FILENO, ht_buf_head(&o->buf), ht_min(ht_buf_size(&o->buf), OUTPUT_PIECE));
        if (n > 0)
            ht_buf_consume(&o->buf, (size_t)n);
        else if (n < 0 && errno != EINTR && errno != EAGAIN)
            o->dead = true;
    }
}

static void output_flush(struct cli_output *o) {
    output_write(o, 0);
    if (ht_buf_size(&o->buf) > 0 && !o->dead)
        io_timer_set(&o->retry, OUTPUT_RETRY_MS);
    else
        ht_buf_free(&o->buf);
}

static void output_task(struct io_task *t) { output_flush(ht_container_of(t, struct cli_output, task)); }

static void output_retry(struct io_timer *t) { output_flush(ht_container_of(t, struct cli_output, retry)); }

void cli_output_init(struct cli_output *o, struct io_loop *loop) {
    *o = (struct cli_output){.loop = loop};
    io_task_init(&o->task, output_task);
    io_timer_init(loop, &o->retry, output_retry);
}

void cli_output_line(struct cli_output *o, struct ht_slice line) {
    if (o->dead)
        return;
    if (ht_buf_size(&o->buf) + line.n > OUTPUT_MAX || ht_buf_append(&o->buf, line.p, line.n) < 0) {
        o->dropped++;
        return;
    }
    if (!io_timer_active(&o->retry))
        io_task_add(o->loop, &o->task);
}

void cli_output_finish(struct cli_output *o) {
    io_task_cancel(&o->task);
    io_timer_stop(&o->retry);
    output_write(o, 1000);
    if (o->dropped > 0)
        cli_complain("%lu lines were left out because nobody read them in time", o->dropped);
    ht_buf_free(&o->buf);
}

/* ---- texts ---- */

/* Bytes of the well-formed UTF-8 sequence (RFC 3629) that begins at p; 0: none does. The NUL behind the text stops it.
 */
static size_t utf8_len(const unsigned char *p) {
    if (p[0] < 0x80)
        return 1;
    size_t n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    bool bad = (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
               (p[0] == 0xf4 && p[1] > 0x8f);
    return bad ? 0 : n;
}

int cli_json_string(struct ht_buf *b, const char *text) {
    int rc = ht_buf_append(b, "\"", 1);
    for (const unsigned char *p = (const unsigned char *)text; rc == HT_OK && *p;) {
        size_t n = utf8_len(p);
        if (*p == '"' || *p == '\\') {
            char pair[2] = {'\\', (char)*p};
            rc = ht_buf_append(b, pair, 2);
        } else if (*p < 0x20 || *p == 0x7f) {
            rc = ht_buf_printf(b, "\\u%04x", *p);
        } else if (n == 0) {
            rc = ht_buf_append(b, "\xef\xbf\xbd", 3);
        } else {
            rc = ht_buf_append(b, p, n);
        }
        p += n ? n : 1;
    }
    return rc == HT_OK ? ht_buf_append(b, "\"", 1) : rc;
}

char *cli_human_bytes(uint64_t n, char out[CLI_HUMAN]) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double v = (double)n;
    size_t u = 0;
    while (v >= 1024 && u + 1 < HT_ARRAY_LEN(units)) {
        v /= 1024;
        u++;
    }
    snprintf(out, CLI_HUMAN, u == 0 || v >= 100 ? "%.0f %s" : "%.1f %s", v, units[u]);
    return out;
}

char *cli_human_us(uint64_t us, char out[CLI_HUMAN]) {
    if (us < 1000)
        snprintf(out, CLI_HUMAN, "%u us", (unsigned)us);
    else if (us < 1000000)
        snprintf(out, CLI_HUMAN, us < 100000 ? "%.1f ms" : "%.0f ms", (double)us / 1e3);
    else
        snprintf(out, CLI_HUMAN, "%.1f s", (double)us / 1e6);
    return out;
}
