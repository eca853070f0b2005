/* What the files of the edge share. */
#ifndef HT_EDGE_EDGE_PRIV_H
#define HT_EDGE_EDGE_PRIV_H

#include "base/buf.h"
#include "base/list.h"
#include "edge/edge.h"
#include "haproxy_gen.h"
#include "io/program.h"
#include "io/site.h"
#include "web/web.h"

/* The message about an id that is none. */
#define EDGE_NO_ID "\"%s\" is no id: 1 to 40 of a-z and 0-9, as it is the first part of ID-PORT"

#define EDGE_HOST 254 /* bytes of a host with its NUL */

/* ---- folder.c ---- */

/* Most bytes of the folder's path: the name of a Unix socket in it must fit. */
#define EDGE_FOLDER_MAX 80
#define EDGE_PATH (EDGE_FOLDER_MAX + 128)
/* Writes folder/name; returns `out`. */
char *edge_path(const char *folder, const char *name, char out[EDGE_PATH]);
/* Reads folder/name, at most cap - 1 bytes, and a NUL. The number of bytes; HT_EOF: there is no such file; or an error
 * with *err. */
int edge_folder_read(const char *folder, const char *name, char *out, size_t cap, struct ht_errmsg *err) HT_MUST_USE;
/* The names in the folder folder/name, or in `folder` for "", are on the disk when this returns. 0, or HT_EIO with
 * *err.
 */
int edge_folder_sync(const char *folder, const char *name, struct ht_errmsg *err) HT_MUST_USE;
/* Removes folder/name for good: it is gone from the disk when this returns. Harmless when it is not there. 0, or HT_EIO
 * with *err. */
int edge_folder_remove(const char *folder, const char *name, struct ht_errmsg *err) HT_MUST_USE;
/* Takes the lock, which ends with the descriptor. The descriptor; HT_EINUSE or HT_EIO with *err. */
int edge_folder_lock(const char *folder, struct ht_errmsg *err) HT_MUST_USE;

/* ---- socket.c ---- */

enum edge_socket_for {
    EDGE_SOCKET_FOR_OWN,    /* this user alone */
    EDGE_SOCKET_FOR_ENGINE, /* HAProxy as well, whoever it has become */
};
/* Listens on the Unix socket folder/name; one that an agent has left behind is replaced. The caller owns *out. 0, or
 * HT_EIO or HT_ENOMEM with *err, and *out is NULL. */
int edge_socket_listen(struct io_loop *loop, const char *folder, const char *name, enum edge_socket_for who,
                       const struct io_listener_ops *ops, void *ctx, struct io_listener **out,
                       struct ht_errmsg *err) HT_MUST_USE;

/* ---- words.c ---- */

#define EDGE_ID 24                           /* bytes of an id of a project or container */
#define EDGE_SERVICE 41                      /* bytes of a service's name with its NUL */
#define EDGE_SCOPE (2 * EDGE_ID + 2)         /* bytes of PROJECT-CONTAINER with its NUL */
#define EDGE_KEY (EDGE_SCOPE + EDGE_SERVICE) /* bytes of PROJECT-CONTAINER.SERVICE with its NUL */
bool edge_is_id(struct ht_slice s);          /* 24 of 0-9 and a-f */
bool edge_is_service(struct ht_slice s);     /* a name that a service can have */
bool edge_has_port(struct ht_slice service); /* and its port is in a table: it is neither http nor https */
/* Reads an IP address that a container can have, and writes it as io_addr_host() does. 0, or HT_EINVAL with *err. */
int edge_read_address(struct ht_slice s, char out[IO_ADDR_TEXT], struct ht_errmsg *err) HT_MUST_USE;

/* ---- site.c ---- */

/* Writes certs/edge.pem, and adds it to the hash. 0, or an error with *err. */
int edge_site_write(const struct edge_config *cfg, uint64_t *hash, struct ht_errmsg *err) HT_MUST_USE;
/* A hash, and a text behind what it is of. */
uint64_t edge_site_hash(uint64_t hash, struct ht_slice text);

/* ---- render.c ---- */

struct edge_settings {
    const char *values[HAPROXY_SETTINGS]; /* NULL: empty */
};
/* Appends one of HAProxy's files. HT_ENOMEM. */
int edge_render(struct ht_buf *out, const struct haproxy_file *file, const struct edge_settings *s) HT_MUST_USE;

/* ---- admin.c: commands to HAProxy, in order, several in one connection ---- */

struct edge_admin;

struct edge_answer {
    struct ht_slice text; /* to the commands, with line ends; usually nothing but those */
    uint64_t pid;         /* of the process that has answered; the master does not say it, nor the version */
    char version[32];     /* of HAProxy */
    char revision[24];    /* of the configuration that it has: the setting */
};
/* rc < 0: it was not reached, or its answer is not whole; whether the commands were carried out is not known, and `a`
 * is NULL. */
typedef void edge_admin_done(void *ctx, int rc, const struct edge_answer *a);

/* Whose socket: of the process that serves now, or of its master, which knows those that have served before. A command
 * to one of these begins with @!PID and a blank, each by itself. */
enum edge_admin_of { EDGE_ADMIN_OF_WORKER, EDGE_ADMIN_OF_MASTER };
#define EDGE_MASTER_SOCKET "run/master.sock"
#define EDGE_ADMIN_SOCKET "run/admin.sock"
struct edge_admin *edge_admin_create(struct io_loop *loop, const char *folder, enum edge_admin_of of) HT_MUST_USE;
/* Whoever waits for an answer is told HT_ECLOSED, and must still be there. Clears the pointer. NULL is ignored. */
void edge_admin_destroy(struct edge_admin **a);
/* Sends a line of commands, with ; between them, of at most EDGE_ADMIN_LINE bytes. done() is never called before this
 * returns. 0 or HT_ENOMEM. */
#define EDGE_ADMIN_LINE 12000
int edge_admin_send(struct edge_admin *a, struct ht_slice commands, edge_admin_done *done, void *ctx) HT_MUST_USE;

/* The same, with a payload for the last of the commands: whole lines, none of them empty. Wiped once it is sent. Not of
 * the master. */
int edge_admin_send_with(struct edge_admin *a, struct ht_slice commands, struct ht_slice payload, edge_admin_done *done,
                         void *ctx) HT_MUST_USE;

/* ---- mapfile.c: a map as HAProxy reads it when it starts ---- */

struct edge_mapfile {
    int fd; /* -1: there is none */
    uint64_t size;
    size_t lines, dead; /* that count, and that do no longer */
};
#define EDGE_NO_LINE UINT64_MAX /* an entry that is not in the file */

/* Replaces the file by `text`, lines of KEY VALUE. 0, or HT_EIO with *err. The caller ends it with
 * edge_mapfile_close().
 */
int edge_mapfile_begin(struct edge_mapfile *f, const char *folder, const char *name, struct ht_slice text, size_t lines,
                       struct ht_errmsg *err) HT_MUST_USE;
void edge_mapfile_close(struct edge_mapfile *f);
/* Whether it must be begun anew: too much of it no longer counts, or it is not there. */
bool edge_mapfile_full(const struct edge_mapfile *f);
/* The entry has this value now. *at is where its line is, and changes. False: it must be begun anew. */
bool edge_mapfile_put(struct edge_mapfile *f, const char *key, const char *value, uint64_t *at) HT_MUST_USE;
/* The entry is gone. False: as above. */
bool edge_mapfile_drop(struct edge_mapfile *f, uint64_t *at) HT_MUST_USE;

/* ---- maps.c ---- */

struct edge_maps;

/* No entry is in them. NULL: no memory. */
struct edge_maps *edge_maps_create(struct io_loop *loop, const char *folder, struct edge_admin *admin) HT_MUST_USE;
void edge_maps_destroy(struct edge_maps **m);
/* before() is called ahead of each writing of files: what the maps were made of is kept then, or is as it was before.
 */
void edge_maps_behind(struct edge_maps *m, void (*before)(void *ctx), void *ctx);
/* `key` and `value` have no blanks and no control bytes, and together at most EDGE_MAP_ENTRY bytes. The file and
 * HAProxy follow at the end of the turn. 0 or HT_ENOMEM. */
#define EDGE_MAP_ENTRY 11000
int edge_maps_set(struct edge_maps *m, enum haproxy_map map, const char *key, const char *value) HT_MUST_USE;
/* Harmless without such an entry. */
void edge_maps_remove(struct edge_maps *m, enum haproxy_map map, const char *key);
/* The value, or NULL. Valid until the entry changes. */
const char *edge_maps_get(const struct edge_maps *m, enum haproxy_map map, const char *key);
size_t edge_maps_count(const struct edge_maps *m, enum haproxy_map map);
/* Writes the files of the maps that have changed. 0, or HT_EIO or HT_ENOMEM with *err. */
int edge_maps_write(struct edge_maps *m, struct ht_errmsg *err) HT_MUST_USE;
/* HAProxy starts or loads anew: files are written, and nothing is said to it. */
void edge_maps_hold(struct edge_maps *m);
/* HAProxy serves: its maps are compared with what is wanted, and made so. Also for one that loaded anew unasked. */
void edge_maps_compare(struct edge_maps *m);
/* The process whose maps are as wanted; 0: none. */
uint64_t edge_maps_pid(const struct edge_maps *m);
/* Calls each() for all entries of a map until it returns another number than 0, which is returned. */
int edge_maps_each(const struct edge_maps *m, enum haproxy_map map,
                   int (*each)(void *ctx, const char *key, const char *value), void *ctx);

struct edge_maps_ops {
    /* An entry is wanted, or no longer (`now` NULL), or another value of it is; was NULL: there was none. May be NULL.
     */
    void (*changed)(void *ctx, enum haproxy_map map, const char *key, const char *was, const char *now);
    /* HAProxy has all that was wanted: after changes, and after it was compared. */
    void (*settled)(void *ctx);
};
/* One who is told. `ops` stays where it is. NULL: nobody any more. */
void edge_maps_watch(struct edge_maps *m, const struct edge_maps_ops *ops, void *ctx);

/* ---- sessions.c: live connections that a change ends ---- */

struct edge_sessions;

/*
 * Ends the connections of visitors to what was switched off or has gone from where it was, once HAProxy lets in no new
 * ones, and also those that processes from before a reload still serve. Watches the maps. NULL: no memory.
 */
struct edge_sessions *edge_sessions_create(struct io_loop *loop, const char *folder, struct edge_admin *admin,
                                           struct edge_maps *maps) HT_MUST_USE;
/* Before `admin` ends: no answer is taken any more, and nothing is ended. NULL is ignored. */
void edge_sessions_leave(struct edge_sessions *s);
/* Once `admin` has ended, and the maps have not. Clears the pointer. NULL is ignored. */
void edge_sessions_destroy(struct edge_sessions **s);

/* ---- book.c: the address book ---- */

struct edge_book;

/*
 * Reads the file (NULL: there is none, and services have their usual ports), and makes the maps so. What an older *book
 * had, and the new one has not, is removed from them. Replaces *book. An error with *err, which names the line:
 * nothing has changed.
 */
int edge_book_load(struct edge_book **book, const char *file, struct edge_maps *maps,
                   struct ht_errmsg *err) HT_MUST_USE;
/* What the file says of a key; NULL: nothing. `b` may be NULL. Valid until the next load. */
const char *edge_book_get(const struct edge_book *b, enum haproxy_map map, const char *key);
/* Calls each() for all entries of a map, sorted, until it returns another number than 0, which is returned. */
int edge_book_each(const struct edge_book *b, enum haproxy_map map,
                   int (*each)(void *ctx, const char *key, const char *value), void *ctx);
/* Clears the pointer. NULL is ignored. */
void edge_book_free(struct edge_book **book);

/* ---- client.c: who the visitor is ---- */

/* Whether this process, and HAProxy after it, may do what cfg->client takes. 0, or HT_EINVAL or HT_EACCESS with *err.
 */
int edge_client_check(const struct edge_config *cfg, struct ht_errmsg *err) HT_MUST_USE;
/* Makes the maps of networks as cfg says. 0, or HT_ENOMEM with *err. */
int edge_client_maps(const struct edge_config *cfg, struct edge_maps *maps, struct ht_errmsg *err) HT_MUST_USE;
/* The setting's value. */
const char *edge_client_name(enum edge_client client);

/* ---- h3.c: HTTP/3 ---- */

struct edge_h3;

struct edge_h3_config {
    struct io_loop *loop;
    const char *folder; /* borrowed, as `maps` */
    struct edge_maps *maps;
    uint16_t port; /* UDP */
    bool native;   /* HAProxy has QUIC */
};

/* HAProxy serves already. NULL: *err says why there is no HTTP/3. */
struct edge_h3 *edge_h3_start(const struct edge_h3_config *cfg, struct ht_errmsg *err);
/* The certificates are others. NULL is ignored. */
void edge_h3_reload(struct edge_h3 *h);
/* Clears the pointer. NULL is ignored. */
void edge_h3_stop(struct edge_h3 **h);

/* ---- engine.c ---- */

struct edge_engine;

#define EDGE_BOOT_FILE "haproxy/boot_id"

struct edge_engine_ops {
    void (*starts)(void *ctx);                      /* HAProxy starts or loads anew */
    void (*serves)(void *ctx, const char *version); /* it has */
    void (*failed)(void *ctx, const char *text);    /* it did not start at all */
};

struct edge_engine_config {
    struct io_loop *loop;
    const char *program; /* NULL: it is looked for */
    const char *folder;
    struct edge_admin *admin;
    bool external;        /* it is started, and started again, by somebody else */
    const char *revision; /* of the configuration in the folder, as it is at each time */
    const struct edge_engine_ops *ops;
    void *ctx;
};

/*
 * Finds the program and starts it with folder/haproxy/haproxy.cfg. NULL: *err says why.
 *
 * With `external` it is waited for at its sockets in the folder, however long that takes, and never ended; failed() is
 * then called for a program that cannot be used. One that serves already with another revision loads anew.
 */
struct edge_engine *edge_engine_start(const struct edge_engine_config *cfg, struct ht_errmsg *err) HT_MUST_USE;
/* Has it load its configuration anew, if that is valid. */
void edge_engine_reload(struct edge_engine *g);
/* Once it serves: whether it speaks QUIC itself. */
bool edge_engine_has_quic(const struct edge_engine *g);
void edge_engine_stop(struct edge_engine **g);

/* ---- kits.c ---- */

struct edge_kits;

struct edge_kits_config {
    struct io_loop *loop;
    const char *domain;
    uint16_t https_port;
    struct edge_maps *maps;
    void (*service)(void *ctx, const char *url, bool bound);
    void *ctx;
};

struct edge_kits *edge_kits_create(const struct edge_kits_config *cfg) HT_MUST_USE;
int edge_kits_add(struct edge_kits *k, const struct edge_kit_config *kit, struct ht_errmsg *err) HT_MUST_USE;
void edge_kits_destroy(struct edge_kits **k);

#endif
