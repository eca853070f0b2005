/*
 * Which connections the base listener accepts, and which one is closed when it is full. Whatever strangers do, health
 * checks and drivers find a place (hardening case 28).
 */
#include "base/log.h"
#include "kit/bounds.h"
#include "kit/kit_priv.h"
#include "log_gen.h"

bool base_peer_within(const struct io_addr *peer, const struct ht_cidr *list, size_t n) {
    uint8_t bytes[16];
    int family = n ? io_addr_bytes(peer, bytes) : 0;
    return family && ht_cidrs_match(list, n, family, bytes);
}

bool base_peer_is_proxy(const struct kit *k, const struct io_addr *peer) {
    return base_peer_within(peer, k->opt->trusted_proxy, k->opt->n_trusted_proxy);
}

bool base_peer_trusted(const struct kit *k, const struct io_addr *peer) {
    return k->opt->n_trusted_proxy == 0 || base_peer_is_proxy(k, peer);
}

/*
 * A peer outside --trusted-proxy never takes a place: it gets a bare 403 before its request is read. What it has sent
 * so far is taken off the socket; otherwise closing would reset the connection, and the answer could be lost.
 */
static void turn_away(struct kit *k, struct io_conn *c, const struct io_addr *peer) {
    static const char answer[] = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    char text[IO_ADDR_TEXT];
    k->metrics.base_connections_dropped_total[HT_METRIC_DROP_UNTRUSTED]++;
    ht_log_stranger(HT_LOG_INFO, "kit", HT_LOG_FIELDS(log_peer(io_addr_text(peer, text))),
                    "a connection from outside --trusted-proxy was refused");
    if (k->tls) { /* the answer would need a handshake first: not worth it for a peer who may not come */
        io_conn_close(&c);
        return;
    }
    (void)io_conn_write(c, &(struct iovec){(char *)(uintptr_t)answer, sizeof answer - 1}, 1);
    (void)io_conn_shutdown(c);
    (void)io_conn_discard(c);
    io_conn_close(&c);
}

/* How much a client would lose if it were closed: 0: nothing; 1: an incomplete head; 2: an answer that is under way. */
static unsigned loss(const struct base_client *c) {
    return web_conn_busy(&c->web) ? 2 : c->web.state == WEB_HEAD ? 1 : 0;
}

/*
 * The address with the most clients loses one of them: the oldest of those that lose least. Readers of events are left
 * alone; they have a limit of their own (EVENTS_MAX_READERS), so there is always another client.
 */
void base_make_room(struct kit *k) {
    struct base_client *gives = NULL;
    if (k->clients.n < KIT_BOUND_CLIENTS)
        return;
    HT_LIST_FOR (it, &k->clients.members) {
        struct base_client *c = HT_LIST_ENTRY(it, struct base_client, member.node);
        if (c->web.state == WEB_STREAM)
            continue;
        if (!gives || c->member.same > gives->member.same ||
            (c->member.same == gives->member.same && loss(c) < loss(gives)))
            gives = c;
    }
    if (!gives)
        return;
    if (loss(gives) > 0)
        k->metrics.base_connections_dropped_total[HT_METRIC_DROP_CROWDED]++;
    ht_log_stranger(HT_LOG_INFO, "kit", HT_LOG_FIELDS(log_peer(gives->peer), log_count(gives->member.same)),
                    "a connection was closed to make room for a new one");
    base_client_close(gives);
}

static void let_in(void *ctx, struct io_conn *c, const struct io_addr *peer) {
    struct kit *k = ctx;
    base_make_room(k);
    base_client_begin(k, c, peer);
}

static const struct proxied_ops proxied = {.go = let_in};

static void accepted(void *ctx, struct io_conn *c, const struct io_addr *peer) {
    struct kit *k = ctx;
    if (!base_peer_trusted(k, peer)) {
        turn_away(k, c, peer);
        return;
    }
    if (proxied_peer(k, peer))
        proxied_begin(k, c, peer, &proxied, k);
    else
        let_in(k, c, peer);
}

static void accept_failed(void *ctx, int err) {
    struct kit *k = ctx;
    k->metrics.accept_errors_total++;
    ht_log_stranger(HT_LOG_WARN, "kit", HT_LOG_FIELDS(log_reason(ht_err_text(err))),
                    "a connection could not be accepted");
}

const struct io_listener_ops base_listener_ops = {accepted, accept_failed};
