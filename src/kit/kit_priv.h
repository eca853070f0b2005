/*
 * What the files of kit/ share.
 *
 *   kit       the daemon: the base listener, the binding table, and the lists below
 *   client    a connection of the base listener that speaks HTTP (base_http.c) or reads events (events.c)
 *   sock      a WebSocket, one connection of a driver: once an upgraded client, after HELLO or JOIN part of a session
 *   session   a driver's session, live or parked. It outlives its socks (park.c), and perhaps its streams do (resume.c)
 *
 * Memory: a client is freed at once. A sock or session that has ended is only marked; the kit's reap task frees it at
 * the end of the turn, because functions of mux, ws and relay that use it may still be on the stack.
 */
#ifndef HT_KIT_KIT_PRIV_H
#define HT_KIT_KIT_PRIV_H

#include "admin/admin.h"
#include "base/buf.h"
#include "base/list.h"
#include "http/http.h"
#include "io/crowd.h"
#include "io/io.h"
#include "io/tls_server.h"
#include "kit/kit.h"
#include "kit/users_priv.h"
#include "mux/mux.h"
#include "relay/connect.h"
#include "relay/front.h"
#include "relay/kit.h"
#include "vtunnel/vtunnel.h"
#include "web/web.h"
#include "wire_gen.h"
#include "ws/ws.h"

#define KIT_ID_LEN 38 /* "S-" and a UUID */
#define KIT_NONCE_LEN 32

/* What an upgrade has shown. Before HELLO, WebSockets with a valid token are counted apart from those without, so that
 * strangers cannot keep drivers out. */
enum shown { SHOWN_NOTHING, SHOWN_TOKEN, SHOWN_KINDS };

/* A source address (io_addr_source()) from which wrong tokens came to the page's login form. */
struct page_tries {
    uint8_t source[IO_SOURCE_LEN];
    uint64_t since_ms; /* when the first of them came; monotonic */
    unsigned n;        /* how many; 0: an unused place */
};

struct handoff_got;
struct restart_message;

struct kit {
    struct io_loop *loop;
    const struct opt_serve *opt;
    struct kit_user one_user;     /* without --users: everybody with the token, or everybody when none is needed */
    unsigned n_users_here;        /* who have a session that is not parked */
    struct ht_list users, passes; /* struct kit_user; struct kit_pass */
    struct ht_list by_digest[KIT_PASS_BUCKETS]; /* struct kit_pass */
    uint64_t digest_seed;                       /* which bucket, nobody outside can tell */
    bool has_token;                             /* drivers and clients of the API need a token */

    struct io_listener *listener;
    struct io_addr listen_addr; /* with the real port */
    struct io_fds fds;
    int other_fds; /* descriptors that stay open all the time: log, epoll, signals; -1: not known */
    struct io_task count_task;
    struct ht_metrics metrics;
    struct relay_table *table;
    struct kit_tls *tls;           /* NULL: no certificate is given */
    struct relay_connect *connect; /* NULL: no --connect-proxy */
    struct relay_rule *rules;      /* of --connect-allow, then of --connect-deny */
    uint16_t *reserved;            /* ports that no driver gets */
    struct ht_list publics;        /* struct kit_public: addresses of --public */
    struct crowd guests;           /* struct public_guest: TLS handshakes of visitors */
    uint16_t https_port;           /* of the first public address with https; 0: there is none */
    struct web_server redirects;   /* of public addresses with plain HTTP beside https */
    struct ht_list redirected;     /* struct redirect_client */
    struct ht_list proxied;        /* struct kit_proxied: connections whose PROXY header is awaited, oldest first */
    unsigned n_proxied;
    struct admin admin;

    struct web_server web; /* of the base listener */
    struct crowd clients;  /* struct base_client */
    struct crowd readers;  /* struct base_client: readers of events, by user */
    unsigned n_samplers;   /* readers of events that want samples of the traffic too */
    struct page_tries tries[128];
    struct io_timer second;                       /* status.c: fires once a second */
    bool ticking;                                 /* `second` is set */
    unsigned tick, quiet;                         /* how often it fired; how often in a row without traffic */
    struct kit_recent *recent[ADMIN_EVENTS_KEPT]; /* a ring of the latest events */
    size_t n_recent;                              /* how many were ever put into it */
    uint64_t memory;                              /* bytes that the machine or the container has; 0: not known */
    uint64_t event_id;              /* of the latest event, as admins see it; users have their own count */
    const char *asked_by;           /* while an admin's request is served: its address */
    struct kit_session *taken_from; /* while a BIND is served: whose binding it takes over */
    struct io_task events_task;     /* writes to the readers of events */
    struct io_task binds_task;      /* tries waiting HELLOs and BINDs again */
    struct kit_store *store;        /* store.c; NULL: records are kept nowhere */
    uint64_t records_seq;           /* of the records that this kit began with */
    struct io_timer late_timer;     /* kept.c: ports that another program has */
    struct ht_list held;            /* struct kit_held_hello */
    struct ht_list socks;           /* struct kit_sock */
    unsigned n_socks;
    struct crowd strangers[SHOWN_KINDS]; /* struct kit_sock before HELLO */
    struct ht_list live;                 /* struct kit_session, live and closing */
    struct ht_list parked;               /* struct kit_session, oldest first */
    unsigned n_live, n_closing, n_parked;

    struct ht_list dead_socks, dead_sessions;
    struct io_task reap;

    /* a restart of this program: restart.h */
    bool handing; /* its sessions are just handed over: HELLOs and BINDs wait */
    bool leaving; /* another kit serves, and this one finishes (leave.c) */
    int heir;     /* the socket to that kit; -1: it is gone */
    void (*left)(void *ctx);
    void *left_ctx;
    uint64_t leave_until_ms;
    struct io_timer leave_timer;
    struct ht_list elders;           /* struct kit_elder: kits before this one, which finish (successor.c) */
    unsigned n_elsewhere;            /* sessions whose driver one of them still serves */
    struct io_timer elsewhere_timer; /* how long their ports are waited for */
    struct ht_buf left_out;          /* ids of sessions that one of them serves, and that are not kept here (kept.c) */
    struct restart *restart;         /* NULL: it is not restarted (an embedded kit) */
    struct ht_list pasts;            /* struct kit_past: sessions whose streams an elder has (past.c) */
    unsigned n_pasts;
    struct ht_list spliced; /* struct kit_spliced: connections to elders that this kit has made TLS with */
    unsigned n_spliced;
    struct io_task hand_task; /* hands to elders what is theirs */

    bool ending; /* records say that its sessions are parked as of now */
    bool draining;
    void (*drained)(void *ctx);
    void *drained_ctx;
    struct io_timer drain_timer;
    struct io_wake sleep;
};

/* ---- tls.c ---- */

/* Reads the certificates of the options, if there are any. `certificate`: of kit_create_after(). 0, or an error with
 * *err. */
int kit_tls_open(struct kit *k, int certificate, struct ht_errmsg *err) HT_MUST_USE;
/* A sealed memory file with the self-signed certificate and its key, which the caller closes. -1: there is none, or it
 * cannot be made, which was logged. */
int kit_tls_seal(const struct kit *k);
void kit_tls_close(struct kit *k); /* no handshake is under way any more */
/* A sentence for each certificate that ends within a fortnight, or has ended, as admin_source.warnings() wants it. */
size_t kit_tls_warnings(const struct kit *k, struct ht_slice out[ADMIN_WARNINGS]);

/* A TLS handshake with a new connection. It is a member of the structure that will own the connection. */
struct kit_handshake {
    struct kit *kit;
    const char *peer;         /* for the log */
    struct io_accept *accept; /* NULL: none is under way */
    /* The handshake has ended. The callee owns `conn`; NULL: it has failed, which was counted and logged. */
    void (*done)(struct kit_handshake *h, struct io_conn *conn);
};
/* Starts the handshake and owns `conn`. The caller has set kit, peer and done. False: the connection was closed, and
 * done() is not called. */
bool kit_handshake_begin(struct kit_handshake *h, struct io_conn *conn) HT_MUST_USE;
/* Cuts the handshake. Harmless when none is running. */
void kit_handshake_cancel(struct kit_handshake *h);

/* ---- base_http.c, and base_accept.c: which connections are accepted ---- */

struct base_client {
    struct web_conn web; /* in state WEB_STREAM it reads events, and the client is in kit.readers */
    /* The connection is not with `web` yet: it waits in `first` for its first byte, or in `handshake` for TLS. */
    bool outside;
    struct io_conn *first;
    struct io_timer first_timer;
    struct kit_handshake handshake;
    struct crowd_member member;
    struct kit *kit;
    bool overrun;                  /* a reader of events that reads too slowly: it is closed at the end of the turn */
    bool samples;                  /* a reader of events that wants samples of the traffic too */
    struct crowd_member reader;    /* in kit.readers */
    enum wire_version upgraded_to; /* of an upgrade: the version of the protocol ... */
    bool vtunnel;                  /* ... or vtunnel's JSON instead */
    struct kit_user *user;         /* of an upgrade or a reader of events; NULL: no token was shown */
    const struct kit_pass *pass;   /* the token; NULL: none */
    struct io_addr from;
    char peer[IO_ADDR_TEXT]; /* `from` as a text */
    bool https;              /* the connection speaks TLS */
    bool is_public;          /* it came in at a public address, and asked for the kit's own host there */
};

void base_set_up(struct kit *k);
/* True when the peer's address is in one of the `n` networks. */
bool base_peer_within(const struct io_addr *peer, const struct ht_cidr *list, size_t n);
/* True when the peer is in a network of --trusted-proxy. Without that option nobody is. */
bool base_peer_is_proxy(const struct kit *k, const struct io_addr *peer);
/* The same, but without that option everybody is. */
bool base_peer_trusted(const struct kit *k, const struct io_addr *peer);
extern const struct io_listener_ops base_listener_ops; /* ctx: the kit */
/* Makes a client of an accepted connection, and owns it. TLS comes first if the kit has a certificate. Without memory
 * the connection is closed. */
void base_client_begin(struct kit *k, struct io_conn *conn, const struct io_addr *peer);
/* relay_front_config.own_host: the same for a connection of a public address whose first request was read there.
 * `said` has the bytes that were read; it is left empty. */
void base_client_adopt(void *kit, struct io_conn *conn, const struct io_addr *peer, struct ht_buf *said, bool https);
/* Call it before one more client: if there are too many, one of them is closed (hardening case 28). */
void base_make_room(struct kit *k);
enum base_close {
    BASE_CLOSE_QUIET,    /* idle clients now, the others after their answer; not readers of events */
    BASE_CLOSE_FINISHED, /* the same, and readers of events */
    BASE_CLOSE_ALL,      /* all of them now */
};
/* Closes the client at once. */
void base_client_close(struct base_client *c);
void base_clients_close(struct kit *k, enum base_close which);
/* Closes readers of events now, and each other client behind its next answer. */
void base_clients_finish(struct kit *k);
/* Closes readers of events whose token is no longer valid. */
void base_readers_of_gone(struct kit *k);

/* ---- page.c ---- */

/*
 * Bounds how many wrong tokens an address may try at the login form of the status page. Returns how many seconds it
 * must wait; 0: it may try. `wrong`: the token of this request was wrong, which counts.
 */
unsigned page_must_wait(struct base_client *c, bool wrong);
/* For a client of a public address: 0 if its request may be served, else the status of the refusal with *text, which
 * is static. */
uint16_t page_refuses(const struct base_client *c, const char **text);
/* Writes the kit's URL for drivers as this client would reach it, from Host and the protocol of its request. */
#define PAGE_URL_TEXT 320
struct ht_slice page_url(const struct base_client *c, char out[PAGE_URL_TEXT]);

/* ---- events.c ---- */

#define EVENTS_HEARTBEAT_MS 15000 /* how often a quiet reader gets a comment, so that proxies keep the connection */

#define EVENTS_MAX_READERS 16 /* of the base listener's clients, so that the others always find room */

/* True when there is room for one more reader of that user. When all places are in use, the user with the most readers
 * gives one up for another user's. */
bool events_room(const struct kit *k, const struct kit_user *user);
/* Queues text for a reader. It is written at the end of the turn; a reader with too much of it is closed then. */
void events_add(struct base_client *c, struct ht_slice text);
/* Begins the answer to c->user, which has no end. There is room for it. False: out of memory; the client was freed. */
bool events_begin(struct base_client *c, bool samples);
void events_heartbeat(struct base_client *c);
/* The client is about to be freed. Does nothing for one that reads no events. */
void events_end(struct base_client *c);
void events_flush(struct io_task *t); /* of kit.events_task */
/*
 * Sends an event to the readers of admins and of `owner`, which may be NULL, and fills in its time and owner. Safe
 * anywhere: nothing is written or closed before the end of the turn.
 */
void kit_event(struct kit *k, struct kit_user *owner, struct admin_event *e);

/* ---- sock.c ---- */

struct kit_session;

struct kit_sock {
    struct ht_list node; /* in socks or dead_socks */
    struct kit *kit;
    struct ws_conn *ws;
    struct mux_link *link;
    struct vtunnel *vt;          /* translates between ws and link when the peer speaks vtunnel's JSON; else NULL */
    struct kit_session *session; /* NULL: it has none yet, or no longer */
    unsigned index;              /* of its link in the session */
    enum wire_version version;
    struct io_timer hello_timer;
    struct io_timer life_timer; /* of a secondary: the next check that it is alive. Of a vtunnel client: its deadline */
    uint64_t heard;             /* bytes read at the last check */
    uint64_t pinged_at;         /* when a PING was sent that is not answered; 0: none */
    struct crowd_member stranger; /* in kit.strangers before HELLO: counts towards --max-pre-auth-connections */
    struct kit_held_hello *held;  /* its HELLO while that waits (hello.c); it then has no time limit of a stranger */
    struct kit_user *user;        /* the user of the upgrade's token; NULL: it had none */
    const struct kit_pass *pass;  /* that token; NULL: none */
    bool closing;                 /* the closing handshake has begun, or is over */
    bool dead;                    /* waits for the reap task */
    bool tls;                     /* its connection speaks TLS */
    bool taken;                   /* the kit that follows has handed it to this one (leave.c) */
    struct kit_hand *hand;        /* it is about to be handed to an elder (past.c); else NULL */
    struct io_addr from;
    char peer[IO_ADDR_TEXT]; /* `from` as a text */
};

/* What is known of a connection when it becomes a WebSocket. */
struct sock_facts {
    enum wire_version version;
    struct kit_user *user;       /* of the upgrade's token; NULL: it had none */
    const struct kit_pass *pass; /* that token; NULL: none */
    struct io_addr from;
    bool vtunnel, tls, taken; /* as in struct kit_sock */
};

/*
 * Returns whether one more WebSocket from `from` may wait for its HELLO (rule HELLO-6). When all places are in use, the
 * oldest WebSocket of an address that holds more places than `from` would is closed; with --users, and a token, that of
 * a user.
 */
bool sock_room(struct kit *k, const struct kit_user *user, const struct io_addr *from);
/* Makes a WebSocket of a connection whose upgrade was answered with 101, and owns it. `early` are the bytes behind the
 * request. */
void sock_open(struct kit *k, const struct sock_facts *f, struct io_conn *conn, struct ht_slice early);
/* HELLO or JOIN was accepted: the limits for strangers no longer hold. */
void sock_admitted(struct kit_sock *s, struct kit_session *session, unsigned index);
/* Starts the closing handshake behind all output. Harmless when it has begun already. */
void sock_close(struct kit_sock *s, uint16_t ws_code, const char *reason);
/* Closes the socket at the end of this turn, without a close frame. */
void sock_drop(struct kit_sock *s);
void sock_free(struct kit_sock *s);

/* ---- hello.c ---- */

void hello_received(struct kit_sock *s, const struct wire_hello *hello);
/* Tries each waiting HELLO once more. A HELLO waits while a session of the same client is probed. */
void hello_retry(struct kit *k);
/* The pass of the HELLO that waits on `s`; NULL: none waits, or it has shown none. */
const struct kit_pass *hello_held_pass(const struct kit_sock *s);
/* Refuses a HELLO that may come again in a moment. */
void hello_busy(struct kit_sock *s, const char *why);
/* Drops the HELLO of `s`, if one waits. */
void hello_forget(struct kit_sock *s);
/* Visitors get 503 for a moment after a resume: a published driver drops streams until it is ready (rule RESUME-5). */
void session_let_settle(struct kit_session *s);

/* ---- users.c ---- */

void users_set_up(struct kit *k);
void users_tear_down(struct kit *k);
/* Sets the token of the only user. 0 or HT_ENOMEM. *changed: the token was another one before. */
int users_set_token(struct kit *k, const uint8_t digest[KIT_DIGEST], bool *changed) HT_MUST_USE;
/*
 * Reads the file of --users. 0, or a negative error with *err: then nothing has changed. *changed: a token is no
 * longer valid; the caller ends what was opened with it (kit_pass.gone).
 */
int users_load(struct kit *k, bool *changed, struct ht_errmsg *err) HT_MUST_USE;
/* SHA-256 of a token. */
void kit_token_digest(struct ht_slice token, uint8_t out[KIT_DIGEST]);
/* The pass of a token. NULL: the token is not valid, or no token is needed. In constant time (rule AUTH-2). */
struct kit_pass *kit_pass_of_token(const struct kit *k, struct ht_slice token);
/* The same for the digest of one. */
struct kit_pass *kit_pass_of_digest(const struct kit *k, const uint8_t digest[KIT_DIGEST]);
/* The user of that pass, or NULL. */
struct kit_user *kit_user_of_token(const struct kit *k, struct ht_slice token);
/* The user of connections without a token. NULL: a token is needed. */
struct kit_user *kit_user_of_nobody(struct kit *k);
static inline bool kit_pass_gone(const struct kit_pass *pass) { return pass && pass->gone; }
/* True when the user may have the binding (rule USER-3); false with *err. */
bool user_may_bind(const struct kit_user *u, const struct wire_bind *bind, struct ht_errmsg *err);
/* True when a URL of the user may have that host, in lower case (rule USER-3); false with *err. `domain` is --domain,
 * as wire_domain_read() writes it. */
bool user_may_name(const struct kit_user *u, const char *host, const char *domain, struct ht_errmsg *err);
/* One of the user's ports at random; 0: the user may have every port. */
uint16_t user_pick_port(const struct kit_user *u);
/* The user as a viewer of the admin API. `user` NULL: a viewer that sees nothing. */
struct admin_viewer kit_viewer(const struct kit_user *user);
/* True when the viewer may see and end what belongs to `owner`: an admin, or the owner. */
bool kit_may_see(const struct admin_viewer *viewer, const struct kit_user *owner);

/* ---- client.c ---- */

/* A client's id, never shown; or the digest of one, where only that is known. */
struct kit_client {
    size_t n; /* 0: none */
    bool digested;
    char id[WIRE_LIMIT_CLIENT_ID];
};
void kit_client_set(struct kit_client *c, struct ht_slice id, bool digested);
/* False: there is no id. */
bool kit_client_digest(const struct kit_client *c, uint8_t out[KIT_DIGEST]);
/* In constant time. False also when one of them has no id. */
bool kit_client_same(const struct kit_client *a, const struct kit_client *b);

/* ---- session.c ---- */

struct kit_ticket {
    char nonce[KIT_NONCE_LEN + 1];
    uint64_t expires_ms; /* monotonic */
    bool usable;
};

/* Whether the driver of a live session answers. It is probed when another session of its client wants its port. */
enum kit_probe {
    PROBE_NONE,  /* not probed */
    PROBE_ASKED, /* a PING was sent, and its time is not over */
    PROBE_ANSWERED,
    PROBE_SILENT,
};

/* What a session has carried, for the status page (status.c). */
struct session_load {
    uint64_t since_ms;                       /* when it began; monotonic */
    uint64_t before_in, before_out;          /* bytes of its earlier mux sessions */
    uint64_t before_requests;                /* requests of the session that it follows */
    uint64_t seen_bytes, seen_requests;      /* the sums at the end of the last second */
    double requests_per_second;              /* a moving average */
    uint32_t traffic[ADMIN_TRAFFIC_SECONDS]; /* a ring: bytes of each second; the last is at kit.tick */
    uint64_t rtt_us;                         /* the last round trip; 0: none yet */
};

struct kit_session {
    struct ht_list node;
    struct kit *kit;
    struct kit_user *user;       /* never changes */
    const struct kit_pass *pass; /* the token of its HELLO or upgrade; NULL: none was needed */
    struct session_load load;
    char id[KIT_ID_LEN + 1];
    enum wire_session_state state; /* only session_enter_state() changes it */
    struct relay_owner owner;      /* owner.mux is the mux session; NULL: none */
    char peer[IO_ADDR_TEXT];
    enum wire_version version;
    bool vtunnel;        /* the driver speaks vtunnel's JSON: the session never parks (VLISTEN-5) */
    const char *goodbye; /* the reason of a shutdown, for the close frame to a vtunnel driver; static text or NULL */
    bool resumed;
    unsigned granted; /* how many connections the driver may have */
    struct kit_ticket tickets[WIRE_LIMIT_MAX_CONNECTIONS];
    bool shard_map, reissue_tickets; /* the driver has named these capabilities */
    bool shards_changed;             /* a SHARD_MAP is sent at the end of this turn */
    uint64_t shard_epoch;
    unsigned refusals;                    /* of BINDs, so far; told in the log */
    struct kit_client client;             /* HELLO.client.id */
    char name[WIRE_LIMIT_NAME_LABEL + 1]; /* HELLO.client.name; "": none */
    struct ht_list waiting;               /* BINDs without their answer, in order (binds.c) */
    unsigned n_waiting;
    bool replaced; /* the client's next process has taken all of its ports: the session does not park */
    enum kit_probe probe;
    uint64_t probed_at, silent_since; /* silent_since: when input came last, for PROBE_SILENT; monotonic */
    struct io_timer probe_timer;
    struct kit_session *before; /* the session that was handed over to this one and still has streams; NULL: none */
    struct kit_session *after;  /* the session to which this one was handed over; NULL: none */
    struct io_timer handover_timer;
    unsigned caps; /* that were agreed on in its last HELLO, WIRE_CAP_...; 0: it has no mux session */
    struct ws_kept *kept[WIRE_LIMIT_MAX_CONNECTIONS]; /* by connection: what its driver has not confirmed; NULL: none */
    uint64_t resent_before, resent_told; /* bytes sent again: of `kept` that no longer exist; as the metrics know */
    bool changes_link;                   /* its old socket is dropped for one that has come */
    bool whole;                          /* after its last resume its streams went on ... */
    uint64_t paused_ms;                  /* ... after so long */
    unsigned held;                       /* ... with so many new visitors who had waited for it */
    bool handed;                         /* the kit that follows has its record */
    bool past;                           /* and hands its driver's links to this one (RHAND-7) */
    bool moved;                          /* and serves its ports (leave.c) */
    uint64_t cut_at_ms;                  /* leave.c: of a driver that must be cut to come back, or is told to */
    bool restored;                       /* it came from records, and its driver was not here yet (kept.c) */
    bool elsewhere;                      /* PARKED, and an old kit still serves its driver (successor.c) */
    struct kit_elder *elder;             /* that kit; NULL: none */
    struct ht_list late;                 /* struct kit_late_bind: bindings whose ports another program has (kept.c) */
    uint64_t park_ends_ms;               /* of a parked session: when it ends, monotonic */
    uint32_t next_stream_id;             /* of a parked session: the first id after the resume */
    struct io_timer timer;               /* fires at the deadline of mux, or at the end of the grace */
    uint64_t timer_at;                   /* when it fires; UINT64_MAX: not set */
    struct io_task task;                 /* lets mux look at the clock at the end of the turn */
};

static inline enum admin_protocol session_protocol(const struct kit_session *s) {
    return s->vtunnel ? ADMIN_PROTOCOL_VTUNNEL : (enum admin_protocol)s->version; /* both are the version's number */
}

/* True when its streams outlive a lost link. */
static inline bool session_keeps(const struct kit_session *s) { return s->caps & WIRE_CAP_STREAM_RESUME; }

/* Makes a session with a new id and without a mux session; it is in no list. NULL: out of memory. */
struct kit_session *session_new(struct kit *k, struct kit_who who) HT_MUST_USE;
/* Makes the session live on `sock`. It owns `mux` from now on. */
void session_go_live(struct kit_session *s, struct mux_session *mux, struct kit_sock *sock);
extern const struct mux_session_ops session_mux_ops; /* ctx: the session */
/* Sends GOAWAY, lets open streams finish for `grace_ms`, then ends the session. */
void session_shutdown(struct kit_session *s, uint16_t code, const char *message, uint64_t grace_ms, uint16_t ws_code);
/* Destroys the mux session and closes the socks. The session keeps its bindings. */
void session_cut(struct kit_session *s, const char *reason);
/* The same, and the driver on the old socket learns that it was replaced (rule RESUME-3). */
void session_supersede(struct kit_session *s);
/* Ends the session for good. Its ports are closed, and it is freed, at the end of this turn. */
void session_gone(struct kit_session *s, const char *why);
/* Closes its ports and frees it. Only for one without a mux session that nobody uses any more. */
void session_free(struct kit_session *s);
/* Lets mux look at the clock at the end of this turn. */
void session_touch(struct kit_session *s);
/* Call it when a sock has pulled output after that look: the pull may have moved the deadline of mux. */
void session_pulled(struct kit_session *s);
/* The live or parked session with this id; NULL: none. A session that is closing is not found. */
struct kit_session *session_find(struct kit *k, struct ht_slice id);
/* The same among the user's own sessions. */
struct kit_session *session_find_own(struct kit *k, const struct kit_user *user, struct ht_slice id);
/* The only function that changes `state`; it follows the spec's state machine. A GONE session waits for the reap task.
 */
void session_enter_state(struct kit_session *s, enum wire_session_state to);
/* Sends an answer for which the driver waits. If that fails, the session is shut down. */
void session_send_or_end(struct kit_session *s, enum wire_frame_type type, const void *payload);

/* ---- binds.c: BIND and UNBIND ---- */

/* mux_session_ops.bind and .unbind */
/* A BIND that waits for its answer, or for its port. */
struct waiting_bind {
    struct ht_list node; /* in its session's list */
    struct wire_bind bind;
    struct ht_slice names[]; /* its names, then its hostnames; all texts of the BIND follow */
};
/* A copy of the BIND and all that it points to, for ht_free(). NULL: out of memory. */
struct waiting_bind *bind_copy(const struct wire_bind *bind) HT_MUST_USE;
void session_bind(struct kit_session *s, const struct wire_bind *bind, const struct wire_error *err);
void session_unbind(struct kit_session *s, const struct wire_unbind *unbind);
/* Drops the waiting BINDs of `s`, and tries the BINDs of others that wait for `s` again. */
void session_forget_binds(struct kit_session *s);
/* Only the latter. */
void session_end_probe(struct kit_session *s);
void binds_retry(struct io_task *t); /* of kit.binds_task */
/* Stores what HELLO says of the driver (rules CLIENT-1, HOST-2). An empty id: not known. The old name stays while the
 * session has hosts with it. */
void session_set_client(struct kit_session *s, struct ht_slice id, struct ht_slice name);
/*
 * A client's next process finds the session cap reached (rule CLIENT-3). Returns whether a live session of the same
 * client and user makes room for it. RELAY_YIELDS: it was silent, and was parked. RELAY_PENDING: it was sent a PING;
 * hello_retry() is called when the answer is known. RELAY_KEEPS: there is none, or all of them are alive.
 */
enum relay_yield session_of_client_yields(struct kit *k, const struct kit_user *user, struct ht_slice client);
void session_probe_answered(struct kit_session *s);
void session_probe_fired(struct io_timer *t);
/* When a parked session ends, in Unix seconds. */
int64_t session_parked_until(const struct kit_session *s);
extern const struct relay_owner_ops session_owner_ops;

/* ---- resume.c: sessions whose streams outlive a lost link ---- */

/* Checks the options. 0, or HT_EINVAL with *err. */
int kit_check_replay(const struct opt_serve *o, struct ht_errmsg *err) HT_MUST_USE;
/* The capabilities to agree on with a driver that has named these (rule EXT-1). */
unsigned sock_caps(const struct kit_sock *sock, unsigned named);
/* Writes what HELLO_OK says of the session's replay buffer and grace. */
void session_offer(const struct kit_session *s, struct wire_hello_ok *ok);
/* Makes what keeps the messages of a connection, if it needs that and has none. False: out of memory. */
bool session_keep(struct kit_session *s, unsigned index) HT_MUST_USE;
/* The streams of the connection are gone: its messages are forgotten. */
void session_forget_kept(struct kit_session *s, unsigned index);
void session_forget_all_kept(struct kit_session *s);
/* Counts in the metrics what was sent again. */
void session_count_resent(struct kit_session *s);
/* mux_link_ops.kept, .acked and .replay; ctx: the sock */
size_t sock_kept(void *ctx);
uint64_t sock_drained(void *ctx, bool *waits);
void sock_acked(void *ctx, uint64_t count);
void sock_replay(void *ctx, uint64_t count);
/* mux_link_pull() has returned a message of the sock. */
void sock_pulled(struct kit_sock *sock);
/* mux_session_ops.away */
void session_away(struct kit_session *s, const char *text);
/* A session that is about to park keeps its streams, and lets go of its sockets. False: it has no streams to keep. */
bool session_leave_link(struct kit_session *s);
enum resume_fate {
    RESUME_ANEW,  /* the old streams are gone (rule RESUME-1) */
    RESUME_WHOLE, /* they go on (rule RESUME-9) */
    RESUME_LATE,  /* this HELLO was overtaken by a later one (rule RESUME-11) */
};
/* What a HELLO that resumes `s` brings. `caps`: of sock_caps(). */
enum resume_fate session_fate(const struct kit_session *s, const struct kit_sock *sock, const struct wire_hello *h,
                              unsigned caps);
/* For RESUME_WHOLE: goes on with the mux session of `s` on the link of `sock`, which gets HELLO_OK. False: that was not
 * possible, and the mux session is gone. */
bool session_go_on(struct kit_session *s, struct kit_sock *sock, uint64_t received, const struct wire_hello_ok *ok);

/* ---- shards.c: the secondaries of a v2 session ---- */

void join_received(struct kit_sock *s, const struct wire_join *join);
void join_refuse(struct kit_sock *s, enum wire_join_error code, const char *message);
/* Writes a ticket for each secondary to `out`, which has WIRE_LIMIT_MAX_CONNECTIONS places. Returns their number. */
size_t shards_begin(struct kit_session *s, struct wire_join_ticket *out);
void shards_reissue(struct kit_session *s, const struct wire_reissue *ask);
/* A secondary has come or gone: drivers with the capability get a SHARD_MAP at the end of the turn. */
void shards_touch(struct kit_session *s);
void shards_tell(struct kit_session *s);

/* ---- handover.c ---- */

/* The last stream id that a session may use. */
uint32_t session_last_stream(const struct kit *k);
/* True when the session would have no stream ids left after a resume. */
bool session_used_up(const struct kit_session *s);
/* The session has opened its last stream: the handover begins at the end of the turn. */
void handover_due(struct kit_session *s);
/* At the end of a turn: begins a handover that is due, and continues one that has begun. */
void handover_look(struct kit_session *s);
void handover_late(struct io_timer *t); /* of kit_session.handover_timer: the driver has not opened the next session */
/*
 * Makes a new record, in no list, and gives it the bindings of `old`. `old` finishes its streams; without sockets it
 * ends at once. NULL: out of memory; nothing has changed.
 */
struct kit_session *handover_successor(struct kit_session *old) HT_MUST_USE;
/* `s` has ended: ends the sessions that were handed over to it as well, unless `s` itself was handed over. */
void handover_forget(struct kit_session *s, const char *why);

/* ---- park.c ---- */

/* The driver is lost: parks the session if it may park, else ends it. */
void session_lose(struct kit_session *s, const char *why);

/* Parks the session: its ports are kept for --takeover-grace. */
void session_park(struct kit_session *s, const char *why);
/* Ends parked sessions that are too many (rule PARK-3). */
void session_trim_parked(struct kit *k);
/* That time is over: ends the session. */
void session_grace_over(struct kit_session *s);

/* ---- events.c again: one function for each kind of event ---- */

/* `reason` may be NULL. */
void event_session(const struct kit_session *s, enum admin_event_type type, const char *reason);
/* `from` is the session that held the binding before a takeover; NULL: none. */
void event_binding(const struct kit_session *s, enum admin_event_type type, const struct relay_binding_info *b,
                   const struct kit_session *from);
/* `code` -1: not known. */
void event_goaway(const struct kit_session *s, enum admin_sender sender, int code, struct ht_slice reason);
/* GOAWAY was sent on a WebSocket without a session. */
void event_refused(const struct kit_sock *sock, uint16_t code, const char *reason);
/* A client of the CONNECT proxy was connected to its destination, or was refused. */
void event_proxy(struct kit *k, const struct relay_connect_told *told);
/* What is told of a restart, or of a start that has found sessions. */
struct kit_restarted {
    unsigned sessions, left_out;
    uint64_t took_ms, paused_ms;
};
/* `about` and `reason` may be NULL. Only admins see it. */
void event_restart(struct kit *k, enum admin_event_type type, const struct kit_restarted *about, const char *reason);

/* ---- status.c: the load, for the status page ---- */

void status_set_up(struct kit *k);
void status_end(struct kit *k);
/* Starts the timer of one second: there is traffic, or a reader wants samples. */
void status_wake(struct kit *k);
/* The mux session is about to be destroyed: keeps its sums. */
void status_keep(struct kit_session *s);
/* `s` continues the session `old`: it takes over its sums. */
void status_follow(struct kit_session *s, const struct kit_session *old);
/* Fills in what the status page shows of a session. */
void status_fill(const struct kit_session *s, struct admin_snap_session *out);
/* admin_source.kit and .recent; ctx: the kit */
void status_kit(void *ctx, struct admin_snap_kit *out);
size_t status_recent(void *ctx, const struct admin_viewer *viewer, struct admin_event out[ADMIN_EVENTS_KEPT]);
/* Keeps a copy of an event for status_recent(). Without memory it is left out. */
void status_remember(struct kit *k, const struct admin_event *e);

/* ---- view.c: what the admin API sees ---- */

void kit_admin_source(struct kit *k, struct admin_source *out);

/*
 * Logs a line about a session. Without a token everybody can make sessions, so such lines have a budget
 * (ht_log_stranger).
 */
#define session_log(s, level, ...)                                                                                     \
    do {                                                                                                               \
        if ((s)->kit->has_token)                                                                                       \
            ht_log_with(level, "session", __VA_ARGS__);                                                                \
        else                                                                                                           \
            ht_log_stranger(level, "session", __VA_ARGS__);                                                            \
    } while (0)

/* ---- public.c: the addresses of --public ---- */

/* Checks the options of the front, and opens its addresses if there are any. 0, or an error with *err. */
int public_open(struct kit *k, struct ht_errmsg *err) HT_MUST_USE;
/* --public-url-pattern if it has RELAY_HOST_HOLE in it, else NULL. */
const char *public_pattern(const struct opt_serve *o);
/* Closes handshakes and idle visitors there. Others are closed behind their answer. */
void public_drain(struct kit *k);
/* kit_each_listener(), kit_close_listeners() for them. */
void public_each_listener(struct kit *k, void (*each)(void *ctx, const char *role, struct io_listener *l), void *ctx);
void public_close_listeners(struct kit *k);
/* Closes the addresses. */
void public_close(struct kit *k);

/* ---- redirect.c: public addresses with plain HTTP beside https ---- */

/* Checks the options. 0, or HT_EINVAL with *err. */
int redirect_open(struct kit *k, struct ht_errmsg *err) HT_MUST_USE;
/* Closes all clients. */
void redirect_close(struct kit *k);
/* Serves a connection, and owns it. It holds a permit of `door`, which is given back at its end. */
void redirect_begin(struct kit *k, struct relay_front_door *door, struct io_conn *conn, const struct io_addr *peer);

/* ---- proxied.c: PROXY headers, from networks of --proxy-protocol ---- */

struct proxied_ops {
    /* The header has come. The callee owns the connection; `from` counts as its peer. */
    void (*go)(void *ctx, struct io_conn *c, const struct io_addr *from);
    /* No header, or a wrong one, has come, and the connection was closed. May be NULL. */
    void (*gone)(void *ctx);
};

/* True when connections from there begin with a PROXY header. */
bool proxied_peer(const struct kit *k, const struct io_addr *peer);
/* Waits for the header, and owns the connection until go(). One of the two ops is called, perhaps inside this call. */
void proxied_begin(struct kit *k, struct io_conn *c, const struct io_addr *peer, const struct proxied_ops *ops,
                   void *ctx);
/* Closes all connections that began with this `ctx`. gone() is called for each. */
void proxied_cancel(struct kit *k, const void *ctx);

/* ---- way_out.c: the CONNECT proxy ---- */

/* Opens the proxy if --connect-proxy is given. 0, or an error with *err. */
int way_out_open(struct kit *k, struct ht_errmsg *err) HT_MUST_USE;
void way_out_close(struct kit *k);
/* The address of the proxy, and whether it wants the token. False: there is no proxy. */
bool way_out_address(const struct kit *k, char out[IO_ADDR_TEXT], bool *wants_token);
/* Tokens have changed: cuts clients whose token is no longer valid. */
void way_out_tokens_changed(struct kit *k);

/* ---- kept.c: sessions as records (records.h), and the other way round ---- */

struct records;

/* A binding of a session from records that has no listener yet. */
struct kit_late_bind {
    struct ht_list node;
    struct waiting_bind *copy;
    uint32_t bind_id;
    int64_t since;
};

/* Appends the records of all sessions that a driver may come back to. 0, HT_ENOMEM, HT_EINVAL. */
int kept_write(struct kit *k, uint64_t seq, struct ht_buf *out) HT_MUST_USE;
/* True when kept_write() has the session. */
bool kept_is_written(const struct kit_session *s);

struct kept_count {
    unsigned sessions, bindings, late, left_out;
};
/* Makes the sessions anew, as parked ones. `elsewhere`: an old kit still serves those that were not parked. 0 or
 * HT_ENOMEM; what cannot be had is left out, and logged. */
int kept_restore(struct kit *k, struct records *records, bool elsewhere, struct kept_count *count) HT_MUST_USE;
/* Counts what has become of a session that may be of a kit before. */
void kept_is_back(struct kit_session *s);
void kept_is_lost(struct kit_session *s);
/* Drops the bindings that have no listener yet. */
void kept_forget(struct kit_session *s);
void kept_retry(struct io_timer *t); /* of kit.late_timer */

/* ---- store.c: where records are kept ---- */

/* Sessions or bindings have changed: the records are written anew in a moment. */
void store_touch(struct kit *k);
/* Writes them now. `ends`: the kit ends, and its sessions are parked as of now. */
void store_flush(struct kit *k, bool ends);
/* The number of the latest records. */
uint64_t store_seq(const struct kit *k);
/* Nothing is written any more. */
void store_close(struct kit *k);

/* ---- leave.c: the old kit of a restart, once the new one serves ---- */

/* `heir`: the socket to the new kit, which outlives the kit. finished() is called once, from the loop. */
void leave_begin(struct kit *k, int heir, void (*finished)(void *ctx), void *ctx);
/* The new kit serves the ports of that session. */
void leave_mine(struct kit *k, struct ht_slice id);
/* The session's driver is lost. True: that is settled here. */
bool leave_lost(struct kit_session *s, const char *why);
/* The session is over for good. */
void leave_gone(struct kit_session *s);
/* True when its streams can go on here while the other kit serves. */
bool leave_keeps(const struct kit_session *s);
/* The kit that follows hands over a WebSocket. */
void leave_take(struct kit *k, struct handoff_got *got);
/* Its driver has come back to such a session, and has to learn again where the next one is. */
void leave_resumed(struct kit_session *s);
/* Nothing of the session can go on here. It is ended if there is one. */
void leave_over(struct kit *k, struct kit_session *s, struct ht_slice id);
void leave_if_over(struct kit *k);
void leave_look(struct io_timer *t); /* of kit.leave_timer */

/* ---- successor.c: kits before this one ---- */

struct kit_elder {
    struct ht_list node;
    struct kit *kit;
    int fd;
    unsigned number; /* in the order in which the kit that follows was told */
    struct io_watcher watch;
};

void elders_end(struct kit *k);   /* tells them that the service ends */
void elders_close(struct kit *k); /* forgets them */
/* What they say stays in their sockets, for the kit that follows; or no longer. */
void elders_pause(struct kit *k, bool pause);
void elsewhere_begin(struct kit_session *s);
/* The ports of the session are ours from now on. `tell`: the old kit does not know. */
void elsewhere_end(struct kit_session *s, bool tell);
void elsewhere_end_all(struct kit *k);
/* True while nobody else may have the ports of the session because its driver is about to come. */
bool elsewhere_waits(const struct kit_session *s);
void elsewhere_fired(struct io_timer *t); /* of kit.elsewhere_timer */

/* ---- past.c: sessions whose streams are with one of those ---- */

/* From RESTART_PAST. */
void past_add(struct kit *k, const struct restart_message *m);
/* Who the elder of that number is. */
void past_settle(struct kit *k, unsigned number, struct kit_elder *e);
struct kit_past *past_find(struct kit *k, struct ht_slice id);
/* True when the session is the user's; NULL: never. */
bool past_is_of(struct kit *k, const struct kit_past *p, const struct kit_user *user);
void past_over(struct kit *k, const struct kit_elder *e, struct ht_slice id);
/* Forgets the sessions of an elder; NULL: those that have none. */
void past_forget(struct kit *k, const struct kit_elder *e);
/* RESTART_PAST for each. */
void past_each(const struct kit *k, void (*each)(void *ctx, const struct restart_message *m), void *ctx);
/* The sock goes to the elder of the session at the end of this turn, with this first message, or is refused. `pass`:
 * the token of its driver; NULL: none. False: out of memory. */
bool past_hand_hello(struct kit_sock *sock, const struct kit_past *p, const struct kit_pass *pass,
                     const struct wire_hello *hello) HT_MUST_USE;
bool past_hand_join(struct kit_sock *sock, const struct kit_past *p, const struct wire_join *join) HT_MUST_USE;
void past_drop_hand(struct kit_sock *sock);
void past_hand_all(struct io_task *t); /* of kit.hand_task */
/* Cuts the connections to elders that go through this kit. */
void past_cut(struct kit *k);

/* ---- kit.c ---- */

/* Calls each() for the kit's own listeners, with what each is for. */
void kit_each_listener(struct kit *k, void (*each)(void *ctx, const char *role, struct io_listener *l), void *ctx);
/* Stops accepting everywhere, or goes on. */
void kit_pause(struct kit *k, bool pause);
/* Closes the kit's own listeners, which another process goes on with. Their connections stay. */
void kit_close_listeners(struct kit *k);

/* Checks that an address is safe to listen on: it is loopback, or a token or --trusted-proxy protects it, or
 * --insecure-listen was given. `text` is the address as the user wrote it. 0, or an error with *err. */
int kit_check_address(const struct kit *k, const struct io_addr *a, const char *text, struct ht_errmsg *err);

/* Runs the reap task at the end of this turn. */
void kit_reap_later(struct kit *k);

#endif
