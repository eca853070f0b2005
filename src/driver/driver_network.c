/*
 * What becomes of the tunnel when this machine's network changes, or when the machine was asleep. A connection whose
 * local address is gone is given up at once. Whether the others still work is asked with a PING. An attempt that was
 * made from the old network, and the wait for the next one, are cut short.
 */
#include "driver/driver.h"

#include "base/clock.h"

#include <stdio.h>
#include <string.h>

#define ACT_EVERY_MS 2000u /* between two PINGs, or attempts, for changes that may have nothing to do with the kit */
#define SAME_WAY_MS 15000u /* between two attempts, while the way to the kit is the one that has failed */
#define PATIENCE_MS 1000u  /* for the answer to such a PING */
#define PATIENCE_TRIPS 4u
#define SLOW_MS 1000u /* an attempt that takes this long may wait for an answer to an address that is gone */

/* ---- connections that are lost for certain ---- */

static bool give_up(struct driver_sock *s) {
    char text[160], from[IO_ADDR_TEXT];
    struct io_conn *conn = s->ws && !s->closing ? ws_conn_io(s->ws) : NULL;
    if (!conn || !io_conn_is_stranded(conn))
        return false;
    struct io_addr local;
    io_conn_local(conn, &local);
    snprintf(text, sizeof text, "this machine no longer has the address %s, from which the connection was made",
             io_addr_host(&local, from));
    if (s == &s->t->now->socks[0]) {
        s->t->network.moved = true;
        driver_end_reason(s->t, HT_TUNNEL_ELOST, "%s", text);
    }
    driver_sock_lost(s, text);
    return true;
}

static void give_up_session(struct driver_session *ses) {
    bool primary = give_up(&ses->socks[0]);
    for (unsigned i = 1; !primary && i < HT_MAX_CONNECTIONS; i++)
        (void)give_up(&ses->socks[i]);
}

static void give_up_stranded(struct ht_tunnel *t) {
    HT_LIST_FOR (it, &t->past)
        give_up_session(HT_LIST_ENTRY(it, struct driver_session, node));
    if (t->next)
        give_up_session(t->next);
    if (t->state == DRIVER_UP || t->state == DRIVER_HELLO)
        give_up_session(t->now);
}

/* ---- the others ---- */

/* A way that stays inside this machine does not change. */
static bool is_local(const struct ht_tunnel *t) { return !t->proxy && driver_host_is_local(t->url.host); }

/* How long the answer to a PING may take; 0: as long as at other times. Without stream-resume a link that comes back
 * late is better than one that is given up. */
static uint64_t patience(const struct ht_tunnel *t) {
    return t->caps & WIRE_CAP_STREAM_RESUME ? ht_max64(PATIENCE_MS, PATIENCE_TRIPS * t->rtt_us / 1000) : 0;
}

static void ask(struct ht_tunnel *t) {
    if (t->network.woke)
        driver_say(t, HT_SEVERITY_INFO,
                   "the machine was asleep, or its clock was set: asking whether the kit is still there");
    else
        driver_say(t, HT_SEVERITY_DEBUG, "the network has changed: asking whether the kit is still there");
    uint64_t wait = patience(t);
    mux_session_probe(t->now->mux, ht_now_us(), wait);
    driver_past_probe(t, 0);
    driver_shards_probe(t, wait);
    driver_shards_now(t);
    driver_link_touch(t);
}

static void act(struct ht_tunnel *t) {
    if (t->state == DRIVER_UP)
        ask(t);
    else if (t->state == DRIVER_CONNECTING)
        driver_link_restart(t);
    else
        driver_retry_now(t);
}

/* False: the next attempt would go the way that the last one went. */
static bool way_is_new(const struct ht_tunnel *t) {
    struct io_addr from;
    (void)io_addr_way(&t->network.kit, &from);
    return t->network.kit.len == 0 || from.len != t->network.from.len ||
           memcmp(&from.ss, &t->network.from.ss, from.len) != 0;
}

/* When there is something to do; UINT64_MAX: there is nothing. */
static uint64_t due(const struct ht_tunnel *t) {
    bool woke = t->network.woke;
    uint64_t last = t->network.acted_at, at = woke || !last ? 0 : last + ACT_EVERY_MS;
    if (is_local(t) && !woke)
        return UINT64_MAX;
    switch (t->state) {
    case DRIVER_UP:
        return at;
    case DRIVER_CONNECTING: /* once: the way may just be slow, and the network change all the time */
        return t->network.restarted ? UINT64_MAX : ht_max64(at, t->network.attempt_at + SLOW_MS);
    case DRIVER_WAITING:
        if (woke)
            return 0;
        if (t->retry_after_ms) /* it is the kit that wants to be left alone */
            return UINT64_MAX;
        return last && !way_is_new(t) ? last + SAME_WAY_MS : at;
    default:
        return UINT64_MAX;
    }
}

static void look(struct io_timer *timer) {
    struct ht_tunnel *t = ht_container_of(timer, struct ht_tunnel, network.later);
    give_up_stranded(t);
    uint64_t at = due(t), now = io_now_ms(t->loop);
    if (at > now && at != UINT64_MAX) {
        io_timer_set(timer, at - now);
        return;
    }
    if (at <= now) {
        t->network.acted_at = now;
        act(t);
    }
    t->network.woke = false;
}

void driver_network_attempt(struct ht_tunnel *t, bool again) {
    t->network.attempt_at = io_now_ms(t->loop);
    t->network.restarted = again;
    (void)io_addr_way(&t->network.kit, &t->network.from);
}

void driver_network_reached(struct ht_tunnel *t, struct io_conn *conn) {
    io_conn_peer(conn, &t->network.kit);
    (void)io_addr_way(&t->network.kit, &t->network.from);
}

void driver_network_changed(void *ctx) {
    struct ht_tunnel *t = ctx;
    io_timer_set(&t->network.later, 0);
}

/* What came before the sleep is read first: it says nothing about now. */
static void woke(struct io_wake *w) {
    struct ht_tunnel *t = ht_container_of(w, struct ht_tunnel, network.sleep);
    t->network.woke = true;
    io_timer_set(&t->network.later, IO_NETWORK_SETTLE_MS);
}

void driver_network_start(struct ht_tunnel *t) {
    struct ht_errmsg err;
    io_timer_init(t->loop, &t->network.later, look);
    io_wake_start(t->loop, &t->network.sleep, woke);
    t->network.watch = io_network_watch(t->loop, driver_network_changed, t, &err);
    if (!t->network.watch)
        driver_say(t, HT_SEVERITY_DEBUG, "%s", err.text);
}

void driver_network_stop(struct ht_tunnel *t) {
    io_wake_stop(&t->network.sleep);
    io_timer_stop(&t->network.later);
    io_network_stop(&t->network.watch);
}
