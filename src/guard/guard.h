/*
 * The guard serves hosts with a policy. A program in a container connects to api.example.com; its TLS connection ends
 * here. Each request is checked and gets its secrets, and goes to the real host over verified TLS.
 *
 *   stream (raw bytes) -> pair of connections -> TLS -> visitor (the kit's code)
 *       -> session in memory -> policy -> local service (the driver's code)
 *
 * So requests and answers are read and written by the same code as everywhere else, with the same checks.
 */
#ifndef HT_GUARD_GUARD_H
#define HT_GUARD_GUARD_H

#include "base/base.h"
#include "base/err.h"
#include "guard/policy.h"
#include "io/authority.h"
#include "io/io.h"
#include "mux/mux.h"
#include "wire_gen.h"

#define GUARD_DOORS_MAX 32 /* most ports of one host that are used */

/*
 * A report about a request. An allowed request is reported twice: before any of it is sent on, and when it has ended in
 * any way. A refused request is reported once. The texts hold no secret of the host and are valid during the call.
 */
struct guard_event {
    void *ctx;        /* guard_host_config.ctx */
    uint64_t id;      /* number of the request in this process */
    bool over;        /* false: the request is allowed, and a second report will follow */
    const char *host; /* the name that the request is for */
    uint16_t port;
    const char *method, *path;
    const char *query; /* may hold private data: show it only if that is wanted; NULL: none */
    const char *peer;  /* the program's address in the container; "": not known */
    enum guard_reason reason;
    const char *rule; /* the rule that decided; NULL: none */
    bool injects;     /* the request gets a secret */
    /* Set when `over` is true: */
    uint16_t status;                           /* HTTP status of the refusal or answer; 0: none */
    uint64_t bytes_in, bytes_out, duration_us; /* in: from the container; out: to it */
    const char *error;                         /* why it failed; NULL: it did not */
};

struct guard_config {
    struct io_loop *loop;
    uint64_t connect_timeout_ms, pool_idle_ms;
    unsigned pool_size;
    uint32_t max_streams; /* most connections from containers at the same time */
    /* Records an event. False: it could not be recorded; a request that was not sent on yet is then refused. May be
     * NULL. */
    bool (*audit)(void *ctx, const struct guard_event *e);
    /* Tells a person about a problem, such as a program that does not trust the certificate, or an unreadable secret.
     */
    void (*trouble)(void *ctx, const char *host, const char *text);
    void *ctx;
};

struct guard;
struct guard_host;

/* NULL: out of memory. */
struct guard *guard_create(const struct guard_config *cfg) HT_MUST_USE;
/* Frees the guard with all its hosts and connections. Clears the pointer. NULL is ignored. */
void guard_destroy(struct guard **g);

/* The protocol to the real host. */
enum guard_spoken {
    GUARD_SAME,  /* the same that the program in the container uses: TLS or plain HTTP */
    GUARD_TLS,   /* TLS */
    GUARD_PLAIN, /* plain HTTP */
};

struct guard_host_config {
    struct guard_policy_config policy; /* with the name of the host */
    struct io_authority *authority;    /* must outlive the host */
    struct io_tls *tls;                /* TLS to the real host; must outlive this host */
    const char *target;                /* another host that is dialled instead; NULL: the name itself */
    uint16_t target_port;              /* 0: the port of the request; GUARD_TLS and GUARD_PLAIN need a port */
    enum guard_spoken spoken;          /* with GUARD_TLS and GUARD_PLAIN, Host names the target */
    void *ctx;                         /* for guard_event */
};

/*
 * Adds a host and reads its secrets for the first time. Secrets of commands are read when the loop runs; requests wait
 * for them. NULL: *rc is HT_EINVAL, HT_ETLS, HT_ENOMEM or HT_EIO (a secret cannot be read), and *err says why, without
 * any secret.
 */
struct guard_host *guard_host_add(struct guard *g, const struct guard_host_config *cfg, int *rc,
                                  struct ht_errmsg *err) HT_MUST_USE;
/* Cuts the connections of the host, which ends their requests. Clears the pointer. NULL is ignored. */
void guard_host_remove(struct guard_host **h);
const char *guard_host_name(const struct guard_host *h);
/* The certificate that programs in the container must trust, as PEM. Valid as long as `h`. */
const char *guard_host_ca(const struct guard_host *h);
/* Serves a stream of raw bytes that was opened for this host and `port`. Owns the stream and accepts it. */
void guard_host_serve(struct guard_host *h, struct mux_stream *st, const struct wire_stream_open *open, uint16_t port);
/* The link to the programs in the container is lost and its streams wait, or it is back: their time stands still. */
void guard_away(struct guard *g, bool away);
unsigned guard_host_streams(const struct guard_host *h);

#endif
