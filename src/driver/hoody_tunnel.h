/*
 * hoody_tunnel.h: put services of this machine into a container, from a C program.
 *
 * A tunnel connects this program to a kit, the daemon in the container, and asks the kit for ports. An *expose*
 * binding lets visitors of a container port reach an HTTP or WebSocket service of this machine. A *pull* binding lets
 * programs in the container reach a TCP service that this machine reaches.
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
 *   ht_tunnel_run()    The call runs a loop of the tunnel's own and returns when the tunnel has ended.
 *   ht_tunnel_fd()     Your own loop (poll, epoll, ...) watches a descriptor. Call ht_tunnel_process() when the
 *                      descriptor is readable.
 *   ht_tunnel_start()  The tunnel gets a thread of its own. The callbacks come in that thread, and your program goes
 * on.
 *
 * Threads: a tunnel belongs to the thread that runs it. Call every function below from that thread. There are two
 * exceptions:
 *
 *   - ht_tunnel_stop(), ht_tunnel_retry_now() and ht_tunnel_reload() may be called from any thread and from a signal
 * handler.
 *   - After ht_tunnel_start(), ht_tunnel_connect(), _bind(), _unbind(), _close(), _streams() and _get_status() may be
 *     called from any thread. The tunnel's thread carries them out, and the call waits for the result. So the caller
 *     must not hold a lock that a callback takes.
 *
 * These calls block: ht_tunnel_run(), ht_tunnel_join(), ht_tunnel_turn() with `wait`, and a call that waits for the
 * tunnel's thread. No other call blocks. Tunnels are independent of each other. The program should ignore SIGPIPE.
 *
 * Memory: every argument is copied before the call returns. What a callback gets is valid until the callback returns.
 * Text is UTF-8 and ends with a NUL. In text that came over the wire, control characters are replaced.
 *
 * Times are in milliseconds where a name ends in _ms, and in microseconds where it ends in _us. Amounts of data are in
 * bytes.
 *
 * Each structure begins with its size, so that later versions can add fields: set `size` with sizeof. A field that is
 * zero means the default.
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

/* The version of the library that is running. It may be newer than the version of this header. Static storage. */
HT_API const char *ht_version(void);

/* ---- errors ---- */

/* A function that can fail returns HT_TUNNEL_OK (or a positive number) on success, and one of these on failure. */
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
    X(HT_TUNNEL_EREVOKED, -14, "an admin closed the session, or another driver took the port over")                    \
    X(HT_TUNNEL_EINSPECT, -15, "the inspector cannot listen at its address")

enum ht_tunnel_error {
    HT_TUNNEL_OK = 0,
    HT_TUNNEL_STOPPED = 1, /* ht_tunnel_run() only: ht_tunnel_stop() was called */
#define HT_TUNNEL_ERROR_ENUM(name, value, text) name = (value),
    HT_TUNNEL_ERRORS(HT_TUNNEL_ERROR_ENUM)
#undef HT_TUNNEL_ERROR_ENUM
};

/* The text of an error: one sentence without a full stop. Any number has a text; never NULL. Static storage. */
HT_API const char *ht_strerror(int error);

/* The exit status with which the command `hoody-tunnel` ends after this error. It is 0 for HT_TUNNEL_OK and
 * HT_TUNNEL_STOPPED. */
HT_API int ht_exit_status(int error);

/* ---- options ---- */

struct ht_tunnel;

struct ht_tunnel_options {
    size_t size; /* sizeof(struct ht_tunnel_options) */
    /*
     * The kit: ws://host[:port][/path] or wss://host[:port][/path]. http means ws, and https means wss. Without a
     * scheme, a host that is this machine gets ws, and any other host gets wss. A path that ends in /connect is used as
     * it is. Any other path is a prefix: the protocol's own path is put behind it.
     */
    const char *url;
    const char *token;           /* bearer token; NULL: none. Never logged; wiped when the tunnel is destroyed */
    const char *ca;              /* PEM file with the authorities to trust; NULL: those of the system */
    uint32_t connect_timeout_ms; /* to connect to the kit, handshake included, and to a service; default 10,000 */
    uint32_t pool_size;          /* idle connections kept to each HTTP service; default 128, HT_NO_POOL: none */
    uint32_t pool_idle_ms;       /* how long an idle connection is kept; default 30,000 */
    /*
     * After a lost link the tunnel tries to connect again. It tries for retry_for_ms, counted anew for each loss. The
     * default is for ever; HT_NO_RETRY: not at all. The wait between two attempts grows from retry_min_ms (default 250)
     * to 30 s, or to 1 s while streams wait for the link, with full jitter. It is longer when the kit asks for more, or
     * when the answer was a refusal (401, a login page, a wrong certificate). Only these end a tunnel that was up once:
     * a GOAWAY of the kit about the token, a refused binding with strict_bindings, an admin who closes the session,
     * another driver that takes the session or port over.
     */
    uint32_t retry_for_ms;
    uint32_t retry_min_ms;
    int retry_first; /* 1: retry the first connection too. 0: a tunnel whose first attempt fails ends at once */
    /*
     * n_headers more header lines, as in "Name: value", for the request that opens the tunnel. An edge in front of the
     * kit may need them. HT_TUNNEL_EINVAL for a field that the request has anyway: Host, Connection, Upgrade,
     * Sec-WebSocket-*, framing, and Authorization when there is a token. Never logged; wiped like the token.
     */
    const char *const *headers;
    size_t n_headers;
    /*
     * How many WebSockets share the work of one session: 1 (the default) to HT_MAX_CONNECTIONS. The kit may grant
     * fewer. A kit that knows only version 1 of the protocol grants one.
     */
    uint32_t connections;
    /* After ping_interval_ms of silence the kit gets a ping. A link without a sign of life for another pong_timeout_ms
     * is given up. Defaults: 30,000 and 60,000. */
    uint32_t ping_interval_ms, pong_timeout_ms;
    /* How often the round trip to the kit is measured. Default: when the session begins, and after silence. */
    uint32_t measure_every_ms;
    /* 1: a binding that the kit refuses ends the tunnel with HT_TUNNEL_EBIND, after bind_failed(). The tunnel also
     * ends, before it asks for any port, when it has more bindings than the kit allows a session. 0: bind_failed()
     * only. */
    int strict_bindings;
    /*
     * What a kit may demand of this machine. max_streams: requests and connections at the same time (default 1,024;
     * one more is refused). max_window: bytes that the kit may send ahead on all of them together (default 64 MiB; the
     * tunnel refuses a kit that wants more).
     */
    uint32_t max_streams, max_window;
    /* Replaces both ping_interval_ms and pong_timeout_ms while a request or connection is open; default 15,000. */
    uint32_t suspect_after_ms;
    /*
     * The identity of this driver. It outlives the process: when a driver died, the next driver with the same id gets
     * its ports. 22 to 128 visible ASCII characters that nobody can guess. It is a secret and is handled like the
     * token. NULL: the id that is kept for this machine and user in $XDG_STATE_HOME/hoody-tunnel (default
     * ~/.local/state); it is made when there is none. When it cannot be stored, the tunnel warns and has no id. "": no
     * id.
     */
    const char *client_id;
    /*
     * 1: the other end is a server of vtunnel's JSON protocol. The path of the URL is used as it is. Bindings must be
     * of the kind HT_PULL_TCP and have a port; the server gets their label as the description of the target. The first
     * connection must succeed. How long and how often the tunnel retries is fixed by that protocol. Sessions are not
     * resumed.
     */
    int vtunnel;
    /*
     * What a kit with a domain calls this driver: an exposed port is reached at NAME-PORT.domain. Up to 57 of a-z, 0-9
     * and hyphens, with none at either end. NULL: none, and the host is PORT.domain. Names need a client_id, which says
     * whose they are; one that another driver has is refused when something is bound under it (NAME_IN_USE).
     */
    const char *client_name;
    /*
     * The fingerprint of the kit's certificate: "sha256:" and 64 hexadecimal digits, with or without colons. Only this
     * certificate is accepted. Its name, date and authority are checked only when `ca` is given too. HT_TUNNEL_EINVAL
     * with a URL without TLS. NULL: none.
     */
    const char *pin;
    /*
     * "[HOST:]PORT": the inspector. Exchanges with the services of HT_EXPOSE_HTTP bindings are kept and shown by a
     * small web server at this address, which is in the tunnel's loop. HOST is numeric; without it, it is 127.0.0.1.
     * Port 0: the system picks one. inspecting() tells the URL. HT_TUNNEL_EINSPECT when the port is taken;
     * HT_TUNNEL_EINVAL for an address that is not loopback, unless insecure_inspect is 1. NULL: no inspector, which
     * costs nothing.
     */
    const char *inspect;
    uint32_t inspect_keep;   /* most exchanges; default 10,000 */
    uint64_t inspect_memory; /* of all exchanges together, at least 1 MiB; default 256 MiB */
    uint64_t inspect_body;   /* kept of each body, at most a quarter of inspect_memory; default 1 MiB */
    /* n_inspect_secrets further names of header fields whose values are masked. */
    const char *const *inspect_secrets;
    size_t n_inspect_secrets;
    int insecure_inspect;
    /*
     * The proxy on the way to the kit: http://, https:// or socks5:// with [USER:PASSWORD@]HOST:PORT; socks5h:// is the
     * same as socks5://, names are resolved by the proxy. NULL: what HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY
     * say, which never concerns a kit on this machine. "none": no proxy, whatever they say. It has to do with the kit
     * alone: services are reached directly. proxy_auth: "USER:PASSWORD", in place of what the URL has; NULL: that.
     * Never logged; wiped like the token. proxy_ca: PEM file with the authorities to trust for an https:// proxy; NULL:
     * those of the system.
     */
    const char *proxy, *proxy_auth, *proxy_ca;
    /*
     * When the link is lost, what is under way waits until the tunnel has reached the kit again, and goes on with
     * nothing lost, if the kit can do that. For that, up to so many bytes are kept that the kit has not confirmed, at
     * least 1 MiB; then sending waits. Default: as max_window. HT_NO_REPLAY: what is under way ends with the link.
     */
    uint32_t replay_buffer;
};

#define HT_NO_REPLAY UINT32_MAX
#define HT_NO_POOL UINT32_MAX
#define HT_NO_RETRY UINT32_MAX
#define HT_MAX_CONNECTIONS 16

enum ht_bind_kind {
    HT_EXPOSE_HTTP = 1, /* container port -> HTTP/1.1 or WebSocket service here */
    HT_PULL_TCP = 2,    /* loopback port of the container -> TCP service here */
};

/*
 * The rules for requests to one name whose secrets must stay on this machine. The TLS connection of the program in the
 * container ends here. Each request is checked, gets its secrets, and goes to the real host over verified TLS. Requests
 * are HTTP/1.1. The container gets a certificate that is valid for this name alone (see ca_pem). It never gets a key.
 */
struct ht_policy {
    size_t size; /* sizeof(struct ht_policy) */
    /*
     * n_inject header fields. Each replaces the request's own field of that name. A value may name secrets:
     *   ${file:PATH}     the content of a file; PATH begins with / or ~/. It is read again when the file has changed
     *   ${env:NAME}      an environment variable
     *   ${command:TEXT}  what /bin/sh prints when it runs TEXT. It runs when the tunnel begins to run, again after five
     *                    minutes, and after an answer with status 401. It has ten seconds. Requests wait for its first
     *                    output
     * $${ stands for ${ itself.
     */
    const char *const *inject_names, *const *inject_values;
    size_t n_inject;
    const char *user; /* the value for Authorization is the password of this user (Basic, RFC 7617); NULL: it is not */
    /* NULL: every request gets the fields. Otherwise a field is replaced only if it holds this text, 8 to 512
     * characters. A request with the text in another place, or for another host, is refused. */
    const char *replace;
    /* Rules "METHOD PATH", such as "GET /v1/models" and "POST /v1/chat/..*". The method * is any method. In a segment
     * of the path * is any text; at the end of the path it is everything that follows. `deny` goes before `allow`.
     * Without `allow`, every request is allowed that `deny` does not match. */
    const char *const *allow, *const *deny;
    size_t n_allow, n_deny;
    const char *rate; /* most requests in a time: "10/s", "60/m", "1000/h"; NULL: no limit */
};

struct ht_bind_options {
    size_t size; /* sizeof(struct ht_bind_options) */
    enum ht_bind_kind kind;
    /*
     * The service: "3000", ":3000", "host:3000", "[::1]:3000", "http://host:3000", or "unix:/path" for a Unix socket.
     * Without a host it is this machine (127.0.0.1 or ::1). A host that is a number, as in "8080:3000", is refused.
     * expose: with "https://host:443" this machine speaks TLS to the service.
     * pull: the same with "tls://host:443", and programs in the container speak plain TCP.
     * The certificate is verified and must be for `host`. "https+insecure://" and "tls+insecure://" accept any
     * certificate and warn.
     */
    const char *target;
    uint16_t container_port; /* 0: the kit picks one */
    const char *label;       /* shown to people who look at the kit; NULL: none */
    int takeover;            /* expose, 1: take the port from another session that holds it */
    const char *pull_host;   /* pull: loopback address to listen on in the container; NULL: 127.0.0.1 */
    /*
     * For an https or tls target.
     * target_ca: PEM file with the authorities to trust; NULL: those of the system.
     * target_cert: PEM file with the certificate to show and its chain; NULL: none.
     * target_key: PEM file with the key of that certificate; NULL: it is in target_cert. A key with a password is
     * refused.
     * target_alpn: the protocol that ALPN offers, such as "http/1.1"; NULL: none. An https target is offered http/1.1.
     * The files are read when the binding is made. Certificate and key are read again when they have changed.
     */
    const char *target_ca, *target_cert, *target_key, *target_alpn;
    /*
     * pull: n_names hosts that programs in the container reach by name, through the kit's proxy:
     *   "gitlab.example.com" (ports 80 and 443), "db.example.com:5432", "api.example.com:*" (every port),
     *   "*.corp.example:443" (every host below it), "10.1.2.3:22", "[fd00::1]:443"
     * This machine connects to the host and port that the program asked for. With "=TARGET" behind a name it connects
     * to TARGET. A name with *. never leads to an address of this machine or to a link-local address.
     */
    const char *const *names;
    size_t n_names;
    int portless;       /* 1: names only. Nothing listens in the container, and `target` must be NULL */
    int names_optional; /* 1: when the kit refuses the names or knows none, take the port without names */
    const char *ca_pem; /* certificates that programs in the container must trust for these names; never a key */
    /*
     * NULL: bytes pass unchanged. Otherwise the binding must be portless, with one name without *. target_ca,
     * target_cert and target_key are then for the real host. From this call on the process leaves no core dump, and
     * other processes of the user cannot read its memory (PR_SET_DUMPABLE). HT_TUNNEL_EINVAL when a file or variable
     * with a secret cannot be read.
     */
    const struct ht_policy *policy;
    /*
     * expose, at a kit with a public port: a label under which the service is also reached, as in "web" for
     * web.tunnel.example.com; NULL: none. And n_hostnames domains of your own that lead to the kit, such as
     * "app.example.com". Letters beyond ASCII are written as A-labels (xn--...).
     */
    const char *name;
    const char *const *hostnames;
    size_t n_hostnames;
    const char *target_sni; /* with TLS to the target: the name to ask for and to verify; NULL: the target's host */
    /*
     * expose: what the service gets, and who may visit it. The rules are those of the options of hoody-tunnel-expose(1)
     * that have these names.
     * host_header: NULL or "preserve": the visitor's Host. "rewrite": the target's host and port. Else this value.
     * forwarded: the fields Forwarded, X-Forwarded-* and X-Real-IP.
     * request_headers, response_headers: "Name: value" sets a field, "+Name: value" adds one, "-Name" removes it.
     * trusted_edges, allow_ips, deny_ips: networks, such as "10.0.0.0/8". Without allow_ips every visitor is let in
     * that deny_ips does not name. basic_auth: a file of users with lines NAME:HASH; NULL: no login. basic_auth_pass,
     * 1: the service gets the visitor's Authorization, too. error_pages: "FILE" or "STATUS=FILE". The files are read
     * when the binding is made, and again by ht_tunnel_reload(). HT_TUNNEL_EINVAL when one cannot be read.
     */
    const char *host_header;
    int forwarded; /* enum ht_forwarded */
    int basic_auth_pass;
    const char *const *request_headers, *const *response_headers;
    size_t n_request_headers, n_response_headers;
    const char *const *trusted_edges, *const *allow_ips, *const *deny_ips;
    size_t n_trusted_edges, n_allow_ips, n_deny_ips;
    const char *basic_auth;
    const char *const *error_pages;
    size_t n_error_pages;
};

enum ht_forwarded {
    HT_FORWARDED_AUTO = 0, /* set when Host is changed, else passed on */
    HT_FORWARDED_PASS = 1, /* passed on as they came */
    HT_FORWARDED_SET = 2,  /* set here; those of a trusted edge stay */
};

/* ---- what callbacks get ---- */

struct ht_connected {
    const char *session_id;
    const char *server; /* name and version of the kit; "" when the kit did not say */
    /*
     * 1: the session from before the loss goes on with its bindings; bound() is not called again for them.
     * 0: the session is new. After a lost link the tunnel asks for every binding again, with the port it had. When
     * disconnected() was not called before, the kit has handed the old session over to the new one: nothing was lost.
     */
    int resumed;
    int knows_names;   /* 1: bindings may have names */
    const char *proxy; /* host:port of the proxy in the container through which names are reached; NULL: none */
    const char *user;  /* whose session it is, by the token; NULL: the kit tells no users apart */
    /* 1: the session goes on where the lost link has ended: what waited goes on, and nothing was lost. It was away for
     * paused_ms. 0: what was under way when a link was lost has been cut. */
    int whole;
    uint64_t paused_ms;
};

struct ht_disconnected {
    int error; /* HT_TUNNEL_... */
    const char *text;
    int retrying;         /* 1: the tunnel tries again; 0: ended() follows */
    uint64_t retry_in_ms; /* until the first attempt */
    /*
     * So many requests and connections wait for the next link, for paused_for_ms at most: the kit does not keep its
     * side for longer. Their connections to services stay open. 0: nothing was under way, or it is cut.
     */
    unsigned paused;
    uint64_t paused_for_ms;
};

/* An attempt to reach the kit has failed, or an open link was lost (disconnected() was called before). */
struct ht_retry {
    unsigned attempt; /* number of the next attempt, from 1. A link that was up for a while starts the count again */
    int error;        /* HT_TUNNEL_... */
    const char *text;
    uint64_t retry_in_ms; /* until the next attempt */
};

struct ht_bound {
    int binding; /* what ht_tunnel_bind() returned */
    enum ht_bind_kind kind;
    uint16_t container_port; /* the port that the kit opened; 0: portless */
    const char
        *target; /* portless: the first name. Else host:port, behind the scheme if TLS is spoken, or unix:/path */
    const char *public_url; /* NULL: the kit knows none, or it is a pull binding */
    /*
     * Where a visitor finds the service. Expose: the public URL; without one, http://127.0.0.1:port when the kit runs
     * on this machine, else "". Pull: host:port in the container. Portless: "".
     */
    const char *url;
    int tls;                  /* 1: this machine speaks TLS to the service */
    int insecure;             /* 1: the certificate of the service is not verified */
    const char *const *names; /* n_names names that lead here, each in its normal form */
    size_t n_names;
    const char *const *urls; /* all that lead here at the kit's public port, public_url first; n_urls of them */
    size_t n_urls;
};

struct ht_bind_failure {
    int binding;
    const char *target;
    uint16_t container_port; /* as asked for; 0: any */
    /* The kit's error code, such as "ALREADY_BOUND". "TIMEOUT": the kit did not answer. "UNSUPPORTED": the binding is
     * portless, and the kit knows no names. */
    const char *code;
    const char *message;
};

struct ht_unbound {
    int binding;
    int revoked;        /* 1: another session has taken the port over; 0: ht_tunnel_unbind() has been carried out */
    const char *reason; /* "" when there is none */
};

/* A request (expose) or a connection (pull) that has ended. */
struct ht_request {
    int binding;
    enum ht_bind_kind kind;
    uint32_t stream_id;
    const char *method, *target; /* "" for a connection */
    const char *peer;            /* the visitor's address; "" when the kit did not say */
    int status;                  /* HTTP status; 0: there was no answer */
    int reset_code;              /* 0: it ended normally; else the code of the protocol's RESET */
    const char *error;           /* why it failed; NULL: it did not */
    uint64_t bytes_in;           /* from the visitor */
    uint64_t bytes_out;          /* to the visitor */
    uint64_t duration_us;
    const char *authority; /* host:port that a program in the container asked for by name; NULL: it used the port */
};

/*
 * A request for a name with a policy. An allowed request is reported twice: before any of it leaves this machine, and
 * when it has ended in any way. A refused request is reported once. No text holds a secret.
 */
struct ht_audit {
    int over; /* 0: the request is allowed, and a second call will follow. 1: it was refused, or it has ended */
    int binding;
    uint64_t request; /* number of the request; the same in both calls */
    const char *name; /* host:port that the request is for */
    const char *method, *path;
    const char
        *query; /* the part behind the ? of the path; NULL: none. It may hold private data: keep it only if wanted */
    const char *peer; /* the program's address in the container; "": not known */
    int allowed;
    const char
        *reason;      /* "allowed", or why it was refused, such as "no-rule-allows-it"; hoody-tunnel-up(1) lists them */
    const char *rule; /* the rule that decided; NULL: none */
    int secret;       /* 1: the request gets a secret */
    int status;       /* HTTP status of the answer or of the refusal; 0: none, or none yet */
    /* Set when `over` is 1: */
    uint64_t bytes_in, bytes_out, duration_us; /* in: from the container; out: to it */
    const char *error;                         /* why it failed; NULL: it did not */
};

enum ht_log_severity { HT_SEVERITY_ERROR, HT_SEVERITY_WARNING, HT_SEVERITY_INFO, HT_SEVERITY_DEBUG };

/*
 * Any of these may be NULL. They are called only inside ht_tunnel_run(), _turn() and _process(), or in the thread of
 * ht_tunnel_start(). A callback may call every function below except those four, ht_tunnel_join() and
 * ht_tunnel_destroy().
 */
struct ht_tunnel_callbacks {
    size_t size; /* sizeof(struct ht_tunnel_callbacks) */
    void (*connected)(void *user, const struct ht_connected *c);
    void (*bound)(void *user, const struct ht_bound *b);
    /* The kit refused the binding, and it no longer exists. The tunnel goes on, unless strict_bindings is set. */
    void (*bind_failed)(void *user, const struct ht_bind_failure *f);
    void (*unbound)(void *user, const struct ht_unbound *u);
    void (*request)(void *user, const struct ht_request *r);
    /* An open link to the kit is lost. Open requests and connections wait for the next one (d->paused), or are cut:
     * request() is then called for each. Calls for bindings are fine meanwhile; the kit hears of them later. */
    void (*disconnected)(void *user, const struct ht_disconnected *d);
    /* Other events, as text for people. */
    void (*log)(void *user, enum ht_log_severity severity, const char *text);
    /* The last call. `error` is HT_TUNNEL_OK after ht_tunnel_close(), else the reason why the tunnel has ended. */
    void (*ended)(void *user, int error, const char *text);
    /* The tunnel waits r->retry_in_ms before its next attempt. */
    void (*retrying)(void *user, const struct ht_retry *r);
    /* A round trip to the kit and back was measured. */
    void (*latency)(void *user, uint64_t round_trip_us);
    /*
     * The kit refuses the token; it may have been replaced. To try another one, write it with its NUL to out[0..cap)
     * and return 1. Return 0 when there is none. The tunnel connects again if the token differs from the refused one.
     * `out` is wiped afterwards.
     */
    int (*new_token)(void *user, char *out, size_t cap);
    /* See struct ht_audit. Return 1 when the event was recorded. Return 0 when it could not be: a request that has not
     * left this machine yet is then refused, and the refusal is reported. */
    int (*audit)(void *user, const struct ht_audit *a);
    /* The inspector's page is at `url`, which holds a secret of this tunnel alone. Called once, in the first turn. */
    void (*inspecting)(void *user, const char *url);
};

/* ---- life ---- */

/*
 * Makes a tunnel and connects nothing yet. The caller owns *tunnel and gives it to ht_tunnel_destroy(). `calls` may be
 * NULL; `user` is passed to each callback. Errors: HT_TUNNEL_EINVAL, _EURL, _ETLS (the CA file), _ENOMEM. On an error
 * *tunnel is NULL, and ht_tunnel_last_error() has the details.
 */
HT_API int ht_tunnel_create(struct ht_tunnel **tunnel, const struct ht_tunnel_options *options,
                            const struct ht_tunnel_callbacks *calls, void *user);

/*
 * The message of the last failed call in this thread: one sentence with names and numbers. "" when no call has failed.
 * Valid until the next call in this thread.
 */
HT_API const char *ht_tunnel_last_error(void);

/*
 * Starts to connect. connected() or ended() tells the result. The tunnel connects again by itself after a lost link.
 * HT_TUNNEL_ESTATE: it was called before for this tunnel.
 */
HT_API int ht_tunnel_connect(struct ht_tunnel *tunnel);

/*
 * Asks for a port, at once or as soon as the tunnel is up. Returns the number of the binding (> 0); bound() or
 * bind_failed() follows. Errors: HT_TUNNEL_EINVAL, _ETLS (a file of a tls target), _ENOMEM, _ESTATE (the tunnel is
 * closing or has ended).
 */
HT_API int ht_tunnel_bind(struct ht_tunnel *tunnel, const struct ht_bind_options *options);

/*
 * Gives a binding back. From then on new visitors are refused, and open requests and connections of the binding are
 * cut. unbound() follows. HT_TUNNEL_EINVAL: there is no such binding.
 */
HT_API int ht_tunnel_unbind(struct ht_tunnel *tunnel, int binding);

/*
 * Ends the tunnel in order: gives the bindings back, then closes the connection, so that the kit keeps nothing. It
 * takes at most about two seconds and makes progress only while the tunnel runs. ended() is called at the end. A second
 * call shortens it: the connection is closed in order at once, and the tunnel ends 200 ms later at most. A third call
 * drops the connection.
 */
HT_API int ht_tunnel_close(struct ht_tunnel *tunnel);

/* Drops all connections at once and frees the tunnel. Not from a callback. Clears the pointer; NULL is ignored. */
HT_API void ht_tunnel_destroy(struct ht_tunnel **tunnel);

/* ---- running it ---- */

/*
 * Runs the tunnel until it has ended or is stopped, and returns the reason: HT_TUNNEL_OK after ht_tunnel_close(),
 * HT_TUNNEL_STOPPED after ht_tunnel_stop() (the tunnel can be run again), or the error that ended() got.
 * HT_TUNNEL_ESTATE: the tunnel has a thread of its own.
 */
HT_API int ht_tunnel_run(struct ht_tunnel *tunnel);

/*
 * For a program with its own loop. ht_tunnel_fd() returns a descriptor that polls readable when the tunnel has work,
 * timers included. It stays the same for the life of the tunnel. Do not read from it, change it or close it.
 * ht_tunnel_process() does the work that is ready and never waits; an unnecessary call is harmless. It returns
 * HT_TUNNEL_OK while the tunnel lives, and afterwards, or after a stop, the same as ht_tunnel_run().
 * Both return HT_TUNNEL_ESTATE when the tunnel has a thread of its own.
 */
HT_API int ht_tunnel_fd(struct ht_tunnel *tunnel);
HT_API int ht_tunnel_process(struct ht_tunnel *tunnel);

/* Milliseconds until ht_tunnel_process() has work even if no data comes: 0: it has work now; -1: no timer runs. Only
 * loops that keep their own timers need it. */
HT_API int ht_tunnel_timeout_ms(struct ht_tunnel *tunnel);

/* The same as ht_tunnel_process(), but when `wait` is not 0 it first waits until there is work. */
HT_API int ht_tunnel_turn(struct ht_tunnel *tunnel, int wait);

/*
 * Runs the tunnel in a thread of its own until it has ended or is stopped. All signals are blocked in that thread.
 * Afterwards the tunnel can only be joined and destroyed. Errors: HT_TUNNEL_ESTATE (the tunnel has a thread already, or
 * was run before), HT_TUNNEL_ENOMEM.
 */
HT_API int ht_tunnel_start(struct ht_tunnel *tunnel);

/*
 * Waits for the end of that thread and returns what ht_tunnel_run() returned in it. After ht_tunnel_close() the tunnel
 * first ends in order; after ht_tunnel_stop() it drops the connection. ht_tunnel_destroy() stops and joins by itself.
 * HT_TUNNEL_ESTATE: there is no thread, or a callback has called it.
 */
HT_API int ht_tunnel_join(struct ht_tunnel *tunnel);

/* Makes ht_tunnel_run() return soon. May be called from any thread and from a signal handler. A call before
 * ht_tunnel_run() counts too. NULL is ignored: a signal may come before the tunnel exists or after its end. */
HT_API void ht_tunnel_stop(struct ht_tunnel *tunnel);

/* Ends the wait before the next attempt to reach the kit, or to replace a lost connection of a session. May be called
 * from any thread and from a signal handler. NULL is ignored. */
HT_API void ht_tunnel_retry_now(struct ht_tunnel *tunnel);

/* Reads the files of basic_auth and error_pages again. What cannot be read stays as it was, and log() says so. May be
 * called from any thread and from a signal handler. NULL is ignored. */
HT_API void ht_tunnel_reload(struct ht_tunnel *tunnel);

/* How many requests and connections are open. */
HT_API unsigned ht_tunnel_streams(const struct ht_tunnel *tunnel);

/* ---- status ---- */

enum ht_tunnel_state {
    HT_TUNNEL_NEW,
    HT_TUNNEL_CONNECTING, /* no session yet; an attempt is running */
    HT_TUNNEL_UP,
    HT_TUNNEL_RETRYING, /* waits for the next attempt */
    HT_TUNNEL_CLOSING,
    HT_TUNNEL_ENDED,
};

struct ht_tunnel_status {
    size_t size; /* sizeof(struct ht_tunnel_status) */
    enum ht_tunnel_state state;
    unsigned attempt;       /* _RETRYING: number of the next attempt. _CONNECTING: of this one; 0: the very first */
    uint64_t retry_in_ms;   /* _RETRYING: until the next attempt */
    unsigned version;       /* of the protocol, 1 or 2; 0: no session */
    unsigned connections;   /* open WebSockets of the session */
    unsigned granted;       /* WebSockets that the kit has allowed */
    unsigned bindings;      /* bindings that the kit has accepted */
    unsigned streams;       /* open requests and connections */
    uint64_t up_ms;         /* time since the session was opened or resumed; 0: no session */
    uint64_t round_trip_us; /* the last measurement; 0: none yet */
    /* Totals over all sessions of this tunnel: */
    uint64_t streams_total;
    uint64_t bytes_in;  /* from visitors */
    uint64_t bytes_out; /* to visitors */
    uint64_t sessions;  /* opened and resumed sessions */
    uint64_t whole;     /* resumed sessions that went on with nothing lost */
    uint64_t resent;    /* bytes that were sent again for that */
    /* _CONNECTING and _RETRYING after a lost link: how long what is under way waits at most from now; 0: it is cut. */
    uint64_t paused_left_ms;
    /* Of the resumes that `whole` counts: how long the link was away, all together and at most. */
    uint64_t paused_ms;
    uint64_t longest_pause_ms;
};

/* Fills the first status->size bytes of *status. Cheap enough to call at each redraw. HT_TUNNEL_EINVAL: `size` is not
 * set. */
HT_API int ht_tunnel_get_status(const struct ht_tunnel *tunnel, struct ht_tunnel_status *status);

#ifdef __cplusplus
}
#endif

#endif
