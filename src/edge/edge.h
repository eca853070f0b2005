/*
 * The edge: HAProxy in front of kits. One name for each service, HTTPS for all of them. HAProxy carries the traffic;
 * this room owns what it is told: the configuration, which is written once, and maps, which change while it runs.
 *
 *   edge.c     from the start to the end
 *   folder.c   the edge's folder: its lock, files that are replaced in one step
 *   socket.c   Unix sockets in it
 *   site.c     the certificate: an authority of one's own, or files
 *   engine.c   HAProxy as a program: it starts, loads anew, ends, starts again
 *   admin.c    HAProxy's runtime socket
 *   maps.c     the maps, as they are wanted and as HAProxy has them; mapfile.c as it reads them
 *   kits.c     follows what kits have bound
 *   book.c     the address book of containers
 *   state*.c   what the API changes: documents (state.h); document.c, journal.c and audit.c are theirs
 *   containers.c  containers of both, as entries of the maps
 *   aliases.c  aliases, and domains that lead to one (aliases.h, alias.c)
 *   sessions.c live connections that a change ends
 *   api*.c     the API (api.h)
 *   permissions.c  who may visit: documents (permissions_edit.c) become policies (policies.c, policy*.c, credentials.c,
 *              jwt.c), and an agent answers HAProxy by them (gate.c, spop.c)
 *   hooks*.c   what becomes of requests: documents (hooks.h), a table of them, and their part of the gate's answer
 *   proxy_settings.c  what documents say of answers that are kept (cache.c) and of pages in place of HAProxy's own
 *              (pages.c)
 *   words.c    ids, names and addresses of them; by_id.c what is found by an id
 *   log.c      the log of requests: edge/log.h
 *   look.c     what can be known before an edge runs (look.h)
 *   h3.c       HTTP/3: Caddy where HAProxy has no QUIC, and whether it answers
 *   quic.c     whether a server of QUIC answers
 *   domains.c  own domains: whose they are (domain_name.c), and when a certificate is asked for (acme_plan.c)
 *   certs.c    certificates as files, and HAProxy's list of them
 *   acme.c     lego, which asks an ACME server, and the answers to its challenges
 *   client.c   who the visitor is: whom to believe, and how containers see it
 *
 * A change goes first to what is kept, then to the map's file, then to the socket. What is asked of HAProxy while it
 * starts or loads anew waits; then its maps are compared with what is wanted. So no change is lost when HAProxy, this
 * program or both are killed at any moment.
 */
#ifndef HT_EDGE_EDGE_H
#define HT_EDGE_EDGE_H

#include "base/base.h"
#include "base/cidr.h"
#include "base/err.h"
#include "io/io.h"

struct edge;

/* Who asks something of the API. Who is no admin may only read. */
struct edge_user {
    char name[64];
    bool admin;
};

struct edge_ops {
    /* HAProxy serves, for the first time. */
    void (*ready)(void *ctx, const char *version);
    /* A service has a URL from now on, or no longer. */
    void (*service)(void *ctx, const char *url, bool bound);
    /* Whose token was shown at the port of the API. False: nobody's. NULL: the token of the configuration is the only
     * one. */
    bool (*user)(void *ctx, struct ht_slice token, struct edge_user *out);
    /* It cannot go on: HAProxy cannot be used. `text` tells a person why. The callee ends the loop. */
    void (*failed)(void *ctx, const char *text);
};

/* How a container's service sees who the visitor is. */
enum edge_client {
    EDGE_CLIENT_HEADER, /* in X-Forwarded-For and Forwarded, as it does in any case */
    EDGE_CLIENT_PROXY,  /* by a PROXY header, version 2, before the bytes of each connection */
    EDGE_CLIENT_TPROXY, /* the connection comes from the visitor's own address */
};

struct edge_nets {
    const struct ht_cidr *list;
    size_t n;
};

/* Certificates by an ACME server. */
struct edge_acme_config {
    const char *email;              /* of the account; NULL: no server is asked for anything */
    const char *server, *ca, *lego; /* ca NULL: one that everybody trusts. lego NULL: it is looked for */
    struct edge_nets addresses;     /* that lead here; none: those of the machine's interfaces */
    unsigned daily_cap;
    uint64_t retry_ms;
    const char *dns, *dns_env; /* NULL: the server's own certificate does not come from there */
    bool dns_check;
};

/* Texts and lists are borrowed, and must outlive the edge. */
struct edge_config {
    struct io_loop *loop;
    const char *folder;                     /* made if it is not there; only this user may enter it */
    const char *domain;                     /* in lower case: services are one label below it */
    const char *node;                       /* containers are below NODE.containers.DOMAIN; a-z and 0-9 */
    const char *book;                       /* the file with their addresses; NULL: there is none */
    const char *api, *api_token;            /* a port of this machine for the API, and what to show there; NULL: none */
    const char *haproxy;                    /* the program; NULL: it is looked for */
    bool take_over;                         /* the folder is a copy of another edge's that was not left in order */
    bool external;                          /* HAProxy is started by somebody else: hoody-tunnel-edge-haproxy.service */
    bool local;                             /* listens on loopback addresses alone */
    uint16_t https_port, http_port;         /* http_port 0: none */
    uint64_t log_max_bytes, log_max_age_ms; /* of the log that is kept: edge/log.h */
    bool log_masks_addresses;
    uint64_t alias_rest_ms;           /* how long a name that a project has given up is kept from others */
    uint64_t audit_max_bytes;         /* of a file of the audit, of which a few are kept; 0: one file, which grows */
    const char *cert_file, *key_file; /* NULL: a certificate of an authority of its own */
    uint64_t cache_bytes;             /* for answers that are kept; below 1 MiB: none are */
    uint64_t cache_max_object;        /* bytes of one; at least 1 KiB */
    uint64_t cache_max_age_ms;        /* that one is kept; at least 1 s */
    const char *pages;                /* a folder of pages in place of HAProxy's own; NULL: there is none */
    uint16_t http3_port;              /* UDP; 0: there is no HTTP/3 */
    struct edge_acme_config acme;
    enum edge_client client;
    struct edge_nets container_nets; /* with EDGE_CLIENT_TPROXY: where this server is the way back of containers */
    struct edge_nets proxy_fronts;   /* whose connections begin with a PROXY header */
    struct edge_nets header_fronts;  /* whose X-Forwarded-For says who the visitor is */
    const struct edge_ops *ops;
    void *ctx;
};

/* A kit whose expose bindings get names: the ones that it gives them below the domain, and ID-PORT. ID is the kit's
 * own, where drivers connect to and its API is. */
struct edge_kit_config {
    const char *id;        /* borrowed, as the others */
    const char *token;     /* for its API; NULL or "": none is shown, and ID leads nowhere */
    struct io_addr base;   /* its listener for drivers and the API */
    struct io_addr visits; /* where it serves visitors by host; it expects a PROXY header from EDGE_FROM_KITS there */
};

/* The loopback address that visitors' connections to a kit come from. The edge's own requests come from another one. */
#define EDGE_FROM_KITS "127.0.0.2"

/* The name of the folder's file with the authority that visitors must trust, when there is no certificate from a file.
 */
#define EDGE_AUTHORITY_FILE "ca/ca.pem"

/* Prepares everything and starts HAProxy. HT_EINVAL: an option is wrong. HT_EIO, HT_ETLS, HT_EINUSE, HT_EACCESS and
 * others: the set-up is. *err says which; *out is then NULL. */
int edge_start(struct edge **out, const struct edge_config *cfg, struct ht_errmsg *err) HT_MUST_USE;
/* What ops->user() says may be something else from now on: streams of the API's port end, and their clients come again.
 */
void edge_users_changed(struct edge *e);
/* Follows a kit from now on. 0, or HT_EINVAL or HT_ENOMEM with *err. */
int edge_follow(struct edge *e, const struct edge_kit_config *kit, struct ht_errmsg *err) HT_MUST_USE;
/* Reads certificate files and the address book again, writes the configuration anew, and has HAProxy load it. */
void edge_reload(struct edge *e);
/* Ends HAProxy, if it was started here, and waits for it. Not inside a callback of the edge. Clears the pointer. NULL
 * is ignored. */
void edge_stop(struct edge **e);

/* Makes the folder and what is in it, or checks that nobody else may enter it. 0, or an error with *err. */
int edge_folder_make(const char *folder, struct ht_errmsg *err) HT_MUST_USE;
/* Replaces folder/name by `text` in one step: after a crash it is the old or the new one. With `lasting` it is on the
 * disk when this returns. 0, or HT_EIO with *err. */
int edge_folder_write(const char *folder, const char *name, struct ht_slice text, bool lasting,
                      struct ht_errmsg *err) HT_MUST_USE;

#endif
