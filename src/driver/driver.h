/*
 * The inside of a tunnel, shared by the files of this room.
 *
 *   driver.c       the public calls: life, running
 *   driver_options.c what the caller asks for, checked
 *   driver_link.c  the primary socket: the handshake, the session and its end
 *   driver_sock.c  one WebSocket: connect, upgrade, and the link of the multiplexer on it
 *   driver_shards.c the secondary sockets of a v2 session
 *   driver_handover.c a session that gives way to another one while it still stands
 *   driver_retry.c what comes after a lost link: the wait, and the next attempt
 *   driver_thread.c a thread of its own, and calls from others
 *   identity.c     the id that survives the process
 *   driver_tls.c   what TLS towards services needs
 *   state.c        files of this machine and user
 *   driver_names.c what is reached by name through a binding
 *   driver_guard.c names whose requests are checked and get secrets
 *   driver_bind.c  bindings, and which of them a stream belongs to
 *   url.c          URLs and targets as people write them
 *
 * States: NEW -> CONNECTING -> HELLO -> UP -> CLOSING -> ENDED, and from anywhere to ENDED. A link that is lost and can
 * be made anew: CONNECTING, HELLO or UP -> DOWN -> WAITING -> CONNECTING.
 */
#ifndef HT_DRIVER_DRIVER_H
#define HT_DRIVER_DRIVER_H

#include "base/buf.h"
#include "base/list.h"
#include "driver/hoody_tunnel.h"
#include "driver/identity_priv.h"
#include "driver/name.h"
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
    DRIVER_HELLO,      /* HELLO is out */
    DRIVER_UP,
    DRIVER_DOWN,    /* the link is over or about to be */
    DRIVER_WAITING, /* for the next attempt */
    DRIVER_CLOSING, /* ht_tunnel_close(), or the session is over and the WebSocket is not yet */
    DRIVER_ENDED,
};

enum driver_bind_state {
    BINDING_WAITS, /* for the session; after a refusal that may pass, for `timeout` */
    BINDING_ASKED, /* BIND is out */
    BINDING_BOUND,
    BINDING_UNBINDING, /* UNBIND is out */
    BINDING_LOST,      /* was bound when the link was lost */
};

struct driver_tls;
struct guard;
struct guard_host;

struct driver_binding {
    struct ht_list node;
    struct ht_tunnel *t;
    int number;
    enum driver_bind_state state;
    enum ht_bind_kind kind;
    struct driver_target target;
    char name[DRIVER_HOST_MAX + 32]; /* host:port, with tls:// before it if it is spoken */
    struct driver_tls *tls;          /* NULL: none */
    struct relay_target *origin;
    struct guard_host *guarded; /* its name has a policy; NULL: none */
    struct io_tls *guard_tls;   /* ... for the real host */
    uint16_t asked_port, port;  /* port: the real one, 0 before it was ever bound */
    uint32_t bind_id;
    bool takeover, drop; /* drop: to be given back as soon as the kit can be told */
    bool told_lost;      /* somebody else has the port it had, and that was said */
    bool told_insecure;
    char *label, *pull_host; /* NULL: none */
    struct driver_name *names;
    size_t n_names;
    bool portless; /* the container has no port for it */
    bool names_optional, names_refused;
    char *names_why; /* names_refused: what the kit said */
    char *ca;        /* certificates in PEM that the container is offered; NULL: none */
    struct io_timer timeout;
};

struct driver_sock;

struct driver_sock_ops {
    const struct mux_link_ops *link; /* its ctx is the socket */
    /* The WebSocket is open: queue the first frame. Negative: failed() follows. */
    int (*greet)(struct driver_sock *s);
    /* No WebSocket came about. `status` is the HTTP status of a refusal, 101 when the answer was no good, else 0. */
    void (*failed)(struct driver_sock *s, int error, uint16_t status, uint64_t retry_after_ms, const char *text);
    /* The WebSocket is over and destroyed, the link is not. `broken`: the peer broke the rules of WebSockets. */
    void (*closed)(struct driver_sock *s, uint16_t code, const char *text, bool broken);
};

enum shard_state {
    SHARD_NONE,
    SHARD_CONNECTING,
    SHARD_JOINING, /* JOIN is out */
    SHARD_UP,
    SHARD_LOST,  /* until it is time to ask for a ticket */
    SHARD_ASKED, /* for a ticket */
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
    struct vtunnel *vt; /* stands between the two when the other end speaks vtunnel's JSON; else NULL */
    struct io_timer vt_timer;
    bool closing;          /* the closing handshake was begun */
    struct io_timer timer; /* for the answer to the first frame; a secondary has more uses for it */
    /* secondaries */
    enum shard_state state;
    unsigned attempts; /* since it was last steady */
    uint64_t up_at;
    uint64_t heard;     /* bytes, when last looked at */
    uint64_t pinged_at; /* 0: no PING is out */
    bool probing;       /* ... because the machine was asleep */
    bool seen_up;       /* a map of the kit's has said so */
    char nonce[129];    /* of the ticket */
};

/* A session with its sockets, from the first attempt to connect on. */
struct driver_session {
    struct ht_list node; /* of those that were replaced */
    struct ht_tunnel *t;
    struct mux_session *mux;                      /* NULL: not yet */
    struct driver_sock socks[HT_MAX_CONNECTIONS]; /* 0: the primary */
    struct io_timer timer;
    struct io_task clock, end;
    uint64_t deadline; /* what timer is set to; UINT64_MAX: not set */
};

struct ht_tunnel {
    enum driver_state state;
    struct driver_url url;
    char *token;
    char client[WIRE_LIMIT_CLIENT_ID + 1]; /* HELLO.client.id; "": none. A secret */
    bool client_known;                     /* it was given or looked for */
    char client_name[DRIVER_NAME_MAX + 1]; /* HELLO.client.name; "": none */
    struct ht_buf headers;                 /* of the upgrade, each line ending in CRLF, then a NUL; holds secrets */
    uint32_t connect_timeout_ms, pool_size, pool_idle_ms, retry_for_ms, retry_min_ms, ping_interval_ms, pong_timeout_ms,
        suspect_after_ms, measure_every_ms;
    unsigned connections; /* asked for */
    uint32_t max_streams, max_window;
    bool retry_first, strict_bindings;
    bool vtunnel; /* the other end speaks vtunnel's JSON */
    struct ht_tunnel_callbacks calls;
    void *user;

    struct io_loop *loop;
    bool own_loop;
    struct io_tls *tls;
    struct io_conn *wake; /* reading end of the pair that ht_tunnel_stop() writes to */
    int wake_fd;
    atomic_bool stop_asked, retry_asked; /* set from signal handlers and other threads */
    bool stopped;
    struct {
        bool started, joinable;
        pthread_t id;
        pthread_mutex_t lock; /* for the rest */
        pthread_cond_t done;
        struct driver_call *first; /* waiting to be carried out */
        bool over;                 /* the thread touches nothing any more */
        int rc;
    } thread;

    struct driver_session *now;  /* what `state` and most of the rest are about; never NULL */
    struct driver_session *next; /* takes its place when its HELLO is answered; NULL: there is none */
    struct ht_list past;         /* of those that were replaced and finish their streams, oldest first */
    unsigned n_past;
    bool restarting; /* the kit wants us to come back for the next session */
    unsigned handover_attempts;
    struct io_timer handover_timer;
    bool only_v1;      /* the kit refused an upgrade that offered more */
    bool reissues;     /* both named `reissue-tickets` */
    unsigned caps;     /* all that both named, of the present session */
    bool was_up;       /* ever */
    bool told_up;      /* connected() was told last, and not disconnected() */
    bool hurried;      /* the goodbye was cut short */
    bool session_over; /* nothing comes from it any more */
    bool resumed;      /* the session is the one from before the link was lost */
    unsigned granted;  /* sockets that the session may have */
    uint64_t rtt_us;   /* 0: not measured */
    uint64_t sessions;
    struct ht_metrics metrics; /* of all sessions */
    struct io_timer close_timer;
    struct io_task end;
    char session_id[160]; /* to be resumed; "": none */
    struct io_timer retry_timer;
    struct io_wake sleep;
    unsigned attempts;       /* since the link was last steady */
    uint64_t lost_at, up_at; /* lost_at: what retry_for_ms counts from */
    uint64_t ghost_until;    /* a HELLO of ours without an answer may still reach the kit; 0: none */
    uint64_t retry_after_ms; /* what the kit asked for; 0: nothing */
    bool final;              /* the reason of the end is one that no retry can mend */
    bool refused;            /* ... one that may pass, but not in a moment: somebody has answered, and said no */
    uint16_t goaway_code, close_code; /* of the last session; 0: none came */
    bool goaway;
    char goaway_text[256];

    struct ht_list bindings;
    int last_number;
    struct ht_list target_tls; /* struct driver_tls */
    struct guard *guard;       /* of names that have a policy; NULL: none had one yet */
    struct io_authority *authority;

    bool end_known; /* end_error and end_text are the reason; a later one does not change it */
    int end_error;
    char end_text[512];
};

/* The loop of a tunnel, for what else has to run beside it in this program. */
struct io_loop *driver_loop(struct ht_tunnel *t);
/* ht_tunnel_create() on a loop that stays the caller's; NULL: one of its own. */
int driver_create_on(struct io_loop *loop, struct ht_tunnel **out, const struct ht_tunnel_options *options,
                     const struct ht_tunnel_callbacks *calls, void *user);

/* Makes the loop look at what was asked from elsewhere. Safe in signal handlers. */
void driver_wake(struct ht_tunnel *t);
/* Drops everything; a tunnel that had not ended was stopped. */
void driver_abandon(struct ht_tunnel *t);
/* The only place where the tunnel's state changes; asserts that the change is one that there is. */
void driver_set_state(struct ht_tunnel *t, enum driver_state to);
/* Notes why the tunnel ends; the first reason stays. */
void driver_end_reason(struct ht_tunnel *t, int error, const char *fmt, ...) HT_PRINTF(3, 4);
/* Ends it at the end of this turn, with the noted reason. */
void driver_end(struct ht_tunnel *t);
void driver_say(struct ht_tunnel *t, enum ht_log_severity severity, const char *fmt, ...) HT_PRINTF(3, 4);

/* ---- driver_options.c ---- */

/* Copies and checks *o. HT_TUNNEL_OK, or an error with *err; what was copied until then goes with the next call. */
int driver_options_set(struct ht_tunnel *t, const struct ht_tunnel_options *o, struct ht_errmsg *err);
/* The kit has refused the token: asks the caller for another. True: the next attempt shows it. */
bool driver_token_again(struct ht_tunnel *t);
/* Wipes the secrets and frees everything. */
void driver_options_free(struct ht_tunnel *t);
/* Looks for the id that is kept, when none was given; says so when there is none. */
void driver_options_client(struct ht_tunnel *t);

/* ---- driver_thread.c ---- */

int driver_thread_start(struct ht_tunnel *t, struct ht_errmsg *err);
/* Waits for its end and returns what ht_tunnel_run() returned there. */
int driver_thread_join(struct ht_tunnel *t, struct ht_errmsg *err);
/* Stops and joins it if need be. */
void driver_thread_free(struct ht_tunnel *t);
/* True when the caller may touch the tunnel: there is no thread, or it is the caller. */
bool driver_thread_is_ours(const struct ht_tunnel *t);
/* Calls run() where the tunnel may be touched, and waits for it. */
int driver_thread_call(struct ht_tunnel *t, int (*run)(struct ht_tunnel *t, void *arg, struct ht_errmsg *err),
                       void *arg, struct ht_errmsg *err);
/* In the tunnel's thread: carries out what others have asked for. */
void driver_thread_calls(struct ht_tunnel *t);

/* ---- driver_sock.c ---- */

void driver_sock_init(struct driver_sock *s, struct driver_session *of, unsigned index,
                      const struct driver_sock_ops *ops, void (*timer)(struct io_timer *));
/* What comes of it is told by greet() or failed(), never from inside here. Negative with *err: not even begun. */
int driver_sock_connect(struct driver_sock *s, const char *protocols, struct ht_errmsg *err);
/* Starts the closing handshake, once; closed() follows. */
void driver_sock_close(struct driver_sock *s, uint16_t code, const char *reason);
/* Drops everything of it without a word. */
void driver_sock_drop(struct driver_sock *s);
void driver_sock_output(void *ctx); /* the links' output() */

/* ---- driver_shards.c ---- */

/* The session stands: opens all secondaries at once (rule JOIN-3). */
void driver_shards_open(struct ht_tunnel *t, const struct wire_hello_ok *ok);
/* A BIND went out or was answered. */
void driver_shards_bind_changed(struct ht_tunnel *t);
/* Asks each for a sign of life. */
void driver_shards_probe(struct ht_tunnel *t);
/* Lost ones are made anew at once. */
void driver_shards_now(struct ht_tunnel *t);
void driver_on_reissued(void *ctx, const struct wire_reissue *answer);
void driver_on_shard_map(void *ctx, const struct wire_shard_map *map);

/* ---- driver_link.c ---- */

int driver_link_start(struct ht_tunnel *t);
/* Begins to connect the primary of `ses`. Negative with *err: not even begun. */
int driver_link_dial(struct driver_session *ses, const char *protocols, struct ht_errmsg *err);
/* NULL: out of memory. */
struct driver_session *driver_session_new(struct ht_tunnel *t);
/* Drops all of it without a word. Not from inside its own calls. */
void driver_session_drop(struct driver_session *ses);
/* The same, and frees it. NULL is ignored. */
void driver_session_free(struct driver_session **ses);
/* At the end of this turn its timer is looked at. */
void driver_session_touch(struct driver_session *ses);
/* UP and everything unbound, or out of time: says goodbye. */
void driver_link_close(struct ht_tunnel *t);
/* CLOSING: no answers are waited for any more. The second time it ends at once. */
void driver_link_hurry(struct ht_tunnel *t);
/* All but what is left of an earlier session. */
void driver_link_destroy(struct ht_tunnel *t);
/* The machine was asleep: is the kit still there? */
void driver_link_woke(struct io_wake *w);
/* At the end of this turn the session's timer is looked at. */
void driver_link_touch(struct ht_tunnel *t);

/* ---- driver_handover.c ---- */

/* Rule HANDOVER-1: the kit is about to restart, or this session of it is. */
void driver_handover_begin(struct ht_tunnel *t);
/* The next session did not come about: tries again, as long as this one stands. */
void driver_handover_failed(struct ht_tunnel *t, const char *why);
/* HELLO of the next session was answered: it is the present one from now on. */
void driver_handover_switch(struct ht_tunnel *t);
/* An earlier session, or its primary, is over. */
void driver_handover_past_over(struct driver_session *ses);
/* The machine was asleep. */
void driver_handover_probe(struct ht_tunnel *t);
void driver_handover_stop(struct ht_tunnel *t);
void driver_handover_destroy(struct ht_tunnel *t);

/* ---- driver_retry.c ---- */

#define DRIVER_STEADY_MS 10000u /* a link that stood this long starts the waits from the shortest again */
#define DRIVER_REFUSED_WAITS 8u /* times the usual waits, where something has answered and refused us */

/* The noted reason is one that passes, and there is time left. */
bool driver_retry_wanted(const struct ht_tunnel *t);
/* DOWN -> WAITING: drops what is left of the link, tells, and sets the timer. */
void driver_retry_begin(struct ht_tunnel *t);
void driver_retry_now(struct ht_tunnel *t);
/* How long to wait before attempt number `attempt` (from 0) when the first is `min_ms`; `random` is any number. */
uint64_t driver_backoff(unsigned attempt, uint64_t min_ms, uint64_t random);

/* ---- driver_tls.c ---- */

/* What a binding to that target needs; *out NULL: no TLS. HT_TUNNEL_OK, or an error with *err. */
int driver_tls_get(struct ht_tunnel *t, const struct driver_target *target, const struct ht_bind_options *o,
                   struct driver_tls **out, struct ht_errmsg *err);
struct io_tls *driver_tls_io(const struct driver_tls *d); /* NULL for NULL */
bool driver_tls_insecure(const struct driver_tls *d);     /* false for NULL */
/* Clears the pointer; NULL is ignored. */
void driver_tls_put(struct driver_tls **d);

/* ---- driver_guard.c ---- */

/* The binding's only name has a policy; `target`: what is behind NAME=, or NULL. HT_TUNNEL_OK, or an error with *err;
 * what was made until then goes with driver_guard_free(). */
int driver_guard_set(struct driver_binding *b, const struct ht_bind_options *o, const struct wire_name *name,
                     const char *target, struct ht_errmsg *err);
void driver_guard_free(struct driver_binding *b);
/* After the last binding. */
void driver_guard_destroy(struct ht_tunnel *t);

/* ---- driver_names.c ---- */

/* Reads what *o says of names. `cfg`: what targets of names have from the binding. HT_TUNNEL_OK, or an error with *err;
 * what was made until then goes with driver_names_free(). */
int driver_names_set(struct driver_binding *b, const struct ht_bind_options *o, const struct relay_target_config *cfg,
                     struct ht_errmsg *err);
void driver_names_free(struct driver_binding *b);
/* For BIND. Returns how many. */
size_t driver_names_put(const struct driver_binding *b, struct ht_slice out[WIRE_LIMIT_MAX_NAMES]);
unsigned driver_names_streams(const struct driver_binding *b);
/* The binding's own target, or that of a name: TLS is spoken, and the certificate is not verified. */
void driver_names_tls(const struct driver_binding *b, bool *tls, bool *insecure);
/* relay_target_probe() for each target behind a name. */
void driver_names_probe(struct driver_binding *b);
/* A stream by name, or any stream of a portless binding. */
void driver_names_serve(struct driver_binding *b, struct mux_stream *st, const struct wire_stream_open *open);

/* ---- driver_bind.c ---- */

int driver_bind_add(struct ht_tunnel *t, const struct ht_bind_options *o, struct ht_errmsg *err);
int driver_bind_remove(struct ht_tunnel *t, int number, struct ht_errmsg *err);
/* How many visitors reach now; 0 while there is no session. */
unsigned driver_n_bound(const struct ht_tunnel *t);
/* The session stands: takes up what it brought along, and asks for the rest. */
/* With strict_bindings: more are wanted than the kit gives. Nothing was asked for then, and the tunnel is closing. */
bool driver_bind_too_many(struct ht_tunnel *t, const struct wire_hello_ok *ok);
void driver_bind_all(struct ht_tunnel *t, const struct wire_hello_ok *ok);
/* A BIND is out whose answer has not come. */
bool driver_bind_asked(const struct ht_tunnel *t);
/* The link is gone. */
void driver_bind_lost(struct ht_tunnel *t);
/* Sends an UNBIND for each; true when an answer is awaited. */
bool driver_unbind_all(struct ht_tunnel *t);
void driver_bind_destroy_all(struct ht_tunnel *t);
unsigned driver_bind_streams(const struct ht_tunnel *t);
unsigned driver_bind_standing(const struct ht_tunnel *t);

void driver_on_bind_ok(void *ctx, const struct wire_bind_ok *ok);
void driver_on_bind_err(void *ctx, const struct wire_bind_err *err);
void driver_on_unbind_ok(void *ctx, const struct wire_unbind_ok *ok);
void driver_on_unbind_err(void *ctx, const struct wire_unbind_err *err);
void driver_on_bind_revoked(void *ctx, const struct wire_bind_revoked *revoked);
void driver_on_stream_open(void *ctx, struct mux_stream *stream, const struct wire_stream_open *open);

#endif
