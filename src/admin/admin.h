/*
 * The admin API's answers. Routes, parameter checks and JSON writers are generated (admin_gen.h); this room fills the
 * structures with what a daemon tells about itself through `struct admin_source`.
 */
#ifndef HT_ADMIN_ADMIN_H
#define HT_ADMIN_ADMIN_H

#include "admin_gen.h"
#include "base/base.h"
#include "base/buf.h"
#include "base/err.h"

#define ADMIN_ADDR_TEXT 64
#define ADMIN_TRAFFIC_SECONDS 60u
#define ADMIN_LIMITS_MAX 10u
#define ADMIN_EVENTS_KEPT 50u      /* in an answer of /status */
#define ADMIN_SAMPLE_SESSIONS 256u /* in a sample: it stays below 64 KiB */
#define ADMIN_QR_MAX 64u           /* QR codes in an answer of /status, and those that are kept */
#define ADMIN_WARNINGS 8

/* A binding in a snapshot. */
struct admin_snap_binding {
    uint32_t bind_id;
    uint16_t port;
    enum admin_kind kind;
    enum admin_mode mode;
    char bind_addr[ADMIN_ADDR_TEXT];
    const char *label;            /* the source's, like a session's texts; "": none */
    const struct ht_slice *names; /* the same */
    size_t n_names;
    int64_t since;                /* Unix seconds */
    const char *url;              /* where visitors find it; NULL or "": not known */
    const struct ht_slice *hosts; /* at the public port; as `names` */
    size_t n_hosts;
};

/* A session in a snapshot. The source owns the texts; they are valid until the snapshot is freed. */
struct admin_snap_session {
    const char *id, *peer;
    const char *owner;    /* the user's name */
    bool parked, v2;      /* v2: it may have several connections */
    int64_t parked_until; /* Unix seconds */
    enum admin_protocol protocol;
    unsigned granted, streams;
    bool keeps_streams;               /* what is under way outlives a lost link */
    unsigned waiting;                 /* visitors that wait until they may open a stream */
    size_t first_binding, n_bindings; /* in the snapshot's bindings */
    bool closing, rtt_known;
    unsigned links;
    uint64_t grace_ms; /* how long it stays parked; 0: it is not */
    uint64_t age_s, bytes_in, bytes_out, requests;
    double rtt_ms, requests_per_second;
    const uint32_t *traffic; /* a ring of ADMIN_TRAFFIC_SECONDS seconds, bytes each; NULL: none */
    unsigned oldest;         /* the index of the oldest second */
};

/* The present state: live sessions first, then parked ones. The arrays are allocated with ht_malloc(). */
struct admin_snapshot {
    struct admin_snap_session *sessions;
    size_t n_sessions, n_live;
    struct admin_snap_binding *bindings;
    size_t n_bindings;
    unsigned max_streams, fd_permits;
    bool closing, no_bindings; /* set by the caller: with sessions that are closing; without bindings */
};

/* The kit itself; the same for all viewers. */
struct admin_snap_kit {
    bool draining;
    const char *version;
    uint64_t max_sessions, max_bindings, max_streams;
    struct admin_usage descriptors;
    struct admin_limit limits[ADMIN_LIMITS_MAX];
    size_t n_limits;
};

void admin_snapshot_free(struct admin_snapshot *snap);

/* Functions of the daemon. With a `viewer`, they leave out what the viewer may not see. */
struct admin_source {
    void *ctx;
    /* 0 or HT_ENOMEM; `out` is all zeros but for what it is to hold, and is freed by this room in both cases. */
    int (*snapshot)(void *ctx, const struct admin_viewer *viewer, struct admin_snapshot *out);
    /* Ends a session. 0, or HT_EINVAL: there is no session with that id. */
    int (*kill)(void *ctx, const struct admin_viewer *viewer, const char *session_id, uint64_t grace_ms);
    /* Appends the text exposition. 0 or HT_ENOMEM. */
    int (*metrics)(void *ctx, struct ht_buf *out);
    /* Appends the certificates that drivers offer, as PEM. 0 or HT_ENOMEM. */
    int (*certificates)(void *ctx, const struct admin_viewer *viewer, struct ht_buf *out);
    /* Number of open descriptors of the process; -1: not known. Must be cheap: probes ask often. */
    int (*count_fds)(void *ctx);
    /* Why the daemon accepts no drivers now; NULL: it does. */
    const char *(*not_ready)(void *ctx);
    /* True when there is room for one more reader of events, if need be in the place of another viewer's. */
    bool (*takes_reader)(void *ctx, const struct admin_viewer *viewer);
    /* What an operator has to see to soon. Fills in up to ADMIN_WARNINGS texts, which stay valid until the next call,
     * and returns their number. NULL: there are never any. */
    size_t (*warnings)(void *ctx, struct ht_slice out[ADMIN_WARNINGS]);
    /* Where the proxy listens. False: there is none. */
    bool (*proxy)(void *ctx, char address[ADMIN_ADDR_TEXT], bool *wants_token);
    void (*kit)(void *ctx, struct admin_snap_kit *out);
    /* Writes the latest events, the newest first, and returns their number. They are valid until the next event. */
    size_t (*recent)(void *ctx, const struct admin_viewer *viewer, struct admin_event out[ADMIN_EVENTS_KEPT]);
};

struct admin {
    struct admin_source source;
    char ip[ADMIN_ADDR_TEXT];    /* the address that the daemon listens on */
    char built[32], started[32]; /* RFC 3339 */
    int64_t started_s;           /* Unix seconds */
    struct admin_qr_kept *qrs;   /* qr.c: the last codes; NULL: none yet */
    uint64_t qr_answer;
    unsigned qr_n;
};

/* `ip` is the base listener's address without a port. The time of this call becomes `started` of /health. */
void admin_init(struct admin *a, const struct admin_source *source, const char *ip);
/* Frees what it keeps. `a` may be zero-initialised. */
void admin_free(struct admin *a);

/* Answers one request; errors are answers too. 0, or HT_ENOMEM: not even an error could be written. The caller frees
 * `res` in each case. */
int admin_serve(struct admin *a, struct admin_request *req, struct admin_response *res) HT_MUST_USE;

/*
 * True when the answer to this request has no end. `res` has its status and type. The caller writes the events, made
 * with admin_event_append().
 */
bool admin_is_stream(const struct admin_request *req, const struct admin_response *res);

/* Appends one server-sent event (HTML Living Standard, 9.2). 0 or HT_ENOMEM; on error `out` holds a part. */
int admin_event_append(struct ht_buf *out, uint64_t id, const struct admin_event *e) HT_MUST_USE;

/* The same for a sample of the load. It has no id, because a missed sample need not be sent again. */
int admin_sample_append(struct admin *a, const struct admin_viewer *viewer, struct ht_buf *out) HT_MUST_USE;

/* True when the answer to this request is the status page; `res` has only its status. */
bool admin_is_page(const struct admin_request *req, const struct admin_response *res);

/* Bytes of memory that this process uses; 0: not known. */
uint64_t admin_resident_bytes(void);

/* A time as RFC 3339 in UTC, "2026-01-31T12:00:00Z". */
void admin_time_text(int64_t unix_seconds, char out[32]);

#endif
