/*
 * The API of the edge's agent (spec/edge.yaml). What the files with handlers share; no other room includes it.
 *
 *   api.c             connections: who may ask, bodies, answers, streams
 *   api_body.c        members of a request's JSON
 *   api_containers.c  containers, services, switches
 *   api_domains.c     own domains and their certificates
 *   api_logs.c        the log
 *   api_permissions.c who may visit
 *   api_aliases.c     aliases
 *   api_hooks.c       what becomes of requests
 *   api_settings.c    answers that are kept, pages of one's own
 *
 * Another group of routes is a block of paths in spec/edge.yaml, a file api_GROUP.c with its handlers, whose names are
 * edge_api_ and the operationId in snake_case, and a line for each in the table of api.c. What they need of other parts
 * of the edge is a field of struct edge_api_config. A handler's `ctx` is the struct api_client.
 */
#ifndef HT_EDGE_API_H
#define HT_EDGE_API_H

#include "edge/aliases.h"
#include "edge/containers.h"
#include "edge_api_gen.h"

struct edge_domains;
struct edge_log;

struct edge_api_config {
    struct io_loop *loop;
    const char *folder;
    const char *listen, *token; /* a port of this machine, "127.0.0.1:8480", and what to show there; NULL: none */
    /* Whose token it is, in place of the only one: struct edge_ops. NULL: there are no users */
    bool (*user)(void *ctx, struct ht_slice token, struct edge_user *out);
    void *user_ctx;
    struct edge_state *state;
    struct edge_containers *containers;
    struct edge_aliases *aliases;
    struct edge_domains *domains;
    const char *domain; /* the site's */
    struct edge_maps *maps;
    struct edge_book *const *book;
    struct edge_log *log;
};

struct edge_api;

/* Listens on folder/run/api.sock, and on cfg->listen. Copies *cfg; what it points to must stay. HT_EINVAL, HT_EINUSE,
 * HT_EADDR, HT_EIO or HT_ENOMEM with *err. */
int edge_api_start(struct edge_api **out, const struct edge_api_config *cfg, struct ht_errmsg *err) HT_MUST_USE;
/* struct edge_ops: streams at the port end. */
void edge_api_users_changed(struct edge_api *a);
/* Cuts all connections. Clears the pointer. NULL is ignored. */
void edge_api_stop(struct edge_api **a);

/* ---- for handlers ---- */

struct api_client;

/* A handler that cannot answer at once, or whose answer has no end, hands this to edge_api_client_goes_on(). */
struct api_goes_on {
    /* The answer's head is written for a stream: the callee appends to edge_api_client_out() and flushes. NULL: it is
     * no stream; the answer comes by edge_api_client_answer(). */
    void (*began)(struct api_client *c, void *ctx);
    void (*tick)(struct api_client *c, void *ctx);    /* a stream was quiet for 15 s. NULL for others */
    void (*drained)(struct api_client *c, void *ctx); /* what a stream has written is gone. May be NULL */
    /* The client is gone, before its answer or within its stream; `c` is no longer good. */
    void (*gone)(struct api_client *c, void *ctx);
};
/* Inside a handler, which has changed no document, and then returns HT_OK. For a stream it has filled in the head's
 * status and type by its edge_api_reply_...() before. `ops` must stay where it is. */
void edge_api_client_goes_on(struct api_client *c, const struct api_goes_on *ops, void *ctx);
/* Answers a request that went on without a stream, and frees *res. gone() is not called any more. */
void edge_api_client_answer(struct api_client *c, struct edge_api_response *res);
/* Where a stream appends; then edge_api_client_flush(), which is false when the client is gone. */
struct ht_buf *edge_api_client_out(struct api_client *c);
bool edge_api_client_flush(struct api_client *c);
/* Bytes of a stream that its client has not taken yet. */
size_t edge_api_client_behind(const struct api_client *c);
/* Ends a stream: now, or with `orderly` when all was written. */
void edge_api_client_end(struct api_client *c, bool orderly);

const struct edge_api_config *edge_api_of(const struct api_client *c);
/* A field of the request's head, in a handler of a request without a body; empty: there is none. */
struct ht_slice edge_api_field(const struct api_client *c, const char *name);
/* Who asks, for edge_state_change(). `what` is the operation. Valid during the handler. */
struct edge_actor edge_api_actor(const struct api_client *c, const char *what);
/* Changes a document as the request's If-Match says. True: it is done, and the handler answers with *version; the
 * answer goes out when the disk has the change, and if the disk refuses it, another one does. Else it is answered, and
 * the handler returns *rc. */
bool edge_api_change(struct api_client *c, const struct edge_api_request *req, struct edge_api_response *res,
                     enum edge_kind kind, const char *id, const struct edge_change *changes, size_t n, const char *what,
                     uint64_t *version, int *rc);

/* ---- api_body.c ---- */

enum api_type { API_TEXT, API_NUMBER, API_BOOL, API_JSON };

/* A member of the body, an object. Filled in by edge_api_body(). */
struct api_member {
    const char *name;
    enum api_type type;
    bool required;
    bool set;
    struct ht_slice value; /* API_TEXT: the text, without escapes; API_JSON: any value as it stands */
    uint64_t number;       /* API_NUMBER: 0 to 2^64-1 */
    bool on;               /* API_BOOL */
};
/* Reads the request's body. False: it is not as wanted; *rc is what the handler returns. Values point into the body or
 * into `space`, which has `cap` bytes for all texts. */
bool edge_api_body(const struct edge_api_request *req, struct edge_api_response *res, struct api_member *members,
                   size_t n, char *space, size_t cap, int *rc);

/* ---- handlers ---- */

#define API_HANDLER(name) int name(void *ctx, const struct edge_api_request *req, struct edge_api_response *res)

API_HANDLER(edge_api_container_list);
API_HANDLER(edge_api_container_get);
API_HANDLER(edge_api_container_delete);
API_HANDLER(edge_api_container_address);
API_HANDLER(edge_api_service_list);
API_HANDLER(edge_api_services_put);
API_HANDLER(edge_api_services_delete);
API_HANDLER(edge_api_service_get);
API_HANDLER(edge_api_service_put);
API_HANDLER(edge_api_service_delete);
API_HANDLER(edge_api_service_state);
API_HANDLER(edge_api_container_state_get);
API_HANDLER(edge_api_container_state);
API_HANDLER(edge_api_project_state_get);
API_HANDLER(edge_api_project_state);
API_HANDLER(edge_api_domain_list);
API_HANDLER(edge_api_domain_get);
API_HANDLER(edge_api_domain_put);
API_HANDLER(edge_api_domain_delete);
API_HANDLER(edge_api_domain_renew);
API_HANDLER(edge_api_domain_certificate);
API_HANDLER(edge_api_domain_certificate_delete);
API_HANDLER(edge_api_log_list);
API_HANDLER(edge_api_log_stats);
API_HANDLER(edge_api_log_stream);
API_HANDLER(edge_api_alias_list);
API_HANDLER(edge_api_alias_create);
API_HANDLER(edge_api_alias_get);
API_HANDLER(edge_api_alias_change);
API_HANDLER(edge_api_alias_delete);
API_HANDLER(edge_api_alias_state);
API_HANDLER(edge_api_container_permissions_get);
API_HANDLER(edge_api_container_permissions);
API_HANDLER(edge_api_container_permissions_delete);
API_HANDLER(edge_api_container_permissions_default);
API_HANDLER(edge_api_container_group_put);
API_HANDLER(edge_api_container_group_delete);
API_HANDLER(edge_api_container_rule_put);
API_HANDLER(edge_api_container_rule_delete);
API_HANDLER(edge_api_project_permissions_get);
API_HANDLER(edge_api_project_permissions);
API_HANDLER(edge_api_project_permissions_delete);
API_HANDLER(edge_api_project_permissions_default);
API_HANDLER(edge_api_project_group_put);
API_HANDLER(edge_api_project_group_delete);
API_HANDLER(edge_api_project_rule_put);
API_HANDLER(edge_api_project_rule_delete);
API_HANDLER(edge_api_hooks_get);
API_HANDLER(edge_api_hooks_put);
API_HANDLER(edge_api_hooks_delete);
API_HANDLER(edge_api_hook_list);
API_HANDLER(edge_api_hook_list_put);
API_HANDLER(edge_api_hook_add);
API_HANDLER(edge_api_hook_list_delete);
API_HANDLER(edge_api_hook_get);
API_HANDLER(edge_api_hook_put);
API_HANDLER(edge_api_hook_delete);
API_HANDLER(edge_api_hook_move);
API_HANDLER(edge_api_container_settings_get);
API_HANDLER(edge_api_container_settings);
API_HANDLER(edge_api_project_settings_get);
API_HANDLER(edge_api_project_settings);
API_HANDLER(edge_api_container_cache_purge);
API_HANDLER(edge_api_service_cache_purge);

#endif
