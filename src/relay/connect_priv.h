/*
 * What the files of the CONNECT proxy share; nobody else includes it.
 *
 *   connect.c         the listener; a client, its head, CONNECT and SOCKS5, the dial
 *   connect_name.c    clients whose destination a driver has registered
 *   connect_plain.c   clients that send requests with an absolute target instead
 *   socks.c           SOCKS5 by itself
 *   dest.c            destinations, and the policy about them
 *   splice.c          bytes between two connections
 */
#ifndef HT_RELAY_CONNECT_PRIV_H
#define HT_RELAY_CONNECT_PRIV_H

#include "io/crowd.h"
#include "relay/connect.h"
#include "relay/names_priv.h"
#include "relay/socks.h"
#include "relay/visitor_priv.h"

struct connect_plain;

struct relay_connect {
    struct relay_table *t;
    struct relay_connect_config cfg;
    struct io_listener *listener;
    struct io_addr addr;
    struct ht_list clients;
    unsigned n_clients, n_permits; /* those of connect_plain.c included */
    struct crowd heads;
    struct connect_plain *plain; /* NULL: nobody has come for it yet */
    bool draining;
};

/* Whether the value of Proxy-Authorization has the token; counts one that has not. `shown` empty: there is none. */
bool connect_knows(struct relay_connect *c, struct ht_slice shown);
/* Whether the policy lets this address of it be dialled; *denied, when it does not: why. */
bool connect_may_dial(const struct relay_connect *c, const struct relay_dest *dest, const struct io_addr *a,
                      const char **denied);
/* To whoever wants to know: cfg.told. */
static inline void connect_tell(const struct relay_connect *c, const struct relay_connect_told *told) {
    if (c->cfg.told)
        c->cfg.told(c->cfg.ctx, told);
}
/* Somebody is gone who held so many permits. */
void connect_left(struct relay_connect *c, unsigned permits);

/* ---- a client of connect.c and connect_name.c ---- */

enum client_state {
    CLIENT_HEAD, /* awaits its head, or has a part of it */
    CLIENT_DIALLING,
    CLIENT_SPLICED, /* to a connection of the kit's own */
    CLIENT_WAITING, /* for its turn to open a stream */
    CLIENT_OPENING, /* has a stream, whose driver has not told yet that it is connected */
    CLIENT_PIPED,   /* to that stream */
    CLIENT_ENDING,  /* has its answer, as far as it has taken it */
    CLIENT_STATES
};

struct connect_client {
    struct ht_list node;
    struct crowd_member member; /* while it is in CLIENT_HEAD */
    struct relay_connect *c;
    enum client_state state;
    struct io_conn *conn; /* until the splice has it */
    struct ht_buf in;     /* read and not yet used */
    struct io_out out;    /* said and not yet taken, until the splice or the pipe has it */
    struct http_head *head;
    struct relay_socks *socks; /* NULL: it speaks HTTP */
    struct io_timer timer;
    struct relay_dest dest;
    struct io_dial *dial;
    struct relay_splice *splice;
    struct relay_name_visitor name; /* while a binding has the destination */
    struct relay_waiter waiter;
    struct mux_stream *st; /* until the pipe has it */
    struct io_dial *asked; /* of connect_by_name(): the client is one of our own, */
    struct io_conn *far;   /* ... and this is its end */
    struct relay_pipe *pipe;
    uint64_t from;  /* relay_from() */
    uint64_t moved; /* bytes through the pipe when that was looked at */
    unsigned permits;
    uint64_t began_us;
    const char *denied; /* why the last address may not be dialled; NULL: none was refused */
    char peer[IO_ADDR_TEXT];
};

/* The one place where `state` changes. */
void connect_set_state(struct connect_client *x, enum client_state to);
/* One more permit, of the proxy's half; connect_free() gives them back. */
bool connect_permit(struct connect_client *x) HT_MUST_USE;
/* It is one of the clients from now on; connect_free() takes it out. */
void connect_enlist(struct connect_client *x, const struct io_addr *from);
/* What stands of it is cut. */
void connect_free(struct connect_client *x);
/* The same, in the log; the connection of one that has said nothing is closed in order. */
void connect_gone(struct connect_client *x, const char *why);
/* What a client is told before anything stands, and the end. Behind its head more may be on the way. */
void connect_answer(struct connect_client *x, const struct visitor_answer *a, enum ht_metric_way_out outcome,
                    const char *why);
void connect_refuse(struct connect_client *x, const struct visitor_answer *a, const char *why);
/* What is said before the bytes of the destination, behind what is not taken yet; `room` is for it. */
struct io_out connect_established(struct connect_client *x, uint8_t room[RELAY_SOCKS_REPLY]);

/* ---- connect_name.c ---- */

/* To the destination by that binding's driver; the client may be over when this returns. */
void connect_through(struct connect_client *x, struct relay_binding *b);
/* A connection to what a driver has registered by that name; NULL with *err. */
struct io_dial *connect_by_name(struct relay_connect *c, const struct relay_dest *dest, const struct io_dial_ops *ops,
                                void *ctx, struct ht_errmsg *err) HT_MUST_USE;

/* ---- connect_plain.c ---- */

/* What the requests and the answers say that went through here (RFC 9110 7.6.3). A tunnel of CONNECT or SOCKS5 has no
 * messages, and visitors of a port meet its service as if they stood before it: nothing says it there. */
#define CONNECT_VIA "1.1 hoody-tunnel"
#define CONNECT_ESTABLISHED 200 /* the status of a tunnel that stands */
#define CONNECT_VIA_10 "1.0 hoody-tunnel"
#define CONNECT_PLAIN_FIELDS 2  /* that a request may get on the way: Host and Via */
#define CONNECT_PLAIN_PERMITS 2 /* the client's, and one for the service that its present request is for */

/*
 * Takes the connection of a client with what it has sent, from the head of its first request on, and
 * CONNECT_PLAIN_PERMITS permits; connect_left() follows. HT_ENOMEM: nothing was taken.
 */
int connect_plain_begin(struct relay_connect *c, struct io_conn **conn, const struct io_addr *peer,
                        struct ht_buf *said) HT_MUST_USE;
/* Whoever waits for a request goes. */
void connect_plain_drain(struct relay_connect *c);
void connect_plain_cut(struct relay_connect *c, const char *why);
void connect_plain_destroy(struct relay_connect *c);

/* For the visitor's code, at a port with a `proxy`. NULL: the request goes on. */
const struct visitor_answer *connect_plain_check(struct visitor_http *v, const struct http_head *h, const char *bytes);
/* What a RESET's word stands for there. */
const struct visitor_answer *connect_plain_answer(struct ht_slice word);
/* The same answer where there is a destination instead of a local service. */
const struct visitor_answer *connect_plain_words(const struct visitor_answer *a);

#endif
