/*
 * What the files of the CONNECT proxy share. No other room includes it.
 *
 *   connect.c         the listener; clients with CONNECT or SOCKS5, their heads, and dialling
 *   connect_name.c    clients whose destination a driver has registered
 *   connect_plain.c   clients that send requests with an absolute target (GET http://host/)
 *   socks.c           the SOCKS5 protocol
 *   dest.c            destinations and the policy
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
    struct connect_plain *plains; /* a list, one for each user that has come for it */
    bool draining;
};

/* Whether the value of Proxy-Authorization has a token; counts one that has not. `shown` empty: there is none. */
bool connect_knows(struct relay_connect *c, struct ht_slice shown, struct relay_known *out);
/* Whether the policy lets this address of it be dialled; *denied, when it does not: why. */
bool connect_may_dial(const struct relay_connect *c, const struct relay_dest *dest, const struct io_addr *a,
                      const char **denied);
/* Calls cfg.told, if it is set. */
static inline void connect_tell(const struct relay_connect *c, const struct relay_connect_told *told) {
    if (c->cfg.told)
        c->cfg.told(c->cfg.ctx, told);
}
/* A client has left that held this many permits. */
void connect_left(struct relay_connect *c, unsigned permits);

/* ---- a client of connect.c and connect_name.c ---- */

enum client_state {
    CLIENT_HEAD, /* waits for a head, or has a part of it */
    CLIENT_DIALLING,
    CLIENT_SPLICED, /* connected to a connection that the kit has made */
    CLIENT_WAITING, /* waits for its turn to open a stream */
    CLIENT_OPENING, /* has a stream, and the driver has not connected yet */
    CLIENT_PIPED,   /* connected to that stream */
    CLIENT_ENDING,  /* has got its answer, or will have when it has read it */
    CLIENT_STATES
};

struct connect_client {
    struct ht_list node;
    struct crowd_member member; /* in c->heads while the state is CLIENT_HEAD */
    struct relay_connect *c;
    struct relay_known who; /* from its head on */
    enum client_state state;
    struct io_conn *conn; /* NULL once the splice or the pipe owns it */
    struct ht_buf in;     /* bytes that were read and not used yet */
    struct io_out out;    /* bytes for the client; the splice or the pipe takes them over */
    struct http_head *head;
    struct relay_socks *socks; /* NULL: the client speaks HTTP */
    struct io_timer timer;
    struct relay_dest dest;
    struct io_dial *dial;
    struct relay_splice *splice;
    struct relay_name_visitor name; /* while it uses a binding by name */
    struct relay_waiter waiter;
    struct mux_stream *st; /* NULL once the pipe owns it */
    struct io_dial *asked; /* of connect_by_name(): the client is this program itself, which waits for `far` */
    struct io_conn *far;   /* the other end of `conn`, for `asked` */
    struct ht_list served; /* in the list that connect_by_name() got */
    uint32_t serves;       /* the stream that it got; 0: none */
    uint64_t waited_ms;    /* how long it has waited for its turn; known when that has come */
    struct relay_pipe *pipe;
    uint64_t from;    /* relay_from() */
    uint64_t moved;   /* bytes that had passed the pipe at the last check for idleness */
    uint64_t away_ms; /* mux_stream_away_ms() at that check, or when the stream was opened */
    unsigned permits;
    uint64_t began_us;
    const char *denied; /* why the last address must not be dialled; NULL: no address was refused */
    char peer[IO_ADDR_TEXT];
};

/* The only function that changes `state`. */
void connect_set_state(struct connect_client *x, enum client_state to);
/* Takes one more permit of the proxy's half; connect_free() gives all back. False: there is none. */
bool connect_permit(struct connect_client *x) HT_MUST_USE;
/* Adds the client to the list of clients; connect_free() removes it. */
void connect_enlist(struct connect_client *x, const struct io_addr *from);
/* Cuts all connections of the client and frees it. */
void connect_free(struct connect_client *x);
/* Logs `why`, then the same. The connection of a client that has sent nothing is closed in order. */
void connect_gone(struct connect_client *x, const char *why);
/* Sends the answer to a client that is not connected yet, and ends it. More input may follow its head: it is dropped.
 */
void connect_answer(struct connect_client *x, const struct visitor_answer *a, enum ht_metric_way_out outcome,
                    const char *why);
void connect_refuse(struct connect_client *x, const struct visitor_answer *a, const char *why);
/* The output that goes before the bytes of the destination: the bytes in x->out, and the 200 or the SOCKS5 reply. The
 * reply is written to `room`, which must live until the output is flushed. */
struct io_out connect_established(struct connect_client *x, uint8_t room[RELAY_SOCKS_REPLY]);

/* ---- connect_name.c ---- */

/* Connects the client to its destination through the driver of `b`. The client may be freed when this returns. */
void connect_through(struct connect_client *x, struct relay_binding *b);
/* A connection to what a driver has registered by that name, for stream `serves` of the caller's; NULL with *err. As
 * long as there is a client for it, that stands in `among`, by `served`. */
struct io_dial *connect_by_name(struct relay_connect *c, const void *user, const struct relay_dest *dest,
                                struct ht_list *among, uint32_t serves, const struct io_dial_ops *ops, void *ctx,
                                struct ht_errmsg *err) HT_MUST_USE;
/* For how many milliseconds, in all, the client has waited for its turn or for a link that was away, and whether it
 * does so now. */
uint64_t connect_paused_ms(const struct connect_client *x);
bool connect_is_paused(const struct connect_client *x);

/* ---- connect_plain.c ---- */

/* The value of Via in requests and answers that pass the proxy (RFC 9110 7.6.3). Tunnels of CONNECT and SOCKS5 have no
 * messages, and to visitors of a port the kit is invisible: neither gets a Via. */
#define CONNECT_VIA "1.1 hoody-tunnel"
#define CONNECT_ESTABLISHED 200 /* the status of a tunnel that is connected */
#define CONNECT_VIA_10 "1.0 hoody-tunnel"
#define CONNECT_PLAIN_FIELDS 2  /* fields that a request may get on the way: Host and Via */
#define CONNECT_PLAIN_PERMITS 2 /* one for the client, and one for the service of its present request */

/*
 * Takes over a client's connection and the bytes that it has sent, which begin with the head of its first request, and
 * its CONNECT_PLAIN_PERMITS permits. connect_left() is called at its end. 0, or HT_ENOMEM: nothing was taken over.
 */
int connect_plain_begin(struct relay_connect *c, const void *user, struct io_conn **conn, const struct io_addr *peer,
                        struct ht_buf *said) HT_MUST_USE;
/* Closes clients that have no request in progress. */
void connect_plain_drain(struct relay_connect *c);
void connect_plain_cut(struct relay_connect *c, bool (*which)(const struct relay_known *who), const char *why);
void connect_plain_destroy(struct relay_connect *c);

/* These are called by the visitor's code for a port with a `proxy`. */
/* Checks a request. NULL: it may continue. Otherwise the answer that refuses it. */
const struct visitor_answer *connect_plain_check(struct visitor_http *v, const struct http_head *h, const char *bytes);
/* As connect_paused_ms() and connect_is_paused(), for the visitor's request when a driver has its destination; 0 and
 * false for others. */
uint64_t connect_plain_paused_ms(const struct visitor_http *v);
bool connect_plain_is_paused(const struct visitor_http *v);
/* The answer for the first word of a RESET's reason. */
const struct visitor_answer *connect_plain_answer(struct ht_slice word);
/* The answer `a` in the words of the proxy, which has a destination and no local service. */
const struct visitor_answer *connect_plain_words(const struct visitor_answer *a);

#endif
