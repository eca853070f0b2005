/*
 * The inside of a tunnel, shared by the files of this room.
 *
 *   driver.c          the public calls: making, running and ending a tunnel
 *   driver_options.c  the caller's options: checked and copied
 *   driver_link.c     the primary socket: the handshake, the session and its end
 *   driver_sock.c     one WebSocket: connecting, the upgrade, and the mux link on it
 *   driver_shards.c   the secondary sockets of a v2 session
 *   driver_handover.c replacing a session by the next one while it is still up
 *   driver_past.c     sessions that were replaced, until their last stream has ended
 *   driver_retry.c    after a lost link: the wait and the next attempt
 *   driver_resume.c   streams that survive a lost link
 *   driver_network.c  the machine's network changes, or the machine was asleep
 *   driver_thread.c   a tunnel with a thread of its own, and calls from other threads
 *   driver_tls.c      TLS to services
 *   driver_names.c    targets that are reached by name
 *   driver_guard.c    names with a policy: requests are checked and get secrets
 *   driver_gate.c     who may visit an exposed service, and what of heads is changed
 *   driver_inspect.c  the inspector: what it keeps and who shows it
 *   driver_bind.c     bindings, and which of them a stream belongs to
 *   identity.c        the client id, which outlives the process
 *   state.c           secret files of this machine and user
 *   proxy.c           the proxy on the way to the kit
 *   url.c             URLs and targets as people write them
 *
 * States: NEW -> CONNECTING -> HELLO -> UP -> CLOSING -> ENDED. Every state but ENDED can change to ENDED. After a lost
 * link that is retried: CONNECTING, HELLO or UP -> DOWN -> WAITING -> CONNECTING.
 *
 * From DOWN to UP the present session may be away (driver_is_away()): it has its streams, bindings and messages, and no
 * socket. When HELLO is answered it goes on, or it is given up, and another one is made.
 */
#ifndef HT_DRIVER_DRIVER_H
#define HT_DRIVER_DRIVER_H

#include "base/buf.h"
#include "base/list.h"
#include "driver/hoody_tunnel.h"
#include "driver/identity_priv.h"
#include "driver/name.h"
#include "driver/proxy.h"
#include "driver/url.h"
#include "io/io.h"
#include "mux/mux.h"
#include "relay/origin.h"
#include "vtunnel/vtunnel.h"
#include "wire/name.h"
#include "ws/ws.h"

#include <pthread.h>
#include <stdatomic.h>

enum driver_state {
    DRIVER_NEW,
    DRIVER_CONNECTING, /* dialling, TLS, upgrade */
    DRIVER_HELLO,      /* HELLO was sent */
    DRIVER_UP,
    DRIVER_DOWN,    /* the link has ended, or will at the end of this turn */
    DRIVER_WAITING, /* waits for the next attempt */
    DRIVER_CLOSING, /* after ht_tunnel_close(); or the session has ended, and its WebSocket closes */
    DRIVER_ENDED,
};

enum driver_bind_state {
    BINDING_WAITS, /* waits for the session, or for `timeout` after a refusal that may pass */
    BINDING_ASKED, /* BIND was sent */
    BINDING_BOUND,
    BINDING_UNBINDING, /* UNBIND was sent */
    BINDING_LOST,      /* was bound when the link was lost */
};

struct driver_inspect;
struct driver_tls;
struct gate;
struct guard;
struct guard_host;

struct driver_binding {
    struct ht_list node;
    struct ht_tunnel *t;
    int number;
    enum driver_bind_state state;
    enum ht_bind_kind kind;
    struct driver_target target;
    char name[DRIVER_TARGET_TEXT]; /* for messages, as driver_target_text() */
    struct driver_tls *tls;        /* TLS to the target; NULL: none */
    struct relay_target *origin;
    struct gate *gate;          /* in front of the origin; NULL: every request passes as it is */
    struct guard_host *guarded; /* when its name has a policy; else NULL */
    struct io_tls *guard_tls;   /* when its name has a policy: TLS to the real host */
    uint16_t asked_port, port;  /* port: the one that the kit gave; 0: not bound yet */
    uint32_t bind_id;
    bool takeover, drop;     /* drop: UNBIND it as soon as possible */
    bool told_lost;          /* another session has the port, and that was reported */
    bool told_insecure;      /* the warning about an unverified certificate was given */
    char *label, *pull_host; /* NULL: none */
    char *host_label;        /* its name at the kit's public port; NULL: none */
    char **hostnames;        /* and domains of its own, in one block */
    size_t n_hostnames;
    struct driver_name *names;
    size_t n_names;
    bool portless; /* the container has no port for it */
    bool names_optional, names_refused;
    char *shown_url;  /* where visitors reach it, for the inspector; NULL: not known */
    bool unreachable; /* the inspector has seen that there is no service */
    uint64_t seen_ms; /* when the inspector saw a request for it; 0: never */
    char *names_why;  /* of names_refused: the kit's message */
    char *ca;         /* certificates for programs in the container, as PEM; NULL: none */
    struct io_timer timeout;
};

struct driver_sock;

struct driver_sock_ops {
    const struct mux_link_ops *link; /* its ctx is the driver_sock */
    /* The WebSocket is open: the callee queues the first frame. 0; negative: failed() follows. */
    int (*greet)(struct driver_sock *s);
    /* There is no WebSocket. `status` is the HTTP status of the refusal, 101 when that answer was not valid, or 0. */
    void (*failed)(struct driver_sock *s, int error, uint16_t status, uint64_t retry_after_ms, const char *text);
    /* The WebSocket has closed and was destroyed; the link was not. `broken`: the peer broke the rules of WebSocket. */
    void (*closed)(struct driver_sock *s, uint16_t code, const char *text, bool broken);
};

enum shard_state {
    SHARD_NONE,
    SHARD_CONNECTING,
    SHARD_JOINING, /* JOIN was sent */
    SHARD_UP,
    SHARD_LOST,  /* waits until it asks for a ticket */
    SHARD_ASKED, /* has asked for a ticket */
};

struct driver_sock {
    struct ht_tunnel *t;
    struct driver_session *of;
    unsigned index; /* 0: the primary */
    enum wire_version version;
    const struct driver_sock_ops *ops;
    struct ws_connect *connect;
    struct ws_conn *ws;
    struct mux_link *link;
    struct vtunnel *vt; /* translates between ws and link when the server speaks vtunnel's JSON; else NULL */
    struct io_timer vt_timer;
    bool closing;          /* the closing handshake has begun */
    struct io_timer timer; /* time limit for the answer to the first frame; driver_shards.c uses it for more */
    /* of a secondary: */
    enum shard_state state;
    unsigned attempts; /* since it was up for a while */
    uint64_t patience; /* of `probing`: how long the answer may take, in milliseconds */
    uint64_t up_at;
    uint64_t heard;     /* bytes read at the last check */
    uint64_t pinged_at; /* when a PING was sent that is not answered; 0: none */
    bool probing;       /* that PING was sent because of a change of the network, or a sleep */
    bool seen_up;       /* a SHARD_MAP of the kit says that it is up */
    char nonce[129];    /* of its ticket */
};

/* A session with its sockets. It exists from the first attempt to connect. */
struct driver_session {
    struct ht_list node; /* in ht_tunnel.past, once it was replaced */
    struct ht_tunnel *t;
    struct mux_session *mux;                      /* NULL: not yet */
    struct driver_sock socks[HT_MAX_CONNECTIONS]; /* 0: the primary */
    struct ws_kept *kept[HT_MAX_CONNECTIONS];     /* what was sent by the sockets of an index and not acknowledged */
    struct io_timer timer;
    struct io_task clock, end;
    uint64_t deadline; /* time to which `timer` is set; UINT64_MAX: not set */
    /* of a past one: */
    struct {
        char id[160]; /* "": none */
        enum wire_version version;
        unsigned granted, caps;
        bool reissues;
        uint64_t grace_ms;
    } was;      /* as the tunnel's, while it was the present session */
    bool waits; /* its link is lost, and another one is dialled */
    uint64_t lost_at;
    unsigned attempts; /* since then */
    struct io_timer again;
};

struct ht_tunnel {
    enum driver_state state;
    struct driver_url url;
    char *token;
    char client[WIRE_LIMIT_CLIENT_ID + 1]; /* HELLO.client.id; "": none. A secret */
    bool client_known;                     /* the id was given, or the stored one was looked for */
    char client_name[DRIVER_NAME_MAX + 1]; /* HELLO.client.name; "": none */
    struct ht_buf headers;                 /* more lines of the upgrade request, each with CRLF, and a NUL. A secret */
    uint32_t connect_timeout_ms, pool_size, pool_idle_ms, retry_for_ms, retry_min_ms, ping_interval_ms, pong_timeout_ms,
        suspect_after_ms, measure_every_ms;
    unsigned connections;                            /* how many the caller asked for */
    uint32_t max_streams, max_window, replay_buffer; /* replay_buffer 0: streams end with their link */
    bool retry_first, strict_bindings;
    bool vtunnel; /* the server speaks vtunnel's JSON */
    struct ht_tunnel_callbacks calls;
    void *user;

    struct io_loop *loop;
    bool own_loop;
    struct io_tls *tls;
    struct io_proxy *proxy; /* on the way to the kit; NULL: none */
    struct io_conn *wake;   /* reads from the socket pair to which driver_wake() writes */
    int wake_fd;
    atomic_bool stop_asked, retry_asked, reload_asked; /* set by signal handlers and other threads */
    bool stopped;
    struct {
        bool started, joinable;
        pthread_t id;
        pthread_mutex_t lock; /* protects the fields below */
        pthread_cond_t done;
        struct driver_call *first; /* calls of other threads that wait */
        bool over;                 /* the thread no longer uses the tunnel */
        int rc;
    } thread;

    struct driver_session *now;  /* the present session, to which `state` belongs; never NULL */
    struct driver_session *next; /* replaces `now` when its HELLO is answered; NULL: none */
    struct ht_list past;         /* replaced sessions that finish their streams, oldest first */
    unsigned n_past;
    bool restarting; /* the kit restarts: it has asked for a next session */
    unsigned handover_attempts;
    struct io_timer handover_timer;
    bool only_v1;      /* the kit has refused an upgrade that offered version 2 */
    bool reissues;     /* both sides named `reissue-tickets` */
    unsigned caps;     /* capabilities that both sides named, of the present session */
    bool was_up;       /* the tunnel was up at least once */
    bool told_up;      /* connected() was called, and disconnected() not since */
    bool hurried;      /* a second ht_tunnel_close() has shortened the end */
    bool session_over; /* the present session has ended */
    bool resumed;      /* the present session is the one from before the lost link */
    unsigned granted;  /* how many sockets the session may have */
    uint64_t rtt_us;   /* 0: not measured */
    struct {
        struct io_timer over; /* runs while the present session is away: until the kit gives it up */
        uint64_t grace_ms;    /* how long that is: HELLO_OK */
        uint64_t since;       /* when its link was lost */
        bool asked;           /* the HELLO that was sent last wants to go on with it */
        uint64_t whole;       /* how often a session went on, with nothing lost */
        uint64_t all_ms;      /* how long it was away then, in all ... */
        uint64_t longest_ms;  /* ... and at most */
        uint64_t resent;      /* bytes sent again, on what is no longer in driver_session.kept */
    } pause;
    uint64_t sessions;
    struct ht_metrics metrics; /* of all sessions */
    struct io_timer close_timer;
    struct io_task end;
    char session_id[160]; /* the session to resume; "": none */
    struct io_timer retry_timer;
    struct {
        struct io_network *watch; /* NULL: the system does not tell */
        struct io_wake sleep;
        struct io_timer later; /* runs: there is something to look at */
        uint64_t acted_at;     /* when a change has led to a PING or an attempt; 0: never */
        uint64_t attempt_at;   /* when the present attempt began */
        bool restarted;        /* the present attempt was begun again because of a change */
        bool woke;             /* the machine was asleep, or its clock was set, and nothing was done about it yet */
        bool moved;            /* the link was given up because this machine has another address now */
        struct io_addr kit;    /* where the kit, or the proxy, was reached; empty: never yet */
        struct io_addr from;   /* from where the last attempt went there; empty: there was no way */
    } network;
    unsigned attempts;                /* since the link was up for DRIVER_STEADY_MS */
    uint64_t lost_at, up_at;          /* lost_at: when retry_for_ms began */
    uint64_t ghost_until;             /* until then a HELLO without an answer may still reach the kit; 0: none */
    uint64_t retry_after_ms;          /* the wait that the kit asked for; 0: none */
    bool final;                       /* the tunnel ends for a reason that no retry can change */
    bool refused;                     /* the kit, or something before it, has refused us: the next wait is longer */
    uint16_t goaway_code, close_code; /* of the last session; 0: none came */
    bool goaway;
    char goaway_text[256];

    struct ht_list bindings;
    int last_number;
    struct ht_list target_tls;      /* struct driver_tls */
    struct driver_inspect *inspect; /* NULL: off */
    struct guard *guard;            /* serves names with a policy; NULL: there was none yet */
    struct io_authority *authority;

    bool end_known; /* end_error and end_text are set; a later reason does not change them */
    int end_error;
    char end_text[512];
};

/* The loop of the tunnel, for other objects of this program. */
struct io_loop *driver_loop(struct ht_tunnel *t);
/* ht_tunnel_create() on a loop that the caller owns and that must outlive the tunnel. NULL: the tunnel makes its own.
 */
int driver_create_on(struct io_loop *loop, struct ht_tunnel **out, const struct ht_tunnel_options *options,
                     const struct ht_tunnel_callbacks *calls, void *user);

/* Makes the loop look at stop_asked, retry_asked and calls of other threads. Safe in signal handlers. */
void driver_wake(struct ht_tunnel *t);
/* Drops all connections. A tunnel that has not ended counts as stopped. */
void driver_abandon(struct ht_tunnel *t);
/* The only function that changes the tunnel's state. It asserts that the change is legal. */
void driver_set_state(struct ht_tunnel *t, enum driver_state to);
/* Sets the reason why the tunnel ends. Later reasons are ignored. */
void driver_end_reason(struct ht_tunnel *t, int error, const char *fmt, ...) HT_PRINTF(3, 4);
/* Ends the tunnel, or the attempt if it is retried, at the end of this turn, with the reason that was set. */
void driver_end(struct ht_tunnel *t);
/* Calls log(). Control characters are escaped. */
void driver_say(struct ht_tunnel *t, enum ht_log_severity severity, const char *fmt, ...) HT_PRINTF(3, 4);

/* ---- driver_options.c ---- */

/* Checks and copies *o. HT_TUNNEL_OK, or an error with *err. The caller calls driver_options_free() in both cases. */
int driver_options_set(struct ht_tunnel *t, const struct ht_tunnel_options *o, struct ht_errmsg *err);
/* The kit has refused the token: calls new_token(). True: there is another token, and the next attempt shows it. */
bool driver_token_again(struct ht_tunnel *t);
/* Wipes the secrets and frees everything. */
void driver_options_free(struct ht_tunnel *t);
/* Loads the stored client id when the caller gave none. Warns when there is none. */
void driver_options_client(struct ht_tunnel *t);

/* ---- driver_thread.c ---- */

int driver_thread_start(struct ht_tunnel *t, struct ht_errmsg *err);
/* Waits for the end of the thread, and returns what ht_tunnel_run() returned there. */
int driver_thread_join(struct ht_tunnel *t, struct ht_errmsg *err);
/* Stops and joins the thread if there is one. */
void driver_thread_free(struct ht_tunnel *t);
/* True when the calling thread may use the tunnel: it is the tunnel's thread, or the tunnel has none. */
bool driver_thread_is_ours(const struct ht_tunnel *t);
/* Calls run() in the tunnel's thread, waits for it, and returns its result. */
int driver_thread_call(struct ht_tunnel *t, int (*run)(struct ht_tunnel *t, void *arg, struct ht_errmsg *err),
                       void *arg, struct ht_errmsg *err);
/* In the tunnel's thread: carries out the calls of other threads. */
void driver_thread_calls(struct ht_tunnel *t);

/* ---- driver_resume.c ---- */

/* True when the present session is away: its link is lost, and its streams wait for another one. */
bool driver_is_away(const struct ht_tunnel *t);
/* How many streams the present session has, those of past ones left out. */
unsigned driver_resume_streams(const struct ht_tunnel *t);
/* mux_link_ops.kept, acked and replay; ctx: the driver_sock. */
size_t driver_kept_bytes(void *ctx);
uint64_t driver_drained(void *ctx, bool *waits);
void driver_kept_acked(void *ctx, uint64_t count);
void driver_kept_replay(void *ctx, uint64_t count);
/* From now on the socket's messages are kept, in what its index has. 0 or HT_ENOMEM. */
int driver_kept_begin(struct driver_sock *s) HT_MUST_USE;
/* Nothing of that index is needed any more. */
void driver_kept_drop(struct driver_session *ses, unsigned index);
/* Bytes of messages that were sent again, in all. */
uint64_t driver_kept_resent(const struct ht_tunnel *t);
/* The tunnel is up again, with nothing lost: counts the pause, and returns its length in milliseconds. */
uint64_t driver_pause_over(struct ht_tunnel *t);
/* The link is lost, and another attempt follows: drops its sockets. True: the session is away. False: it is gone. */
bool driver_resume_wait(struct ht_tunnel *t);
/* HELLO_OK has come. 0: the session goes on with this link. Otherwise the kit's count cannot be true. */
int driver_resume_go_on(struct ht_tunnel *t, const struct wire_hello_ok *ok) HT_MUST_USE;
/* Ends the streams of a session that is away, and tells `why`. Its bindings are lost. The callbacks of streams may
 * change the tunnel's state. */
void driver_resume_give_up(struct ht_tunnel *t, const char *why);

/* ---- driver_sock.c ---- */

void driver_sock_init(struct driver_sock *s, struct driver_session *of, unsigned index,
                      const struct driver_sock_ops *ops, void (*timer)(struct io_timer *));
/* Starts to connect. greet() or failed() follows, and never before this returns. 0; negative with *err: it could not
 * start. */
int driver_sock_connect(struct driver_sock *s, const char *protocols, struct ht_errmsg *err);
/* Starts the closing handshake; closed() follows. A second call does nothing. */
void driver_sock_close(struct driver_sock *s, uint16_t code, const char *reason);
/* The connection is dead for sure: drops it, and calls closed() before it returns. Not inside a callback of the socket.
 */
void driver_sock_lost(struct driver_sock *s, const char *why);
/* Closes the socket and destroys WebSocket and link, without a close frame and without a callback. */
void driver_sock_drop(struct driver_sock *s);
void driver_sock_output(void *ctx); /* mux_link_ops.output; ctx: the driver_sock */

/* ---- driver_inspect.c ---- */

/* Makes the inspector that *o asks for. HT_TUNNEL_OK, also when it asks for none, or an error with *err. */
int driver_inspect_start(struct ht_tunnel *t, const struct ht_tunnel_options *o, struct ht_errmsg *err);
/* Closes its page. The bindings, which tell what passes, end between this and driver_inspect_free(). */
void driver_inspect_stop(struct ht_tunnel *t);
void driver_inspect_free(struct ht_tunnel *t);
/* What relay_target_config.tap is for a binding, which is its ctx; NULL: off. */
const struct relay_tap *driver_inspect_tap(const struct ht_tunnel *t);
/* True for the peer_addr of a request that the inspector sends again. */
bool driver_inspect_is_replay(const struct ht_tunnel *t, struct ht_slice peer);
/* What the page shows has changed. */
void driver_inspect_link_changed(const struct ht_tunnel *t);
void driver_inspect_bindings_changed(const struct ht_tunnel *t);
/* Whether there is a service where the binding leads. True: an inspector knew that already. */
bool driver_inspect_reached(struct driver_binding *b, bool yes);

/* ---- driver_shards.c ---- */

/* The session is up: opens all secondaries at once (rule JOIN-3); of a past one those that have streams. */
void driver_shards_open(struct driver_session *ses, const struct wire_hello_ok *ok);
/* True when lost secondaries of the session are replaced. */
bool driver_shards_go_on(const struct driver_session *ses);
void driver_shards_reissued(struct driver_session *ses, const struct wire_reissue *answer);
void driver_shards_map(struct driver_session *ses, const struct wire_shard_map *map);
/* A BIND was sent or answered. */
void driver_shards_bind_changed(struct ht_tunnel *t);
/* Sends a PING on each secondary, whose answer has patience_ms. */
void driver_shards_probe(struct ht_tunnel *t, uint64_t patience_ms);
/* Replaces lost secondaries at once. */
void driver_shards_now(struct ht_tunnel *t);
void driver_on_reissued(void *ctx, const struct wire_reissue *answer);
void driver_on_shard_map(void *ctx, const struct wire_shard_map *map);

/* ---- driver_link.c ---- */

/* Starts an attempt to connect. HT_TUNNEL_OK or an error. */
int driver_link_start(struct ht_tunnel *t);
/* Starts to connect the primary of `ses`. 0; negative with *err: it could not start. */
int driver_link_dial(struct driver_session *ses, const char *protocols, struct ht_errmsg *err);
/* NULL: out of memory. */
struct driver_session *driver_session_new(struct ht_tunnel *t);
/* Drops all sockets, without a callback. What is away stays. */
void driver_session_unlink(struct driver_session *ses);
/* The same with the mux session. Not inside a callback of the session. */
void driver_session_drop(struct driver_session *ses);
/* The same, and frees it. Clears the pointer. NULL is ignored. */
void driver_session_free(struct driver_session **ses);
/* Sets the timer of the session anew at the end of this turn. */
void driver_session_touch(struct driver_session *ses);
/* All bindings are given back, or there was no time: closes the session in order. */
void driver_link_close(struct ht_tunnel *t);
/* In state CLOSING: waits no longer for answers. The second call ends the tunnel at once. */
void driver_link_hurry(struct ht_tunnel *t);
/* Drops the present session; past sessions stay. */
void driver_link_destroy(struct ht_tunnel *t);
/* In state CONNECTING: begins the attempt again. */
void driver_link_restart(struct ht_tunnel *t);
/* The capabilities that both sides have named (rule EXT-1). */
unsigned driver_agreed(const struct driver_sock *s, const struct wire_hello_ok *ok);
/* driver_session_touch() for the present session. */
void driver_link_touch(struct ht_tunnel *t);

/* ---- driver_network.c ---- */

void driver_network_start(struct ht_tunnel *t);
/* Also for one that was never started. */
void driver_network_stop(struct ht_tunnel *t);
/* The network has changed; ctx: the tunnel. */
void driver_network_changed(void *ctx);
/* An attempt begins; `again`: in place of one that may wait for an answer to an address that is gone. */
void driver_network_attempt(struct ht_tunnel *t, bool again);
/* The primary's socket, or that of a proxy before the kit, is connected. */
void driver_network_reached(struct ht_tunnel *t, struct io_conn *conn);

/* ---- driver_handover.c ---- */

/* The kit, or this session of it, is about to restart: connects the next session (rule HANDOVER-1). */
void driver_handover_begin(struct ht_tunnel *t);
/* True while the next session is being opened. Then the loss of the present link changes nothing: when it is open, this
 * one becomes a past session that waits for a link; when that fails, this link counts as lost. */
bool driver_handover_is_near(const struct ht_tunnel *t);
/* The next session could not be opened: tries again while the present one is up. */
void driver_handover_failed(struct ht_tunnel *t, const char *why);
/* The next session's HELLO was answered: makes it the present session. */
void driver_handover_switch(struct ht_tunnel *t);
void driver_handover_stop(struct ht_tunnel *t);

/* ---- driver_past.c ---- */

/* True when the session was replaced. */
bool driver_is_past(const struct driver_session *ses);
/* The present session is about to be replaced: it finishes what it has. */
void driver_past_begin(struct driver_session *ses);
/* It has ended, or its link is lost: at the end of this turn it is freed, or waits for another link. */
void driver_past_look(struct driver_session *ses);
/* An attempt to get another link has failed. */
void driver_past_failed(struct driver_session *ses, const char *why);
/* Writes what HELLO says of it, for the session to go on. */
void driver_past_hello(struct driver_session *ses, struct wire_resume *resume);
/* The answer to that HELLO. */
void driver_past_hello_ok(struct driver_sock *s, const struct wire_hello_ok *ok);
/* Its primary has closed. */
void driver_past_closed(struct driver_sock *s, uint16_t code, const char *text);
/* The next attempts are made at once. */
void driver_past_now(struct ht_tunnel *t);
/* The machine was suspended, or its network has changed: checks the links, and dials those that are missing. */
void driver_past_probe(struct ht_tunnel *t, uint64_t patience_ms);
void driver_past_destroy(struct ht_tunnel *t);

/* ---- driver_retry.c ---- */

#define DRIVER_STEADY_MS 10000u /* after a link was up for this long, the waits begin with the shortest again */
#define DRIVER_REFUSED_WAITS 8u /* after a refusal the waits are this many times longer */

/* True when the reason of the end may pass, and retry_for_ms is not over. */
bool driver_retry_wanted(const struct ht_tunnel *t);
/* DOWN -> WAITING: drops the rest of the link, and what does not survive it; reports, and sets the timer. */
void driver_retry_begin(struct ht_tunnel *t);
void driver_retry_now(struct ht_tunnel *t);
/* The wait before attempt number `attempt` (from 0), in milliseconds. `min_ms` bounds the first wait and `max_ms` all
 * of them; `random` is a random number. */
uint64_t driver_backoff(unsigned attempt, uint64_t min_ms, uint64_t max_ms, uint64_t random);

/* ---- driver_tls.c ---- */

/* The TLS settings for a binding to `target`. Bindings with the same settings share them; give them back with
 * driver_tls_put(). *out is NULL for a target without TLS. HT_TUNNEL_OK, or an error with *err. */
int driver_tls_get(struct ht_tunnel *t, const struct driver_target *target, const struct ht_bind_options *o,
                   struct driver_tls **out, struct ht_errmsg *err);
struct io_tls *driver_tls_io(const struct driver_tls *d); /* NULL for NULL */
bool driver_tls_insecure(const struct driver_tls *d);     /* false for NULL */
/* Clears the pointer. NULL is ignored. */
void driver_tls_put(struct driver_tls **d);

/* ---- driver_guard.c ---- */

/* Sets up the policy for the binding's only name. `target` is the text behind NAME=, or NULL. HT_TUNNEL_OK, or an error
 * with *err. The caller calls driver_guard_free() in both cases. */
int driver_guard_set(struct driver_binding *b, const struct ht_bind_options *o, const struct wire_name *name,
                     const char *target, struct ht_errmsg *err);
void driver_guard_free(struct driver_binding *b);
/* The present session is away, or is not any more. */
void driver_guard_away(struct ht_tunnel *t, bool away);
/* After the last binding. */
void driver_guard_destroy(struct ht_tunnel *t);

/* ---- driver_gate.c ---- */

/* Makes the gate if *o asks for one, and puts its functions into *cfg. `finished`: request_finished() or NULL.
 * HT_TUNNEL_OK, or an error with *err. The caller calls driver_gate_free() in both cases. */
int driver_gate_set(struct driver_binding *b, const struct ht_bind_options *o, struct relay_target_config *cfg,
                    struct ht_errmsg *err);
void driver_gate_free(struct driver_binding *b);
/* Serves a stream of an exposed service. */
void driver_gate_serve(struct driver_binding *b, struct mux_stream *st, const struct wire_stream_open *open);
/* Visitors reach the service at these URLs. */
void driver_gate_bound(struct driver_binding *b, const struct ht_bound *bound);
unsigned driver_gate_streams(const struct driver_binding *b);
/* For all bindings. */
void driver_gate_reload(struct ht_tunnel *t);

/* ---- driver_names.c ---- */

/* Reads the names of *o. `cfg` has the settings of the binding for targets of names. HT_TUNNEL_OK, or an error with
 * *err. The caller calls driver_names_free() in both cases. */
int driver_names_set(struct driver_binding *b, const struct ht_bind_options *o, const struct relay_target_config *cfg,
                     struct ht_errmsg *err);
void driver_names_free(struct driver_binding *b);
/* Writes the names for BIND, borrowed from the binding. Returns their number. */
size_t driver_names_put(const struct driver_binding *b, struct ht_slice out[WIRE_LIMIT_MAX_NAMES]);
unsigned driver_names_streams(const struct driver_binding *b);
/* *tls: the target of the binding or of one of its names uses TLS. *insecure: one of their certificates is not
 * verified.
 */
void driver_names_tls(const struct driver_binding *b, bool *tls, bool *insecure);
/* relay_target_probe() for each target of a name. */
void driver_names_probe(struct driver_binding *b);
/* Serves a stream by name, or any stream of a portless binding. */
void driver_names_serve(struct driver_binding *b, struct mux_stream *st, const struct wire_stream_open *open);

/* ---- driver_bind.c ---- */

/* ht_tunnel_bind() and ht_tunnel_unbind(), in the tunnel's thread. */
int driver_bind_add(struct ht_tunnel *t, const struct ht_bind_options *o, struct ht_errmsg *err);
int driver_bind_remove(struct ht_tunnel *t, int number, struct ht_errmsg *err);
/* How many bindings visitors can reach now; 0 while there is no session. */
unsigned driver_n_bound(const struct ht_tunnel *t);
/* With strict_bindings: returns true when there are more bindings than the kit allows. The tunnel is then closing, and
 * no BIND was sent. */
bool driver_bind_too_many(struct ht_tunnel *t, const struct wire_hello_ok *ok);
/* The session is up: takes over the bindings that it has kept, and sends BIND for the others. */
void driver_bind_all(struct ht_tunnel *t, const struct wire_hello_ok *ok);
/* True while a BIND has no answer. */
bool driver_bind_asked(const struct ht_tunnel *t);
/* The link is lost, and the session with it. */
void driver_bind_lost(struct ht_tunnel *t);
/* The link is lost, and the session is away: what was asked and answered stays so, and nothing is due meanwhile. */
void driver_bind_away(struct ht_tunnel *t);
/* The session that was away goes on: asks for what was not asked for yet. */
void driver_bind_go_on(struct ht_tunnel *t);
/* Sends UNBIND for each binding. True when answers will come. */
bool driver_unbind_all(struct ht_tunnel *t);
void driver_bind_destroy_all(struct ht_tunnel *t);
unsigned driver_bind_streams(const struct ht_tunnel *t);
/* How many bindings the kit has accepted. */
unsigned driver_bind_standing(const struct ht_tunnel *t);

void driver_on_bind_ok(void *ctx, const struct wire_bind_ok *ok);
void driver_on_bind_err(void *ctx, const struct wire_bind_err *err);
void driver_on_unbind_ok(void *ctx, const struct wire_unbind_ok *ok);
void driver_on_unbind_err(void *ctx, const struct wire_unbind_err *err);
void driver_on_bind_revoked(void *ctx, const struct wire_bind_revoked *revoked);
void driver_on_stream_open(void *ctx, struct mux_stream *stream, const struct wire_stream_open *open);

#endif
