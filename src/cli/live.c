#include "cli/live.h"

#include "base/mem.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>

#define TICK_MS 1000
#define SOON_MS 100
#define SAMPLE_MS 500 /* rates over less would jump about */

#define GREEN "32"
#define YELLOW "33"
#define RED "31"
#define BOLD "1"
#define FAINT "2"

/* ---- the block ---- */

static struct cli_row row_begin(const struct cli_live *l, struct cli_frame *f, unsigned columns) {
    struct cli_row r = {.b = &f->text, .columns = columns, .color = l->color};
    if (f->n_rows > 0)
        r.rc = ht_buf_append(&f->text, "\n", 1);
    return r;
}

static int row_end(struct cli_frame *f, const struct cli_row *r) {
    f->widths[f->n_rows++] = r->used;
    return r->rc;
}

static const char *arrow(void) { return cli_utf8() ? " \xe2\x86\x92 " : " -> "; }

/* 3725000 -> "1:02:05" */
static void put_clock(char out[24], uint64_t ms) {
    unsigned s = (unsigned)(ms / 1000);
    if (s < 3600)
        snprintf(out, 24, "%u:%02u", s / 60, s % 60);
    else
        snprintf(out, 24, "%u:%02u:%02u", s / 3600, s / 60 % 60, s % 60);
}

static int link_row(const struct cli_live *l, struct cli_frame *f, unsigned columns) {
    static const struct {
        const char *word, *color;
    } states[] = {
        [HT_TUNNEL_NEW] = {"starting", YELLOW},    [HT_TUNNEL_CONNECTING] = {"connecting", YELLOW},
        [HT_TUNNEL_UP] = {"online", GREEN},        [HT_TUNNEL_RETRYING] = {"kit away", RED},
        [HT_TUNNEL_CLOSING] = {"closing", YELLOW}, [HT_TUNNEL_ENDED] = {"ended", FAINT},
    };
    struct cli_row r = row_begin(l, f, columns);
    char text[64], took[CLI_HUMAN], up[24];
    cli_row_add(&r, states[l->status.state].color, states[l->status.state].word);
    cli_row_add(&r, NULL, "  ");
    cli_row_add(&r, BOLD, l->kit);
    if (l->status.state == HT_TUNNEL_UP) {
        if (l->status.round_trip_us > 0) {
            cli_row_add(&r, NULL, "  ");
            cli_row_add(&r, NULL, cli_human_us(l->status.round_trip_us, took));
        }
        put_clock(up, l->status.up_ms);
        snprintf(text, sizeof text, "  up %s", up);
        cli_row_add(&r, NULL, text);
    }
    return row_end(f, &r);
}

static int session_row(const struct cli_live *l, struct cli_frame *f, unsigned columns) {
    struct cli_row r = row_begin(l, f, columns);
    char text[96];
    if (l->status.state == HT_TUNNEL_RETRYING || (l->status.state == HT_TUNNEL_CONNECTING && l->why[0])) {
        unsigned s = (unsigned)((l->status.retry_in_ms + 999) / 1000);
        if (l->status.state == HT_TUNNEL_RETRYING)
            snprintf(text, sizeof text, "attempt %u in %u s", l->status.attempt, s);
        else
            snprintf(text, sizeof text, "attempt %u", l->status.attempt);
        cli_row_add(&r, RED, text);
        cli_row_add(&r, NULL, l->why[0] ? ": " : "");
        cli_row_add(&r, NULL, l->why);
    } else if (l->session[0]) {
        cli_row_add(&r, FAINT, "session ");
        cli_row_add(&r, FAINT, l->session);
        if (l->status.granted > 1) {
            snprintf(text, sizeof text, ", %u of %u WebSockets", l->status.connections, l->status.granted);
            cli_row_add(&r, FAINT, text);
        }
        cli_row_add(&r, FAINT, l->server[0] ? ", " : "");
        cli_row_add(&r, FAINT, l->server);
    }
    return row_end(f, &r);
}

static int binding_row(const struct cli_live *l, const struct live_binding *b, struct cli_frame *f, unsigned columns) {
    struct cli_row r = row_begin(l, f, columns);
    const char *color = b->state == LIVE_GONE                                       ? RED
                        : b->state == LIVE_ASKED || l->status.state != HT_TUNNEL_UP ? FAINT
                                                                                    : GREEN;
    cli_row_add(&r, color, b->url);
    cli_row_add(&r, NULL, arrow());
    cli_row_add(&r, NULL, b->target);
    if (b->name[0]) {
        cli_row_add(&r, NULL, "  ");
        cli_row_add(&r, FAINT, b->name);
    }
    if (b->state == LIVE_GONE) {
        cli_row_add(&r, NULL, "  ");
        cli_row_add(&r, RED, b->why);
    }
    return row_end(f, &r);
}

static int traffic_row(const struct cli_live *l, struct cli_frame *f, unsigned columns) {
    struct cli_row r = row_begin(l, f, columns);
    char text[160], in[CLI_HUMAN], out[CLI_HUMAN], all_in[CLI_HUMAN], all_out[CLI_HUMAN];
    snprintf(text, sizeof text, "%u open, %llu so far  in %s/s (%s)  out %s/s (%s)", l->status.streams,
             (unsigned long long)l->status.streams_total, cli_human_bytes((uint64_t)l->rate_in, in),
             cli_human_bytes(l->status.bytes_in, all_in), cli_human_bytes((uint64_t)l->rate_out, out),
             cli_human_bytes(l->status.bytes_out, all_out));
    cli_row_add(&r, NULL, text);
    return row_end(f, &r);
}

static int request_row(const struct cli_live *l, const struct live_request *q, struct cli_frame *f, unsigned columns) {
    struct cli_row r = row_begin(l, f, columns);
    const char *color = q->failed || q->status[0] == '5' ? RED : q->status[0] == '4' ? YELLOW : GREEN;
    cli_row_add(&r, FAINT, q->when);
    cli_row_add(&r, NULL, "  ");
    cli_row_add(&r, color, q->status);
    cli_row_add(&r, NULL, "  ");
    cli_row_add(&r, NULL, q->took);
    cli_row_pad(&r, 26);
    cli_row_add(&r, NULL, q->size);
    cli_row_pad(&r, 36);
    cli_row_add(&r, NULL, q->text);
    return row_end(f, &r);
}

static int text_row(const struct cli_live *l, struct cli_frame *f, unsigned columns, const char *text) {
    struct cli_row r = row_begin(l, f, columns);
    cli_row_add(&r, FAINT, text);
    return row_end(f, &r);
}

/* How many rows each part gets. What is most worth knowing gives way last: the link, then bindings, then traffic. */
struct plan {
    unsigned session, bindings, more, traffic, requests, blanks;
};

static struct plan plan_rows(const struct cli_live *l, unsigned rows) {
    unsigned left = ht_min(rows > 1 ? rows - 1 : 1, SCREEN_ROWS_MAX) - 1;
    unsigned requests = ht_min(l->n_requests, LIVE_REQUESTS);
    struct plan p = {.bindings = ht_min(l->n_bindings, left)};
    if (p.bindings < l->n_bindings && p.bindings > 0) { /* the last of these rows counts those that have none */
        p.bindings--;
        p.more = 1;
    }
    left -= p.bindings + p.more;
    p.session = ht_min(1u, left);
    left -= p.session;
    p.traffic = ht_min(1u, left);
    left -= p.traffic;
    p.requests = ht_min(requests, left);
    left -= p.requests;
    p.blanks = left >= 3;
    return p;
}

int cli_live_frame(const struct cli_live *l, unsigned columns, unsigned rows, struct cli_frame *f) {
    struct plan p = plan_rows(l, rows);
    int rc = link_row(l, f, columns);
    if (rc == HT_OK && p.session)
        rc = session_row(l, f, columns);
    if (rc == HT_OK && p.blanks)
        rc = text_row(l, f, columns, "");
    for (unsigned i = 0; i < p.bindings && rc == HT_OK; i++)
        rc = binding_row(l, &l->bindings[i], f, columns);
    if (rc == HT_OK && p.more) {
        char text[48];
        snprintf(text, sizeof text, "and %u more", l->n_bindings - p.bindings);
        rc = text_row(l, f, columns, text);
    }
    if (rc == HT_OK && p.blanks)
        rc = text_row(l, f, columns, "");
    if (rc == HT_OK && p.traffic)
        rc = traffic_row(l, f, columns);
    if (rc == HT_OK && p.blanks && p.requests)
        rc = text_row(l, f, columns, "");
    for (unsigned i = l->n_requests - p.requests; i < l->n_requests && rc == HT_OK; i++)
        rc = request_row(l, &l->requests[i % LIVE_REQUESTS], f, columns);
    return rc;
}

/* ---- keeping it up to date ---- */

static void sample(struct cli_live *l) {
    uint64_t now = io_now_ms(l->loop);
    l->status.size = sizeof l->status;
    ht_tunnel_get_status(l->tunnel, &l->status);
    uint64_t took = now - l->sampled_at;
    if (took < SAMPLE_MS)
        return;
    if (l->sampled_at > 0) {
        l->rate_in = (double)(l->status.bytes_in - l->sampled_in) * 1e3 / (double)took;
        l->rate_out = (double)(l->status.bytes_out - l->sampled_out) * 1e3 / (double)took;
    }
    l->sampled_at = now;
    l->sampled_in = l->status.bytes_in;
    l->sampled_out = l->status.bytes_out;
}

static void draw(struct cli_live *l) {
    struct cli_frame f = {.n_rows = 0};
    sample(l);
    if (cli_live_frame(l, l->screen.columns, l->screen.rows, &f) == HT_OK)
        cli_screen_draw(&l->screen, &f);
    ht_buf_free(&f.text);
}

static struct cli_live *attached; /* what a complaint must not be written into */

static void ticked(struct io_timer *t) {
    struct cli_live *l = ht_container_of(t, struct cli_live, tick);
    l->soon = false;
    draw(l);
    io_timer_set(&l->tick, TICK_MS);
}

void cli_live_touch(struct cli_live *l) {
    if (attached == l && !l->soon)
        io_timer_set(&l->tick, SOON_MS);
    l->soon = true;
}

static void on_resize(struct io_signal *s, int signo) {
    struct cli_live *l = ht_container_of(s, struct cli_live, resize);
    (void)signo;
    cli_screen_resized(&l->screen);
    draw(l);
}

static void on_stop(struct io_signal *s, int signo) {
    struct cli_live *l = ht_container_of(s, struct cli_live, stop);
    (void)signo;
    cli_screen_suspend(&l->screen);
    raise(SIGSTOP);
}

static void on_resume(struct io_signal *s, int signo) {
    struct cli_live *l = ht_container_of(s, struct cli_live, resume);
    (void)signo;
    cli_screen_resume(&l->screen);
    draw(l);
}

static void make_room(void) {
    if (attached && isatty(STDERR_FILENO))
        cli_screen_yield(&attached->screen);
}

struct cli_live *cli_live_create(const char *kit, const struct ht_bind_options *binds, size_t n, bool color) {
    struct cli_live *l = ht_calloc(1, sizeof *l);
    struct live_binding *rows = ht_calloc(n ? n : 1, sizeof *rows);
    if (!l || !rows) {
        ht_free(l);
        ht_free(rows);
        return NULL;
    }
    l->bindings = rows;
    l->n_bindings = (unsigned)n;
    l->color = color;
    snprintf(l->kit, sizeof l->kit, "%s", kit);
    for (size_t i = 0; i < n; i++) {
        const struct ht_bind_options *b = &binds[i];
        snprintf(rows[i].url, sizeof rows[i].url, b->container_port ? "port %u" : "a port", b->container_port);
        snprintf(rows[i].target, sizeof rows[i].target, "%s", b->target ? b->target : "the sample page");
        snprintf(rows[i].name, sizeof rows[i].name, "%s", b->label ? b->label : "");
    }
    return l;
}

void cli_live_attach(struct cli_live *l, struct cli_events *e, struct ht_tunnel *t, struct io_loop *loop) {
    l->tunnel = t;
    l->loop = loop;
    e->live = l;
    attached = l;
    cli_before_complaint = make_room;
    cli_screen_open(&l->screen, &e->out);
    io_timer_init(loop, &l->tick, ticked);
    io_signal_start(loop, &l->resize, SIGWINCH, on_resize);
    io_signal_start(loop, &l->stop, SIGTSTP, on_stop);
    io_signal_start(loop, &l->resume, SIGCONT, on_resume);
    cli_live_touch(l);
}

void cli_live_detach(struct cli_live *l) {
    if (!l || attached != l)
        return;
    draw(l);
    io_timer_stop(&l->tick);
    io_signal_stop(&l->resize);
    io_signal_stop(&l->stop);
    io_signal_stop(&l->resume);
    cli_screen_close(&l->screen);
    cli_before_complaint = NULL;
    attached = NULL;
}

void cli_live_destroy(struct cli_live **lp) {
    struct cli_live *l = *lp;
    *lp = NULL;
    if (!l)
        return;
    cli_live_detach(l);
    ht_free(l->bindings);
    ht_free(l);
}

void cli_live_request(struct cli_live *l, const struct ht_request *r) {
    struct live_request *q = &l->requests[l->n_requests++ % LIVE_REQUESTS];
    time_t now = time(NULL);
    struct tm tm;
    localtime_r(&now, &tm);
    strftime(q->when, sizeof q->when, "%H:%M:%S", &tm);
    q->failed = r->error != NULL;
    if (r->kind == HT_EXPOSE_HTTP && r->status)
        snprintf(q->status, sizeof q->status, "%d", r->status);
    else
        snprintf(q->status, sizeof q->status, "%s", r->kind == HT_EXPOSE_HTTP ? "---" : "tcp");
    cli_human_bytes(r->bytes_out, q->size);
    cli_human_us(r->duration_us, q->took);
    if (r->kind == HT_EXPOSE_HTTP)
        snprintf(q->text, sizeof q->text, "%s %s%s%s", r->method, r->target, r->error ? "  " : "",
                 r->error ? r->error : "");
    else
        snprintf(q->text, sizeof q->text, "%s%s%s", *r->peer ? r->peer : "a connection", r->error ? "  " : "",
                 r->error ? r->error : "");
    cli_live_touch(l);
}
