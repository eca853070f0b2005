/*
 * What the files of kit/ share.
 *
 *   kit       one daemon: the base listener, the binding table, the lists below
 *   client    a connection of the base listener that speaks HTTP (base_http.c), or reads events (events.c)
 *   sock      a WebSocket: it begins as a client's upgrade and belongs to a session once HELLO or JOIN was accepted
 *   session   a driver's session, live or parked; it outlives its socks (park.c)
 *
 * Memory: a client goes at once. Socks and sessions that are over are only marked and are freed by the kit's reap task
 * at the end of the turn, because mux, ws and relay may still be below us on the stack.
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
#include "mux/mux.h"
#include "relay/connect.h"
#include "relay/kit.h"
#include "vtunnel/vtunnel.h"
#include "web/web.h"
#include "wire_gen.h"
#include "ws/ws.h"

#define KIT_ID_LEN 38 /* "S-" and a UUID */
#define KIT_NONCE_LEN 32
#define KIT_DIGEST 32 /* SHA-256 */
#define KIT_USER_NAME 63

/* What an upgrade showed: those with a valid token have places of their own before HELLO. */
enum shown { SHOWN_NOTHING, SHOWN_TOKEN, SHOWN_KINDS };

/* Whoever shows a token of theirs. Their sessions and what these hold are theirs, and nobody else's. */
struct kit_user {
    char name[KIT_USER_NAME + 1];
    bool admin;        /* sees and ends everybody's */
    uint64_t event_id; /* counts what readers of the user's events are told */
};

struct kit {
    struct io_loop *loop;
    const struct opt_serve *opt;
    struct kit_user one_user;  /* whose everything is: whoever has the token, or, without one, whoever comes */
    bool has_token;            /* one is configured */
    uint8_t token[KIT_DIGEST]; /* its digest */

    struct io_listener *listener;
    struct io_addr listen_addr; /* with the real port */
    struct io_fds fds;
    int other_fds; /* open for the whole life: the log, epoll, signals; -1: not known */
    struct io_task count_task;
    struct ht_metrics metrics;
    struct relay_table *table;
    struct kit_tls *tls;           /* NULL: no certificate is given */
    struct relay_connect *connect; /* NULL: --connect-proxy is not given */
    struct relay_rule *rules;      /* of --connect-allow, then of --connect-deny */
    uint16_t *reserved;
    struct admin admin;

    struct web_server web;  /* of the base listener */
    struct crowd clients;   /* struct base_client */
    struct ht_list readers; /* of struct base_client: those that read events */
    unsigned n_readers;
    uint64_t event_id;              /* counts all of them, which admins are told */
    const char *asked_by;           /* while an admin's request is served: its address */
    struct kit_session *taken_from; /* while a BIND is served: whose binding it takes over */
    struct io_task events_task;
    struct io_task binds_task; /* HELLOs and BINDs that wait are tried again */
    struct ht_list held;       /* struct kit_held_hello */
    struct ht_list socks;      /* struct kit_sock */
    unsigned n_socks;
    struct crowd strangers[SHOWN_KINDS]; /* struct kit_sock: before HELLO */
    struct ht_list live;                 /* struct kit_session: live and closing */
    struct ht_list parked;               /* struct kit_session, oldest first */
    unsigned n_live, n_closing, n_parked;

    struct ht_list dead_socks, dead_sessions;
    struct io_task reap;

    bool draining;
    void (*drained)(void *ctx);
    void *drained_ctx;
    struct io_timer drain_timer;
    struct io_wake sleep;
};

/* ---- tls.c ---- */

/* Reads the certificates, when there are any to read. 0, or an error with *err. */
int kit_tls_open(struct kit *k, struct ht_errmsg *err) HT_MUST_USE;
void kit_tls_close(struct kit *k); /* no handshake is under way any more */
/* A certificate from the `*i`th on that ends within a fortnight, or has ended: says so in `out`, and *i is behind it.
 */
#define KIT_TLS_WARNING 600
bool kit_tls_ends_soon(const struct kit *k, size_t *i, char out[KIT_TLS_WARNING]);

/* A stranger who has to speak TLS first; it stands in what becomes of him. */
struct kit_handshake {
    struct kit *kit;
    const char *peer;         /* for the log */
    struct io_accept *accept; /* NULL: none is under way */
    /* It is over: `conn` is yours, or NULL, and what there is to tell was counted and told. */
    void (*done)(struct kit_handshake *h, struct io_conn *conn);
};
/* Takes `conn`; kit, peer and done are set. False: it is closed already, and done() does not come. */
bool kit_handshake_begin(struct kit_handshake *h, struct io_conn *conn) HT_MUST_USE;
/* Cuts it; harmless when none is under way. */
void kit_handshake_cancel(struct kit_handshake *h);

/* ---- base_http.c; door.c: who is let in ---- */

struct base_client {
    struct web_conn web; /* a WEB_STREAM reads events: it is in the kit's list of those */
    /* Who has not come in yet (`outside`): `first` is where a first byte is awaited, else a handshake is under way. */
    bool outside;
    struct io_conn *first;
    struct io_timer first_timer;
    struct kit_handshake handshake;
    struct crowd_member member;
    struct kit *kit;
    bool overrun; /* a reader of events that does not keep up */
    struct ht_list reader_node;
    enum wire_version upgraded_to; /* of an upgrade */
    bool vtunnel;                  /* ... which speaks vtunnel's JSON instead */
    struct kit_user *user;         /* ... that showed a token, or who reads events; NULL: none */
    char peer[IO_ADDR_TEXT];
};

void base_set_up(struct kit *k);
bool base_peer_trusted(const struct kit *k, const struct io_addr *peer);
extern const struct io_listener_ops base_listener_ops; /* ctx: the kit */
/* A connection that was let in, TLS first where it is spoken. Without memory it is closed. */
void base_client_begin(struct kit *k, struct io_conn *conn, const struct io_addr *peer);
enum base_close {
    BASE_CLOSE_QUIET, /* those that wait for nothing; the others when they have their answer; not readers of events */
    BASE_CLOSE_FINISHED, /* the same, readers too */
    BASE_CLOSE_READERS,  /* of events, and nobody else */
    BASE_CLOSE_ALL,
};
/* At once, whatever it does. */
void base_client_close(struct base_client *c);
void base_clients_close(struct kit *k, enum base_close which);

/* ---- events.c ---- */

#define EVENTS_HEARTBEAT_MS 15000

bool events_full(const struct kit *k);
/* Begins the endless answer. False: out of memory, the client is gone. */
bool events_begin(struct base_client *c);
void events_heartbeat(struct base_client *c);
void events_end(struct base_client *c);
void events_flush(struct io_task *t);
/*
 * Fills in the time. Anywhere, any time: nothing is closed or written before the end of the turn. Admins read it, and
 * `owner`, when there is one.
 */
void kit_event(struct kit *k, struct kit_user *owner, struct admin_event *e);

/* ---- sock.c ---- */

struct kit_session;

struct kit_sock {
    struct ht_list node; /* in socks or dead_socks */
    struct kit *kit;
    struct ws_conn *ws;
    struct mux_link *link;
    struct vtunnel *vt;          /* stands between the two when the peer speaks vtunnel's JSON; else NULL */
    struct kit_session *session; /* NULL: none yet, or no more */
    unsigned index;              /* in its session */
    enum wire_version version;
    struct io_timer hello_timer;
    struct io_timer life_timer;   /* of a secondary: is it still there? Of a vtunnel client: its deadline */
    uint64_t heard;               /* bytes, when last looked at */
    uint64_t pinged_at;           /* 0: no PING is out */
    struct crowd_member stranger; /* linked before HELLO: counts towards --max-pre-auth-connections */
    struct kit_held_hello *held;  /* its HELLO, while that waits (hello.c); no stranger's clock runs */
    struct kit_user *user;        /* whose token the upgrade carried; NULL: it did not */
    bool closing;                 /* the closing handshake has begun, or is over */
    bool dead;                    /* waits for the reaper */
    char peer[IO_ADDR_TEXT];
};

/*
 * Rule HELLO-6: whether one more WebSocket from there may wait for its HELLO. When the places are taken, an address
 * that holds more of them than this one would gives its oldest back.
 */
bool sock_room(struct kit *k, const struct kit_user *user, const struct io_addr *from);
/* Takes the connection of an upgrade that was answered with 101. `early` are bytes behind the request. */
void sock_open(struct base_client *c, struct io_conn *conn, struct ht_slice early);
/* HELLO or JOIN was accepted: the caps and limits of strangers no longer hold. */
void sock_admitted(struct kit_sock *s, struct kit_session *session, unsigned index);
/* Starts the closing handshake behind what is still to be sent; harmless when it has begun. */
void sock_close(struct kit_sock *s, uint16_t ws_code, const char *reason);
/* The socket drops at the end of this turn, without a word. */
void sock_drop(struct kit_sock *s);
void sock_free(struct kit_sock *s);

/* ---- hello.c ---- */

void hello_received(struct kit_sock *s, const struct wire_hello *hello);
/* Those that waited for a session of their own client to be asked, each once. */
void hello_retry(struct kit *k);
/* Its HELLO, if it waits, is forgotten. */
void hello_forget(struct kit_sock *s);
/* A published driver that has just resumed drops streams until its forwarding stands (rule RESUME-5). */
void session_let_settle(struct kit_session *s);
/* ---- users.c ---- */

void users_set_up(struct kit *k);
/* SHA-256, which is all that is kept of a token. */
void kit_token_digest(struct ht_slice token, uint8_t out[KIT_DIGEST]);
/* Whose token it is. NULL: nobody's, or no token is configured. In constant time (rule AUTH-2). */
struct kit_user *kit_user_of_token(struct kit *k, struct ht_slice token);
/* Who somebody is who shows no token. NULL: one is wanted. */
struct kit_user *kit_user_of_nobody(struct kit *k);
/* NULL: of nobody, who sees nothing. */
struct admin_viewer kit_viewer(const struct kit_user *user);
bool kit_may_see(const struct admin_viewer *viewer, const struct kit_user *owner);

/* ---- session.c ---- */

struct kit_ticket {
    char nonce[KIT_NONCE_LEN + 1];
    uint64_t expires_ms; /* monotonic */
    bool usable;
};

/* Whether a live session's driver is there, as far as somebody wants its port. */
enum kit_probe {
    PROBE_NONE,  /* nobody has asked */
    PROBE_ASKED, /* a PING is out */
    PROBE_ANSWERED,
    PROBE_SILENT,
};

struct kit_session {
    struct ht_list node;
    struct kit *kit;
    struct kit_user *user; /* whose it is, for good */
    char id[KIT_ID_LEN + 1];
    enum wire_session_state state; /* session_enter_state() changes it */
    struct relay_owner owner;      /* owner.mux is the mux session, NULL while there is none */
    char peer[IO_ADDR_TEXT];
    enum wire_version version;
    bool vtunnel;        /* its driver speaks vtunnel's JSON: it never parks (VLISTEN-5) */
    const char *goodbye; /* why it shuts down, which such a driver reads in the close frame; static text or NULL */
    bool resumed;
    unsigned granted;
    struct kit_ticket tickets[WIRE_LIMIT_MAX_CONNECTIONS];
    bool shard_map, reissue_tickets; /* the driver named these capabilities */
    bool shards_changed;             /* a SHARD_MAP is due at the end of this turn */
    uint64_t shard_epoch;
    unsigned refusals;                 /* of BINDs, so far; told in the log */
    char client[WIRE_LIMIT_CLIENT_ID]; /* HELLO.client.id, never shown */
    size_t client_len;                 /* 0: it has none */
    struct ht_list waiting;            /* BINDs without their answer, in order (binds.c) */
    unsigned n_waiting;
    bool replaced; /* its client's next process has all of its ports: it does not park */
    enum kit_probe probe;
    uint64_t probed_at, silent_since; /* silent_since: when it was heard last, as PROBE_SILENT has it */
    struct io_timer probe_timer;
    struct kit_session *before,
        *after; /* what was handed over to it and still has streams; whom it was handed over to */
    struct io_timer handover_timer;
    uint64_t park_ends_ms;   /* while it is parked; monotonic */
    uint32_t next_stream_id; /* where a resumed session goes on */
    struct io_timer timer;   /* mux's deadline, or the end of the grace */
    uint64_t timer_at;       /* when it fires; UINT64_MAX: not set */
    struct io_task task;     /* end of turn: let mux act on time */
};

static inline enum admin_protocol session_protocol(const struct kit_session *s) {
    return s->vtunnel ? ADMIN_PROTOCOL_VTUNNEL : (enum admin_protocol)s->version; /* both are the version's number */
}

/* A record with a fresh id and no mux session yet; it is in no list. NULL: out of memory. */
struct kit_session *session_new(struct kit *k, struct kit_user *user) HT_MUST_USE;
/* Makes the record live with `mux`, which belongs to it now, on `sock`. */
void session_go_live(struct kit_session *s, struct mux_session *mux, struct kit_sock *sock);
extern const struct mux_session_ops session_mux_ops; /* ctx: the session */
/* GOAWAY, `grace_ms` for what is in flight, then gone. */
void session_shutdown(struct kit_session *s, uint16_t code, const char *message, uint64_t grace_ms, uint16_t ws_code);
/* Takes the mux session away and lets go of the socks; those that still stand are closed. */
void session_cut(struct kit_session *s, const char *reason);
/* The same, and tells the driver on the old socket that it was replaced (rule RESUME-3). */
void session_supersede(struct kit_session *s);
/* The record is over: its ports are freed at the end of this turn. */
void session_gone(struct kit_session *s, const char *why);
void session_free(struct kit_session *s);
/* Lets mux look at the clock at the end of this turn. */
void session_touch(struct kit_session *s);
/* A sock has pulled output at the end of a turn, behind that look: what mux put aside then may have made it due sooner.
 */
void session_pulled(struct kit_session *s);
/* Live or parked, not one that is closing. NULL: none, whoever asks. */
struct kit_session *session_find(struct kit *k, struct ht_slice id);
/* The same of the user's own. */
struct kit_session *session_find_own(struct kit *k, const struct kit_user *user, struct ht_slice id);
/* The one place where `state` changes, as the spec's machine has it. What is GONE waits for the reaper. */
void session_enter_state(struct kit_session *s, enum wire_session_state to);
/* Sends an answer that the driver waits for; without memory for it the session ends. */
void session_send_or_end(struct kit_session *s, enum wire_frame_type type, const void *payload);

/* ---- binds.c: BIND and UNBIND ---- */

void session_bind(struct kit_session *s, const struct wire_bind *bind, const struct wire_error *err);
void session_unbind(struct kit_session *s, const struct wire_unbind *unbind);
/* Its BINDs that wait are given up, and those of others that wait for it are tried again. */
void session_forget_binds(struct kit_session *s);
void binds_retry(struct io_task *t);
/* Who its driver is (rule CLIENT-1); an empty id: nobody knows. */
void session_set_client(struct kit_session *s, struct ht_slice id);
/*
 * Whether a live session of that client of the user makes room for the client's next process, which finds the session
 * cap reached: one that is silent is parked (RELAY_YIELDS), one that nobody has asked is asked (RELAY_PENDING:
 * hello_retry() comes when it is known), and RELAY_KEEPS when there is none or all are alive.
 */
enum relay_yield session_of_client_yields(struct kit *k, const struct kit_user *user, struct ht_slice client);
void session_probe_answered(struct kit_session *s);
void session_probe_fired(struct io_timer *t);
/* When a parked session goes, in Unix seconds. */
int64_t session_parked_until(const struct kit_session *s);
extern const struct relay_owner_ops session_owner_ops;

/* ---- shards.c: the secondaries of a v2 session ---- */

void join_received(struct kit_sock *s, const struct wire_join *join);
/* Writes a ticket for each secondary; returns how many. `out` has room for WIRE_LIMIT_MAX_CONNECTIONS. */
size_t shards_begin(struct kit_session *s, struct wire_join_ticket *out);
void shards_reissue(struct kit_session *s, const struct wire_reissue *ask);
/* A secondary came or went: whoever asked for it is told at the end of the turn. */
void shards_touch(struct kit_session *s);
void shards_tell(struct kit_session *s);

/* ---- handover.c ---- */

/* The last stream id that a session may use. */
uint32_t session_last_stream(const struct kit *k);
/* Resumed, it would have none left. */
bool session_used_up(const struct kit_session *s);
/* Its last stream was opened: the rest at the end of the turn. */
void handover_due(struct kit_session *s);
/* At the end of a turn: begins what is due, and goes on with it. */
void handover_look(struct kit_session *s);
void handover_late(struct io_timer *t);
/*
 * A new record, in no list, that has the bindings of `old`; that one finishes its streams, or is over when it has no
 * sockets. NULL: out of memory, and nothing has changed.
 */
struct kit_session *handover_successor(struct kit_session *old) HT_MUST_USE;
/* `s` is over. When it is not what was handed over, so is all that was handed over to it. */
void handover_forget(struct kit_session *s, const char *why);

/* ---- park.c ---- */

/* Its driver is lost, or as good as lost: it is parked where that is wanted, else it is gone. */
void session_lose(struct kit_session *s, const char *why);

/* The driver was lost: its ports stay held for the grace. */
void session_park(struct kit_session *s, const char *why);
void session_grace_over(struct kit_session *s);

/* ---- events.c again: what there is to tell of a session ---- */

void event_session(const struct kit_session *s, enum admin_event_type type, const char *reason);
/* `from`: who held the binding before a takeover, or NULL. */
void event_binding(const struct kit_session *s, enum admin_event_type type, const struct relay_binding_info *b,
                   const struct kit_session *from);
/* `code` -1: not known. */
void event_goaway(const struct kit_session *s, enum admin_sender sender, int code, struct ht_slice reason);
/* GOAWAY to somebody who has no session. */
void event_refused(const struct kit_sock *sock, uint16_t code, const char *reason);

/* A client of the CONNECT proxy got to its destination, or did not. */
void event_proxy(struct kit *k, const struct relay_connect_told *told);

/* ---- view.c: what the admin API sees ---- */

void kit_admin_source(struct kit *k, struct admin_source *out);

/*
 * A line about a session. Without a token anybody can make sessions, so the lines are theirs to cause.
 */
#define session_log(s, level, ...)                                                                                     \
    do {                                                                                                               \
        if ((s)->kit->has_token)                                                                                       \
            ht_log_with(level, "session", __VA_ARGS__);                                                                \
        else                                                                                                           \
            ht_log_stranger(level, "session", __VA_ARGS__);                                                            \
    } while (0)

/* ---- way_out.c: the CONNECT proxy ---- */

/* Opens it, when it is asked for. 0, or an error with *err. */
int way_out_open(struct kit *k, struct ht_errmsg *err) HT_MUST_USE;
void way_out_close(struct kit *k);
/* Where it listens, and whether it wants the token. False: there is none. */
bool way_out_address(const struct kit *k, char out[IO_ADDR_TEXT], bool *wants_token);
/* Whoever had to show the old one goes. */
void way_out_token_changed(struct kit *k);

/* ---- kit.c ---- */

/* Loopback, or guarded by a token or --trusted-proxy, or --insecure-listen was given. `text` is the address as the user
 * wrote it. */
int kit_check_address(const struct kit *k, const struct io_addr *a, const char *text, struct ht_errmsg *err);

void kit_reap_later(struct kit *k);

#endif
