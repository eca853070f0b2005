/* Reports the events of a tunnel: as lines for people, or as one JSON object each. */
#include "cli/cli.h"

#include "audit_gen.h"
#include "base/clock.h"
#include "base/mem.h"
#include "cli/live.h"
#include "events_gen.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int cli_events_init(struct cli_events *e, struct io_loop *loop, unsigned expected) {
    *e = (struct cli_events){.expected = expected, .log_level = HT_LOG_INFO};
    cli_output_init(&e->out, loop);
    cli_state_init(e, loop);
    e->urls = ht_calloc(expected ? expected : 1, sizeof *e->urls);
    return e->urls ? HT_OK : HT_ENOMEM;
}

void cli_events_free(struct cli_events *e) {
    cli_live_detach(e->live);
    cli_state_gone(e);
    cli_audit_close(&e->audit);
    cli_output_finish(&e->out);
    ht_free(e->urls);
    e->urls = NULL;
}

void cli_events_line(struct cli_events *e, struct ht_slice line) {
    if (!e->live) {
        cli_output_line(&e->out, line);
        return;
    }
    cli_screen_line(&e->live->screen, line);
    cli_live_touch(e->live);
}

/* ---- making a line; without memory it is left out ---- */

struct line {
    struct ht_buf b;
    int rc;
};

static void add(struct line *l, const char *s) {
    if (l->rc == HT_OK)
        l->rc = ht_buf_append_str(&l->b, s);
}

/* Adds text of a peer, safe to show. */
static void add_safe(struct line *l, const char *s) {
    if (l->rc == HT_OK)
        l->rc = cli_put_text(&l->b, s);
}

static void add_colored(struct line *l, bool color, const char *sgr, const char *s) {
    if (color) {
        add(l, "\033[");
        add(l, sgr);
        add(l, "m");
    }
    add_safe(l, s);
    add(l, color ? "\033[0m" : "");
}

/* An object of events_gen.h, as the line it is. */
#define TELL(e, name, ...)                                                                                             \
    do {                                                                                                               \
        struct ht_buf told = {0};                                                                                      \
        char when[HT_TIME_TEXT];                                                                                       \
        if (tell_##name(&told, ht_now_text(when), &(struct tell_##name){__VA_ARGS__}) == HT_OK)                        \
            cli_events_line(e, ht_buf_slice(&told));                                                                   \
        ht_buf_free(&told);                                                                                            \
    } while (0)

static const char *or_null(const char *text) { return text && *text ? text : NULL; }

static void begin_text(struct line *l) {
    time_t now = time(NULL);
    struct tm tm;
    char when[16];
    localtime_r(&now, &tm);
    strftime(when, sizeof when, "%H:%M:%S", &tm);
    l->rc = ht_buf_printf(&l->b, "%s  ", when);
}

static void emit(struct cli_events *e, struct line *l, const char *tail) {
    add(l, tail);
    if (l->rc == HT_OK)
        cli_events_line(e, ht_buf_slice(&l->b));
    ht_buf_free(&l->b);
}

static const char *kind_text(enum ht_bind_kind kind) { return kind == HT_EXPOSE_HTTP ? "http" : "tcp"; }

/* ---- the session ---- */

/* Complains when names cannot be used: the kit is too old, or it has no proxy. */
static bool missing_proxy(struct cli_events *e, const struct ht_connected *c) {
    if (!e->by_name || (c->knows_names && c->proxy))
        return false;
    if (c->knows_names)
        cli_complain(
            "the kit has no proxy through which names could be reached; start it with --connect-proxy 127.0.0.1:9090");
    else
        cli_complain("this kit cannot register names, so nothing can be reached by name through it: it is older, or "
                     "another project's");
    e->bind_failed = true;
    ht_tunnel_close(e->tunnel);
    return true;
}

/* Prints, once, how programs in the container are made to use the proxy. */
static void tell_proxy(struct cli_events *e, const char *proxy) {
    struct line l = {.rc = HT_OK};
    if (!e->by_name || e->told_proxy || !proxy)
        return;
    e->told_proxy = true;
    begin_text(&l);
    add(&l, "in the container: eval \"$(hoody-tunnel env)\", or export HTTPS_PROXY=http://");
    add_safe(&l, proxy);
    emit(e, &l, "\n");
}

static void on_connected(void *user, const struct ht_connected *c) {
    struct cli_events *e = user;
    struct line l = {.rc = HT_OK};
    cli_state_changed(e);
    if (e->json)
        TELL(e, connected, .session_id = c->session_id, .server = or_null(c->server), .resumed = c->resumed,
             .proxy = c->proxy, .user = c->user, .whole = c->whole, .has_paused_ms = c->whole,
             .paused_ms = c->paused_ms);
    if (missing_proxy(e, c) || e->json)
        return;
    if (e->live) {
        snprintf(e->live->session, sizeof e->live->session, "%s", c->session_id);
        snprintf(e->live->server, sizeof e->live->server, "%s", c->server);
        snprintf(e->live->user, sizeof e->live->user, "%s", c->user ? c->user : "");
        e->live->why[0] = '\0';
        cli_live_touch(e->live);
        if (!e->was_lost) { /* the block shows that it is connected */
            tell_proxy(e, c->proxy);
            return;
        }
    }
    begin_text(&l);
    add(&l, *c->server ? "connected to " : "connected");
    add_safe(&l, c->server);
    add(&l, c->user ? " as " : "");
    add_safe(&l, c->user ? c->user : "");
    add(&l, ", session ");
    add_safe(&l, c->session_id);
    if (c->whole && l.rc == HT_OK)
        l.rc = ht_buf_printf(&l.b, ", resumed after %.1f s, nothing lost", (double)c->paused_ms / 1e3);
    emit(e, &l, c->resumed && !c->whole ? ", resumed\n" : "\n");
    tell_proxy(e, c->proxy);
}

static void on_disconnected(void *user, const struct ht_disconnected *d) {
    struct cli_events *e = user;
    struct line l = {.rc = HT_OK};
    cli_state_gone(e);
    e->losses += d->retrying;
    if (e->json) {
        TELL(e, disconnected, .error = ht_strerror(d->error), .message = d->text, .has_retry_in_ms = d->retrying,
             .retry_in_ms = d->retry_in_ms, .paused = d->paused, .has_paused_for_ms = d->paused > 0,
             .paused_for_ms = d->paused_for_ms);
    } else if (d->retrying) { /* otherwise on_ended() reports the same reason */
        e->was_lost = true;
        begin_text(&l);
        add(&l, "disconnected: ");
        add_safe(&l, d->text);
        if (d->paused > 0 && l.rc == HT_OK)
            l.rc = ht_buf_printf(&l.b, "; %u open request%s or connection%s wait%s", d->paused,
                                 d->paused > 1 ? "s" : "", d->paused > 1 ? "s" : "", d->paused > 1 ? "" : "s");
        if (l.rc == HT_OK)
            l.rc = ht_buf_printf(&l.b, "; trying again in %llu ms\n", (unsigned long long)d->retry_in_ms);
        emit(e, &l, "");
    }
}

/* Lines for people do not have it: the log tells it. */
static void on_retrying(void *user, const struct ht_retry *r) {
    struct cli_events *e = user;
    if (e->live) {
        snprintf(e->live->why, sizeof e->live->why, "%s", r->text);
        cli_live_touch(e->live);
    } else if (e->json) {
        TELL(e, retrying, .attempt = r->attempt, .error = ht_strerror(r->error), .message = r->text,
             .retry_in_ms = r->retry_in_ms);
    }
}

static void on_inspecting(void *user, const char *url) {
    struct cli_events *e = user;
    struct line l = {.rc = HT_OK};
    if (e->json) {
        TELL(e, inspecting, .url = url);
        return;
    }
    if (e->live) {
        snprintf(e->live->inspector, sizeof e->live->inspector, "%s", url);
        cli_live_touch(e->live);
        return;
    }
    begin_text(&l);
    add(&l, "inspector at ");
    add_safe(&l, url);
    emit(e, &l, "\n");
}

static void on_latency(void *user, uint64_t round_trip_us) {
    struct cli_events *e = user;
    if (e->live) {
        cli_live_touch(e->live);
    } else if (e->json) {
        TELL(e, latency, .round_trip_us = round_trip_us);
    }
}

/* The option or variable that would help against the error; "": there is none. */
static const char *what_mends(const struct cli_events *e, int error, const char *text) {
    if (error == HT_TUNNEL_ECONNECT && e->default_url)
        return CLI_NAME_THE_KIT;
    if (error == HT_TUNNEL_EAUTH && e->no_token)
        return "; " CLI_GIVE_A_TOKEN;
    if (error == HT_TUNNEL_EAUTH && e->stored_url)
        return "; " CLI_STORED_TOKEN;
    if (error == HT_TUNNEL_ELIMIT && !strstr(text, "--"))
        return "; the kit's option --max-sessions says how many it takes";
    return "";
}

/* What became of the links that were lost, in the last line. */
static void add_losses(struct line *l, unsigned losses, uint64_t whole) {
    if (losses == 0 || l->rc < 0)
        return;
    l->rc = ht_buf_printf(&l->b, "; the link was lost %u time%s", losses, losses > 1 ? "s" : "");
    if (whole == losses)
        add(l, ", and nothing with it");
    else if (whole > 0 && l->rc == HT_OK)
        l->rc =
            ht_buf_printf(&l->b, ", and nothing with it %llu time%s", (unsigned long long)whole, whole > 1 ? "s" : "");
}

static void on_ended(void *user, int error, const char *text) {
    struct cli_events *e = user;
    struct line l = {.rc = HT_OK};
    struct ht_tunnel_status s = {.size = sizeof s};
    e->ended = error;
    cli_state_gone(e);
    if (e->tunnel)
        (void)ht_tunnel_get_status(e->tunnel, &s);
    if (e->json) {
        TELL(e, ended, .exit_status = (uint64_t)(e->bind_failed ? OPT_EXIT_BIND : ht_exit_status(error)),
             .error = error == HT_TUNNEL_OK ? NULL : ht_strerror(error), .message = text, .losses = e->losses,
             .whole = s.whole, .resent_bytes = s.resent, .paused_ms = s.paused_ms,
             .longest_pause_ms = s.longest_pause_ms);
    } else if (error == HT_TUNNEL_OK) {
        begin_text(&l);
        add(&l, "closed");
        add_losses(&l, e->losses, s.whole);
        emit(e, &l, "\n");
    }
    if (error != HT_TUNNEL_OK)
        cli_complain("%s%s", text, what_mends(e, error, text));
}

static void on_log(void *user, enum ht_log_severity severity, const char *text) {
    static const enum ht_log_level levels[] = {HT_LOG_ERROR, HT_LOG_WARN, HT_LOG_INFO, HT_LOG_DEBUG};
    struct cli_events *e = user;
    struct line l = {.rc = HT_OK};
    if (!e->live) {
        ht_log(levels[severity], "driver", "%s", text);
    } else if (severity <= HT_SEVERITY_WARNING) { /* for anything less the block is enough */
        begin_text(&l);
        add_safe(&l, text);
        emit(e, &l, "\n");
    }
}

/* ---- bindings ---- */

/* Draws the QR code of the first URL that a telephone can open. */
static void show_qr(struct cli_events *e) {
    struct ht_buf code = {0};
    unsigned i = 0;
    while (i < e->expected && strncmp(e->urls[i], "http", 4) != 0)
        i++;
    int rc = i < e->expected ? cli_qr_put(&code, e->urls[i], e->color) : HT_EINVAL;
    if (rc < 0)
        cli_complain("there is no QR code to show: %s",
                     i == e->expected ? "the kit knows no URL that begins with http" : ht_err_text(rc));
    else
        cli_events_line(e, ht_buf_slice(&code));
    ht_buf_free(&code);
}

/* Prints the URLs above the block, where they stay, because the block may have no room for all of them. */
static void scroll_urls(struct cli_events *e) {
    for (unsigned i = 0; i < e->expected && i < e->live->n_bindings; i++) {
        const struct live_binding *b = &e->live->bindings[i];
        struct line l = {.rc = HT_OK};
        add_safe(&l, e->urls[i]);
        add(&l, cli_utf8() ? " \xe2\x86\x92 " : " -> ");
        add_safe(&l, b->target);
        add(&l, b->name[0] ? "  " : "");
        add_safe(&l, b->name);
        emit(e, &l, "\n");
    }
}

/* Shows a binding in its row of the block. */
static void show_bound(struct cli_events *e, const struct ht_bound *b, const char *url, const char *target) {
    if (b->binding < 1 || (unsigned)b->binding > e->live->n_bindings)
        return;
    struct live_binding *row = &e->live->bindings[b->binding - 1];
    row->state = LIVE_BOUND;
    snprintf(row->url, sizeof row->url, "%s", url);
    row->also[0] = '\0';
    for (size_t i = 1; i < b->n_urls; i++) {
        size_t n = strlen(row->also);
        if (n + strlen(b->urls[i]) + 2 <= sizeof row->also) /* no URL is cut */
            snprintf(row->also + n, sizeof row->also - n, "%s%s", n ? " " : "", b->urls[i]);
    }
    snprintf(row->target, sizeof row->target, "%s", target);
    row->insecure = b->insecure;
    cli_live_touch(e->live);
}

/* NAME[=TARGET] of a binding without a port; NULL: it has a port. */
static const char *name_of(const struct cli_events *e, int binding) {
    unsigned i = (unsigned)binding - 1;
    return e->binds && i < e->expected && e->binds[i].portless ? e->binds[i].names[0] : NULL;
}

/* Joins texts with commas. NULL: there are none, or out of memory. */
static const char *join(struct ht_buf *out, const char *const *texts, size_t n) {
    int rc = HT_OK;
    for (size_t i = 0; i < n && rc == HT_OK; i++)
        rc = ht_buf_printf(out, "%s%s", i ? "," : "", texts[i]);
    return n && rc == HT_OK && ht_buf_append(out, "", 1) == HT_OK ? (const char *)ht_buf_head(out) : NULL;
}

static void on_bound(void *user, const struct ht_bound *b) {
    struct cli_events *e = user;
    struct line l = {.rc = HT_OK};
    char made[CLI_NAME];
    struct ht_buf names = {0}, urls = {0};
    const char *url = b->url;
    const char *by_name = name_of(e, b->binding), *to = by_name ? strchr(by_name, '=') : NULL;
    char target[LIVE_TEXT] = "";
    cli_state_changed(e);
    if (by_name) { /* one that has no port */
        snprintf(made, sizeof made, "%.*s", (int)strcspn(by_name, "="), by_name);
        snprintf(target, sizeof target, "%s", to ? to + 1 : "by name, from this machine");
        url = made;
    } else if (!*url) { /* a kit elsewhere that knows no URL: the port is what there is to say */
        snprintf(made, sizeof made, "port %u of the container", b->container_port);
        url = made;
    }
    if (e->json) {
        TELL(e, bound, .binding = (uint64_t)b->binding, .kind = kind_text(b->kind), .container_port = b->container_port,
             .target = b->target, .tls = b->tls, .insecure = b->insecure, .names = join(&names, b->names, b->n_names),
             .public_url = b->public_url, .urls = join(&urls, b->urls, b->n_urls), .url = or_null(b->url));
        ht_buf_free(&names);
        ht_buf_free(&urls);
    } else if (e->live) {
        show_bound(e, b, url, *target ? target : b->target);
    } else {
        add_safe(&l, url);
        add(&l, " -> ");
        if (b->insecure)
            add_colored(&l, e->color, "31", *target ? target : b->target);
        else
            add_safe(&l, *target ? target : b->target);
        if (b->insecure)
            add_colored(&l, e->color, "31", "  certificate not verified");
        for (size_t i = 1; i < b->n_urls; i++) {
            add(&l, "\n    also ");
            add_safe(&l, b->urls[i]);
        }
        emit(e, &l, "\n");
    }
    if (b->binding < 1 || (unsigned)b->binding > e->expected)
        return;
    char *known = e->urls[b->binding - 1];
    bool first = !*known; /* false: bound again after a lost link */
    bool changed = strcmp(known, url) != 0;
    snprintf(known, sizeof e->urls[0], "%s", url);
    e->n_bound += first;
    if (changed && e->n_bound == e->expected && e->url_file)
        cli_url_file_write(e);
    if (changed && e->n_bound == e->expected && e->live && cli_live_folds(e->live))
        scroll_urls(e);
    if (first && e->n_bound == e->expected && e->qr)
        show_qr(e);
}

/* The option of the kit that would help against a refused BIND, for kits whose message does not name it. */
static const char *bind_mends(const char *code) {
    static const struct {
        const char *code, *says;
    } rows[] = {
        {"BIND_CAP_EXCEEDED", "; the kit's option --max-bindings-per-session says how many it allows"},
        {"RESERVED_PORT", "; the kit's option --reserved-ports says which are"},
        {"PRIVILEGED_PORT",
         "; the kit's options --allow-privileged-expose and --allow-privileged-pull let them be used"},
        {"NAME_IN_USE", "; --name gives this machine another one, and `hoody-tunnel status` shows what is yours"},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++)
        if (strcmp(rows[i].code, code) == 0)
            return rows[i].says;
    return "";
}

static void on_bind_failed(void *user, const struct ht_bind_failure *f) {
    struct cli_events *e = user;
    char port[32] = "a port of its choice";
    const char *by_name = name_of(e, f->binding);
    if (f->container_port)
        snprintf(port, sizeof port, "port %u", f->container_port);
    if (e->json) {
        TELL(e, bind_failed, .binding = (uint64_t)f->binding, .container_port = f->container_port, .target = f->target,
             .code = f->code, .message = f->message);
    }
    if (by_name)
        cli_complain("the kit refused the name %.*s: %s%s%s%s", (int)strcspn(by_name, "="), by_name, f->code,
                     *f->message ? ": " : "", f->message, strstr(f->message, "--") ? "" : bind_mends(f->code));
    else
        cli_complain("the kit refused %s for %s: %s%s%s%s", port, f->target, f->code, *f->message ? ": " : "",
                     f->message, strstr(f->message, "--") ? "" : bind_mends(f->code));
    e->bind_failed = true;
    ht_tunnel_close(e->tunnel);
}

static void on_unbound(void *user, const struct ht_unbound *u) {
    struct cli_events *e = user;
    struct line l = {.rc = HT_OK};
    unsigned i = (unsigned)u->binding - 1;
    cli_state_changed(e);
    if (e->json) {
        TELL(e, unbound, .binding = (uint64_t)u->binding, .revoked = u->revoked, .reason = or_null(u->reason));
        return;
    }
    const char *what = u->revoked ? "was taken over by another driver" : "was given back";
    if (e->live && i < e->live->n_bindings) {
        e->live->bindings[i].state = LIVE_GONE;
        snprintf(e->live->bindings[i].why, sizeof e->live->bindings[i].why, "%s", what);
    }
    begin_text(&l);
    add_safe(&l, i < e->expected ? e->urls[i] : "a binding");
    add(&l, " ");
    add(&l, what);
    add(&l, *u->reason ? ": " : "");
    add_safe(&l, u->reason);
    emit(e, &l, "\n");
}

/* ---- requests ---- */

static void request_json(struct cli_events *e, const struct ht_request *r) {
    if (r->kind == HT_EXPOSE_HTTP)
        TELL(e, request, .binding = (uint64_t)r->binding, .stream = r->stream_id, .method = r->method,
             .target = r->target, .has_status = r->status != 0, .status = (uint64_t)r->status, .peer = or_null(r->peer),
             .bytes_in = r->bytes_in, .bytes_out = r->bytes_out, .duration_us = r->duration_us,
             .reset_code = (uint64_t)r->reset_code, .error = r->error);
    else
        TELL(e, connection, .binding = (uint64_t)r->binding, .stream = r->stream_id, .peer = or_null(r->peer),
             .authority = r->authority, .bytes_in = r->bytes_in, .bytes_out = r->bytes_out,
             .duration_us = r->duration_us, .reset_code = (uint64_t)r->reset_code, .error = r->error);
}

static void request_text(struct cli_events *e, const struct ht_request *r) {
    struct line l = {.rc = HT_OK};
    char in[CLI_HUMAN], out[CLI_HUMAN], took[CLI_HUMAN], status[8] = "---";
    if (r->status)
        snprintf(status, sizeof status, "%d", r->status);
    cli_human_bytes(r->bytes_in, in);
    cli_human_bytes(r->bytes_out, out);
    cli_human_us(r->duration_us, took);
    const char *color = r->error || status[0] == '5' ? "31" : status[0] == '4' ? "33" : "32";
    begin_text(&l);
    if (r->kind == HT_EXPOSE_HTTP) {
        add_colored(&l, e->color, color, status);
        add(&l, "  ");
        add_safe(&l, r->method);
        add(&l, " ");
        add_safe(&l, r->target);
        if (l.rc == HT_OK)
            l.rc = ht_buf_printf(&l.b, "  %s, %s", out, took);
    } else {
        add_colored(&l, e->color, color, "tcp");
        add(&l, "  ");
        add_safe(&l, *r->peer ? r->peer : "somebody");
        add(&l, r->authority ? " -> " : "");
        add_safe(&l, r->authority ? r->authority : "");
        if (l.rc == HT_OK)
            l.rc = ht_buf_printf(&l.b, "  %s in, %s out, %s", in, out, took);
    }
    add(&l, r->error ? "  (" : "");
    add_safe(&l, r->error ? r->error : "");
    emit(e, &l, r->error ? ")\n" : "\n");
}

static bool is_shown(const struct cli_events *e, const char *error) {
    return e->log_level > HT_LOG_WARN || (e->log_level == HT_LOG_WARN && error);
}

/* Writes a decision to the file of --audit, and with --json to standard output. False: the file could not be written.
 */
static bool note(struct cli_events *e, const struct tell_audit *a, bool shown) {
    struct ht_buf line = {0};
    char when[HT_TIME_TEXT];
    bool noted = tell_audit(&line, ht_now_text(when), a) == HT_OK;
    if (noted && e->audit.path)
        noted = cli_audit_line(&e->audit, ht_buf_slice(&line), !a->over);
    if (e->json && shown && ht_buf_size(&line) > 0 && (noted || a->over))
        cli_events_line(e, ht_buf_slice(&line));
    ht_buf_free(&line);
    return noted;
}

/* Notes a connection by name whose requests are not checked. */
static void note_connection(struct cli_events *e, const struct ht_request *r) {
    (void)note(e,
               &(struct tell_audit){.binding = (uint64_t)r->binding,
                                    .over = true,
                                    .name = r->authority,
                                    .peer = or_null(r->peer),
                                    .allowed = true,
                                    .reason = AUDIT_ALLOWED,
                                    .bytes_in = r->bytes_in,
                                    .bytes_out = r->bytes_out,
                                    .duration_us = r->duration_us,
                                    .error = r->error},
               false); /* --json shows it as a connection */
}

static void on_request(void *user, const struct ht_request *r) {
    struct cli_events *e = user;
    if (r->authority && e->audit.path)
        note_connection(e, r);
    if (!is_shown(e, r->error))
        return;
    if (e->live)
        cli_live_request(e->live, r);
    else if (e->json)
        request_json(e, r);
    else
        request_text(e, r);
}

/* ---- requests that are checked ---- */

/* Shows a checked request as any other one is shown, with the reason of a refusal. */
static void show_audit(struct cli_events *e, const struct ht_audit *a) {
    char target[LIVE_TEXT], refused[LIVE_TEXT];
    snprintf(target, sizeof target, "%s%s", a->name, a->path);
    snprintf(refused, sizeof refused, "refused: %s%s%s", a->reason, a->rule ? ", " : "", a->rule ? a->rule : "");
    struct ht_request r = {.binding = a->binding,
                           .kind = HT_EXPOSE_HTTP,
                           .method = a->method,
                           .target = target,
                           .peer = a->peer,
                           .status = a->status,
                           .error = a->allowed ? a->error : refused,
                           .bytes_in = a->bytes_in,
                           .bytes_out = a->bytes_out,
                           .duration_us = a->duration_us};
    if (!is_shown(e, r.error))
        return;
    if (e->live)
        cli_live_request(e->live, &r);
    else
        request_text(e, &r);
}

static int on_audit(void *user, const struct ht_audit *a) {
    struct cli_events *e = user;
    bool noted = note(e,
                      &(struct tell_audit){.binding = (uint64_t)a->binding,
                                           .request = a->request,
                                           .over = a->over,
                                           .name = a->name,
                                           .method = a->method,
                                           .path = a->path,
                                           .query = e->audit_query ? a->query : NULL,
                                           .peer = or_null(a->peer),
                                           .allowed = a->allowed,
                                           .reason = a->reason,
                                           .rule = a->rule,
                                           .secret = a->secret,
                                           .has_status = a->status != 0,
                                           .status = (uint64_t)a->status,
                                           .bytes_in = a->bytes_in,
                                           .bytes_out = a->bytes_out,
                                           .duration_us = a->duration_us,
                                           .error = a->error},
                      is_shown(e, a->allowed ? a->error : a->reason));
    if (e->live && (noted || a->over))
        cli_live_decided(e->live, a);
    if (a->over && !e->json)
        show_audit(e, a);
    return noted;
}

/* The kit has refused the token: perhaps there is a new one in the same file, or from another login. */
static int on_new_token(void *user, char *out, size_t cap) {
    const struct cli_events *e = user;
    char token[WIRE_LIMIT_MAX_TOKEN + 1];
    struct ht_errmsg err;
    if (!e->token_file && !e->stored_url)
        return 0;
    struct cli_access again = {.url = e->stored_url, .token_file = e->token_file, .set_url = true};
    int rc = e->token_file ? cli_token(e->token_file, NULL, token, &err) : cli_access(&again, token, &err);
    if (rc < 0)
        cli_complain("%s", err.text);
    int n = rc < 0 ? -1 : snprintf(out, cap, "%s", token);
    explicit_bzero(token, sizeof token);
    return n > 0 && (size_t)n < cap;
}

const struct ht_tunnel_callbacks cli_event_callbacks = {
    .size = sizeof(struct ht_tunnel_callbacks),
    .connected = on_connected,
    .inspecting = on_inspecting,
    .bound = on_bound,
    .bind_failed = on_bind_failed,
    .unbound = on_unbound,
    .request = on_request,
    .disconnected = on_disconnected,
    .log = on_log,
    .ended = on_ended,
    .retrying = on_retrying,
    .latency = on_latency,
    .new_token = on_new_token,
    .audit = on_audit,
};
