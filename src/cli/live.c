#include "cli/live.h"

#include "base/mem.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>

#define TICK_MS 1000
#define SOON_MS 100
#define SAMPLE_MS 500 /* rates over a shorter time would jump up and down */

#define GREEN "32"
#define YELLOW "33"
#define RED "31"
#define BOLD "1"
#define FAINT "2"

/* ---- rows ---- */

static struct cli_row row_begin(const struct cli_live *l, struct cli_frame *f, unsigned columns) {
    struct cli_row r = {.b = &f->text, .columns = columns, .color = l->color};
    if (f->n_rows > 0)
        r.rc = ht_buf_append(&f->text, "\n", 1);
    return r;
}

static int row_end(struct cli_frame *f, const struct cli_row *r) {
    f->widths[f->n_rows++] = r->used;
    f->lines += r->columns && r->used > r->columns ? (r->used + r->columns - 1) / r->columns : 1;
    return r->rc;
}

/* A place in a frame, to take back what was added behind it. */
struct mark {
    size_t n;
    unsigned n_rows, lines;
};

static struct mark frame_mark(const struct cli_frame *f) {
    return (struct mark){ht_buf_size(&f->text), f->n_rows, f->lines};
}

static void frame_return(struct cli_frame *f, struct mark m) {
    f->text.len -= ht_buf_size(&f->text) - m.n;
    f->n_rows = m.n_rows;
    f->lines = m.lines;
}

static int frame_append(struct cli_frame *f, const struct cli_frame *more) {
    int rc = f->n_rows > 0 && more->n_rows > 0 ? ht_buf_append(&f->text, "\n", 1) : HT_OK;
    if (rc == HT_OK && more->n_rows > 0)
        rc = ht_buf_append(&f->text, ht_buf_head(&more->text), ht_buf_size(&more->text));
    for (unsigned i = 0; i < more->n_rows; i++)
        f->widths[f->n_rows++] = more->widths[i];
    f->lines += more->lines;
    return rc;
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

/* The link is lost, and what is under way waits for the next one. */
static bool is_paused(const struct cli_live *l) { return l->status.paused_left_ms > 0 && l->status.streams > 0; }

/* How often the link was lost, and nothing with it. */
static void add_pauses(const struct cli_live *l, struct cli_row *r, unsigned columns) {
    char longest[CLI_HUMAN], resent[CLI_HUMAN], text[2][128];
    if (l->status.whole == 0)
        return;
    cli_human_us(l->status.longest_pause_ms * 1000, longest);
    snprintf(text[0], sizeof text[0], "  %llu pause%s, %s at most, %s sent again", (unsigned long long)l->status.whole,
             l->status.whole > 1 ? "s" : "", longest, cli_human_bytes(l->status.resent, resent));
    snprintf(text[1], sizeof text[1], "  %llu pause%s", (unsigned long long)l->status.whole,
             l->status.whole > 1 ? "s" : "");
    for (unsigned i = 0; i < 2; i++)
        if (r->used + strlen(text[i]) <= columns) {
            cli_row_add(r, FAINT, text[i]);
            return;
        }
}

/* Adds the state, the kit's URL, and whatever else has room. A URL that is too long gets up to `lines` rows of its own.
 */
static int link_rows(const struct cli_live *l, struct cli_frame *f, unsigned columns, unsigned lines) {
    static const struct {
        const char *word, *color;
    } states[] = {
        [HT_TUNNEL_NEW] = {"starting", YELLOW},    [HT_TUNNEL_CONNECTING] = {"connecting", YELLOW},
        [HT_TUNNEL_UP] = {"online", GREEN},        [HT_TUNNEL_RETRYING] = {"kit away", RED},
        [HT_TUNNEL_CLOSING] = {"closing", YELLOW}, [HT_TUNNEL_ENDED] = {"ended", FAINT},
    };
    bool paused = is_paused(l);
    const char *word = paused ? "paused" : states[l->status.state].word;
    size_t url = strlen(l->kit);
    bool apart =
        strlen(word) + 2 + url > columns && url > 0 && columns > 0 && 1 + (url + columns - 1) / columns <= lines;
    struct cli_row r = row_begin(l, f, columns);
    char took[CLI_HUMAN], up[24], text[64];
    cli_row_add(&r, paused ? YELLOW : states[l->status.state].color, word);
    if (!apart) {
        cli_row_add(&r, NULL, "  ");
        cli_row_add(&r, BOLD, l->kit);
    }
    if (l->status.state == HT_TUNNEL_UP) {
        cli_human_us(l->status.round_trip_us, took);
        if (l->status.round_trip_us > 0 && r.used + 2 + strlen(took) <= columns) {
            cli_row_add(&r, NULL, "  ");
            cli_row_add(&r, NULL, took);
        }
        put_clock(up, l->status.up_ms);
        snprintf(text, sizeof text, "  up %s", up);
        if (r.used + strlen(text) <= columns)
            cli_row_add(&r, NULL, text);
        add_pauses(l, &r, columns);
    }
    if (paused) {
        put_clock(up, l->status.paused_left_ms);
        snprintf(text, sizeof text, "  %u wait%s, for %s at most", l->status.streams, l->status.streams > 1 ? "" : "s",
                 up);
        if (r.used + strlen(text) <= columns)
            cli_row_add(&r, NULL, text);
    }
    int rc = row_end(f, &r);
    if (rc < 0 || !apart)
        return rc;
    r = row_begin(l, f, columns);
    r.wrap = true;
    cli_row_add(&r, BOLD, l->kit);
    return row_end(f, &r);
}

/* True when there is trouble with the link, which the session's row then shows. */
static bool in_trouble(const struct cli_live *l) {
    return l->status.state == HT_TUNNEL_RETRYING || (l->status.state == HT_TUNNEL_CONNECTING && l->why[0]);
}

static int session_row(const struct cli_live *l, struct cli_frame *f, unsigned columns, bool wrap) {
    struct cli_row r = row_begin(l, f, columns);
    char text[96];
    if (in_trouble(l)) {
        unsigned s = (unsigned)((l->status.retry_in_ms + 999) / 1000);
        r.wrap = wrap;
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
        cli_row_add(&r, FAINT, l->user[0] ? " of " : "");
        cli_row_add(&r, FAINT, l->user);
        if (l->status.granted > 1) {
            snprintf(text, sizeof text, ", %u of %u WebSockets", l->status.connections, l->status.granted);
            cli_row_add(&r, FAINT, text);
        }
        cli_row_add(&r, FAINT, l->server[0] ? ", " : "");
        cli_row_add(&r, FAINT, l->server);
    }
    return row_end(f, &r);
}

static void add_url(const struct cli_live *l, const struct live_binding *b, struct cli_row *r) {
    const char *color = b->state == LIVE_ASKED || l->status.state != HT_TUNNEL_UP ? FAINT : GREEN;
    if (b->state == LIVE_GONE) {
        cli_row_add(r, RED, b->why);
        cli_row_add(r, NULL, "  ");
        color = NULL;
    }
    cli_row_add(r, color, b->url);
}

static void add_target(const struct live_binding *b, struct cli_row *r) {
    cli_row_add(r, NULL, arrow());
    cli_row_add(r, b->insecure ? RED : NULL, b->target);
    if (b->insecure)
        cli_row_add(r, RED, "  certificate not verified");
    if (b->name[0]) {
        cli_row_add(r, NULL, "  ");
        cli_row_add(r, FAINT, b->name);
    }
}

/* Adds a binding in one row if it fits. Otherwise the URL gets as many rows as it needs, and the target one below. */
static int binding_rows(const struct cli_live *l, const struct live_binding *b, struct cli_frame *f, unsigned columns) {
    struct mark before = frame_mark(f);
    struct cli_row r = row_begin(l, f, columns);
    r.wrap = true;
    add_url(l, b, &r);
    add_target(b, &r);
    if (r.used <= columns || r.rc < 0)
        return row_end(f, &r);
    frame_return(f, before);
    r = row_begin(l, f, columns);
    r.wrap = true;
    add_url(l, b, &r);
    int rc = row_end(f, &r);
    if (rc < 0 || f->n_rows == SCREEN_ROWS_MAX)
        return rc;
    r = row_begin(l, f, columns);
    cli_row_add(&r, NULL, " ");
    add_target(b, &r);
    return row_end(f, &r);
}

/* Adds a binding, and a row for each of its other URLs. */
static int binding_part(const struct cli_live *l, const struct live_binding *b, struct cli_frame *f, unsigned columns) {
    int rc = binding_rows(l, b, f, columns);
    for (const char *at = b->also; *at && rc == HT_OK && f->n_rows < SCREEN_ROWS_MAX; at += strspn(at, " ")) {
        char url[LIVE_URL];
        size_t n = strcspn(at, " ");
        struct cli_row r = row_begin(l, f, columns);
        snprintf(url, sizeof url, "%.*s", (int)n, at);
        r.wrap = true;
        cli_row_add(&r, NULL, "  ");
        cli_row_add(&r, b->state == LIVE_BOUND ? GREEN : FAINT, url);
        rc = row_end(f, &r);
        at += n;
    }
    return rc;
}

static int traffic_row(const struct cli_live *l, struct cli_frame *f, unsigned columns) {
    struct cli_row r = row_begin(l, f, columns);
    char in[CLI_HUMAN], out[CLI_HUMAN], all_in[CLI_HUMAN], all_out[CLI_HUMAN], texts[3][160];
    unsigned long long total = l->status.streams_total;
    cli_human_bytes((uint64_t)l->rate_in, in);
    cli_human_bytes((uint64_t)l->rate_out, out);
    snprintf(texts[0], sizeof texts[0], "%u open, %llu so far  in %s/s (%s)  out %s/s (%s)", l->status.streams, total,
             in, cli_human_bytes(l->status.bytes_in, all_in), out, cli_human_bytes(l->status.bytes_out, all_out));
    snprintf(texts[1], sizeof texts[1], "%u open, %llu so far  in %s/s  out %s/s", l->status.streams, total, in, out);
    snprintf(texts[2], sizeof texts[2], "%u open  in %s/s  out %s/s", l->status.streams, in, out);
    unsigned i = 0;
    while (i < 2 && strlen(texts[i]) > columns)
        i++;
    cli_row_add(&r, NULL, texts[i]);
    return row_end(f, &r);
}

/* Adds the numbers of decisions about checked requests. */
static int checked_row(const struct cli_live *l, struct cli_frame *f, unsigned columns) {
    struct cli_row r = row_begin(l, f, columns);
    char text[64];
    snprintf(text, sizeof text, "requests checked: %llu allowed, ", (unsigned long long)l->n_allowed);
    cli_row_add(&r, NULL, text);
    snprintf(text, sizeof text, "%llu refused", (unsigned long long)l->n_refused);
    cli_row_add(&r, l->n_refused ? RED : NULL, text);
    return row_end(f, &r);
}

#define ROOM_FOR_TWO 20 /* columns */

/* Adds a request. A long path is cut to show its error, but some of the path is always shown. */
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
    unsigned room = columns - ht_min(columns, r.used), error = (unsigned)strlen(q->error) + 2;
    if (q->error[0] && room < ROOM_FOR_TWO) {
        cli_row_add(&r, RED, q->error);
    } else if (q->error[0]) {
        r.columns = r.used + ht_max(room - ht_min(room, error), room / 3);
        cli_row_add(&r, NULL, q->text);
        r.full = r.full && r.columns == columns;
        r.columns = columns;
        cli_row_add(&r, NULL, "  ");
        cli_row_add(&r, RED, q->error);
    } else {
        cli_row_add(&r, NULL, q->text);
    }
    return row_end(f, &r);
}

static int text_row(const struct cli_live *l, struct cli_frame *f, unsigned columns, const char *text) {
    struct cli_row r = row_begin(l, f, columns);
    cli_row_add(&r, FAINT, text);
    return row_end(f, &r);
}

/* ---- the block ---- */

#define LINK_LINES 4 /* for a long URL of the kit */
#define TROUBLE_LINES 3

/* Adds the bindings that were lost, then the others, as many as fit into `lines`. The last line counts the rest. */
static int bindings_part(const struct cli_live *l, struct cli_frame *f, unsigned columns, unsigned lines) {
    unsigned shown = 0;
    int rc = HT_OK;
    bool room = lines > 0;
    for (unsigned pass = 0; pass < 2; pass++)
        for (unsigned i = 0; i < l->n_bindings && rc == HT_OK && room; i++) {
            struct mark before = frame_mark(f);
            bool last = shown + 1 == l->n_bindings;
            if ((l->bindings[i].state == LIVE_GONE) != (pass == 0))
                continue;
            rc = binding_part(l, &l->bindings[i], f, columns);
            room = rc == HT_OK && f->lines <= (last ? lines : lines - 1);
            if (room)
                shown++;
            else if (rc == HT_OK)
                frame_return(f, before);
        }
    f->folded = l->n_bindings - shown;
    if (rc == HT_OK && f->folded > 0 && lines > 0) {
        char text[48];
        snprintf(text, sizeof text, shown > 0 ? "and %u more" : "%u ports", f->folded);
        rc = text_row(l, f, columns, text);
    }
    return rc;
}

/* The URL of the inspector's page, whole or not at all: half a secret opens nothing. */
static int inspector_row(const struct cli_live *l, struct cli_frame *f, unsigned columns) {
    struct cli_row r = row_begin(l, f, columns);
    r.wrap = true;
    cli_row_add(&r, FAINT, "inspector ");
    cli_row_add(&r, BOLD, l->inspector);
    return row_end(f, &r);
}

/* How many rows each part gets. When there are few, the most important parts are kept: the link and its trouble, then a
 * binding, traffic and decisions, some requests, how to end the command, and the other bindings and requests. */
struct plan {
    unsigned session, traffic, checked, hint, requests, blanks;
};

int cli_live_frame(const struct cli_live *l, unsigned columns, unsigned rows, struct cli_frame *f) {
    unsigned all = ht_min(rows > 1 ? rows - 1 : 1, SCREEN_ROWS_MAX), requests = ht_min(l->n_requests, LIVE_REQUESTS);
    unsigned some = l->n_bindings > 0;
    struct plan p = {0};
    struct cli_frame bindings = {.n_rows = 0};
    int rc = link_rows(l, f, columns, all > 6 ? LINK_LINES : 1);
    unsigned left = all - ht_min(all, f->lines);
    if (left > (in_trouble(l) ? 0 : some)) {
        struct mark before = frame_mark(f);
        unsigned lines = f->lines;
        if (rc == HT_OK)
            rc = session_row(l, f, columns, true);
        if (rc == HT_OK && f->lines - lines > (left > 8 ? TROUBLE_LINES : 1)) {
            frame_return(f, before);
            rc = session_row(l, f, columns, false);
        }
        left -= ht_min(left, f->lines - lines);
    }
    if (rc == HT_OK && l->inspector[0] && left > some + 3) {
        struct mark before = frame_mark(f);
        unsigned lines = f->lines;
        rc = inspector_row(l, f, columns);
        if (rc == HT_OK && f->lines - lines + some + 2 > left)
            frame_return(f, before);
        left -= ht_min(left, f->lines - lines);
    }
    p.traffic = left > some;
    p.checked = l->n_allowed + l->n_refused > 0 && left > some + 2;
    p.hint = left > some + 3 + p.checked;
    left -= p.traffic + p.checked + p.hint;
    p.requests = ht_min(requests, left / 3);
    if (rc == HT_OK)
        rc = bindings_part(l, &bindings, columns, left - p.requests);
    left -= ht_min(left, bindings.lines);
    p.requests = ht_min(requests, left);
    left -= p.requests;
    p.blanks = left >= 4;
    if (rc == HT_OK && p.blanks)
        rc = text_row(l, f, columns, "");
    if (rc == HT_OK)
        rc = frame_append(f, &bindings);
    f->folded = bindings.folded;
    ht_buf_free(&bindings.text);
    if (rc == HT_OK && p.blanks)
        rc = text_row(l, f, columns, "");
    if (rc == HT_OK && p.traffic)
        rc = traffic_row(l, f, columns);
    if (rc == HT_OK && p.checked)
        rc = checked_row(l, f, columns);
    if (rc == HT_OK && p.blanks && p.requests)
        rc = text_row(l, f, columns, "");
    for (unsigned i = l->n_requests - p.requests; i < l->n_requests && rc == HT_OK; i++)
        rc = request_row(l, &l->requests[i % LIVE_REQUESTS], f, columns);
    if (rc == HT_OK && p.blanks && p.hint)
        rc = text_row(l, f, columns, "");
    if (rc == HT_OK && p.hint)
        rc = text_row(l, f, columns,
                      l->status.state == HT_TUNNEL_CLOSING ? "Ctrl-C again ends it at once"
                      : l->status.state == HT_TUNNEL_ENDED ? ""
                                                           : "Ctrl-C ends it");
    return rc;
}

bool cli_live_folds(const struct cli_live *l) {
    struct cli_live busy = *l;
    struct cli_frame f = {.n_rows = 0};
    busy.n_requests = ht_max(l->n_requests, LIVE_REQUESTS);
    int rc = cli_live_frame(&busy, l->screen.columns, l->screen.rows, &f);
    ht_buf_free(&f.text);
    return rc == HT_OK && f.folded > 0;
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

static struct cli_live *attached; /* the block that complaints must not be written into */

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
        if (b->portless) {
            size_t at = strcspn(b->names[0], "=");
            snprintf(rows[i].url, sizeof rows[i].url, "%.*s", (int)at, b->names[0]);
            snprintf(rows[i].target, sizeof rows[i].target, "%s",
                     b->names[0][at] ? b->names[0] + at + 1 : "by name, from this machine");
        }
        if (!b->portless)
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

void cli_live_decided(struct cli_live *l, const struct ht_audit *a) {
    l->n_allowed += a->allowed && !a->over;
    l->n_refused += !a->allowed;
    cli_live_touch(l);
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
    snprintf(q->error, sizeof q->error, "%s", r->error ? r->error : "");
    if (r->kind == HT_EXPOSE_HTTP)
        snprintf(q->text, sizeof q->text, "%s %s", r->method, r->target);
    else
        snprintf(q->text, sizeof q->text, "%s%s%s", *r->peer ? r->peer : "a connection", r->authority ? arrow() : "",
                 r->authority ? r->authority : "");
    cli_live_touch(l);
}
