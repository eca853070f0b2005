/*
 * PROXY headers (--proxy-protocol): a proxy in front writes the client's address before the bytes of each connection.
 * Only peers of that option are read so. A PROXY header from anybody else is bad HTTP, and is refused as such.
 */
#include "kit/kit_priv.h"

#include "base/log.h"
#include "base/mem.h"
#include "io/proxied.h"
#include "kit/bounds.h"
#include "log_gen.h"

struct kit_proxied {
    struct ht_list node;
    struct kit *kit;
    struct io_proxied_reader *reader;
    const struct proxied_ops *ops;
    void *ctx;
    char peer[IO_ADDR_TEXT]; /* the proxy */
};

bool proxied_peer(const struct kit *k, const struct io_addr *peer) {
    return base_peer_within(peer, k->opt->proxy_protocol, k->opt->n_proxy_protocol);
}

static void forget(struct kit_proxied *p) {
    ht_list_remove(&p->node);
    p->kit->n_proxied--;
    ht_free(p);
}

static void told(void *ctx, struct io_conn *c, const struct io_addr *from) {
    struct kit_proxied one = *(struct kit_proxied *)ctx; /* go() may do anything, even cancel: it is forgotten first */
    forget(ctx);
    one.ops->go(one.ctx, c, from);
}

static void failed(void *ctx, const char *why) {
    struct kit_proxied one = *(struct kit_proxied *)ctx;
    ht_log_stranger(HT_LOG_WARN, "kit", HT_LOG_FIELDS(log_peer(one.peer), log_reason(why)),
                    "a connection without a good PROXY header was closed");
    forget(ctx);
    if (one.ops->gone)
        one.ops->gone(one.ctx);
}

static const struct io_proxied_ops reader_ops = {told, failed};

static void cancel(struct kit_proxied *p) {
    io_proxied_cancel(&p->reader);
    failed(p, "too many connections wait for their PROXY header");
}

void proxied_begin(struct kit *k, struct io_conn *c, const struct io_addr *peer, const struct proxied_ops *ops,
                   void *ctx) {
    if (k->n_proxied >= KIT_BOUND_PROXIED)
        cancel(HT_LIST_ENTRY(k->proxied.next, struct kit_proxied, node));
    struct kit_proxied *p = ht_calloc(1, sizeof *p);
    if (p) {
        *p = (struct kit_proxied){.kit = k, .ops = ops, .ctx = ctx};
        io_addr_text(peer, p->peer);
        p->reader = io_proxied_start(k->loop, c, peer, k->opt->hello_timeout_ms, &reader_ops, p);
    } else {
        io_conn_abort(&c);
    }
    if (!p || !p->reader) {
        ht_free(p);
        if (ops->gone)
            ops->gone(ctx);
        return;
    }
    ht_list_init(&p->node);
    ht_list_push_back(&k->proxied, &p->node);
    k->n_proxied++;
}

void proxied_cancel(struct kit *k, const void *ctx) {
    HT_LIST_FOR_SAFE (it, &k->proxied) {
        struct kit_proxied *p = HT_LIST_ENTRY(it, struct kit_proxied, node);
        if (p->ctx != ctx)
            continue;
        io_proxied_cancel(&p->reader);
        if (p->ops->gone)
            p->ops->gone(p->ctx);
        forget(p);
    }
}
