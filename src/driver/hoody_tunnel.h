/*
 * hoody_tunnel.h: put services of this machine into a container, from a C program.
 *
 * A tunnel is one connection to a kit, the daemon in the container. Over it the kit is asked for ports: an *expose*
 * binding lets visitors of a container port reach an HTTP or WebSocket service here, a *pull* binding lets programs in
 * the container reach a TCP service here.
 *
 *     static void bound(void *user, const struct ht_bound *b) { printf("%s\n", b->url); }
 *     ...
 *     struct ht_tunnel_options options = {.size = sizeof options, .url = "wss://kit.example"};
 *     struct ht_tunnel_callbacks calls = {.size = sizeof calls, .bound = bound};
 *     struct ht_bind_options web = {.size = sizeof web, .kind = HT_EXPOSE_HTTP, .target = "3000"};
 *     struct ht_tunnel *tunnel;
 *
 *     int rc = ht_tunnel_create(&tunnel, &options, &calls, NULL);
 *     if (rc == HT_TUNNEL_OK)
 *         rc = ht_tunnel_bind(tunnel, &web);
 *     if (rc > 0)
 *         rc = ht_tunnel_connect(tunnel);
 *     if (rc == HT_TUNNEL_OK)
 *         rc = ht_tunnel_run(tunnel);
 *     if (rc < 0)
 *         fprintf(stderr, "%s\n", ht_strerror(rc));
 *     ht_tunnel_destroy(&tunnel);
 *
 * Compile and link with `pkg-config --cflags --libs hoody-tunnel`.
 *
 * There are three ways to drive a tunnel:
 *
 *   ht_tunnel_run()    it has a loop of its own, and the call returns when the tunnel has ended
 *   ht_tunnel_fd()     a descriptor for your own loop (poll, epoll, ...): ht_tunnel_process() when it is readable
 *   ht_tunnel_start()  a thread of its own, in which callbacks come while the program goes on
 *
 * Threads: a tunnel belongs to the thread that runs it. Everything below is called from that thread, except
 * ht_tunnel_stop() and ht_tunnel_retry_now(), which may be called from any thread and from a signal handler. A tunnel
 * that was started with ht_tunnel_start() takes ht_tunnel_connect(), _bind(), _unbind(), _close(), _streams() and
 * _get_status() from any thread too: they are carried out in its own, and the call waits for that, so the caller holds
 * no lock that a callback takes. Tunnels are independent of each other. Nothing here blocks but those, ht_tunnel_run(),
 * ht_tunnel_join() and a waiting ht_tunnel_turn(). The program should ignore SIGPIPE.
 *
 * Memory: everything that goes in is copied before the call returns. Everything that a callback gets is good until the
 * callback returns. Text is UTF-8 and ends in a NUL; text that came over the wire has its control characters replaced.
 *
 * Structures start with their size, so that they can grow: set it with sizeof. A field that is zero means its default.
 */
#ifndef HOODY_TUNNEL_H
#define HOODY_TUNNEL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define HT_API __attribute__((visibility("default")))
#else
#define HT_API
#endif

/* ---- version ---- */

#define HT_VERSION_MAJOR 0
#define HT_VERSION_MINOR 1
#define HT_VERSION_PATCH 0
#define HT_VERSION "0.1.0"

/* The version of the library that is running, which may be newer than the header's. */
HT_API const char *ht_version(void);

/* ---- errors ---- */

/* A function that can fail returns HT_TUNNEL_OK or more when it worked, and one of these when it did not. */
#define HT_TUNNEL_ERRORS(X)                                                                                            \
    X(HT_TUNNEL_EINVAL, -1, "an argument is not valid")                                                                \
    X(HT_TUNNEL_ENOMEM, -2, "out of memory or of file descriptors")                                                    \
    X(HT_TUNNEL_ESTATE, -3, "not possible in this state of the tunnel")                                                \
    X(HT_TUNNEL_EURL, -4, "the URL of the kit could not be understood")                                                \
    X(HT_TUNNEL_ETLS, -5, "TLS could not be set up, or the certificate is not accepted")                               \
    X(HT_TUNNEL_ECONNECT, -6, "the kit could not be reached")                                                          \
    X(HT_TUNNEL_EHANDSHAKE, -7, "what answered at the kit's URL did not open a tunnel")                                \
    X(HT_TUNNEL_EAUTH, -8, "the kit wants a token, or another one")                                                    \
    X(HT_TUNNEL_ELIMIT, -9, "the kit has no room for another session")                                                 \
    X(HT_TUNNEL_EPROTO, -10, "the kit broke the protocol")                                                             \
    X(HT_TUNNEL_ELOST, -11, "the connection to the kit was lost")                                                      \
    X(HT_TUNNEL_EGOAWAY, -12, "the kit ended the session")                                                             \
    X(HT_TUNNEL_EBIND, -13, "the kit refused a port")                                                                  \
    X(HT_TUNNEL_EREVOKED, -14, "an admin closed the session, or another driver took the port over")

enum ht_tunnel_error {
    HT_TUNNEL_OK = 0,
    HT_TUNNEL_STOPPED = 1, /* ht_tunnel_run() only: ht_tunnel_stop() was called */
#define HT_TUNNEL_ERROR_ENUM(name, value, text) name = (value),
    HT_TUNNEL_ERRORS(HT_TUNNEL_ERROR_ENUM)
#undef HT_TUNNEL_ERROR_ENUM
};

/* One sentence without a full stop for any number; never NULL, static storage. */
HT_API const char *ht_strerror(int error);

/* The exit status that the command `hoody-tunnel` ends with for an error; 0 for HT_TUNNEL_OK and HT_TUNNEL_STOPPED. */
HT_API int ht_exit_status(int error);

/* ---- what is asked for ---- */

struct ht_tunnel;

struct ht_tunnel_options {
    size_t size; /* sizeof(struct ht_tunnel_options) */
    /*
     * The kit: ws://host[:port][/path] or wss://...; http and https mean the same as ws and wss. Without a scheme it is
     * ws for a host that is this machine and wss for any other. A path that ends in
     * /connect is taken as it is; any other, or none, is a prefix, and the protocol's own path follows it.
     */
    const char *url;
    const char *token;           /* bearer token; NULL: none. Never logged, wiped when the tunnel is destroyed */
    const char *ca;              /* PEM file with the authorities to trust; NULL: the system's */
    uint32_t connect_timeout_ms; /* for the kit with its handshake, and for each local service; default 10,000 */
    uint32_t pool_size;          /* idle connections kept to each HTTP service; default 128, HT_NO_POOL: none */
    uint32_t pool_idle_ms;       /* and for how long; default 30,000 */
    /*
     * A link that is lost is made anew, for this long at a time; default: for ever. HT_NO_RETRY: never. Waits grow from
     * retry_min_ms (default 250) to 30 s, with full jitter, or are what the kit asks for; where something has answered
     * and refused us (401, a login page, a certificate) they are longer. Only the kit's own last word ends a tunnel
     * that once was up: its GOAWAY for a token, a refused binding where strict_bindings says so, an admin, another
     * driver.
     */
    uint32_t retry_for_ms;
    uint32_t retry_min_ms;
    int retry_first; /* the first connection too; else a tunnel that cannot be opened ends at once */
    /*
     * n_headers more header lines for the request that opens the tunnel, for an edge that stands before the kit, as in
     * "Name: value". Not those that the request has anyway (Host, Connection, Upgrade, Sec-WebSocket-*, framing;
     * Authorization beside a token). Never logged, wiped like the token.
     */
    const char *const *headers;
    size_t n_headers;
    /*
     * WebSockets that share the work of one session, 1 (default) to HT_MAX_CONNECTIONS; the kit may grant fewer, and a
     * kit that knows only version 1 of the protocol grants one.
     */
    uint32_t connections;
    /* A link is asked for a sign of life after this much silence, and given up when none came within pong_timeout_ms.
     * Defaults 30,000 and 60,000. */
    uint32_t ping_interval_ms, pong_timeout_ms;
    /* How often the round trip to the kit is measured; default: when the session begins, and after silence. */
    uint32_t measure_every_ms;
    /* A binding that the kit refuses ends the tunnel with HT_TUNNEL_EBIND, after bind_failed(); else it is only told.
     * More bindings than the kit gives a session end it before the first is asked for. */
    int strict_bindings;
    /*
     * What a kit may ask of this machine: requests and connections under way at a time (default 1,024; more are
     * refused), and the bytes that it may send ahead on all of them (default 64 MiB; a kit that wants more is refused).
     */
    uint32_t max_streams, max_window;
    /* The times of ping_interval_ms and pong_timeout_ms while requests or connections are under way; default 15,000. */
    uint32_t suspect_after_ms;
    /*
     * Who this driver is beyond its process, so that the next one gets the ports of one that died: 22 to 128 visible
     * ASCII characters that nobody can guess. A secret like the token, and handled so. NULL: the one that is kept for
     * this machine and user in $XDG_STATE_HOME/hoody-tunnel (default ~/.local/state), made when there is none; without
     * a place for it there is a warning, and no id. "": none.
     */
    const char *client_id;
    /*
     * Not 0: the other end is a server of vtunnel's JSON protocol. The path of the URL is taken as it is; bindings are
     * of the kind HT_PULL_TCP with a port, and their label is what the server is told of the target. The first
     * connection must work, retry_for_ms and the waits between are the protocol's own, and nothing is resumed.
     */
    int vtunnel;
    /*
     * What a kit with a domain calls this driver: an exposed port is reached at NAME-PORT.domain. Up to 57 of a-z, 0-9
     * and hyphens, with none at either end. NULL: none, and the host is PORT.domain. Names need a client_id, which says
     * whose they are; one that another driver has is refused when something is bound under it (NAME_IN_USE).
     */
    const char *client_name;
};

#define HT_NO_POOL UINT32_MAX
#define HT_NO_RETRY UINT32_MAX
#define HT_MAX_CONNECTIONS 16

enum ht_bind_kind {
    HT_EXPOSE_HTTP = 1, /* container port -> HTTP/1.1 or WebSocket service here */
    HT_PULL_TCP = 2,    /* loopback port of the container -> TCP service here */
};

/*
 * What becomes of the requests for one name, when their secrets are to stay on this machine: TLS of the program in the
 * container is ended here, each request is checked, gets its secrets, and goes to the real host over TLS that is
 * verified. HTTP/1.1. The container gets a certificate that stands for this name alone (see ca_pem), never a key.
 */
struct ht_policy {
    size_t size; /* sizeof(struct ht_policy) */
    /*
     * n_inject header fields that a request gets in place of its own. In a value ${file:PATH} (PATH begins with / or
     * ~/; read anew when it has changed), ${env:NAME} and ${command:TEXT} stand for secrets, and $${ for ${ itself.
     * TEXT is run by /bin/sh, the first time when the tunnel runs, anew after five minutes and after a 401, and has ten
     * seconds; requests that come before its first answer wait.
     */
    const char *const *inject_names, *const *inject_values;
    size_t n_inject;
    const char *user; /* NULL, or the value of Authorization is the password of this user (HTTP's Basic scheme) */
    /* NULL: every request gets them. Else only a field that holds this text, 8 to 512 characters, is replaced; a
     * request that has it anywhere else, or for another host, is refused. */
    const char *replace;
    /* Rules such as "GET /v1/models" and "POST /v1/chat/..*": METHOD PATH, * for any method, a * in a segment for any
     * text, at the end for all that follows. Without `allow` all is allowed that `deny` does not name. */
    const char *const *allow, *const *deny;
    size_t n_allow, n_deny;
    const char *rate; /* NULL, or "10/s", "60/m", "1000/h" */
};

struct ht_bind_options {
    size_t size; /* sizeof(struct ht_bind_options) */
    enum ht_bind_kind kind;
    /*
     * The service: "3000", ":3000", "host:3000", "[::1]:3000" or "http://host:3000"; no host is 127.0.0.1 or ::1. A
     * host that is a number, as in "8080:3000", is refused.
     * pull: "tls://host:443" speaks TLS to it from here, and plain TCP in the container; its certificate is verified,
     * with the host's name. "tls+insecure://host:443" takes any certificate, and there is a warning.
     */
    const char *target;
    uint16_t container_port; /* 0: the kit picks one */
    const char *label;       /* name for people who look at the kit; NULL: none */
    int takeover;            /* expose: take the port from another session that holds it */
    const char *pull_host;   /* pull: loopback address to listen on in the container; NULL: 127.0.0.1 */
    /*
     * For a tls target, read when the binding is made, and certificate and key again when they have changed. PEM files
     * with the authorities to trust (NULL: the system's), with a certificate to show and what is needed to verify it,
     * and with its key (NULL: in the same file); a key with a password is refused. The protocol that ALPN names, such
     * as "http/1.1"; NULL: none.
     */
    const char *target_ca, *target_cert, *target_key, *target_alpn;
    /*
     * pull: n_names hosts that programs in the container reach by name, through the kit's proxy:
     *   "gitlab.example.com" (ports 80 and 443), "db.example.com:5432", "api.example.com:*" (every port),
     *   "*.corp.example:443" (every host below it), "10.1.2.3:22", "[fd00::1]:443"
     * Connections go to what was asked for, from here; with "=TARGET" behind a name they go to that target. An address
     * of this machine, or a link-local one, is no place that a name with *. leads to.
     */
    const char *const *names;
    size_t n_names;
    int portless;       /* 1: names only; nothing listens in the container, and `target` is NULL */
    int names_optional; /* 1: a kit that refuses or does not know a name gives the port all the same */
    const char *ca_pem; /* certificates that programs in the container have to trust for these names; never a key */
    /*
     * For a portless binding with one name that has no *; NULL: bytes pass as they are. target_ca, target_cert and
     * target_key are for the real host. From now on this process leaves no core and cannot be looked into
     * (PR_SET_DUMPABLE). HT_TUNNEL_EINVAL also when a file or variable with a secret cannot be read.
     */
    const struct ht_policy *policy;
};

/* ---- what is told ---- */

struct ht_connected {
    const char *session_id;
    const char *server; /* name and version of the kit, "" when it did not say */
    /* 1: the session from before the link was lost, with its bindings, for which bound() is not told again. 0: a new
     * one; after a lost link every binding is asked for again, with the port it had. Without disconnected() in between:
     * the kit has handed the session over to this one, and nothing was lost. */
    int resumed;
    int knows_names;   /* 1: bindings may have names */
    const char *proxy; /* host:port at which programs in the container ask for names; NULL: there is none */
};

struct ht_disconnected {
    int error;
    const char *text;
    int retrying;         /* 1: it is tried again; 0: ended() follows */
    uint64_t retry_in_ms; /* the first time */
};

/* An attempt to reach the kit that failed, or the loss of a link that stood (then disconnected() was told before). */
struct ht_retry {
    unsigned attempt; /* the next one's number, from 1; a link that stood for a while starts the count anew */
    int error;
    const char *text;
    uint64_t retry_in_ms;
};

struct ht_bound {
    int binding; /* what ht_tunnel_bind() returned */
    enum ht_bind_kind kind;
    uint16_t container_port; /* the real one; 0: portless */
    const char *target;      /* the first name of a portless one, else host:port, as it was given with tls:// or
                                tls+insecure:// before it */
    const char *public_url;  /* NULL: the kit knows none, or it is a pull binding */
    /* Where to point a visitor: the public URL; else for an expose binding of a kit on this machine
     * http://127.0.0.1:port; else for a pull binding host:port in the container; else "". */
    const char *url;
    int tls;                  /* 1: TLS is spoken to the service */
    int insecure;             /* 1: ... and its certificate is not verified */
    const char *const *names; /* that lead here, in their one spelling; n_names of them */
    size_t n_names;
};

struct ht_bind_failure {
    int binding;
    const char *target;
    uint16_t container_port; /* as asked for */
    /* The kit's word, as in ALREADY_BOUND; "TIMEOUT" when it did not answer, "UNSUPPORTED" for a portless binding when
     * it knows no names. */
    const char *code;
    const char *message;
};

struct ht_unbound {
    int binding;
    int revoked;        /* 1: taken over by another session; 0: ht_tunnel_unbind() was answered */
    const char *reason; /* "" when there is none */
};

/* A request (expose) or a connection (pull) that is over. */
struct ht_request {
    int binding;
    enum ht_bind_kind kind;
    uint32_t stream_id;
    const char *method, *target; /* "" for a connection */
    const char *peer;            /* the visitor's address, "" when the kit did not say */
    int status;                  /* HTTP status; 0: there was no answer */
    int reset_code;              /* 0: ended in order; else the protocol's code */
    const char *error;           /* NULL, or why it failed */
    uint64_t bytes_in;           /* from the visitor */
    uint64_t bytes_out;          /* to the visitor */
    uint64_t duration_us;
    const char *authority; /* host:port that a program in the container asked for by name; NULL: it came to the port */
};

/*
 * A request for a name with a policy. One that is allowed is told of twice: before anything of it leaves this machine,
 * and when it is over, in whatever way. One that is refused is told of once. No text holds a secret.
 */
struct ht_audit {
    int over; /* 0: it is allowed, and another call follows. 1: it is refused, or over */
    int binding;
    uint64_t request; /* the same number for both */
    const char *name; /* host:port that was asked for */
    const char *method, *path;
    const char *query; /* what is behind the path's ?, to be kept only where that is wanted; NULL: none */
    const char *peer;  /* who asked, in the container; "": not known */
    int allowed;
    const char *reason; /* "allowed", or why not, as in no-rule-allows-it; hoody-tunnel-up(1) has all words */
    const char *rule;   /* the one that decided; NULL: none */
    int secret;         /* it gets a secret */
    int status;         /* of the answer, or of the refusal; 0: there was none, or none yet */
    /* over: */
    uint64_t bytes_in, bytes_out, duration_us; /* in: from the container */
    const char *error;                         /* NULL, or why it failed */
};

enum ht_log_severity { HT_SEVERITY_ERROR, HT_SEVERITY_WARNING, HT_SEVERITY_INFO, HT_SEVERITY_DEBUG };

/*
 * Any of these may be NULL. They are called from inside ht_tunnel_run(), _turn() and _process() only, or in the thread
 * of ht_tunnel_start(), and may call anything below but these, ht_tunnel_join() and ht_tunnel_destroy().
 */
struct ht_tunnel_callbacks {
    size_t size; /* sizeof(struct ht_tunnel_callbacks) */
    void (*connected)(void *user, const struct ht_connected *c);
    void (*bound)(void *user, const struct ht_bound *b);
    /* The binding is gone; the tunnel goes on, unless strict_bindings says otherwise. */
    void (*bind_failed)(void *user, const struct ht_bind_failure *f);
    void (*unbound)(void *user, const struct ht_unbound *u);
    void (*request)(void *user, const struct ht_request *r);
    /* A connection that stood is gone; requests and connections under way are cut. */
    void (*disconnected)(void *user, const struct ht_disconnected *d);
    /* What happened beside all this, for people. */
    void (*log)(void *user, enum ht_log_severity severity, const char *text);
    /* The last call: HT_TUNNEL_OK after ht_tunnel_close(), else why the tunnel came to its end. */
    void (*ended)(void *user, int error, const char *text);
    /* There is a next attempt, and it is `retry_in_ms` away. */
    void (*retrying)(void *user, const struct ht_retry *r);
    /* A round trip to the kit and back was measured. */
    void (*latency)(void *user, uint64_t round_trip_us);
    /*
     * The kit refuses the token, as it does when it was replaced. Writes another one with its NUL to out[0..cap) and
     * returns 1, or returns 0: there is none. With a token that was not shown before the tunnel goes on. `out` is wiped
     * afterwards.
     */
    int (*new_token)(void *user, char *out, size_t cap);
    /* See struct ht_audit. 0: it could not be noted down; a request that is not over is refused then, which is told. */
    int (*audit)(void *user, const struct ht_audit *a);
};

/* ---- life ---- */

/*
 * Makes a tunnel; nothing is connected yet. *tunnel is yours: give it to ht_tunnel_destroy(). On an error *tunnel is
 * NULL and ht_tunnel_last_error() has the details. HT_TUNNEL_EINVAL, _EURL, _ETLS (the CA file), _ENOMEM. `calls` may
 * be NULL; `user` is passed to each callback.
 */
HT_API int ht_tunnel_create(struct ht_tunnel **tunnel, const struct ht_tunnel_options *options,
                            const struct ht_tunnel_callbacks *calls, void *user);

/*
 * What the last failed call in this thread said: one sentence with names and numbers; "" when there was none. Good
 * until the next call.
 */
HT_API const char *ht_tunnel_last_error(void);

/* Starts to connect. Once per tunnel: HT_TUNNEL_ESTATE. What comes of it is told by connected() or ended(). A link
 * that is lost later is made anew without being asked. */
HT_API int ht_tunnel_connect(struct ht_tunnel *tunnel);

/*
 * Asks for a port, at once or as soon as the tunnel stands. Returns the binding's number (> 0), or HT_TUNNEL_EINVAL,
 * _ETLS (a file of a tls target), _ENOMEM, _ESTATE (the tunnel is closing or over). bound() or bind_failed() follows.
 */
HT_API int ht_tunnel_bind(struct ht_tunnel *tunnel, const struct ht_bind_options *options);

/*
 * Gives a binding back. New visitors are refused from then on, those under way are cut. unbound() follows.
 * HT_TUNNEL_EINVAL: there is no such binding.
 */
HT_API int ht_tunnel_unbind(struct ht_tunnel *tunnel, int binding);

/*
 * Says goodbye: gives the bindings back, then closes the connection in order, so that the kit keeps nothing. Takes at
 * most some two seconds; ended() tells when it is done. Needs ht_tunnel_run() or _turn() to make progress. A second
 * call cuts it short: the connection is closed in order at once, and 200 ms later all is over. A third drops it.
 */
HT_API int ht_tunnel_close(struct ht_tunnel *tunnel);

/* Drops everything at once and frees it. Not from a callback. Clears the pointer; NULL is ignored. */
HT_API void ht_tunnel_destroy(struct ht_tunnel **tunnel);

/* ---- running it ---- */

/*
 * Runs the tunnel until it has ended, and returns why: HT_TUNNEL_OK after ht_tunnel_close(), HT_TUNNEL_STOPPED after
 * ht_tunnel_stop() (it can be run again), or the error that ended() was told.
 */
HT_API int ht_tunnel_run(struct ht_tunnel *tunnel);

/*
 * For a program with a loop of its own. The descriptor polls readable when there is something to do, timers included;
 * it stays the same for the tunnel's life, and is not to be read, changed or closed. ht_tunnel_process() does what is
 * ready and never waits; calling it too often is harmless. It returns HT_TUNNEL_OK while the tunnel lives; afterwards,
 * and after a stop, the same as ht_tunnel_run().
 */
HT_API int ht_tunnel_fd(struct ht_tunnel *tunnel);
HT_API int ht_tunnel_process(struct ht_tunnel *tunnel);

/* In how many milliseconds ht_tunnel_process() has something to do even if nothing comes: 0 at once, -1 never. Only for
 * loops that would rather keep the time themselves. */
HT_API int ht_tunnel_timeout_ms(struct ht_tunnel *tunnel);

/* ht_tunnel_process(), which waits for something first with `wait`. */
HT_API int ht_tunnel_turn(struct ht_tunnel *tunnel, int wait);

/*
 * Runs the tunnel in a thread of its own, with all signals blocked, until it has ended or was stopped; it is over then,
 * and can only be joined and destroyed. HT_TUNNEL_ESTATE: it has a thread already, or was run before; HT_TUNNEL_ENOMEM.
 */
HT_API int ht_tunnel_start(struct ht_tunnel *tunnel);

/*
 * Waits for that thread and returns what ht_tunnel_run() returned in it: after ht_tunnel_close() it says goodbye first,
 * after ht_tunnel_stop() it just drops the connection. HT_TUNNEL_ESTATE: there is none. ht_tunnel_destroy() stops and
 * joins by itself.
 */
HT_API int ht_tunnel_join(struct ht_tunnel *tunnel);

/* Makes ht_tunnel_run() return soon. From any thread, and from a signal handler; one call before the run counts too.
 * NULL is ignored, because signals also come before a tunnel is made and after it was destroyed. */
HT_API void ht_tunnel_stop(struct ht_tunnel *tunnel);

/* Ends a wait for the next attempt to reach the kit, or to replace a lost connection of a session. From any thread, and
 * from a signal handler. NULL is ignored. */
HT_API void ht_tunnel_retry_now(struct ht_tunnel *tunnel);

/* Requests and connections under way. */
HT_API unsigned ht_tunnel_streams(const struct ht_tunnel *tunnel);

/* ---- looking at it ---- */

enum ht_tunnel_state {
    HT_TUNNEL_NEW,
    HT_TUNNEL_CONNECTING, /* on the way to a session */
    HT_TUNNEL_UP,
    HT_TUNNEL_RETRYING, /* waits for the next attempt */
    HT_TUNNEL_CLOSING,
    HT_TUNNEL_ENDED,
};

struct ht_tunnel_status {
    size_t size; /* sizeof(struct ht_tunnel_status) */
    enum ht_tunnel_state state;
    unsigned attempt; /* HT_TUNNEL_RETRYING: the next one's number; _CONNECTING: this one's, 0 for the first of all */
    uint64_t retry_in_ms;   /* HT_TUNNEL_RETRYING */
    unsigned version;       /* of the protocol, 1 or 2; 0: no session */
    unsigned connections;   /* WebSockets of the session that stand */
    unsigned granted;       /* and how many the kit has allowed */
    unsigned bindings;      /* that stand */
    unsigned streams;       /* requests and connections under way */
    uint64_t up_ms;         /* since the session was opened or resumed; 0: no session */
    uint64_t round_trip_us; /* the last one measured; 0: none yet */
    /* Of all sessions of this tunnel. */
    uint64_t streams_total;
    uint64_t bytes_in;  /* from visitors */
    uint64_t bytes_out; /* to visitors */
    uint64_t sessions;  /* opened and resumed ones */
};

/* Fills what fits into status->size. Cheap: ask as often as you redraw. HT_TUNNEL_EINVAL: the size is not set. */
HT_API int ht_tunnel_get_status(const struct ht_tunnel *tunnel, struct ht_tunnel_status *status);

#ifdef __cplusplus
}
#endif

#endif
