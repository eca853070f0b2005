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
    int64_t since; /* Unix seconds */
};

/* A session in a snapshot. The texts are the source's and stay good until the snapshot is freed. */
struct admin_snap_session {
    const char *id, *peer;
    const char *owner;    /* the user's name */
    bool parked, v2;      /* v2: it may have several sockets */
    int64_t parked_until; /* Unix seconds */
    enum admin_protocol protocol;
    unsigned granted, streams;
    size_t first_binding, n_bindings; /* in the snapshot's bindings */
};

/* The state of a moment; live sessions first, then parked ones. The arrays are ht_malloc'ed. */
struct admin_snapshot {
    struct admin_snap_session *sessions;
    size_t n_sessions, n_live;
    struct admin_snap_binding *bindings;
    size_t n_bindings;
    unsigned max_streams, fd_permits;
};

void admin_snapshot_free(struct admin_snapshot *snap);

/* What the daemon fills in. Where there is a viewer, what is not the viewer's is not there. */
struct admin_source {
    void *ctx;
    /* 0 or HT_ENOMEM; `out` is all zeros and is freed by this room in both cases. */
    int (*snapshot)(void *ctx, const struct admin_viewer *viewer, struct admin_snapshot *out);
    /* Ends a session. HT_EINVAL: there is none of that id (any more). */
    int (*kill)(void *ctx, const struct admin_viewer *viewer, const char *session_id, uint64_t grace_ms);
    /* Appends the text exposition. 0 or HT_ENOMEM. */
    int (*metrics)(void *ctx, struct ht_buf *out);
    /* Appends the certificates that drivers offer, in PEM; nothing when there are none. 0 or HT_ENOMEM. */
    int (*certificates)(void *ctx, const struct admin_viewer *viewer, struct ht_buf *out);
    /* Open descriptors of the process, or -1. Costs nothing: probes ask often. */
    int (*count_fds)(void *ctx);
    /* Why the daemon takes nobody now; NULL: it does. */
    const char *(*not_ready)(void *ctx);
    /* There is room for one more reader of events. */
    bool (*takes_reader)(void *ctx);
    /* Where the proxy listens. False: there is none. */
    bool (*proxy)(void *ctx, char address[ADMIN_ADDR_TEXT], bool *wants_token);
};

struct admin {
    struct admin_source source;
    char ip[ADMIN_ADDR_TEXT];    /* the address that the daemon listens on */
    char built[32], started[32]; /* RFC 3339 */
};

/* `ip` is the base listener's address, without a port. The time of the call is what health calls `started`. */
void admin_init(struct admin *a, const struct admin_source *source, const char *ip);

/* Answers one request, errors included. 0, or HT_ENOMEM when not even an error could be written. Free `res` in any
 * case. */
int admin_serve(struct admin *a, struct admin_request *req, struct admin_response *res) HT_MUST_USE;

/*
 * True: the answer to this request has no end. `res` has its status and type; the caller writes the rest, made with
 * admin_event_append().
 */
bool admin_is_stream(const struct admin_request *req, const struct admin_response *res);

/* Appends one server-sent event (HTML Living Standard, 9.2). 0 or HT_ENOMEM; on error `out` holds a part. */
int admin_event_append(struct ht_buf *out, uint64_t id, const struct admin_event *e) HT_MUST_USE;

/* A time as RFC 3339 in UTC, "2026-01-31T12:00:00Z". */
void admin_time_text(int64_t unix_seconds, char out[32]);

#endif
