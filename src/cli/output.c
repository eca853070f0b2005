#include "cli/cli.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#define OUTPUT_MAX (256u * 1024u) /* most bytes that wait for a slow reader */
#define OUTPUT_PIECE 4096u /* PIPE_BUF: a pipe for which poll() reports room takes as many bytes without blocking */
#define OUTPUT_RETRY_MS 50

/* Writes as much as standard output takes within `wait_ms`. Standard output stays in blocking mode, because other
 * programs may share it. */
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

size_t cli_output_waiting(const struct cli_output *o) { return o->dead ? SIZE_MAX : ht_buf_size(&o->buf); }

void cli_output_flush(struct cli_output *o, int wait_ms) { output_write(o, wait_ms); }

void cli_output_finish(struct cli_output *o) {
    io_task_cancel(&o->task);
    io_timer_stop(&o->retry);
    output_write(o, 1000);
    if (o->dropped > 0)
        cli_complain("%lu lines were left out because nobody read them in time", o->dropped);
    ht_buf_free(&o->buf);
}
