/* The inspector of a tunnel: its store, what fills it, and the server that shows it (inspect/server.h). */
#include "driver/driver.h"

#include "base/clock.h"
#include "base/mem.h"
#include "driver/place.h"
#include "inspect/server.h"
#include "inspect/watch.h"
#include "options_gen.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#define TOKEN_BYTES 24
#define PROBE_MS 5000 /* a service that got no request for so long is asked whether it is there */

struct driver_inspect {
    struct ht_tunnel *t;
    struct inspect_store *store;
    struct inspect_server *server;
    struct inspect_observer observer;
    struct relay_tap tap;
    struct io_task tell;
    struct io_timer probe;
    char url[256]; /* with the token */
};

/* ---- what passes ---- */

static void *tap_begin(void *ctx, const struct wire_stream_open *open, struct ht_slice head) {
    struct driver_binding *b = ctx;
    b->seen_ms = io_now_ms(b->t->loop);
    return inspect_watch_begin(b->t->inspect->store, b->number, ht_slice_str(b->label ? b->label : b->name), open,
                               head);
}

const struct relay_tap *driver_inspect_tap(const struct ht_tunnel *t) { return t->inspect ? &t->inspect->tap : NULL; }

bool driver_inspect_is_replay(const struct ht_tunnel *t, struct ht_slice peer) {
    struct inspect_begin b = {.binding = 0};
    if (t->inspect)
        inspect_replay_read(t->inspect->store, peer, &b);
    return b.visitor.n > 0;
}

/* ---- what the server asks for ---- */

static void link_of(void *ctx, struct inspect_link *out) {
    static const enum inspect_api_link_state states[] = {
        [HT_TUNNEL_NEW] = INSPECT_API_LINK_STATE_CONNECTING, [HT_TUNNEL_CONNECTING] = INSPECT_API_LINK_STATE_CONNECTING,
        [HT_TUNNEL_UP] = INSPECT_API_LINK_STATE_CONNECTED,   [HT_TUNNEL_RETRYING] = INSPECT_API_LINK_STATE_RECONNECTING,
        [HT_TUNNEL_CLOSING] = INSPECT_API_LINK_STATE_ENDED,  [HT_TUNNEL_ENDED] = INSPECT_API_LINK_STATE_ENDED,
    };
    static char kit[sizeof "wss://" + DRIVER_HOST_MAX + 16];
    struct ht_tunnel *t = ctx;
    struct ht_tunnel_status s = {.size = sizeof s};
    (void)ht_tunnel_get_status(t, &s);
    snprintf(kit, sizeof kit, "%s%s", t->url.tls ? "wss://" : "ws://", t->url.host_field);
    *out = (struct inspect_link){.state = states[s.state],
                                 .rtt_ms = -1,
                                 .kit = kit,
                                 .retry_in_ms = -1,
                                 .grace_ms = -1,
                                 .pauses = s.whole,
                                 .paused_ms = s.paused_ms,
                                 .longest_pause_ms = s.longest_pause_ms,
                                 .resent = s.resent};
    if (s.state == HT_TUNNEL_CONNECTING && t->was_up)
        out->state = INSPECT_API_LINK_STATE_RECONNECTING;
    if (s.round_trip_us)
        out->rtt_ms = (double)s.round_trip_us / 1000;
    if (s.state == HT_TUNNEL_RETRYING)
        out->retry_in_ms = (double)s.retry_in_ms;
    uint64_t gone = io_now_ms(t->loop) - t->lost_at, grace = t->pause.grace_ms;
    if (out->state == INSPECT_API_LINK_STATE_RECONNECTING && t->was_up && gone < grace)
        out->grace_ms = (double)(grace - gone);
    if (out->state != INSPECT_API_LINK_STATE_CONNECTED && t->end_text[0])
        out->reason = t->end_text;
}

static bool binding_at(void *ctx, unsigned index, struct inspect_binding *out) {
    struct ht_tunnel *t = ctx;
    HT_LIST_FOR (it, &t->bindings) {
        struct driver_binding *b = HT_LIST_ENTRY(it, struct driver_binding, node);
        if (b->portless || index-- > 0)
            continue;
        *out = (struct inspect_binding){.number = b->number,
                                        .name = b->label ? b->label : b->name,
                                        .pull = b->kind == HT_PULL_TCP,
                                        .port = b->port,
                                        .url = b->shown_url,
                                        .address = b->name,
                                        .reachable = !b->unreachable};
        return true;
    }
    return false;
}

static bool serve(void *ctx, int number, struct mux_stream *st, const struct wire_stream_open *open) {
    struct ht_tunnel *t = ctx;
    HT_LIST_FOR (it, &t->bindings) {
        struct driver_binding *b = HT_LIST_ENTRY(it, struct driver_binding, node);
        if (b->kind != HT_EXPOSE_HTTP || (number && b->number != number))
            continue;
        relay_target_serve(b->origin, st, open);
        return true;
    }
    return false;
}

static void reconnect(void *ctx) { driver_retry_now(ctx); }

/* ---- what it is told ---- */

void driver_inspect_link_changed(const struct ht_tunnel *t) {
    if (t->inspect)
        inspect_server_link_changed(t->inspect->server);
}

void driver_inspect_bindings_changed(const struct ht_tunnel *t) {
    if (t->inspect)
        inspect_server_bindings_changed(t->inspect->server);
}

bool driver_inspect_reached(struct driver_binding *b, bool yes) {
    if (!b->t->inspect)
        return false;
    bool known = b->unreachable != yes;
    b->unreachable = !yes;
    if (!known)
        driver_inspect_bindings_changed(b->t);
    return known;
}

/* The last request says whether there is a service. */
static void exchange_changed(struct inspect_observer *o, const struct inspect_exchange *x) {
    struct ht_tunnel *t = ht_container_of(o, struct driver_inspect, observer)->t;
    bool lost = x->fault == INSPECT_REFUSED || (x->fault == INSPECT_TIMEOUT && !x->status);
    if (x->imported || (!lost && !x->status))
        return;
    HT_LIST_FOR (it, &t->bindings) {
        struct driver_binding *b = HT_LIST_ENTRY(it, struct driver_binding, node);
        if (b->number == x->binding)
            (void)driver_inspect_reached(b, !lost);
    }
}

static void probe_fired(struct io_timer *timer) {
    struct driver_inspect *in = ht_container_of(timer, struct driver_inspect, probe);
    uint64_t now = io_now_ms(in->t->loop);
    HT_LIST_FOR (it, &in->t->bindings) {
        struct driver_binding *b = HT_LIST_ENTRY(it, struct driver_binding, node);
        if (b->kind == HT_EXPOSE_HTTP && b->state == BINDING_BOUND && now - b->seen_ms >= PROBE_MS)
            relay_target_probe(b->origin);
    }
    io_timer_set(&in->probe, PROBE_MS);
}

/* ---- its life ---- */

static bool is_loopback(const char *host) {
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, host, &v4) == 1)
        return (ntohl(v4.s_addr) >> 24) == 127;
    return inet_pton(AF_INET6, host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

/* Reads "[HOST:]PORT". */
static int read_address(const struct ht_tunnel_options *o, char host[INET6_ADDRSTRLEN], uint16_t *port,
                        struct ht_errmsg *err) {
    const char *text = o->inspect, *colon = strrchr(text, ':'), *digits = colon ? colon + 1 : text;
    size_t n = colon ? (size_t)(colon - text) : 0;
    char *end;
    unsigned long value = strtoul(digits, &end, 10);
    if (!ht_is_digit(*digits) || *end || value > UINT16_MAX)
        return ht_fail(err, HT_TUNNEL_EINVAL, "inspect: \"%.80s\" is no [HOST:]PORT", text);
    if (n >= 2 && text[0] == '[' && text[n - 1] == ']') {
        text++;
        n -= 2;
    }
    bool none = n == 0 || (n == 9 && memcmp(text, "localhost", 9) == 0);
    snprintf(host, INET6_ADDRSTRLEN, "%.*s", none ? 9 : (int)ht_min(n, INET6_ADDRSTRLEN - 1),
             none ? "127.0.0.1" : text);
    *port = (uint16_t)value;
    struct io_addr ignored;
    if (n >= INET6_ADDRSTRLEN || io_addr_parse(&ignored, host, *port) < 0)
        return ht_fail(err, HT_TUNNEL_EINVAL, "inspect: \"%.80s\" has no numeric address before the port", o->inspect);
    if (!is_loopback(host) && !o->insecure_inspect)
        return ht_fail(err, HT_TUNNEL_EINVAL,
                       "inspect: %s is not an address of this machine alone, and whoever reads along on the way sees "
                       "every request and the token; insecure-inspect allows it",
                       host);
    return HT_TUNNEL_OK;
}

static int make_store(struct driver_inspect *in, const struct ht_tunnel_options *o, struct ht_errmsg *err) {
    struct inspect_store_config cfg = {
        .max_exchanges = o->inspect_keep ? o->inspect_keep : OPT_INSPECT_KEEP_DEFAULT,
        .max_bytes = o->inspect_memory ? o->inspect_memory : OPT_INSPECT_MEMORY_DEFAULT,
        .max_body = o->inspect_body ? o->inspect_body : OPT_INSPECT_BODY_DEFAULT,
        .max_frames = INSPECT_FRAMES_KEPT,
        .max_frame = INSPECT_FRAME_KEPT,
        .secrets = o->inspect_secrets,
        .n_secrets = o->n_inspect_secrets,
    };
    if (cfg.max_exchanges > OPT_INSPECT_KEEP_MAX || cfg.max_bytes < OPT_INSPECT_MEMORY_MIN)
        return ht_fail(err, HT_TUNNEL_EINVAL, "inspect_keep is at most %u, and inspect_memory at least %llu",
                       (unsigned)OPT_INSPECT_KEEP_MAX, (unsigned long long)OPT_INSPECT_MEMORY_MIN);
    in->store = inspect_store_create(&cfg);
    return in->store ? HT_TUNNEL_OK : ht_fail(err, HT_TUNNEL_ENOMEM, "out of memory");
}

static int listen_at(struct driver_inspect *in, const char *host, uint16_t port, struct ht_errmsg *err) {
    unsigned char chance[TOKEN_BYTES];
    char token[2 * TOKEN_BYTES + 1];
    struct ht_errmsg why;
    bool v6 = strchr(host, ':') != NULL;
    ht_random_bytes(chance, sizeof chance);
    for (size_t i = 0; i < sizeof chance; i++)
        snprintf(token + 2 * i, 3, "%02x", chance[i]);
    struct inspect_server_config cfg = {
        .loop = in->t->loop,
        .store = in->store,
        .host = host,
        .port = port,
        .token = token,
        .version = HT_VERSION,
        .link = link_of,
        .binding = binding_at,
        .serve = serve,
        .reconnect = reconnect,
        .ctx = in->t,
    };
    int rc = inspect_server_start(&in->server, &cfg, &why);
    if (rc == HT_OK) {
        snprintf(in->url, sizeof in->url, v6 ? "http://[%s]:%u/#%s" : "http://%s:%u/#%s", host,
                 inspect_server_port(in->server), token);
        (void)!driver_inspector_put(inspect_server_port(in->server), in->url, &why); /* else it has to be named */
    }
    explicit_bzero(token, sizeof token);
    if (rc == HT_EINUSE)
        return ht_fail(err, HT_TUNNEL_EINSPECT,
                       "inspect: port %u of %s is taken, perhaps by another tunnel with an inspector; port 0 takes a "
                       "free one",
                       port, host);
    return rc < 0 ? ht_fail(err, rc == HT_ENOMEM ? HT_TUNNEL_ENOMEM : HT_TUNNEL_EINSPECT, "inspect: %s", why.text)
                  : HT_TUNNEL_OK;
}

static void tell_run(struct io_task *task) {
    struct driver_inspect *in = ht_container_of(task, struct driver_inspect, tell);
    if (in->t->calls.inspecting)
        in->t->calls.inspecting(in->t->user, in->url);
}

int driver_inspect_start(struct ht_tunnel *t, const struct ht_tunnel_options *o, struct ht_errmsg *err) {
    char host[INET6_ADDRSTRLEN];
    uint16_t port = 0;
    if (!o->inspect || !*o->inspect)
        return HT_TUNNEL_OK;
    int rc = read_address(o, host, &port, err);
    if (rc < 0)
        return rc;
    struct driver_inspect *in = t->inspect = ht_calloc(1, sizeof *in);
    if (!in)
        return ht_fail(err, HT_TUNNEL_ENOMEM, "out of memory");
    in->t = t;
    in->tap = inspect_watch_tap;
    in->tap.begin = tap_begin;
    io_task_init(&in->tell, tell_run);
    io_timer_init(t->loop, &in->probe, probe_fired);
    rc = make_store(in, o, err);
    if (rc == HT_TUNNEL_OK)
        rc = listen_at(in, host, port, err);
    if (rc < 0)
        return rc;
    in->observer.changed = exchange_changed;
    inspect_store_observe(in->store, &in->observer);
    io_task_add(t->loop, &in->tell);
    io_timer_set(&in->probe, PROBE_MS);
    return HT_TUNNEL_OK;
}

void driver_inspect_stop(struct ht_tunnel *t) {
    if (!t->inspect)
        return;
    if (t->inspect->server)
        driver_inspector_drop(inspect_server_port(t->inspect->server));
    inspect_server_stop(&t->inspect->server);
    io_task_cancel(&t->inspect->tell);
    io_timer_stop(&t->inspect->probe);
    inspect_observer_remove(&t->inspect->observer);
}

void driver_inspect_free(struct ht_tunnel *t) {
    if (!t->inspect)
        return;
    inspect_store_destroy(&t->inspect->store);
    explicit_bzero(t->inspect->url, sizeof t->inspect->url);
    ht_free(t->inspect);
    t->inspect = NULL;
}
