/*
 * Hosts whose requests pass through here: a container's program asks for api.example.com, TLS is ended here, each
 * request is checked and gets its secrets, and the real host is asked over TLS that is verified.
 *
 *   stream (raw bytes) = pair of connections = TLS = a visitor, as a kit has them
 *       = a session in memory = the policy = a local service, as a driver has them
 *
 * So requests and answers are read and written by the same code as everywhere, in both directions: what is strict there
 * is strict here.
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

#define GUARD_DOORS_MAX 32 /* ports of one host that are in use */

/*
 * What became of a request. One that is allowed is told of twice: before anything of it is sent on, and when it is
 * over, in whatever way. One that is refused is told of once. No text holds a secret of the host's; they are good
 * during the call.
 */
struct guard_event {
    void *ctx;        /* guard_host_config.ctx */
    uint64_t id;      /* of the request, in this process */
    bool over;        /* false: it is allowed, and goes on */
    const char *host; /* the name that was asked for */
    uint16_t port;
    const char *method, *path;
    const char *query; /* to be shown only where that was asked for; NULL: there is none */
    const char *peer;  /* who asked, in the container; "": not known */
    enum guard_reason reason;
    const char *rule; /* NULL: none decided */
    bool injects;     /* it gets a secret */
    /* over: */
    uint16_t status;                           /* of a refusal, or of the service's answer; 0: there was none */
    uint64_t bytes_in, bytes_out, duration_us; /* in: from the container */
    const char *error;                         /* NULL, or why it failed */
};

struct guard_config {
    struct io_loop *loop;
    uint64_t connect_timeout_ms, pool_idle_ms;
    unsigned pool_size;
    uint32_t max_streams; /* connections from containers at a time */
    /* False for one that is not over: it could not be noted down, and is refused. May be NULL. */
    bool (*audit)(void *ctx, const struct guard_event *e);
    /* What a person should know: a program that does not trust the certificate, a secret that cannot be read. */
    void (*trouble)(void *ctx, const char *host, const char *text);
    void *ctx;
};

struct guard;
struct guard_host;

/* NULL: out of memory. */
struct guard *guard_create(const struct guard_config *cfg) HT_MUST_USE;
/* With all its hosts and connections. Clears the pointer; NULL is ignored. */
void guard_destroy(struct guard **g);

/* What is spoken to the real host. */
enum guard_spoken {
    GUARD_SAME,  /* what the program in the container speaks */
    GUARD_TLS,   /* TLS */
    GUARD_PLAIN, /* plain HTTP */
};

struct guard_host_config {
    struct guard_policy_config policy; /* with the name */
    struct io_authority *authority;    /* outlives the host */
    struct io_tls *tls;                /* for the real host; outlives this one */
    const char *target;                /* NULL: the name itself, else another host */
    uint16_t target_port;              /* 0: the port that was asked for; needed for GUARD_TLS and GUARD_PLAIN */
    enum guard_spoken spoken;          /* with GUARD_TLS and GUARD_PLAIN the service is told its own name in Host */
    void *ctx;                         /* for guard_event */
};

/* NULL: *err says what is wrong, and never a value; HT_EINVAL, HT_ETLS, HT_ENOMEM in *rc. Secrets are read here for the
 * first time: HT_EIO. Those of commands are awaited when the loop runs; requests that come before wait. */
struct guard_host *guard_host_add(struct guard *g, const struct guard_host_config *cfg, int *rc,
                                  struct ht_errmsg *err) HT_MUST_USE;
/* Cuts its connections, which is the end of their requests. Clears the pointer; NULL is ignored. */
void guard_host_remove(struct guard_host **h);
const char *guard_host_name(const struct guard_host *h);
/* The certificate that programs in the container have to trust. */
const char *guard_host_ca(const struct guard_host *h);
/* A stream of raw bytes (mux_stream_accept() is called here) that was opened for this host and `port`. */
void guard_host_serve(struct guard_host *h, struct mux_stream *st, const struct wire_stream_open *open, uint16_t port);
unsigned guard_host_streams(const struct guard_host *h);

#endif
