#include "driver/driver.h"

#include "base/mem.h"
#include "base/text.h"
#include "wire/name.h"

#include <stdio.h>

#define REBIND_MS 1000       /* between two attempts to get a port back */
#define REBIND_SLOW_MS 15000 /* the same once the port has been lost for longer than the kit's usual grace */

/* ---- one binding ---- */

static void binding_free(struct driver_binding *b) {
    ht_list_remove(&b->node);
    io_timer_stop(&b->timeout);
    driver_guard_free(b);
    driver_names_free(b);
    driver_gate_free(b);
    relay_target_destroy(&b->origin);
    driver_tls_put(&b->tls);
    ht_free(b->ca);
    ht_free(b->names_why);
    ht_free(b->shown_url);
    ht_free(b->label);
    ht_free(b->host_label);
    ht_free(b->hostnames);
    ht_free(b->pull_host);
    ht_free(b);
}

static struct driver_binding *by_number(const struct ht_tunnel *t, uint64_t number) {
    HT_LIST_FOR (it, &t->bindings) {
        struct driver_binding *b = HT_LIST_ENTRY(it, struct driver_binding, node);
        if ((uint64_t)b->number == number)
            return b;
    }
    return NULL;
}

static struct driver_binding *by_id(const struct ht_tunnel *t, uint32_t bind_id) {
    HT_LIST_FOR (it, &t->bindings) {
        struct driver_binding *b = HT_LIST_ENTRY(it, struct driver_binding, node);
        if (b->bind_id == bind_id && (b->state == BINDING_BOUND || b->state == BINDING_UNBINDING))
            return b;
    }
    return NULL;
}

/* Reports that a binding was refused, and frees it. */
static void binding_failed(struct driver_binding *b, const char *code, const char *message) {
    struct ht_tunnel *t = b->t;
    struct ht_bind_failure f = {
        .binding = b->number, .target = b->name, .container_port = b->asked_port, .code = code, .message = message};
    driver_inspect_bindings_changed(t);
    ht_list_remove(&b->node); /* now: the callback may close the tunnel, which frees all bindings in the list */
    bool fatal = t->strict_bindings && !b->drop && t->state == DRIVER_UP;
    if (t->calls.bind_failed && !b->drop)
        t->calls.bind_failed(t->user, &f);
    if (fatal && t->state == DRIVER_UP) {
        driver_end_reason(t, HT_TUNNEL_EBIND, "the kit refused a port for %s: %s%s%s", b->name, code,
                          *message ? ": " : "", message);
        io_timer_set(&t->close_timer, 0); /* not at once: the caller may be going over the bindings */
    }
    binding_free(b);
}

/* True while an UNBIND has no answer. */
static bool is_unbinding(const struct ht_tunnel *t) {
    HT_LIST_FOR (it, &t->bindings)
        if (HT_LIST_ENTRY(it, struct driver_binding, node)->state == BINDING_UNBINDING)
            return true;
    return false;
}

/* Reports that a binding has ended, and frees it. ht_tunnel_close() may have waited for the last one. */
static void binding_gone(struct driver_binding *b, bool revoked, const char *reason) {
    struct ht_tunnel *t = b->t;
    struct ht_unbound u = {.binding = b->number, .revoked = revoked, .reason = reason};
    driver_inspect_bindings_changed(t);
    ht_list_remove(&b->node); /* now, as in binding_failed() */
    if (t->calls.unbound && t->state != DRIVER_CLOSING)
        t->calls.unbound(t->user, &u);
    binding_free(b);
    if (t->state == DRIVER_CLOSING) {
        if (t->now->mux && !t->session_over && !is_unbinding(t)) /* the closing handshake has not begun */
            driver_link_close(t);
    } else if (revoked && t->state == DRIVER_UP && ht_list_empty(&t->bindings)) {
        driver_end_reason(t, HT_TUNNEL_EREVOKED, "another driver took the port over%s%s", *reason ? ": " : "", reason);
        driver_set_state(t, DRIVER_CLOSING);
        driver_link_close(t);
    }
}

/* ---- callbacks of targets ---- */

/* Reports are UTF-8, but a request target may have any bytes: those beyond ASCII are percent-encoded (RFC 3986 2.1). */
static char *target_text(struct ht_slice s, char *out, size_t cap) {
    static const char hex[] = "0123456789ABCDEF";
    size_t n = 0;
    for (size_t i = 0; i < s.n && n + 4 < cap; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c > 0x20 && c < 0x7f) {
            out[n++] = (char)c;
        } else {
            out[n++] = '%';
            out[n++] = hex[c >> 4];
            out[n++] = hex[c & 15];
        }
    }
    out[n] = '\0';
    return out;
}

static void request_finished(void *ctx, const struct relay_request_info *info) {
    struct driver_binding *b = ctx;
    struct ht_tunnel *t = b->t;
    char method[65], target[2048], peer[128];
    struct ht_request r = {
        .binding = b->number,
        .kind = b->kind,
        .stream_id = info->stream_id,
        .method = target_text(info->method, method, sizeof method),
        .target = target_text(info->target, target, sizeof target),
        .peer = driver_inspect_is_replay(t, info->peer_addr) ? "inspector"
                                                             : ht_text_clean(info->peer_addr, peer, sizeof peer),
        .authority = info->authority,
        .status = info->status,
        .reset_code = info->reset_code,
        .error = info->error,
        .bytes_in = info->bytes_in,
        .bytes_out = info->bytes_out,
        .duration_us = info->duration_us,
    };
    t->calls.request(t->user, &r);
}

static void target_down(void *ctx, const char *why, uint16_t status) {
    struct driver_binding *b = ctx;
    if (driver_inspect_reached(b, false)) /* it was said before */
        return;
    if (b->portless)
        driver_say(b->t, HT_SEVERITY_WARNING, "%s; until that is mended, connections to %s fail", why, b->name);
    else if (b->kind == HT_PULL_TCP)
        driver_say(b->t, HT_SEVERITY_WARNING, "%s; until that is mended, connections to port %u are reset", why,
                   b->port);
    else
        driver_say(b->t, HT_SEVERITY_WARNING, "%s; until it can, visitors of port %u get %u", why, b->port, status);
}

static void target_up(void *ctx) { (void)driver_inspect_reached(ctx, true); }

/* ---- BIND and UNBIND ---- */

static void binding_ask(struct driver_binding *b);

static void binding_refused(struct driver_binding *b, const char *code, const char *message) {
    struct ht_tunnel *t = b->t;
    binding_failed(b, code, message);
    driver_shards_bind_changed(t);
}

/* It is time to ask again, or the kit has not answered in time. */
static void timeout_fired(struct io_timer *timer) {
    struct driver_binding *b = ht_container_of(timer, struct driver_binding, timeout);
    if (b->t->state != DRIVER_UP && b->t->state != DRIVER_CLOSING) /* asked for as soon as there is a link again */
        return;
    if (b->state == BINDING_WAITS)
        binding_ask(b);
    else if (b->state == BINDING_ASKED)
        binding_refused(b, "TIMEOUT", "the kit did not answer");
    else
        binding_gone(b, false, "the kit did not answer");
}

static void binding_ask(struct driver_binding *b) {
    if (b->t->restarting) { /* driver_bind_all() asks in the next session */
        b->state = BINDING_WAITS;
        return;
    }
    struct ht_slice names[WIRE_LIMIT_MAX_NAMES];
    bool by_name = b->n_names && mux_session_agreed(b->t->now->mux, WIRE_CAP_NAMES) && !b->names_refused;
    if (b->portless && !by_name) {
        binding_failed(b, "UNSUPPORTED", "this kit is too old to register names");
        return;
    }
    if (b->n_names && !by_name && !b->names_refused)
        driver_say(b->t, b->names_optional ? HT_SEVERITY_DEBUG : HT_SEVERITY_WARNING,
                   "this kit is too old to register names: %s is reached by its port alone", b->name);
    if ((b->host_label || b->n_hostnames) && !mux_session_agreed(b->t->now->mux, WIRE_CAP_HOSTS)) {
        binding_failed(b, "UNSUPPORTED", "this kit is too old to give a binding a name or a hostname");
        return;
    }
    struct ht_slice hostnames[WIRE_LIMIT_MAX_HOSTNAMES];
    for (size_t i = 0; i < b->n_hostnames; i++)
        hostnames[i] = ht_slice_str(b->hostnames[i]);
    struct wire_bind bind = {
        .has_client_bind_ref = true,
        .client_bind_ref = (uint64_t)b->number,
        .kind = b->kind == HT_EXPOSE_HTTP ? WIRE_KIND_HTTP : WIRE_KIND_TCP,
        .mode = b->kind == HT_EXPOSE_HTTP ? WIRE_MODE_EXPOSE : WIRE_MODE_PULL,
        .container_port = b->port ? b->port : b->asked_port,
        .has_label = b->label != NULL,
        .label = ht_slice_str(b->label),
        /* A resumed session without this port has lost it to another driver. A takeover would start a fight. */
        .takeover = b->takeover && !(b->port && b->t->resumed),
        .has_host = b->pull_host != NULL,
        .host = ht_slice_str(b->pull_host),
        .names = names,
        .n_names = by_name ? driver_names_put(b, names) : 0,
        .has_portless = b->portless,
        .portless = b->portless,
        .has_ca = by_name && b->ca,
        .ca = ht_slice_str(b->ca),
        .has_name = b->host_label != NULL,
        .name = ht_slice_str(b->host_label),
        .hostnames = hostnames,
        .n_hostnames = b->n_hostnames,
    };
    int rc = mux_session_send(b->t->now->mux, WIRE_BIND, &bind);
    if (rc < 0) {
        binding_failed(b, "INTERNAL", ht_err_text(rc));
        return;
    }
    b->state = BINDING_ASKED;
    io_timer_set(&b->timeout, WIRE_LIMIT_BIND_TIMEOUT);
    driver_shards_bind_changed(b->t);
}

bool driver_bind_asked(const struct ht_tunnel *t) {
    HT_LIST_FOR (it, &t->bindings)
        if (HT_LIST_ENTRY(it, struct driver_binding, node)->state == BINDING_ASKED)
            return true;
    return false;
}

static int binding_unbind(struct driver_binding *b) {
    struct wire_unbind unbind = {.bind_id = b->bind_id};
    int rc = mux_session_send(b->t->now->mux, WIRE_UNBIND, &unbind);
    if (rc == HT_OK) {
        b->state = BINDING_UNBINDING;
        io_timer_set(&b->timeout, WIRE_LIMIT_BIND_TIMEOUT);
    }
    return rc;
}

/* Handles a binding that a resumed session still has. */
static void take_up(struct ht_tunnel *t, const struct wire_resumed_bind *r) {
    HT_LIST_FOR (it, &t->bindings) {
        struct driver_binding *b = HT_LIST_ENTRY(it, struct driver_binding, node);
        if (b->state != BINDING_LOST || b->bind_id != r->bind_id || b->port != r->container_port)
            continue;
        b->state = BINDING_BOUND;
        if (b->drop)
            (void)binding_unbind(b);
        return;
    }
    /* The answer to its BIND was lost with the link. The BIND is sent again, so this binding must free its port first.
     */
    struct wire_unbind unbind = {.bind_id = r->bind_id};
    if (mux_session_send(t->now->mux, WIRE_UNBIND, &unbind) < 0)
        driver_say(t, HT_SEVERITY_WARNING, "a binding that nobody asked for stays at the kit: out of memory");
}

static struct driver_binding *next_to_ask(const struct ht_tunnel *t) {
    HT_LIST_FOR (it, &t->bindings) {
        struct driver_binding *b = HT_LIST_ENTRY(it, struct driver_binding, node);
        if (b->state == BINDING_LOST || (b->state == BINDING_WAITS && !io_timer_active(&b->timeout)))
            return b;
    }
    return NULL;
}

unsigned driver_n_bound(const struct ht_tunnel *t) {
    unsigned n = 0;
    HT_LIST_FOR (it, &t->bindings)
        n += HT_LIST_ENTRY(it, struct driver_binding, node)->state == BINDING_BOUND;
    return t->state == DRIVER_UP ? n : 0;
}

bool driver_bind_too_many(struct ht_tunnel *t, const struct wire_hello_ok *ok) {
    size_t wanted = 0;
    HT_LIST_FOR (it, &t->bindings)
        wanted += !HT_LIST_ENTRY(it, struct driver_binding, node)->drop;
    if (!t->strict_bindings || !ok->has_max_bindings || wanted <= ok->max_bindings)
        return false;
    driver_end_reason(t, HT_TUNNEL_EBIND,
                      "%zu ports are asked for, and the kit gives a session %llu (its option "
                      "--max-bindings-per-session); it was asked for none of them",
                      wanted, (unsigned long long)ok->max_bindings);
    driver_set_state(t, DRIVER_CLOSING);
    driver_link_close(t);
    return true;
}

/* The search begins anew each time, because callbacks may change the list. */
static void ask_for_the_rest(struct ht_tunnel *t) {
    for (struct driver_binding *b; t->state == DRIVER_UP && (b = next_to_ask(t));) {
        if (b->drop)
            binding_gone(b, false, "");
        else
            binding_ask(b);
    }
}

void driver_bind_all(struct ht_tunnel *t, const struct wire_hello_ok *ok) {
    t->resumed = ok->resumed;
    for (size_t i = 0; ok->resumed && i < ok->n_resumed_binds; i++)
        take_up(t, &ok->resumed_binds[i]);
    ask_for_the_rest(t);
}

void driver_bind_away(struct ht_tunnel *t) {
    HT_LIST_FOR (it, &t->bindings) {
        struct driver_binding *b = HT_LIST_ENTRY(it, struct driver_binding, node);
        if (b->state == BINDING_ASKED || b->state == BINDING_UNBINDING)
            io_timer_stop(&b->timeout);
    }
}

void driver_bind_go_on(struct ht_tunnel *t) {
    t->resumed = true;
    HT_LIST_FOR (it, &t->bindings) {
        struct driver_binding *b = HT_LIST_ENTRY(it, struct driver_binding, node);
        if (b->state == BINDING_ASKED || b->state == BINDING_UNBINDING) /* the answer is still to come */
            io_timer_set(&b->timeout, WIRE_LIMIT_BIND_TIMEOUT);
        else if (b->state == BINDING_BOUND && b->drop)
            (void)binding_unbind(b);
    }
    ask_for_the_rest(t);
}

void driver_bind_lost(struct ht_tunnel *t) {
    HT_LIST_FOR (it, &t->bindings) {
        struct driver_binding *b = HT_LIST_ENTRY(it, struct driver_binding, node);
        io_timer_stop(&b->timeout);
        b->drop = b->drop || b->state == BINDING_UNBINDING;
        b->names_refused = false; /* the kit may give them to the next session */
        if (b->state == BINDING_BOUND || b->state == BINDING_UNBINDING)
            b->state = BINDING_LOST;
        else if (b->state == BINDING_ASKED)
            b->state = BINDING_WAITS;
    }
}

bool driver_unbind_all(struct ht_tunnel *t) {
    HT_LIST_FOR_SAFE (it, &t->bindings) {
        struct driver_binding *b = HT_LIST_ENTRY(it, struct driver_binding, node);
        if (b->state == BINDING_WAITS || b->state == BINDING_ASKED)
            binding_free(b); /* if the kit grants it, it ends with the session */
        else if (b->state == BINDING_BOUND)
            (void)binding_unbind(b); /* if that fails, the binding ends with the session */
    }
    return is_unbinding(t);
}

static int prepare_target(struct driver_binding *b, const struct ht_bind_options *o, struct ht_errmsg *err) {
    if (!o->target && o->portless)
        return HT_TUNNEL_OK;
    if (!o->target)
        return ht_fail(err, HT_TUNNEL_EINVAL, "the binding's target is missing");
    if (driver_target_parse(&b->target, o->target, err) < 0)
        return HT_TUNNEL_EINVAL;
    if (driver_target_check(&b->target, o->kind == HT_EXPOSE_HTTP, o->target, err) < 0)
        return HT_TUNNEL_EINVAL;
    driver_target_text(&b->target, b->name);
    return driver_tls_get(b->t, &b->target, o, &b->tls, err);
}

/* Rule HOST-1 is checked here too, so that a typing error is reported before there is a kit. */
static int prepare_hosts(struct driver_binding *b, const struct ht_bind_options *o, struct ht_errmsg *err) {
    char label[WIRE_LABEL_ROOM], host[WIRE_HOST_ROOM];
    size_t size = 0;
    if (!o->name && o->n_hostnames == 0)
        return HT_TUNNEL_OK;
    if (o->kind != HT_EXPOSE_HTTP)
        return ht_fail(err, HT_TUNNEL_EINVAL, "only an expose binding has a name or hostnames");
    if (o->n_hostnames > WIRE_LIMIT_MAX_HOSTNAMES)
        return ht_fail(err, HT_TUNNEL_EINVAL, "a binding has at most %u hostnames", WIRE_LIMIT_MAX_HOSTNAMES);
    if (o->name && wire_label_read(label, ht_slice_str(o->name), err))
        return HT_TUNNEL_EINVAL;
    for (size_t i = 0; i < o->n_hostnames; i++) {
        if (!o->hostnames[i] || wire_domain_read(host, ht_slice_str(o->hostnames[i]), 2, err))
            return o->hostnames[i] ? HT_TUNNEL_EINVAL : ht_fail(err, HT_TUNNEL_EINVAL, "a hostname is NULL");
        size += strlen(o->hostnames[i]) + 1;
    }
    b->host_label = o->name ? ht_strndup(o->name, strlen(o->name)) : NULL;
    b->hostnames = ht_calloc(1, o->n_hostnames * sizeof *b->hostnames + size + 1);
    if (!b->hostnames || (o->name && !b->host_label))
        return ht_fail(err, HT_TUNNEL_ENOMEM, "out of memory");
    char *at = (char *)(b->hostnames + o->n_hostnames);
    for (; b->n_hostnames < o->n_hostnames; b->n_hostnames++) {
        size_t n = strlen(o->hostnames[b->n_hostnames]) + 1;
        b->hostnames[b->n_hostnames] = memcpy(at, o->hostnames[b->n_hostnames], n);
        at += n;
    }
    return HT_TUNNEL_OK;
}

static int prepare(struct driver_binding *b, const struct ht_bind_options *o, struct ht_errmsg *err) {
    struct ht_tunnel *t = b->t;
    if (o->kind != HT_EXPOSE_HTTP && o->kind != HT_PULL_TCP)
        return ht_fail(err, HT_TUNNEL_EINVAL, "a binding is of the kind HT_EXPOSE_HTTP or HT_PULL_TCP");
    if (o->takeover && o->kind != HT_EXPOSE_HTTP)
        return ht_fail(err, HT_TUNNEL_EINVAL, "only an expose binding can take a port over");
    int rc = prepare_target(b, o, err);
    if (rc < 0)
        return rc;
    struct relay_target_config cfg = {
        .loop = t->loop,
        .host = b->target.host,
        .port = b->target.port,
        .both_loopbacks = b->target.any_loopback,
        .kind = o->kind == HT_EXPOSE_HTTP ? WIRE_KIND_HTTP : WIRE_KIND_TCP,
        .tls = driver_tls_io(b->tls),
        .connect_timeout_ms = t->connect_timeout_ms,
        .pool_size = t->pool_size,
        .pool_idle_ms = t->pool_idle_ms,
        .head_limits = {.max_head = WIRE_LIMIT_MAX_HEAD,
                        .max_headers = WIRE_LIMIT_MAX_HEADERS,
                        .max_target = WIRE_LIMIT_MAX_TARGET},
        .finished = t->calls.request ? request_finished : NULL,
        .tap = o->kind == HT_EXPOSE_HTTP ? driver_inspect_tap(t) : NULL,
        .down = target_down,
        .up = target_up,
        .ctx = b,
        .session = t->session_id,
        .container_port = &b->port,
    };
    rc = driver_gate_set(b, o, &cfg, err);
    if (rc < 0)
        return rc;
    b->kind = o->kind;
    b->names_optional = o->names_optional != 0;
    b->asked_port = o->container_port;
    b->takeover = o->takeover != 0;
    b->origin = relay_target_create(&cfg);
    b->label = o->label ? ht_strndup(o->label, strlen(o->label)) : NULL;
    b->pull_host = o->pull_host && o->kind == HT_PULL_TCP ? ht_strndup(o->pull_host, strlen(o->pull_host)) : NULL;
    if (!b->origin || (o->label && !b->label) || (o->pull_host && o->kind == HT_PULL_TCP && !b->pull_host))
        return ht_fail(err, HT_TUNNEL_ENOMEM, "out of memory");
    rc = prepare_hosts(b, o, err);
    return rc < 0 ? rc : driver_names_set(b, o, &cfg, err);
}

int driver_bind_add(struct ht_tunnel *t, const struct ht_bind_options *o, struct ht_errmsg *err) {
    if (t->state >= DRIVER_CLOSING)
        return ht_fail(err, HT_TUNNEL_ESTATE, "the tunnel is closing or over");
    struct driver_binding *b = ht_calloc(1, sizeof *b);
    if (!b)
        return ht_fail(err, HT_TUNNEL_ENOMEM, "out of memory");
    b->t = t;
    b->number = ++t->last_number;
    ht_list_init(&b->node);
    io_timer_init(t->loop, &b->timeout, timeout_fired);
    int rc = prepare(b, o, err);
    if (rc < 0) {
        binding_free(b);
        return rc;
    }
    int number = b->number;
    ht_list_push_back(&t->bindings, &b->node);
    if (t->state == DRIVER_UP)
        binding_ask(b);
    return number;
}

int driver_bind_remove(struct ht_tunnel *t, int number, struct ht_errmsg *err) {
    struct driver_binding *b = number > 0 ? by_number(t, (uint64_t)number) : NULL;
    if (!b)
        return ht_fail(err, HT_TUNNEL_EINVAL, "there is no binding %d", number);
    switch (b->state) {
    case BINDING_WAITS:
        binding_gone(b, false, "");
        break;
    case BINDING_ASKED:
        b->drop = true; /* unbound when the answer has come */
        break;
    case BINDING_LOST:
        b->drop = true;
        break;
    case BINDING_BOUND:
        if (t->state != DRIVER_UP)
            b->drop = true; /* the link is lost: unbound after the next resume */
        else if (binding_unbind(b) < 0)
            return ht_fail(err, HT_TUNNEL_ENOMEM, "out of memory");
        break;
    case BINDING_UNBINDING:
        break;
    }
    return HT_TUNNEL_OK;
}

void driver_bind_destroy_all(struct ht_tunnel *t) {
    while (!ht_list_empty(&t->bindings))
        binding_free(HT_LIST_ENTRY(t->bindings.next, struct driver_binding, node));
}

unsigned driver_bind_streams(const struct ht_tunnel *t) {
    unsigned n = 0;
    HT_LIST_FOR (it, &t->bindings) {
        const struct driver_binding *b = HT_LIST_ENTRY(it, struct driver_binding, node);
        n += relay_target_active(b->origin) + driver_names_streams(b) + driver_gate_streams(b);
    }
    return n;
}

unsigned driver_bind_standing(const struct ht_tunnel *t) {
    unsigned n = 0;
    HT_LIST_FOR (it, &t->bindings)
        n += HT_LIST_ENTRY(it, struct driver_binding, node)->state == BINDING_BOUND;
    return n;
}

/* ---- the kit's answers ---- */

/* Copies the URLs of BIND_OK as texts. The caller frees *room, the memory for them. Returns their number. */
static size_t copy_urls(const struct wire_bind_ok *ok, const char *urls[WIRE_MAX_BIND_OK_URLS], char **room) {
    size_t size = 0, n = 0;
    for (size_t i = 0; i < ok->n_urls; i++)
        size += HT_TEXT_CHAR * ok->urls[i].n + 1;
    char *at = *room = size ? ht_malloc(size) : NULL;
    for (; at && n < ok->n_urls; n++) {
        urls[n] = at;
        at += ht_text_put(ok->urls[n], HT_TEXT_PLAIN, at, HT_TEXT_CHAR * ok->urls[n].n + 1) + 1;
    }
    return n;
}

static void tell_bound(struct driver_binding *b, const struct wire_bind_ok *ok) {
    struct ht_tunnel *t = b->t;
    struct ht_slice public_url = ok->public_url;
    char given[2049], made[DRIVER_HOST_MAX + 32] = "";
    ht_text_clean(public_url, given, sizeof given);
    if (b->portless) {
        given[0] = '\0';
    } else if (b->kind == HT_PULL_TCP) {
        given[0] = '\0'; /* kits send a URL, but only programs in the container reach a pulled port */
        const char *host = b->pull_host ? b->pull_host : "127.0.0.1";
        bool v6 = strchr(host, ':') != NULL;
        snprintf(made, sizeof made, "%s%.255s%s:%u", v6 ? "[" : "", host, v6 ? "]" : "", b->port);
    } else if (driver_host_is_local(t->url.host)) {
        snprintf(made, sizeof made, "http://127.0.0.1:%u", b->port);
    }
    bool tls, insecure;
    driver_names_tls(b, &tls, &insecure);
    struct ht_slice slices[WIRE_LIMIT_MAX_NAMES];
    const char *names[WIRE_LIMIT_MAX_NAMES];
    bool by_name = mux_session_agreed(t->now->mux, WIRE_CAP_NAMES) && !b->names_refused;
    size_t n_names = by_name ? driver_names_put(b, slices) : 0;
    for (size_t i = 0; i < n_names; i++)
        names[i] = slices[i].p; /* driver_names_put() ends each with a NUL */
    if (b->names_refused)
        driver_say(t, HT_SEVERITY_INFO, "%s is reached by its port alone, and not by name: %s", b->name,
                   b->names_why ? b->names_why : "the kit has refused that");
    const char *urls[WIRE_MAX_BIND_OK_URLS];
    char *url_room;
    size_t n_urls = copy_urls(ok, urls, &url_room);
    struct ht_bound bound = {
        .urls = urls,
        .n_urls = n_urls,
        .names = names,
        .n_names = n_names,
        .binding = b->number,
        .kind = b->kind,
        .container_port = b->port,
        .target = b->name,
        .public_url = *given ? given : NULL,
        .url = *given ? given : made,
        .tls = tls,
        .insecure = insecure,
    };
    ht_free(b->shown_url);
    b->shown_url = *bound.url ? ht_strndup(bound.url, strlen(bound.url)) : NULL;
    driver_inspect_bindings_changed(t);
    if (bound.insecure && !b->told_insecure)
        driver_say(t, HT_SEVERITY_WARNING,
                   "the certificate of %s is not verified: whoever is on the way to it can read and change everything",
                   b->name);
    b->told_insecure = true;
    driver_gate_bound(b, &bound);
    driver_names_probe(b);
    if (!b->portless)
        relay_target_probe(b->origin); /* before the callback, which may destroy `b`; it reports later */
    if (t->calls.bound)
        t->calls.bound(t->user, &bound);
    ht_free(url_room);
}

void driver_on_bind_ok(void *ctx, const struct wire_bind_ok *ok) {
    struct ht_tunnel *t = ctx;
    struct driver_binding *b = by_number(t, ok->client_bind_ref);
    if (!b || b->state != BINDING_ASKED) {
        driver_say(t, HT_SEVERITY_WARNING, "the kit answered a BIND that is not waiting for an answer");
        return;
    }
    io_timer_stop(&b->timeout);
    b->state = BINDING_BOUND;
    b->told_lost = false;
    b->bind_id = ok->bind_id;
    b->port = b->portless ? 0 : ok->container_port;
    if (b->portless != (ok->container_port == 0)) { /* NAME-3 */
        driver_say(t, HT_SEVERITY_WARNING, "the kit answered with port %u for %s, which is given back",
                   ok->container_port, b->name);
        b->drop = true;
    }
    driver_shards_bind_changed(t);
    if (b->drop)
        (void)driver_bind_remove(t, b->number, NULL);
    else
        tell_bound(b, ok);
}

/* Asks for a port of this driver again later: the session or program that has it now may give it up. */
static void ask_later(struct driver_binding *b) {
    struct ht_tunnel *t = b->t;
    bool soon = io_now_ms(t->loop) < t->lost_at + WIRE_LIMIT_TAKEOVER_GRACE;
    b->state = BINDING_WAITS;
    io_timer_set(&b->timeout, soon ? ht_min64(REBIND_MS, 4 * (uint64_t)t->retry_min_ms) : REBIND_SLOW_MS);
    driver_shards_bind_changed(t);
}

/*
 * Another program has the port: perhaps an outgoing connection that got it from the kernel while nobody listened there.
 * That may last long, so a binding that accepts any port asks for another one at once.
 */
static void port_lost(struct driver_binding *b, const char *message) {
    if (b->asked_port == 0) {
        driver_say(b->t, HT_SEVERITY_WARNING, "container port %u is lost, another one is asked for: %s", b->port,
                   message);
        b->port = 0;
        binding_ask(b);
        return;
    }
    if (!b->told_lost)
        driver_say(b->t, HT_SEVERITY_WARNING, "container port %u is lost for now, and is asked for again: %s", b->port,
                   message);
    b->told_lost = true;
    ask_later(b);
}

/* True when the binding was bound before. */
static bool was_bound(const struct driver_binding *b) { return b->port || (b->portless && b->bind_id); }

/* True when the kit knows that this driver's earlier sessions are its own, and gives their ports back (rule CLIENT-2).
 * Then a port that is in use belongs to another driver. */
static bool knows_us(const struct ht_tunnel *t) { return t->caps & WIRE_CAP_CLIENT; }

/* True when the BIND may succeed without its names. */
static bool may_be_the_name(const struct driver_binding *b, enum wire_bind_error code) {
    return b->n_names && b->names_optional && !b->names_refused && !b->drop &&
           (code == WIRE_BIND_ERROR_ALREADY_BOUND || code == WIRE_BIND_ERROR_INVALID_NAME ||
            code == WIRE_BIND_ERROR_BIND_CAP_EXCEEDED || code == WIRE_BIND_ERROR_NOT_ALLOWED ||
            code == WIRE_BIND_ERROR_INVALID_CA);
}

void driver_on_bind_err(void *ctx, const struct wire_bind_err *err) {
    struct ht_tunnel *t = ctx;
    struct driver_binding *b = err->has_client_bind_ref ? by_number(t, err->client_bind_ref) : NULL;
    const char *code = wire_bind_error_text(err->code);
    char message[512];
    if (!b || b->state != BINDING_ASKED) {
        driver_say(t, HT_SEVERITY_WARNING, "the kit refused a BIND that is not waiting for an answer");
        return;
    }
    if (err->code == WIRE_BIND_ERROR_ALREADY_BOUND && was_bound(b) && !b->drop && !t->resumed && !knows_us(t) &&
        io_now_ms(t->loop) < t->lost_at + WIRE_LIMIT_TAKEOVER_GRACE) {
        /* Most likely the kit still keeps the port for this driver's lost session. (A resumed session without the port
         * has lost it to another driver.) */
        ask_later(b);
        return;
    }
    ht_text_clean(err->message, message, sizeof message);
    if (may_be_the_name(b, err->code)) {
        ht_free(b->names_why);
        b->names_why = ht_strndup(message, strlen(message));
        b->names_refused = true;
        binding_ask(b);
        return;
    }
    if (err->code == WIRE_BIND_ERROR_PORT_IN_USE && b->port && !b->drop)
        port_lost(b, message);
    else
        binding_refused(b, code ? code : "UNKNOWN", message);
}

void driver_on_unbind_ok(void *ctx, const struct wire_unbind_ok *ok) {
    struct driver_binding *b = by_id(ctx, ok->bind_id);
    if (b && b->state == BINDING_UNBINDING)
        binding_gone(b, false, "");
}

void driver_on_unbind_err(void *ctx, const struct wire_unbind_err *err) {
    struct driver_binding *b = by_id(ctx, err->bind_id);
    char message[512];
    if (b && b->state == BINDING_UNBINDING) /* the kit does not know the binding, so it is unbound as well */
        binding_gone(b, false, ht_text_clean(err->message, message, sizeof message));
}

void driver_on_bind_revoked(void *ctx, const struct wire_bind_revoked *revoked) {
    struct driver_binding *b = by_id(ctx, revoked->bind_id);
    char reason[256];
    if (b)
        binding_gone(b, true, ht_text_clean(revoked->reason, reason, sizeof reason));
}

void driver_on_stream_open(void *ctx, struct mux_stream *stream, const struct wire_stream_open *open) {
    struct ht_tunnel *t = ctx;
    struct driver_binding *b = by_id(t, open->bind_id);
    bool by_name = open->kind == WIRE_KIND_TCP && (open->has_authority || (b && b->portless));
    if (b && b->state == BINDING_BOUND && by_name) {
        driver_names_serve(b, stream, open);
        return;
    }
    if (b && b->state == BINDING_BOUND) {
        driver_gate_serve(b, stream, open);
        return;
    }
    mux_stream_reset(stream, WIRE_CODE_BIND_ERROR, "no such binding");
    mux_stream_release(&stream);
}
